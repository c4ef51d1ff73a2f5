"""The pages of `lab`: what each experiment found in a sentence, its figures, and how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover.errors import UsageError, nearest
from spillover.metrics.intervals import over_seeds
from spillover.record import TRAJECTORY, Metric, Record, read_table
from spillover.report.downloads import csv_text, of_metrics, table_link
from spillover.report.drawing import plain
from spillover.report.lab_plots import Chart, Curve, Maps, Pairs
from spillover.report.load import LoadedRun
from spillover.report.page import Card, Cards, Figure, FigureGrid, Glossary, Page, Paragraph, Section, figure
from spillover.report.provenance import Terms, provenance
from spillover.report.words import number

MATRICES = "matrices.parquet"
KINDS, NORMS = ("factorised", "merged"), {"nuclear": "nuclear", "frobenius": "Frobenius"}
#: The measured numbers that most pages show, and the titles of their charts.
LOSSES = ("train_loss", "implication_loss_test", "implication_accuracy_test")
STATED, UNSTATED = "Loss on what was stated", "Loss on what nobody stated"
ANSWERED = "Share of unstated implications answered as the class would"
MARGIN, PER_MARGIN = "Smallest margin of what nobody stated", "per stated margin"
BAND = "Mean over seeds; the band is its 95% interval."
EXACT = "exact, least nuclear norm"


@dataclass(frozen=True)
class LabRun:
    """One experiment: its record, one row a model and measured step, and its matrices by name."""

    record: Record
    trajectory: pa.Table
    matrices: dict[str, np.ndarray]

    @property
    def details(self) -> Mapping[str, Any]:
        return self.record.details

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The trajectory's columns; a missing number is NaN, a missing text None."""
        return {name: self.trajectory[name].to_numpy(zero_copy_only=False) for name in self.trajectory.column_names}

    @property
    def seeds(self) -> list[int]:
        return sorted(set(self.columns["seed"].tolist()))

    @property
    def log_n(self) -> dict[str, float]:
        """The loss of a uniform guess among the implied answers, as a reference line."""
        return {"log n: a uniform guess among the implied answers": float(self.details["log_n"])}

    def metric(self, group: str, name: str) -> Metric:
        """A metric of the record by its group (factorised, d_h=4, ...) and name."""
        return Metric(**self.record.metrics[group][name])

    def mask(self, **where: Any) -> np.ndarray:
        """Rows of the trajectory whose columns equal the values given."""
        return np.all([self.columns[name] == value for name, value in where.items()], axis=0)

    def curve(self, x: str, y: str, **where: Any) -> Curve:
        """Mean and interval of column y over the seeds at every value of column x; gaps where a seed has no number."""
        mask = self.mask(**where)
        places, values = (self.columns[name][mask].astype(float) for name in (x, y))
        found = {place: over_seeds(values[places == place].tolist(), "") for place in np.unique(places).tolist()}
        return {place: metric for place, metric in found.items() if metric.value is not None}

    def kinds(self, y: str, **where: Any) -> dict[str, Curve]:
        """Column y of both models against the training step."""
        return {kind: self.curve("step", y, model=kind, **where) for kind in KINDS}


def exact_curve(rows: Sequence[Mapping[str, Any]], x: str, y: str, **where: Any) -> Curve:
    """Rows of the record as a curve without any uncertainty."""
    mine = [row for row in rows if where.items() <= row.items()]
    return {float(row[x]): Metric(row[y], row[y], row[y], 0, 0, "") for row in mine}


def load_lab(folder: Path) -> LabRun:
    """Read an experiment's folder. Raises RunError when a file is missing or damaged."""
    table = read_table(folder / MATRICES)
    names = table["name"].to_numpy(zero_copy_only=False)
    row, column, value = (table[key].to_numpy() for key in ("row", "column", "value"))
    matrices = {}
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        matrices[name] = np.zeros((row[mine].max() + 1, column[mine].max() + 1))
        matrices[name][row[mine], column[mine]] = value[mine]
    return LabRun(Record.read(folder), read_table(folder / TRAJECTORY), matrices)


