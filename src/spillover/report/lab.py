"""The pages of `lab`: what each experiment found in a sentence, its figures, and how it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover.errors import UsageError, nearest
from spillover.metrics.intervals import over_seeds
from spillover.record import TRAJECTORY, Record, read_table
from spillover.report.downloads import csv_text, link
from spillover.report.drawing import plain
from spillover.report.lab_plots import Chart, Map, Maps, Pair, Pairs, Point, Series
from spillover.report.page import Card, Cards, Figure, FigureGrid, Glossary, Page, Paragraph, Section, figure
from spillover.report.provenance import Terms, duration
from spillover.report.words import number

MATRICES = "matrices.parquet"
KINDS = ("factorised", "merged")
#: Titles of charts that several pages have, by the measured number, and its unit.
STATED, UNSTATED = "Loss on what was stated", "Loss on what nobody stated"
ANSWERED = "Share of unstated implications answered as the class would"
PER_MARGIN = "per stated margin"


@dataclass(frozen=True)
class LabRun:
    """One experiment: its record, one row a model and measured step, and its matrices by name."""

    record: Record
    trajectory: pa.Table
    matrices: dict[str, np.ndarray]

    @property
    def preset(self) -> str:
        return self.record.command.removeprefix("lab ")

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
    def log_n(self) -> tuple[str, float]:
        """The loss of a uniform guess among the implied answers, as a reference line."""
        return "log n: a uniform guess among the implied answers", float(self.details["log_n"])

    def metric(self, group: str, name: str) -> dict[str, Any]:
        """A metric of the record by its group (factorised, d_h=4, ...) and name."""
        found: dict[str, Any] = self.record.metrics[group][name]
        return found

    def mask(self, **where: Any) -> np.ndarray:
        """Rows of the trajectory whose columns equal the values given."""
        mask = np.ones(self.trajectory.num_rows, dtype=bool)
        for name, value in where.items():
            mask &= self.columns[name] == value
        return mask

    def last(self, **where: Any) -> np.ndarray:
        """Those of the rows at the last step."""
        mask = self.mask(**where)
        return mask & (self.columns["step"] == self.columns["step"][mask].max())

    def points(self, x: str, y: str, mask: np.ndarray) -> tuple[Point, ...]:
        """Mean and interval of column y over the seeds at every value of column x; gaps where a seed has no number."""
        return points_of(self.columns[x][mask].astype(float), self.columns[y][mask].astype(float))

    def series(self, label: str, style: int, x: str, y: str, **where: Any) -> Series:
        """`points` as a line of a chart."""
        return Series(label, self.points(x, y, self.mask(**where)), style)

    def kinds(self, y: str, **where: Any) -> tuple[Series, ...]:
        """Column y of both models against the training step."""
        return tuple(self.series(kind, style, "step", y, model=kind, **where) for style, kind in enumerate(KINDS))


def points_of(places: np.ndarray, values: np.ndarray) -> tuple[Point, ...]:
    """One point a place where every value is a number."""
    found = []
    for place in np.unique(places):
        metric = over_seeds(values[places == place].tolist(), "")
        if metric.value is not None and metric.low is not None and metric.high is not None:
            found.append(Point(float(place), metric.value, metric.low, metric.high, metric.n))
    return tuple(found)


def exact_series(label: str, style: int, rows: Sequence[Mapping[str, Any]], x: str, y: str, **where: Any) -> Series:
    """Rows of the record as a line without any uncertainty."""
    mine = [row for row in rows if all(row[key] == value for key, value in where.items())]
    points = tuple(Point(float(row[x]), *(float(row[y]),) * 3, 1) for row in mine)
    return Series(label, points, style, known=y == "exact")


def load_lab(folder: Path) -> LabRun:
    """Read an experiment's folder. Raises RunError when a file is missing or damaged."""
    table = read_table(folder / MATRICES)
    names = table["name"].to_numpy(zero_copy_only=False)
    row, column, value = (table[key].to_numpy() for key in ("row", "column", "value"))
    matrices = {}
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        matrices[str(name)] = np.zeros((row[mine].max() + 1, column[mine].max() + 1))
        matrices[str(name)][row[mine], column[mine]] = value[mine]
    return LabRun(Record.read(folder), read_table(folder / TRAJECTORY), matrices)


