"""The figures of a comparison of remedies: the frontier and the ladder."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spillover.metrics.remedies import KEPT, REMOVED
from spillover.report import drawing
from spillover.report.remedies import APART, NOT_LEARNED, SAFE, UNSAFE, UNTREATED, Comparison, Tried

#: Group -> (marker, colour, whether it is filled, words of the legend).
LOOKS = {
    UNTREATED: ("s", drawing.INK, True, "untreated"),
    SAFE: ("o", drawing.BLUE, True, "safe"),
    UNSAFE: ("o", drawing.VERMILLION, True, "learned what was stated, not safe"),
    NOT_LEARNED: ("o", drawing.INK, False, "did not learn what was stated"),
    APART: ("D", drawing.PURPLE, False, "leaves out or rewrites stated rows"),
}
_DOTTED: dict[str, Any] = {**drawing.BASELINE, "linestyle": (0, (1, 1.5))}
_WIDTH, _ROW = 10.6, 0.285


def _look(group: str) -> dict[str, Any]:
    marker, colour, filled, _ = LOOKS[group]
    face = colour if filled else "none"
    return {"marker": marker, "color": colour, "markerfacecolor": face, "markeredgewidth": 1.4, "linestyle": "none"}


def _percentages(axis: Any) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


@drawing.plot("remedy-frontier", of="comparison")
def draw_remedy_frontier(comparison: Comparison, name: str = "remedy-frontier") -> drawing.Drawing | None:
    """One numbered mark a remedy and strength, faint lines for its intervals; None without any unwanted rate.

    Unwanted rate against wanted rate; where the pack wants no link, against what was forgotten, as the axis then says.
    """
    untreated = comparison.untreated
    # Where the pack wants nothing, what was forgotten takes the y axis.
    wants = untreated.value("wanted_rate") is not None
    upright = "wanted_rate" if wants else "forgetting_nats"
    marks = {each: np.array([each.value("unwanted_rate"), each.value(upright)], float)
             for each in (untreated, *comparison.measured)}  # fmt: skip
    marks = {each: place for each, place in marks.items() if np.isfinite(place).all()}
    if untreated not in marks:
        return None
    most = max([each.value("forgetting_nats") or 0.0 for each in marks] + [1e-3])

    def size(nats: float | None) -> float:
        """Diameter of a mark in points; its area grows with what was forgotten, up to the most of all."""
        return 5.0 + 11.0 * math.sqrt(min(1.0, max(0.0, nats or 0.0) / most))

    with drawing.panels(7.4, 1, _WIDTH) as (figure, (axes,)):
        for each, (x, y) in marks.items():
            look, diameter = _look(each.group), size(each.value("forgetting_nats"))
            faint = {"color": look["color"], "alpha": 0.7 if each is comparison.advised else 0.22, "linewidth": 1.2}
            if each is untreated:
                diameter, look = 10.0, {**look, "zorder": 6}
            else:
                look |= {"alpha": 0.8, "zorder": 4}
                if ends := drawing.limits(each.metric("unwanted_rate")):
                    axes.plot(ends, [y, y], zorder=1, **faint)
                if ends := drawing.limits(each.metric(upright)):
                    axes.plot([x, x], ends, zorder=1, **faint)
            axes.plot([x], [y], markersize=diameter, clip_on=False, **look)
            if each.taken:
                axes.plot([x], [y], marker="x", markersize=diameter + 4, color=drawing.INK, zorder=5)
        points = np.stack(list(marks.values()))
        _frontier_axes(axes, points, untreated.value("free_rate"), wants)
        groups = {each.group for each in marks}
        handles = {LOOKS[group][3]: Line2D([], [], markersize=9, **_look(group)) for group in LOOKS if group in groups}
        if any(each.taken for each in marks):
            handles["another answer took the place"] = Line2D([], [], marker="x", color=drawing.INK, linestyle="none")
        if wants:
            # Two round numbers, near the most and near a fifth of it.
            for nats in (float(f"{most / 5:.1g}"), float(f"{most:.1g}")):
                look = {**_look(NOT_LEARNED), "markersize": size(nats), "alpha": 0.6}
                handles[f"forgets {nats:g} {'nat' if nats == 1 else 'nats'} a token"] = Line2D([], [], **look)
        handles |= _frontier_lines(axes, untreated)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.6)
        # The numbers stand by where the marks are once the legend has its room.
        figure.draw_without_rendering()
        _number_marks(axes, points, list(marks), comparison.advised)
        rows = [
            {"number": each.number or None, "remedy": each.label, "group": each.group,
             **each.row(("unwanted_rate", "wanted_rate", "removed"), "low", "high"), **each.row(("forgetting_nats",))}
            for each in marks
        ]  # fmt: skip
        texts = {"unwanted_rate": "unwanted {:.0%}"}
        texts |= {"wanted_rate": "wanted {:.0%}"} if wants else {"forgetting_nats": "forgets {:.2f} nats"}
        against = "wanted rate" if wants else "forgetting (the pack wants no link)"
        heading = f"Unwanted rate against {against} of every remedy"
        return drawing.finish(figure, name, heading, _described(marks, texts), rows)


def _described(every: Iterable[Tried], texts: Mapping[str, str]) -> str:
    """Figures of each remedy in words. texts: figure -> the words, with a slot for it."""
    parts = {each.label: [text.format(value) for name, text in texts.items() if (value := each.value(name)) is not None]
             for each in every}  # fmt: skip
    return "; ".join(f"{label}: {', '.join(words)}" for label, words in parts.items() if words) + "."


def _frontier_lines(axes: Axes, untreated: Tried) -> dict[str, Any]:
    """The two lines of the safe corner, the corner itself, and the line of no association at all."""
    found: dict[str, Any] = {}
    before, free, wanted = (untreated.value(name) for name in ("unwanted_rate", "free_rate", "wanted_rate"))
    if free is not None:
        found[f"unwanted rate without any association ({100 * free:.0f}%)"] = axes.axvline(free, **drawing.BASELINE)
    if wanted is not None:
        text = f"{100 * KEPT:.0f} points below the untreated wanted rate ({100 * (wanted - KEPT):.0f}%)"
        found[text] = axes.axhline(wanted - KEPT, **_DOTTED)
    if free is not None and before is not None and before > free and not untreated.nothing:
        edge = before - REMOVED * (before - free)
        low, height = (-1.0, 1000.0) if wanted is None else (wanted - KEPT, 3.0)
        look: Any = {"color": drawing.GREEN, "alpha": 0.13, "linewidth": 0, "zorder": 0}
        axes.add_patch(Rectangle((-1.0, low), edge + 1.0, height, **look))
        kept = "corner: {:.0f}% removed, wanted kept" if wanted is not None else "strip: {:.0f}% removed"
        corner = f"safe {kept.format(100 * REMOVED)}"
        found[corner] = Patch(color=drawing.GREEN, alpha=0.2, linewidth=0)
        across: Any = (lambda x: (before - x) / (before - free), lambda y: before - y * (before - free))
        top = axes.secondary_xaxis("top", functions=across)
        top.set_xlabel("share of the unwanted that is removed")
        _percentages(top.xaxis)
        top.spines["top"].set_visible(True)
    return found


def _frontier_axes(axes: Axes, points: np.ndarray, free: float | None, wants: bool) -> None:
    """Every mark is inside; an interval may go on beyond, the ladder shows it whole."""
    across, upward = [*points[:, 0], *([] if free is None else [free])], points[:, 1]
    for limit, values, share in ((axes.set_xlim, across, 0.09), (axes.set_ylim, upward, 0.1)):
        space = share * max(max(values) - min(values), 0.1)
        limit(min(values) - space, max(values) + space)
    _percentages(axes.xaxis)
    axes.set_xlabel("unwanted rate: unstated subjects that get the answer nobody wanted (less is better)")
    instead = "forgetting, nats a token (less is better)\nno wanted rate: the pack wants no link"
    axes.set_ylabel("wanted rate (more is better)" if wants else instead)
    if wants:
        _percentages(axes.yaxis)
        low, high = axes.get_ylim()
        # There is room above the last percentage, but no percentage.
        ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high)
        axes.set_yticks([tick for tick in ticks if low <= tick <= min(high, 1.001)])
    axes.grid(color=drawing.INK, alpha=0.1, linewidth=0.6)


def _number_marks(axes: Axes, points: np.ndarray, every: Sequence[Tried], advised: Tried | None) -> None:
    """The number of the table beside every mark, near it, on the side that is farthest from other marks and numbers."""
    places = axes.transData.transform(points) * 72 / axes.get_figure().dpi  # type: ignore[union-attr]
    angles = np.arange(16) * np.pi / 8
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    taken = list(places)
    for index, (each, point, place) in enumerate(zip(every, points, places, strict=True)):
        if not each.number:
            continue
        others = np.array(taken[:index] + taken[index + 1 :])
        for reach in (14, 22, 30):
            gaps = np.linalg.norm(place + reach * around[:, None] - others, axis=2).min(axis=1)
            offset = reach * around[int(gaps.argmax())]
            if gaps.max() > 11:
                break
        taken.append(place + offset)
        axes.annotate(str(each.number), point, offset, textcoords="offset points", fontsize=11, ha="center",
                      va="center", fontweight="bold" if each is advised else "normal", zorder=6)  # fmt: skip


_PANELS = (("unwanted_rate", "unwanted rate\n(less is better)"), ("wanted_rate", "wanted rate\n(more is better)"),
           ("forgetting_nats", "forgetting, nats a token\n(less is better)"))  # fmt: skip


@drawing.plot("remedy-ladder", of="comparison")
def draw_remedy_ladder(comparison: Comparison, name: str = "remedy-ladder") -> drawing.Drawing | None:
    """One row a remedy and strength, in the order of the table. None when nothing was measured."""
    every = [comparison.untreated, *comparison.measured]
    shown = [item for item in _PANELS if any(each.metric(item[0]) for each in every)]
    if not shown or len(every) < 2:
        return None
    places, heads = list[int](), dict[int, str]()
    for before, each in zip([comparison.untreated, *every], every, strict=False):
        # A line for each, one more for the heading of each group.
        if each.group != before.group:
            heads[places[-1] + 1] = LOOKS[each.group][3]
        places.append(len(places) + len(heads))
    with drawing.panels(1.3 + _ROW * (max(places) + 1), len(shown), _WIDTH, beside=True) as (figure, many):
        for axes, (metric, text) in zip(many, shown, strict=True):
            for place, each in zip(places, every, strict=True):
                look, value = _look(each.group), np.array([each.value(metric)], float)
                if ends := drawing.limits(each.metric(metric)):
                    axes.plot(ends, [place, place], color=look["color"], linewidth=5, alpha=0.28)
                if np.isfinite(value):
                    axes.plot(value, [place], markersize=7, clip_on=False, **look)
                    if each.taken and metric == "unwanted_rate":
                        axes.plot(value, [place], marker="x", markersize=11, color=drawing.INK, clip_on=False)
            _ladder_axes(axes, comparison.untreated, metric, text)
        names = [f"{each.number}  {each.label}" if each.number else each.label for each in every]
        many[0].set_yticks(places, [drawing.label(text, 46) for text in names])
        many[0].set_ylim(max(places) + 0.6, -0.6)
        for place, text in heads.items():
            # The heading of a group stands over its names, outside of the axes.
            many[0].annotate(text, (0, place), (-8, 0), ("axes fraction", "data"), "offset points", ha="right",
                             va="center", fontweight="bold")  # fmt: skip
        described = _described(every, {"removed": "{:.0%} removed", "forgetting_nats": "forgets {:.2f} nats"})
        rows: list[dict[str, Any]] = [
            {"number": each.number or None, "remedy": each.label, "quantity": metric, "value": found.value,
             "low": found.low, "high": found.high, "clusters": found.clusters}
            for each in every for metric, _ in shown if (found := each.metric(metric)) is not None
        ]  # fmt: skip
        return drawing.finish(figure, name, "Remedy by remedy, with intervals", described, rows)


def _ladder_axes(axes: Axes, untreated: Tried, metric: str, text: str) -> None:
    value = untreated.value(metric)
    if value is not None:
        axes.axvline(value, color=drawing.INK, alpha=0.35, linewidth=1, zorder=0)
    if metric == "unwanted_rate" and (free := untreated.value("free_rate")) is not None:
        axes.axvline(free, **drawing.BASELINE)
    if metric == "wanted_rate" and value is not None:
        axes.axvline(value - KEPT, **_DOTTED)
    if metric != "forgetting_nats":
        _percentages(axes.xaxis)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(text)
    axes.grid(axis="y", color=drawing.INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
