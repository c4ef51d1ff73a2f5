"""Mean rank of the unstated implication for each model and set, ours with its interval beside the paper's number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spillover.report.drawing import BLUE, INK, VERMILLION, YARDSTICK, Drawing, canvas, finish, label
from spillover.report.story import unique
from spillover.report.study.load import Cell
from spillover.report.study.paper import PaperRow, paper_rows


def draw(cells: Sequence[Cell], name: str = "paper-table") -> Drawing | None:
    """Set by set one line a model: a circle with its 95% interval for ours, a cross for the paper's."""
    rows = paper_rows(cells)
    packs = unique(row.pack for row in rows)
    lines: list[tuple[str, PaperRow | None]] = []
    for pack in packs:
        lines += [(pack, None), *((row.model, row) for row in rows if row.pack == pack)]
    with canvas(1.4 + 0.24 * len(lines)) as (figure, axes):
        for place, (_, row) in enumerate(lines):
            if row is not None:
                _row(axes, place, row)
        yardsticks = {row.cell.story.marginal for row in rows if row.cell and row.cell.story}
        line = next(iter(yardsticks)) if len(yardsticks) == 1 else None
        if line is not None:
            axes.axvline(line, **YARDSTICK)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(-0.15, None)
        axes.set_yticks(range(len(lines)), [_name(text, row) for text, row in lines])
        for tick, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean rank of the unstated implication (0 is best)")
        handles = _legend(rows, line)
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=2, columnspacing=1.0)
        return finish(figure, name, "Mean rank by model and set, here and in the paper", _said(rows), _numbers(rows))


def _name(text: str, row: PaperRow | None) -> str:
    return label(text, 34) if row is None or not row.state else f"{label(text, 24)} ({row.state})"


def _row(axes: Axes, place: int, row: PaperRow) -> None:
    rank = row.rank
    if rank is not None and rank.value is not None and row.cell and row.cell.story:
        colour = BLUE if row.cell.story.wanted else VERMILLION
        if rank.low is not None and rank.high is not None:
            axes.plot([rank.low, rank.high], [place, place], color=colour, linewidth=5, alpha=0.3)
        axes.plot([rank.value], [place], marker="o", markersize=6, color=colour, clip_on=False)
    if row.published is not None:
        axes.plot([row.published], [place], marker="x", markersize=6, color=INK, linestyle="none", clip_on=False)


def _legend(rows: Sequence[PaperRow], line: float | None) -> dict[str, Line2D]:
    shape: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    told = {row.cell.story.wanted for row in rows if row.cell and row.cell.story}
    handles = {
        f"here, {words}": Line2D([], [], marker="o", color=colour, **shape)
        for wanted, colour, words in ((True, BLUE, "true"), (False, VERMILLION, "not true"))
        if wanted in told
    }
    if any(row.published is not None for row in rows):
        handles["the paper"] = Line2D([], [], marker="x", color=INK, **shape)
    if line is not None:
        handles[f"knows only which answers occur: {line:.2f}"] = Line2D([], [], color=INK, linestyle=(0, (4, 2)))
    return handles


def _numbers(rows: Sequence[PaperRow]) -> list[dict[str, Any]]:
    """One row a model and set."""
    found = []
    for row in rows:
        rank = row.rank
        ours = {} if rank is None else {"mean_rank": rank.value, "low": rank.low, "high": rank.high,
                                        "clusters": rank.clusters}  # fmt: skip
        blank = {"mean_rank": None, "low": None, "high": None, "clusters": None}
        found.append({"model": row.model, "set": row.pack, "state": row.state or "done", **blank, **ours,
                      "paper": row.published})  # fmt: skip
    return found


def _said(rows: Sequence[PaperRow]) -> str:
    parts = []
    for row in rows:
        rank = row.rank
        ours = row.state if rank is None or rank.value is None else f"{rank.value:.2f} here"
        there = "" if row.published is None else f", {row.published:.2f} in the paper"
        parts.append(f"{row.model} on {row.pack}: {ours}{there}")
    return "; ".join(parts) + "."