#: Terms that every page explains.
TERMS = (
    (
        "The task",
        "Every class has two answers, b and c. Of some subjects both are stated (“bridges”), of the others only b. "
        "Asked for the c of the others, which nobody stated, does a model answer as their class would?",
    ),
    (
        "Factorised and merged",
        "One layer of attention reads with a matrix W. The factorised model trains W as a product of two, as real "
        "models do; the merged one trains W itself. Both can express the same.",
    ),
    (
        "Two exact solutions",
        "Of all matrices that state every row with the same margin, one is least in the nuclear norm (the sum of the "
        "singular values), one in the Frobenius norm (the root of the summed squares). The first concludes c, "
        "the second does not.",
    ),
)


@dataclass(frozen=True)
class ExperimentPage:
    """What the page of one experiment says.

    title: the finding as one sentence. facts: (what, number, how to read it) at a glance. sections: (heading, a
    paragraph for a newcomer, figures). notes: what the numbers do not show, or what was found and not expected.
    """

    title: str
    facts: Sequence[tuple[str, str, str]]
    sections: Sequence[tuple[str, str, Sequence[Figure | None]]]
    terms: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


#: What the page of each experiment says, by the experiment's name.
PAGES: dict[str, Callable[[LabRun], ExperimentPage]] = {}


def page_of(name: str) -> Callable[[Callable[[LabRun], ExperimentPage]], Callable[[LabRun], ExperimentPage]]:
    """Register a function as the page of the experiment called `name`."""

    def register(find: Callable[[LabRun], ExperimentPage]) -> Callable[[LabRun], ExperimentPage]:
        PAGES[name] = find
        return find

    return register


def build_lab_page(run: LabRun) -> Page:
    """The page of an experiment; the same run gives the same bytes. Raises UsageError for one that has no page."""
    if run.preset not in PAGES:
        raise UsageError(f"there is no preset called {run.preset!r}", do=nearest(run.preset, PAGES))
    found = PAGES[run.preset](run)
    cards = [Card(what, (Paragraph(reading, "small"),), value=value) for what, value, reading in found.facts]
    sections = [
        Section("found", "What was found", [Cards(cards, facts=True)], hidden=True),
        Section("terms", "What this is about", [Glossary([*TERMS, *found.terms])], hidden=True, aside=True),
        *(
            Section(f"part-{place}", heading, [FigureGrid(figures)], lead)
            for place, (heading, lead, figures) in enumerate(found.sections, start=1)
        ),
        Section("notes", "What to keep in mind", found.notes) if found.notes else None,
    ]
    body = json.dumps(dataclasses.asdict(run.record), indent=1, sort_keys=True, default=dict)
    names = run.trajectory.column_names
    rows = zip(*(run.trajectory[name].to_pylist() for name in names), strict=True)
    return Page(
        found.title,
        f"Spillover lab: {run.preset}",
        f"lab: {run.preset}",
        sections,
        downloads=[
            link("record.json", "Metrics and settings (JSON)", body.encode(), "application/json"),
            link(
                "trajectory.csv", "Every measured step (CSV)", csv_text(names, rows).encode(), "text/csv;charset=utf-8"
            ),
        ],
        made=[("Task, recipes, settings, versions", _made(run))],
        footer="The shaded bands and bars are 95% bootstrap intervals of the mean over seeds.",
    )


