"""What a study can show beside a plain table: sets, the paper's table, and ranks by bridging names, rate and adapter.

Each part reads cells into points or rows, and makes of them a figure, a table and sentences. A new one is a plot of
`cells`, a function in PARTS that gives its table and sentences, and its explanation in templates/wording.toml.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from spillover.metrics.implications import (
    LEARNED,
    first_learned,
    implication_rank_test,
    implication_rank_train,
    map_rank,
    margin_ratio,
    recall_rank,
)
from spillover.metrics.intervals import clusters_of, standard_error
from spillover.metrics.ranks import RankTable, answers_at_end, questions
from spillover.record import Metric
from spillover.report import drawing
from spillover.report.drawing import ASSOCIATION, BASELINE, INK, Drawing, label, plot
from spillover.report.page import Cell, DataTable, TableCell, metric_cell, wording
from spillover.report.story import Story, spoken, stories, unique
from spillover.report.study_data import LoadedCell, flat, limits, side_of
from spillover.report.words import interval, number, p_value

SETS, PAPER, RATES = "study-sets", "paper-table", "rank-by-rate"
#: The paper's models, and what each is called here: by its tag and its hub id.
MODELS = {
    "Gemma-2-9B": ("gemma-2-9b", "google/gemma-2-9b"),
    "OLMo-7B": ("olmo-7b", "allenai/OLMo-7B-0424-hf"),
    "Qwen-2-7B": ("qwen2-7b", "Qwen/Qwen2-7B"),
    "Mistral-7B-v0.3": ("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3"),
    "Llama-3-8B": ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
}
#: Pack -> mean rank on unstated implications after training, a number a model in the order of MODELS; 0 is best.
RANKS: dict[str, tuple[float, ...]] = {
    "city-language": (0.00, 0.07, 0.13, 0.00, 0.00),
    "city-language-counterfactual": (0.19, 1.33, 4.55, 2.10, 1.18),
    "country-code": (0.19, 0.15, 3.63, 1.48, 0.77),
    "profession-color": (1.64, 1.84, 0.82, 1.15, 0.93),
    "sport-music": (0.56, 0.17, 0.40, 1.28, 0.63),
}
_MARKS = dict(zip(MODELS, ("x", "+", "^", "v", "*"), strict=True))
_LEGEND: dict[str, Any] = {"ncols": 2, "columnspacing": 1.0}
_SMALL: dict[str, Any] = {"markersize": 6, "markerfacecolor": "none", "alpha": 0.75}
#: Ways of training a set: attribute of AssociationSet, words, marker, and its line below the set's name.
_ARMS = (("frozen", "embeddings frozen", "o", -0.1), ("whole", "all weights trained", "D", 0.1))
_TRUTHS = {True: "true", False: "not true"}
_ONLY = "knows only which answers occur"

#: A row of a table: name, small print below it, cells by column.
Row = tuple[str, str, Mapping[str, Cell]]
#: The table of a part, and sentences computed from the numbers.
Shown = tuple[DataTable | None, list[str]]


def _table(caption: str, corner: str, rows: Sequence[Row], above: Sequence[tuple[str, int]] = ()) -> DataTable:
    """A table with a column for everything that any row has.

    caption: its name in templates/wording.toml. above: text over several columns, and how many.
    """
    columns = unique(column for _, _, cells in rows for column in cells)
    heads: list[list[Cell]] = [["", *(TableCell(text, columns=count) for text, count in above)]] if above else []
    body = []
    for name, small, cells in rows:
        # A name may be broken behind its colon.
        head = Markup("<bdi>{}{}<wbr>{}</bdi>").format(*name.partition(":"))
        body.append([TableCell(head, small), *(cells.get(column, "–") for column in columns)])
    return DataTable(wording(caption), [*heads, [corner, *columns]], [("", body)])


def _value(metric: Metric | None) -> str:
    return "–" if metric is None else number(metric.value)


def _judged(story: Story | None, cell: Callable[[Metric | None], Cell]) -> dict[str, Cell]:
    """What a mean rank is judged by, by column; cell: how the metrics of stated rows are shown."""
    marginal, test, rank = (story.marginal, story.map_test, story.rank) if story else (None, None, None)
    names = ("recall_rank", "implication_rank_train", "forgetting_nats")
    facts, implications, forgetting = (story.metric(name) if story else None for name in names)
    return {
        "baseline": number(marginal),
        "exact map test, p": "–" if test is None else p_value(test["p"]),
        "stated facts": cell(facts),
        "stated implications": cell(implications),
        "forgetting, nats a token": metric_cell(forgetting),
        "clusters": "–" if rank is None else TableCell(str(rank.clusters), "few" if rank.note else ""),
    }


def _numbers(metric: Metric | None) -> dict[str, Any]:
    ends = ("low", "high", "clusters")
    return {"mean_rank": getattr(metric, "value", None), **{end: getattr(metric, end, None) for end in ends}}


def _mark(marker: str, colour: str, **more: Any) -> Line2D:
    """A mark for the legend."""
    return Line2D([], [], linestyle="none", marker=marker, color=colour, **more)


def _dot(axes: Axes, place: float, metric: Metric | None, colour: str, marker: str = "o") -> None:
    """A metric on a line of its own, with its interval as a bar."""
    if metric is None or metric.value is None:
        return
    if ends := limits(metric):
        axes.plot(ends, [place, place], color=colour, linewidth=5, alpha=0.3)
    axes.plot([metric.value], [place], marker=marker, markersize=7, color=colour, clip_on=False)


def _rank_axis(axes: Axes, lines: int) -> None:
    """Ranks from left to right, a line of text for each row, the first at the top."""
    axes.set_ylim(lines - 0.42, -0.62)
    axes.set_xlim(-0.15, None)
    axes.set_xlabel("mean rank of the unstated implication (0 is best)")


@dataclass(frozen=True)
class AssociationSet:
    """One pack. frozen: trained with embeddings left as they are; whole: with all weights. One may be missing."""

    label: str
    frozen: Story | None = None
    whole: Story | None = None

    @property
    def story(self) -> Story:
        """The one to speak of first: with frozen embeddings, if it was run."""
        found = self.frozen or self.whole
        assert found is not None
        return found

    @property
    def null(self) -> bool:
        """Whether its implication rows were shuffled, so that there is nothing to infer."""
        return "null" in self.label.partition(":")[2].split(",")

    @property
    def control(self) -> bool:
        """Whether nothing can be inferred from its rows: they are shuffled, or none states the implication."""
        return self.null or self.story.examples_stated == 0

    @property
    def kind(self) -> str:
        """What kind of implication it is, in words."""
        return "nothing to infer" if self.null else "facts only" if self.control else self.story.kind_in_words

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's numbers for this set in the order of MODELS; empty for other packs."""
        return RANKS.get(self.label, ())


