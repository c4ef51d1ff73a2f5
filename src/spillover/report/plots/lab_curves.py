"""Means over seeds with their intervals, one line a kind of model, beside the values that the theory gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label

#: More points than this are drawn without markers.
_MARKED = 20
_REFERENCE_DASHES = ((0, (1, 2)), (0, (6, 3)), (0, (3, 2, 1, 2)))


@dataclass(frozen=True)
class Point:
    """Mean of some seeds at one place, with its interval; low and high equal the mean for one seed."""

    x: float
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Line:
    """A named line; style: its place in the house's list of line styles. known: exact values, drawn without a band."""

    label: str
    points: tuple[Point, ...]
    style: int
    known: bool = False


@dataclass(frozen=True)
class Chart:
    """What to draw: lines against x, and horizontal lines at values with a name. ticks: places to label on the x axis.

    limits: least and greatest y shown.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    references: tuple[tuple[str, float], ...] = ()
    log_x: bool = False
    log_y: bool = False
    ticks: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None


def draw(chart: Chart, name: str) -> Drawing | None:
    """The chart; None when no line has a point."""
    lines = [line for line in chart.lines if line.points]
    if not lines:
        return None
    with canvas(2.7 + 0.25 * (len(lines) + len(chart.references))) as (figure, axes):
        handles = [_line(axes, line) for line in lines] + [
            axes.axhline(value, color=INK, linestyle=_REFERENCE_DASHES[index % 3], linewidth=1.1)
            for index, (_, value) in enumerate(chart.references)
        ]
        _axes(axes, chart)
        names = [label(line.label, 60) for line in lines] + [label(text, 60) for text, _ in chart.references]
        figure.legend(handles, names, loc="outside lower left", handlelength=3)
        return finish(figure, name, chart.title, _described(lines, chart.references), _numbers(lines, chart))


def _line(axes: Axes, line: Line) -> Line2D:
    colour, dash, marker = LINES[line.style % len(LINES)]
    places = [point.x for point in line.points]
    if not line.known and any(point.n > 1 for point in line.points):
        low, high = [point.low for point in line.points], [point.high for point in line.points]
        axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
    means = [point.mean for point in line.points]
    shown = marker if len(places) <= _MARKED else ""
    drawn = axes.plot(places, means, color=colour, linestyle=dash, marker=shown, markersize=4.5, linewidth=1.8)[0]
    if line.known:
        drawn.set_markerfacecolor("none")
    return drawn


def _axes(axes: Axes, chart: Chart) -> None:
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    if chart.log_x:
        zero = any(point.x == 0 for line in chart.lines for point in line.points)
        axes.set_xscale("symlog" if zero else "log", **({"linthresh": 1} if zero else {}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=0 if zero else None)
    if chart.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if chart.limits:
        axes.set_ylim(*chart.limits)
    if chart.ticks:
        axes.set_xticks(chart.ticks, [f"{tick:g}" for tick in chart.ticks])
        axes.minorticks_off()
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _numbers(lines: Sequence[Line], chart: Chart) -> list[dict[str, Any]]:
    points = [
        {"line": line.label, "x": p.x, "mean": p.mean, "low": p.low, "high": p.high, "seeds": p.n}
        for line in lines
        for p in line.points
    ]
    return points + [{"line": text, "x": None, "mean": value} for text, value in chart.references]


def _described(lines: Sequence[Line], references: Sequence[tuple[str, float]]) -> str:
    """First and last value of every line, and the reference lines, in words."""
    parts = [f"{li.label}: {li.points[0].mean:.3g} first, {li.points[-1].mean:.3g} last" for li in lines]
    return ". ".join([*parts, *(f"{text}: {value:.3g}" for text, value in references)]) + "."
