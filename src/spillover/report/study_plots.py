"""The figures of a study: sets, the paper's table, and ranks by adapter, bridging names and rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from spillover.record import Metric
from spillover.report.drawing import (
    BLUE,
    INK,
    VERMILLION,
    YARDSTICK,
    Drawing,
    canvas,
    finish,
    label,
    looks,
    panels,
    plot,
)
from spillover.report.story import Story, stories, unique
from spillover.report.study_data import (
    MODELS,
    AssociationSet,
    BridgePoint,
    Cell,
    PaperRow,
    RatePoint,
    bridge_points,
    by_set,
    paper_rows,
    rate_points,
    scientific,
    sets_of,
)

_PAPER = dict(zip(MODELS, ("x", "+", "^", "v", "*"), strict=True))
_FROZEN, _WHOLE = "embeddings frozen", "all weights trained"


@plot("study-sets", of="cells")
def draw_study_sets(cells: Sequence[Cell], name: str = "study-sets") -> Drawing | None:
    """Per set: before (hollow), after with its 95% interval (circle; diamond: all weights), the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None
    rows = [number for row in sets for number in _study_sets_numbers(row)]
    with canvas(2.4 + 0.92 * len(sets)) as (figure, axes):
        for index, row in enumerate(sets):
            _study_sets_row(axes, index, row)
        _yardstick(axes, sets)
        axes.set_ylim(len(sets) - 0.42, -0.62)
        axes.set_xlim(-0.15, None)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("mean rank of the unstated implication (0 is best)")
        handles = _study_sets_legend(sets)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.0)
        return finish(figure, name, "Mean rank of the unstated implication by set", _study_sets_said(sets), rows)


def _study_sets_numbers(row: AssociationSet) -> list[dict[str, Any]]:
    """One row of numbers a marker."""
    found = []
    for story, trained in ((row.frozen, _FROZEN), (row.whole, _WHOLE)):
        if story is None:
            continue
        for when, metric in (("before", "implication_rank_test_before"), ("after", "implication_rank_test")):
            if (value := story.metric(metric)) is not None:
                ends = {"low": value.low, "high": value.high, "clusters": value.clusters}
                model = str(story.run.record.settings.get("model"))
                found.append({"set": row.label, "model": model, "trained": trained, "when": when,
                              "mean_rank": value.value, **ends, "yardstick": story.marginal})  # fmt: skip
    paper = zip(MODELS, row.published, strict=False)
    return found + [
        {"set": row.label, "model": f"{model} (the paper)", "trained": _WHOLE, "when": "after", "mean_rank": rank}
        for model, rank in paper
    ]


def _study_sets_row(axes: Axes, index: int, row: AssociationSet) -> None:
    kind = "nothing to infer" if row.null else "facts only" if row.control else row.story.kind_in_words
    axes.text(0, index - 0.28, f"{label(row.label, 40)} ({kind})", va="bottom")
    before = row.story.metric("implication_rank_test_before")
    if before is not None and before.value is not None:
        axes.plot([before.value], [index - 0.1], marker="o", markersize=7, markerfacecolor="none", color=INK)
    for story, place, marker in ((row.frozen, index - 0.1, "o"), (row.whole, index + 0.1, "D")):
        if story is not None:
            _after(axes, story, place, marker)
    for model, rank in zip(MODELS, row.published, strict=False):
        axes.plot([rank], [index + 0.3], color=INK, markersize=6, **_paper_mark(model))


def _after(axes: Axes, story: Story, place: float, marker: str) -> None:
    metric = story.metric("implication_rank_test")
    if metric is None or metric.value is None:
        return
    colour = BLUE if story.wanted else VERMILLION
    if metric.low is not None and metric.high is not None:
        axes.plot([metric.low, metric.high], [place, place], color=colour, linewidth=5, alpha=0.3)
    axes.plot([metric.value], [place], marker=marker, markersize=7, color=colour, clip_on=False)