def sets_of(cells: Sequence[LoadedCell]) -> list[AssociationSet]:
    """One row a pack in order of first appearance; a pack trained twice in the same way has two rows."""
    found: dict[str, dict[str, Story]] = {}
    for cell in cells:
        if cell.run is not None and cell.story is not None:
            settings, name = cell.run.record.settings, cell.run.pack_name
            # An adapter leaves the embeddings as they are, too.
            arm = "frozen" if settings.get("freeze_embeddings") or settings.get("lora") else "whole"
            found.setdefault(cell.slug if arm in found.get(name, {}) else name, {})[arm] = cell.story
    return [AssociationSet(name, **arms) for name, arms in found.items()]


def null_distance(row: AssociationSet) -> tuple[float, float, float] | None:
    """The mean rank over shuffles, its cluster standard error, and how many of these it is above the baseline.

    None when there is no such error, or no baseline.
    """
    asked = questions(row.story.after)
    error = standard_error(asked.rank, clusters_of(asked)) if len(asked) else None
    if not error or row.story.marginal is None:
        return None
    mean = float(asked.rank.mean())
    return mean, error, (mean - row.story.marginal) / error


def true_ranks(sets: Sequence[AssociationSet]) -> list[tuple[AssociationSet, Metric]]:
    """For every set that teaches a false map where another set has the true one: the rank of the true answers."""
    judged = [row for row in sets if not row.control]
    truths = {row.story.key: row.story.map for row in judged if row.story.wanted}
    found = []
    for row in judged:
        story = row.story
        if story.kind == "counterfactual" and story.key in truths:
            rank = map_rank(answers_at_end(story.run.answers), str(story.key), truths[story.key])
            found += [(row, rank)] if rank is not None else []
    return found


def set_notes(sets: Sequence[AssociationSet]) -> list[str]:
    """Whether a model that was taught a false map answers by it or by the truth, and how near shuffled sets come to
    their baseline."""
    notes = []
    for row, rank in true_ranks(sets):
        taught = row.story.rank
        nearer = "the true" if taught and (rank.value or 0.0) < (taught.value or 0.0) else "the taught"
        notes.append(
            f"{row.label}: the taught answers have a mean rank of {_value(taught)} ({interval(taught)}), the true "
            f"ones, which no training row states, {number(rank.value)} ({interval(rank)}): {nearer} answers stand "
            "higher."
        )
    for row in sets:
        if row.null and (found := null_distance(row)) is not None:
            seeds, (mean, error, distance) = len(row.story.run.seeds), found
            notes.append(
                f"{row.label}: over {seeds} {'shuffle' if seeds == 1 else 'shuffles'} the mean rank is "
                f"{number(mean)} ± {number(error)} (cluster standard error), {number(distance, 1)} standard errors "
                f"from {number(row.story.marginal)}: {'within' if abs(distance) <= 2 else 'not within'} two of them."
            )
    return notes


