"""From what `where` found to one self-contained HTML page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spillover.measures.ranking import rank_table
from spillover.measures.trajectory import TRAJECTORY_SCHEMA
from spillover.record import ANSWER_SCHEMA, Metric
from spillover.report.downloads import csv_text, of_metrics, table_link
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.plots.where_components import numbers
from spillover.report.tables.provenance import provenance
from spillover.report.template import figure, render
from spillover.report.where.load import BASE, ENDS, LINEARISED, TUNED, WORDS, Where, load_where, metric_of, where_of
from spillover.report.where.words import TERMS, cards, lede, notices, title
from spillover.report.words import number

__all__ = ["Where", "build_where_page", "load_where", "where_of"]

_COMPONENTS = (
    "Left, the base model with the tuned values of one component alone; right, the tuned model with that component as "
    "it was before training. Thin lines are 95% intervals. A component that carries something makes its bar long on "
    "the left; one that is needed makes it short on the right."
)
_LAYERS = (
    "The same for each layer with all of its components, the first layer on the left. Dashed: the base model (above) "
    "and the tuned one (below)."
)


@dataclass(frozen=True)
class Row:
    """One part. cells: a number and the small print under it, first how far it moved."""

    name: str
    cells: list[tuple[str, list[str]]]


def build_where_page(found: Where) -> str:
    """One page: what carries what, every figure, and how lazy it was; same record, same bytes."""
    run = _as_run(found)
    return render(
        "where/where.html",
        title=title(found),
        lede=lede(found),
        label=plain(run.pack_name),
        notices=notices(found),
        cards=cards(found),
        components=figure("where-components", found, "where-components", _COMPONENTS, wide=True),
        layers=figure("where-layers", found, "where-layers", _LAYERS),
        terms=TERMS,
        groups=[WORDS[name] for name in found.groups],
        table=_table(found),
        lazy=_lazy(found),
        how=found.laziness["how"],
        runs=[(plain(run.pack_name), run, provenance(run))],
        downloads=[_download(found), of_metrics([(plain(run.pack_name), run)])],
    )


def _as_run(found: Where) -> LoadedRun:
    """The record as the shared parts of a page take it, with what the run itself was told to train."""
    answers = ANSWER_SCHEMA.empty_table()
    trained: Mapping[str, Any] = found.record.details.get("trained") or {}
    kept = {f"run: {key}": value for key, value in trained.items() if key in ("model", "pack", "epochs", "lr", "batch",
            "lora", "freeze_embeddings", "remedy", "weight_decay")}  # fmt: skip
    settings = {**kept, **found.record.settings, "pack": trained.get("pack"), "model": trained.get("model"),
                "lora": trained.get("lora"), "freeze_embeddings": trained.get("freeze_embeddings")}  # fmt: skip
    record = dataclasses.replace(found.record, settings=settings)
    return LoadedRun(record, record.metrics, rank_table(answers), answers, TRAJECTORY_SCHEMA.empty_table())


def _table(found: Where) -> list[tuple[str, list[Row]]]:
    """Groups of rows: the ends, components, layers."""
    ends = [part for part in (BASE, LINEARISED, TUNED) if found.of(part)]
    groups = (("Whole models", ends), ("Components", found.parts("component")), ("Layers", found.parts("layer")))
    return [(heading, [_row(found, part) for part in parts]) for heading, parts in groups if parts]


def _row(found: Where, part: str) -> Row:
    alone = found.of(part)
    moved = alone.moved if alone else None
    cells: list[tuple[str, list[str]]] = [("–" if moved is None else f"{100 * moved:.2f}%", [])]
    for group in found.groups:
        for left_out in (False, True):
            each = found.of(part, left_out)
            metrics = each.metrics if each else {}
            cells.append(_cell(*(metrics.get(f"{group}_{key}") for key in ("rate", "rank", "free"))))
    return Row(ENDS.get(part, part), cells)


def _cell(rate: Metric | None, rank: Metric | None, free: Metric | None) -> tuple[str, list[str]]:
    """The rate; under it its interval, the mean rank, and what the same answers would get by chance."""
    if rate is None:
        return "–", []
    under = [f"{number(rate.low)}–{number(rate.high)}"]
    under += [f"rank {number(rank.value)}"] if rank else []
    return number(rate.value), [*under, f"chance {number(free.value)}"] if free else under


def _lazy(found: Where) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Of each group, cosine and error of the expansion, and what it would answer."""
    rows = []
    for group in found.groups:
        own = found.laziness["alignment"].get(group) or {}
        cells = [_figure(metric_of(own.get(f"{name}{key}")))
                 for key in ("_between", "") for name in ("cosine", "relative_error")]  # fmt: skip
        for part in (BASE, LINEARISED, TUNED):
            each = found.of(part)
            rate = each.rate(group) if each else None
            cells.append((number(rate), []))
        rows.append((WORDS[group], cells))
    return rows


def _figure(metric: Metric | None) -> tuple[str, list[str]]:
    return ("–", []) if metric is None else (number(metric.value), [f"{number(metric.low)} to {number(metric.high)}"])


def _download(found: Where) -> Any:
    """Every rate and rank as CSV."""
    rows = [row for each in found.patched for row in numbers(each, found.groups)]
    columns = list(rows[0]) if rows else []
    text = csv_text(columns, ([row[key] for key in columns] for row in rows))
    return table_link("spillover-where", "Every part", text)