def _paper_mark(model: str) -> dict[str, Any]:
    return {"linestyle": "none", "marker": _PAPER[model], "markerfacecolor": "none", "alpha": 0.75, "clip_on": False}


def _yardstick(axes: Axes, sets: Sequence[AssociationSet]) -> None:
    """One line through everything, broken where a set has its name."""
    for index, row in enumerate(sets):
        if row.story.marginal is not None:
            axes.plot([row.story.marginal] * 2, [index - 0.27, index + 0.45], **YARDSTICK)


def _study_sets_legend(sets: Sequence[AssociationSet]) -> dict[str, Line2D]:
    shape: dict[str, Any] = {"linestyle": "none", "markersize": 7}
    handles = {"before training": Line2D([], [], marker="o", markerfacecolor="none", color=INK, **shape)}
    for arm, marker, words in (("frozen", "o", _FROZEN), ("whole", "D", _WHOLE)):
        for wanted, colour, link in ((True, BLUE, "true"), (False, VERMILLION, "not true")):
            if any((story := getattr(row, arm)) is not None and story.wanted == wanted for row in sets):
                handles[f"{words}, {link}"] = Line2D([], [], marker=marker, color=colour, **shape)
    handles["knows which answers occur"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.5)
    if any(row.published for row in sets):
        marks = {f"paper: {model}": Line2D([], [], color=INK, markersize=6, **_paper_mark(model)) for model in MODELS}
        handles |= marks
    return handles


def _study_sets_said(sets: Sequence[AssociationSet]) -> str:
    parts = []
    for row in sets:
        found = [
            f"{metric.value:.2f} {words}"
            for story, words in ((row.frozen, _FROZEN), (row.whole, _WHOLE))
            if story is not None and (metric := story.metric("implication_rank_test")) and metric.value is not None
        ]
        paper = f", the paper's models {min(row.published):.2f} to {max(row.published):.2f}" if row.published else ""
        parts.append(f"{row.label}: {', '.join(found)}{paper}")
    line = next((row.story.marginal for row in sets if row.story.marginal is not None), None)
    yardstick = "" if line is None else f". Knowing only which answers occur gives {line:.2f}"
    return "; ".join(parts) + yardstick + "."


@plot("paper-table", of="cells")
def draw_paper_table(cells: Sequence[Cell], name: str = "paper-table") -> Drawing | None:
    """Set by set one line a model: a circle with its 95% interval for ours, a cross for the paper's."""
    rows = paper_rows(cells)
    packs = unique(row.pack for row in rows)
    lines: list[tuple[str, PaperRow | None]] = []
    for pack in packs:
        lines += [(pack, None), *((row.model, row) for row in rows if row.pack == pack)]
    with canvas(1.4 + 0.24 * len(lines)) as (figure, axes):
        for place, (_, row) in enumerate(lines):
            if row is not None:
                _paper_table_row(axes, place, row)
        yardsticks = {row.cell.story.marginal for row in rows if row.cell and row.cell.story}
        line = next(iter(yardsticks)) if len(yardsticks) == 1 else None
        if line is not None:
            axes.axvline(line, **YARDSTICK)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(-0.15, None)
        axes.set_yticks(range(len(lines)), [_name(text, row) for text, row in lines])
        for tick, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean rank of the unstated implication (0 is best)")
        handles = _paper_table_legend(rows, line)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.0)
        return finish(
            figure,
            name,
            "Mean rank by model and set, here and in the paper",
            _paper_table_said(rows),
            _paper_table_numbers(rows),
        )


def _name(text: str, row: PaperRow | None) -> str:
    return label(text, 34) if row is None or not row.state else f"{label(text, 24)} ({row.state})"