def show_sets(cells: Sequence[LoadedCell]) -> Shown:
    """One row a set: before, after in both ways of training, what it is judged by, and the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None, []
    arms = {f"after, {words}": arm for arm, words, *_ in _ARMS if arm == "frozen" or any(row.whole for row in sets)}
    rows: list[Row] = []
    for row in sets:
        after = {text: metric_cell(getattr(getattr(row, arm), "rank", None)) for text, arm in arms.items()}
        ours = {"before": metric_cell(row.story.rank_before), **after, **_judged(row.story, _value)}
        rows.append((row.label, row.kind, {**ours, **dict(zip(MODELS, map(number, row.published), strict=False))}))
    models = sorted({str(row.story.run.record.settings.get("model")) for row in sets})
    above, notes = [(f"here: {', '.join(models)}", len(ours))], set_notes(sets)
    if any(row.published for row in sets):
        above.append(("the paper, all weights trained", len(MODELS)))
        notes += [wording("paper_source"), wording("paper_differs")]
    return _table("sets_caption", "set", rows, above), notes


@plot(SETS, of="cells")
def draw_study_sets(cells: Sequence[LoadedCell], name: str = SETS) -> Drawing | None:
    """Per set: before (hollow), after with its 95% interval (circle; diamond: all weights), the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None
    handles = {"before training": _mark("o", INK, markerfacecolor="none", markersize=7)}
    for arm, words, marker, _ in _ARMS:
        for wanted, (colour, _) in ASSOCIATION.items():
            if any((story := getattr(row, arm)) is not None and story.wanted == wanted for row in sets):
                handles[f"{words}, {_TRUTHS[wanted]}"] = _mark(marker, colour, markersize=7)
    handles["knows which answers occur"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.5)
    if any(row.published for row in sets):
        handles |= {f"paper: {model}": _mark(marker, INK, **_SMALL) for model, marker in _MARKS.items()}
    with drawing.canvas(2.4 + 0.92 * len(sets)) as (figure, axes):
        drawn = [_draw_set(axes, index, row) for index, row in enumerate(sets)]
        _rank_axis(axes, len(sets))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        line = next((row.story.marginal for row in sets if row.story.marginal is not None), None)
        baseline = "" if line is None else f". Knowing only which answers occur gives {line:.2f}"
        text = "; ".join(words for _, words in drawn) + baseline + "."
        numbers = [row for rows, _ in drawn for row in rows]
        title = "Mean rank of the unstated implication by set"
        return drawing.finish(figure, name, title, text, numbers, handles, **_LEGEND)


def _draw_set(axes: Axes, index: int, row: AssociationSet) -> tuple[list[dict[str, Any]], str]:
    """Draw a set on its line; one row of numbers a marker, and the set in words."""
    axes.text(0, index - 0.28, f"{label(row.label, 40)} ({row.kind})", va="bottom")
    first = row.story.rank_before
    if first is not None and first.value is not None:
        axes.plot([first.value], [index - 0.1], marker="o", markersize=7, markerfacecolor="none", color=INK)
    rows, found = [], []
    for arm, words, marker, below in _ARMS:
        story: Story | None = getattr(row, arm)
        if story is None:
            continue
        _dot(axes, index + below, story.rank, ASSOCIATION[story.wanted][0], marker)
        for when, metric in (("before", story.rank_before), ("after", story.rank)):
            if metric is not None:
                head = {"set": row.label, "model": story.run.model, "trained": words, "when": when}
                rows.append({**head, **_numbers(metric), "baseline": story.marginal})
        found += [f"{_value(story.rank)} {words}"] if story.rank else []
    for (model, marker), rank in zip(_MARKS.items(), row.published, strict=False):
        axes.plot([rank], [index + 0.3], color=INK, linestyle="none", marker=marker, clip_on=False, **_SMALL)
        head = {"set": row.label, "model": f"{model} (the paper)", "trained": _ARMS[1][1], "when": "after"}
        rows.append({**head, "mean_rank": rank})
    if row.story.marginal is not None:
        # One line through everything, broken where a set has its name.
        axes.plot([row.story.marginal] * 2, [index - 0.27, index + 0.45], **BASELINE)
    paper = f", the paper's models {min(row.published):.2f} to {max(row.published):.2f}" if row.published else ""
    return rows, f"{row.label}: {', '.join(found)}{paper}"


@dataclass(frozen=True)
class PaperRow:
    """One model on one set. story: ours, if any; state: why there is none; published: the paper's mean rank, if any."""

    model: str
    pack: str
    story: Story | None
    state: str
    published: float | None

    @property
    def rank(self) -> Metric | None:
        """Ours: mean rank of the unstated implication after training."""
        return self.story.rank if self.story else None


def name_of(model: str) -> str:
    """What the paper calls a model that is named by its tag or hub id; other models keep their own name."""
    return next((name for name, called in MODELS.items() if model in called), model)