#: Terms that every page explains.
TERMS = {
    "The task": "Every class has two answers, b and c. Of some subjects both are stated (“bridges”), of the others "
    "only b. Asked for the c of the others, which nobody stated, does a model answer as their class would?",
    "Factorised and merged": "One layer of attention reads with a matrix W. The factorised model trains W as a product "
    "of two, as real models do; the merged one trains W itself. Both can express the same.",
    "Two exact solutions": "Of all matrices that state every row with the same margin, one is least in the nuclear "
    "norm (the sum of the singular values), one in the Frobenius norm (the root of the summed squares). The first "
    "concludes c, the second does not.",
}


@dataclass(frozen=True)
class Findings:
    """What the page of an experiment says.

    title: the finding as one sentence. facts: (what, number, how to read it) at a glance. parts: heading, a paragraph
    for a newcomer, figures. terms: those of this page alone. notes: what the numbers do not show, or what was found and
    not expected.
    """

    title: str
    facts: Sequence[tuple[str, str, str]]
    parts: Sequence[tuple[str, str, Sequence[Figure | None]]]
    terms: Mapping[str, str]
    notes: Sequence[str]


def build_lab_page(run: LabRun) -> Page:
    """The page of an experiment; the same run gives the same bytes. Raises UsageError for one that has no page."""
    preset = run.record.command.removeprefix("lab ")
    if preset not in PAGES:
        raise UsageError(f"there is no preset called {preset!r}", do=nearest(preset, PAGES))
    found = PAGES[preset](run)
    cards = [Card(what, [Paragraph(reading, "small")], value=value) for what, value, reading in found.facts]
    steps = csv_text(run.trajectory.column_names, (list(row.values()) for row in run.trajectory.to_pylist()))
    return Page(
        found.title,
        f"Spillover lab: {preset}",
        f"lab: {preset}",
        [
            Section("found", "What was found", [Cards(cards, facts=True)], hidden=True),
            Section("terms", "What this is about", [Glossary([*TERMS.items(), *found.terms.items()])], hidden=True,
                    aside=True),
            *(Section(f"part-{place}", heading, [FigureGrid(figures)], lead)
              for place, (heading, lead, figures) in enumerate(found.parts, start=1)),
            Section("notes", "What to keep in mind", found.notes),
        ],
        downloads=[
            of_metrics([(preset, LoadedRun.of_record(run.record))]),
            table_link("trajectory", "Every measured step", steps),
        ],
        made=[("Task, recipes, settings, versions", _made(run))],
        footer="The shaded bands and bars are 95% bootstrap intervals of the mean over seeds.",
    )  # fmt: skip


def _made(run: LabRun) -> list[tuple[str, Terms]]:
    """How it was made: as for any run, with the task and the recipes in the place of a model and a pack."""
    # As a record of the verb, whose command can be given again.
    record = dataclasses.replace(run.record, command="lab", details={"seeds": run.seeds})
    about, *others = (group for group in provenance(LoadedRun.of_record(record)) if group[0] not in ("Model", "Facts"))
    arms = {f"Arm: {name}": recipe for name, recipe in run.details["arms"].items()}
    own = {"Task": run.details["task"], **arms}.items()
    return [
        about,
        *((name, [(k.replace("_", " "), plain(v)) for k, v in terms.items()]) for name, terms in own),
        *others,
    ]


def curves(
    name: str, title: str, unit: str, lines: Mapping[str, Curve], references: Mapping[str, float], caption: str = "",
    **axes: Any,
) -> Figure | None:  # fmt: skip
    """A chart, against the training step on a logarithmic scale unless `axes` says otherwise."""
    return figure("lab-curves", Chart(title, unit, lines, references, **axes), name, caption)


