"""The figures of a comparison of remedies: the frontier and the ladder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spillover.metrics.remedies import KEPT, REMOVED
from spillover.report.drawing import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    VERMILLION,
    YARDSTICK,
    Drawing,
    canvas,
    finish,
    label,
    panels,
    plot,
)
from spillover.report.remedies_data import APART, IMPOSSIBLE, NOT_LEARNED, SAFE, UNSAFE, Comparison, Tried

#: Distances from the mark that are tried, nearest first, in the unit of the boxes (pixels), and directions a distance.
_STEPS, _DIRECTIONS = (1.0, 1.8, 2.8, 4.0, 5.5, 7.5), 16


@dataclass(frozen=True)
class Box:
    """A rectangle by its left lower corner and its size."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point inside both."""
        across = self.x < other.x + other.width and other.x < self.x + self.width
        return across and self.y < other.y + other.height and other.y < self.y + self.height

    def within(self, frame: Box) -> bool:
        """Whether no part of this is outside of the frame."""
        across = frame.x <= self.x and self.x + self.width <= frame.x + frame.width
        return across and frame.y <= self.y and self.y + self.height <= frame.y + frame.height


def around(x: float, y: float, size: float) -> Box:
    """The box of a mark with this centre."""
    return Box(x - size / 2, y - size / 2, size, size)


def placed(marks: Sequence[Box], texts: Sequence[Sequence[tuple[float, float]]], frame: Box) -> list[tuple[int, Box]]:
    """For each mark, the first of its texts that finds room, and where: (index of the text, its box).

    texts: of each mark, sizes of its wordings, the one preferred first. Marks come in order of importance. Nearness
    goes before wording only for the last wording: the others are given up when there is no room near. Where even that
    finds none, it stands at the mark all the same, and the box has no size.
    """
    found: list[tuple[int, Box]] = []
    for mark, sizes in zip(marks, texts, strict=True):
        others = [*marks, *(box for _, box in found)]
        found.append(_placing_place(mark, sizes, others, frame))
    return found


def _placing_place(
    mark: Box, sizes: Sequence[tuple[float, float]], others: Sequence[Box], frame: Box
) -> tuple[int, Box]:
    last = len(sizes) - 1
    for index, size in enumerate(sizes):
        for step in _STEPS if index == last else _STEPS[:4]:
            for turn in range(_DIRECTIONS):
                box = _at(mark, size, step, turn)
                if box.within(frame) and not any(box.meets(other) for other in others):
                    return index, box
    return last, Box(mark.x + mark.width, mark.y, 0.0, 0.0)


def _at(mark: Box, size: tuple[float, float], step: float, turn: int) -> Box:
    """A text's box in one direction from its mark: to the right first, then turning both ways alternately."""
    angle = 2 * math.pi / _DIRECTIONS * ((turn + 1) // 2) * (1 if turn % 2 else -1)
    reach = step * 9.0 + mark.width / 2
    x = mark.x + mark.width / 2 + reach * math.cos(angle)
    y = mark.y + mark.height / 2 + reach * math.sin(angle)
    # The edge that faces the mark is what stands at that distance.
    return Box(x - size[0] * (1 - math.cos(angle)) / 2, y - size[1] * (1 - math.sin(angle)) / 2, *size)


#: Group -> (marker, colour, whether it is filled, words of the legend).
LOOKS = {
    SAFE: ("o", BLUE, True, "safe"),
    UNSAFE: ("o", VERMILLION, True, "learned what was stated, not safe"),
    NOT_LEARNED: ("o", INK, False, "did not learn what was stated"),
    APART: ("D", PURPLE, False, "leaves out or rewrites stated rows"),
}
_SIZE, _FONT, _DPI = (10.6, 7.4), 11, 72
Size = Callable[[float | None], float]


@plot("remedy-frontier", of="comparison")
def draw_remedy_frontier(comparison: Comparison, name: str = "remedy-frontier") -> Drawing | None:
    """One mark a remedy and strength, faint lines for its intervals. None when nothing unwanted was measured."""
    shown = [each for each in comparison.measured if _remedy_frontier_place(each) is not None]
    start = _remedy_frontier_place(comparison.untreated)
    if start is None:
        return None
    with canvas(_SIZE[1], _SIZE[0]) as (figure, axes):
        figure.set_dpi(_DPI)
        FigureCanvasAgg(figure)
        size = _scale([comparison.untreated, *shown])
        for each in shown:
            _mark(axes, each, size(each.value("forgetting_nats")), each is comparison.advised)
        axes.plot(*start, marker="s", markersize=10, color=INK, zorder=5)
        lines = _lines(axes, comparison)
        _axes(axes, comparison)
        handles = {**_legend(comparison, shown, size), **lines}
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.6)
        _names(figure, axes, comparison, shown, size)
        rows = [_remedy_frontier_numbers(each) for each in [comparison.untreated, *shown]]
        return finish(
            figure, name, "Unwanted rate against wanted rate of every remedy", _remedy_frontier_said(comparison), rows
        )


