"""Curves of one quantity for several runs in one figure, told apart by colour, dash and marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import INK, LINES, Drawing, canvas, finish, label

Curve = Mapping[float, np.ndarray]
#: More points than this are drawn without markers.
_MARKED = 20


def overlay(curves: Sequence[tuple[str, Curve]], name: str, title: str, y_label: str, band: str) -> Drawing:
    """One line a labelled curve (its mean), with a band from least to greatest where an epoch has several values.

    band: what those several values are, for the legend.
    """
    rows: list[dict[str, Any]] = []
    handles: list[Artist] = []
    with canvas(2.8 + 0.25 * len(curves)) as (figure, axes):
        for index, (text, curve) in enumerate(curves):
            handles.append(_line(axes, curve, index))
            rows += [
                {"run": text, "epoch": epoch, "mean": v.mean(), "low": v.min(), "high": v.max(), "n": len(v)}
                for epoch, v in curve.items()
            ]
        axes.set_xlabel("passes over the training sentences")
        axes.set_ylabel(y_label)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        names = [label(text, 54) for text, _ in curves]
        if any(len(values) > 1 for _, curve in curves for values in curve.values()):
            handles.append(Patch(color=INK, alpha=0.16, linewidth=0))
            names.append(band)
        figure.legend(handles, names, loc="outside lower left", handlelength=3)
        return finish(figure, name, title, _described(curves), rows)


def _line(axes: Axes, curve: Curve, index: int) -> Line2D:
    """Draw one curve in the style of its turn and return its line for the legend."""
    colour, dash, marker = LINES[index % len(LINES)]
    epochs = list(curve)
    if any(len(values) > 1 for values in curve.values()):
        low, high = [v.min() for v in curve.values()], [v.max() for v in curve.values()]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0)
    means = [values.mean() for values in curve.values()]
    shown = marker if len(epochs) <= _MARKED else ""
    return axes.plot(
        epochs, means, color=colour, linestyle=dash, marker=shown, markersize=4.5, linewidth=1.8, clip_on=False
    )[0]


def _described(curves: Sequence[tuple[str, Curve]]) -> str:
    """First and last value of every curve, in words."""
    parts = []
    for text, curve in curves:
        if curve:
            (start, first), (end, last) = (list(curve.items())[place] for place in (0, -1))
            parts.append(f"{text}: from {first.mean():.2f} at epoch {start:g} to {last.mean():.2f} at epoch {end:g}")
    return ". ".join(parts) + "."