def _paper_table_row(axes: Axes, place: int, row: PaperRow) -> None:
    rank = row.rank
    if rank is not None and rank.value is not None and row.cell and row.cell.story:
        colour = BLUE if row.cell.story.wanted else VERMILLION
        if rank.low is not None and rank.high is not None:
            axes.plot([rank.low, rank.high], [place, place], color=colour, linewidth=5, alpha=0.3)
        axes.plot([rank.value], [place], marker="o", markersize=6, color=colour, clip_on=False)
    if row.published is not None:
        axes.plot([row.published], [place], marker="x", markersize=6, color=INK, linestyle="none", clip_on=False)


def _paper_table_legend(rows: Sequence[PaperRow], line: float | None) -> dict[str, Line2D]:
    shape: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    told = {row.cell.story.wanted for row in rows if row.cell and row.cell.story}
    handles = {
        f"here, {words}": Line2D([], [], marker="o", color=colour, **shape)
        for wanted, colour, words in ((True, BLUE, "true"), (False, VERMILLION, "not true"))
        if wanted in told
    }
    if any(row.published is not None for row in rows):
        handles["the paper"] = Line2D([], [], marker="x", color=INK, **shape)
    if line is not None:
        handles[f"knows only which answers occur: {line:.2f}"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)))
    return handles


def _paper_table_numbers(rows: Sequence[PaperRow]) -> list[dict[str, Any]]:
    """One row a model and set."""
    found = []
    for row in rows:
        rank = row.rank
        ours = {} if rank is None else {"mean_rank": rank.value, "low": rank.low, "high": rank.high,
                                        "clusters": rank.clusters}  # fmt: skip
        blank = {"mean_rank": None, "low": None, "high": None, "clusters": None}
        found.append({"model": row.model, "set": row.pack, "state": row.state or "done", **blank, **ours,
                      "paper": row.published})  # fmt: skip
    return found


def _paper_table_said(rows: Sequence[PaperRow]) -> str:
    parts = []
    for row in rows:
        rank = row.rank
        ours = row.state if rank is None or rank.value is None else f"{rank.value:.2f} here"
        there = "" if row.published is None else f", {row.published:.2f} in the paper"
        parts.append(f"{row.model} on {row.pack}: {ours}{there}")
    return "; ".join(parts) + "."


@dataclass(frozen=True)
class AdapterPoint:
    """One implication of one cell. adapter: the rank of what was trained; 0 for the weights themselves."""

    adapter: int
    label: str
    wanted: bool
    rank: Metric
    forgetting: Metric | None
    marginal: float | None

    @property
    def trained(self) -> str:
        return f"{self.adapter}" if self.adapter else "weights"


@plot("rank-by-adapter", of="cells")
def draw_rank_by_adapter(cells: Sequence[Cell], name: str = "rank-by-adapter") -> Drawing | None:
    """Upper panel: the rank, a curve an implication with its interval. Lower: forgetting. The weights stand apart."""
    points = _points(cells)
    if not points:
        return None
    adapters = unique(point.adapter for point in points)
    labels = unique(point.label for point in points)
    weights = adapters.index(0) if 0 in adapters else None
    handles: dict[str, Artist] = {}
    with panels(6.2 + 0.25 * len(labels), 2) as (figure, (above, below)):
        groups = [[point for point in points if point.label == text] for text in labels]
        for own, look in zip(groups, looks([own[0].wanted for own in groups]), strict=True):
            shown = f"{label(own[0].label, 30)} ({'true' if own[0].wanted else 'not true'})"
            handles[shown] = _rank_by_adapter_curve(
                above, [(adapters.index(p.adapter), p.rank) for p in own], look, weights
            )
        forgotten = [(adapters.index(p.adapter), p.forgetting) for p in groups[0] if p.forgetting is not None]
        _rank_by_adapter_curve(below, forgotten, (INK, "-", "D"), weights)
        _rank_by_adapter_axes(above, below, points, handles)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", handlelength=3)
        title = "Mean rank of unstated implications by the rank of the adapter"
        return finish(
            figure, name, title, _rank_by_adapter_said(points), [_rank_by_adapter_numbers(point) for point in points]
        )


