"""Mean rank of the unstated answers against epochs, with the lines it must be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from spillover.report.drawing import BLUE, INK, VERMILLION, Drawing, canvas, finish
from spillover.report.story import Story

#: More pairs than this are drawn as a band.
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
        said = f"Mean rank {means[0]:.2f} before training, {means[-1]:.2f} after {epochs[-1]} epochs"
        line = "" if story.marginal is None else f"; knowing only which answers occur gives {story.marginal:.2f}"
        return finish(figure, name, f"Mean rank against epochs: {story.label}", said + line + ".", rows)


def highest(story: Story) -> float:
    """Where the rank axis of this story ends: a little above everything that is drawn."""
    rows = _numbers(story)
    means = [value for row in rows for key, value in row.items() if key != "epoch"]
    return 1.06 * max([1.0, story.chance or 0.0, *means])


def _groups(story: Story) -> dict[str, np.ndarray]:
    """What varies: the seeds when there are several, the pairs otherwise. Name -> mask over the asked rows."""
    asked = story.asked
    if len(story.run.seeds) > 1:
        return {f"seed {seed}": asked.seed == seed for seed in story.run.seeds}
    return {f"pair {row}": asked.cluster == row for row in story.rows_of_map}


def _numbers(story: Story) -> list[dict[str, Any]]:
    """One row a checkpoint: the mean rank of all and of every group."""
    asked, rows = story.asked, []
    if story.key is None or np.isnan(asked.rank).all():
        return []
    groups = _groups(story)
    for epoch in story.checkpoints:
        now = asked.checkpoint == epoch
        parts = {name: float(asked.rank[now & mask].mean()) for name, mask in groups.items() if (now & mask).any()}
        rows.append({"epoch": epoch, "mean_rank": float(asked.rank[now].mean()), **parts})
    return rows


def _spread(axes: Axes, story: Story, rows: list[dict[str, Any]], colour: str) -> list[tuple[Any, str]]:
    """A thin line a pair, or a band from the least to the greatest when there are seeds or many pairs."""
    names = list(_groups(story))
    lines = np.array([[row.get(name, np.nan) for row in rows] for name in names])
    epochs = [row["epoch"] for row in rows]
    if len(names) < 2:
        return []
    if len(story.run.seeds) == 1 and len(names) <= _THIN_LINES:
        axes.plot(epochs, lines.T, color=colour, alpha=0.3, linewidth=1)
        return [(Line2D([], [], color=colour, alpha=0.4, linewidth=1), f"each of the {len(names)} pairs")]
    axes.fill_between(epochs, np.nanmin(lines, 0), np.nanmax(lines, 0), color=colour, alpha=0.16, linewidth=0)
    what = "seeds" if len(story.run.seeds) > 1 else "pairs"
    return [(Patch(color=colour, alpha=0.16, linewidth=0), f"range over {len(names)} {what}")]


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
