"""The figures of a study: sets, the paper's table, and ranks by adapter, bridging names and rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from spillover.record import Metric
from spillover.report.drawing import (
    BASELINE,
    BLUE,
    INK,
    VERMILLION,
    Drawing,
    canvas,
    finish,
    label,
    looks,
    panels,
    plot,
)
from spillover.report.story import unique
from spillover.report.study_data import (
    MODELS,
    AdapterPoint,
    AssociationSet,
    BridgePoint,
    LoadedCell,
    PaperRow,
    Point,
    RatePoint,
    StudyPoint,
    adapter_points,
    bridge_points,
    curves_of,
    paper_rows,
    rate_points,
    scientific,
    sets_of,
)

_MARKS = dict(zip(MODELS, ("x", "+", "^", "v", "*"), strict=True))
#: Ways of training a set: attribute of AssociationSet, words, marker, and its line below the set's name.
_ARMS = (("frozen", "embeddings frozen", "o", -0.1), ("whole", "all weights trained", "D", 0.1))
_COLOURS = {True: BLUE, False: VERMILLION}
_TRUTHS = {True: "true", False: "not true"}
_ONLY = "knows only which answers occur"
#: Colour, dash and marker of a curve.
Look = tuple[str, Any, str]
Handles = dict[str, Any]


def _mark(marker: str, colour: str, **more: Any) -> Line2D:
    """A mark for the legend."""
    return Line2D([], [], linestyle="none", marker=marker, color=colour, **more)


def _legend(figure: Figure, handles: Handles, **options: Any) -> None:
    figure.legend(list(handles.values()), list(handles), loc="outside lower left", **options)


def _dot(axes: Axes, place: float, metric: Metric | None, colour: str, marker: str = "o") -> None:
    """A metric on a line of its own, with its interval as a bar."""
    if metric is None or metric.value is None:
        return
    if metric.low is not None and metric.high is not None:
        axes.plot([metric.low, metric.high], [place, place], color=colour, linewidth=5, alpha=0.3)
    axes.plot([metric.value], [place], marker=marker, markersize=7, color=colour, clip_on=False)


def _numbers(metric: Metric | None) -> dict[str, Any]:
    ends = ("low", "high", "clusters")
    return {"mean_rank": getattr(metric, "value", None), **{end: getattr(metric, end, None) for end in ends}}


def _rank_axis(axes: Axes, lines: int) -> None:
    """Ranks from left to right, a line of text for each row, the first at the top."""
    axes.set_ylim(lines - 0.42, -0.62)
    axes.set_xlim(-0.15, None)
    axes.set_xlabel("mean rank of the unstated implication (0 is best)")


@plot("study-sets", of="cells")
def draw_study_sets(cells: Sequence[LoadedCell], name: str = "study-sets") -> Drawing | None:
    """Per set: before (hollow), after with its 95% interval (circle; diamond: all weights), the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None
    handles: Handles = {"before training": _mark("o", INK, markerfacecolor="none", markersize=7)}
    for arm, words, marker, _ in _ARMS:
        for wanted, colour in _COLOURS.items():
            if any((story := getattr(row, arm)) is not None and story.wanted == wanted for row in sets):
                handles[f"{words}, {_TRUTHS[wanted]}"] = _mark(marker, colour, markersize=7)
    handles["knows which answers occur"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.5)
    if any(row.published for row in sets):
        handles |= {f"paper: {model}": _mark(marker, INK, **_SMALL) for model, marker in _MARKS.items()}
    with canvas(2.4 + 0.92 * len(sets)) as (figure, axes):
        rows, said = [], []
        for index, row in enumerate(sets):
            numbers, words = _draw_set(axes, index, row)
            rows += numbers
            said.append(words)
        _rank_axis(axes, len(sets))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _legend(figure, handles, ncols=2, columnspacing=1.0)
        line = next((row.story.marginal for row in sets if row.story.marginal is not None), None)
        baseline = "" if line is None else f". Knowing only which answers occur gives {line:.2f}"
        text = "; ".join(said) + baseline + "."
        return finish(figure, name, "Mean rank of the unstated implication by set", text, rows)


_SMALL: dict[str, Any] = {"markersize": 6, "markerfacecolor": "none", "alpha": 0.75}