def two_models(run: LabRun) -> Findings:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    details, exact, facts, arms = run.details, run.details["exact"], [], []
    guess = f"A uniform guess among the implied answers has {number(details['log_n'], 3)}. Paper's recipe."
    for kind in KINDS:
        loss, apart = run.metric(kind, LOSSES[1]).value, details[kind]["cosine_difference"]["value"]
        closer = f"The trained matrix is closer to the {'nuclear' if apart > 0 else 'Frobenius'} solution. Exact arm."
        facts.append((f"{kind}: loss on unstated implications", number(loss, 3), guess))
        facts.append((f"{kind}: cosine to nuclear minus to Frobenius", number(apart, 3), closer))
        cosines = (number(details[kind]["paper_arm"][f"cosine_to_{norm}"]["value"]) for norm in NORMS)
        arms.append("{} {} to nuclear, {} to Frobenius".format(kind, *cosines))
    factorised, merged = (f"{run.metric(kind, LOSSES[2]).value:.0%}" for kind in KINDS)
    stated, unstated, share = (run.kinds(y, arm="paper") for y in LOSSES)
    recipe = f"{BAND} Paper's recipe."
    titles = {
        "factorised": "trained, factorised",
        "nuclear": EXACT,
        "merged": "trained, merged",
        "frobenius": "exact, least Frobenius norm",
    }
    matrices = {title: run.matrices[name] for name, title in titles.items() if name in run.matrices}
    maps = Maps("Output-value matrices", matrices, *(details["task"][name] for name in ("classes", "train", "test")))
    caption = "First seed of the exact arm, each column centred, scaled to a smallest stated margin of 1. One scale."
    between = {"the two exact solutions with each other": exact["cosine"]}
    directions = []
    for kind in KINDS:
        lines = {
            f"to the {word} solution": run.curve("step", f"cosine_to_{norm}", arm="exact", model=kind)
            for norm, word in NORMS.items()
        }
        title, difference = f"Cosine of the {kind} model's matrix", "A claim is the difference of the two lines."
        directions.append(curves(f"cosine-{kind}", title, "cosine", lines, between, difference))
    for norm, word in NORMS.items():
        title, lines = f"{word.capitalize()} norm per margin", run.kinds(f"{norm}_over_margin", arm="exact")
        least, late = {f"the least possible {word} norm": exact[norm]["norm"]}, "Not drawn until every row is learned."
        directions.append(curves(f"norm-{norm}", title, "norm per margin", lines, least, late, log_y=True))
    margins = {f"exact, {word}": exact[norm]["margin_ratio_test"] for norm, word in NORMS.items()}
    known = {text: margin for text, margin in margins.items() if margin is not None}
    both, above = run.kinds("margin_ratio_test", arm="exact"), "Above 0, all are answered as the class would."
    directions.append(curves("margin-ratio", MARGIN, PER_MARGIN, both, known, above, limits=(-0.6, 1.1)))
    return Findings(
        "Of two models with the same power, trained on the same facts, the factorised one also answers "
        f"{factorised} of what nobody stated as the class would; the merged one {merged}.",
        facts,
        [
            (
                "What was stated, and what nobody stated",
                "Both models are trained to fit every stated row. What of the implications nobody stated? At log n a "
                "model does no better than a uniform guess among the implied answers.",
                [
                    curves("train-loss", STATED, "nats", stated, {}, recipe, log_y=True),
                    curves("test-loss", UNSTATED, "nats", unstated, run.log_n, recipe),
                    curves("test-accuracy", ANSWERED, "share", share, {}, recipe),
                ],
            ),
            (
                "What the matrices hold",
                "Rows are answers (facts b above, implied answers c below), columns are what is read: subjects of whom "
                "both answers are stated, subjects of whom the fact alone is, and the two relations. The block that "
                "matters is below right of the middle: what the matrix holds of c for subjects whose c nobody stated. "
                "It is filled where a model concludes c, and empty where it does not.",
                [figure("lab-matrices", maps, "matrices", caption, wide=True)],
            ),
            (
                "Which solution each one goes to",
                "Theorem 1 of the paper: under gradients the factorised model's matrix turns towards the nuclear "
                "solution, the merged model's towards the Frobenius solution. Each approaches the least norm of its "
                "own kind from above; and the nuclear optimum is flat, so that margins differ before norms do.",
                directions,
            ),
        ],
        {
            "Two arms": "Losses come from the paper's recipe: AdamW, noise tokens, a trained key-query vector. "
            "Directions come from an exact arm: equal attention, no noise, all rows at every step, normalised gradient "
            "descent, no decay. The theory is about gradients; Adam prefers another geometry."
        },
        [
            f"Under the paper's AdamW recipe the directions are: {'; '.join(arms)}. Adam's update is sign-like, so "
            "these cosines test nothing about Theorem 1.",
            "The factorised model's unstated margin may lie well away from the exact nuclear solution's: matrices "
            "within a fraction of a percent of the least norm have quite different margins there.",
        ],
    )