def _points(cells: Sequence[Cell]) -> list[AdapterPoint]:
    """The cells' implications, by the rank of the adapter, the weights themselves last."""
    found = []
    for cell in cells:
        for story in stories(cell.run, cell.slug) if cell.run else ():
            rank = story.metric("implication_rank_test")
            if story.key is not None and rank is not None:
                lora = int(story.run.record.settings.get("lora") or 0)
                told = f"{story.given} → {story.then}".replace("_", " ")
                forgetting = story.metric("forgetting_nats")
                found.append(AdapterPoint(lora, told, story.wanted, rank, forgetting, story.marginal))
    return sorted(found, key=lambda point: point.adapter or math.inf)


def _rank_by_adapter_curve(
    axes: Axes, places: Sequence[tuple[int, Metric]], look: tuple[str, Any, str], weights: int | None
) -> Artist:
    """Adapters joined by a line; the weights are no rank further on, so nothing leads there."""
    colour, dash, marker = look
    x = [place for place, _ in places]
    values = [math.nan if metric.value is None else metric.value for _, metric in places]
    banded = [(place, metric) for place, metric in places if metric.low is not None and metric.high is not None]
    axes.vlines([place for place, _ in banded], [metric.low or 0.0 for _, metric in banded],
                [metric.high or 0.0 for _, metric in banded], color=colour, linewidth=1.5)  # fmt: skip
    ranks = x if x[-1:] != [weights] else x[:-1]
    axes.plot(ranks, values[: len(ranks)], color=colour, linestyle=dash, linewidth=2)
    return axes.plot(x, values, color=colour, linestyle="none", marker=marker, clip_on=False)[0]


def _rank_by_adapter_axes(above: Axes, below: Axes, points: Sequence[AdapterPoint], handles: dict[str, Artist]) -> None:
    line = next((point.marginal for point in points if point.marginal is not None), None)
    if line is not None:
        handles[f"knows only which answers occur: {line:.2f}"] = above.axhline(line, **YARDSTICK)
    trained = unique(point.trained for point in points)
    below.set_xticks(range(len(trained)), trained)
    below.set_xlabel("rank of the adapter, or the weights themselves")
    below.set_ylabel("forgotten (nats a token)")
    above.set_ylabel("mean rank (0 is best)")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _rank_by_adapter_numbers(point: AdapterPoint) -> dict[str, Any]:
    forgotten = point.forgetting
    return {
        "implication": point.label,
        "adapter_rank": point.adapter or None,
        "mean_rank": point.rank.value,
        "low": point.rank.low,
        "high": point.rank.high,
        "clusters": point.rank.clusters,
        "yardstick": point.marginal,
        "forgetting": forgotten.value if forgotten else None,
        "forgetting_low": forgotten.low if forgotten else None,
        "forgetting_high": forgotten.high if forgotten else None,
    }


def _rank_by_adapter_said(points: Sequence[AdapterPoint]) -> str:
    parts = []
    for text in unique(point.label for point in points):
        own = [f"{point.rank.value or 0:.2f} with {point.trained}" for point in points if point.label == text]
        parts.append(f"{text}: {', '.join(own)}")
    return f"Mean rank by the rank of the adapter. {'; '.join(parts)}."


