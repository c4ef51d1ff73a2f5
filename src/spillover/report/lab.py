"""The pages of `lab`: what each experiment found in a sentence, its figures, and how it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from spillover.report.lab_plots import Chart, Map, Maps, Pairs, Point, Series
from spillover.report.page import Card, Cards, Figure, FigureGrid, Glossary, Page, Paragraph, Section, figure
from spillover.report.provenance import Terms, duration
from spillover.report.words import number

MATRICES = "matrices.parquet"
KINDS, NORMS = ("factorised", "merged"), ("nuclear", "Frobenius")
#: The measured numbers that most pages show, and the titles of their charts.
LOSSES = ("train_loss", "implication_loss_test", "implication_accuracy_test")
STATED, UNSTATED = "Loss on what was stated", "Loss on what nobody stated"
ANSWERED = "Share of unstated implications answered as the class would"
MARGIN, PER_MARGIN = "Smallest margin of what nobody stated", "per stated margin"
#: Horizontal lines of a chart: name and value.
References = Sequence[tuple[str, float]]


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
        if metric.value is not None:
            found.append(point_of(metric.as_json(), float(place)))
    return tuple(found)


def point_of(metric: Mapping[str, Any], place: float = 0.0) -> Point:
    """A metric of the record as a point of a chart."""
    return Point(place, metric["value"], metric["low"], metric["high"], metric["n"])


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


@dataclass
class ExperimentPage:
    """What the page of an experiment says, filled in by the function registered for it.

    title: the finding as one sentence. facts: (what, number, how to read it) at a glance. sections: heading, a
    paragraph for a newcomer, figures. notes: what the numbers do not show, or what was found and not expected.
    """

    title: str = ""
    facts: list[tuple[str, str, str]] = field(default_factory=list)
    sections: list[tuple[str, str, Sequence[Figure | None]]] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=lambda: list(TERMS))
    notes: Sequence[str] = ()

    def section(self, heading: str, lead: str, *figures: Figure | None) -> None:
        self.sections.append((heading, lead, figures))


Fill = Callable[[LabRun, ExperimentPage], None]
#: What fills in the page of each experiment, by the experiment's name.
PAGES: dict[str, Fill] = {}


def page_of(name: str) -> Callable[[Fill], Fill]:
    """Register a function as what fills in the page of the experiment called `name`."""

    def register(fill: Fill) -> Fill:
        PAGES[name] = fill
        return fill

    return register


def build_lab_page(run: LabRun) -> Page:
    """The page of an experiment; the same run gives the same bytes. Raises UsageError for one that has no page."""
    if run.preset not in PAGES:
        raise UsageError(f"there is no preset called {run.preset!r}", do=nearest(run.preset, PAGES))
    content = ExperimentPage()
    PAGES[run.preset](run, content)
    cards = [Card(what, (Paragraph(reading, "small"),), value=value) for what, value, reading in content.facts]
    parts = [
        Section(f"part-{place}", heading, [FigureGrid(figures)], lead)
        for place, (heading, lead, figures) in enumerate(content.sections, start=1)
    ]
    body = json.dumps(dataclasses.asdict(run.record), indent=1, sort_keys=True, default=dict)
    names = run.trajectory.column_names
    steps = csv_text(names, zip(*(run.trajectory[name].to_pylist() for name in names), strict=True))
    return Page(
        content.title,
        f"Spillover lab: {run.preset}",
        f"lab: {run.preset}",
        [
            Section("found", "What was found", [Cards(cards, facts=True)], hidden=True),
            Section("terms", "What this is about", [Glossary(content.terms)], hidden=True, aside=True),
            *parts,
            Section("notes", "What to keep in mind", content.notes),
        ],
        downloads=[
            link("record.json", "Metrics and settings (JSON)", body.encode(), "application/json"),
            link("trajectory.csv", "Every measured step (CSV)", steps.encode(), "text/csv;charset=utf-8"),
        ],
        made=[("Task, recipes, settings, versions", _made(run))],
        footer="The shaded bands and bars are 95% bootstrap intervals of the mean over seeds.",
    )


def _made(run: LabRun) -> list[tuple[str, Terms]]:
    """How it was made, as groups of terms and values."""
    record, seeds = run.record, ", ".join(map(str, run.seeds))
    took = {"wall time": duration(record.seconds), "identity": record.identity}
    groups: dict[str, Mapping[str, Any]] = {
        "Run": {"command": f"spillover {record.command}", "seeds": seeds, **took},
        "Task": run.details.get("task") or {},
        **{f"Arm: {name}": settings for name, settings in (run.details.get("arms") or {}).items()},
        "Settings": {key: value for key, value in record.settings.items() if key not in ("out", "json")},
        "Versions": {**record.versions, "commit": record.commit},
        "Hardware": record.hardware,
        "Hashes": record.hashes,
    }
    return [
        (name, [(plain(key.replace("_", " ")), plain(value)) for key, value in kept.items()])
        for name, terms in groups.items()
        if (kept := {key: value for key, value in terms.items() if value not in ("", None)})
    ]


def curves(
    name: str, title: str, unit: str, lines: Sequence[Series], beside: References = (), caption: str = "", **axes: Any
) -> Figure | None:
    """A chart of lines, against the training step on a logarithmic scale unless `axes` says otherwise."""
    axes = {"x_label": "training step", "log_x": True, **axes}
    chart = Chart(title, y_label=unit, lines=tuple(lines), references=tuple(beside), **axes)
    return figure("lab-curves", chart, name, caption)


@page_of("two-models")
def two_models(run: LabRun, page: ExperimentPage) -> None:
    """Losses of the paper's recipe, then the direction of the matrix under exact gradients."""
    answered, arms = {}, []
    for kind in KINDS:
        found, paper = run.details[kind], run.details[kind]["paper_arm"]
        answered[kind] = f"{run.metric(kind, 'implication_accuracy_test')['value']:.0%}"
        loss, apart = run.metric(kind, "implication_loss_test")["value"], found["cosine_difference"]["value"]
        guess = f"A uniform guess among the implied answers has {number(run.log_n[1], 3)}. Paper's recipe."
        closer = f"The trained matrix is closer to the {'nuclear' if apart > 0 else 'Frobenius'} solution. Exact arm."
        page.facts.append((f"{kind}: loss on unstated implications", number(loss, 3), guess))
        page.facts.append((f"{kind}: cosine to nuclear minus to Frobenius", number(apart, 3), closer))
        nuclear, frobenius = (number(paper[f"cosine_to_{norm}"]["value"]) for norm in ("nuclear", "frobenius"))
        arms.append(f"{kind} {nuclear} to nuclear, {frobenius} to Frobenius")
    page.title = (
        "Of two models with the same power, trained on the same facts, the factorised one also answers "
        f"{answered['factorised']} of what nobody stated as the class would; the merged one {answered['merged']}."
    )
    caption = "Mean over seeds; the band is its 95% interval. Paper's recipe."
    stated, unstated, share = (run.kinds(y, arm="paper") for y in LOSSES)
    page.section(
        "What was stated, and what nobody stated",
        "Both models are trained to fit every stated row. What of the implications nobody stated? At log n a model "
        "does no better than a uniform guess among the implied answers.",
        curves("train-loss", STATED, "nats", stated, caption=caption, log_y=True),
        curves("test-loss", UNSTATED, "nats", unstated, [run.log_n], caption),
        curves("test-accuracy", ANSWERED, "share", share, caption=caption),
    )
    page.section(
        "What the matrices hold",
        "Rows are answers (facts b above, implied answers c below), columns are what is read: subjects of whom both "
        "answers are stated, subjects of whom the fact alone is, and the two relations. The block that matters is "
        "below right of the middle: what the matrix holds of c for subjects whose c nobody stated. It is filled where "
        "a model concludes c, and empty where it does not.",
        _matrices(run),
    )
    page.section(
        "Which solution each one goes to",
        "Theorem 1 of the paper: under gradients the factorised model's matrix turns towards the nuclear solution, the "
        "merged model's towards the Frobenius solution. Each approaches the least norm of its own kind from above; and "
        "the nuclear optimum is flat, so that margins differ before norms do.",
        *_directions(run),
    )
    term = (
        "Losses come from the paper's recipe: AdamW, noise tokens, a trained key-query vector. Directions come from an "
        "exact arm: equal attention, no noise, all rows at every step, normalised gradient descent, no decay. The "
        "theory is about gradients; Adam prefers another geometry."
    )
    page.terms.append(("Two arms", term))
    page.notes = (
        f"Under the paper's AdamW recipe the directions are: {'; '.join(arms)}. Adam's update is sign-like and prefers "
        "another geometry, so these cosines test nothing about Theorem 1.",
        "The factorised model's unstated margin may lie well away from the exact nuclear solution's: matrices within a "
        "fraction of a percent of the least norm have quite different margins there.",
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
    exact, found = run.details["exact"], list[Figure | None]()
    for kind in KINDS:
        lines = [
            run.series(f"to the {word} solution", style, "step", f"cosine_to_{word.lower()}", arm="exact", model=kind)
            for style, word in enumerate(NORMS)
        ]
        between = ("the two exact solutions with each other", exact["cosine"])
        title, caption = f"Cosine of the {kind} model's matrix", "A claim is the difference of the two lines."
        found.append(curves(f"cosine-{kind}", title, "cosine", lines, [between], caption))
    for style, (kind, word) in enumerate(zip(KINDS, NORMS, strict=True)):
        line = run.series(f"{kind} model", style, "step", f"{word.lower()}_over_margin", arm="exact", model=kind)
        least = (f"the least possible {word} norm", exact[word.lower()]["norm"])
        title, caption = f"{word.capitalize()} norm per margin, {kind} model", "Not drawn until every row is learned."
        found.append(curves(f"norm-{kind}", title, "norm per margin", [line], [least], caption, log_y=True))
    margins = [(f"exact, {word.lower()}", exact[word.lower()]["margin_ratio_test"]) for word in NORMS]
    known = [(label, margin) for label, margin in margins if margin is not None]
    both, caption = run.kinds("margin_ratio_test", arm="exact"), "Above 0, all are answered as the class would."
    return [*found, curves("margin-ratio", MARGIN, PER_MARGIN, both, known, caption, limits=(-0.6, 1.1))]


@page_of("sample-efficiency")
def sample_efficiency(run: LabRun, page: ExperimentPage) -> None:
    """One chart an m_test: the exact margin, and what each trained model has."""
    sizes, least = run.details["sizes"], []
    for size in sizes:
        if size["m_train"] == 1:
            group = f"train=1 test={size['m_test']}"
            factorised, merged = (run.metric(f"{kind} {group}", "margin_ratio_test") for kind in KINDS)
            least.append(factorised["low"] or 0.0)
            reading = (
                f"unstated margin of the factorised model; the exact solution has {number(size['exact'])}, the merged "
                f"model {number(merged['value'])}"
            )
            what = f"one bridge, {size['m_test']} with the fact only"
            page.facts.append((what, number(factorised["value"]), reading))
    page.title = (
        "One bridging subject a class was enough: the factorised model's unstated margin is above zero."
        if least and min(least) > 0
        else "One bridging subject a class was not enough everywhere for a margin above zero on what nobody stated."
    )
    page.section(
        "Margin of what nobody stated, against the number of bridges",
        "Above 0 every unstated implication is answered as the class would. The exact margin of the least nuclear norm "
        "is min(1, √(m_train / m_test)), that of the least Frobenius norm is 0.",
        *(_efficiency(run, test) for test in sorted({size["m_test"] for size in sizes})),
    )
    page.terms.append(
        ("m_train, m_test", "Subjects a class of whom both answers are stated (bridges), and the fact only.")
    )
    page.notes = (
        "The nuclear optimum is flat: training ends near its norm, not at its margins, which may lie on either side.",
    )


def _efficiency(run: LabRun, test: int) -> Figure | None:
    sizes = [size for size in run.details["sizes"] if size["m_test"] == test]
    lines = [
        exact_series("exact, least nuclear norm", 2, sizes, "m_train", "exact"),
        exact_series("solved from the rows alone", 3, sizes, "m_train", "solved"),
    ]
    for style, kind in enumerate(KINDS):
        points = run.points("m_train", "margin_ratio_test", run.last(model=kind, m_test=test))
        lines.append(Series(f"{kind}, trained", points, style))
    title = f"{test} subject{'s' if test > 1 else ''} a class with the fact only"
    caption = "Exact arm. Band: 95% interval over seeds."
    ticks = tuple(sorted({float(size["m_train"]) for size in sizes}))
    axes = {"x_label": "m_train: bridges a class", "log_x": False, "ticks": ticks, "limits": (-0.1, 1.1)}
    return curves(f"margin-{test}", title, PER_MARGIN, lines, (), caption, **axes)


@page_of("rank-sweep")
def rank_sweep(run: LabRun, page: ExperimentPage) -> None:
    """Test loss and accuracy against d_h at the end, and against time."""
    ranks, learned = run.details["ranks"], []
    for rank in ranks:
        loss, share = (run.metric(f"d_h={rank}", name)["value"] for name in LOSSES[1:])
        reading = f"nats on unstated implications; {share:.0%} answered as the class would"
        page.facts.append((f"d_h = {rank}", number(loss, 3), reading))
        learned += [rank] if share >= 0.9 else []
    enough = f"d_h = {learned[0]} is enough" if learned else "no d_h was enough"
    page.title = f"To conclude nine tenths of what nobody stated, {enough}."
    page.section(
        "How many columns are enough",
        "The same task and recipe with narrower and narrower models, beside the merged model, whose full matrix has no "
        "such limit.",
        _by_rank(run, "loss", f"{UNSTATED}, after training", LOSSES[1], "nats", [run.log_n]),
        _by_rank(run, "accuracy", f"{ANSWERED}, after training", LOSSES[2], "share", []),
    )
    shown = [rank for rank in ranks if rank in (3, 4, 8, 16, 128)] or ranks
    stated, unstated = (
        [
            run.series(f"d_h = {rank}", style, "step", y, model="factorised", head_dimension=rank)
            for style, rank in enumerate(shown)
        ]
        for y in LOSSES[:2]
    )
    page.section(
        "On the way",
        "Narrow models learn the stated rows later, and the unstated ones later still.",
        curves("train", STATED, "nats", stated, (), "Paper's recipe."),
        curves("test", UNSTATED, "nats", unstated, [run.log_n], "Paper's recipe."),
    )
    term = "The head dimension: columns of W_O and W_V, hence the highest rank that their product can have."
    page.terms.append(("d_h", term))
    # What the narrowest model learned, so that its failure can be told from not having learned at all.
    ends, test = (run.metric(f"d_h={ranks[0]}", name) for name in LOSSES[:2])
    page.notes = (
        f"With d_h = {ranks[0]} the loss on stated rows ends at {ends['value']:.2g} nats; on unstated implications it "
        f"is between {number(test['low'])} and {number(test['high'])} (95% interval over {test['n']} seeds: few).",
    )


def _by_rank(run: LabRun, name: str, title: str, y: str, unit: str, references: References) -> Figure | None:
    points = run.points("head_dimension", y, run.last() & ~np.isnan(run.columns["head_dimension"].astype(float)))
    merged = ("merged model", float(run.metric("merged", y)["value"]))
    ticks, caption = tuple(point.x for point in points), "Mean over seeds; the band is its 95% interval."
    lines = [Series("factorised", points, 0)]
    return curves(name, title, unit, lines, [*references, merged], caption, x_label="d_h", ticks=ticks)


#: Arms of `key-query`: title and caption.
DESCENT = "Gradient descent on all rows in float64, no noise, no decay."
STARTS = {
    "symmetric": ("Symmetric start, exact gradients", DESCENT),
    "symmetric-perturbed": ("Symmetric start with a small random part, exact gradients", DESCENT),
    "random": ("Random start, sampled batches (the paper's recipe)", "AdamW, noise tokens."),
}


@page_of("key-query")
def key_query(run: LabRun, page: ExperimentPage) -> None:
    """The loss on unstated implications against log n, for each start and model."""
    (_, log_n), held = run.log_n, True
    for start in STARTS:
        lowest = run.details["lowest"][f"merged {start}"]
        if start == "random":
            held &= not lowest["standard_errors_below"] > 3
            beside = f"Standard error over seeds: {number(lowest['standard_error'], 4)}."
        else:
            held &= lowest["loss_of_a_seed"] >= log_n - 1e-9
            beside = f"Lowest of any one seed: {number(lowest['loss_of_a_seed'], 4)}."
        what, reading = f"merged, {start} start: lowest mean loss", f"log n is {number(log_n, 4)}. {beside}"
        page.facts.append((what, number(lowest["mean_loss"], 4), reading))
    page.title = (
        f"With its key-query matrix trained, the merged model {'still never gets' if held else 'was seen to get'} "
        f"below log n on what nobody stated, from {len(run.seeds)} starts of each kind."
    )
    unstated, stated = [], []
    for start, (title, caption) in STARTS.items():
        losses = [run.kinds(y, arm=start) for y in LOSSES[:2]]
        unstated.append(curves(f"loss-{start}", title, "nats", losses[1], [run.log_n], caption))
        stated.append(curves(f"train-{start}", title, "nats", losses[0], (), caption, log_y=True))
    page.section(
        UNSTATED,
        "Theorem 3 of the paper: from a symmetric start, the merged model's loss on unstated implications never falls "
        "below log n, the loss of a uniform guess among the implied answers. The factorised case is open; here it is "
        "measured.",
        *unstated,
    )
    page.section(STATED, "If this loss is small, the loss above is not for want of learning.", *stated)
    term = (
        "All subjects of a kind, all b and all c start with the same random weight, so that no class stands out, in "
        "the output-value matrix and in the key scores alike."
    )
    page.terms.append(("Symmetric start", term))
    page.notes = (
        "A symmetric start of the factorised model is a saddle: in exact arithmetic its classes would never part. In "
        "floating point rounding parts them, in an order that has nothing to do with what was stated.",
        "For the random start with sampled batches, “not below” means not below log n by more than three standard "
        "errors.",
    )


@page_of("architecture")
def architecture(run: LabRun, page: ExperimentPage) -> None:
    """Accuracy of both models for every variant, and losses against time."""
    order, unclear, on_the_way = run.details["order"], [], []
    for place, name in enumerate(order):
        contrast = run.details["contrast"][name]
        reading = f"interval {number(contrast['low'])} to {number(contrast['high'])}"
        page.facts.append((name, number(contrast["value"]), reading))
        unclear += [] if (contrast["low"] or 0) > 0 else [name]
        lines = run.kinds("implication_loss_test", variant=name)
        on_the_way.append(curves(f"way-{place}", name, "nats", lines, [run.log_n]))
    page.title = (
        f"In {len(order) - len(unclear)} of {len(order)} architectures the factorised network concluded more of what "
        "nobody stated than the merged one."
    )
    stated, unstated, share = (
        {name: [point_of(run.metric(f"{name} / {kind}", y)) for kind in KINDS] for name in order} for y in LOSSES
    )
    page.section(
        "What nobody stated, answered as the class would",
        "Each row is one change (or several) to the paper's one linear layer, trained in both ways. A dot is the mean "
        "over seeds, a bar its 95% interval.",
        figure("lab-pairs", Pairs(ANSWERED, "share", KINDS, share), "accuracy", "", wide=True),
    )
    page.section(
        "Losses",
        "Whether the stated rows were learned at all, and how sure the answers to the unstated ones are.",
        figure("lab-pairs", Pairs(STATED, "nats", KINDS, stated), "train", ""),
        figure("lab-pairs", Pairs(UNSTATED, "nats", KINDS, unstated, run.log_n), "loss", ""),
    )
    page.section("On the way", "Loss on unstated implications while training.", *on_the_way)
    term = (
        "Accuracy of the factorised network minus that of the merged one on what nobody stated. Above 0, the "
        "factorised one concludes more."
    )
    page.terms.append(("The number on a card", term))
    page.notes = (
        f"The difference is not clear of zero for: {', '.join(unclear) or 'none'}.",
        "A network with an MLP or with learned embeddings is factorised in other places, whatever is done to W_O and "
        "W_V. Where merging takes nothing away this may be why; nothing here tests it.",
        f"Intervals are over {len(run.seeds)} seeds; below ten they are shown and decide nothing.",
        "Trained with AdamW on all rows at once, without noise; one step size for all, which need not suit each alike.",
    )


@page_of("dial")
def dial(run: LabRun, page: ExperimentPage) -> None:
    """The size of the start, the norm, and added rows."""
    details = run.details
    # The width and step size that are trained from every size of start come first in the table.
    main = {name: run.columns[name][0] for name in ("width", "rate")}
    ends = run.points("sigma", "margin_ratio_test", run.mask(model="factorised", **main))
    small, large = ends[0], ends[-1]
    page.title = (
        "From a small start the factorised model concludes what nobody stated, from a large one no longer."
        if small.mean > 0 >= large.mean
        else f"From the smallest start the unstated margin is {number(small.mean)}, from the largest "
        f"{number(large.mean)}."
    )
    leads = {row["count"]: row["leaked_minus_unknown"] for row in details["abstaining"] if row["norm"] == "nuclear"}
    one = "lead of the leaked answer over “unknown”, for subjects of whom neither is stated (exact, certified)"
    reached = "the same model, task and loss reached; below 0 some are wrong"
    page.facts += [
        (f"start of size {small.x:g}", number(small.mean), "unstated margin, in units of the smallest stated margin"),
        (f"start of size {large.x:g}", number(large.mean), reached),
        ("one abstaining row a class", f"{number(leads[0], 3)} → {number(leads[1], 3)}", one),
    ]
    exact, among = ("exact, least nuclear norm", details["exact_margin"]), f"{UNSTATED}, among the implied answers"
    page.section(
        "The size of the start",
        "Weights start Gaussian with standard deviation sigma / √d_h. All are trained to the same loss on what was "
        "stated. The linearised model is the limit of lazy training.",
        _by_start(run, main, "start-margin", MARGIN, "margin_ratio_test", PER_MARGIN, exact),
        _by_start(run, main, "start-loss", among, "implication_loss_among", "nats", run.log_n),
    )
    mixed = [
        exact_series("by hand, one unknown", 2, details["mixed"], "share", "exact"),
        exact_series("by the general solver", 0, details["mixed"], "share", "solved"),
    ]
    worst, optimum = max(row["gap"] for row in details["mixed"]), "Margin of what nobody stated at the optimum"
    caption = f"Both ways of computing it; the solver's largest certified gap is {worst:.1e}."
    page.section(
        "The norm",
        "Between the two exact solutions lie those of least (1 − t) · nuclear + t · Frobenius norm. At t = 0 stands "
        "the margin of the one, at t = 1 that of the other.",
        _by_count("mixed", optimum, mixed, "t, share of the Frobenius norm", caption),
    )
    abstaining = [
        exact_series(
            f"least {word} norm", style, details["abstaining"], "count", "leaked_minus_unknown", norm=word.lower()
        )
        for style, word in enumerate(NORMS)
    ]
    nuclear = [row for row in details["contradicting"] if row["norm"] == "nuclear"]
    contradicting = [
        exact_series(label, style, nuclear, "count", "leaked_minus_other", bridges=style + 1)
        for style, label in enumerate(("1 bridge a class", "2 bridges a class"))
    ]
    other = "Least nuclear norm, certified to a gap of 1e-6. Other: the answer that those subjects state."
    page.section(
        "Rows that abstain, rows that contradict",
        "Four classes of six subjects. Some subjects of each class answer “unknown” to the implication, or state "
        "another class's; the others stay silent. What do the silent ones get?",
        _by_count(
            "abstaining",
            "Lead of the leaked answer over “unknown”",
            abstaining,
            "subjects a class that say “unknown”",
            "Exact solutions, certified to a gap of 1e-6.",
            beside=[("no lead", 0.0)],
            ticks=(0, 1, 2, 3, 4),
        ),
        _by_count(
            "contradicting",
            "Lead of the leaked answer over another class's",
            contradicting,
            "subjects a class that contradict",
            other,
            beside=[("no lead", 0.0)],
            ticks=(0, 1, 2, 3),
        ),
    )
    term = (
        "From a small start the change is large against the start, and features are learned (rich). From a large one "
        "the model hardly moves and behaves as its linearisation, a fixed kernel (lazy)."
    )
    page.terms.append(("Rich and lazy", term))
    page.notes = (
        "That a pretrained language model starts large, so that gentle fine-tuning is lazy and concludes less, is a "
        "conjecture that this experiment suggests and does not test.",
    )


def _by_count(name: str, title: str, lines: Sequence[Series], x_label: str, caption: str, **more: Any) -> Figure | None:
    """Exact margins against a number of rows or a share."""
    return curves(name, title, PER_MARGIN, lines, caption=caption, x_label=x_label, log_x=False, **more)


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