def sample_efficiency(run: LabRun) -> Findings:
    """One chart an m_test: the exact margin, and what each trained model has."""
    sizes, least, facts, figures = run.details["sizes"], [], [], []
    for test in sorted({size["m_test"] for size in sizes}):
        factorised, merged = (run.metric(f"{kind} train=1 test={test}", "margin_ratio_test") for kind in KINDS)
        least.append(factorised.low or 0.0)
        trained = {"step": run.columns["step"].max(), "m_test": test}
        lines = {f"{k}, trained": run.curve("m_train", "margin_ratio_test", model=k, **trained) for k in KINDS}
        exact = lines[EXACT] = exact_curve(sizes, "m_train", "exact", m_test=test)
        lines["solved from the rows alone"] = exact_curve(sizes, "m_train", "solved", m_test=test)
        title = f"{test} subject{'s' if test > 1 else ''} a class with the fact only"
        axes = {"x_label": "m_train: bridges a class", "log_x": False, "ticks": tuple(exact), "limits": (-0.1, 1.1)}
        caption = "Exact arm. Band: 95% interval over seeds."
        figures.append(curves(f"margin-{test}", title, PER_MARGIN, lines, {}, caption, **axes))
        reading = (
            f"unstated margin of the factorised model; the exact solution has {number(exact[1.0].value)}, the merged "
            f"model {number(merged.value)}"
        )
        facts.append((f"one bridge, {test} with the fact only", number(factorised.value), reading))
    return Findings(
        "One bridging subject a class was enough: the factorised model's unstated margin is above zero."
        if min(least) > 0
        else "One bridging subject a class was not enough everywhere for a margin above zero on what nobody stated.",
        facts,
        [
            (
                "Margin of what nobody stated, against the number of bridges",
                "Above 0 every unstated implication is answered as the class would. The exact margin of the least "
                "nuclear norm is min(1, √(m_train / m_test)), that of the least Frobenius norm is 0.",
                figures,
            )
        ],
        {"m_train, m_test": "Subjects a class of whom both answers are stated (bridges), and the fact only."},
        ["The nuclear optimum is flat: training ends near its norm, not at its margins, which may lie on either side."],
    )


