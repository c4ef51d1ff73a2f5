"""How strongly the exact model answers an association, how far that may move, and which rows would undo it.

Source: docs/predicting.md, "Margins" and "What would undo it".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from spillover.packs.pack import Fact, Pack
from spillover.theory.associations import Association, Counts, counts_of, subjects_of
from spillover.theory.prediction import Solved, solved, unknowns
from spillover.theory.table import lead, table_of

#: An answer that leads by no more than this is undone.
NEGLIGIBLE = 0.01
#: Kinds of subject whose margins are moved for one association's range.
MOST_KINDS = 4
#: Unknowns times candidates up to which a range is found, and unknowns up to which undoing rows are: seconds each.
RANGED_WITHIN, UNDONE_WITHIN = 50_000, 5_000
#: The answer of an abstention row, if no relation has it.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Margin:
    """The mean lead of an association's answer over the best other candidate, over the exposed subjects.

    In units of the smallest stated margin. low, high: no matrix that states the pack with no larger norm has less or
    more; None where that was not computed. value None: nobody is exposed, or there is nothing to compare with.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Exposed:
    """The kinds of subject exposed to an association: signature and relation codes, and how many subjects each."""

    signature: Int[np.ndarray, "kind"]
    relation: int
    answer: int
    among: Bool[np.ndarray, "answer"]
    count: Float[np.ndarray, "kind"]


class Margins:
    """Margins of associations in one solved table."""

    def __init__(self, found: Solved, ledger: Counts) -> None:
        table = found.table
        self.solved, self.table, self.ledger = found, table, ledger
        self._relation = {name: index for index, name in enumerate(table.relations)}
        self._answer = {name: index for index, name in enumerate(table.answers)}
        first = np.zeros(len(table.subjects), dtype=bool)
        first[table.representative] = True
        rows = first[table.subject]
        self._answered = np.zeros((len(table.representative), len(table.relations)), dtype=bool)
        self._answered[table.signature[table.subject[rows]], table.relation[rows]] = True

    def exposed(self, association: Association) -> Exposed | None:
        """Who is exposed, or None when nobody is."""
        given, then = self._relation[association.given], self._relation[association.then]
        statement = self.ledger.number.get((given, self._answer[association.given_answer]))
        if statement is None:
            return None
        kinds, count = np.unique(self.table.signature[self.ledger.subjects(statement)], return_counts=True)
        silent = ~self._answered[kinds, then]
        if not silent.any():
            return None
        answer = self._answer[association.then_answer]
        return Exposed(kinds[silent], then, answer, self.table.candidates[then], count[silent].astype(np.float64))

    def margin(self, association: Association) -> Margin:
        """The mean margin over the exposed subjects."""
        found = self.exposed(association)
        if found is None or self.solved.matrix is None or found.among.sum() < 2:
            return Margin(None)
        relation = np.full(len(found.signature), found.relation)
        scores = self.solved.scores(found.signature, relation)
        margins = lead(scores, np.full(len(relation), found.answer), found.among)
        return Margin(float(np.average(margins, weights=found.count)))

    def ranged(self, association: Association) -> Margin:
        """The margin with its range, where the table is small, was solved as a whole, and few kinds are exposed."""
        margin, found = self.margin(association), self.exposed(association)
        solver = self.solved.ranges
        if solver is None or found is None or margin.value is None or len(found.signature) > MOST_KINDS:
            return margin
        if unknowns(self.table.problem) * int(found.among.sum()) > RANGED_WITHIN:
            return margin
        bounds = np.array(
            [solver.margin_range((int(kind), found.relation), found.answer, found.among) for kind in found.signature]
        )
        low, high = np.average(bounds, axis=0, weights=found.count)
        return dataclasses.replace(margin, low=min(float(low), margin.value), high=max(float(high), margin.value))


@dataclass(frozen=True)
class Undoing:
    """The fewest rows of one way that undo an association, by solving the changed pack again.

    way: remove (supporting rows) or abstain (new rows that say `unknown`) or contradict (new rows with another
    answer). margin: of the association's answer afterwards; with one row fewer it still leads.
    """

    way: Literal["remove", "abstain", "contradict"]
    rows: tuple[Fact, ...]
    margin: float | None


def can_be_undone(found: Solved, margin: Margin) -> bool:
    """Whether there is a lead to undo, in a table so small that it can be solved again and again."""
    small = found.method == "exact" and unknowns(found.table.problem) <= UNDONE_WITHIN
    return small and margin.value is not None and margin.value > NEGLIGIBLE


def undoing(pack: Pack, ledger: Counts, association: Association, gap: float = 1e-6) -> list[Undoing]:
    """The smallest set found of each way that leaves the association's answer without a lead, fewest rows first.

    Each way's rows are equal in the exact model as far as their subjects are, so only their number is searched: by
    halving, each number tried by solving the changed pack. A way that never undoes it is left out.
    """
    supporting, silent = subjects_of(ledger, association)
    then = association.then
    rows_of: dict[Literal["remove", "abstain", "contradict"], list[Fact]] = {
        "remove": [Fact(subject, then, association.then_answer) for subject in supporting],
        "abstain": [Fact(subject, then, _unknown(pack)) for subject in silent[:-1]],
        "contradict": [Fact(subject, then, rival) for subject in silent[:-1] for rival in _rival(pack, association)],
    }
    found = []
    for way, rows in rows_of.items():
        fewest = _fewest(pack, association, way, rows, gap)
        if fewest is not None:
            found.append(fewest)
    return sorted(found, key=lambda each: len(each.rows))


def _unknown(pack: Pack) -> str:
    taken = {answer for answers in pack.candidates.values() for answer in answers}
    return next(name for name in (UNKNOWN, *(f"{UNKNOWN} {i}" for i in range(len(taken) + 1))) if name not in taken)


def _rival(pack: Pack, association: Association) -> Sequence[str]:
    """One other candidate that others state for the relation, if there is one."""
    stated = {fact.answer for fact in pack.facts if fact.relation == association.then}
    return sorted(stated - {association.then_answer})[:1]


def changed(pack: Pack, way: str, rows: Sequence[Fact]) -> Pack:
    """The pack without the rows, or with them; an answer that nobody states any more stays a candidate."""
    if way == "remove":
        gone = set(rows)
        relations = tuple(dataclasses.replace(each, answers=pack.candidates[each.name]) for each in pack.relations)
        return dataclasses.replace(
            pack, relations=relations, facts=tuple(fact for fact in pack.facts if fact not in gone)
        )
    return dataclasses.replace(pack, facts=(*pack.facts, *rows))


def _fewest(pack: Pack, association: Association, way: str, rows: Sequence[Fact], gap: float) -> Undoing | None:
    def left(count: int) -> float | None:
        """The margin after `count` rows; None when the changed pack cannot be stated or nobody is exposed."""
        other = changed(pack, way, rows[:count])
        table = table_of(other)
        return Margins(solved(table, gap), counts_of(table)).margin(association).value

    def undone(count: int) -> bool:
        margin = left(count)
        return margin is not None and margin <= NEGLIGIBLE

    if not rows or not undone(len(rows)):
        return None
    low, high = 0, len(rows)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if undone(middle) else (middle, high)
    return Undoing(way, tuple(rows[:high]), left(high))  # type: ignore[arg-type]