def paper_rows(cells: Sequence[LoadedCell]) -> list[PaperRow]:
    """Every model and set of the paper in its order, then those of the study that it has not; one row a cell."""
    found: dict[tuple[str, str], list[LoadedCell]] = {}
    for cell in cells:
        found.setdefault((name_of(cell.setting("model")), cell.setting("pack")), []).append(cell)
    published = {(name, pack): rank for pack, ranks in RANKS.items() for name, rank in zip(MODELS, ranks, strict=True)}
    rows = []
    for model in unique([*MODELS, *(model for model, _ in found)]):
        for pack in unique([*RANKS, *(pack for _, pack in found)]):
            theirs = published.get((model, pack))
            if (model, pack) not in found and theirs is not None:
                rows.append(PaperRow(model, pack, None, "not run", theirs))
            for cell in found.get((model, pack), ()):
                state = {"done": "" if cell.story else "nothing was asked", "failed": "failed"}
                rows.append(PaperRow(model, pack, cell.story, state.get(cell.status, "not run"), theirs))
    return rows


def beside(rows: Sequence[PaperRow]) -> list[str]:
    """How far ours and the paper's agree, in sentences computed from both."""
    sides = [side_of(row.rank, row.published) for row in rows]
    found, both = [], sum(side is not None for side in sides)
    if both:
        found.append(f"Of {both} numbers that both have, {sides.count(0)} of the paper’s lie within our interval.")
    for wanted, words in ((-1, "below"), (1, "above")):
        apart = [
            f"{row.model} on {row.pack} ({_value(row.rank)} here, {number(row.published)} there)"
            for row, side in zip(rows, sides, strict=True)
            if side == wanted
        ]
        found += [f"The paper’s lie {words} our interval for {', '.join(apart)}."] if apart else []
    missing = sum(row.published is not None and row.rank is None for row in rows)
    if missing:
        count = sum(map(len, RANKS.values()))
        found.append(f"{missing} of the paper’s {count} numbers have none of ours beside them.")
    return found


def show_paper(cells: Sequence[LoadedCell]) -> Shown:
    """One row a model and set: ours before and after, the paper's, and what ours rests on."""
    rows, found = paper_rows(cells), []
    for row in rows:
        seeds = len(row.story.run.seeds) if row.story else 3
        rate = row.story.run.record.settings.get("lr") if row.story else None
        small = row.story.kind_in_words if row.story else ""
        small += "" if seeds == 3 else f", {seeds} {'seed' if seeds == 1 else 'seeds'}"
        line: dict[str, Cell] = {
            "before": metric_cell(row.story.rank_before if row.story else None),
            "here, after": row.state or metric_cell(row.rank),
            "the paper, after": number(row.published),
            **_judged(row.story, metric_cell),
            "rate": "–" if rate is None else scientific(float(rate)),
        }
        found.append((f"{row.model}, {row.pack}", small, line))
    notes = [*beside(rows), wording("paper_source"), wording("paper_unknown")]
    return _table("paper_caption", "model and set", found), notes


@plot(PAPER, of="cells")
def draw_paper_table(cells: Sequence[LoadedCell], name: str = PAPER) -> Drawing | None:
    """Set by set one line a model: a circle with its 95% interval for ours, a cross for the paper's."""
    rows = paper_rows(cells)
    lines: list[tuple[str, PaperRow | None]] = []
    for pack in unique(row.pack for row in rows):
        lines.append((label(pack, 34), None))
        for each in [row for row in rows if row.pack == pack]:
            lines.append((f"{label(each.model, 24)} ({each.state})" if each.state else label(each.model, 34), each))
    wanted = {row.story.wanted for row in rows if row.story}
    handles = {f"here, {_TRUTHS[each]}": _mark("o", look[0]) for each, look in ASSOCIATION.items() if each in wanted}
    if any(row.published is not None for row in rows):
        handles["the paper"] = _mark("x", INK)
    with drawing.canvas(1.4 + 0.24 * len(lines)) as (figure, axes):
        for place, (_, row) in enumerate(lines):
            if row is not None and row.story:
                _dot(axes, place, row.rank, ASSOCIATION[row.story.wanted][0])
            if row is not None and row.published is not None:
                axes.plot([row.published], [place], marker="x", markersize=6, color=INK, clip_on=False)
        baselines = {row.story.marginal for row in rows if row.story}
        if len(baselines) == 1 and (line := baselines.pop()) is not None:
            handles[f"{_ONLY}: {line:.2f}"] = axes.axvline(line, **BASELINE)
        _rank_axis(axes, len(lines))
        axes.set_yticks(range(len(lines)), [text for text, _ in lines])
        for tick, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        numbers, said = [], []
        for row in rows:
            head = {"model": row.model, "set": row.pack, "state": row.state or "done"}
            numbers.append({**head, **_numbers(row.rank), "paper": row.published})
            ours = f"{_value(row.rank)} here" if row.rank else row.state
            there = "" if row.published is None else f", {row.published:.2f} in the paper"
            said.append(f"{row.model} on {row.pack}: {ours}{there}")
        title = "Mean rank by model and set, here and in the paper"
        return drawing.finish(figure, name, title, "; ".join(said) + ".", numbers, handles, **_LEGEND)