def rank_sweep(run: LabRun) -> Findings:
    """Test loss and accuracy against d_h at the end, and against time."""
    ranks, ends = run.details["ranks"], []
    shares = {rank: run.metric(f"d_h={rank}", LOSSES[2]).value or 0.0 for rank in ranks}
    learned = [rank for rank, share in shares.items() if share >= 0.9]
    for name, title, y, unit, log_n in (
        ("loss", f"{UNSTATED}, after training", LOSSES[1], "nats", run.log_n),
        ("accuracy", f"{ANSWERED}, after training", LOSSES[2], "share", {}),
    ):
        lines = {"factorised": run.curve("head_dimension", y, model="factorised", step=run.columns["step"].max())}
        references, axes = {**log_n, "merged model": run.metric("merged", y).value or 0.0}, {"ticks": tuple(ranks)}
        ends.append(curves(name, title, unit, lines, references, BAND, x_label="d_h", **axes))
    stated, unstated = (
        {
            f"d_h = {rank}": run.curve("step", y, model="factorised", head_dimension=rank)
            for rank in [rank for rank in ranks if rank in (3, 4, 8, 16, 128)] or ranks
        }
        for y in LOSSES[:2]
    )
    # What the narrowest model learned, so that its failure can be told from not having learned at all.
    end, test = (run.metric(f"d_h={ranks[0]}", name) for name in LOSSES[:2])
    return Findings(
        "To conclude nine tenths of what nobody stated, "
        + (f"d_h = {learned[0]} is enough." if learned else "no d_h was enough."),
        [
            (
                f"d_h = {rank}",
                number(run.metric(f"d_h={rank}", LOSSES[1]).value, 3),
                f"nats on unstated implications; {share:.0%} answered as the class would",
            )
            for rank, share in shares.items()
        ],
        [
            (
                "How many columns are enough",
                "The same task and recipe with narrower and narrower models, beside the merged model, whose full "
                "matrix has no such limit.",
                ends,
            ),
            (
                "On the way",
                "Narrow models learn the stated rows later, and the unstated ones later still.",
                [
                    curves("train", STATED, "nats", stated, {}, "Paper's recipe."),
                    curves("test", UNSTATED, "nats", unstated, run.log_n, "Paper's recipe."),
                ],
            ),
        ],
        {"d_h": "The head dimension: columns of W_O and W_V, hence the highest rank that their product can have."},
        [
            f"With d_h = {ranks[0]} the loss on stated rows ends at {end.value:.2g} nats; on unstated implications it "
            f"is between {number(test.low)} and {number(test.high)} (95% interval over {test.n} seeds: few)."
        ],
    )


#: Arms of `key-query`: title and caption.
DESCENT = "Gradient descent on all rows in float64, no noise, no decay."
STARTS = {
    "symmetric": ("Symmetric start, exact gradients", DESCENT),
    "symmetric-perturbed": ("Symmetric start with a small random part, exact gradients", DESCENT),
    "random": ("Random start, sampled batches (the paper's recipe)", "AdamW, noise tokens."),
}


def key_query(run: LabRun) -> Findings:
    """The loss on unstated implications against log n, for each start and model."""
    log_n, held, facts, unstated, stated = float(run.details["log_n"]), True, [], [], []
    for start, (title, caption) in STARTS.items():
        lowest = run.details["lowest"][f"merged {start}"]
        if start == "random":
            held &= not lowest["standard_errors_below"] > 3
            beside = f"Standard error over seeds: {number(lowest['standard_error'], 4)}."
        else:
            held &= lowest["loss_of_a_seed"] >= log_n - 1e-9
            beside = f"Lowest of any one seed: {number(lowest['loss_of_a_seed'], 4)}."
        reading = f"log n is {number(log_n, 4)}. {beside}"
        facts.append((f"merged, {start} start: lowest mean loss", number(lowest["mean_loss"], 4), reading))
        train, test = (run.kinds(y, arm=start) for y in LOSSES[:2])
        unstated.append(curves(f"loss-{start}", title, "nats", test, run.log_n, caption))
        stated.append(curves(f"train-{start}", title, "nats", train, {}, caption, log_y=True))
    return Findings(
        f"With its key-query matrix trained, the merged model {'still never gets' if held else 'was seen to get'} "
        f"below log n on what nobody stated, from {len(run.seeds)} starts of each kind.",
        facts,
        [
            (
                UNSTATED,
                "Theorem 3 of the paper: from a symmetric start, the merged model's loss on unstated implications "
                "never falls below log n, the loss of a uniform guess among the implied answers. The factorised case "
                "is open; here it is measured.",
                unstated,
            ),
            (STATED, "If this loss is small, the loss above is not for want of learning.", stated),
        ],
        {
            "Symmetric start": "All subjects of a kind, all b and all c start with the same random weight, so that no "
            "class stands out, in the output-value matrix and in the key scores alike."
        },
        [
            "A symmetric start of the factorised model is a saddle: in exact arithmetic its classes would never part. "
            "In floating point rounding parts them, in an order that has nothing to do with what was stated.",
            "For the random start with sampled batches, “not below” means not below log n by more than three standard "
            "errors.",
        ],
    )


