"""The pages of `lab`: what each experiment found in a sentence, its figures, and how it was made."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from spillover.details import Details, LabDetails
from spillover.errors import UsageError, nearest
from spillover.metrics.intervals import over_seeds
from spillover.record import TRAJECTORY, Metric, Record, read_table
from spillover.report import page
from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label, plain, plot
from spillover.report.load import LoadedRun
from spillover.report.page import Card, Cards, Figure, FigureGrid, Glossary, Page, Paragraph, Section, figure
from spillover.report.provenance import of_metrics, provenance, table_link
from spillover.report.words import number

MATRICES = "matrices.parquet"
KINDS, NORMS = ("factorised", "merged"), {"nuclear": "nuclear", "frobenius": "Frobenius"}
#: The measured numbers that most pages show, and the titles of their charts.
LOSSES = ("train_loss", "implication_loss_test", "implication_accuracy_test")
STATED, UNSTATED = "Loss on what was stated", "Loss on what nobody stated"
ANSWERED = "Share of unstated implications answered as the class would"
MARGIN, PER_MARGIN = "Smallest margin of what nobody stated", "per stated margin"
BAND, EXACT = "Mean over seeds; the band is its 95% interval.", "exact, least nuclear norm"
#: Place on the x axis -> mean of some seeds with its interval. An exact value is of no seeds (n = 0).
Curve = Mapping[float, Metric]


@dataclass(frozen=True)
class LabRun:
    """One experiment: its record, one row a model and measured step, and its matrices by name."""

    record: Record
    trajectory: pa.Table
    matrices: dict[str, np.ndarray]

    @property
    def details(self) -> LabDetails:
        return self.record.details_of(LabDetails)

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
        return {"log n: a uniform guess among the implied answers": self.details.log_n}

    def metric(self, group: str, name: str) -> Metric:
        """A metric of the record by its group (factorised, d_h=4, ...) and name."""
        return Metric(**self.record.metrics[group][name])

    def mask(self, **where: Any) -> np.ndarray:
        """Rows of the trajectory whose columns equal the values given."""
        return np.all([self.columns[name] == value for name, value in where.items()], axis=0)

    def curve(self, x: str, y: str, **where: Any) -> Curve:
        """Mean and interval over seeds of column y at every x, in rows that are as `where`; gaps without a number."""
        mask = self.mask(**where)
        places, values = (self.columns[name][mask].astype(float) for name in (x, y))
        found = {place: over_seeds(values[places == place].tolist(), "") for place in np.unique(places).tolist()}
        return {place: metric for place, metric in found.items() if metric.value is not None}

    def kinds(self, y: str, **where: Any) -> dict[str, Curve]:
        """Column y of both models against the training step."""
        return {kind: self.curve("step", y, model=kind, **where) for kind in KINDS}


def exact_curve(rows: Sequence[Mapping[str, Any]], x: str, y: str, **where: Any) -> Curve:
    """Rows of the record as a curve without any uncertainty."""
    return {float(row[x]): Metric(row[y], row[y], row[y], 0, 0, "") for row in rows if where.items() <= row.items()}


def load_lab(folder: str | Path) -> LabRun:
    """Read an experiment's folder. Raises RunError when a file is missing or damaged."""
    folder = Path(folder)
    table = read_table(folder / MATRICES)
    names = table["name"].to_numpy(zero_copy_only=False)
    row, column, value = (table[key].to_numpy() for key in ("row", "column", "value"))
    matrices = {}
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        matrices[name] = np.zeros((row[mine].max() + 1, column[mine].max() + 1))
        matrices[name][row[mine], column[mine]] = value[mine]
    return LabRun(Record.read(folder), read_table(folder / TRAJECTORY), matrices)


