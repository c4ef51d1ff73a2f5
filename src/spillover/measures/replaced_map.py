"""Whether another answer has taken the place of the implied one: any rule from given answers to others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from spillover.measures.ranking import RankTable

#: Random pairings of top answers with subjects, behind the null interval.
DRAWS = 2000


@dataclass(frozen=True)
class ReplacedMap:
    """rate: share of one half of the subjects whose top answer is what a map found on the other half says of their
    given answer. low, high: 95% of the same share when top answers are dealt out at random. n: subjects scored.
    """

    rate: float
    low: float
    high: float
    n: int

    @property
    def taken(self) -> bool:
        """Whether some other association is there: the rate is above its null interval."""
        return self.rate > self.high

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "taken": self.taken}


def replaced_map(table: RankTable, seed: int = 0) -> ReplacedMap | None:
    """Look for a map in the top answers of the questions of one implication, leaving the expected answers out.

    Of each run (seed) and given answer, the most frequent top answer on one half of the subjects is held against the
    other half, and the other way round. None when a given answer has fewer than two subjects.
    """
    if not len(table):
        return None
    groups = np.unique([f"{run}\t{given}" for run, given in zip(table.seed, table.cluster, strict=True)],
                       return_inverse=True)[1]  # fmt: skip
    if np.bincount(groups).min() < 2:
        return None
    answers = np.unique(np.concatenate([table.top.astype(str), table.expected.astype(str)]), return_inverse=True)[1]
    top, expected = answers[: len(table)], answers[len(table) :]
    runs = np.unique(table.seed, return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    half = _halves(groups, generator)
    rate = _share(top, expected, groups, half)
    null = np.array([_share(_dealt(top, runs, generator), expected, groups, half) for _ in range(DRAWS)])
    low, high = np.quantile(null, [0.025, 0.975])
    return ReplacedMap(rate, float(low), float(high), len(table))


def _halves(groups: Int[np.ndarray, "row"], generator: np.random.Generator) -> Int[np.ndarray, "row"]:
    """0 or 1 a row, as evenly as can be within each group."""
    half = np.empty(len(groups), dtype=np.int64)
    for group in range(groups.max() + 1):
        rows = generator.permutation(np.flatnonzero(groups == group))
        half[rows] = np.arange(len(rows)) % 2
    return half


def _dealt(top: Int[np.ndarray, "row"], runs: Int[np.ndarray, "row"], generator: np.random.Generator) -> np.ndarray:
    """The top answers dealt out anew among the rows of each run."""
    dealt = top.copy()
    for run in range(runs.max() + 1):
        rows = np.flatnonzero(runs == run)
        dealt[rows] = top[generator.permutation(rows)]
    return dealt


def _share(
    top: Int[np.ndarray, "row"], expected: Int[np.ndarray, "row"], groups: Int[np.ndarray, "row"],
    half: Int[np.ndarray, "row"],
) -> float:  # fmt: skip
    """The share of rows that the map from the other half foretells."""
    count, kinds = groups.max() + 1, max(top.max(), expected.max()) + 1
    hits = 0
    for scored in (0, 1):
        votes = np.zeros((count, kinds))
        other = half != scored
        np.add.at(votes, (groups[other], top[other]), 1)
        votes[groups, expected] = -1
        best = votes.argmax(axis=1)
        own = half == scored
        # A map says nothing where the other half gave nothing but the expected answer.
        hits += int((top[own] == np.where(votes.max(axis=1) > 0, best, -1)[groups[own]]).sum())
    return hits / len(top)
