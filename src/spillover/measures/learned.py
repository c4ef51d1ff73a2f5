"""Whether a model has learned what it was told: the condition under which runs may be compared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spillover.measures import implication_rank_train, recall_rank
from spillover.measures.ranking import RankTable, rank_table

#: Stated rows are learned when the mean rank of their answers is no more than this.
LEARNED = 0.1


def learned(answers: pa.Table) -> bool:
    """Whether facts and stated implications, each kind for itself, have a mean rank of at most 0.1.

    answers: one checkpoint's rows of record.ANSWER_SCHEMA. A kind without rows counts as learned.
    """
    return _learned(rank_table(answers))


def stated_nats(answers: pa.Table) -> float:
    """Mean negative log-probability (nats a row) of the stated answers, facts and stated implications alike.

    answers: one checkpoint's rows of record.ANSWER_SCHEMA. Not a number when nothing is stated.
    """
    own = pc.and_(answers["stated"], pc.and_(answers["trained"], pc.equal(answers["candidate"], answers["expected"])))
    values = answers.filter(own)["log_probability"].to_numpy()
    return -float(values.mean()) if len(values) else float("nan")


def first_learned(table: RankTable) -> dict[int, int | None]:
    """Seed -> the first checkpoint after training began at which its stated rows are learned; None when none is."""
    found: dict[int, int | None] = {}
    for seed in np.unique(table.seed).tolist():
        own = table.only(seed=seed, stated=True)
        epochs = sorted(set(table.only(seed=seed).checkpoint.tolist()) - {0})
        found[seed] = next((epoch for epoch in epochs if _learned(own.only(checkpoint=epoch))), None)
    return found


def _learned(table: RankTable) -> bool:
    found = [recall_rank.measure(table), implication_rank_train.measure(table)]
    return all(metric is None or metric.value is None or metric.value <= LEARNED for metric in found)
