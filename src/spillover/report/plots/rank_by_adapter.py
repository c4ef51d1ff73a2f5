"""Mean rank of unstated implications, and what was forgotten, against the rank of the adapter that was trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from spillover.record import Metric
from spillover.report.drawing import INK, YARDSTICK, Drawing, finish, label, looks, panels
from spillover.report.story import stories, unique
from spillover.report.study.load import Cell


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


def draw(cells: Sequence[Cell], name: str = "rank-by-adapter") -> Drawing | None:
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
            handles[shown] = _curve(above, [(adapters.index(p.adapter), p.rank) for p in own], look, weights)
        forgotten = [(adapters.index(p.adapter), p.forgetting) for p in groups[0] if p.forgetting is not None]
        _curve(below, forgotten, (INK, "-", "D"), weights)
        _axes(above, below, points, handles)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", handlelength=3)
        title = "Mean rank of unstated implications by the rank of the adapter"
        return finish(figure, name, title, _said(points), [_numbers(point) for point in points])


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


def _curve(axes: Axes, places: Sequence[tuple[int, Metric]], look: tuple[str, Any, str], weights: int | None) -> Artist:
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


def _axes(above: Axes, below: Axes, points: Sequence[AdapterPoint], handles: dict[str, Artist]) -> None:
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


def _numbers(point: AdapterPoint) -> dict[str, Any]:
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


def _said(points: Sequence[AdapterPoint]) -> str:
    parts = []
    for text in unique(point.label for point in points):
        own = [f"{point.rank.value or 0:.2f} with {point.trained}" for point in points if point.label == text]
        parts.append(f"{text}: {', '.join(own)}")
    return f"Mean rank by the rank of the adapter. {'; '.join(parts)}."