def _made(run: LabRun) -> list[tuple[str, Terms]]:
    """How it was made, as groups of terms and values."""
    record, arms = run.record, run.details.get("arms") or {}
    own = {
        "command": f"spillover {record.command}",
        "seeds": ", ".join(map(str, run.seeds)),
        "wall time": duration(record.seconds),
        "identity": record.identity,
    }
    groups: list[tuple[str, Mapping[str, Any]]] = [
        ("Run", own),
        ("Task", run.details.get("task") or {}),
        *((f"Arm: {name}", settings) for name, settings in arms.items()),
        ("Settings", {key: value for key, value in record.settings.items() if key not in ("out", "json")}),
        ("Versions", {**record.versions, "commit": record.commit or ""}),
        ("Hardware", record.hardware),
        ("Hashes", record.hashes),
    ]
    shown = [
        (
            name,
            [(plain(key.replace("_", " ")), plain(value)) for key, value in terms.items() if value not in ("", None)],
        )
        for name, terms in groups
    ]
    return [(name, terms) for name, terms in shown if terms]


def curves(
    name: str,
    title: str,
    unit: str,
    lines: Sequence[Series],
    references: Sequence[tuple[str, float]] = (),
    caption: str = "",
    **axes: Any,
) -> Figure | None:
    """A chart of lines, against the training step on a logarithmic scale unless `axes` says otherwise."""
    axes = {"x_label": "training step", "log_x": True, **axes}
    chart = Chart(title, y_label=unit, lines=tuple(lines), references=tuple(references), **axes)
    return figure("lab-curves", chart, name, caption)


@page_of("two-models")
def two_models(run: LabRun) -> ExperimentPage:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    details, (_, log_n), facts = run.details, run.log_n, []
    accuracy = {kind: run.metric(kind, "implication_accuracy_test")["value"] for kind in KINDS}
    for kind in KINDS:
        loss, apart = run.metric(kind, "implication_loss_test")["value"], details[kind]["cosine_difference"]["value"]
        guess = f"A uniform guess among the implied answers has {number(log_n, 3)}. Paper's recipe."
        facts.append((f"{kind}: loss on unstated implications", number(loss, 3), guess))
        closer = f"The trained matrix is closer to the {'nuclear' if apart > 0 else 'Frobenius'} solution. Exact arm."
        facts.append((f"{kind}: cosine to nuclear minus to Frobenius", number(apart, 3), closer))
    arms = "; ".join(
        f"{kind} {number(details[kind]['paper_arm']['cosine_to_nuclear']['value'])} to nuclear, "
        f"{number(details[kind]['paper_arm']['cosine_to_frobenius']['value'])} to Frobenius"
        for kind in KINDS
    )
    return ExperimentPage(
        "Of two models with the same power, trained on the same facts, the factorised one also answers "
        f"{accuracy['factorised']:.0%} of what nobody stated as the class would; the merged one "
        f"{accuracy['merged']:.0%}.",
        facts,
        [
            (
                "What was stated, and what nobody stated",
                "Both models are trained to fit every stated row. What of the implications nobody stated? At log n a "
                "model does no better than a uniform guess among the implied answers.",
                [
                    curves(
                        name,
                        title,
                        unit,
                        run.kinds(y, arm="paper"),
                        references,
                        "Mean over seeds; the band is its 95% interval. Paper's recipe.",
                        log_y=y == "train_loss",
                    )
                    for name, title, y, unit, references in (
                        ("train-loss", STATED, "train_loss", "nats", ()),
                        ("test-loss", UNSTATED, "implication_loss_test", "nats", (run.log_n,)),
                        ("test-accuracy", ANSWERED, "implication_accuracy_test", "share", ()),
                    )
                ],
            ),
            (
                "What the matrices hold",
                "Rows are answers (facts b above, implied answers c below), columns are what is read: subjects of whom "
                "both answers are stated, subjects of whom the fact alone is, and the two relations. The block that "
                "matters is below right of the middle: what the matrix holds of c for subjects whose c nobody stated. "
                "It is filled where a model concludes c, and empty where it does not.",
                [_matrices(run)],
            ),
            (
                "Which solution each one goes to",
                "Theorem 1 of the paper: under gradients the factorised model's matrix turns towards the nuclear "
                "solution, the merged model's towards the Frobenius solution. Each approaches the least norm of its "
                "own kind from above; and the nuclear optimum is flat, so that margins differ before norms do.",
                _directions(run),
            ),
        ],
        [
            (
                "Two arms",
                "Losses come from the paper's recipe: AdamW, noise tokens, a trained key-query vector. Directions come "
                "from an exact arm: equal attention, no noise, all rows at every step, normalised gradient descent, no "
                "decay. The theory is about gradients; Adam prefers another geometry.",
            )
        ],
        [
            f"Under the paper's AdamW recipe the directions are: {arms}. Adam's update is sign-like and prefers "
            "another geometry, so these cosines test nothing about Theorem 1.",
            "The factorised model's unstated margin may lie well away from the exact nuclear solution's: matrices "
            "within a fraction of a percent of the least norm have quite different margins there.",
        ],
    )