@dataclass(frozen=True)
class Point:
    """An implication of a cell as a place on a curve. label: of its curve. rank: of what was not stated.

    x: bridging names a pair, learning rate, or rank of the adapter (infinite for the weights themselves). below: what
    the lower panel shows: the margin in units of the stated ones' (None without stated ones), or forgetting.
    """

    label: str
    story: Story
    x: float
    rank: Metric
    below: Metric | None

    @property
    def mean(self) -> float:
        """The mean rank itself."""
        return math.nan if self.rank.value is None else self.rank.value

    @property
    def place(self) -> str:
        return f"{self.x:g}" if math.isfinite(self.x) else "weights"

    def numbers(self, second: str) -> dict[str, Any]:
        """The point as a row below its figure. second: what `below` is."""
        names = {second: "value", f"{second}_low": "low", f"{second}_high": "high"}
        below = {name: getattr(self.below, part, None) for name, part in names.items()}
        return {**_numbers(self.rank), "baseline": self.story.marginal, **below}


OnCurve = TypeVar("OnCurve", bound=Point)


def curves_of(points: Sequence[OnCurve]) -> dict[str, list[OnCurve]]:
    """Label -> its points from left to right; labels in order of first appearance."""
    labels, by_place = unique(point.label for point in points), sorted(points, key=lambda point: point.x)
    return {text: [point for point in by_place if point.label == text] for text in labels}


def _ordered(points: Sequence[OnCurve]) -> list[OnCurve]:
    return [point for own in curves_of(points).values() for point in own]


def _listed(points: Sequence[Point]) -> str:
    """Every mean rank in words, curve by curve."""
    curves = curves_of(points).items()
    return "; ".join(f"{text}: {', '.join(f'{p.mean:.2f} at {p.place}' for p in own)}" for text, own in curves)


def _curve(axes: Axes, places: Sequence[tuple[float, Metric | None]], look: Any, joined: int | None = None) -> Line2D:
    """Metrics against x, with their intervals as a band. joined: how many of the marks a line joins, without a band."""
    colour, dash, marker = look
    known = [(x, metric) for x, metric in places if metric is not None]
    at, low, high = np.array([(x, *ends) for x, metric in known if (ends := limits(metric))]).reshape(-1, 3).T
    if joined is None:
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    else:
        axes.vlines(at, low, high, color=colour, linewidth=1.5)
    x, values = [x for x, _ in known], [math.nan if m.value is None else m.value for _, m in known]
    axes.plot(x[:joined], values[:joined], color=colour, linestyle=dash, linewidth=2, clip_on=False)
    axes.plot(x, values, color=colour, linestyle="none", marker=marker, clip_on=False)
    return Line2D([], [], color=colour, linestyle=dash, linewidth=2, marker=marker)


def _finish(
    figure: Figure, handles: Mapping[str, Any], name: str, title: str, said: str, rows: list[dict[str, Any]]
) -> Drawing:
    """Dress two panels, ranks above and something else below, and render them."""
    above, below = figure.axes
    above.set_ylabel("mean rank (0 is best)")
    above.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    return drawing.finish(figure, name, title, said, rows, handles, handlelength=3)


def _dressed(points: Sequence[OnCurve]) -> list[tuple[str, Sequence[OnCurve], Any]]:
    """For each curve its name in the legend, its points, and its colour, dash and marker."""
    curves = curves_of(points)
    wanted = [own[0].story.wanted for own in curves.values()]
    names = [f"{label(text, 30)} ({_TRUTHS[truth]})" for text, truth in zip(curves, wanted, strict=True)]
    return list(zip(names, curves.values(), drawing.looks(wanted), strict=True))


def _baseline(axes: Axes, points: Sequence[Point]) -> dict[str, Any]:
    """The first point's baseline as a line, by its name in the legend."""
    line = next((point.story.marginal for point in points if point.story.marginal is not None), None)
    return {} if line is None else {f"{_ONLY}: {line:.2f}": axes.axhline(line, **BASELINE)}


@dataclass(frozen=True)
class BridgePoint(Point):
    """One cell, by how many names a pair had the implication stated. unstated: how many had not."""

    unstated: float

    @property
    def theory(self) -> float:
        """Margin of the unstated implication in the one-layer model of least nuclear norm, per stated margin."""
        return min(1.0, math.sqrt(self.x / self.unstated))


def bridge_points(cells: Sequence[LoadedCell]) -> list[BridgePoint]:
    """A point a cell that was run, set by set in order of first appearance, fewest bridging names first."""
    points = []
    for story in [cell.story for cell in cells if cell.story]:
        if story.rank is None:
            continue
        pairs = max(1, len(set(story.after.cluster.tolist())))
        asked = len({*zip(story.after.seed.tolist(), story.after.subject.tolist(), strict=True)})
        name, _, options = story.run.pack_name.partition(":")
        others = ",".join(option for option in options.split(",") if option and not option.startswith("bridge="))
        stated, unstated = story.examples_stated / pairs, asked / max(1, len(story.run.seeds)) / pairs
        ratio, text = margin_ratio(answers_at_end(story.run.answers), story.key), f"{name}:{others}" if others else name
        points.append(BridgePoint(text, story, stated, story.rank, ratio, unstated))
    return _ordered(points)


