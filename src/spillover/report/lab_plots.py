"""The figures of `lab`: curves over seeds, matrices side by side, pairs of models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from spillover.record import Metric
from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label, plot

#: More points than this are drawn without markers.
_MARKED = 20
_REFERENCE_DASHES = ((0, (1, 2)), (0, (6, 3)), (0, (3, 2, 1, 2)))
#: Place on the x axis -> mean of some seeds with its interval. An exact value is of no seeds (n = 0).
Curve = Mapping[float, Metric]


def numbers(point: Metric) -> dict[str, Any]:
    """The columns of a mean over seeds in a figure's table."""
    return {"mean": point.value, "low": point.low, "high": point.high, "seeds": point.n}


@dataclass(frozen=True)
class Chart:
    """What to draw, by name: curves against x, and horizontal lines at values.

    ticks: places to label on the x axis. limits: least and greatest y shown.
    """

    title: str
    y_label: str
    curves: Mapping[str, Curve]
    references: Mapping[str, float] = field(default_factory=dict)
    x_label: str = "training step"
    log_x: bool = True
    log_y: bool = False
    ticks: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None


@plot("lab-curves", of="lab")
def draw_lab_curves(chart: Chart, name: str) -> Drawing | None:
    """The chart; None when no curve has a point."""
    curves = {text: curve for text, curve in chart.curves.items() if curve}
    if not curves:
        return None
    with canvas(2.7 + 0.25 * (len(curves) + len(chart.references))) as (figure, axes):
        handles = {text: _draw(axes, curve, *look) for look, (text, curve) in zip(cycle(LINES), curves.items())}
        for dashes, (text, value) in zip(cycle(_REFERENCE_DASHES), chart.references.items()):
            handles[text] = axes.axhline(value, color=INK, linestyle=dashes, linewidth=1.1)
        _scale(axes, chart, zero=any(0 in curve for curve in curves.values()))
        legend = {label(text, 60): handle for text, handle in handles.items()}
        rows = [
            {"line": text, "x": x, **numbers(point)} for text, curve in curves.items() for x, point in curve.items()
        ]
        rows += [{"line": text, "x": None, "mean": value} for text, value in chart.references.items()]
        means = {text: [point.value for point in curve.values()] for text, curve in curves.items()}
        parts = [f"{text}: {values[0]:.3g} first, {values[-1]:.3g} last" for text, values in means.items()]
        parts += [f"{text}: {value:.3g}" for text, value in chart.references.items()]
        return finish(figure, name, chart.title, ". ".join(parts) + ".", rows, legend, handlelength=3)


def _draw(axes: Axes, curve: Curve, colour: str, dash: Any, marker: str) -> Line2D:
    """The means, with a band for their intervals where there are several seeds; exact values are hollow."""
    seeds = max(point.n for point in curve.values())
    mean, low, high = np.array([(point.value, point.low, point.high) for point in curve.values()], float).T
    if seeds > 1:
        axes.fill_between(list(curve), low, high, color=colour, alpha=0.18, linewidth=0)
    look = {"color": colour, "linestyle": dash, "linewidth": 1.8, "markersize": 4.5}
    shown, face = marker if len(curve) <= _MARKED else "", colour if seeds else "none"
    return axes.plot(list(curve), mean, marker=shown, markerfacecolor=face, **look)[0]


def _scale(axes: Axes, chart: Chart, zero: bool) -> None:
    """Labels, scales and ticks. zero: whether a curve has a point at 0, which a logarithmic axis cannot show."""
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.log_x:
        axes.set_xscale("symlog" if zero else "log", **({"linthresh": 1} if zero else {}))
        axes.set_xlim(left=0 if zero else None)
    if chart.log_y:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, chart.log_x), (axes.yaxis, chart.log_y)):
        if logarithmic:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
    if chart.limits:
        axes.set_ylim(*chart.limits)
    if chart.ticks:
        axes.set_xticks(chart.ticks, [f"{tick:g}" for tick in chart.ticks])
        axes.minorticks_off()
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


#: Wide enough for four maps in two rows.
WIDTH = 10.4


@dataclass(frozen=True)
class Maps:
    """Matrices of one task by title: rows are the b, then the c answers; columns train and test subjects, r1, r2.

    classes: how many. train, test: subjects a class of each kind.
    """

    title: str
    matrices: Mapping[str, Float[np.ndarray, "answer column"]]
    classes: int
    train: int
    test: int


def by_split(maps: Maps, matrix: Float[np.ndarray, "answer column"]) -> Float[np.ndarray, "answer column"]:
    """Columns reordered from class by class to all train subjects, all test subjects, r1, r2."""
    each = maps.train + maps.test
    tested = np.arange(maps.classes * each) % each >= maps.train
    return matrix[:, np.argsort([*tested, True, True], kind="stable")]