def _matrices(run: LabRun) -> Figure | None:
    titles = {
        "factorised": "trained, factorised",
        "nuclear": "exact, least nuclear norm",
        "merged": "trained, merged",
        "frobenius": "exact, least Frobenius norm",
    }
    maps = tuple(Map(title, run.matrices[name]) for name, title in titles.items() if name in run.matrices)
    sizes = (run.details["task"][name] for name in ("classes", "train", "test"))
    caption = "First seed of the exact arm, each column centred, scaled to a smallest stated margin of 1. One scale."
    return figure("lab-matrices", Maps("Output-value matrices", maps, *sizes), "matrices", caption, wide=True)


def _directions(run: LabRun) -> list[Figure | None]:
    """Cosines with the exact solutions, the norm of each model's own kind, and the unstated margin."""
    exact, solutions = run.details["exact"], (("nuclear", "nuclear"), ("frobenius", "Frobenius"))
    found = []
    for kind in KINDS:
        lines = [
            run.series(f"to the {word} solution", style, "step", f"cosine_to_{name}", arm="exact", model=kind)
            for style, (name, word) in enumerate(solutions)
        ]
        between = ("the two exact solutions with each other", exact["cosine"])
        title, caption = f"Cosine of the {kind} model's matrix", "A claim is the difference of the two lines."
        found.append(curves(f"cosine-{kind}", title, "cosine", lines, [between], caption))
    for style, (kind, (name, word)) in enumerate(zip(KINDS, solutions, strict=True)):
        line = run.series(f"{kind} model", style, "step", f"{name}_over_margin", arm="exact", model=kind)
        optimum = (f"the least possible {word} norm", exact[name]["norm"])
        title, caption = f"{word.capitalize()} norm per margin, {kind} model", "Not drawn until every row is learned."
        found.append(curves(f"norm-{kind}", title, "norm per margin", [line], [optimum], caption, log_y=True))
    margins = [(f"exact, {name}", exact[name]["margin_ratio_test"]) for name, _ in solutions]
    known = [(label, margin) for label, margin in margins if margin is not None]
    title, caption = (
        "Smallest margin of what nobody stated",
        "Above 0, every unstated implication is answered as the class would.",
    )
    both = run.kinds("margin_ratio_test", arm="exact")
    return [*found, curves("margin-ratio", title, PER_MARGIN, both, known, caption, limits=(-0.6, 1.1))]


@page_of("sample-efficiency")
def sample_efficiency(run: LabRun) -> ExperimentPage:
    """One chart an m_test: the exact margin, and what each trained model has."""

    def margin(kind: str, size: Mapping[str, Any]) -> dict[str, Any]:
        return run.metric(f"{kind} train={size['m_train']} test={size['m_test']}", "margin_ratio_test")

    few = [size for size in run.details["sizes"] if size["m_train"] == 1]
    enough = few and all((margin("factorised", size)["low"] or 0) > 0 for size in few)
    return ExperimentPage(
        "One bridging subject a class was enough: the factorised model's unstated margin is above zero."
        if enough
        else "One bridging subject a class was not enough everywhere for a margin above zero on what nobody stated.",
        [
            (
                f"one bridge, {size['m_test']} with the fact only",
                number(margin("factorised", size)["value"]),
                f"unstated margin of the factorised model; the exact solution has {number(size['exact'])}, the merged "
                f"model {number(margin('merged', size)['value'])}",
            )
            for size in few
        ],
        [
            (
                "Margin of what nobody stated, against the number of bridges",
                "Above 0 every unstated implication is answered as the class would. The exact margin of the least "
                "nuclear norm is min(1, √(m_train / m_test)), that of the least Frobenius norm is 0.",
                [_efficiency(run, test) for test in sorted({size["m_test"] for size in run.details["sizes"]})],
            )
        ],
        [("m_train, m_test", "Subjects a class of whom both answers are stated (bridges), and the fact only.")],
        ["The nuclear optimum is flat: training ends near its norm, not at its margins, which may lie on either side."],
    )


