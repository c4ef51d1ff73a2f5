"""The associations that a pack's stated rows suggest: "given = a" goes with "then = b", declared or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int
from scipy import sparse

from spillover.packs.pack import Pack
from spillover.theory.table import Table


@dataclass(frozen=True)
class Association:
    """`given` = `given_answer` suggests `then` = `then_answer`.

    support: subjects of whom both are stated. opposed: subjects with that given of whom another `then` is stated.
    exposed: subjects with that given of whom no `then` is stated, and who would inherit the answer. kind: the declared
    implication's, or None where nobody declared it.
    """

    given: str
    given_answer: str
    then: str
    then_answer: str
    support: int
    opposed: int
    exposed: int
    kind: str | None = None

    @property
    def text(self) -> str:
        return f"{self.given} = {self.given_answer} makes {self.then} = {self.then_answer}"


@dataclass(frozen=True, eq=False)
class Counts:
    """Every distinct statement (relation, answer) of a table, who states it, and which are stated together.

    relation, answer: (statement,), codes of the table. incidence: (subject, statement), 1 where it is stated.
    """

    table: Table
    relation: Int[np.ndarray, "statement"]
    answer: Int[np.ndarray, "statement"]
    incidence: sparse.csc_matrix

    @cached_property
    def number(self) -> dict[tuple[int, int], int]:
        """(relation, answer) -> statement."""
        pairs = zip(self.relation.tolist(), self.answer.tolist(), strict=True)
        return {pair: index for index, pair in enumerate(pairs)}

    @cached_property
    def stated(self) -> Int[np.ndarray, "statement"]:
        """How many subjects state each."""
        return np.diff(self.incidence.indptr)

    @cached_property
    def together(self) -> sparse.csr_matrix:
        """(statement, statement): how many subjects state both, of two different relations."""
        counts = (self.incidence.T @ self.incidence).tocoo()
        apart = self.relation[counts.row] != self.relation[counts.col]
        kept = (counts.data[apart], (counts.row[apart], counts.col[apart]))
        return sparse.csr_matrix(kept, shape=counts.shape)

    @cached_property
    def answered(self) -> Int[np.ndarray, "statement relation"]:
        """How many of those who state each also state some answer to each relation."""
        count = len(self.relation)
        owner = sparse.csr_matrix(
            (np.ones(count, dtype=np.int64), (np.arange(count), self.relation)),
            shape=(count, len(self.table.relations)),
        )
        return np.asarray((self.together @ owner).todense())

    def subjects(self, statement: int) -> Int[np.ndarray, "subject"]:
        """Who states it, in the order of the table."""
        return self.incidence.indices[self.incidence.indptr[statement] : self.incidence.indptr[statement + 1]]


def counts_of(table: Table) -> Counts:
    """The statements of a table. A statement is numbered in the order of relations and answers."""
    answers = len(table.answers)
    code, column = np.unique(table.relation * answers + table.answer, return_inverse=True)
    ones = np.ones(len(column), dtype=np.int64)
    incidence = sparse.csc_matrix((ones, (table.subject, column)), shape=(len(table.subjects), len(code)))
    incidence.sort_indices()
    return Counts(table, code // answers, code % answers, incidence)


def associations(pack: Pack, ledger: Counts) -> list[Association]:
    """Every declared association, and every stated answer's leading one to each other relation; most exposed first.

    Leading: stated most often together with it, the first of equals. Both directions are looked at; a declared one
    stands even where nobody states it.
    """
    found: dict[tuple[int, int, int, int], str | None] = {}
    table = ledger.table
    relation = {name: index for index, name in enumerate(table.relations)}
    answer = {name: index for index, name in enumerate(table.answers)}
    for rule in pack.implications:
        given, then = relation[rule.given], relation[rule.then]
        for before, after in rule.map.items():
            found[given, answer[before], then, answer[after]] = rule.kind
    for key in _leading(ledger):
        found.setdefault(key, None)
    listed = [_counted(ledger, key, kind) for key, kind in found.items()]
    return sorted(listed, key=lambda each: (-each.exposed, -each.support, each.kind is None, each.text))


def _leading(ledger: Counts) -> Iterator[tuple[int, int, int, int]]:
    """(given, its answer, then, its leading answer) for all that are stated together by anybody."""
    pairs = ledger.together.tocoo()
    then = ledger.relation[pairs.col]
    order = np.lexsort((pairs.col, -pairs.data, then, pairs.row))
    row, column, then = pairs.row[order], pairs.col[order], then[order]
    first = np.ones(len(row), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (then[1:] != then[:-1])
    for given, leading in zip(row[first].tolist(), column[first].tolist(), strict=True):
        yield (
            int(ledger.relation[given]),
            int(ledger.answer[given]),
            int(ledger.relation[leading]),
            int(ledger.answer[leading]),
        )


def _counted(ledger: Counts, key: tuple[int, int, int, int], kind: str | None) -> Association:
    given, given_answer, then, then_answer = key
    table = ledger.table
    before = ledger.number.get((given, given_answer))
    after = ledger.number.get((then, then_answer))
    support = answered = exposed = 0
    if before is not None:
        answered = int(ledger.answered[before, then])
        exposed = int(ledger.stated[before]) - answered
        support = int(ledger.together[before, after]) if after is not None else 0
    return Association(
        table.relations[given],
        table.answers[given_answer],
        table.relations[then],
        table.answers[then_answer],
        support=support,
        opposed=answered - support,
        exposed=exposed,
        kind=kind,
    )


def subjects_of(ledger: Counts, association: Association) -> tuple[list[str], list[str]]:
    """Names of those who support an association (both stated), and of those exposed to it, in the pack's order."""
    table = ledger.table
    relation = {name: index for index, name in enumerate(table.relations)}
    answer = {name: index for index, name in enumerate(table.answers)}
    then = relation[association.then]
    before = ledger.number.get((relation[association.given], answer[association.given_answer]))
    after = ledger.number.get((then, answer[association.then_answer]))
    if before is None:
        return [], []
    holders = ledger.subjects(before)
    supporting = np.intersect1d(holders, ledger.subjects(after)) if after is not None else np.empty(0, dtype=int)
    silent = holders[~np.isin(holders, table.subject[table.relation == then])]
    return [table.subjects[i] for i in supporting], [table.subjects[i] for i in silent]
