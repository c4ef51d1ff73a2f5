"""The figures of runs of `inject`: ranks by epoch, before and after, inferred answers, recall, loss, forgetting."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from spillover.metrics.intervals import FEW, clusters_of, interval
from spillover.metrics.ranks import RankTable
from spillover.report import drawing
from spillover.report.drawing import ASSOCIATION, INK, LINES, Drawing, Line, Look, canvas, finish, label, plot
from spillover.report.load import LINKS, LoadedRun, Story, labels, spoken
from spillover.report.load import stories as stories_of

EPOCHS, RANK = "passes over the training sentences", "mean rank (0 is best)"


def draw(name: str, found: Any, implication: str | None = None, **options: Any) -> Drawing | None:
    """Draw a registered plot.

    Arguments:
    - name: of the plot, such as `rank-by-epoch`.
    - found: a LoadedRun; for the plots of another page what that page is built from.
    - implication: `GIVEN->THEN`, for a run with several; without it the first.

    Returns: the drawing, or None when there is nothing to show.

    Raises: UsageError for an unknown name.
    """
    registered = drawing.find_plot(name)
    if isinstance(found, LoadedRun):
        text = labels([found])[0]
        shown = [each for each in stories_of(found, text) if implication in (None, each.key)]
        found = shown if registered.of == "stories" else [(text, found)]
    return registered.draw(found, name, **options) if found else None


@plot("rank-change", of="stories")
def draw_rank_change(stories: Sequence[Story], name: str = "rank-change") -> Drawing | None:
    """Of each story hollow before, filled after (with its interval), ticks for the two guesses."""
    lines, rows = list[Line](), list[dict[str, Any]]()
    guess = {"marker": "|", "markersize": 11, "color": INK}
    ticks = {"knows which answers occur": {**guess, "markeredgewidth": 2.2}, "random guess": {**guess, "alpha": 0.6}}
    looks: dict[str, Look] = {"before": {"marker": "o", "markerfacecolor": "none", "color": INK}}
    for story in stories:
        if (after := story.rank) is None or after.value is None:
            continue
        # A run measured once shows the same before and after.
        before = (story.rank_before or after).value
        rows.append({
            "link": story.label, "kind": story.kind_in_words, "before": before, "after": after.value,
            "low": after.low, "high": after.high, "marginal": story.marginal, "chance": story.chance,
        })  # fmt: skip
        colour, marker = ASSOCIATION[story.wanted]
        look = looks[f"after, {LINKS[story.wish]} link"] = {"marker": marker, "color": colour}
        guesses = zip((story.marginal, story.chance), ticks.values(), strict=True)
        lines.append(Line(f"{label(story.label, 40)} ({story.kind_in_words})"))
        lines.append(Line("", [(before, looks["before"]), (after, look), *guesses]))
    said = "; ".join("{link}: {before:.2f} before, {after:.2f} after".format(**row) for row in rows)
    return drawing.draw_lines(lines, name, "Mean rank before and after training", f"{said}.", rows, looks | ticks, RANK)


#: More pairs than this have no lines of their own.
_THIN_LINES = 12


@plot("rank-by-epoch", of="stories")
def draw_rank_by_epoch(stories: Sequence[Story], name: str = "rank-by-epoch", top: float = 0.0) -> Drawing | None:
    """Mean rank of the first story against epochs; `top` is the common upper end of several figures."""
    story = stories[0]
    if not (rows := _by_epoch(story)):
        return None
    colour, marker = ASSOCIATION[story.wanted]
    epochs, means, low, high = ([row[key] for row in rows] for key in ("epoch", "mean_rank", "low", "high"))
    count, what = rows[-1]["clusters"], "pairs" if len(story.run.seeds) == 1 else "clusters of a pair and a seed"
    with canvas(4.3) as (figure, axes):
        axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0)
        area = Patch(color=colour, alpha=0.16, linewidth=0)
        lines: dict[str, Artist] = {f"95% interval over {count} {what}{' (few)' if count < FEW else ''}": area}
        if pairs := [key for key in rows[0] if key.startswith("pair ")]:
            axes.plot(epochs, [[row[pair] for pair in pairs] for row in rows], color=colour, alpha=0.5, linewidth=1)
            lines[f"each of the {len(pairs)} pairs"] = Line2D([], [], color=colour, alpha=0.5, linewidth=1)
        for value, text, style, width, alpha in (
            (story.chance, "random guess", (0, (1, 2)), 1.2, 0.7),
            (means[0], "before training", "-", 0.8, 0.4),
            (story.marginal, "knows only which answers occur", (0, (6, 3)), 1.6, 0.9),
        ):
            if value is not None:
                look: Any = {"color": INK, "linestyle": style, "linewidth": width, "alpha": alpha}
                lines[f"{text}: {value:.2f}"] = axes.axhline(value, **look)
        main = axes.plot(epochs, means, color=colour, linestyle="-" if story.wanted else (0, (5, 2)), marker=marker,
                         linewidth=2.4, clip_on=False)[0]  # fmt: skip
        axes.set(xlabel=EPOCHS, ylabel=RANK, ylim=(0, top or highest(story)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        handles = {"mean rank of the expected answer": main, **lines}
        said = f"Mean rank {means[0]:.2f} before training, {means[-1]:.2f} after {epochs[-1]} epochs (95% interval "
        said += f"{low[-1]:.2f} to {high[-1]:.2f}, {count} clusters)"
        guess = "" if story.marginal is None else f"; knowing only which answers occur gives {story.marginal:.2f}"
        return finish(figure, name, f"Mean rank against epochs: {story.label}", f"{said}{guess}.", rows, handles,
                      handlelength=3)  # fmt: skip


def highest(story: Story) -> float:
    """Where the rank axis of this story ends: a little above everything that is drawn."""
    values = [value for row in _by_epoch(story) for key, value in row.items() if key not in ("epoch", "clusters")]
    return 1.06 * max([1.0, story.chance or 0.0, *values])


def _by_epoch(story: Story) -> list[dict[str, Any]]:
    """One row a checkpoint: the mean rank with its interval and, with one seed and few pairs, that of every pair."""
    asked, rows = story.asked.where(~np.isnan(story.asked.rank)), []
    if story.key is None or not len(asked):
        return []
    pairs = story.rows_of_map if len(story.run.seeds) == 1 and 1 < len(story.rows_of_map) <= _THIN_LINES else []
    for epoch in story.checkpoints:
        now = asked.only(checkpoint=epoch)
        low, high, clusters = interval(now.rank, clusters_of(now))
        row = {"epoch": epoch, "mean_rank": float(now.rank.mean()), "low": low, "high": high, "clusters": clusters}
        rows.append(row | {f"pair {pair}": float(now.rank[now.cluster == pair].mean()) for pair in pairs})
    return rows


#: One blue on light and dark pages alike, so that white numbers stay readable on it.
HEAT = "#1668b0"
#: Maps of more columns carry no numbers, and take a line of the page for themselves.
NUMBERED = 14
#: Larger maps show so many rows and columns, and one column for all other answers.
MOST_ROWS, MOST_COLUMNS, OTHERS = 24, 30, "(all others)"


@plot("inferred-before", of="stories")
def before(stories: Sequence[Story], name: str = "inferred-before") -> Drawing | None:
    """The first story's heat map before training."""
    return _heat_map(stories[0], stories[0].before, name, stories[0].when[0])