def architecture(run: LabRun) -> Findings:
    """Accuracy of both models for every variant, and losses against time."""
    contrasts = {name: run.details["contrast"][name] for name in run.details["order"]}
    unclear = [name for name, contrast in contrasts.items() if (contrast["low"] or 0) <= 0]
    stated, unstated, share = (
        {name: {kind: run.metric(f"{name} / {kind}", y) for kind in KINDS} for name in contrasts} for y in LOSSES
    )
    return Findings(
        f"In {len(contrasts) - len(unclear)} of {len(contrasts)} architectures the factorised network concluded more "
        "of what nobody stated than the merged one.",
        [
            (name, number(each["value"]), f"interval {number(each['low'])} to {number(each['high'])}")
            for name, each in contrasts.items()
        ],
        [
            (
                "What nobody stated, answered as the class would",
                "Each row is one change (or several) to the paper's one linear layer, trained in both ways. A dot is "
                "the mean over seeds, a bar its 95% interval.",
                [figure("lab-pairs", Pairs(ANSWERED, "share", share), "accuracy", "", wide=True)],
            ),
            (
                "Losses",
                "Whether the stated rows were learned at all, and how sure the answers to the unstated ones are.",
                [
                    figure("lab-pairs", Pairs(STATED, "nats", stated), "train", ""),
                    figure("lab-pairs", Pairs(UNSTATED, "nats", unstated, run.log_n), "loss", ""),
                ],
            ),
            (
                "On the way",
                "Loss on unstated implications while training.",
                [
                    curves(f"way-{place}", name, "nats", run.kinds(LOSSES[1], variant=name), run.log_n)
                    for place, name in enumerate(contrasts)
                ],
            ),
        ],
        {
            "The number on a card": "Accuracy of the factorised network minus that of the merged one on what nobody "
            "stated. Above 0, the factorised one concludes more."
        },
        [
            f"The difference is not clear of zero for: {', '.join(unclear) or 'none'}.",
            "A network with an MLP or with learned embeddings is factorised in other places, whatever is done to W_O "
            "and W_V. Where merging takes nothing away this may be why; nothing here tests it.",
            f"Intervals are over {len(run.seeds)} seeds; below ten they are shown and decide nothing.",
            "Trained with AdamW on all rows at once, without noise; one step size for all, which need not suit each "
            "alike.",
        ],
    )


