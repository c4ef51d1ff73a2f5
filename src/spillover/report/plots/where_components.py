"""What each component of a change carries alone in the base model, and what is left without it: bars a group."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from spillover.report.drawing import INK, Drawing, finish, panels
from spillover.report.where.load import BASE, ENDS, LOOKS, TUNED, WORDS, Patched, Where

_PANELS = ((False, "alone in the base model"), (True, "all of the change but it"))
_WIDTH, _ROW = 9.6, 0.62


def draw(found: Where, name: str = "where-components") -> Drawing | None:
    """The ends and every component. None when no component was measured."""
    parts = found.parts("component")
    if not parts or not found.groups:
        return None
    shown = [part for part in (BASE, *parts, TUNED) if found.of(part)]
    with panels(1.2 + _ROW * len(shown), 2, _WIDTH, beside=True) as (figure, axes):
        for side, (left_out, title) in zip(axes, _PANELS, strict=True):
            for place, part in enumerate(shown):
                if each := found.of(part, left_out) or (found.of(part) if part in (BASE, TUNED) else None):
                    _bars(side, place, each, found.groups)
            side.set_title(title)
            side.set_xlim(0, 1)
            side.set_xlabel("share answered so")
            side.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
        axes[0].set_yticks(range(len(shown)), [ENDS.get(part, part) for part in shown])
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        handles = [Patch(color=LOOKS[group][0]) for group in found.groups]
        figure.legend(handles, [WORDS[group] for group in found.groups], loc="outside lower left", ncols=len(handles))
        rows = [row for each in found.patched if each.kind != "layer" for row in numbers(each, found.groups)]
        return finish(figure, name, "What each component carries", _said(found, parts), rows)


def numbers(each: Patched, groups: Sequence[str]) -> list[dict[str, object]]:
    """The rows behind one model's bars."""
    found = []
    for group in groups:
        if metric := each.metrics.get(f"{group}_rate"):
            rank, free = (each.metrics.get(f"{group}_{key}") for key in ("rank", "free"))
            found.append({
                "part": ENDS.get(each.part, each.part), "left_out": each.left_out, "group": WORDS[group],
                "rate": metric.value, "low": metric.low, "high": metric.high, "mean_rank": rank.value if rank else None,
                "by_chance": free.value if free else None, "n": metric.n, "clusters": metric.clusters,
            })  # fmt: skip
    return found


def _bars(axes: Axes, place: int, each: Patched, groups: Sequence[str]) -> None:
    height = 0.8 / len(groups)
    for number, group in enumerate(groups):
        metric = each.metrics.get(f"{group}_rate")
        if metric is None or metric.value is None:
            continue
        middle = place - 0.4 + (number + 0.5) * height
        axes.barh([middle], [metric.value], height=0.86 * height, color=LOOKS[group][0], alpha=0.85)
        if metric.low is not None and metric.high is not None:
            axes.plot([metric.low, metric.high], [middle, middle], color=INK, linewidth=1, alpha=0.55)


def _said(found: Where, parts: Sequence[str]) -> str:
    """The rates in words, part by part."""
    told = []
    for part in parts:
        for left_out, words in ((False, "alone"), (True, "left out")):
            if each := found.of(part, left_out):
                rates = [
                    f"{WORDS[group]} {rate:.2f}" for group in found.groups if (rate := each.rate(group)) is not None
                ]
                told.append(f"{part} {words}: {', '.join(rates)}")
    return "; ".join(told) + "."