def _remedy_frontier_place(each: Tried) -> tuple[float, float] | None:
    """Where an entry stands. Where the pack wants nothing, what was forgotten takes the other axis."""
    unwanted, wanted, forgets = (each.value(name) for name in ("unwanted_rate", "wanted_rate", "forgetting_nats"))
    other = wanted if wanted is not None else forgets
    return None if unwanted is None or other is None else (unwanted, other)


def _upright(comparison: Comparison) -> str:
    """The metric on the y axis."""
    return "forgetting_nats" if comparison.untreated.value("wanted_rate") is None else "wanted_rate"


def _scale(every: Sequence[Tried]) -> Size:
    """Nats -> diameter of a mark in points; its area grows with what was forgotten, up to the most of all."""
    most = max([each.value("forgetting_nats") or 0.0 for each in every] + [1e-3])
    return lambda nats: 5.0 + 11.0 * math.sqrt(min(1.0, max(0.0, nats or 0.0) / most))


def _references(every: Sequence[Tried]) -> list[float]:
    """Two round numbers of nats for the legend, near the most and near a fifth of it."""
    most = max([each.value("forgetting_nats") or 0.0 for each in every] + [1e-3])
    return [float(f"{most / 5:.1g}"), float(f"{most:.1g}")]


def _mark(axes: Axes, each: Tried, size: float, advised: bool) -> None:
    marker, colour, filled, _ = LOOKS[each.group]
    x, y = _remedy_frontier_place(each) or (0.0, 0.0)
    faint: dict[str, Any] = {"color": colour, "alpha": 0.7 if advised else 0.22, "linewidth": 1.2, "zorder": 1}
    for metric, along in (("unwanted_rate", True), ("wanted_rate", False)):
        found = each.metrics.get(metric)
        if found is not None and found.low is not None and found.high is not None:
            ends = [found.low, found.high]
            axes.plot(*((ends, [y, y]) if along else ([x, x], ends)), **faint)
    face = colour if filled else "none"
    shape: dict[str, Any] = {"marker": marker, "color": colour, "markerfacecolor": face, "markeredgewidth": 1.4}
    axes.plot([x], [y], markersize=size, alpha=0.8, zorder=4, clip_on=False, **shape)
    if each.taken:
        axes.plot([x], [y], marker="x", markersize=size + 4, color=INK, zorder=5)