@plot("lab-matrices", of="lab")
def draw_lab_matrices(maps: Maps, name: str) -> Drawing | None:
    """The maps two by two, blue below zero and red above, on one scale; None when there is none. Rows: block means."""
    if not maps.matrices:
        return None
    ordered = {title: by_split(maps, matrix) for title, matrix in maps.matrices.items()}
    top, lines = max(float(np.abs(matrix).max()) for matrix in ordered.values()), -(-len(ordered) // 2)
    with canvas(3.1 * lines + 0.5, WIDTH) as (figure, first):
        first.remove()
        grid = figure.subplots(lines, 2, squeeze=False)
        for place, (axes, (title, matrix)) in enumerate(zip(grid.flat, ordered.items(), strict=False)):
            image = axes.imshow(matrix, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="none", aspect="auto")
            axes.set_title(title, loc="left")
            _mark_blocks(axes, maps, left=place % 2 == 0)
        bar = figure.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
        bar.set_label("entry, at a smallest stated margin of 1")
        bar.outline.set_visible(False)
        blocks = {title: _blocks(maps, matrix) for title, matrix in ordered.items()}
        means = (f"{t}: " + ", ".join(f"{key} {mean:.2f}" for key, mean in own.items()) for t, own in blocks.items())
        rows = [{"matrix": title, **own} for title, own in blocks.items()]
        return finish(figure, name, maps.title, f"Mean entries. {'. '.join(means)}.", rows)


def _mark_blocks(axes: Axes, maps: Maps, left: bool) -> None:
    """The edges and names of a map's blocks; left: whether its rows are labelled."""
    train, both = maps.classes * maps.train, maps.classes * (maps.train + maps.test)
    for place in (train, both):
        axes.axvline(place - 0.5, color=INK, linewidth=0.6)
    axes.axhline(maps.classes - 0.5, color=INK, linewidth=0.6)
    names = {"both stated": (train - 1) / 2, "the fact only": (train + both - 1) / 2, "r": both + 0.5}
    if not train:
        del names["both stated"]
    axes.set_xticks(list(names.values()), list(names))
    axes.set_yticks([(maps.classes - 1) / 2, 1.5 * maps.classes - 0.5], ["facts b", "implied c"] if left else ["", ""])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _blocks(maps: Maps, ordered: Float[np.ndarray, "answer column"]) -> dict[str, float]:
    """Mean entry of a subject's own answer in each block, and of the relations in their own answers."""
    n, found = maps.classes, {}
    for words, start, each in (("both stated", 0, maps.train), ("the fact only", n * maps.train, maps.test)):
        if each:
            owner, columns = np.repeat(np.arange(n), each), start + np.arange(n * each)
            found[f"own fact, {words}"] = float(ordered[owner, columns].mean())
            found[f"own implication, {words}"] = float(ordered[n + owner, columns].mean())
    relations = {"r1 on facts": ordered[:n, -2], "r2 on implied answers": ordered[n:, -1]}
    return found | {words: float(entries.mean()) for words, entries in relations.items()}


@dataclass(frozen=True)
class Pairs:
    """What each model reached: variant, from top to bottom -> model -> mean over seeds. references: values by name."""

    title: str
    x_label: str
    pairs: Mapping[str, Mapping[str, Metric]]
    references: Mapping[str, float] = field(default_factory=dict)


@plot("lab-pairs", of="lab")
def draw_lab_pairs(pairs: Pairs, name: str) -> Drawing | None:
    """The dots; None when there is no variant."""
    if not pairs.pairs:
        return None
    with canvas(1.4 + 0.52 * len(pairs.pairs)) as (figure, axes):
        handles, rows = dict[str, Line2D](), list[dict[str, Any]]()
        for index, (variant, models) in enumerate(pairs.pairs.items()):
            across = axes.get_yaxis_transform()
            axes.text(0, index - 0.24, label(variant, 46), va="bottom", fontsize=11, transform=across)
            for place, ((model, point), (colour, _, marker)) in enumerate(zip(models.items(), LINES, strict=False)):
                low, mean, high = np.array([point.low, point.value, point.high], float)
                height = index + 0.16 * place
                axes.plot([low, high], [height, height], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot([mean], [height], color=colour, marker=marker, markersize=7, clip_on=False)
                handles[model] = Line2D([], [], color=colour, marker=marker, linestyle="")
                rows.append({"variant": variant, "model": model, **numbers(point)})
        for text, value in pairs.references.items():
            handles[text] = axes.axvline(value, color=INK, linestyle=_REFERENCE_DASHES[0], linewidth=1.1)
        axes.set_ylim(len(pairs.pairs) - 0.45, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(pairs.x_label)
        described = ". ".join(f"{row['variant']}, {row['model']}: {row['mean']:.2f}" for row in rows)
        return finish(figure, name, pairs.title, described + ".", rows, handles, ncols=2)
