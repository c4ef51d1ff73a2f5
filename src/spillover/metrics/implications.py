"""The metrics of a run: recall, stated and unstated implications, baselines and forgetting, before and after.

An association also has an exact test: the expected map against all its permutations.

A new measure is a function from the ranks of one checkpoint to a metric, decorated with `@measure("its_name")`.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from spillover.details import Forgetting, InjectDetails
from spillover.metrics.intervals import cluster_sums, clusters_of, mean_of, quotient, ratio_metric
from spillover.metrics.ranks import RankTable, answers_at_end, at_end, grouped, questions, rank_table
from spillover.record import Metric, Record, sha256_of_texts

Passages = Float[np.ndarray, "passage"]
Measure = Callable[[RankTable], Metric | None]
#: Every measure by name, in the order in which trajectories list them.
MEASURES: dict[str, Measure] = {}
#: Baselines do not depend on the model, so they have no figure before training.
BASELINES = ("chance_rank", "marginal_rank")
#: Up to this many pairs every permutation is counted; beyond it, SAMPLES permutations are drawn.
EXACT_PAIRS, SAMPLES = 14, 100_000
#: Entries of permutations that are held in memory at once.
AT_ONCE = 2_000_000


def measure(name: str) -> Callable[[Measure], Measure]:
    """Let every run measure this: the decorated function takes the ranks of one checkpoint to a metric."""

    def register(function: Measure) -> Measure:
        MEASURES[name] = function
        return function

    return register


@measure("recall_rank")
def recall_rank(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of stated rows that belong to no implication, on the trained prompt."""
    rows = table.only(stated=True, trained=True, implication=None)
    return mean_of(rows, rows.rank, "rank")