def _lines(axes: Axes, comparison: Comparison) -> dict[str, Any]:
    """The two lines of the safe corner, the corner itself, and the line of no association at all."""
    untreated = comparison.untreated
    found: dict[str, Any] = {}
    before, free, wanted = untreated.value("unwanted_rate"), untreated.free_rate, untreated.value("wanted_rate")
    if free is not None:
        found[f"unwanted rate without any association ({100 * free:.0f}%)"] = axes.axvline(free, **YARDSTICK)
    if wanted is not None:
        line: dict[str, Any] = {**YARDSTICK, "linestyle": (0, (1, 1.5))}
        text = f"{100 * KEPT:.0f} points below the untreated wanted rate ({100 * (wanted - KEPT):.0f}%)"
        found[text] = axes.axhline(wanted - KEPT, **line)
    if free is not None and before is not None and before > free:
        edge = before - REMOVED * (before - free)
        low = wanted - KEPT if wanted is not None else -1.0
        axes.add_patch(Rectangle((-1.0, low), edge + 1.0, 3.0, color=GREEN, alpha=0.13, linewidth=0, zorder=0))
        found[f"safe corner: {100 * REMOVED:.0f}% removed, wanted kept"] = Patch(color=GREEN, alpha=0.2, linewidth=0)
        across: Any = (lambda x: (before - x) / (before - free), lambda y: before - y * (before - free))
        axes.secondary_xaxis("top", functions=across).set(xlabel="share of the unwanted that is removed")
        axes.child_axes[0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.child_axes[0].spines["top"].set_visible(True)
    return found


def _axes(axes: Axes, comparison: Comparison) -> None:
    """Every mark is inside, with room above for names; an interval may go on beyond, the ladder shows it whole."""
    upright, every = _upright(comparison), [comparison.untreated, *comparison.measured]
    across = _values(every, "unwanted_rate") + [each.free_rate for each in every[:1] if each.free_rate is not None]
    upward = _values(every, upright)
    space = 0.09 * max(max(across) - min(across), 0.1)
    axes.set_xlim(min(across) - space, max(across) + 1.6 * space)
    space = 0.1 * max(max(upward) - min(upward), 0.1)
    axes.set_ylim(min(upward) - space, max(upward) + 2.4 * space)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("unwanted rate: unstated subjects that get the answer nobody wanted (less is better)")
    if upright == "wanted_rate":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("wanted rate (more is better)")
        low, high = axes.get_ylim()
        # There is room above the last percentage, but no percentage.
        axes.set_yticks(
            [
                tick
                for tick in MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
                if low <= tick <= min(high, 1.001)
            ]
        )
    else:
        axes.set_ylabel("forgetting, nats a token (less is better)")
    axes.grid(color=INK, alpha=0.1, linewidth=0.6)


def _values(every: Sequence[Tried], metric: str) -> list[float]:
    return [value for each in every if (value := each.value(metric)) is not None]


def _names(figure: Figure, axes: Axes, comparison: Comparison, shown: Sequence[Tried], size: Size) -> None:
    """A number at every mark, and its name where there is room; a thin line leads from a name that stands far away."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    first = [each for each in (comparison.advised, comparison.nearest) if each is not None]
    order = sorted(shown, key=lambda each: (each not in first, each.number))
    words = ["untreated", *(f"{each.number} {label(each.label, 40)}" for each in order)]
    centres = [_remedy_frontier_place(each) or (0.0, 0.0) for each in [comparison.untreated, *order]]
    pixels = axes.transData.transform(centres)
    sizes = [10.0, *(size(each.value("forgetting_nats")) for each in order)]
    marks = [around(float(x), float(y), each) for (x, y), each in zip(pixels, sizes, strict=True)]
    wordings = [[words[0]], *([text, text.partition(" ")[0]] for text in words[1:])]
    bold = words[1] if comparison.advised is not None else None
    room = Box(frame.x0, frame.y0, frame.width, frame.height)
    spots = placed(marks, [[_extent(text) for text in each] for each in wordings], room)
    for each, centre, mark, (index, box) in zip(wordings, centres, marks, spots, strict=True):
        middle = (box.x + box.width / 2, box.y + box.height / 2)
        offset = (middle[0] - mark.x - mark.width / 2, middle[1] - mark.y - mark.height / 2)
        gap = max(abs(offset[0]) - box.width / 2, abs(offset[1]) - box.height / 2)
        line = {"arrowstyle": "-", "color": INK, "alpha": 0.45, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            each[index], centre, offset, textcoords="offset points", fontsize=_FONT, ha="center", va="center",
            fontweight="bold" if bold and each[0] == bold else "normal",
            arrowprops=line if gap > mark.width / 2 + 10 else None, zorder=6,
        ).set_in_layout(False)  # fmt: skip


def _extent(text: str) -> tuple[float, float]:
    """Width and height of a name, somewhat too large: the reader's own font draws it."""
    return 0.62 * _FONT * len(text) + 4, 1.3 * _FONT


def _legend(comparison: Comparison, shown: Sequence[Tried], size: Size) -> dict[str, Any]:
    shape: dict[str, Any] = {"linestyle": "none", "markersize": 9, "markeredgewidth": 1.4}
    found: dict[str, Any] = {"untreated": Line2D([], [], marker="s", color=INK, **shape)}
    for group, (marker, colour, filled, text) in LOOKS.items():
        if any(each.group == group for each in shown):
            face = colour if filled else "none"
            found[text] = Line2D([], [], marker=marker, color=colour, markerfacecolor=face, **shape)
    if any(each.taken for each in shown):
        found["another answer took the place"] = Line2D([], [], marker="x", color=INK, **shape)
    if _upright(comparison) == "wanted_rate":
        for nats in _references([comparison.untreated, *shown]):
            look: dict[str, Any] = {**shape, "markersize": size(nats), "markerfacecolor": "none"}
            found[f"forgets {nats:g} {'nat' if nats == 1 else 'nats'} a token"] = Line2D(
                [], [], marker="o", color=INK, alpha=0.6, **look
            )
    return found


def _remedy_frontier_numbers(each: Tried) -> dict[str, Any]:
    row: dict[str, Any] = {"number": each.number or None, "remedy": each.label, "group": each.group}
    row["group"] = each.group if each.number else "untreated"
    for name in ("unwanted_rate", "wanted_rate", "removed", "forgetting_nats"):
        metric = each.metrics.get(name)
        row |= {name: metric.value if metric else None}
        if name != "forgetting_nats":
            row |= {f"{name}_{end}": getattr(metric, end) if metric else None for end in ("low", "high")}
    return row


def _remedy_frontier_said(comparison: Comparison) -> str:
    def told(each: Tried) -> str:
        numbers = (("unwanted", "unwanted_rate"), ("wanted", "wanted_rate"))
        parts = [f"{what} {100 * value:.0f}%" for what, name in numbers if (value := each.value(name)) is not None]
        return f"{each.label}: {', '.join(parts)}"

    return "; ".join(told(each) for each in [comparison.untreated, *comparison.measured]) + "."


_PANELS = (("unwanted_rate", "unwanted rate\n(less is better)"), ("wanted_rate", "wanted rate\n(more is better)"),
           ("forgetting_nats", "forgetting, nats a token\n(less is better)"))  # fmt: skip
_WIDTH, _ROW = 10.6, 0.285


@plot("remedy-ladder", of="comparison")
def draw_remedy_ladder(comparison: Comparison, name: str = "remedy-ladder") -> Drawing | None:
    """One row a remedy and strength, in the order of the table. None when nothing was measured."""
    every = [comparison.untreated, *comparison.measured]
    shown = [item for item in _PANELS if any(item[0] in each.metrics for each in every)]
    if not shown or len(every) < 2:
        return None
    places, heads = _places(every)
    with panels(1.3 + _ROW * (max(places) + 1), len(shown), _WIDTH, beside=True) as (figure, many):
        for axes, (metric, text) in zip(many, shown, strict=True):
            for place, each in zip(places, every, strict=True):
                _row(axes, place, each, metric)
            _dress(axes, comparison, metric, text)
        names = [_name(each) for each in every]
        many[0].set_yticks(places, [label(text, 46) for text in names])
        many[0].set_ylim(max(places) + 0.6, -0.6)
        for place, text in heads:
            # The heading of a group stands over its names, outside of the axes.
            many[0].annotate(
                text, (0, place), (-8, 0), ("axes fraction", "data"), "offset points", ha="right", va="center",
                fontweight="bold",
            )  # fmt: skip
        rows = [_remedy_ladder_numbers(each, metric) for each in every for metric, _ in shown if metric in each.metrics]
        return finish(figure, name, "Remedy by remedy, with intervals", _remedy_ladder_said(every), rows)


def _places(every: Sequence[Tried]) -> tuple[list[int], list[tuple[int, str]]]:
    """A line for each, one more for the heading of each group, and where those are."""
    places, heads, line, last = [], [], 0, ""
    for each in every:
        if each.number and each.group != last:
            heads.append((line, LOOKS[each.group][3]))
            last, line = each.group, line + 1
        places.append(line)
        line += 1
    return places, heads


def _name(each: Tried) -> str:
    return f"{each.number}  {each.label}" if each.number else each.label


def _row(axes: Axes, place: int, each: Tried, metric: str) -> None:
    found = each.metrics.get(metric)
    marker, colour, filled, _ = LOOKS[each.group] if each.number else ("s", INK, True, "")
    if found is None or found.value is None:
        return
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=5, alpha=0.28)
    face = colour if filled else "none"
    axes.plot([found.value], [place], marker=marker, markersize=7, color=colour, markerfacecolor=face, clip_on=False)
    if each.taken and metric == "unwanted_rate":
        axes.plot([found.value], [place], marker="x", markersize=11, color=INK, clip_on=False)