def _efficiency(run: LabRun, test: int) -> Figure | None:
    sizes = [size for size in run.details["sizes"] if size["m_test"] == test]
    lines = [
        exact_series("exact, least nuclear norm", 2, sizes, "m_train", "exact"),
        exact_series("solved from the rows alone", 3, sizes, "m_train", "solved"),
        *(
            Series(
                f"{kind}, trained", run.points("m_train", "margin_ratio_test", run.last(model=kind, m_test=test)), style
            )
            for style, kind in enumerate(KINDS)
        ),
    ]
    return curves(
        f"margin-{test}",
        f"{test} subject{'s' if test > 1 else ''} a class with the fact only",
        PER_MARGIN,
        lines,
        caption="Exact arm. Band: 95% interval over seeds.",
        x_label="m_train: bridges a class",
        log_x=False,
        ticks=tuple(sorted({float(size["m_train"]) for size in sizes})),
        limits=(-0.1, 1.1),
    )


@page_of("rank-sweep")
def rank_sweep(run: LabRun) -> ExperimentPage:
    """Test loss and accuracy against d_h at the end, and against time."""
    ranks = run.details["ranks"]
    loss = {rank: run.metric(f"d_h={rank}", "implication_loss_test") for rank in ranks}
    accuracy = {rank: run.metric(f"d_h={rank}", "implication_accuracy_test")["value"] for rank in ranks}
    learned = [rank for rank in ranks if accuracy[rank] >= 0.9]
    narrow, stated = ranks[0], run.metric(f"d_h={ranks[0]}", "train_loss")["value"]
    shown = [rank for rank in ranks if rank in (3, 4, 8, 16, 128)] or ranks
    return ExperimentPage(
        "To conclude nine tenths of what nobody stated, "
        + (f"d_h = {learned[0]} is enough." if learned else "no d_h was enough."),
        [
            (
                f"d_h = {rank}",
                number(loss[rank]["value"], 3),
                f"nats on unstated implications; {accuracy[rank]:.0%} answered as the class would",
            )
            for rank in ranks
        ],
        [
            (
                "How many columns are enough",
                "The same task and recipe with narrower and narrower models, beside the merged model, whose full "
                "matrix has no such limit.",
                [
                    _by_rank(run, "loss", f"{UNSTATED}, after training", "implication_loss_test", "nats", [run.log_n]),
                    _by_rank(run, "accuracy", f"{ANSWERED}, after training", "implication_accuracy_test", "share", []),
                ],
            ),
            (
                "On the way",
                "Narrow models learn the stated rows later, and the unstated ones later still.",
                [
                    curves(
                        name,
                        title,
                        "nats",
                        [
                            run.series(f"d_h = {rank}", style, "step", y, model="factorised", head_dimension=rank)
                            for style, rank in enumerate(shown)
                        ],
                        references,
                        "Paper's recipe.",
                    )
                    for name, title, y, references in (
                        ("train", STATED, "train_loss", ()),
                        ("test", UNSTATED, "implication_loss_test", (run.log_n,)),
                    )
                ],
            ),
        ],
        [("d_h", "The head dimension: columns of W_O and W_V, hence the highest rank that their product can have.")],
        [
            f"With d_h = {narrow} the loss on stated rows ends at {stated:.2g} nats; on unstated implications it is "
            f"between {number(loss[narrow]['low'])} and {number(loss[narrow]['high'])} (95% interval over "
            f"{loss[narrow]['n']} seeds: few)."
        ],
    )


