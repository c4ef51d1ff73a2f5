"""All measures of one run, pooled and for each implication, before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spillover import catalog
from spillover.measures.map_test import map_test
from spillover.measures.ranking import RankTable, answers_at_end, at_end, rank_table
from spillover.record import Metric

Measure = Callable[[RankTable], Metric | None]
#: Yardsticks do not depend on the model, so they have no figure before training.
YARDSTICKS = ("chance_rank", "marginal_rank")


def measures() -> dict[str, Measure]:
    """Every measure of the catalogue by name."""
    return {name: catalog.find(reference) for name, reference in catalog.MEASURES.items()}


def measure_all(table: RankTable) -> dict[str, Metric | None]:
    """Every measure on the rows of one checkpoint."""
    return {name: measure(table) for name, measure in measures().items()}


def summarise(answers: pa.Table) -> dict[str, Any]:
    """Metrics after each seed's last checkpoint and (`_before`) at checkpoint 0, pooled over seeds and implications.

    Under `implications`, the same for each implication by name, with the exact map test as `map_test`.
    """
    table = rank_table(answers)
    found: dict[str, Any] = _before_and_after(table)
    names = sorted({name for name in table.implication if name is not None})
    found["implications"] = {name: _one_implication(answers, table, name) for name in names}
    return found


def _before_and_after(table: RankTable) -> dict[str, Any]:
    found: dict[str, Any] = dict(measure_all(at_end(table)))
    before = measure_all(table.only(checkpoint=0))
    found |= {f"{name}_before": metric for name, metric in before.items() if name not in YARDSTICKS}
    return found


def _one_implication(answers: pa.Table, table: RankTable, name: str) -> dict[str, Any]:
    # Recall is that of the facts that the implication starts from; they carry no implication themselves.
    facts = (table.implication == None) & (table.relation == name.partition("->")[0])  # noqa: E711
    found = _before_and_after(table.where((table.implication == name) | facts))
    return found | {"map_test": map_test(_asked_last(answers, name))}


def _asked_last(answers: pa.Table, implication: str) -> pa.Table:
    """The rows of one implication's questions on the trained prompt at each seed's last checkpoint."""
    last = answers_at_end(answers)
    asked = pc.and_(pc.invert(last["stated"]), last["trained"])
    return last.filter(pc.and_(pc.equal(last["implication"], implication), asked))
