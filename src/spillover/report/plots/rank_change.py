"""Mean rank before and after training, one row an implication, against the line of knowing only which answers occur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spillover.report.drawing import BLUE, INK, VERMILLION, Drawing, canvas, finish, label
from spillover.report.story import Story


def draw(stories: Sequence[Story], name: str = "rank-change") -> Drawing | None:
    """One row a story: hollow before, filled after (with its interval), ticks for the two guesses."""
    told = [story for story in stories if story.metric("implication_rank_test") is not None]
    if not told:
        return None
    rows = [_numbers(story) for story in told]
    with canvas(1.75 + 0.62 * len(told)) as (figure, axes):
        for index, (story, row) in enumerate(zip(told, rows, strict=True)):
            _row(axes, index, story, row)
        axes.set_ylim(len(told) - 0.4, -0.8)
        axes.set_xlim(-0.15, None)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("mean rank (0 is best)")
        figure.legend(*_legend(told), loc="outside lower left", ncols=2, handlelength=2, columnspacing=1.2)
        said = [f"{row['link']}: {row['before']:.2f} before, {row['after']:.2f} after" for row in rows]
        return finish(figure, name, "Mean rank before and after training", "; ".join(said) + ".", rows)


def _numbers(story: Story) -> dict[str, Any]:
    """What one row shows; missing numbers are None; a run measured once shows the same before and after."""
    after = story.metric("implication_rank_test")
    before = story.metric("implication_rank_test_before") or after
    assert before is not None and after is not None
    return {
        "link": story.label,
        "kind": story.kind_in_words,
        "before": before.value,
        "after": after.value,
        "low": after.low,
        "high": after.high,
        "marginal": story.marginal,
        "chance": story.chance,
    }


def _row(axes: Axes, index: int, story: Story, row: dict[str, Any]) -> None:
    colour, marker = (BLUE, "o") if story.wanted else (VERMILLION, "s")
    axes.text(0, index - 0.3, f"{label(story.label, 40)} ({story.kind_in_words})", va="bottom")
    axes.plot([row["before"], row["after"]], [index, index], color=INK, alpha=0.25, linewidth=1.2)
    if row["low"] is not None and row["high"] is not None:
        axes.plot([row["low"], row["high"]], [index, index], color=colour, linewidth=6, alpha=0.3)
    axes.plot([row["before"]], [index], marker=marker, markersize=8, markerfacecolor="none", color=INK)
    axes.plot([row["after"]], [index], marker=marker, markersize=8, color=colour, clip_on=False)
    for key, dash, width in (("marginal", "-", 2.2), ("chance", (0, (1, 1)), 1.6)):
        if row[key] is not None:
            axes.plot([row[key]] * 2, [index - 0.2, index + 0.2], color=INK, linestyle=dash, linewidth=width)


def _legend(told: Sequence[Story]) -> tuple[list[Line2D], list[str]]:
    """Handles and texts of what the rows show."""
    shapes: dict[str, Any] = {"linestyle": "none", "markersize": 8, "color": INK}
    tick: dict[str, Any] = {**shapes, "marker": "|", "markersize": 11}
    handles = {"before": Line2D([], [], marker="o", markerfacecolor="none", **shapes)}
    if any(story.wanted for story in told):
        handles["after, true link"] = Line2D([], [], marker="o", **{**shapes, "color": BLUE})
    if not all(story.wanted for story in told):
        handles["after, untrue link"] = Line2D([], [], marker="s", **{**shapes, "color": VERMILLION})
    handles["knows which answers occur"] = Line2D([], [], markeredgewidth=2.2, **tick)
    handles["random guess"] = Line2D([], [], alpha=0.6, **tick)
    return list(handles.values()), list(handles)