def _draw_set(axes: Axes, index: int, row: AssociationSet) -> tuple[list[dict[str, Any]], str]:
    """Draw a set on its line; one row of numbers a marker, and the set in words."""
    axes.text(0, index - 0.28, f"{label(row.label, 40)} ({row.kind})", va="bottom")
    first = row.story.metric("implication_rank_test_before")
    if first is not None and first.value is not None:
        axes.plot([first.value], [index - 0.1], marker="o", markersize=7, markerfacecolor="none", color=INK)
    rows, found = [], []
    for arm, words, marker, below in _ARMS:
        story = getattr(row, arm)
        if story is None:
            continue
        before, after = (story.metric(f"implication_rank_test{when}") for when in ("_before", ""))
        _dot(axes, index + below, after, _COLOURS[story.wanted], marker)
        for when, metric in (("before", before), ("after", after)):
            if metric is not None:
                head = {"set": row.label, "model": story.run.model, "trained": words, "when": when}
                rows.append({**head, **_numbers(metric), "baseline": story.marginal})
        if after is not None and after.value is not None:
            found.append(f"{after.value:.2f} {words}")
    for (model, marker), rank in zip(_MARKS.items(), row.published, strict=False):
        axes.plot([rank], [index + 0.3], color=INK, linestyle="none", marker=marker, clip_on=False, **_SMALL)
        head = {"set": row.label, "model": f"{model} (the paper)", "trained": _ARMS[1][1], "when": "after"}
        rows.append({**head, "mean_rank": rank})
    if row.story.marginal is not None:
        # One line through everything, broken where a set has its name.
        axes.plot([row.story.marginal] * 2, [index - 0.27, index + 0.45], **BASELINE)
    paper = f", the paper's models {min(row.published):.2f} to {max(row.published):.2f}" if row.published else ""
    return rows, f"{row.label}: {', '.join(found)}{paper}"


@plot("paper-table", of="cells")
def draw_paper_table(cells: Sequence[LoadedCell], name: str = "paper-table") -> Drawing | None:
    """Set by set one line a model: a circle with its 95% interval for ours, a cross for the paper's."""
    rows = paper_rows(cells)
    lines: list[tuple[str, PaperRow | None]] = []
    for pack in unique(row.pack for row in rows):
        lines.append((label(pack, 34), None))
        for each in [row for row in rows if row.pack == pack]:
            lines.append((f"{label(each.model, 24)} ({each.state})" if each.state else label(each.model, 34), each))
    wanted = {row.story.wanted for row in rows if row.story}
    handles: Handles = {f"here, {_TRUTHS[each]}": _mark("o", _COLOURS[each]) for each in _COLOURS if each in wanted}
    if any(row.published is not None for row in rows):
        handles["the paper"] = _mark("x", INK)
    with canvas(1.4 + 0.24 * len(lines)) as (figure, axes):
        for place, (_, row) in enumerate(lines):
            if row is not None and row.story:
                _dot(axes, place, row.rank, _COLOURS[row.story.wanted])
            if row is not None and row.published is not None:
                axes.plot([row.published], [place], marker="x", markersize=6, color=INK, clip_on=False)
        baselines = {row.story.marginal for row in rows if row.story}
        if len(baselines) == 1 and (line := next(iter(baselines))) is not None:
            handles[f"{_ONLY}: {line:.2f}"] = axes.axvline(line, **BASELINE)
        _rank_axis(axes, len(lines))
        axes.set_yticks(range(len(lines)), [text for text, _ in lines])
        for tick, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        _legend(figure, handles, ncols=2, columnspacing=1.0)
        numbers, said = [], []
        for row in rows:
            head = {"model": row.model, "set": row.pack, "state": row.state or "done"}
            numbers.append({**head, **_numbers(row.rank), "paper": row.published})
            ours = row.state if row.rank is None or row.rank.value is None else f"{row.rank.value:.2f} here"
            there = "" if row.published is None else f", {row.published:.2f} in the paper"
            said.append(f"{row.model} on {row.pack}: {ours}{there}")
        return finish(figure, name, "Mean rank by model and set, here and in the paper", "; ".join(said) + ".", numbers)