def _dress(axes: Axes, comparison: Comparison, metric: str, text: str) -> None:
    untreated = comparison.untreated
    value = untreated.value(metric)
    if value is not None:
        axes.axvline(value, color=INK, alpha=0.35, linewidth=1, zorder=0)
    if metric == "unwanted_rate" and untreated.free_rate is not None:
        axes.axvline(untreated.free_rate, **YARDSTICK)
    if metric == "wanted_rate" and value is not None:
        axes.axvline(value - KEPT, **{**YARDSTICK, "linestyle": (0, (1, 1.5))})
    if metric != "forgetting_nats":
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(text)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _remedy_ladder_numbers(each: Tried, metric: str) -> dict[str, Any]:
    found = each.metrics[metric]
    head: dict[str, Any] = {"number": each.number or None, "remedy": each.label, "quantity": metric}
    return {**head, "value": found.value, "low": found.low, "high": found.high, "clusters": found.clusters}


def _remedy_ladder_said(every: Sequence[Tried]) -> str:
    """Share removed and forgetting of each, in words."""
    parts = []
    for each in every:
        removed, forgets = each.value("removed"), each.value("forgetting_nats")
        told = [f"{100 * removed:.0f}% removed"] if removed is not None and each.number else []
        told += [f"forgets {forgets:.2f} nats"] if forgets is not None else []
        if each.group != IMPOSSIBLE and told:
            parts.append(f"{each.label}: {', '.join(told)}")
    return "; ".join(parts) + "."
