"""What a remedy came to, beside the untreated run: what is still concluded, what was kept, and what was learned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from spillover.facts.treated import ABSTENTION
from spillover.measures import implication_rank_test, implication_rank_train, recall_rank
from spillover.measures.bootstrap import FEW, RESAMPLES, clusters_of, mean_metric
from spillover.measures.learned import learned, stated_nats
from spillover.measures.ranking import RankTable, answers_at_end, questions, rank_table
from spillover.measures.replaced_map import ReplacedMap, replaced_map
from spillover.record import Metric

#: Learning is matched when the stated answers lose at most so many nats a row more than in the untreated run.
MATCHED_NATS = 0.05


@dataclass(frozen=True)
class Remedied:
    """Runs of one remedy at one strength, all seeds together.

    unwanted_rate, wanted_rate: share of unstated subjects whose top answer, the abstention answer included, is what the
    unwanted or the wanted implications say. free_rate: what the first would be if the same top answers had nothing to
    do with the given ones. paraphrase: the unwanted rate in words that were never trained on. abstained: share of the
    unwanted implications' questions answered by abstention. nats: mean loss of the stated answers, nats a row.
    """

    recall_rank: Metric | None
    implication_rank_train: Metric | None
    unwanted_rate: Metric | None
    wanted_rate: Metric | None
    unwanted_rank: Metric | None
    wanted_rank: Metric | None
    paraphrase: Metric | None
    abstained: Metric | None
    free_rate: float | None
    nats: float
    learned: bool
    replaced: ReplacedMap | None
    unwanted: RankTable
    wanted: RankTable


def remedied(answers: pa.Table, unwanted: Collection[str], wanted: Collection[str]) -> Remedied:
    """Measure the last checkpoint of each seed. unwanted, wanted: names of implications (GIVEN->THEN).

    answers: record.ANSWER_SCHEMA, of one or several seeds.
    """
    last = answers_at_end(answers)
    table = rank_table(last)
    asked = questions(table)
    against, kept = (asked.where(np.isin(asked.implication, list(names))) for names in (unwanted, wanted))
    other = questions(table, trained=False)
    other = other.where(np.isin(other.implication, list(unwanted)))
    return Remedied(
        recall_rank=recall_rank.measure(table),
        implication_rank_train=implication_rank_train.measure(table),
        unwanted_rate=_share(against, against.rank == 0),
        wanted_rate=_share(kept, kept.rank == 0),
        unwanted_rank=implication_rank_test.measure(against),
        wanted_rank=implication_rank_test.measure(kept),
        paraphrase=_share(other, other.rank == 0),
        abstained=_share(against, against.top == ABSTENTION),
        free_rate=float(free_rates(against).mean()) if len(against) else None,
        nats=stated_nats(last),
        learned=learned(last),
        replaced=replaced_map(against),
        unwanted=against,
        wanted=kept,
    )


def _share(table: RankTable, hits: np.ndarray) -> Metric | None:
    return mean_metric(hits.astype(float), clusters_of(table), "share")


def free_rates(table: RankTable) -> Float[np.ndarray, "row"]:
    """Of each question, the share of its run's questions whose top answer is the one expected here."""
    found = np.zeros(len(table))
    for run in np.unique(table.seed):
        own = table.seed == run
        found[own] = [(table.top[own] == expected).mean() for expected in table.expected[own]]
    return found


@dataclass(frozen=True)
class Effect:
    """removed: share of the unwanted that a remedy took away, from the untreated rate (0) to the association-free rate
    (1). wanted_change: wanted rate less the untreated one."""

    removed: Metric | None
    wanted_change: Metric | None


def effect(untreated: Remedied, treated: Remedied) -> Effect:
    """Compare runs of the same seeds on the same questions; an interval draws (seed, pair) clusters of both alike."""
    return Effect(_removed(untreated.unwanted, treated.unwanted), _change(untreated.wanted, treated.wanted))


def _aligned(first: RankTable, second: RankTable) -> RankTable | None:
    """The rows of `second` in the order of `first`, or None when they are not about the same questions."""
    keys = [list(zip(t.seed, t.implication, t.subject, strict=True)) for t in (first, second)]
    place = {key: index for index, key in enumerate(keys[1])}
    if not keys[0] or set(keys[0]) != set(keys[1]):
        return None
    return second.take(np.array([place[key] for key in keys[0]]))


def _change(first: RankTable, second: RankTable) -> Metric | None:
    other = _aligned(first, second)
    if other is None:
        return None
    return mean_metric((other.rank == 0).astype(float) - (first.rank == 0), clusters_of(first), "share")


def _removed(first: RankTable, second: RankTable, seed: int = 0) -> Metric | None:
    """None when the untreated runs conclude no more than chance, so that there is nothing to remove."""
    other = _aligned(first, second)
    if other is None:
        return None
    columns = np.stack([first.rank == 0, other.rank == 0, free_rates(first)]).astype(float)
    before, after, free = columns.mean(axis=1)
    if before <= free:
        return None
    codes = np.unique(clusters_of(first).astype(str), return_inverse=True)[1]
    number = int(codes.max()) + 1
    sums = np.stack([np.bincount(codes, weights=column, minlength=number) for column in columns])
    drawn = np.random.default_rng(seed).integers(number, size=(RESAMPLES, number))
    low_high = sums[:, drawn].sum(axis=2)
    spread = low_high[0] - low_high[2]
    shares = (low_high[0] - low_high[1])[spread > 0] / spread[spread > 0]
    low, high = np.quantile(shares, [0.025, 0.975])
    note = "few clusters" if number < FEW else None
    value = (before - after) / (before - free)
    return Metric(float(value), float(low), float(high), len(first), number, "share", note)
