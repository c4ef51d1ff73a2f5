"""The rank of a uniform guess."""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable, questions
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """(candidates - 1) / 2, averaged over the questions (4.5 of ten)."""
    rows = questions(table)
    return mean_metric((rows.candidates - 1) / 2, clusters_of(rows), "rank")