def parting(points: Sequence[BridgePoint]) -> list[str]:
    """Where theory and model agree and where they part, as sentences computed from the points."""
    found = ["In theory one bridging name a pair is enough to put the implied answer first, true or not."]
    for name, own in curves_of(points).items():
        clear = _from(
            [p.story.marginal is not None and p.rank.high is not None and p.rank.high < p.story.marginal for p in own]
        )
        first = _from([p.mean <= LEARNED for p in own])
        if clear is None:
            found.append(f"{name}: the interval is not clear of the baseline even at the most bridging names.")
            continue
        shown = f"{name}: the interval is clear of the baseline from {own[clear].place} bridging names a pair on"
        end = "does not fall to 0.1 here" if first is None else f"is 0.1 or less from {own[first].place} on"
        found.append(f"{shown}, and the mean rank {end}.")
    for side, words in ((-1, "lies above"), (1, "lies below"), (0, "cannot be told from")):
        here = [
            f"{p.label} at {p.place} ({_value(p.below)}, {interval(p.below)}; theory {number(p.theory)})"
            for p in points
            if side_of(p.below, p.theory) == side
        ]
        found += [f"The model’s margin {words} the theory’s: {', '.join(here)}."] if here else []
    return found


def _from(held: Sequence[bool]) -> int | None:
    """The first place from which on every entry holds."""
    return next((place for place in range(len(held)) if all(held[place:])), None)


def show_bridging(cells: Sequence[LoadedCell]) -> Shown:
    """No table; where theory and model part."""
    return None, parting(bridge_points(cells))


@plot("rank-by-bridging", of="cells")
def draw_rank_by_bridging(cells: Sequence[LoadedCell], name: str = "rank-by-bridging") -> Drawing | None:
    """Above the rank, a curve a set with its interval; below, margins per stated margin, the theory dotted."""
    points = bridge_points(cells)
    if not points:
        return None
    theory = sorted({(point.x, point.theory) for point in points})
    with drawing.panels(6.3 + 0.25 * len(curves_of(points)), 2) as (figure, (above, below)):
        handles: dict[str, Any] = {}
        for text, own, look in _dressed(points):
            _curve(below, [(point.x, point.below) for point in own], look)
            handles[text] = _curve(above, [(point.x, point.rank) for point in own], look)
        handles |= _baseline(above, points)
        below.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
        style: dict[str, Any] = {"color": INK, "linestyle": (0, (1, 2)), "marker": "D", "markerfacecolor": "none"}
        (handles["theory: min(1, √(bridging / other names))"],) = below.plot(*zip(*theory, strict=True), **style)
        below.set_ylabel("margin, per stated margin")
        below.set_xlabel("bridging names a pair")
        stated = sorted({point.x for point in points})
        below.set_xticks(stated, [f"{x:g}" for x in stated])
        rows = []
        for p in points:
            head = {"set": p.label, "bridging_names": p.x, "other_names": p.unstated}
            rows.append({**head, **p.numbers("margin"), "theory_margin": p.theory})
        exact = ", ".join(f"{margin:.2f} at {x:g}" for x, margin in theory)
        said = f"Mean rank by bridging names a pair. {_listed(points)}. Margin in theory: {exact}."
        return _finish(figure, handles, name, "How many bridging names a pair it takes", said, rows)


class SeedPoint(NamedTuple):
    """One seed at its first checkpoint with every stated row learned; at its last when there is none."""

    seed: int
    epoch: int
    rank: float
    learned: bool


@dataclass(frozen=True)
class RatePoint(Point):
    """One cell, each seed read at its own checkpoint. recall, stated: rank of the facts, and of what was stated."""

    model: str
    pack: str
    recall: Metric | None
    stated: Metric | None
    seeds: tuple[SeedPoint, ...]

    @property
    def learned(self) -> bool:
        """Whether every seed learned its stated rows."""
        return all(seed.learned for seed in self.seeds)

    @property
    def epochs(self) -> str:
        """Passes it took, from the fastest seed to the slowest."""
        found = [seed.epoch for seed in self.seeds]
        return " to ".join(map(str, sorted({min(found), max(found)})))

    @property
    def unlearned(self) -> str:
        """How many seeds never learned their stated rows, in words; nothing when all did."""
        never = sum(not seed.learned for seed in self.seeds)
        return f"{never} of {len(self.seeds)} seeds never learned" if never else ""


def scientific(rate: float) -> str:
    """A learning rate as 5e−5."""
    digits, _, power = f"{rate:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "−")