@dataclass(frozen=True)
class Findings:
    """What an experiment found; what its page says besides stands in templates/wording.toml.

    title: the finding as one sentence. facts: (what, number, how to read it) at a glance. figures: of each part of the
    page. slots: what its notes name.
    """

    title: str
    facts: Sequence[tuple[str, str, str]]
    figures: Sequence[Sequence[Figure | None]]
    slots: Mapping[str, Any] = field(default_factory=dict)


def build_lab_page(run: LabRun) -> Page:
    """The page of an experiment; the same run gives the same bytes. Raises UsageError for one that has no page."""
    preset = run.record.command.removeprefix("lab ")
    if preset not in PAGES:
        raise UsageError(f"there is no preset called {preset!r}", do=nearest(preset, PAGES))
    own, found = page.wordings()["lab"][preset], PAGES[preset](run)
    cards = [Card(what, [Paragraph(reading, "small")], value=value) for what, value, reading in found.facts]
    terms = Glossary([*page.terms("lab").terms, *own["terms"].items()])
    parts = enumerate(zip(own["parts"].items(), found.figures, strict=True), start=1)
    notes = [note.format(**found.slots) for note in own["notes"]]
    shown = [Section(f"part-{place}", heading, [FigureGrid(figures)], lead, first=place == 1)
             for place, ((heading, lead), figures) in parts]  # fmt: skip
    # Made as a run of the verb, whose command can be given again; task and recipes take the place of model and pack.
    record = dataclasses.replace(run.record, command="lab", details=Details(seeds=run.seeds))
    about, *others = (group for group in provenance(LoadedRun.of_record(record)) if group[0] not in ("Model", "Facts"))
    recipes = {"Task": run.details.task, **{f"Arm: {name}": arm for name, arm in run.details.arms.items()}}
    made = [(name, [(key.replace("_", " "), plain(value)) for key, value in each.items()])
            for name, each in recipes.items()]  # fmt: skip
    return Page(
        found.title,
        f"Spillover lab: {preset}",
        f"lab: {preset}",
        [
            Section("found", "What was found", [Cards(cards, facts=True)], hidden=True, first=True),
            Section("terms", "What this is about", [terms], aside=True, first=True),
            *shown[:1],
            Section("notes", "What this does not say", notes, first=True),
            *shown[1:],
        ],
        downloads=[
            of_metrics([(preset, LoadedRun.of_record(run.record))]),
            table_link("trajectory", "Every measured step", run.trajectory.column_names, run.trajectory.to_pylist()),
        ],
        made=[("Task, recipes, settings, versions", [about, *made, *others])],
        footer="The shaded bands and bars are 95% bootstrap intervals of the mean over seeds.",
    )  # fmt: skip


def curves(
    name: str, title: str, unit: str, lines: Mapping[str, Curve], references: Mapping[str, float], caption: str = "",
    **axes: Any,
) -> Figure | None:  # fmt: skip
    """A chart, against the training step on a logarithmic scale unless `axes` says otherwise."""
    return figure("lab-curves", Chart(title, unit, lines, references, **axes), name, caption)