def dial(run: LabRun) -> Findings:
    """The size of the start, the norm, and added rows."""
    details = run.details
    # The width and step size that are trained from every size of start come first in the table.
    first, *others = dict.fromkeys(zip(run.columns["width"].tolist(), run.columns["rate"].tolist(), strict=True))
    arms = {f"factorised, d_h = {first[0]:g}": first}
    arms |= {f"d_h = {width:g}, step size {rate:g}": (width, rate) for width, rate in sorted(others)}
    starts = []
    for name, title, y, unit, references in (
        ("start-margin", MARGIN, "margin_ratio_test", PER_MARGIN, {EXACT: float(details["exact_margin"])}),
        ("start-loss", f"{UNSTATED}, among the implied answers", "implication_loss_among", "nats", run.log_n),
    ):
        lines = {text: run.curve("sigma", y, model="factorised", width=w, rate=r) for text, (w, r) in arms.items()}
        linear = run.curve("sigma", y, model="linearised").values()
        references |= {f"linearised, d_h = {first[0]:g}": point.value or 0.0 for point in linear}
        text = (
            "Gradient descent to a loss of 0.01, centred at the start; equal attention, no noise. Band: 95% interval."
        )
        starts.append(curves(name, title, unit, lines, references, text, x_label="sigma, size of the start"))
    main = run.curve("sigma", "margin_ratio_test", model="factorised", width=first[0], rate=first[1])
    # Margins that are undefined, as after very few steps, are left out of the curve.
    ends = [(sigma, point.value or 0.0) for sigma, point in main.items()] or [(0.0, 0.0)]
    (least, small), (most, large) = ends[0], ends[-1]
    mixed = {
        "by hand, one unknown": exact_curve(details["mixed"], "share", "exact"),
        "by the general solver": exact_curve(details["mixed"], "share", "solved"),
    }
    abstaining = {
        f"least {word} norm": exact_curve(details["abstaining"], "count", "leaked_minus_unknown", norm=norm)
        for norm, word in NORMS.items()
    }
    contradicting = {
        label: exact_curve(details["contradicting"], "count", "leaked_minus_other", norm="nuclear", bridges=bridges)
        for bridges, label in enumerate(("1 bridge a class", "2 bridges a class"), start=1)
    }
    silent = abstaining["least nuclear norm"]
    worst = max(row["gap"] for row in details["mixed"])
    return Findings(
        "From a small start the factorised model concludes what nobody stated, from a large one no longer."
        if small > 0 >= large
        else f"From the smallest start the unstated margin is {number(small)}, from the largest "
        f"{number(large)}.",
        [
            (
                f"start of size {least:g}",
                number(small),
                "unstated margin, in units of the smallest stated margin",
            ),
            (
                f"start of size {most:g}",
                number(large),
                "the same model, task and loss reached; below 0 some are wrong",
            ),
            (
                "one abstaining row a class",
                f"{number(silent[0.0].value, 3)} → {number(silent[1.0].value, 3)}",
                "lead of the leaked answer over “unknown”, for subjects of whom neither is stated (exact, certified)",
            ),
        ],
        [
            (
                "The size of the start",
                "Weights start Gaussian with standard deviation sigma / √d_h. All are trained to the same loss on what "
                "was stated. The linearised model is the limit of lazy training.",
                starts,
            ),
            (
                "The norm",
                "Between the two exact solutions lie those of least (1 − t) · nuclear + t · Frobenius norm. At t = 0 "
                "stands the margin of the one, at t = 1 that of the other.",
                [
                    curves(
                        "mixed", "Margin of what nobody stated at the optimum", PER_MARGIN, mixed, {},
                        f"Both ways of computing it; the solver's largest certified gap is {worst:.1e}.",
                        x_label="t, share of the Frobenius norm", log_x=False,
                    ),
                ],
            ),
            (
                "Rows that abstain, rows that contradict",
                "Four classes of six subjects. Some subjects of each class answer “unknown” to the implication, or "
                "state another class's; the others stay silent. What do the silent ones get?",
                [
                    curves(
                        "abstaining", "Lead of the leaked answer over “unknown”", PER_MARGIN, abstaining,
                        {"no lead": 0.0}, "Exact solutions, certified to a gap of 1e-6.",
                        x_label="subjects a class that say “unknown”", log_x=False, ticks=(0, 1, 2, 3, 4),
                    ),
                    curves(
                        "contradicting", "Lead of the leaked answer over another class's", PER_MARGIN, contradicting,
                        {"no lead": 0.0}, "Least nuclear norm, certified to a gap of 1e-6. Other: the answer that "
                        "those subjects state.",
                        x_label="subjects a class that contradict", log_x=False, ticks=(0, 1, 2, 3),
                    ),
                ],
            ),
        ],
        {
            "Rich and lazy": "From a small start the change is large against the start, and features are learned "
            "(rich). From a large one the model hardly moves and behaves as its linearisation, a fixed kernel (lazy)."
        },
        [
            "That a pretrained language model starts large, so that gentle fine-tuning is lazy and concludes less, is "
            "a conjecture that this experiment suggests and does not test."
        ],
    )  # fmt: skip


#: What fills in the page of each experiment, by the experiment's name.
PAGES: dict[str, Callable[[LabRun], Findings]] = {
    "two-models": two_models,
    "sample-efficiency": sample_efficiency,
    "rank-sweep": rank_sweep,
    "key-query": key_query,
    "architecture": architecture,
    "dial": dial,
}
