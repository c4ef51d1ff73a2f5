"""What was inferred though nobody stated it: the paper's figure."""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable, questions
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of the implied answer over unstated implications, on the trained prompt."""
    rows = questions(table)
    return mean_metric(rows.rank, clusters_of(rows), "rank")
