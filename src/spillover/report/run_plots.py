"""The figures of runs of `inject`: ranks by epoch, before and after, inferred answers, recall, loss, forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from spillover.metrics.intervals import FEW, clusters_of, interval
from spillover.metrics.ranks import RankTable
from spillover.report.drawing import (
    BLUE,
    INK,
    LINES,
    VERMILLION,
    WIDTH,
    Drawing,
    canvas,
    find_plot,
    finish,
    label,
    overlay,
    plot,
)
from spillover.report.load import LoadedRun, labels
from spillover.report.story import Story, spoken, stories


def draw(name: str, found: Any, **options: Any) -> Drawing | None:
    """Draw a registered plot of a run, as `rank-by-epoch`; of several implications the first, or `implication`.

    Arguments:
    - name: the plot.
    - found: a LoadedRun; for the plots of another page what that page is built from.
    - implication: `GIVEN->THEN`, for a run with several.

    Returns: the drawing, or None when there is nothing to show. Raises UsageError for an unknown name.
    """
    registered = find_plot(name)
    if isinstance(found, LoadedRun):
        wanted = options.pop("implication", None)
        told = [story for story in stories(found, labels([found])[0]) if wanted in (None, story.key)]
        found = told if registered.of == "stories" else [(labels([found])[0], found)]
        if not found:
            return None
    return registered.draw(found, name, **options)


@plot("rank-change", of="stories")
def draw_rank_change(stories: Sequence[Story], name: str = "rank-change") -> Drawing | None:
    """One row a story: hollow before, filled after (with its interval), ticks for the two guesses."""
    told = [story for story in stories if story.metric("implication_rank_test") is not None]
    if not told:
        return None
    rows = [_rank_change_numbers(story) for story in told]
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


def _rank_change_numbers(story: Story) -> dict[str, Any]:
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


#: More pairs than this have no lines of their own.
_THIN_LINES = 12


@plot("rank-by-epoch", of="stories")
def draw_rank_by_epoch(
    stories: Sequence[Story], name: str = "rank-by-epoch", top: float | None = None
) -> Drawing | None:
    """Mean rank of the first story against epochs; `top` is the common upper end of several figures."""
    story = stories[0]
    rows = _rank_by_epoch_numbers(story)
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
    drawn = [
        value for row in _rank_by_epoch_numbers(story) for key, value in row.items() if key not in ("epoch", "clusters")
    ]
    return 1.06 * max([1.0, story.chance or 0.0, *drawn])


def _pairs(story: Story) -> list[str]:
    """The pairs that have a line of their own: those of a single seed, if they are not too many."""
    alone = len(story.run.seeds) == 1 and 1 < len(story.rows_of_map) <= _THIN_LINES
    return story.rows_of_map if alone else []


def _rank_by_epoch_numbers(story: Story) -> list[dict[str, Any]]:
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


#: One blue on light and dark pages alike, so that white numbers stay readable on it.
HEAT = "#1668b0"
#: Maps of more columns carry no numbers, and take a line of the page for themselves.
NUMBERED = 14
#: Larger maps show so many rows and columns, and one column for all other answers.
MOST_ROWS, MOST_COLUMNS, OTHERS = 24, 30, "(all others)"


@plot("inferred-before", of="stories")
def before(stories: Sequence[Story], name: str = "inferred-before") -> Drawing | None:
    """The first story's heat map before training."""
    return _draw(stories[0], stories[0].before, name, stories[0].when[0])


@plot("inferred-after", of="stories")
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
        cells = _inferred_answers_numbers(story, givens, candidates, counts)
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
    large = shares.shape[1] > NUMBERED
    for row in range(len(shares) if large else 0):
        # One band a row, where a patch a cell would be thousands.
        axes.add_patch(Rectangle((-0.46, row - 0.46), shares.shape[1] - 0.08, 0.92, facecolor=INK, alpha=0.05, lw=0))
    for (row, column), share in np.ndenumerate(shares):
        corner = (column - 0.46, row - 0.46)
        if not large:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=INK, alpha=0.05, linewidth=0))
        if share:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=HEAT, alpha=float(0.08 + 0.92 * share), linewidth=0))
        if share and shares.shape[1] <= NUMBERED:
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


def _inferred_answers_numbers(
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


@plot("recall", of="runs")
def draw_recall(runs: Sequence[tuple[str, LoadedRun]], name: str = "recall") -> Drawing | None:
    """Mean rank of the stated facts against epochs, of labelled runs; None when no run kept it."""
    curves = [(label, curve) for label, run in runs if (curve := run.curve("recall_rank"))]
    return (
        overlay(curves, name, "Recall of the stated facts", "mean rank (0 is best)", "range over seeds")
        if curves
        else None
    )


@plot("stated-links", of="stories")
def draw_stated_links(stories: Sequence[Story], name: str = "stated-links") -> Drawing | None:
    """Mean rank of the stated implications against epochs; None when no run kept it."""
    quantity = "implication_rank_train"
    curves = [(s.label, curve) for s in stories if (curve := s.run.curve(quantity, s.key) or s.run.curve(quantity))]
    return (
        overlay(curves, name, "Recall of the stated links", "mean rank (0 is best)", "range over seeds")
        if curves
        else None
    )


@plot("training-loss", of="runs")
def draw_training_loss(runs: Sequence[tuple[str, LoadedRun]], name: str = "training-loss") -> Drawing | None:
    """Training loss in nats against epochs, of labelled runs; None when no run kept it."""
    curves = [(label, curve) for label, run in runs if (curve := run.curve("train_loss"))]
    return overlay(curves, name, "Training loss", "loss (nats)", "range over the steps of a pass") if curves else None


@plot("forgetting", of="runs")
def draw_forgetting(runs: Sequence[tuple[str, LoadedRun]], name: str = "forgetting") -> Drawing | None:
    """Rise of the mean loss on plain text, in nats a token, with its interval; None when no run measured it."""
    found = [(text, metric) for text, run in runs if (metric := run.metric("forgetting_nats")) is not None]
    if not found:
        return None
    with canvas(1.0 + 0.5 * len(found)) as (figure, axes):
        for index, (text, metric) in enumerate(found):
            colour, _, marker = LINES[index % len(LINES)]
            value = metric.value or 0.0
            low, high = (value if end is None else end for end in (metric.low, metric.high))
            axes.plot([0, value], [index, index], color=INK, alpha=0.25, linewidth=1)
            axes.plot([low, high], [index, index], color=colour, linewidth=2.4, alpha=0.5)
            axes.plot([value], [index], color=colour, marker=marker, markersize=7)
            words = f"{label(text, 44)}: {value:+.2f}"
            axes.annotate(words, (0, index - 0.22), (5, 0), textcoords="offset points", va="bottom")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_ylim(len(found) - 0.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("rise of the loss on plain text (nats a token; 0 is no damage)")
        said = ". ".join(f"{text}: {metric.value:+.3f} nats a token" for text, metric in found)
        rows = [{"run": text, **metric.as_json()} for text, metric in found]
        return finish(figure, name, "Forgetting", said + ".", rows)
