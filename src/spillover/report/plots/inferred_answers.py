"""Which answer was inferred for which given answer: a heat map before training, and one after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from spillover.measures.ranking import RankTable
from spillover.report.drawing import INK, WIDTH, Drawing, canvas, finish, label
from spillover.report.story import Story, spoken

#: One blue on light and dark pages alike, so that white numbers stay readable on it.
HEAT = "#1668b0"
_NUMBERED = 14
#: Larger maps show so many rows and columns, and one column for all other answers.
MOST_ROWS, MOST_COLUMNS, OTHERS = 24, 30, "(other answers)"


def before(stories: Sequence[Story], name: str = "inferred-before") -> Drawing | None:
    """The first story's heat map before training."""
    return _draw(stories[0], stories[0].before, name, stories[0].when[0])


def after(stories: Sequence[Story], name: str = "inferred-after") -> Drawing | None:
    """The first story's heat map after training."""
    return _draw(stories[0], stories[0].after, name, stories[0].when_last)


def _draw(story: Story, rows: RankTable, name: str, when: str) -> Drawing | None:
    """Rows: given answers. Columns: candidates. A cell: the share of the row's unstated names that get this answer."""
    if not len(rows):
        return None
    givens, candidates, counts = _chosen(story, story.tops(rows))
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    width = max(WIDTH, 1.2 + 0.34 * len(candidates))
    with canvas(1.6 + 0.36 * len(givens), width) as (figure, axes):
        _cells(axes, shares, [candidates.index(e) if (e := story.map.get(g)) in candidates else None for g in givens])
        axes.set_xticks(range(len(candidates)), [label(text, 14) for text in candidates], rotation=90)
        axes.set_yticks(range(len(givens)), [label(text, 14) for text in givens])
        axes.set_xlim(-0.52, len(candidates) - 0.48)
        axes.set_ylim(len(givens) - 0.48, -0.52)
        axes.tick_params(length=0)
        axes.set_xlabel(label(spoken(story.then)))
        axes.set_ylabel(label(spoken(story.given)))
        axes.spines[:].set_visible(False)
        cells = _numbers(story, givens, candidates, counts)
        said = _said(givens, candidates, counts, when)
        drawn = finish(figure, name, f"Top answers {when}: {story.label}", said, cells)
        return replace(drawn, note=_left_out(story, givens, candidates))


def _chosen(story: Story, counts: np.ndarray) -> tuple[list[str], list[str], np.ndarray]:
    """The rows and columns to draw, alike before and after: all, or of many those where most changed.

    Of rows those whose implied answer won most names, of columns the answers implied or most often given in them; what
    the other columns hold is added up in one.
    """
    givens, candidates = story.rows_of_map or ["every name"], story.columns_of_map
    if len(givens) <= MOST_ROWS and len(candidates) <= MOST_COLUMNS:
        return givens, candidates, counts
    first, last = story.tops(story.before), story.tops(story.after)
    column = {name: index for index, name in enumerate(candidates)}
    own = [column.get(story.map.get(given, "")) for given in givens]
    won = [0 if place is None else int(last[row, place] - first[row, place]) for row, place in enumerate(own)]
    rows = sorted(range(len(givens)), key=lambda row: -won[row])[:MOST_ROWS]
    implied = dict.fromkeys(place for row in rows if (place := own[row]) is not None)
    often = sorted(range(len(candidates)), key=lambda place: -int((first + last)[rows, place].sum()))
    columns = list(dict.fromkeys([*implied, *often]))[:MOST_COLUMNS]
    rest = counts[rows].sum(1, keepdims=True) - counts[np.ix_(rows, columns)].sum(1, keepdims=True)
    drawn = np.hstack([counts[np.ix_(rows, columns)], rest])
    return [givens[row] for row in rows], [*(candidates[place] for place in columns), OTHERS], drawn


def _left_out(story: Story, givens: Sequence[str], candidates: Sequence[str]) -> str:
    """What is not drawn, in a sentence; nothing when all is."""
    rows, columns = len(story.rows_of_map), len(story.columns_of_map)
    if candidates[-1] != OTHERS:
        return ""
    shown = f"{len(givens)} of {rows:,} given answers, those whose implied answer won most names"
    return f"Shown are {shown}, and {len(candidates) - 1} of {columns:,} answers; the downloads hold all."


def _cells(axes: Axes, shares: np.ndarray, expected: list[int | None]) -> None:
    """Colour each cell by its share, write the percentage in it, outline the expected one."""
    large = shares.shape[1] > _NUMBERED
    for row in range(len(shares) if large else 0):
        # One band a row, where a patch a cell would be thousands.
        axes.add_patch(Rectangle((-0.46, row - 0.46), shares.shape[1] - 0.08, 0.92, facecolor=INK, alpha=0.05, lw=0))
    for (row, column), share in np.ndenumerate(shares):
        corner = (column - 0.46, row - 0.46)
        if not large:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=INK, alpha=0.05, linewidth=0))
        if share:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=HEAT, alpha=float(0.08 + 0.92 * share), linewidth=0))
        if share and shares.shape[1] <= _NUMBERED:
            ink = "#ffffff" if share > 0.5 else INK
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=11)
        if expected[row] == column:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.8))


def _said(givens: Sequence[str], candidates: Sequence[str], counts: np.ndarray, when: str) -> str:
    """The most frequent answer of every row, in words."""
    parts = []
    for given, row in zip(givens, counts, strict=True):
        best = int(row.argmax())
        parts.append(f"{given}: mostly {candidates[best]}, {row[best]} of {row.sum()}")
    return f"Top answer {when}, by what was told. " + "; ".join(parts) + "."


def _numbers(
    story: Story, givens: Sequence[str], candidates: Sequence[str], counts: np.ndarray
) -> list[dict[str, Any]]:
    """One row a cell."""
    return [
        {
            "given": given,
            "answer": answer,
            "names": int(counts[row, column]),
            "of": int(counts[row].sum()),
            "share": float(counts[row, column] / max(1, counts[row].sum())),
            "expected": story.map.get(given) == answer,
        }
        for row, given in enumerate(givens)
        for column, answer in enumerate(candidates)
    ]