@plot("inferred-after", of="stories")
def after(stories: Sequence[Story], name: str = "inferred-after") -> Drawing | None:
    """The first story's heat map after training."""
    return _heat_map(stories[0], stories[0].after, name, stories[0].when_last)


def _heat_map(story: Story, ranks: RankTable, name: str, when: str) -> Drawing | None:
    """Rows: given answers. Columns: candidates. A cell: the share of the row's unstated names that get this answer."""
    if not len(ranks):
        return None
    givens, candidates, counts = _chosen(story, story.tops(ranks))
    names = counts.sum(1)
    shares = counts / np.maximum(names, 1)[:, None]
    with canvas(1.6 + 0.36 * len(givens), max(drawing.WIDTH, 1.2 + 0.34 * len(candidates))) as (figure, axes):
        _cells(axes, shares, [[story.map.get(given) == each for each in candidates] for given in givens])
        axes.set_xticks(range(len(candidates)), [label(text, 14) for text in candidates], rotation=90)
        axes.set_yticks(range(len(givens)), [label(text, 14) for text in givens])
        axes.set(xlim=(-0.52, len(candidates) - 0.48), ylim=(len(givens) - 0.48, -0.52))
        axes.set(xlabel=label(spoken(story.then)), ylabel=label(spoken(story.given)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        rows = [
            {"given": given, "answer": answer, "names": int(counts[row, column]), "of": int(names[row]),
             "share": float(shares[row, column]), "expected": story.map.get(given) == answer}
            for row, given in enumerate(givens) for column, answer in enumerate(candidates)
        ]  # fmt: skip
        mostly = "; ".join(f"{given}: mostly {candidates[int(own.argmax())]}, {own.max()} of {own.sum()}"
                           for given, own in zip(givens, counts, strict=True))  # fmt: skip
        said = f"Top answer {when}, by what was stated. {mostly}."
        drawn = finish(figure, name, f"Top answers {when}: {story.label}", said, rows)
    if candidates[-1] != OTHERS:
        return drawn
    shown = f"{len(givens)} of {len(story.rows_of_map):,} given answers, those whose implied answer won most names"
    answers = f"{len(candidates) - 1} of {len(story.columns_of_map):,} answers"
    return replace(drawn, note=f"Shown are {shown}, and {answers}; the downloads hold all.")


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
    implied = [place for row in rows if (place := own[row]) is not None]
    often = np.argsort(-(first + last)[rows].sum(0), kind="stable").tolist()
    columns = list(dict.fromkeys([*implied, *often]))[:MOST_COLUMNS]
    chosen = counts[np.ix_(rows, columns)]
    drawn = np.column_stack([chosen, counts[rows].sum(1) - chosen.sum(1)])
    return [givens[row] for row in rows], [*(candidates[place] for place in columns), OTHERS], drawn


def _cells(axes: Axes, shares: np.ndarray, expected: list[list[bool]]) -> None:
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
            # The darkest on which the number can still be read.
            axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=HEAT, alpha=float(0.08 + 0.64 * share), linewidth=0))
        if share and not large:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=11)
        if expected[row][column]:
            axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.8))