def _by_rank(
    run: LabRun, name: str, title: str, y: str, unit: str, references: Sequence[tuple[str, float]]
) -> Figure | None:
    points = run.points("head_dimension", y, run.last() & ~np.isnan(run.columns["head_dimension"].astype(float)))
    merged = ("merged model", float(run.metric("merged", y)["value"]))
    ticks, caption = tuple(point.x for point in points), "Mean over seeds; the band is its 95% interval."
    lines = [Series("factorised", points, 0)]
    return curves(name, title, unit, lines, [*references, merged], caption, x_label="d_h", ticks=ticks)


STARTS = {
    "symmetric": "Symmetric start, exact gradients",
    "symmetric-perturbed": "Symmetric start with a small random part, exact gradients",
    "random": "Random start, sampled batches (the paper's recipe)",
}


@page_of("key-query")
def key_query(run: LabRun) -> ExperimentPage:
    """The loss on unstated implications against log n, for each start and model."""
    (_, log_n), lowest = run.log_n, {start: run.details["lowest"][f"merged {start}"] for start in STARTS}
    held = all(
        not found["standard_errors_below"] > 3 if start == "random" else found["loss_of_a_seed"] >= log_n - 1e-9
        for start, found in lowest.items()
    )
    captions = dict.fromkeys(STARTS, "Gradient descent on all rows in float64, no noise, no decay.")
    captions["random"] = "AdamW, noise tokens."
    beside = {start: ("Lowest of any one seed", lowest[start]["loss_of_a_seed"]) for start in STARTS}
    beside["random"] = ("Standard error over seeds", lowest["random"]["standard_error"])
    return ExperimentPage(
        f"With its key-query matrix trained, the merged model {'still never gets' if held else 'was seen to get'} "
        f"below log n on what nobody stated, from {len(run.seeds)} starts of each kind.",
        [
            (
                f"merged, {start} start: lowest mean loss",
                number(found["mean_loss"], 4),
                f"log n is {number(log_n, 4)}. {beside[start][0]}: {number(beside[start][1], 4)}.",
            )
            for start, found in lowest.items()
        ],
        [
            (
                UNSTATED,
                "Theorem 3 of the paper: from a symmetric start, the merged model's loss on unstated implications "
                "never falls below log n, the loss of a uniform guess among the implied answers. The factorised case "
                "is open; here it is measured.",
                [
                    curves(
                        f"loss-{start}",
                        title,
                        "nats",
                        run.kinds("implication_loss_test", arm=start),
                        [run.log_n],
                        captions[start],
                    )
                    for start, title in STARTS.items()
                ],
            ),
            (
                STATED,
                "If this loss is small, the loss above is not for want of learning.",
                [
                    curves(
                        f"train-{start}",
                        title,
                        "nats",
                        run.kinds("train_loss", arm=start),
                        (),
                        captions[start],
                        log_y=True,
                    )
                    for start, title in STARTS.items()
                ],
            ),
        ],
        [
            (
                "Symmetric start",
                "All subjects of a kind, all b and all c start with the same random weight, so that no class stands "
                "out, in the output-value matrix and in the key scores alike.",
            )
        ],
        [
            "A symmetric start of the factorised model is a saddle: in exact arithmetic its classes would never part. "
            "In floating point rounding parts them, in an order that has nothing to do with what was stated.",
            "For the random start with sampled batches, “not below” means not below log n by more than three standard "
            "errors.",
        ],
    )