def two_models(run: LabRun) -> Findings:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    details, exact, facts, arms = run.details, run.details.exact, [], []
    assert exact is not None
    for kind in KINDS:
        loss, answered = (run.metric(kind, name).value for name in LOSSES[1:])
        nats = f"Of what nobody stated. Loss {number(loss, 3)}; a guess has {number(details.log_n, 3)}. Paper's recipe."
        facts.append((f"{kind}: answered as the class would", f"{answered:.0%}", nats))
        apart = getattr(details, kind)["cosine_difference"].value
        closer, other = NORMS.values() if apart > 0 else reversed(NORMS.values())
        said = f"Nearer than to the one of least {other} norm: cosines differ by {number(abs(apart), 3)}. Exact arm."
        facts.append((f"{kind}: what it learned is nearest to", f"least {closer} norm", said))
        cosines = (number(getattr(details, kind)["paper_arm"][f"cosine_to_{norm}"].value) for norm in NORMS)
        arms.append("{} {} to nuclear, {} to Frobenius".format(kind, *cosines))
    factorised, merged = (f"{run.metric(kind, LOSSES[2]).value:.0%}" for kind in KINDS)
    stated, unstated, share = (run.kinds(y, arm="paper") for y in LOSSES)
    recipe = f"{BAND} Paper's recipe."
    losses = [
        curves("train-loss", STATED, "nats", stated, {}, recipe, log_y=True),
        curves("test-loss", UNSTATED, "nats", unstated, run.log_n, recipe),
        curves("test-accuracy", ANSWERED, "share", share, {}, recipe),
    ]
    matrices = {}
    for kind, (norm, word) in zip(KINDS, NORMS.items(), strict=True):
        matrices[f"trained, {kind}"], matrices[f"exact, least {word} norm"] = run.matrices[kind], run.matrices[norm]
    maps = Maps("Output-value matrices", matrices, *(details.task[name] for name in ("classes", "train", "test")))
    caption = "First seed of the exact arm, each column centred, scaled to a smallest stated margin of 1. One scale."
    between = {"the two exact solutions with each other": exact.cosine}
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
        late = "Not drawn until every row is learned."
        least = {f"the least possible {word} norm": getattr(exact, norm)["norm"]}
        directions.append(curves(f"norm-{norm}", title, "norm per margin", lines, least, late, log_y=True))
    margins = {f"exact, {word}": getattr(exact, norm)["margin_ratio_test"] for norm, word in NORMS.items()}
    known = {text: margin for text, margin in margins.items() if margin is not None}
    both, above = run.kinds("margin_ratio_test", arm="exact"), "Above 0, all are answered as the class would."
    directions.append(curves("margin-ratio", MARGIN, PER_MARGIN, both, known, above, limits=(-0.6, 1.1)))
    return Findings(
        "Two models that can express the same learn the same facts. The factorised one (its matrix a product of two, "
        f"as in real models) also answers {factorised} of what nobody stated as the class would; the merged one "
        f"{merged}.",
        facts,
        [losses, [figure("lab-matrices", maps, "matrices", caption, wide=True)], directions],
        {"arms": "; ".join(arms)},
    )


def sample_efficiency(run: LabRun) -> Findings:
    """One chart an m_test: the exact margin, and what each trained model has."""
    sizes, least, facts, figures = run.details.sizes, [], [], []
    for test in sorted({int(size["m_test"]) for size in sizes}):
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
        others = f"the exact solution has {number(exact[1.0].value)}, the merged model {number(merged.value)}"
        reading = f"unstated margin of the factorised model; {others}"
        facts.append((f"one bridge, {test} with the fact only", number(factorised.value), reading))
    enough = "enough for the factorised model to conclude what nobody stated of the others."
    if min(least) <= 0:
        enough = "not enough everywhere to conclude what nobody stated of the others."
    return Findings(f"One subject a class of whom both facts are stated was {enough}", facts, [figures])


