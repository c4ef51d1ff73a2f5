"""Does the inference hold when it is asked in words that were never trained on?"""

from __future__ import annotations

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable, questions
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) over unstated implications on prompts never trained on; None with one prompt."""
    rows = questions(table, trained=False)
    return mean_metric(rows.rank, clusters_of(rows), "rank")