@page_of("architecture")
def architecture(run: LabRun) -> ExperimentPage:
    """Accuracy of both models for every variant, and losses against time."""
    contrast = {name: run.details["contrast"][name] for name in run.details["order"]}
    unclear = [name for name, metric in contrast.items() if not (metric["low"] or 0) > 0]
    return ExperimentPage(
        f"In {len(contrast) - len(unclear)} of {len(contrast)} architectures the factorised network concluded more of "
        "what nobody stated than the merged one.",
        [
            (name, number(metric["value"]), f"interval {number(metric['low'])} to {number(metric['high'])}")
            for name, metric in contrast.items()
        ],
        [
            (
                "What nobody stated, answered as the class would",
                "Each row is one change (or several) to the paper's one linear layer, trained in both ways. A dot is "
                "the mean over seeds, a bar its 95% interval.",
                [
                    _pairs(run, "accuracy", ANSWERED, "implication_accuracy_test", "share", wide=True),
                ],
            ),
            (
                "Losses",
                "Whether the stated rows were learned at all, and how sure the answers to the unstated ones are.",
                [
                    _pairs(run, "train", STATED, "train_loss", "nats"),
                    _pairs(run, "loss", UNSTATED, "implication_loss_test", "nats", run.log_n),
                ],
            ),
            (
                "On the way",
                "Loss on unstated implications while training.",
                [
                    curves(f"way-{place}", name, "nats", run.kinds("implication_loss_test", variant=name), [run.log_n])
                    for place, name in enumerate(contrast)
                ],
            ),
        ],
        [
            (
                "The number on a card",
                "Accuracy of the factorised network minus that of the merged one on what nobody stated. Above 0, the "
                "factorised one concludes more.",
            )
        ],
        [
            f"The difference is not clear of zero for: {', '.join(unclear) or 'none'}.",
            "A network with an MLP or with learned embeddings is factorised in other places, whatever is done to W_O "
            "and W_V. Where merging takes nothing away this may be why; nothing here tests it.",
            f"Intervals are over {len(run.seeds)} seeds; below ten they are shown and decide nothing.",
            "Trained with AdamW on all rows at once, without noise; one step size for all, which need not suit each "
            "alike.",
        ],
    )


def _pairs(
    run: LabRun,
    name: str,
    title: str,
    y: str,
    unit: str,
    reference: tuple[str, float] | None = None,
    wide: bool = False,
) -> Figure | None:
    pairs = []
    for variant in run.details["order"]:
        found = [run.metric(f"{variant} / {kind}", y) for kind in KINDS]
        pairs.append(Pair(variant, tuple(Point(0.0, m["value"], m["low"], m["high"], m["n"]) for m in found)))
    return figure("lab-pairs", Pairs(title, unit, KINDS, tuple(pairs), reference), name, "", wide=wide)