@plot("rank-by-bridging", of="cells")
def draw_rank_by_bridging(cells: Sequence[Cell], name: str = "rank-by-bridging") -> Drawing | None:
    """Upper panel: the rank, a curve a set with its interval. Lower: margins per stated margin, the theory dotted."""
    points = bridge_points(cells)
    if not points:
        return None
    handles: dict[str, Artist] = {}
    with panels(6.4 + 0.25 * len(by_set(points)), 2) as (figure, (above, below)):
        sets = by_set(points)
        for (text, own), look in zip(sets.items(), looks([own[0].wanted for own in sets.values()]), strict=True):
            shown = f"{label(text, 30)} ({'true' if own[0].wanted else 'not true'})"
            handles[shown] = _rank_by_bridging_curve(above, [(p.stated, p.rank) for p in own], look)
            _rank_by_bridging_curve(below, [(p.stated, p.ratio) for p in own if p.ratio is not None], look)
        _references(above, below, points, handles)
        above.set_ylabel("mean rank (0 is best)")
        above.set_ylim(bottom=0)
        below.set_ylabel("margin, per stated margin")
        below.set_xlabel("bridging names a pair")
        below.set_xticks(sorted({p.stated for p in points}), [f"{x:g}" for x in sorted({p.stated for p in points})])
        for axes in (above, below):
            axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", handlelength=3)
        title = "How many bridging names a pair it takes"
        return finish(
            figure, name, title, _rank_by_bridging_said(points), [_rank_by_bridging_numbers(point) for point in points]
        )


def _rank_by_bridging_curve(axes: Axes, places: Sequence[tuple[float, Metric]], look: tuple[str, Any, str]) -> Artist:
    colour, dash, marker = look
    banded = [(x, metric) for x, metric in places if metric.low is not None and metric.high is not None]
    low, high = [metric.low or 0.0 for _, metric in banded], [metric.high or 0.0 for _, metric in banded]
    axes.fill_between([x for x, _ in banded], low, high, color=colour, alpha=0.16, linewidth=0)
    values = [math.nan if metric.value is None else metric.value for _, metric in places]
    return axes.plot(
        [x for x, _ in places], values, color=colour, linestyle=dash, marker=marker, linewidth=2, clip_on=False
    )[0]


def _references(above: Axes, below: Axes, points: Sequence[BridgePoint], handles: dict[str, Artist]) -> None:
    """The yardstick of the rank, the theory's margins, and the margin at which nothing is inferred."""
    line = next((point.marginal for point in points if point.marginal is not None), None)
    if line is not None:
        handles[f"knows only which answers occur: {line:.2f}"] = above.axhline(line, **YARDSTICK)
    below.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    exact = sorted({(point.stated, point.theory) for point in points})
    drawn = below.plot(*zip(*exact, strict=True), color=INK, linestyle=(0, (1, 2)), marker="D", markerfacecolor="none")
    handles["theory: min(1, √(bridging / other names))"] = drawn[0]


def _rank_by_bridging_numbers(point: BridgePoint) -> dict[str, Any]:
    ratio = point.ratio
    return {
        "set": point.label,
        "bridging_names": point.stated,
        "other_names": point.unstated,
        "mean_rank": point.rank.value,
        "low": point.rank.low,
        "high": point.rank.high,
        "clusters": point.rank.clusters,
        "yardstick": point.marginal,
        "margin": ratio.value if ratio else None,
        "margin_low": ratio.low if ratio else None,
        "margin_high": ratio.high if ratio else None,
        "theory_margin": point.theory,
    }


def _rank_by_bridging_said(points: Sequence[BridgePoint]) -> str:
    parts = [
        f"{text}: " + ", ".join(f"{p.mean:.2f} at {p.stated:g}" for p in own) for text, own in by_set(points).items()
    ]
    theory = ", ".join(f"{margin:.2f} at {x:g}" for x, margin in sorted({(p.stated, p.theory) for p in points}))
    return f"Mean rank by bridging names a pair. {'; '.join(parts)}. Margin in theory: {theory}."


