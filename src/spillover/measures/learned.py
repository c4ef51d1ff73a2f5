"""Whether a model has learned what it was told: the condition under which runs may be compared."""

from __future__ import annotations

import pyarrow as pa

from spillover.measures import implication_rank_train, recall_rank
from spillover.measures.ranking import rank_table

#: Stated rows are learned when the mean rank of their answers is no more than this.
LEARNED = 0.1


def learned(answers: pa.Table) -> bool:
    """Whether facts and stated implications, each kind for itself, have a mean rank of at most 0.1.

    answers: one checkpoint's rows of record.ANSWER_SCHEMA. A kind without rows counts as learned.
    """
    table = rank_table(answers)
    found = [recall_rank.measure(table), implication_rank_train.measure(table)]
    return all(metric is None or metric.value is None or metric.value <= LEARNED for metric in found)
