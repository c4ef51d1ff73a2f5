"""The tables of a study's page: its sets beside the paper's models, its learning rates, and any other cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.measures.study_table import flat
from spillover.record import Metric
from spillover.report.story import Story
from spillover.report.study.load import Cell
from spillover.report.study.published import MODELS
from spillover.report.study.rates import RatePoint, scientific
from spillover.report.study.sets import AssociationSet, null_distance, true_ranks
from spillover.report.words import interval, number, p_value

#: What stands in a field, and the small print under it.
Field = tuple[str, str]
NOTHING: Field = ("–", "")


@dataclass(frozen=True)
class Table:
    """heads: (text over some columns, their number), or none. rows: (name, small print, fields). notes: below it."""

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Field]]]
    heads: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()


def sets_table(sets: Sequence[AssociationSet]) -> Table | None:
    """One row a set: before, after in both ways of training, what it is judged by, and the paper's five models."""
    if not sets:
        return None
    whole, paper = any(row.whole for row in sets), any(row.published for row in sets)
    ours: list[tuple[str, Callable[[AssociationSet], Field]]] = [
        ("before", lambda row: _rank(row.story, "implication_rank_test_before")),
        ("after, embeddings frozen", lambda row: _rank(row.frozen, "implication_rank_test")),
        *([("after, all weights trained", _whole)] if whole else []),
        ("yardstick", lambda row: (number(row.story.marginal), "")),
        ("exact map test, p", lambda row: p_field(row.story)),
        ("stated facts", lambda row: _rank(row.story, "recall_rank", short=True)),
        ("stated implications", lambda row: _rank(row.story, "implication_rank_train", short=True)),
        ("forgetting, nats a token", lambda row: _rank(row.story, "forgetting_nats")),
        ("clusters", _clusters),
    ]
    models = sorted({str(row.story.run.record.settings.get("model")) for row in sets})
    rows = [
        (
            row.label,
            "nothing to infer" if row.null else "facts only" if row.control else row.story.kind_in_words,
            [field(row) for _, field in ours] + (_published(row) if paper else []),
        )
        for row in sets
    ]
    return Table(
        caption="Mean rank (0 is best) of the unstated implication, before and after training; under it the 95% "
        "interval over clusters of a pair and a seed (with fewer than ten, nothing rests on it). Where a set was "
        "trained in both ways, all other columns are those with frozen embeddings.",
        corner="set",
        columns=[name for name, _ in ours] + (list(MODELS) if paper else []),
        rows=rows,
        heads=[("here: " + ", ".join(models), len(ours)), *([("the paper, all weights trained", 5)] if paper else [])],
        notes=[
            *(_truth(row, rank) for row, rank in true_ranks(sets)),
            *(sentence for row in sets if row.null and (sentence := _null(row))),
        ],
    )


def _rank(story: Story | None, name: str, short: bool = False) -> Field:
    metric = story.metric(name) if story else None
    return metric_field(metric) if not short or metric is None else (number(metric.value), "")


def metric_field(metric: Metric | None) -> Field:
    """A metric, and under it its interval."""
    return NOTHING if metric is None else (number(metric.value), interval(metric))


def _whole(row: AssociationSet) -> Field:
    return _rank(row.whole, "implication_rank_test")


def p_field(story: Story) -> Field:
    """The p of the exact test of the expected map."""
    test = story.map_test
    return NOTHING if test is None else (p_value(test["p"]), "")


def _clusters(row: AssociationSet) -> Field:
    found = row.story.metric("implication_rank_test")
    return NOTHING if found is None else (str(found.clusters), "few" if found.note else "")


def _published(row: AssociationSet) -> list[Field]:
    return [(number(rank), "") for rank in row.published] or [NOTHING] * len(MODELS)


def _truth(row: AssociationSet, rank: Metric) -> str:
    """Whether a model that was taught a false map answers by it, or by what is true."""
    taught = row.story.metric("implication_rank_test")
    nearer = "the true" if taught and (rank.value or 0.0) < (taught.value or 0.0) else "the taught"
    return (
        f"{row.label}: the taught answers have a mean rank of {number(taught.value if taught else None)} "
        f"({interval(taught)}), the true ones, which no training row states, {number(rank.value)} ({interval(rank)}): "
        f"{nearer} answers stand higher."
    )


def _null(row: AssociationSet) -> str:
    """The mean over shuffles against the yardstick, in cluster standard errors."""
    found = null_distance(row)
    if found is None:
        return ""
    seeds = len(row.story.run.seeds)
    where = "within" if found.close else "not within"
    return (
        f"{row.label}: over {seeds} {'shuffle' if seeds == 1 else 'shuffles'} the mean rank is {number(found.mean)} ± "
        f"{number(found.error)} (cluster standard error), {number(found.distance, 1)} standard errors from "
        f"{number(row.story.marginal)}: {where} two of them."
    )


def rates_table(points: Sequence[RatePoint]) -> Table:
    """One row a set and learning rate, each seed read at the first checkpoint at which its stated rows are learned."""
    return Table(
        caption="Each seed is read at the first checkpoint at which facts and stated implications have a mean rank of "
        "0.1 or less, or at its last when there is none.",
        corner="set and learning rate",
        columns=["passes", "unstated implication, mean rank", "stated facts", "stated implications"],
        rows=[
            (
                f"{point.label}, {scientific(point.rate)}",
                point.unlearned.strip(" ()"),
                [(point.epochs, ""), metric_field(point.rank), _short(point.recall), _short(point.stated)],
            )
            for point in points
        ],
    )


def _short(metric: Metric | None) -> Field:
    return NOTHING if metric is None else (number(metric.value), "")


def cells_table(cells: Sequence[Cell]) -> Table:
    """One row a cell, one column a metric, whatever the verb; of several implications, that over all of them."""
    numbers = {name: (status, _fields(metrics)) for cell in cells for name, status, metrics in _rows_of(cell)}
    columns = list(dict.fromkeys(name for _, found in numbers.values() for name in found))
    return Table(
        caption="Every cell and every metric; under a number its 95% interval.",
        corner="cell",
        columns=[name.replace("_", " ") for name in columns],
        rows=[
            (row, status, [found.get(name, NOTHING) for name in columns]) for row, (status, found) in numbers.items()
        ],
    )


def _rows_of(cell: Cell) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(name, status, metrics) of a cell; of each of its seeds, where no record pools them."""
    if cell.metrics or not cell.by_seed:
        return [(cell.slug, cell.status, cell.metrics)]
    return [(f"{cell.slug}, seed {seed}", cell.status, metrics) for seed, metrics in cell.by_seed.items()]


def _fields(metrics: Mapping[str, Any]) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for implication, name, value in flat(metrics):
        if implication is None or name.endswith("_p"):
            low, high = value.get("low"), value.get("high")
            ends = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
            found.setdefault(name, (number(value["value"], 4 if name.endswith("_p") else 2), ends))
    return found