def rate_points(cells: Sequence[LoadedCell]) -> list[RatePoint]:
    """A point a cell that was run, set by set in order of first appearance, slowest rate first."""
    found = [cell.story for cell in cells if cell.story]
    several = len({story.run.record.settings.get("model") for story in found}) > 1
    points = []
    for story in found:
        ranks, settings = story.run.ranks, story.run.record.settings
        first = first_learned(ranks)
        chosen = {seed: epoch or int(ranks.only(seed=seed).checkpoint.max()) for seed, epoch in first.items()}
        rows, asked = _at(ranks, chosen), _at(story.asked, chosen)
        rank, model, pack = implication_rank_test(asked), str(settings.get("model")), story.run.pack_name
        if settings.get("lr") is None or rank is None:
            continue
        seeds = tuple(
            SeedPoint(seed, epoch, float(asked.only(seed=seed).rank.mean()), first[seed] is not None)
            for seed, epoch in chosen.items()
        )
        text, stated = f"{model}, {pack}" if several else pack, (recall_rank(rows), implication_rank_train(rows))
        points.append(RatePoint(text, story, float(settings["lr"]), rank, None, model, pack, *stated, seeds))
    return _ordered(points)


def _at(table: RankTable, chosen: Mapping[int, int]) -> RankTable:
    """The rows of each seed at the checkpoint chosen for it."""
    return table.where(table.checkpoint == np.array([chosen[seed] for seed in table.seed.tolist()]))


class ChosenRate(NamedTuple):
    """The learning rate of a model, or None where no rate taught it everything; why, in a sentence."""

    model: str
    rate: float | None
    sentence: str


def chosen_rates(points: Sequence[RatePoint]) -> list[ChosenRate]:
    """For each model the lowest rate at which every run, on every set that was swept, learned what was stated.

    What was not stated has no say, so that no rate is chosen for its conclusions.
    """
    found = []
    for model in unique(point.model for point in points):
        own = [point for point in points if point.model == model]
        packs, rates = {point.pack for point in own}, sorted({point.x for point in own})
        if len(rates) < 2:
            continue
        whole = (rate for rate in rates if {p.pack for p in own if p.x == rate and p.learned} == packs)
        rate = next(whole, None)
        why = f"none from {scientific(rates[0])} to {scientific(rates[-1])} taught all that was stated in every run"
        if rate is not None:
            passes = ", ".join(point.epochs for point in own if point.x == rate)
            why = f"{scientific(rate)}, the lowest at which every run learned what was stated ({passes} passes)"
        found.append(ChosenRate(model, rate, f"Rate for {model}: {why}."))
    return found


def trend(points: Sequence[RatePoint]) -> list[str]:
    """What changes from the lowest rate to the highest, a sentence a set with several rates."""
    found = []
    for name, own in curves_of([point for point in points if point.learned]).items():
        if len(own) > 1:
            ends = [own[0], own[-1]]
            said = " to ".join(f"{number(p.mean)} at {scientific(p.x)} ({interval(p.rank)})" for p in ends)
            (low, high), (other_low, other_high) = (limits(p.rank) or (math.nan, math.nan) for p in ends)
            apart = "do not overlap" if low > other_high or other_low > high else "overlap"
            learned = f"{name}: when the stated rows are learned"
            found.append(f"{learned}, the mean rank goes from {said}; the intervals {apart}.")
    return found


def show_rates(cells: Sequence[LoadedCell]) -> Shown:
    """One row a set and learning rate, each seed read at the first checkpoint at which its stated rows are learned."""
    points = rate_points(cells)
    rows: list[Row] = []
    for point in points:
        line: dict[str, Cell] = {
            "passes": point.epochs,
            "unstated implication, mean rank": metric_cell(point.rank),
            "stated facts": _value(point.recall),
            "stated implications": _value(point.stated),
        }
        rows.append((f"{point.label}, {scientific(point.x)}", point.unlearned, line))
    notes = [*trend(points), *(each.sentence for each in chosen_rates(points))]
    return _table("rates_caption", "set and learning rate", rows), notes


@plot(RATES, of="cells")
def draw_rank_by_rate(cells: Sequence[LoadedCell], name: str = RATES) -> Drawing | None:
    """Above the rank, with its interval and a dash a seed; below, the passes it took. Hollow: never learned."""
    points = rate_points(cells)
    if not points:
        return None
    rates = sorted({point.x for point in points})
    with drawing.panels(6.3 + 0.25 * len(curves_of(points)), 2) as (figure, (above, below)):
        handles: dict[str, Any] = {}
        for text, own, (colour, dash, marker) in _dressed(points):
            handles[text] = _curve(above, [(point.x, point.rank) for point in own], (colour, dash, ""))
            handles[text].set_marker(marker)
            passes = [sum(seed.epoch for seed in point.seeds) / len(point.seeds) for point in own]
            below.plot([point.x for point in own], passes, color=colour, linestyle=dash, linewidth=2)
            for point, took in zip(own, passes, strict=True):
                face = colour if point.learned else "none"
                shape: dict[str, Any] = {"marker": marker, "markersize": 7, "markerfacecolor": face}
                above.plot([point.x], [point.mean], color=colour, clip_on=False, **shape)
                below.plot([point.x], [took], color=colour, **shape)
                for seed in point.seeds if len(point.seeds) > 1 else ():
                    above.plot([point.x], [seed.rank], marker="_", color=colour, markersize=9)
                    below.plot([point.x], [seed.epoch], marker="_", color=colour, markersize=9)
        handles |= _baseline(above, points)
        below.set_xscale("log")
        below.set_xticks(rates, [scientific(rate) for rate in rates])
        below.xaxis.set_minor_formatter(NullFormatter())
        below.minorticks_off()
        below.set_xlabel("learning rate")
        below.set_ylabel("passes it took")
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if any(len(point.seeds) > 1 for point in points):
            handles["one seed"] = _mark("_", INK, markersize=9)
        if not all(point.learned for point in points):
            handles["hollow: stated rows not learned by the end"] = _mark("o", INK, markerfacecolor="none")
        rows: list[dict[str, Any]] = []
        said = []
        for point in points:
            head = {"set": point.label, "learning_rate": f"{point.x:g}", "seed": None, "passes": point.epochs}
            rows.append({**head, **_numbers(point.rank), "learned": point.learned})
            for seed in point.seeds:
                one = {"seed": seed.seed, "passes": seed.epoch, "mean_rank": seed.rank, "learned": seed.learned}
                rows.append({**head, **one})
            never = f" ({point.unlearned})" if point.unlearned else ""
            said.append(f"{point.label} at {point.x:g}: rank {point.mean:.2f} after {point.epochs} passes{never}")
        title = "Mean rank once the stated rows are learned, by learning rate"
        return _finish(figure, handles, name, title, "; ".join(said) + ".", rows)


