"""Were the stated implications learned? Mean rank of the stated answer over bridging subjects."""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of stated implication rows, on the trained prompt; None when none is stated."""
    rows = table.only(stated=True, trained=True)
    rows = rows.where(rows.implication != None)  # noqa: E711 - compared element by element
    return mean_metric(rows.rank, clusters_of(rows), "rank")
