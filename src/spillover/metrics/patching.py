"""Metrics of patched models: what a part of the weight change carries, and how well it is linearised."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from spillover.metrics.intervals import cluster_sums, clusters_of, mean_of, ratio_metric
from spillover.metrics.ranks import RankTable
from spillover.metrics.remedies import free_rates
from spillover.record import WHERE_SCHEMA, Metric

Metrics = dict[str, Metric | None]
#: Rows are grouped by what they ask: stated facts, stated links, and questions of wanted and unwanted implications.
GROUPS = ("recall", "links", "wanted", "unwanted")


def group_of(
    stated: np.ndarray, implication: np.ndarray, unwanted: Collection[str], wanted: Collection[str]
) -> np.ndarray:
    """The group of each row, or "" where it is in none. unwanted, wanted: names of implications (GIVEN->THEN)."""
    linked = implication != None  # noqa: E711 - compared element by element
    of = {"wanted": np.isin(implication, list(wanted)), "unwanted": np.isin(implication, list(unwanted))}
    conditions = [stated & ~linked, stated & linked, ~stated & of["wanted"], ~stated & of["unwanted"]]
    return np.select(conditions, GROUPS, default="")


def patched_metrics(table: RankTable, unwanted: Collection[str], wanted: Collection[str]) -> Metrics:
    """`GROUP_rate`: share of subjects whose top answer is the expected one; `GROUP_rank`: its mean rank (0 is best).

    `GROUP_free` of the two implied groups: what the rate would be if the same top answers had nothing to do with the
    given ones; no interval. table: one model's answers on the trained prompts; a group without rows is None.
    """
    groups = group_of(table.stated, table.implication, unwanted, wanted)
    found: Metrics = {}
    for name in GROUPS:
        own = table.where(groups == name)
        found[f"{name}_rate"] = mean_of(own, own.rank == 0, "share")
        found[f"{name}_rank"] = mean_of(own, own.rank, "rank")
        if name in ("wanted", "unwanted"):
            count = len(set(clusters_of(own)))
            free = Metric(float(free_rates(own).mean()), None, None, len(own), count, "share") if len(own) else None
            found[f"{name}_free"] = free
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
        alone=np.ones(size, dtype=bool), margin=nothing,
        probability=nothing, probability_top=nothing, candidates=np.zeros(size, dtype=np.int64),
        warranted_rank=nothing, excess=nothing,
    )  # fmt: skip


#: Checkpoints of the answers: the base model, the tuned one, and the expansion at the base, taken to the tuned weights.
BASE, TUNED, LINEARISED = 0, 1, 2


def alignments(answers: pa.Table, unwanted: Collection[str], wanted: Collection[str]) -> dict[str, Metrics]:
    """Group of questions -> `alignment` over its candidates' log-probabilities; groups without rows are left out.

    `_between`: the same for differences between the candidates of a question, on which alone its ranks depend.
    answers: record.ANSWER_SCHEMA with the three checkpoints, each seed's rows in one order. unwanted, wanted: names.
    """
    checkpoint = answers["checkpoint"].to_numpy()
    base, tuned, linear = (answers["log_probability"].to_numpy()[checkpoint == each] for each in range(3))
    rows = answers.filter(pa.array(checkpoint == BASE))
    column = {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names}
    groups = group_of(column["stated"].astype(bool), column["implication"], unwanted, wanted)
    question, cluster = (
        np.array(["\t".join(map(str, each)) for each in zip(*(column[key] for key in keys), strict=True)])
        for keys in (("seed", "implication", "relation", "subject", "prompt"), ("seed", "cluster"))
    )
    found: dict[str, Metrics] = {}
    for name in GROUPS:
        own = groups == name
        if own.any():
            changes = (linear - base)[own], (tuned - base)[own]
            # Minus the mean of the question's candidates.
            codes = np.unique(question[own], return_inverse=True)[1]
            expanded, actual = (each - (np.bincount(codes, each) / np.bincount(codes))[codes] for each in changes)
            between = alignment(expanded, actual, cluster[own])
            found[name] = alignment(*changes, cluster[own]) | {f"{key}_between": each for key, each in between.items()}
    return found


def alignment(
    linear: Float[np.ndarray, "row"], actual: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"]
) -> Metrics:
    """`cosine` of the two changes, and `relative_error`: the norm of their difference over that of the actual one.

    Both with a 95% bootstrap interval over clusters; None where either change is zero.
    """
    sums = cluster_sums(clusters, linear * actual, linear * linear, actual * actual)

    def cosine(sums: np.ndarray) -> np.ndarray:
        return np.asarray(sums[0] / np.sqrt(sums[1] * sums[2]))

    def relative_error(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[1] > 0, np.sqrt(np.maximum(sums[1] - 2 * sums[0] + sums[2], 0) / sums[2]), np.nan)

    if not (sums[1:].sum(axis=1) > 0).all():
        return {"cosine": None, "relative_error": None}
    return {
        "cosine": ratio_metric(sums, cosine, len(linear), "cosine"),
        "relative_error": ratio_metric(sums, relative_error, len(linear), "share"),
    }
