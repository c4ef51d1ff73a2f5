"""Mean rank of the unstated implication against bridging names a pair, and its margin beside the exact theory's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from spillover.record import Metric
from spillover.report.drawing import INK, YARDSTICK, Drawing, finish, label, looks, panels
from spillover.report.study.bridging import BridgePoint, bridge_points, by_set
from spillover.report.study.load import Cell


def draw(cells: Sequence[Cell], name: str = "rank-by-bridging") -> Drawing | None:
    """Upper panel: the rank, a curve a set with its interval. Lower: margins per stated margin, the theory dotted."""
    points = bridge_points(cells)
    if not points:
        return None
    handles: dict[str, Artist] = {}
    with panels(6.4 + 0.25 * len(by_set(points)), 2) as (figure, (above, below)):
        sets = by_set(points)
        for (text, own), look in zip(sets.items(), looks([own[0].wanted for own in sets.values()]), strict=True):
            shown = f"{label(text, 30)} ({'true' if own[0].wanted else 'not true'})"
            handles[shown] = _curve(above, [(p.stated, p.rank) for p in own], look)
            _curve(below, [(p.stated, p.ratio) for p in own if p.ratio is not None], look)
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
        return finish(figure, name, title, _said(points), [_numbers(point) for point in points])


def _curve(axes: Axes, places: Sequence[tuple[float, Metric]], look: tuple[str, Any, str]) -> Artist:
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


def _numbers(point: BridgePoint) -> dict[str, Any]:
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


def _said(points: Sequence[BridgePoint]) -> str:
    parts = [
        f"{text}: " + ", ".join(f"{p.mean:.2f} at {p.stated:g}" for p in own) for text, own in by_set(points).items()
    ]
    theory = ", ".join(f"{margin:.2f} at {x:g}" for x, margin in sorted({(p.stated, p.theory) for p in points}))
    return f"Mean rank by bridging names a pair. {'; '.join(parts)}. Margin in theory: {theory}."
