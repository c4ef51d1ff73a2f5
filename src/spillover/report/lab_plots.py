"""The figures of `lab`: curves over seeds, matrices side by side, pairs of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label, plot

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
class Series:
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
    lines: tuple[Series, ...]
    references: tuple[tuple[str, float], ...] = ()
    log_x: bool = False
    log_y: bool = False
    ticks: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None


@plot("lab-curves", of="lab")
def draw_lab_curves(chart: Chart, name: str) -> Drawing | None:
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


def _line(axes: Axes, line: Series) -> Line2D:
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


def _numbers(lines: Sequence[Series], chart: Chart) -> list[dict[str, Any]]:
    points = [
        {"line": line.label, "x": p.x, "mean": p.mean, "low": p.low, "high": p.high, "seeds": p.n}
        for line in lines
        for p in line.points
    ]
    return points + [{"line": text, "x": None, "mean": value} for text, value in chart.references]


def _described(lines: Sequence[Series], references: Sequence[tuple[str, float]]) -> str:
    """First and last value of every line, and the reference lines, in words."""
    parts = [f"{li.label}: {li.points[0].mean:.3g} first, {li.points[-1].mean:.3g} last" for li in lines]
    return ". ".join([*parts, *(f"{text}: {value:.3g}" for text, value in references)]) + "."


#: Wide enough for four maps in two rows.
WIDTH = 10.4


@dataclass(frozen=True)
class Map:
    """A matrix to draw under a title; rows are the b, then the c answers; columns train, test subjects, r1, r2."""

    title: str
    matrix: Float[np.ndarray, "answer column"]


@dataclass(frozen=True)
class Maps:
    """Maps of one task: how many classes, and how many subjects a class of each kind."""

    title: str
    maps: tuple[Map, ...]
    classes: int
    train: int
    test: int


def by_split(maps: Maps, matrix: Float[np.ndarray, "answer column"]) -> Float[np.ndarray, "answer column"]:
    """Columns reordered from class by class to all train subjects, all test subjects, r1, r2."""
    each = maps.train + maps.test
    place = np.arange(maps.classes * each) % each
    order = [*np.flatnonzero(place < maps.train), *np.flatnonzero(place >= maps.train)]
    return matrix[:, [*order, matrix.shape[1] - 2, matrix.shape[1] - 1]]


@plot("lab-matrices", of="lab")
def draw_lab_matrices(maps: Maps, name: str) -> Drawing | None:
    """The maps two by two, blue below zero and red above, one scale for all; None when there is none.

    Its numbers are the mean entry of each block that the theory names.
    """
    if not maps.maps:
        return None
    top, lines = max(float(np.abs(item.matrix).max()) for item in maps.maps), -(-len(maps.maps) // 2)
    with canvas(3.1 * lines + 0.5, WIDTH) as (figure, first):
        first.remove()
        grid = figure.subplots(lines, 2, squeeze=False)
        for index, (axes, item) in enumerate(zip(grid.ravel(), maps.maps, strict=False)):
            image = _map(axes, maps, item, top, left=index % 2 == 0)
        bar = figure.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
        bar.set_label("entry, at a smallest stated margin of 1")
        bar.outline.set_visible(False)
        rows: list[dict[str, Any]] = [{"matrix": item.title, **_blocks(maps, item.matrix)} for item in maps.maps]
        means = (", ".join(f"{key} {value:.2f}" for key, value in list(row.items())[1:]) for row in rows)
        described = ". ".join(f"{row['matrix']}: {mean}" for row, mean in zip(rows, means, strict=True))
        return finish(figure, name, maps.title, f"Mean entries. {described}.", rows)


def _map(axes: Axes, maps: Maps, item: Map, top: float, left: bool) -> AxesImage:
    """One map with its blocks marked; left: whether its rows are labelled."""
    ordered = by_split(maps, item.matrix)
    image = axes.imshow(ordered, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="none", aspect="auto")
    axes.set_title(item.title, loc="left")
    train, both = maps.classes * maps.train, maps.classes * (maps.train + maps.test)
    for place in (train, both):
        axes.axvline(place - 0.5, color=INK, linewidth=0.6)
    axes.axhline(maps.classes - 0.5, color=INK, linewidth=0.6)
    names = [((train - 1) / 2, "both stated"), ((train + both - 1) / 2, "the fact only"), (both + 0.5, "r")]
    shown = names if train else names[1:]
    axes.set_xticks([place for place, _ in shown], [text for _, text in shown])
    axes.set_yticks([(maps.classes - 1) / 2, 1.5 * maps.classes - 0.5], ["facts b", "implied c"] if left else ["", ""])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _blocks(maps: Maps, matrix: Float[np.ndarray, "answer column"]) -> dict[str, float]:
    """Mean entry of a subject's own answer in each block, and of the relations in their own answers."""
    ordered = by_split(maps, matrix)
    n, found = maps.classes, {}
    starts = {"both stated": (0, maps.train), "the fact only": (n * maps.train, maps.test)}
    for words, (start, each) in starts.items():
        if each:
            owner = np.repeat(np.arange(n), each)
            columns = start + np.arange(n * each)
            found[f"own fact, {words}"] = float(ordered[owner, columns].mean())
            found[f"own implication, {words}"] = float(ordered[n + owner, columns].mean())
    found["r1 on facts"] = float(ordered[:n, -2].mean())
    found["r2 on implied answers"] = float(ordered[n:, -1].mean())
    return found


@dataclass(frozen=True)
class Pairs:
    """What each model reached (Point.x is not used), by variant from top to bottom, in the order of the models' names.

    reference: a value with a name, or None.
    """

    title: str
    x_label: str
    names: tuple[str, ...]
    pairs: Mapping[str, Sequence[Point]]
    reference: tuple[str, float] | None = None


@plot("lab-pairs", of="lab")
def draw_lab_pairs(pairs: Pairs, name: str) -> Drawing | None:
    """The dots; None when there is no variant."""
    if not pairs.pairs:
        return None
    with canvas(1.4 + 0.52 * len(pairs.pairs)) as (figure, axes):
        for index, (variant, points) in enumerate(pairs.pairs.items()):
            across = axes.get_yaxis_transform()
            axes.text(0, index - 0.24, label(variant, 46), va="bottom", fontsize=11, transform=across)
            for place, point in enumerate(points):
                colour, _, marker = LINES[place]
                height = index + 0.16 * place
                axes.plot([point.low, point.high], [height, height], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot([point.mean], [height], color=colour, marker=marker, markersize=7, clip_on=False)
        handles = [Line2D([], [], color=LINES[i][0], marker=LINES[i][2], linestyle="") for i in range(len(pairs.names))]
        names = list(pairs.names)
        if pairs.reference:
            handles.append(axes.axvline(pairs.reference[1], color=INK, linestyle=(0, (1, 2)), linewidth=1.1))
            names.append(pairs.reference[0])
        axes.set_ylim(len(pairs.pairs) - 0.45, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(pairs.x_label)
        figure.legend(handles, names, loc="outside lower left", ncols=2)
        rows = [
            {"variant": variant, "model": n, "mean": p.mean, "low": p.low, "high": p.high, "seeds": p.n}
            for variant, points in pairs.pairs.items()
            for n, p in zip(pairs.names, points, strict=True)
        ]
        described = ". ".join(f"{row['variant']}, {row['model']}: {row['mean']:.2f}" for row in rows)
        return finish(figure, name, pairs.title, described + ".", rows)
