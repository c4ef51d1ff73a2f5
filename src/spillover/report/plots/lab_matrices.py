"""Output-value matrices side by side on one scale: what training made, and the two exact solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spillover.report.drawing import INK, Drawing, canvas, finish

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


def draw(maps: Maps, name: str) -> Drawing | None:
    """The maps two by two, blue below zero and red above, one scale for all; None when there is none."""
    if not maps.maps:
        return None
    top = max(float(np.abs(item.matrix).max()) for item in maps.maps)
    with canvas(3.1 * -(-len(maps.maps) // 2) + 0.5, WIDTH) as (figure, first):
        first.remove()
        grid = figure.subplots(-(-len(maps.maps) // 2), 2, squeeze=False)
        for index, (axes, item) in enumerate(zip(grid.ravel(), maps.maps, strict=False)):
            image = _map(axes, maps, item, top)
            _labels(axes, maps, left=index % 2 == 0)
        bar = figure.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
        bar.set_label("entry, at a smallest stated margin of 1")
        bar.outline.set_visible(False)
        return _finished(figure, maps, name)


def _map(axes: Axes, maps: Maps, item: Map, top: float) -> Any:
    image = axes.imshow(
        by_split(maps, item.matrix), cmap="RdBu_r", vmin=-top, vmax=top, interpolation="none", aspect="auto"
    )
    axes.set_title(item.title, loc="left")
    for place in (maps.classes * maps.train, maps.classes * (maps.train + maps.test)):
        axes.axvline(place - 0.5, color=INK, linewidth=0.6)
    axes.axhline(maps.classes - 0.5, color=INK, linewidth=0.6)
    return image


def _labels(axes: Axes, maps: Maps, left: bool) -> None:
    train, both = maps.classes * maps.train, maps.classes * (maps.train + maps.test)
    names = [((train - 1) / 2, "told both"), ((train + both - 1) / 2, "told the fact only"), (both + 0.5, "r")]
    shown = [(place, text) for place, text in names if text != "told both" or train]
    axes.set_xticks([place for place, _ in shown], [text for _, text in shown])
    axes.set_yticks([(maps.classes - 1) / 2, 1.5 * maps.classes - 0.5], ["facts b", "implied c"] if left else ["", ""])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _finished(figure: Figure, maps: Maps, name: str) -> Drawing:
    """The drawing; its numbers are the mean entry of each block that the theory names."""
    rows: list[dict[str, Any]] = [{"matrix": item.title, **_blocks(maps, item.matrix)} for item in maps.maps]
    said = ". ".join(f"{row['matrix']}: " + ", ".join(f"{k} {v:.2f}" for k, v in list(row.items())[1:]) for row in rows)
    return finish(figure, name, maps.title, f"Mean entries. {said}.", rows)


def _blocks(maps: Maps, matrix: Float[np.ndarray, "answer column"]) -> dict[str, float]:
    """Mean entry of a subject's own answer in each block, and of the relations in their own answers."""
    ordered = by_split(maps, matrix)
    n, found = maps.classes, {}
    starts = {"told both": (0, maps.train), "told the fact only": (n * maps.train, maps.test)}
    for words, (start, each) in starts.items():
        if each:
            owner = np.repeat(np.arange(n), each)
            columns = start + np.arange(n * each)
            found[f"own fact, {words}"] = float(ordered[owner, columns].mean())
            found[f"own implication, {words}"] = float(ordered[n + owner, columns].mean())
    found["r1 on facts"] = float(ordered[:n, -2].mean())
    found["r2 on implied answers"] = float(ordered[n:, -1].mean())
    return found