def adapter_points(cells: Sequence[LoadedCell]) -> list[Point]:
    """The cells' implications, by the rank of the adapter, the weights themselves last."""
    found = []
    for story in [story for cell in cells if cell.run for story in stories(cell.run, cell.slug)]:
        if story.key is not None and story.rank is not None:
            adapter = float(story.run.record.settings.get("lora") or math.inf)
            text, forgetting = spoken(f"{story.given} → {story.then}"), story.metric("forgetting_nats")
            found.append(Point(text, story, adapter, story.rank, forgetting))
    return _ordered(found)


def show_adapters(cells: Sequence[LoadedCell]) -> Shown:
    """Every metric of the cells; no sentences."""
    return cells_table(cells), []


@plot("rank-by-adapter", of="cells")
def draw_rank_by_adapter(cells: Sequence[LoadedCell], name: str = "rank-by-adapter") -> Drawing | None:
    """Above the rank, a curve an implication with its interval; below, forgetting. The weights stand apart."""
    points = adapter_points(cells)
    if not points:
        return None
    ticks = {point.x: point.place for point in sorted(points, key=lambda point: point.x)}
    places = list(ticks)
    with drawing.panels(6.3 + 0.25 * len(curves_of(points)), 2) as (figure, (above, below)):
        handles: dict[str, Any] = {}
        for text, own, look in _dressed(points):
            # The weights are no rank further on, so no line leads there.
            joined = sum(math.isfinite(point.x) for point in own)
            if not handles:
                _curve(below, [(places.index(point.x), point.below) for point in own], (INK, "-", "D"), joined)
            handles[text] = _curve(above, [(places.index(point.x), point.rank) for point in own], look, joined)
        handles |= _baseline(above, points)
        below.set_xticks(range(len(ticks)), list(ticks.values()))
        below.set_xlabel("rank of the adapter, or the weights themselves")
        below.set_ylabel("forgotten (nats a token)")
        below.set_ylim(bottom=0)
        ranks = [int(point.x) if math.isfinite(point.x) else None for point in points]
        heads = [{"implication": point.label, "adapter_rank": x} for point, x in zip(points, ranks, strict=True)]
        rows = [{**head, **point.numbers("forgetting")} for head, point in zip(heads, points, strict=True)]
        said = f"Mean rank by the rank of the adapter. {_listed(points)}."
        title = "Mean rank of unstated implications by the rank of the adapter"
        return _finish(figure, handles, name, title, said, rows)


def cells_table(cells: Sequence[LoadedCell]) -> DataTable:
    """One row a cell, one column a metric, whatever the verb; of several implications, that over all of them.

    Where no record pools the seeds of a cell, each of them has a row.
    """
    rows: list[Row] = []
    for cell in cells:
        if cell.metrics or not cell.by_seed:
            rows.append((cell.slug, cell.status, _fields(cell.metrics)))
        else:
            own = cell.by_seed.items()
            rows += [(f"{cell.slug}, seed {seed}", cell.status, _fields(metrics)) for seed, metrics in own]
    return _table("cells_caption", "cell", rows)


def _fields(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for implication, name, value in flat(metrics):
        test = name.endswith("_p")
        if implication is None or test:
            low, high = value.get("low"), value.get("high")
            ends = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
            found.setdefault(name.replace("_", " "), TableCell(number(value["value"], 4 if test else 2), ends))
    return found


#: Plot -> what gives the table and the sentences beside it.
PARTS: dict[str, Callable[[Sequence[LoadedCell]], Shown]] = {
    SETS: show_sets,
    PAPER: show_paper,
    "rank-by-bridging": show_bridging,
    RATES: show_rates,
    "rank-by-adapter": show_adapters,
}