@page_of("dial")
def dial(run: LabRun) -> ExperimentPage:
    """The size of the start, the norm, and added rows."""
    details = run.details
    # The width and step size that are trained from every size of start come first in the table.
    main = {name: run.columns[name][0] for name in ("width", "rate")}
    margins = run.points("sigma", "margin_ratio_test", run.mask(model="factorised", **main))
    small, large = margins[0], margins[-1]
    leads = {row["count"]: row["leaked_minus_unknown"] for row in details["abstaining"] if row["norm"] == "nuclear"}
    worst = max(row["gap"] for row in details["mixed"])
    zero, certified = [("no lead", 0.0)], "certified to a gap of 1e-6."
    return ExperimentPage(
        "From a small start the factorised model concludes what nobody stated, from a large one no longer."
        if small.mean > 0 >= large.mean
        else f"From the smallest start the unstated margin is {number(small.mean)}, from the largest "
        f"{number(large.mean)}.",
        [
            (
                f"start of size {small.x:g}",
                number(small.mean),
                "unstated margin, in units of the smallest stated margin",
            ),
            (
                f"start of size {large.x:g}",
                number(large.mean),
                "the same model, task and loss reached; below 0 some are wrong",
            ),
            (
                "one abstaining row a class",
                f"{number(leads[0], 3)} → {number(leads[1], 3)}",
                "lead of the leaked answer over “unknown”, for subjects of whom neither is stated (exact, certified)",
            ),
        ],
        [
            (
                "The size of the start",
                "Weights start Gaussian with standard deviation sigma / √d_h. All are trained to the same loss on what "
                "was stated. The linearised model is the limit of lazy training.",
                [
                    _by_start(
                        run,
                        main,
                        "start-margin",
                        "Smallest margin of what nobody stated",
                        "margin_ratio_test",
                        PER_MARGIN,
                        ("exact, least nuclear norm", details["exact_margin"]),
                    ),
                    _by_start(
                        run,
                        main,
                        "start-loss",
                        f"{UNSTATED}, among the implied answers",
                        "implication_loss_among",
                        "nats",
                        run.log_n,
                    ),
                ],
            ),
            (
                "The norm",
                "Between the two exact solutions lie those of least (1 − t) · nuclear + t · Frobenius norm. At t = 0 "
                "stands the margin of the one, at t = 1 that of the other.",
                [
                    curves(
                        "mixed",
                        "Margin of what nobody stated at the optimum",
                        PER_MARGIN,
                        [
                            exact_series("by hand, one unknown", 2, details["mixed"], "share", "exact"),
                            exact_series("by the general solver", 0, details["mixed"], "share", "solved"),
                        ],
                        caption=f"Both ways of computing it; the solver's largest certified gap is {worst:.1e}.",
                        x_label="t, share of the Frobenius norm",
                        log_x=False,
                    )
                ],
            ),
            (
                "Rows that abstain, rows that contradict",
                "Four classes of six subjects. Some subjects of each class answer “unknown” to the implication, or "
                "state another class's; the others stay silent. What do the silent ones get?",
                [
                    curves(
                        "abstaining",
                        "Lead of the leaked answer over “unknown”",
                        PER_MARGIN,
                        [
                            exact_series(
                                f"least {word} norm",
                                style,
                                details["abstaining"],
                                "count",
                                "leaked_minus_unknown",
                                norm=word.lower(),
                            )
                            for style, word in enumerate(("nuclear", "Frobenius"))
                        ],
                        zero,
                        f"Exact solutions, {certified}",
                        x_label="subjects a class that say “unknown”",
                        log_x=False,
                        ticks=(0, 1, 2, 3, 4),
                    ),
                    curves(
                        "contradicting",
                        "Lead of the leaked answer over another class's",
                        PER_MARGIN,
                        [
                            exact_series(
                                f"{bridges} bridge{'s' if bridges > 1 else ''} a class",
                                style,
                                details["contradicting"],
                                "count",
                                "leaked_minus_other",
                                norm="nuclear",
                                bridges=bridges,
                            )
                            for style, bridges in enumerate((1, 2))
                        ],
                        zero,
                        f"Least nuclear norm, {certified} Other: the answer that those subjects state.",
                        x_label="subjects a class that contradict",
                        log_x=False,
                        ticks=(0, 1, 2, 3),
                    ),
                ],
            ),
        ],
        [
            (
                "Rich and lazy",
                "From a small start the change is large against the start, and features are learned (rich). From a "
                "large one the model hardly moves and behaves as its linearisation, a fixed kernel (lazy).",
            )
        ],
        [
            "That a pretrained language model starts large, so that gentle fine-tuning is lazy and concludes less, is "
            "a conjecture that this experiment suggests and does not test."
        ],
    )


def _by_start(
    run: LabRun, main: Mapping[str, Any], name: str, title: str, y: str, unit: str, reference: tuple[str, float]
) -> Figure | None:
    """Column y against the size of the start, for each width and step size; the linearised model as a reference."""
    arms = sorted(set(zip(run.columns["width"].tolist(), run.columns["rate"].tolist(), strict=True)))
    others = [arm for arm in arms if arm != tuple(main.values())]
    width = f"d_h = {main['width']:g}"
    lines = [run.series(f"factorised, {width}", 0, "sigma", y, model="factorised", **main)]
    for style, (own, rate) in enumerate(others, start=1):
        label = f"d_h = {own:g}, step size {rate:g}"
        lines.append(run.series(label, style, "sigma", y, model="factorised", width=own, rate=rate))
    linear = run.points("sigma", y, run.mask(model="linearised"))
    references = [reference, *((f"linearised, {width}", point.mean) for point in linear[:1])]
    caption = "Gradient descent to a loss of 0.01, centred at the start; equal attention, no noise. Band: 95% interval."
    return curves(name, title, unit, lines, references, caption, x_label="sigma, size of the start")