def rank_sweep(run: LabRun) -> Findings:
    """Test loss and accuracy against d_h at the end, and against time."""
    ranks, learned, facts, ends = run.details.ranks, [], [], []
    for rank in ranks:
        loss, share = (run.metric(f"d_h={rank}", name).value or 0.0 for name in LOSSES[1:])
        reading = f"nats on unstated implications; {share:.0%} answered as the class would"
        facts.append((f"d_h = {rank}", number(loss, 3), reading))
        learned += [rank] if share >= 0.9 else []
    for name, title, y, unit, log_n in (
        ("loss", f"{UNSTATED}, after training", LOSSES[1], "nats", run.log_n),
        ("accuracy", f"{ANSWERED}, after training", LOSSES[2], "share", {}),
    ):
        lines = {"factorised": run.curve("head_dimension", y, model="factorised", step=run.columns["step"].max())}
        references, axes = {**log_n, "merged model": run.metric("merged", y).value or 0.0}, {"ticks": tuple(ranks)}
        ends.append(curves(name, title, unit, lines, references, BAND, x_label="d_h", **axes))
    drawn = [rank for rank in ranks if rank in (3, 4, 8, 16, 128)] or ranks
    stated, unstated = (
        {f"d_h = {rank}": run.curve("step", y, model="factorised", head_dimension=rank) for rank in drawn}
        for y in LOSSES[:2]
    )
    # What the narrowest model learned, so that its failure can be told from not having learned at all.
    end, test = (run.metric(f"d_h={ranks[0]}", name) for name in LOSSES[:2])
    way = [
        curves("train", STATED, "nats", stated, {}, "Paper's recipe."),
        curves("test", UNSTATED, "nats", unstated, run.log_n, "Paper's recipe."),
    ]
    enough = f"a head of {learned[0]} columns is enough" if learned else "no width of the head was enough"
    slots = {"narrowest": ranks[0], "stated": end.value, "low": number(test.low), "high": number(test.high)}
    return Findings(
        f"To conclude nine tenths of what nobody stated, {enough}.", facts, [ends, way], {**slots, "seeds": test.n}
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
    log_n, held, facts, unstated, stated = run.details.log_n, True, [], [], []
    for start, (title, caption) in STARTS.items():
        lowest = run.details.lowest[f"merged {start}"]
        if start == "random":
            # Undefined with one seed.
            held &= (lowest["standard_errors_below"] or 0) <= 3
            beside = f"Standard error over seeds: {number(lowest['standard_error'], 4)}."
        else:
            held &= (lowest["loss_of_a_seed"] or 0) >= log_n - 1e-9
            beside = f"Lowest of any one seed: {number(lowest['loss_of_a_seed'], 4)}."
        reading = f"log n is {number(log_n, 4)}. {beside}"
        facts.append((f"merged, {start} start: lowest mean loss", number(lowest["mean_loss"], 4), reading))
        train, test = (run.kinds(y, arm=start) for y in LOSSES[:2])
        unstated.append(curves(f"loss-{start}", title, "nats", test, run.log_n, caption))
        stated.append(curves(f"train-{start}", title, "nats", train, {}, caption, log_y=True))
    return Findings(
        f"With its key-query matrix trained, the merged model {'still never gets' if held else 'was seen to get'} "
        f"below log n on what nobody stated, which is to guess, from {len(run.seeds)} starts of each kind.",
        facts,
        [unstated, stated],
    )


def architecture(run: LabRun) -> Findings:
    """Accuracy of both models for every variant, and losses against time."""
    contrasts = {name: run.details.contrast[name] for name in run.details.order}
    unclear = [name for name, contrast in contrasts.items() if (contrast.low or 0) <= 0]
    stated, unstated, share = (
        {name: {kind: run.metric(f"{name} / {kind}", y) for kind in KINDS} for name in contrasts} for y in LOSSES
    )
    facts = [(name, number(each.value), f"interval {number(each.low)} to {number(each.high)}")
             for name, each in contrasts.items()]  # fmt: skip
    losses = [
        figure("lab-pairs", Pairs(STATED, "nats", stated), "train", ""),
        figure("lab-pairs", Pairs(UNSTATED, "nats", unstated, run.log_n), "loss", ""),
    ]
    way = [
        curves(f"way-{place}", name, "nats", run.kinds(LOSSES[1], variant=name), run.log_n)
        for place, name in enumerate(contrasts)
    ]
    return Findings(
        f"In {len(contrasts) - len(unclear)} of {len(contrasts)} architectures the factorised network concluded more "
        "of what nobody stated than the merged one.",
        facts,
        [[figure("lab-pairs", Pairs(ANSWERED, "share", share), "accuracy", "", wide=True)], losses, way],
        {"unclear": ", ".join(unclear) or "none", "seeds": len(run.seeds)},
    )


#: Loss above which a seed of `embedding-mlp` has not learned what was stated; its place is then not drawn,
#: unless a network learned it nowhere.
UNLEARNED = 0.02


def embedding_mlp(run: LabRun) -> Findings:
    """The share and the margin of what nobody stated against the start's size, the width and weight decay."""
    details, figures, loss = run.details, [], run.columns["train_loss"].astype(float)

    def learned(x: str, y: str, **where: Any) -> Curve:
        never = set(run.columns[x][run.mask(**where) & ~(loss <= UNLEARNED)].tolist())
        whole = run.curve(x, y, **where)
        return {place: point for place, point in whole.items() if place not in never} or whole

    shares = {name: learned("sigma", LOSSES[2], model=name, dial="start") for name in details.order}
    firsts = [next((point.value for point in line.values()), None) for line in shares.values()]
    bests = [max((point.value or 0.0 for point in line.values()), default=None) for line in shares.values()]
    plain, relu = firsts[0], firsts[-1]
    needs = "ReLU units need a larger start to conclude what nobody stated"
    larger = plain is not None and relu is not None and relu < plain - 0.1
    exact = {EXACT: details.exact_margin, "exact, product of three matrices": details.deep_margin}
    for dial, x, x_label in (
        ("start", "sigma", "size of the start"),
        ("width",) * 3,
        ("decay", "decay", "weight decay"),
    ):
        charts = []
        for y, title, unit, references, ends in (
            (LOSSES[2], needs if larger and dial == "start" else ANSWERED, "share concluded", {}, (-0.05, 1.05)),
            ("margin_middle_test", "Middle margin of what nobody stated", PER_MARGIN, exact, (-0.6, 1.3)),
        ):
            lines = {name: learned(x, y, model=name, dial=dial) for name in details.order}
            axes = {"x_label": x_label, "log_x": dial != "decay", "limits": ends}
            charts.append(curves(f"{dial}-{y}", title, unit, lines, references, BAND, **axes))
        figures.append(charts)
    facts = []
    for name, line, best in zip(shares, shares.values(), bests, strict=True):
        reading = "by start: " + ", ".join(f"{place:g} {point.value:.0%}" for place, point in line.items())
        facts.append((f"{name}: share concluded at best", number(best), reading))
    one, two, three = (number(first) for first in firsts)
    return Findings(
        f"From the smallest start at which each learns, the attention model concludes {one} of what nobody stated, an "
        f"MLP with learned embeddings {two} and one with ReLU units {three}; from the best start they conclude "
        f"{', '.join(map(number, bests))}.",
        facts,
        figures,
        {"root": number(details.exact_margin), "fourth": number(details.deep_margin), "unlearned": UNLEARNED},
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
        ("start-margin", MARGIN, "margin_ratio_test", PER_MARGIN, {EXACT: details.exact_margin}),
        ("start-loss", f"{UNSTATED}, among the implied answers", "implication_loss_among", "nats", run.log_n),
    ):
        lines = {text: run.curve("sigma", y, model="factorised", width=w, rate=r) for text, (w, r) in arms.items()}
        linear = run.curve("sigma", y, model="linearised").values()
        references |= {f"linearised, d_h = {first[0]:g}": point.value or 0.0 for point in linear}
        caption = "Gradient descent to a loss of 0.01, centred at the start; equal attention, no noise. " + BAND
        starts.append(curves(name, title, unit, lines, references, caption, x_label="sigma, size of the start"))
    main = run.curve("sigma", "margin_ratio_test", model="factorised", width=first[0], rate=first[1])
    # Margins that are undefined, as after very few steps, are left out of the curve.
    ends = [(sigma, point.value or 0.0) for sigma, point in main.items()] or [(0.0, 0.0)]
    (least, small), (most, large) = ends[0], ends[-1]
    ways = {"by hand, one unknown": "exact", "by the general solver": "solved"}
    mixed = {text: exact_curve(details.mixed, "share", way) for text, way in ways.items()}
    abstaining = {
        f"least {word} norm": exact_curve(details.abstaining, "count", "leaked_minus_unknown", norm=norm)
        for norm, word in NORMS.items()
    }
    contradicting = {
        label: exact_curve(details.contradicting, "count", "leaked_minus_other", norm="nuclear", bridges=bridges)
        for bridges, label in enumerate(("1 bridge a class", "2 bridges a class"), start=1)
    }
    worst = max(row["gap"] for row in details.mixed)
    without, one = (number(abstaining["least nuclear norm"][count].value, 3) for count in (0.0, 1.0))
    neither = "lead of the leaked answer over “unknown”, for subjects of whom neither is stated (exact, certified)"
    facts = [
        (f"start of size {least:g}", number(small), "unstated margin, in units of the smallest stated margin"),
        (f"start of size {most:g}", number(large), "the same model, task and loss reached; below 0 some are wrong"),
        ("one abstaining row a class", f"{without} → {one}", neither),
    ]
    norm = curves(
        "mixed", "Margin of what nobody stated at the optimum", PER_MARGIN, mixed, {},
        f"Both ways of computing it; the solver's largest certified gap is {worst:.1e}.",
        x_label="t, share of the Frobenius norm", log_x=False,
    )  # fmt: skip
    rows = [
        curves(
            "abstaining", "Lead of the leaked answer over “unknown”", PER_MARGIN, abstaining, {"no lead": 0.0},
            "Exact solutions, certified to a gap of 1e-6.",
            x_label="subjects a class that say “unknown”", log_x=False, ticks=(0, 1, 2, 3, 4),
        ),
        curves(
            "contradicting", "Lead of the leaked answer over another class's", PER_MARGIN, contradicting,
            {"no lead": 0.0}, "Least nuclear norm, certified to a gap of 1e-6. Other: the answer that those subjects "
            "state.", x_label="subjects a class that contradict", log_x=False, ticks=(0, 1, 2, 3),
        ),
    ]  # fmt: skip
    return Findings(
        "From a small start the factorised model concludes what nobody stated, from a large one no longer."
        if small > 0 >= large
        else f"From the smallest start the unstated margin is {number(small)}, from the largest {number(large)}.",
        facts,
        [starts, [norm], rows],
    )


#: What fills in the page of each experiment, by the experiment's name.
PAGES: dict[str, Callable[[LabRun], Findings]] = {
    each.__name__.replace("_", "-"): each
    for each in (two_models, sample_efficiency, rank_sweep, key_query, architecture, embedding_mlp, dial)
}


#: More points than this are drawn without markers.
_MARKED = 20
_REFERENCE_DASHES = ((0, (1, 2)), (0, (6, 3)), (0, (3, 2, 1, 2)))


def numbers(point: Metric) -> dict[str, Any]:
    """The columns of a mean over seeds in a figure's table."""
    return {"mean": point.value, "low": point.low, "high": point.high, "seeds": point.n}


@dataclass(frozen=True)
class Chart:
    """What to draw, by name: curves against x, and horizontal lines at values.

    ticks: places to label on the x axis. limits: least and greatest y shown.
    """

    title: str
    y_label: str
    curves: Mapping[str, Curve]
    references: Mapping[str, float] = field(default_factory=dict)
    x_label: str = "training step"
    log_x: bool = True
    log_y: bool = False
    ticks: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None


@plot("lab-curves", of="lab")
def draw_lab_curves(chart: Chart, name: str) -> Drawing | None:
    """The chart; None when no curve has a point."""
    curves = {text: curve for text, curve in chart.curves.items() if curve}
    if not curves:
        return None
    with canvas(2.7 + 0.25 * (len(curves) + len(chart.references))) as (figure, axes):
        handles = {text: _draw(axes, curve, *look) for look, (text, curve) in zip(cycle(LINES), curves.items())}
        for dashes, (text, value) in zip(cycle(_REFERENCE_DASHES), chart.references.items()):
            handles[text] = axes.axhline(value, color=INK, linestyle=dashes, linewidth=1.1)
        _scale(axes, chart, zero=any(0 in curve for curve in curves.values()))
        legend = {label(text, 60): handle for text, handle in handles.items()}
        rows = [
            {"line": text, "x": x, **numbers(point)} for text, curve in curves.items() for x, point in curve.items()
        ]
        rows += [{"line": text, "x": None, "mean": value} for text, value in chart.references.items()]
        means = {text: [point.value for point in curve.values()] for text, curve in curves.items()}
        parts = [f"{text}: {values[0]:.3g} first, {values[-1]:.3g} last" for text, values in means.items()]
        parts += [f"{text}: {value:.3g}" for text, value in chart.references.items()]
        return finish(figure, name, chart.title, ". ".join(parts) + ".", rows, legend, handlelength=3)


def _draw(axes: Axes, curve: Curve, colour: str, dash: Any, marker: str) -> Line2D:
    """The means, with a band for their intervals where there are several seeds; exact values are hollow."""
    seeds = max(point.n for point in curve.values())
    mean, low, high = np.array([(point.value, point.low, point.high) for point in curve.values()], float).T
    if seeds > 1:
        axes.fill_between(list(curve), low, high, color=colour, alpha=0.18, linewidth=0)
    look = {"color": colour, "linestyle": dash, "linewidth": 1.8, "markersize": 4.5}
    shown, face = marker if len(curve) <= _MARKED else "", colour if seeds else "none"
    return axes.plot(list(curve), mean, marker=shown, markerfacecolor=face, **look)[0]


def _scale(axes: Axes, chart: Chart, zero: bool) -> None:
    """Labels, scales and ticks. zero: whether a curve has a point at 0, which a logarithmic axis cannot show."""
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.log_x:
        axes.set_xscale("symlog" if zero else "log", **({"linthresh": 1} if zero else {}))
        axes.set_xlim(left=0 if zero else None)
    if chart.log_y:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, chart.log_x), (axes.yaxis, chart.log_y)):
        if logarithmic:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
    if chart.limits:
        axes.set_ylim(*chart.limits)
    if chart.ticks:
        axes.set_xticks(chart.ticks, [f"{tick:g}" for tick in chart.ticks])
        axes.minorticks_off()
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