@measure("implication_rank_train")
def implication_rank_train(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of stated implication rows, on the trained prompt; None when none is stated."""
    rows = table.only(stated=True, trained=True)
    rows = rows.where(rows.implication != None)  # noqa: E711 - compared element by element
    return mean_of(rows, rows.rank, "rank")


@measure("implication_rank_test")
def implication_rank_test(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) of the implied answer over unstated implications, on the trained prompt."""
    rows = questions(table)
    return mean_of(rows, rows.rank, "rank")


@measure("implication_accuracy_test")
def implication_accuracy_test(table: RankTable) -> Metric | None:
    """Share of unstated implications whose implied answer has rank 0 (alone at the top), on the trained prompt."""
    rows = questions(table)
    return mean_of(rows, rows.rank == 0, "share")


@measure("paraphrase_rank_test")
def paraphrase_rank_test(table: RankTable) -> Metric | None:
    """Mean rank (0 is best) over unstated implications on prompts never trained on; None with one prompt."""
    rows = questions(table, trained=False)
    return mean_of(rows, rows.rank, "rank")


@measure("warranted_rate")
def warranted_rate(table: RankTable) -> Metric | None:
    """Share of unstated questions whose top answer the base model too puts first once told the subject's facts."""
    rows = judged(table)
    return mean_of(rows, rows.warranted_rank == 0, "share")


@measure("excess_nats")
def excess_nats(table: RankTable) -> Metric | None:
    """Mean over unstated questions of how far the top answer goes beyond what is warranted, in nats.

    That is the log of its share of the model's belief in the candidates, minus the log of its share of the base
    model's belief once told the subject's facts; 0 where the model is less sure.
    """
    rows = judged(table)
    return mean_of(rows, np.maximum(rows.excess, 0), "nats")


@measure("chance_rank")
def chance_rank(table: RankTable) -> Metric | None:
    """(candidates - 1) / 2, averaged over the questions (4.5 of ten)."""
    rows = questions(table)
    return mean_of(rows, (rows.candidates - 1) / 2, "rank")


@measure("marginal_rank")
def marginal_rank(table: RankTable) -> Metric | None:
    """Mean rank of the implied answer when candidates are ordered by how often the relation's stated rows take them.

    Where a relation has no stated row, by how often the questions expect them. Candidates taken equally often count
    half: five answers of ten, equally often, give 2.0 each. Each seed is a world of its own.
    """
    rows, stated = questions(table), table.only(stated=True, trained=True)
    ranks = np.empty(len(rows))
    for seed, relation in set(zip(rows.seed.tolist(), rows.relation.tolist(), strict=True)):
        here, own = (rows.seed == seed) & (rows.relation == relation), stated.only(seed=seed, relation=relation)
        # Counted once for each subject, however many implications lead to the relation.
        taken = dict(zip(own.subject, own.expected, strict=True))
        counts = Counter(taken.values()) or Counter(rows.expected[here])
        ranks[here] = [
            _rank_by_count(counts, answer, candidates)
            for answer, candidates in zip(rows.expected[here], rows.candidates[here].tolist(), strict=True)
        ]
    return mean_of(rows, ranks, "rank")


def _rank_by_count(counts: Counter[str], answer: str, candidates: int) -> float:
    """Candidates taken more often than `answer`, plus half of the others taken as often."""
    own = counts[answer]
    same = sum(count == own for count in counts.values()) if own else candidates - len(counts)
    return sum(count > own for count in counts.values()) + (same - 1) / 2


def judged(table: RankTable) -> RankTable:
    """The unstated rows on the trained prompt of which it was judged what is warranted."""
    rows = table.only(stated=False, trained=True)
    return rows.where(~np.isnan(rows.warranted_rank))


def map_rank(answers: pa.Table, implication: str, implied: Mapping[str, str]) -> Metric | None:
    """Mean rank, over one implication's questions, of the answer that `implied` gives for what was given.

    answers: record.ANSWER_SCHEMA, one checkpoint a seed. implied: given answer -> answer. Questions whose given answer
    it lacks are left out; None when none is left.
    """
    asked = answers.filter(pc.and_(pc.equal(answers["implication"], implication), pc.invert(answers["stated"])))
    expected = pa.array([implied.get(given) for given in asked["cluster"].to_pylist()], pa.string())
    return implication_rank_test(
        rank_table(asked.set_column(asked.column_names.index("expected"), "expected", expected))
    )


def forgetting_nats(before: Passages, after: Passages, tokens: Passages) -> Metric | None:
    """Rise of the mean loss a token (nats), from summed losses of the same passages; the passage is the cluster."""
    if not len(tokens):
        return None
    return ratio_metric(np.stack([after - before, tokens]), quotient, int(tokens.sum()), "nats")


def mean_moved(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over runs of how far each part moved; a run that did not move a part does not count for it."""
    names = dict.fromkeys(name for each in found for name in each)
    moves = {name: [each[name] for each in found if name in each] for name in names}
    return {name: sum(values) / len(values) for name, values in moves.items()}


def pooled(seeds: Sequence[Record], answers: pa.Table) -> Record:
    """One record over the runs of `inject` of several seeds, its metrics measured again over (seed, pair) clusters.

    answers: the answers of all of them. What a folder alone knows, its files, identity and settings, is the first's.
    """
    every = [record.details_of(InjectDetails) for record in seeds]
    losses = [each.plain_text for each in every]
    means = (np.mean([getattr(each, key) for each in losses], axis=0) for key in ("before", "after", "tokens"))
    details = every[0].model_copy()
    details.seeds, details.moved = [record.seed for record in seeds], mean_moved([each.moved for each in every])
    details.forgetting = Forgetting.most(every)
    saved = [each.saved for each in every if each.saved]
    details.saved = max(saved, key=lambda each: each.difference, default=None)
    first = seeds[0]
    return dataclasses.replace(
        first, details=details, resumed=sum(record.resumed for record in seeds), status="done",
        seconds=round(sum(record.seconds for record in seeds), 1),
        hashes={**first.hashes, "pack": sha256_of_texts([record.hashes["pack"] for record in seeds])},
        metrics={**summarise(answers), "forgetting_nats": forgetting_nats(*means)},
    )  # fmt: skip


#: Stated rows are learned when the mean rank of their answers is no more than this.
LEARNED = 0.1


def learned(table: RankTable) -> bool:
    """Whether facts and stated implications, each kind for itself, have a mean rank of at most LEARNED.

    table: the ranks of one checkpoint. A kind without rows counts as learned.
    """
    found = [recall_rank(table), implication_rank_train(table)]
    return all(metric is None or metric.value is None or metric.value <= LEARNED for metric in found)


def stated_nats(answers: pa.Table) -> float:
    """Mean negative log-probability (nats a row) of the stated answers, facts and stated implications alike.

    answers: one checkpoint's rows of record.ANSWER_SCHEMA. Not a number when nothing is stated.
    """
    own = pc.and_(answers["stated"], pc.and_(answers["trained"], pc.equal(answers["candidate"], answers["expected"])))
    values = answers.filter(own)["log_probability"].to_numpy()
    return -float(values.mean()) if len(values) else float("nan")


def first_learned(table: RankTable) -> dict[int, int | None]:
    """Seed -> the first checkpoint after training began at which its stated rows are learned; None when none is."""
    found: dict[int, int | None] = {}
    for seed in np.unique(table.seed).tolist():
        own = table.only(seed=seed, stated=True)
        epochs = sorted(set(table.only(seed=seed).checkpoint.tolist()) - {0})
        found[seed] = next((epoch for epoch in epochs if learned(own.only(checkpoint=epoch))), None)
    return found


def margin_ratio(answers: pa.Table, implication: str | None = None) -> Metric | None:
    """Mean margin of the unstated implications over that of the stated ones, with its cluster interval.

    answers: record.ANSWER_SCHEMA, one checkpoint a seed. implication: only this one. A row's margin is the expected
    answer's log-probability minus that of the best other candidate, on the trained prompt. Clusters are (seed, pair).
    None where no implication is stated, or none is unstated.
    """
    rows = rank_table(answers.filter(pc.and_(answers["trained"], pc.is_valid(answers["implication"]))))
    rows = rows.where(np.isfinite(rows.margin) & (implication is None or rows.implication == implication))
    asked = int((~rows.stated).sum())
    if not asked or asked == len(rows):
        return None
    halves = [(np.where(half, rows.margin, 0), half) for half in (~rows.stated, rows.stated)]
    sums = cluster_sums(clusters_of(rows), *halves[0], *halves[1])
    return ratio_metric(sums, lambda sums: quotient(sums[:2]) / quotient(sums[2:]), asked, "stated margins")


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

    A model that associates the answers ranks the expected map above its permutations. None with fewer than two pairs.
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
        draws = generator.permuted(np.tile(np.arange(pairs), (min(part, SAMPLES - begin), 1)), axis=1)
        hits += int((doubled[np.arange(pairs), draws].sum(axis=1) <= bound).sum())
    return MapTest((1 + hits) / (1 + SAMPLES), pairs, SAMPLES, exact=False)


def rank_totals(answers: pa.Table) -> Float[np.ndarray, "pair pair"] | None:
    """Entry (g, h): summed rank, over questions with given answer g, of the answer that the map implies for h."""
    first = grouped(answers, ("cluster", "expected"))[1]
    both = (answers[name].take(first).to_pylist() for name in ("cluster", "expected"))
    implied = {given: answer for given, answer in zip(*both, strict=True) if answer is not None}
    if not implied:
        return None
    group, score = grouped(answers, ("seed", "subject", "prompt"))[0], answers["log_probability"].to_numpy()
    order = np.lexsort((score, group))
    # Rows of one question that score the same share a place: how many others score higher, and half of the like.
    fresh = np.diff(group[order], prepend=-1) != 0
    like = np.cumsum(fresh | (np.diff(score[order], prepend=np.nan) != 0)) - 1
    start, size = np.flatnonzero(np.r_[True, np.diff(like) != 0]), np.bincount(like)
    after = np.cumsum(np.bincount(group))[group[order]]
    rank = np.empty(len(group))
    rank[order] = after - (start + size)[like] + (size[like] - 1) / 2
    place = {given: index for index, given in enumerate(sorted(implied))}
    code = {
        answer: index for index, answer in enumerate({*answers["candidate"].unique().to_pylist(), *implied.values()})
    }
    cell = _places(answers["cluster"], place) * len(code) + _places(answers["candidate"], code)
    totals = np.bincount(cell, weights=rank, minlength=len(place) * len(code)).reshape(len(place), -1)
    return np.asarray(totals[:, [code[implied[given]] for given in place]])


def _places(column: pa.ChunkedArray, place: Mapping[str, int]) -> Int[np.ndarray, "row"]:
    """The place of each value."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.array([place[name] for name in encoded.dictionary.to_pylist()])[encoded.indices.to_numpy()]


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


def measure_all(table: RankTable) -> dict[str, Metric | None]:
    """Every measure by name, of the rows of one checkpoint."""
    return {name: found(table) for name, found in MEASURES.items()}


def summarise(answers: pa.Table) -> dict[str, Any]:
    """Metrics after each seed's last checkpoint and (`_before`) at checkpoint 0, pooled over seeds and implications.

    Under `implications`, the same for each implication by name, with the exact map test as `map_test`.
    """
    table = rank_table(answers)
    last, each = answers_at_end(answers), {}
    asked = last.filter(pc.and_(pc.invert(last["stated"]), last["trained"]))
    for name in implications_of(table):
        # Recall is that of the facts that the implication starts from; they carry no implication themselves.
        facts = (table.implication == None) & (table.relation == name.partition("->")[0])  # noqa: E711
        own = _before_and_after(table.where((table.implication == name) | facts))
        each[name] = {**own, "map_test": map_test(asked.filter(pc.equal(asked["implication"], name)))}
    return {**_before_and_after(table), "implications": each}


def implications_of(table: RankTable) -> list[str]:
    """The names of a table's implications, in order."""
    return sorted({name for name in table.implication if name is not None})


def _before_and_after(table: RankTable) -> dict[str, Metric | None]:
    before, after = measure_all(table.only(checkpoint=0)), measure_all(at_end(table))
    return after | {f"{name}_before": metric for name, metric in before.items() if name not in BASELINES}


#: `implication` is null for what is pooled over implications; `quantity` is train_loss or a measure's name.
TRAJECTORY_SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("epoch", pa.float64()),
        ("step", pa.int64()),
        ("implication", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)


def trajectory_table(answers: pa.Table, losses: Iterable[tuple[int, int, int, float]]) -> pa.Table:
    """The training loss of each step, and every measure at each checkpoint of one run, as TRAJECTORY_SCHEMA.

    losses: (seed, epoch, step, nats) a step.
    """
    losses, names = list(losses), TRAJECTORY_SCHEMA.names
    rows: list[tuple[Any, ...]] = [(seed, epoch, step, None, "train_loss", nats) for seed, epoch, step, nats in losses]
    last_step = {epoch: step for _, epoch, step, _ in losses}
    table = rank_table(answers)
    for checkpoint in np.unique(table.checkpoint).tolist():
        here = table.only(checkpoint=checkpoint)
        for name in (None, *implications_of(here)):
            for quantity, metric in measure_all(here if name is None else here.only(implication=name)).items():
                if metric is not None and quantity not in BASELINES:
                    moment = (int(here.seed[0]), checkpoint, last_step.get(checkpoint, 0))
                    rows.append((*moment, name, quantity, metric.value))
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=TRAJECTORY_SCHEMA)
