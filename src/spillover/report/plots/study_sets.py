"""Mean rank of the unstated implication, one row an association set, ours and the paper's, against one yardstick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spillover.report.drawing import BLUE, INK, VERMILLION, YARDSTICK, Drawing, canvas, finish, label
from spillover.report.story import Story
from spillover.report.study.load import Cell
from spillover.report.study.published import MODELS
from spillover.report.study.sets import AssociationSet, sets_of

_PAPER = dict(zip(MODELS, ("x", "+", "^", "v", "*"), strict=True))
_FROZEN, _WHOLE = "embeddings frozen", "all weights trained"


def draw(cells: Sequence[Cell], name: str = "study-sets") -> Drawing | None:
    """Per set: before (hollow), after with its 95% interval (circle; diamond: all weights), the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None
    rows = [number for row in sets for number in _numbers(row)]
    with canvas(2.4 + 0.92 * len(sets)) as (figure, axes):
        for index, row in enumerate(sets):
            _row(axes, index, row)
        _yardstick(axes, sets)
        axes.set_ylim(len(sets) - 0.42, -0.62)
        axes.set_xlim(-0.15, None)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("mean rank of the unstated implication (0 is best)")
        handles = _legend(sets)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.0)
        return finish(figure, name, "Mean rank of the unstated implication by set", _said(sets), rows)


def _numbers(row: AssociationSet) -> list[dict[str, Any]]:
    """One row of numbers a marker."""
    found = []
    for story, trained in ((row.frozen, _FROZEN), (row.whole, _WHOLE)):
        if story is None:
            continue
        for when, metric in (("before", "implication_rank_test_before"), ("after", "implication_rank_test")):
            if (value := story.metric(metric)) is not None:
                ends = {"low": value.low, "high": value.high, "clusters": value.clusters}
                model = str(story.run.record.settings.get("model"))
                found.append({"set": row.label, "model": model, "trained": trained, "when": when,
                              "mean_rank": value.value, **ends, "yardstick": story.marginal})  # fmt: skip
    paper = zip(MODELS, row.published, strict=False)
    return found + [
        {"set": row.label, "model": f"{model} (the paper)", "trained": _WHOLE, "when": "after", "mean_rank": rank}
        for model, rank in paper
    ]


def _row(axes: Axes, index: int, row: AssociationSet) -> None:
    kind = "nothing to infer" if row.null else "facts only" if row.control else row.story.kind_in_words
    axes.text(0, index - 0.28, f"{label(row.label, 40)} ({kind})", va="bottom")
    before = row.story.metric("implication_rank_test_before")
    if before is not None and before.value is not None:
        axes.plot([before.value], [index - 0.1], marker="o", markersize=7, markerfacecolor="none", color=INK)
    for story, place, marker in ((row.frozen, index - 0.1, "o"), (row.whole, index + 0.1, "D")):
        if story is not None:
            _after(axes, story, place, marker)
    for model, rank in zip(MODELS, row.published, strict=False):
        axes.plot([rank], [index + 0.3], color=INK, markersize=6, **_paper_mark(model))


def _after(axes: Axes, story: Story, place: float, marker: str) -> None:
    metric = story.metric("implication_rank_test")
    if metric is None or metric.value is None:
        return
    colour = BLUE if story.wanted else VERMILLION
    if metric.low is not None and metric.high is not None:
        axes.plot([metric.low, metric.high], [place, place], color=colour, linewidth=5, alpha=0.3)
    axes.plot([metric.value], [place], marker=marker, markersize=7, color=colour, clip_on=False)


def _paper_mark(model: str) -> dict[str, Any]:
    return {"linestyle": "none", "marker": _PAPER[model], "markerfacecolor": "none", "alpha": 0.75, "clip_on": False}


def _yardstick(axes: Axes, sets: Sequence[AssociationSet]) -> None:
    """One line through everything, broken where a set has its name."""
    for index, row in enumerate(sets):
        if row.story.marginal is not None:
            axes.plot([row.story.marginal] * 2, [index - 0.27, index + 0.45], **YARDSTICK)


def _legend(sets: Sequence[AssociationSet]) -> dict[str, Line2D]:
    shape: dict[str, Any] = {"linestyle": "none", "markersize": 7}
    handles = {"before training": Line2D([], [], marker="o", markerfacecolor="none", color=INK, **shape)}
    for arm, marker, words in (("frozen", "o", _FROZEN), ("whole", "D", _WHOLE)):
        for wanted, colour, link in ((True, BLUE, "true"), (False, VERMILLION, "not true")):
            if any((story := getattr(row, arm)) is not None and story.wanted == wanted for row in sets):
                handles[f"{words}, {link}"] = Line2D([], [], marker=marker, color=colour, **shape)
    handles["knows which answers occur"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.5)
    if any(row.published for row in sets):
        marks = {f"paper: {model}": Line2D([], [], color=INK, markersize=6, **_paper_mark(model)) for model in MODELS}
        handles |= marks
    return handles


def _said(sets: Sequence[AssociationSet]) -> str:
    parts = []
    for row in sets:
        found = [
            f"{metric.value:.2f} {words}"
            for story, words in ((row.frozen, _FROZEN), (row.whole, _WHOLE))
            if story is not None and (metric := story.metric("implication_rank_test")) and metric.value is not None
        ]
        paper = f", the paper's models {min(row.published):.2f} to {max(row.published):.2f}" if row.published else ""
        parts.append(f"{row.label}: {', '.join(found)}{paper}")
    line = next((row.story.marginal for row in sets if row.story.marginal is not None), None)
    yardstick = "" if line is None else f". Knowing only which answers occur gives {line:.2f}"
    return "; ".join(parts) + yardstick + "."