#: Curves against epochs: plot -> what it is of, the quantity of the trajectory, title, axis, and what its band is.
_CURVES = {
    "recall": ("runs", "recall_rank", "Recall of the stated facts", RANK, "range over seeds"),
    "stated-links": ("stories", "implication_rank_train", "Recall of the stated links", RANK, "range over seeds"),
    "training-loss": ("runs", "train_loss", "Training loss", "loss (nats)", "range over the steps of a pass"),
}
#: Curves of more points than this are drawn without markers.
_MARKED = 20


def draw_curves(kind: str, what: Sequence[Any], name: str) -> Drawing | None:
    """A line a run (or story): the mean, and a band from least to greatest where an epoch has several values."""
    of, quantity, title, y_label, band = _CURVES[kind]
    if of == "stories":
        found = [(story.label, story.run.curve(quantity, story.key) or story.run.curve(quantity)) for story in what]
    else:
        found = [(text, run.curve(quantity)) for text, run in what]
    curves = [(text, curve) for text, curve in found if curve]
    if not curves:
        return None
    rows, said = list[dict[str, Any]](), list[str]()
    handles: dict[str, Artist] = {}
    with canvas(2.8 + 0.25 * len(curves)) as (figure, axes):
        for index, (text, curve) in enumerate(curves):
            colour, dash, marker = LINES[index % len(LINES)]
            own = [{"run": text, "epoch": epoch, "mean": v.mean(), "low": v.min(), "high": v.max(), "n": len(v)}
                   for epoch, v in curve.items()]  # fmt: skip
            means, low, high = ([row[key] for row in own] for key in ("mean", "low", "high"))
            axes.fill_between(list(curve), low, high, color=colour, alpha=0.16, linewidth=0)
            handles[label(text, 54)] = axes.plot(
                list(curve), means, color=colour, linestyle=dash, marker=marker if len(curve) <= _MARKED else "",
                markersize=4.5, linewidth=1.8, clip_on=False,
            )[0]  # fmt: skip
            rows += own
            first, last = own[0]["epoch"], own[-1]["epoch"]
            said.append(f"{text}: from {means[0]:.2f} at epoch {first:g} to {means[-1]:.2f} at epoch {last:g}")
        axes.set(xlabel=EPOCHS, ylabel=y_label, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        if any(row["n"] > 1 for row in rows):
            handles[band] = Patch(color=INK, alpha=0.16, linewidth=0)
        return finish(figure, name, title, f"{'. '.join(said)}.", rows, handles, handlelength=3)


for _kind, (_of, *_) in _CURVES.items():
    plot(_kind, of=_of)(partial(draw_curves, _kind))


@plot("forgetting", of="runs")
def draw_forgetting(runs: Sequence[tuple[str, LoadedRun]], name: str = "forgetting") -> Drawing | None:
    """Rise of the mean loss on plain text, in nats a token, with its interval; None when no run measured it."""
    rows = [{"run": text, **metric.as_json()} for text, run in runs if (metric := run.metric("forgetting_nats"))]
    if not rows:
        return None
    with canvas(1.0 + 0.5 * len(rows)) as (figure, axes):
        for index, row in enumerate(rows):
            colour, _, marker = LINES[index % len(LINES)]
            low, high = (row["value"] if row[end] is None else row[end] for end in ("low", "high"))
            axes.plot([0, row["value"]], [index, index], color=INK, alpha=0.25, linewidth=1)
            axes.plot([low, high], [index, index], color=colour, linewidth=2.4, alpha=0.5)
            axes.plot([row["value"]], [index], color=colour, marker=marker, markersize=7)
            words = f"{label(row['run'], 44)}: {row['value']:+.2f}"
            axes.annotate(words, (0, index - 0.22), (5, 0), textcoords="offset points", va="bottom")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(ylim=(len(rows) - 0.5, -0.75), yticks=[])
        axes.set_xlabel("rise of the loss on plain text (nats a token; 0 is no damage)")
        axes.spines["left"].set_visible(False)
        said = ". ".join("{run}: {value:+.3f} nats a token".format(**row) for row in rows)
        return finish(figure, name, "Forgetting", f"{said}.", rows)