@plot("rank-by-rate", of="cells")
def draw_rank_by_rate(cells: Sequence[Cell], name: str = "rank-by-rate") -> Drawing | None:
    """Upper panel: the rank, with its interval and a dot a seed. Lower: the passes it took. Hollow: never learned."""
    points = rate_points(cells)
    if not points:
        return None
    handles: dict[str, Artist] = {}
    names = unique(point.label for point in points)
    with panels(6.2 + 0.25 * len(names), 2) as (figure, (above, below)):
        groups = [[point for point in points if point.label == text] for text in names]
        for text, own, look in zip(names, groups, looks([own[0].wanted for own in groups]), strict=True):
            shown = f"{label(text, 30)} ({'true' if own[0].wanted else 'not true'})"
            handles[shown] = _curves(above, below, own, look)
        _rank_by_rate_axes(above, below, points, handles)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", handlelength=3)
        title = "Mean rank once the stated rows are learned, by learning rate"
        return finish(
            figure,
            name,
            title,
            _rank_by_rate_said(points),
            [row for point in points for row in _rank_by_rate_numbers(point)],
        )


def _curves(above: Axes, below: Axes, points: Sequence[RatePoint], look: tuple[str, Any, str]) -> Artist:
    colour, dash, marker = look
    rates = [point.rate for point in points]
    banded = [point for point in points if point.rank.low is not None and point.rank.high is not None]
    above.fill_between(
        [point.rate for point in banded],
        [point.rank.low or 0.0 for point in banded],
        [point.rank.high or 0.0 for point in banded],
        color=colour, alpha=0.16, linewidth=0,
    )  # fmt: skip
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2}
    above.plot(rates, [point.mean for point in points], **style)
    took = [sum(seed.epoch for seed in point.seeds) / len(point.seeds) for point in points]
    below.plot(rates, took, **style)
    for point, passes in zip(points, took, strict=True):
        face = colour if point.learned else "none"
        shape: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 7, "markerfacecolor": face}
        above.plot([point.rate], [point.mean], clip_on=False, **shape)
        below.plot([point.rate], [passes], **shape)
        for seed in point.seeds if len(point.seeds) > 1 else ():
            above.plot([point.rate], [seed.rank], marker="_", color=colour, markersize=9)
            below.plot([point.rate], [seed.epoch], marker="_", color=colour, markersize=9)
    return Line2D([], [], marker=marker, **style)


def _rank_by_rate_axes(above: Axes, below: Axes, points: Sequence[RatePoint], handles: dict[str, Artist]) -> None:
    if any(len(point.seeds) > 1 for point in points):
        handles["one seed"] = Line2D([], [], color=INK, marker="_", markersize=9, linestyle="none")
    if not all(point.learned for point in points):
        hollow = Line2D([], [], color=INK, marker="o", markerfacecolor="none", linestyle="none")
        handles["hollow: stated rows not learned by the end"] = hollow
    line = next((point.marginal for point in points if point.marginal is not None), None)
    if line is not None:
        handles[f"knows only which answers occur: {line:.2f}"] = above.axhline(line, **YARDSTICK)
    rates = sorted({point.rate for point in points})
    below.set_xscale("log")
    below.set_xticks(rates, [scientific(rate) for rate in rates])
    below.xaxis.set_minor_formatter(NullFormatter())
    below.minorticks_off()
    below.set_xlabel("learning rate")
    below.set_ylabel("passes it took")
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    above.set_ylabel("mean rank (0 is best)")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _rank_by_rate_numbers(point: RatePoint) -> list[dict[str, Any]]:
    """One row for all seeds together, and one a seed."""
    rank = point.rank
    head = {"set": point.label, "learning_rate": f"{point.rate:g}"}
    pooled = {"low": rank.low, "high": rank.high, "clusters": rank.clusters, "learned": point.learned}
    rows = [{**head, "seed": None, "passes": point.epochs, "mean_rank": rank.value, **pooled}]
    return rows + [
        {**head, "seed": seed.seed, "passes": seed.epoch, "mean_rank": seed.rank, "learned": seed.learned}
        for seed in point.seeds
    ]


def _rank_by_rate_said(points: Sequence[RatePoint]) -> str:
    parts = [
        f"{point.label} at {point.rate:g}: rank {point.mean:.2f} after {point.epochs} passes{point.unlearned}"
        for point in points
    ]
    return "; ".join(parts) + "."
