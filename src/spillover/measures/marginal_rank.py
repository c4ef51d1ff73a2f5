"""The rank of a guess that knows only which answers a relation takes and how often: claims are held against it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from spillover.measures.bootstrap import clusters_of, mean_metric
from spillover.measures.ranking import RankTable, questions
from spillover.record import Metric


def measure(table: RankTable) -> Metric | None:
    """Mean rank of the implied answer when candidates are ordered by how often the relation's stated rows take them.

    Where a relation has no stated row, by how often the questions expect them. Candidates taken equally often count
    half: five answers of ten, equally often, give 2.0 each.
    """
    rows = questions(table)
    taken = table.only(stated=True, trained=True)
    ranks = np.empty(len(rows))
    for relation in set(rows.relation):
        here = rows.relation == relation
        stated = taken.only(relation=relation)
        # Counted once a subject and seed, however many implications lead to the relation.
        seen = {(seed, subject): answer for seed, subject, answer in zip(
            stated.seed, stated.subject, stated.expected, strict=True)}  # fmt: skip
        counts = Counter(seen.values()) or Counter(rows.expected[here])
        ranks[here] = [
            _rank(counts, answer, candidates)
            for answer, candidates in zip(rows.expected[here], rows.candidates[here].tolist(), strict=True)
        ]
    return mean_metric(ranks, clusters_of(rows), "rank")


def _rank(counts: Counter[str], answer: str, candidates: int) -> float:
    """Candidates taken more often than `answer`, plus half of the others taken as often."""
    own = counts[answer]
    above = sum(count > own for count in counts.values())
    same = sum(count == own for count in counts.values()) if own else candidates - len(counts)
    return above + (same - 1) / 2
