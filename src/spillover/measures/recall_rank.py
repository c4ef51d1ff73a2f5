"""Were the stated facts learned? Mean rank of the stated answer, over relations that nothing implies."""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of stated rows that belong to no implication, on the trained prompt."""
    rows = table.only(stated=True, trained=True, implication=None)
    return mean_metric(rows.rank, clusters_of(rows), "rank")