def _two_panels(
    name: str,
    title: str,
    said: str,
    rows: list[dict[str, Any]],
    curves: Mapping[str, Sequence[Point]],
    draw: Callable[[Axes, Axes, Sequence[Point], Look], Any],
    dress: Callable[[Axes, Axes], Handles],
) -> Drawing:
    """Ranks above, something else below on the same x axis, a curve a label.

    draw: draws a curve in a look, and gives its entry of the legend. dress: sets the axes, and gives further entries.
    """
    handles: Handles = {}
    with panels(6.3 + 0.25 * len(curves), 2) as (figure, (above, below)):
        for (text, own), look in zip(curves.items(), looks([own[0].wanted for own in curves.values()]), strict=True):
            handles[f"{label(text, 30)} ({_TRUTHS[own[0].wanted]})"] = draw(above, below, own, look)
        marginals = [point.marginal for own in curves.values() for point in own if point.marginal is not None]
        if marginals:
            handles[f"{_ONLY}: {marginals[0]:.2f}"] = above.axhline(marginals[0], **BASELINE)
        handles |= dress(above, below)
        above.set_ylabel("mean rank (0 is best)")
        above.set_ylim(bottom=0)
        for axes in (above, below):
            axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        _legend(figure, handles, handlelength=3)
        return finish(figure, name, title, said, rows)


def _curve(axes: Axes, places: Sequence[tuple[float, Metric | None]], look: Look, joined: int | None = None) -> Line2D:
    """Metrics against x, with their intervals as a band. joined: how many of the marks a line joins, without a band."""
    colour, dash, marker = look
    known = [(x, metric) for x, metric in places if metric is not None]
    ends = [(x, m.low, m.high) for x, m in known if m.low is not None and m.high is not None]
    at, low, high = ([end[part] for end in ends] for part in range(3))
    if joined is None:
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    else:
        axes.vlines(at, low, high, color=colour, linewidth=1.5)
    x, values = [x for x, _ in known], [math.nan if m.value is None else m.value for _, m in known]
    axes.plot(x[:joined], values[:joined], color=colour, linestyle=dash, linewidth=2, clip_on=False)
    axes.plot(x, values, color=colour, linestyle="none", marker=marker, clip_on=False)
    return Line2D([], [], color=colour, linestyle=dash, linewidth=2, marker=marker)


def _point_numbers(point: StudyPoint, second: str, metric: Metric | None) -> dict[str, Any]:
    """The numbers of a point, and of the metric in the lower panel."""
    ends = {f"{second}_{end}": getattr(metric, end, None) for end in ("low", "high")}
    return {**_numbers(point.rank), "baseline": point.marginal, second: getattr(metric, "value", None), **ends}


@plot("rank-by-adapter", of="cells")
def draw_rank_by_adapter(cells: Sequence[LoadedCell], name: str = "rank-by-adapter") -> Drawing | None:
    """Above the rank, a curve an implication with its interval; below, forgetting. The weights stand apart."""
    points = adapter_points(cells)
    if not points:
        return None
    curves, adapters = curves_of(points), unique(point.adapter for point in points)
    first = next(iter(curves))

    def draw(above: Axes, below: Axes, own: Sequence[AdapterPoint], look: Look) -> Any:
        # The weights are no rank further on, so no line leads there.
        joined = sum(point.adapter > 0 for point in own)
        places = [(adapters.index(point.adapter), point) for point in own]
        if own[0].label == first:
            _curve(below, [(x, p.forgetting) for x, p in places], (INK, "-", "D"), joined)
        return _curve(above, [(x, p.rank) for x, p in places], look, joined)

    def dress(above: Axes, below: Axes) -> Handles:
        below.set_xticks(range(len(adapters)), unique(point.trained for point in points))
        below.set_xlabel("rank of the adapter, or the weights themselves")
        below.set_ylabel("forgotten (nats a token)")
        below.set_ylim(bottom=0)
        return {}

    rows = [
        {"implication": p.label, "adapter_rank": p.adapter or None, **_point_numbers(p, "forgetting", p.forgetting)}
        for p in points
    ]
    listed = {text: ", ".join(f"{p.rank.value or 0:.2f} with {p.trained}" for p in own) for text, own in curves.items()}
    said = f"Mean rank by the rank of the adapter. {'; '.join(f'{text}: {own}' for text, own in listed.items())}."
    title = "Mean rank of unstated implications by the rank of the adapter"
    return _two_panels(name, title, said, rows, curves, draw, dress)


