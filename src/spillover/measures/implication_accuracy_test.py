"""How many unstated implications the model answers as the implication says."""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable, questions
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Share of unstated implications whose implied answer has rank 0 (alone at the top), on the trained prompt."""
    rows = questions(table)
    return mean_metric((rows.rank == 0).astype(float), clusters_of(rows), "share")
