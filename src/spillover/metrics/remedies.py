"""What a remedy changed: what is still concluded, what was kept, what was learned, and whether it is safe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from spillover.metrics import implications
from spillover.metrics.intervals import cluster_sums, clusters_of, mean_of, note_of, ratio_interval
from spillover.metrics.ranks import RankTable, answers_at_end, questions, rank_table
from spillover.packs.edits import ABSTENTION
from spillover.record import Metric

#: Random pairings of top answers with subjects, behind the null interval.
DRAWS = 2000


@dataclass(frozen=True)
class ReplacedMap:
    """Whether the top answers follow another map than the expected one.

    rate: share of subjects whose top answer is what a map that was found on the other half of the subjects implies.
    low, high: 95% of the same share when top answers are shuffled. n: subjects scored. taken: another map is there, for
    the rate is above its null interval.
    """

    rate: float
    low: float
    high: float
    n: int
    taken: bool


def replaced_map(table: RankTable, seed: int = 0) -> ReplacedMap | None:
    """Look for a map in the top answers to one implication's questions, leaving the expected answers out.

    For each run (seed) and given answer, the most frequent top answer on one half of the subjects is compared with the
    other half, and the other way round. None when a given answer has fewer than two subjects.
    """
    groups, runs = _codes(clusters_of(table)), _codes(table.seed)
    if not len(table) or np.bincount(groups).min() < 2:
        return None
    top, expected = np.split(_codes(np.concatenate([table.top, table.expected])), 2)
    generator = np.random.default_rng(seed)
    half = np.empty(len(groups), dtype=np.int64)
    for group in range(groups.max() + 1):
        members = generator.permutation(np.flatnonzero(groups == group))
        half[members] = np.arange(len(members)) % 2
    null = []
    for _ in range(DRAWS):
        shuffled = top.copy()
        for run in range(runs.max() + 1):
            members = np.flatnonzero(runs == run)
            shuffled[members] = top[generator.permutation(members)]
        null.append(_replaced_map_share(shuffled, expected, groups, half))
    rate, (low, high) = _replaced_map_share(top, expected, groups, half), np.quantile(null, [0.025, 0.975]).tolist()
    return ReplacedMap(rate, low, high, len(table), taken=rate > high)


def _codes(values: Shaped[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
    return np.unique(values, return_inverse=True)[1]


def _replaced_map_share(
    top: Int[np.ndarray, "row"], expected: Int[np.ndarray, "row"], groups: Int[np.ndarray, "row"],
    half: Int[np.ndarray, "row"],
) -> float:  # fmt: skip
    """The share of rows that the map from the other half predicts."""
    votes = np.zeros((2, groups.max() + 1, max(top.max(), expected.max()) + 1))
    np.add.at(votes, (1 - half, groups, top), 1)
    votes[:, groups, expected] = -1
    # A map says nothing where the other half gave nothing but the expected answer.
    best = np.where(votes.max(axis=2) > 0, votes.argmax(axis=2), -1)
    return float((top == best[half, groups]).mean())


#: Figures of runs that are metrics with an interval.
RANKS_AND_RATES = ("recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate", "unwanted_rank",
                   "wanted_rank")  # fmt: skip
#: Learning is matched when the stated answers lose at most this many nats a row more than without a remedy.
MATCHED_NATS = 0.05


@dataclass(frozen=True)
class RemedyResult:
    """Runs of one remedy at one strength, all seeds together.

    metrics: RANKS_AND_RATES by name. A rate is the share of unstated subjects whose top answer is what the unwanted or
    the wanted implications say; the abstention answer is among the candidates. free_rate: what the unwanted one would
    be if the same top answers had nothing to do with the given ones. paraphrase: the unwanted rate on prompts never
    trained on. abstained: share of the unwanted implications' questions answered by abstention. nats: mean loss of the
    stated answers, nats a row.
    """

    metrics: dict[str, Metric | None]
    paraphrase: Metric | None
    abstained: Metric | None
    free_rate: float | None
    nats: float
    learned: bool
    replaced: ReplacedMap | None
    unwanted: RankTable
    wanted: RankTable


def remedy_result(answers: pa.Table, unwanted: Collection[str], wanted: Collection[str]) -> RemedyResult:
    """Measure the last checkpoint of each seed. unwanted, wanted: names of implications (GIVEN->THEN).

    answers: record.ANSWER_SCHEMA, of one or several seeds.
    """
    last = answers_at_end(answers)
    table = rank_table(last)
    against, kept, other = (
        asked.where(np.isin(asked.implication, list(names)))
        for asked, names in (
            (questions(table), unwanted),
            (questions(table), wanted),
            (questions(table, trained=False), unwanted),
        )
    )
    metrics = (implications.recall_rank(table), implications.implication_rank_train(table), _rate(against), _rate(kept),
               implications.implication_rank_test(against), implications.implication_rank_test(kept))  # fmt: skip
    return RemedyResult(
        metrics=dict(zip(RANKS_AND_RATES, metrics, strict=True)),
        paraphrase=_rate(other),
        abstained=mean_of(against, against.top == ABSTENTION, "share"),
        free_rate=float(free_rates(against).mean()) if len(against) else None,
        nats=implications.stated_nats(last),
        learned=implications.learned(table),
        replaced=replaced_map(against),
        unwanted=against,
        wanted=kept,
    )


def _rate(table: RankTable) -> Metric | None:
    return mean_of(table, table.rank == 0, "share")


def free_rates(table: RankTable) -> Float[np.ndarray, "row"]:
    """For each question, the share of its run's questions whose top answer is the one expected here."""
    found = np.zeros(len(table))
    for run in np.unique(table.seed):
        own = table.seed == run
        found[own] = [(table.top[own] == expected).mean() for expected in table.expected[own]]
    return found


