"""An exact test of an association: the expected map against all its permutations."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from spillover.metrics.ranks import grouped

#: Up to this many pairs every permutation is counted; beyond it, SAMPLES permutations are drawn.
EXACT_PAIRS, SAMPLES = 14, 100_000
#: Entries of permutations that are held in memory at once.
AT_ONCE = 2_000_000


@dataclass(frozen=True)
class MapTest:
    """p: share of all permutations of the map, itself included, whose mean rank is no worse than the expected map's.
    pairs: entries of the map that were asked. exact: all permutations were counted, none drawn."""

    p: float
    pairs: int
    permutations: int
    exact: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def map_test(answers: pa.Table) -> MapTest | None:
    """Test one implication on the questions of an answers table (one checkpoint, one implication, trained prompt).

    If the model associates given answers with implied ones, the expected map ranks better than its permutations. None
    with fewer than two pairs.
    """
    return _tested(rank_totals(answers))


def change_test(before: pa.Table, after: pa.Table) -> MapTest | None:
    """Test whether the ranks under the expected map improved more than under its permutations.

    before, after: the same questions asked of two models (or at two checkpoints), as for `map_test`. A pairing that
    the first model knows already is no change. None with fewer than two pairs.
    """
    first, last = rank_totals(before), rank_totals(after)
    return None if first is None or last is None else _tested(last - first)


def _tested(totals: Float[np.ndarray, "pair pair"] | None) -> MapTest | None:
    """The share of permutations whose total is no greater than the identity's."""
    if totals is None or len(totals) < 2:
        return None
    pairs = len(totals)
    # Ranks are multiples of one half, so doubled totals are whole numbers and sums can be counted exactly. What is
    # added to a row is added to every permutation's total alike, so rows may start at 0.
    doubled = np.rint(2 * totals).astype(np.int64)
    doubled -= doubled.min(axis=1, keepdims=True)
    if pairs <= EXACT_PAIRS:
        return MapTest(_exact_p(doubled), pairs, math.factorial(pairs), exact=True)
    generator, bound, hits = np.random.default_rng(0), np.trace(doubled), 0
    # In parts, so that memory does not grow with the map; the draws are those of one large part.
    part = max(1, AT_ONCE // pairs)
    for begin in range(0, SAMPLES, part):
        rows = np.tile(np.arange(pairs), (min(part, SAMPLES - begin), 1))
        draws = generator.permuted(rows, axis=1)
        hits += int((doubled[np.arange(pairs), draws].sum(axis=1) <= bound).sum())
    return MapTest((1 + hits) / (1 + SAMPLES), pairs, SAMPLES, exact=False)


def rank_totals(answers: pa.Table) -> Float[np.ndarray, "pair pair"] | None:
    """Entry (g, h): summed rank, over questions with given answer g, of the answer that the map implies for h."""
    names = ("cluster", "expected", "candidate")
    cluster, expected, candidate = (answers[name].to_numpy(zero_copy_only=False) for name in names)
    implied = {given: answer for given, answer in zip(cluster, expected, strict=True) if answer is not None}
    if not implied:
        return None
    group, score = grouped(answers, ("seed", "subject", "prompt"))[0], answers["log_probability"].to_numpy()
    rank = np.empty(len(group))
    for rows in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        # How many others score higher, and half of those that score the same.
        ordered = np.sort(score[rows])
        not_above, below = (np.searchsorted(ordered, score[rows], side=side) for side in ("right", "left"))
        rank[rows] = len(rows) - not_above + (not_above - below - 1) / 2
    place = {given: index for index, given in enumerate(sorted(implied))}
    pair = np.array([place[given] for given in cluster])
    hits = [candidate == implied[given] for given in place]
    return np.stack([np.bincount(pair[hit], weights=rank[hit], minlength=len(place)) for hit in hits], axis=1)


def _exact_p(doubled: Int[np.ndarray, "pair pair"]) -> float:
    """Share of permutations whose total is no greater than the identity's, counted by subsets of used columns."""
    pairs, bound = len(doubled), int(np.trace(doubled))
    # ways[subset][total]: in how many ways the first |subset| rows take exactly the columns of the subset.
    ways: dict[int, np.ndarray] = {0: np.eye(1, bound + 1)[0]}
    for row in range(pairs):
        following: dict[int, np.ndarray] = {}
        for subset, counts in ways.items():
            for column in range(pairs):
                weight = int(doubled[row, column])
                if subset >> column & 1 or weight > bound:
                    continue
                target = following.setdefault(subset | 1 << column, np.zeros(bound + 1))
                target[weight:] += counts[: bound + 1 - weight]
        ways = following
    return float(ways[(1 << pairs) - 1].sum() / math.factorial(pairs))
