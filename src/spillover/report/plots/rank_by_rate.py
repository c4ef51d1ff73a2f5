"""Mean rank of the unstated implication once the stated rows are learned, against the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from spillover.report.drawing import INK, YARDSTICK, Drawing, finish, label, looks, panels
from spillover.report.story import unique
from spillover.report.study.load import Cell
from spillover.report.study.rates import RatePoint, rate_points, scientific


def draw(cells: Sequence[Cell], name: str = "rank-by-rate") -> Drawing | None:
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
        _axes(above, below, points, handles)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", handlelength=3)
        title = "Mean rank once the stated rows are learned, by learning rate"
        return finish(figure, name, title, _said(points), [row for point in points for row in _numbers(point)])


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


def _axes(above: Axes, below: Axes, points: Sequence[RatePoint], handles: dict[str, Artist]) -> None:
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


def _numbers(point: RatePoint) -> list[dict[str, Any]]:
    """One row for all seeds together, and one a seed."""
    rank = point.rank
    head = {"set": point.label, "learning_rate": f"{point.rate:g}"}
    pooled = {"low": rank.low, "high": rank.high, "clusters": rank.clusters, "learned": point.learned}
    rows = [{**head, "seed": None, "passes": point.epochs, "mean_rank": rank.value, **pooled}]
    return rows + [
        {**head, "seed": seed.seed, "passes": seed.epoch, "mean_rank": seed.rank, "learned": seed.learned}
        for seed in point.seeds
    ]


def _said(points: Sequence[RatePoint]) -> str:
    parts = [
        f"{point.label} at {point.rate:g}: rank {point.mean:.2f} after {point.epochs} passes{point.unlearned}"
        for point in points
    ]
    return "; ".join(parts) + "."
