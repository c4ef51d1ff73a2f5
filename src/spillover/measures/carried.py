"""What a model with part of a change knows: recall of what was stated, and what was concluded, each with its rate."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable
from spillover.measures.remedied import free_rates
from spillover.record import WHERE_SCHEMA, Metric

#: What is told apart: stated facts, stated links, and the questions of wanted and of unwanted implications.
GROUPS = ("recall", "links", "wanted", "unwanted")


def group_of(
    stated: np.ndarray, implication: np.ndarray, unwanted: Collection[str], wanted: Collection[str]
) -> np.ndarray:
    """The group of each row, or "" where it is in none. unwanted, wanted: names of implications (GIVEN->THEN)."""
    linked = implication != None  # noqa: E711 - compared element by element
    conditions = [
        stated & ~linked, stated & linked, ~stated & np.isin(implication, list(wanted)),
        ~stated & np.isin(implication, list(unwanted)),
    ]  # fmt: skip
    return np.select(conditions, GROUPS, default="")


def carried(table: RankTable, unwanted: Collection[str], wanted: Collection[str]) -> dict[str, Metric | None]:
    """`GROUP_rate`: share of subjects whose top answer is the expected one; `GROUP_rank`: its mean rank (0 is best).

    `GROUP_free` of the two implied groups: what the rate would be if the same top answers had nothing to do with the
    given ones; no interval. table: one model's answers on the trained prompts; a group without rows is None.
    """
    groups = group_of(table.stated, table.implication, unwanted, wanted)
    found: dict[str, Metric | None] = {}
    for name in GROUPS:
        own = table.where(groups == name)
        found[f"{name}_rate"] = mean_metric((own.rank == 0).astype(float), clusters_of(own), "share")
        found[f"{name}_rank"] = mean_metric(own.rank, clusters_of(own), "rank")
        if name in ("wanted", "unwanted"):
            free = float(free_rates(own).mean()) if len(own) else None
            count = len(np.unique(clusters_of(own).astype(str)))
            found[f"{name}_free"] = None if free is None else Metric(free, None, None, len(own), count, "share")
    return found


def where_rows(table: RankTable, part: str, kind: str, left_out: bool) -> pa.Table:
    """One model's answers as rows of record.WHERE_SCHEMA."""
    size = len(table)
    columns = {name: getattr(table, name) for name in WHERE_SCHEMA.names if hasattr(table, name)}
    columns |= {"part": [part] * size, "kind": [kind] * size, "left_out": [left_out] * size}
    return pa.table({name: columns[name] for name in WHERE_SCHEMA.names}, schema=WHERE_SCHEMA)


def ranks_of(rows: pa.Table) -> RankTable:
    """The ranks of one part's rows (record.WHERE_SCHEMA); what they do not hold is left empty."""
    found = {name: rows[name].to_numpy(zero_copy_only=False) for name in WHERE_SCHEMA.names}
    size, nothing = rows.num_rows, np.full(rows.num_rows, np.nan)
    return RankTable(
        **{name: found[name] for name in ("seed", "subject", "relation", "implication", "cluster", "expected", "top")},
        checkpoint=np.zeros(size, dtype=np.int32), prompt=np.full(size, "", dtype=object),
        trained=np.ones(size, dtype=bool), stated=found["stated"].astype(bool), rank=found["rank"],
        probability=nothing, probability_top=nothing, candidates=np.zeros(size, dtype=np.int64),
    )  # fmt: skip
