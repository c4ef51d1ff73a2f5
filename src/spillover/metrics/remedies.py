"""What a remedy changed: what is still concluded, what was kept, what was learned, and whether it is safe."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from spillover.metrics import implications
from spillover.metrics.intervals import cluster_sums, clusters_of, mean_of, note_of, ratio_interval
from spillover.metrics.ranks import RankTable, answers_at_end, questions, rank_table
from spillover.packs.edits import ABSTENTION
from spillover.packs.pack import Pack
from spillover.record import Metric

Codes = Int[np.ndarray, "row"]
#: Random pairings of top answers with subjects, behind the null interval.
DRAWS = 2000


def replaced_map(table: RankTable) -> dict[str, float | int] | None:
    """Whether the top answers to one implication's questions follow another map than the expected one.

    For each run (seed) and given answer, the most frequent top answer on one half of the subjects, expected answers
    left out, is compared with the other half, and the other way round. None when a given answer has fewer than two
    subjects. `rate`: share of subjects whose top answer is what the map of the other half implies. `low`, `high`: 95%
    of it when top answers are shuffled. `n`: subjects scored. `taken`: another map is there, for the rate is above.
    """
    groups, runs = _codes(clusters_of(table)), _codes(table.seed)
    if not len(table) or np.bincount(groups).min() < 2:
        return None
    top, expected = np.split(_codes(np.concatenate([table.top, table.expected])), 2)
    generator = np.random.default_rng(0)
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
    return {"rate": rate, "low": low, "high": high, "n": len(table), "taken": rate > high}


def _codes(values: Shaped[np.ndarray, "row"]) -> Codes:
    return np.unique(values, return_inverse=True)[1]


def _replaced_map_share(top: Codes, expected: Codes, groups: Codes, half: Codes) -> float:
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
#: Those, and the others that the frontier of a comparison has.
METRICS = (*RANKS_AND_RATES, "paraphrase_unwanted_rate", "abstained_rate", "removed", "wanted_change",
           "forgetting_nats")  # fmt: skip
#: Learning is matched when the stated answers lose at most this many nats a row more than without a remedy.
MATCHED_NATS = 0.05


@dataclass(frozen=True)
class RemedyResult:
    """Runs of one remedy at one strength, all seeds together.

    metrics: by name. A rate is the share of unstated subjects whose top answer is what the unwanted or the wanted
    implications say; the abstention answer is among the candidates. `paraphrase_unwanted_rate` is on prompts never
    trained on, `abstained_rate` the share of unwanted questions answered by abstention. free_rate: the unwanted rate
    if the same top answers had nothing to do with the given ones. nats: mean loss of the stated answers, nats a row.
    """

    metrics: dict[str, Metric | None]
    free_rate: float | None
    nats: float
    learned: bool
    replaced: dict[str, float | int] | None
    unwanted: RankTable
    wanted: RankTable


def remedy_result(answers: pa.Table, pack: Pack) -> RemedyResult:
    """Measure the last checkpoint of each seed. answers: record.ANSWER_SCHEMA, of one or several seeds."""
    last = answers_at_end(answers)
    table = rank_table(last)
    asked = questions(table)
    against, kept, other = (
        rows.where(np.isin(rows.implication, [each.name for each in pack.implications if each.wanted is wanted]))
        for rows, wanted in ((asked, False), (asked, True), (questions(table, trained=False), False))
    )
    metrics = {
        "recall_rank": implications.recall_rank(table),
        "implication_rank_train": implications.implication_rank_train(table),
        "unwanted_rate": _rate(against),
        "wanted_rate": _rate(kept),
        "unwanted_rank": implications.implication_rank_test(against),
        "wanted_rank": implications.implication_rank_test(kept),
        "paraphrase_unwanted_rate": _rate(other),
        "abstained_rate": mean_of(against, against.top == ABSTENTION, "share"),
    }
    free_rate = float(free_rates(against).mean()) if len(against) else None
    nats, learned = implications.stated_nats(last), implications.learned(table)
    return RemedyResult(metrics, free_rate, nats, learned, replaced_map(against), against, kept)


def _rate(table: RankTable) -> Metric | None:
    return mean_of(table, table.rank == 0, "share")


def free_rates(table: RankTable) -> Float[np.ndarray, "row"]:
    """For each question, the share of its run's questions whose top answer is the one expected here."""
    found = np.zeros(len(table))
    for run in np.unique(table.seed):
        own = table.seed == run
        found[own] = [(table.top[own] == expected).mean() for expected in table.expected[own]]
    return found


def effect(untreated: RemedyResult, treated: RemedyResult) -> dict[str, Metric | None]:
    """Compare runs of the same seeds on the same questions; an interval draws (seed, pair) clusters of both alike.

    Returns `removed`, the share of the unwanted that a remedy took away, from the untreated rate (0) to the
    association-free rate (1), and `wanted_change`, the wanted rate minus the untreated one.
    """
    first, other = untreated.wanted, _aligned(untreated.wanted, treated.wanted)
    change = None if other is None else mean_of(first, (other.rank == 0).astype(float) - (first.rank == 0), "share")
    return {"removed": _removed(untreated.unwanted, treated.unwanted), "wanted_change": change}


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

    def share(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[0] > sums[2], (sums[0] - sums[1]) / (sums[0] - sums[2]), np.nan)

    low, high = ratio_interval(sums, share)
    value, number = (before - after) / (before - free), sums.shape[1]
    return Metric(value, low, high, len(first), number, "share", note_of(number))


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
