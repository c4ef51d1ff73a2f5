"""Mean rank of the unstated answers against epochs, with the lines it must be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from spillover.measures.bootstrap import FEW, clusters_of, interval
from spillover.report.drawing import BLUE, INK, VERMILLION, Drawing, canvas, finish
from spillover.report.story import Story

#: More pairs than this have no lines of their own.
_THIN_LINES = 12


def draw(stories: Sequence[Story], name: str = "rank-by-epoch", top: float | None = None) -> Drawing | None:
    """Mean rank of the first story against epochs; `top` is the common upper end of several figures."""
    story = stories[0]
    rows = _numbers(story)
    if not rows:
        return None
    colour, dash, marker = (BLUE, "-", "o") if story.wanted else (VERMILLION, (0, (5, 2)), "s")
    with canvas(4.3) as (figure, axes):
        handles = [*_spread(axes, story, rows, colour), *_yardsticks(axes, story, rows)]
        epochs, means = [row["epoch"] for row in rows], [row["mean_rank"] for row in rows]
        main = axes.plot(epochs, means, color=colour, linestyle=dash, marker=marker, linewidth=2.4, clip_on=False)[0]
        axes.set_xlabel("passes over the training sentences")
        axes.set_ylabel("mean rank (0 is best)")
        axes.set_ylim(0, top or highest(story))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        named = [(main, "mean rank of the expected answer"), *handles]
        figure.legend([h for h, _ in named], [t for _, t in named], loc="outside lower left", handlelength=3)
        ends = f" (95% interval {rows[-1]['low']:.2f} to {rows[-1]['high']:.2f}, {rows[-1]['clusters']} clusters)"
        said = f"Mean rank {means[0]:.2f} before training, {means[-1]:.2f} after {epochs[-1]} epochs{ends}"
        line = "" if story.marginal is None else f"; knowing only which answers occur gives {story.marginal:.2f}"
        return finish(figure, name, f"Mean rank against epochs: {story.label}", said + line + ".", rows)


def highest(story: Story) -> float:
    """Where the rank axis of this story ends: a little above everything that is drawn."""
    drawn = [value for row in _numbers(story) for key, value in row.items() if key not in ("epoch", "clusters")]
    return 1.06 * max([1.0, story.chance or 0.0, *drawn])


def _pairs(story: Story) -> list[str]:
    """The pairs that have a line of their own: those of a single seed, if they are not too many."""
    alone = len(story.run.seeds) == 1 and 1 < len(story.rows_of_map) <= _THIN_LINES
    return story.rows_of_map if alone else []


def _numbers(story: Story) -> list[dict[str, Any]]:
    """One row a checkpoint: the mean rank with its cluster interval, and that of every pair with a line of its own."""
    asked, rows = story.asked, []
    if story.key is None or np.isnan(asked.rank).all():
        return []
    asked = asked.where(~np.isnan(asked.rank))
    for epoch in story.checkpoints:
        now = asked.only(checkpoint=epoch)
        low, high, clusters = interval(now.rank, clusters_of(now))
        numbers = {"mean_rank": float(now.rank.mean()), "low": low, "high": high, "clusters": clusters}
        parts = {f"pair {pair}": float(now.rank[now.cluster == pair].mean()) for pair in _pairs(story)}
        rows.append({"epoch": epoch, **numbers, **parts})
    return rows


def _spread(axes: Axes, story: Story, rows: list[dict[str, Any]], colour: str) -> list[tuple[Any, str]]:
    """The band of the cluster interval, and a thin line a pair when there is one seed and few pairs."""
    epochs, count = [row["epoch"] for row in rows], rows[-1]["clusters"]
    axes.fill_between(
        epochs, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=0.16, linewidth=0
    )
    few = " (few)" if count < FEW else ""
    what = "pairs" if len(story.run.seeds) == 1 else "clusters of a pair and a seed"
    found: list[tuple[Any, str]] = [
        (Patch(color=colour, alpha=0.16, linewidth=0), f"95% interval over {count} {what}{few}")
    ]
    if pairs := _pairs(story):
        axes.plot(
            epochs, [[row[f"pair {pair}"] for pair in pairs] for row in rows], color=colour, alpha=0.3, linewidth=1
        )
        line = Line2D([], [], color=colour, alpha=0.4, linewidth=1)
        found.append((line, f"each of the {len(pairs)} pairs"))
    return found


def _yardsticks(axes: Axes, story: Story, rows: list[dict[str, Any]]) -> list[tuple[Any, str]]:
    """Horizontal lines: a random guess, knowing only the list of answers, and the model before training."""
    lines = (
        (story.chance, "random guess", (0, (1, 2)), 1.2, 0.7),
        (rows[0]["mean_rank"], "before training", "-", 0.8, 0.4),
        (story.marginal, "knows only which answers occur", (0, (6, 3)), 1.6, 0.9),
    )
    handles: list[tuple[Any, str]] = []
    for value, text, dash, width, alpha in lines:
        if value is not None:
            line = axes.axhline(value, color=INK, linestyle=dash, linewidth=width, alpha=alpha)
            handles.append((line, f"{text}: {value:.2f}"))
    return handles
