"""From scored candidates to ranks: one row for each question and prompt, at each checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from spillover.record import WARRANTED


@dataclass(frozen=True)
class RankTable:
    """One row for each (seed, checkpoint, subject, relation, prompt); all fields are arrays of the same length.

    rank: 0-based rank of the expected answer among the relation's candidates, ties counted half; NaN without one.
    margin: its log-probability minus that of the best other candidate; NaN without one, infinite without another.
    top: the candidate with the highest score; alone: whether no other has that score. probability, probability_top: of
    the expected and of the top answer, over all texts, not over the candidates. cluster: the given answer that the
    subject shares with its pair.
    trained: whether the prompt is the one that training uses. stated: whether the row itself was trained on.
    warranted_rank: the rank of `top` in what the base model believes once told the subject's facts; excess: the log of
    the share that `top` has of the model's belief in the candidates, minus the same there; NaN where not judged.
    """

    seed: Int[np.ndarray, "row"]
    checkpoint: Int[np.ndarray, "row"]
    subject: np.ndarray
    relation: np.ndarray
    implication: np.ndarray
    cluster: np.ndarray
    prompt: np.ndarray
    trained: Bool[np.ndarray, "row"]
    stated: Bool[np.ndarray, "row"]
    expected: np.ndarray
    top: np.ndarray
    alone: Bool[np.ndarray, "row"]
    rank: Float[np.ndarray, "row"]
    margin: Float[np.ndarray, "row"]
    probability: Float[np.ndarray, "row"]
    probability_top: Float[np.ndarray, "row"]
    candidates: Int[np.ndarray, "row"]
    warranted_rank: Float[np.ndarray, "row"]
    excess: Float[np.ndarray, "row"]

    def __len__(self) -> int:
        return len(self.rank)

    def where(self, rows: Bool[np.ndarray, "row"] | Int[np.ndarray, "taken"]) -> RankTable:
        """The rows that a mask keeps, or the rows of these numbers in their order."""
        return RankTable(**{item.name: getattr(self, item.name)[rows] for item in dataclasses.fields(self)})

    def only(self, **values: Any) -> RankTable:
        """The rows whose columns equal the values named: `only(stated=False, trained=True)`."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            mask &= getattr(self, name) == value
        return self.where(mask)


def grouped(answers: pa.Table, keys: Sequence[str]) -> tuple[Int[np.ndarray, "cell"], Int[np.ndarray, "group"]]:
    """Rows with equal keys share a number, in the order in which they first appear; and the first row of each number.

    A null is a value of its own.
    """
    group = np.zeros(answers.num_rows, dtype=np.int64)
    for key in keys:
        codes = _codes(answers[key].combine_chunks())
        group = _codes(pa.array(group * (codes.max(initial=0) + 1) + codes))
    first = np.empty(group.max(initial=-1) + 1, dtype=np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return group, first


def _codes(values: pa.Array) -> Int[np.ndarray, "row"]:
    """A number for each value, in the order in which they first appear."""
    found = values.dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.int64)


def rank_table(answers: pa.Table) -> RankTable:
    """Rank the candidates of every question in an answers table (record.ANSWER_SCHEMA).

    A question's rank is the number of other candidates that score higher, plus half of those that score the same.
    """
    group, first = grouped(answers, ("seed", "checkpoint", "implication", "relation", "subject", "prompt"))
    score = answers["log_probability"].to_numpy()
    candidate, expected = (answers[name].to_numpy(zero_copy_only=False) for name in ("candidate", "expected"))
    candidates, hit = np.bincount(group), candidate == expected
    target, rival = np.full(len(first), np.nan), np.full(len(first), -np.inf)
    target[group[hit]] = score[hit]
    np.maximum.at(rival, group[~hit], score[~hit])
    better = np.bincount(group, weights=score > target[group])
    ties = np.bincount(group, weights=(score == target[group]) & ~hit)
    # Of equal scores at the top the first counts.
    best = np.lexsort((-np.arange(len(score)), score, group))[np.cumsum(candidates) - 1]
    warranted_rank, excess = _beyond(answers, group, best)
    # What a question and prompt share in all rows.
    names = ("seed", "checkpoint", "subject", "relation", "implication", "cluster", "prompt", "trained", "stated")
    columns = {name: answers[name].take(first).to_numpy(zero_copy_only=False) for name in names}
    columns |= {name: columns[name].astype(bool) for name in ("trained", "stated")}
    return RankTable(
        **columns,
        expected=expected[first],
        top=candidate[best],
        alone=np.bincount(group, weights=score == score[best][group]) == 1,
        rank=np.where(np.isnan(target), np.nan, better + ties / 2),
        margin=target - rival,
        probability=np.exp(target),
        probability_top=np.exp(score[best]),
        candidates=candidates,
        warranted_rank=warranted_rank,
        excess=excess,
    )


def _beyond(
    answers: pa.Table, group: Int[np.ndarray, "cell"], best: Int[np.ndarray, "group"]
) -> tuple[Float[np.ndarray, "group"], Float[np.ndarray, "group"]]:
    """RankTable's `warranted_rank` and `excess`. best: the row of each group's top answer."""
    if WARRANTED not in answers.column_names or answers[WARRANTED].null_count == answers.num_rows:
        return np.full(len(best), np.nan), np.full(len(best), np.nan)
    score, belief = (answers[name].to_numpy(zero_copy_only=False) for name in ("log_probability", WARRANTED))
    top = belief[best]
    better, alike = (np.bincount(group, weights=mask) for mask in (belief > top[group], belief == top[group]))
    share = -np.log(np.bincount(group, weights=np.exp(score - score[best][group])))
    return np.where(np.isnan(top), np.nan, better + (alike - 1) / 2), share - top


def at_end(table: RankTable) -> RankTable:
    """The rows of each seed's own last checkpoint; seeds that stop once they have learned end at different ones."""
    return table.where(_is_last(table.seed, table.checkpoint))


def answers_at_end(answers: pa.Table) -> pa.Table:
    """`at_end` for an answers table (record.ANSWER_SCHEMA)."""
    return answers.filter(pa.array(_is_last(answers["seed"].to_numpy(), answers["checkpoint"].to_numpy())))


def _is_last(seed: Int[np.ndarray, "row"], checkpoint: Int[np.ndarray, "row"]) -> Bool[np.ndarray, "row"]:
    codes = np.unique(seed, return_inverse=True)[1]
    last = np.full(codes.max(initial=-1) + 1, -1, dtype=np.int64)
    np.maximum.at(last, codes, checkpoint)
    return np.asarray(checkpoint == last[codes])


def questions(table: RankTable, trained: bool = True) -> RankTable:
    """The unstated rows with an expected answer, on the trained prompt or on the others."""
    rows = table.only(stated=False, trained=trained)
    return rows.where(~np.isnan(rows.rank))