#: Wide enough for four maps in two rows.
WIDTH = 10.4


@dataclass(frozen=True)
class Maps:
    """Matrices of one task by title: rows are the b, then the c answers; columns train and test subjects, r1, r2.

    classes: how many. train, test: subjects a class of each kind.
    """

    title: str
    matrices: Mapping[str, Float[np.ndarray, "answer column"]]
    classes: int
    train: int
    test: int


def by_split(maps: Maps, matrix: Float[np.ndarray, "answer column"]) -> Float[np.ndarray, "answer column"]:
    """Columns reordered from class by class to all train subjects, all test subjects, r1, r2."""
    each = maps.train + maps.test
    tested = np.arange(maps.classes * each) % each >= maps.train
    return matrix[:, np.argsort([*tested, True, True], kind="stable")]


@plot("lab-matrices", of="lab")
def draw_lab_matrices(maps: Maps, name: str) -> Drawing | None:
    """The maps two by two, blue below zero and red above, on one scale; None when there is none. Rows: block means."""
    if not maps.matrices:
        return None
    ordered = {title: by_split(maps, matrix) for title, matrix in maps.matrices.items()}
    top, lines = max(float(np.abs(matrix).max()) for matrix in ordered.values()), -(-len(ordered) // 2)
    with canvas(3.1 * lines + 0.5, WIDTH) as (figure, first):
        first.remove()
        grid = figure.subplots(lines, 2, squeeze=False)
        for place, (axes, (title, matrix)) in enumerate(zip(grid.flat, ordered.items(), strict=False)):
            image = axes.imshow(matrix, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="none", aspect="auto")
            axes.set_title(title, loc="left")
            _mark_blocks(axes, maps, left=place % 2 == 0)
        bar = figure.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
        bar.set_label("entry, at a smallest stated margin of 1")
        bar.outline.set_visible(False)
        blocks = {title: _blocks(maps, matrix) for title, matrix in ordered.items()}
        means = (f"{t}: " + ", ".join(f"{key} {mean:.2f}" for key, mean in own.items()) for t, own in blocks.items())
        rows = [{"matrix": title, **own} for title, own in blocks.items()]
        return finish(figure, name, maps.title, f"Mean entries. {'. '.join(means)}.", rows)


def _mark_blocks(axes: Axes, maps: Maps, left: bool) -> None:
    """The edges and names of a map's blocks; left: whether its rows are labelled."""
    train, both = maps.classes * maps.train, maps.classes * (maps.train + maps.test)
    for place in (train, both):
        axes.axvline(place - 0.5, color=INK, linewidth=0.6)
    axes.axhline(maps.classes - 0.5, color=INK, linewidth=0.6)
    names = {"both stated": (train - 1) / 2, "the fact only": (train + both - 1) / 2, "r": both + 0.5}
    if not train:
        del names["both stated"]
    axes.set_xticks(list(names.values()), list(names))
    axes.set_yticks([(maps.classes - 1) / 2, 1.5 * maps.classes - 0.5], ["facts b", "implied c"] if left else ["", ""])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _blocks(maps: Maps, ordered: Float[np.ndarray, "answer column"]) -> dict[str, float]:
    """Mean entry of a subject's own answer in each block, and of the relations in their own answers."""
    n, found = maps.classes, {}
    for words, start, each in (("both stated", 0, maps.train), ("the fact only", n * maps.train, maps.test)):
        if each:
            owner, columns = np.repeat(np.arange(n), each), start + np.arange(n * each)
            found[f"own fact, {words}"] = float(ordered[owner, columns].mean())
            found[f"own implication, {words}"] = float(ordered[n + owner, columns].mean())
    relations = {"r1 on facts": ordered[:n, -2], "r2 on implied answers": ordered[n:, -1]}
    return found | {words: float(entries.mean()) for words, entries in relations.items()}


@dataclass(frozen=True)
class Pairs:
    """What each model reached: variant, from top to bottom -> model -> mean over seeds. references: values by name."""

    title: str
    x_label: str
    pairs: Mapping[str, Mapping[str, Metric]]
    references: Mapping[str, float] = field(default_factory=dict)


@plot("lab-pairs", of="lab")
def draw_lab_pairs(pairs: Pairs, name: str) -> Drawing | None:
    """The dots; None when there is no variant."""
    if not pairs.pairs:
        return None
    with canvas(1.4 + 0.52 * len(pairs.pairs)) as (figure, axes):
        handles, rows = dict[str, Line2D](), list[dict[str, Any]]()
        for index, (variant, models) in enumerate(pairs.pairs.items()):
            across = axes.get_yaxis_transform()
            axes.text(0, index - 0.24, label(variant, 46), va="bottom", fontsize=11, transform=across)
            for place, ((model, point), (colour, _, marker)) in enumerate(zip(models.items(), LINES, strict=False)):
                low, mean, high = np.array([point.low, point.value, point.high], float)
                height = index + 0.16 * place
                axes.plot([low, high], [height, height], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot([mean], [height], color=colour, marker=marker, markersize=7, clip_on=False)
                handles[model] = Line2D([], [], color=colour, marker=marker, linestyle="")
                rows.append({"variant": variant, "model": model, **numbers(point)})
        for text, value in pairs.references.items():
            handles[text] = axes.axvline(value, color=INK, linestyle=_REFERENCE_DASHES[0], linewidth=1.1)
        axes.set_ylim(len(pairs.pairs) - 0.45, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(pairs.x_label)
        described = ". ".join(f"{row['variant']}, {row['model']}: {row['mean']:.2f}" for row in rows)
        return finish(figure, name, pairs.title, described + ".", rows, handles, ncols=2)