@plot("rank-by-bridging", of="cells")
def draw_rank_by_bridging(cells: Sequence[LoadedCell], name: str = "rank-by-bridging") -> Drawing | None:
    """Above the rank, a curve a set with its interval; below, margins per stated margin, the theory dotted."""
    points = bridge_points(cells)
    if not points:
        return None
    curves, theory = curves_of(points), sorted({(point.stated, point.theory) for point in points})

    def draw(above: Axes, below: Axes, own: Sequence[BridgePoint], look: Look) -> Any:
        _curve(below, [(point.stated, point.ratio) for point in own], look)
        return _curve(above, [(point.stated, point.rank) for point in own], look)

    def dress(above: Axes, below: Axes) -> Handles:
        below.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
        style: dict[str, Any] = {"color": INK, "linestyle": (0, (1, 2)), "marker": "D", "markerfacecolor": "none"}
        (drawn,) = below.plot(*zip(*theory, strict=True), **style)
        below.set_ylabel("margin, per stated margin")
        below.set_xlabel("bridging names a pair")
        stated = sorted({point.stated for point in points})
        below.set_xticks(stated, [f"{x:g}" for x in stated])
        return {"theory: min(1, √(bridging / other names))": drawn}

    rows = [
        {"set": p.label, "bridging_names": p.stated, "other_names": p.unstated, **_point_numbers(p, "margin", p.ratio),
         "theory_margin": p.theory}
        for p in points
    ]  # fmt: skip
    listed = {text: ", ".join(f"{p.mean:.2f} at {p.stated:g}" for p in own) for text, own in curves.items()}
    exact = ", ".join(f"{margin:.2f} at {x:g}" for x, margin in theory)
    said = "; ".join(f"{text}: {own}" for text, own in listed.items())
    said = f"Mean rank by bridging names a pair. {said}. Margin in theory: {exact}."
    return _two_panels(name, "How many bridging names a pair it takes", said, rows, curves, draw, dress)


@plot("rank-by-rate", of="cells")
def draw_rank_by_rate(cells: Sequence[LoadedCell], name: str = "rank-by-rate") -> Drawing | None:
    """Above the rank, with its interval and a dash a seed; below, the passes it took. Hollow: never learned."""
    points = rate_points(cells)
    if not points:
        return None

    def draw(above: Axes, below: Axes, own: Sequence[RatePoint], look: Look) -> Any:
        colour, dash, marker = look
        handle = _curve(above, [(point.rate, point.rank) for point in own], (colour, dash, ""))
        passes = [sum(seed.epoch for seed in point.seeds) / len(point.seeds) for point in own]
        below.plot([point.rate for point in own], passes, color=colour, linestyle=dash, linewidth=2)
        for point, took in zip(own, passes, strict=True):
            face = colour if point.learned else "none"
            shape: dict[str, Any] = {"marker": marker, "markersize": 7, "markerfacecolor": face}
            above.plot([point.rate], [point.mean], color=colour, clip_on=False, **shape)
            below.plot([point.rate], [took], color=colour, **shape)
            for seed in point.seeds if len(point.seeds) > 1 else ():
                above.plot([point.rate], [seed.rank], marker="_", color=colour, markersize=9)
                below.plot([point.rate], [seed.epoch], marker="_", color=colour, markersize=9)
        handle.set_marker(marker)
        return handle

    def dress(above: Axes, below: Axes) -> Handles:
        rates = sorted({point.rate for point in points})
        below.set_xscale("log")
        below.set_xticks(rates, [scientific(rate) for rate in rates])
        below.xaxis.set_minor_formatter(NullFormatter())
        below.minorticks_off()
        below.set_xlabel("learning rate")
        below.set_ylabel("passes it took")
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        handles: Handles = {}
        if any(len(point.seeds) > 1 for point in points):
            handles["one seed"] = _mark("_", INK, markersize=9)
        if not all(point.learned for point in points):
            handles["hollow: stated rows not learned by the end"] = _mark("o", INK, markerfacecolor="none")
        return handles

    rows: list[dict[str, Any]] = []
    said = []
    for point in points:
        head = {"set": point.label, "learning_rate": f"{point.rate:g}"}
        rows.append({**head, "seed": None, "passes": point.epochs, **_numbers(point.rank), "learned": point.learned})
        rows += [
            {**head, "seed": seed.seed, "passes": seed.epoch, "mean_rank": seed.rank, "learned": seed.learned}
            for seed in point.seeds
        ]
        never = f" ({point.unlearned})" if point.unlearned else ""
        said.append(f"{point.label} at {point.rate:g}: rank {point.mean:.2f} after {point.epochs} passes{never}")
    title = "Mean rank once the stated rows are learned, by learning rate"
    return _two_panels(name, title, "; ".join(said) + ".", rows, curves_of(points), draw, dress)