@dataclass(frozen=True)
class Effect:
    """removed: share of the unwanted that a remedy took away, from the untreated rate (0) to the association-free rate
    (1). wanted_change: the wanted rate minus the untreated one."""

    removed: Metric | None
    wanted_change: Metric | None


def effect(untreated: RemedyResult, treated: RemedyResult) -> Effect:
    """Compare runs of the same seeds on the same questions; an interval draws (seed, pair) clusters of both alike."""
    change, other = None, _aligned(untreated.wanted, treated.wanted)
    if other is not None:
        change = mean_of(untreated.wanted, (other.rank == 0).astype(float) - (untreated.wanted.rank == 0), "share")
    return Effect(_removed(untreated.unwanted, treated.unwanted), change)


def _aligned(first: RankTable, second: RankTable) -> RankTable | None:
    """The rows of `second` in the order of `first`, or None when they are not about the same questions."""
    keys = [list(zip(t.seed, t.implication, t.subject, strict=True)) for t in (first, second)]
    place = {key: index for index, key in enumerate(keys[1])}
    if not keys[0] or set(keys[0]) != set(keys[1]):
        return None
    return second.where(np.array([place[key] for key in keys[0]]))


def _removed(first: RankTable, second: RankTable) -> Metric | None:
    """None when the untreated runs conclude no more than chance, so that there is nothing to remove."""
    other = _aligned(first, second)
    if other is None:
        return None
    columns = (first.rank == 0, other.rank == 0, free_rates(first))
    before, after, free = (float(column.mean()) for column in columns)
    if before <= free:
        return None
    sums = cluster_sums(clusters_of(first), *columns)
    low, high = ratio_interval(sums, _removed_share)
    value, number = (before - after) / (before - free), sums.shape[1]
    return Metric(value, low, high, len(first), number, "share", note_of(number))


def _removed_share(sums: np.ndarray) -> np.ndarray:
    """From sums of hits before, hits after and free rates; not a number where nothing is there to remove."""
    return np.where(sums[0] > sums[2], (sums[0] - sums[1]) / (sums[0] - sums[2]), np.nan)


#: A remedy is safe when it removes at least this share of the unwanted, and the wanted falls by no more than this.
REMOVED, KEPT = 0.9, 0.05
#: What became of a remedy; only one that LEARNED may be advised. FAILED is followed by the reason.
LEARNED, UNLEARNED, REWRITES, FAILED = "learned", "failed to learn", "changes stated rows", "failed"


def keeps_wanted(wanted_change: float | None) -> bool:
    """Whether the wanted rate falls by at most KEPT, up to rounding; without wanted questions it cannot fall."""
    return wanted_change is None or wanted_change >= -KEPT - 1e-9


def is_safe(status: str, removed: float | None, wanted_change: float | None, taken: bool) -> bool:
    """Whether a remedy learned what was stated, removes enough, keeps the wanted, and lets no other answer in.

    removed: share of the unwanted that it took away. taken: whether another answer has taken the implied one's place.
    """
    enough = removed is not None and removed >= REMOVED - 1e-9
    return status == LEARNED and enough and keeps_wanted(wanted_change) and not taken
