"""Remedies one under the other: unwanted rate, wanted rate and forgetting side by side, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spillover.measures.safe_remedy import KEPT
from spillover.report.drawing import INK, YARDSTICK, Drawing, finish, label, panels
from spillover.report.plots.remedy_frontier import LOOKS
from spillover.report.remedies.load import IMPOSSIBLE, Comparison, Tried

_PANELS = (("unwanted_rate", "unwanted rate\n(less is better)"), ("wanted_rate", "wanted rate\n(more is better)"),
           ("forgetting_nats", "forgetting, nats a token\n(less is better)"))  # fmt: skip
_WIDTH, _ROW = 10.6, 0.285


def draw(comparison: Comparison, name: str = "remedy-ladder") -> Drawing | None:
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
        rows = [_numbers(each, metric) for each in every for metric, _ in shown if metric in each.metrics]
        return finish(figure, name, "Remedy by remedy, with intervals", _said(every), rows)


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


def _numbers(each: Tried, metric: str) -> dict[str, Any]:
    found = each.metrics[metric]
    head: dict[str, Any] = {"number": each.number or None, "remedy": each.label, "quantity": metric}
    return {**head, "value": found.value, "low": found.low, "high": found.high, "clusters": found.clusters}


def _said(every: Sequence[Tried]) -> str:
    """Share removed and forgetting of each, in words."""
    parts = []
    for each in every:
        removed, forgets = each.value("removed"), each.value("forgetting_nats")
        told = [f"{100 * removed:.0f}% removed"] if removed is not None and each.number else []
        told += [f"forgets {forgets:.2f} nats"] if forgets is not None else []
        if each.group != IMPOSSIBLE and told:
            parts.append(f"{each.label}: {', '.join(told)}")
    return "; ".join(parts) + "."
