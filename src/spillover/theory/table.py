"""A pack as a bipartite table, subjects x relations -> answers, and its compression to one column a signature.

Source: docs/theory.md, "The table" and "Signature compression".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from spillover.packs.pack import Pack


@dataclass(frozen=True, eq=False)
class Problem:
    """The max-margin program of a table: minimise a norm of M while every cell's answer leads every other by 1.

    answers: number of rows of M. relations: number of its last columns. sizes: (subject column,), how many subjects
    each of the first columns stands for. cell_subject, cell_relation, cell_answer: (cell,), what is stated.

    M is the scaled matrix: its column for g equal subjects is sqrt(g) times theirs, so that norms agree with W's.
    """

    answers: int
    relations: int
    sizes: Float[np.ndarray, "signature"]
    cell_subject: Int[np.ndarray, "cell"]
    cell_relation: Int[np.ndarray, "cell"]
    cell_answer: Int[np.ndarray, "cell"]

    @property
    def columns(self) -> int:
        """Columns of M: signatures, then relations."""
        return len(self.sizes) + self.relations

    @property
    def cells(self) -> int:
        """Stated cells, each of them answers - 1 constraints."""
        return len(self.cell_answer)

    @cached_property
    def scale(self) -> Float[np.ndarray, "column"]:
        """M = W * scale, column by column."""
        return np.concatenate([np.sqrt(self.sizes), np.ones(self.relations)])

    @cached_property
    def gather(self) -> sparse.csr_matrix:
        """(column, cell): adds what is said of every cell to its subject's column (over sqrt g) and its relation's."""
        cells = np.arange(self.cells)
        values = np.concatenate([1 / np.sqrt(self.sizes[self.cell_subject]), np.ones(self.cells)])
        where = np.concatenate([self.cell_subject, len(self.sizes) + self.cell_relation])
        return sparse.csr_matrix((values, (where, np.tile(cells, 2))), shape=(self.columns, self.cells))

    def scores(
        self,
        matrix: Float[np.ndarray, "answer column"],
        subject: Int[np.ndarray, "row"],
        relation: Int[np.ndarray, "row"],
    ) -> Float[np.ndarray, "row answer"]:
        """Logits W (e_s + e_r) of the scaled matrix at pairs of subject column and relation."""
        subject_part = matrix[:, subject].T / np.sqrt(self.sizes[subject])[:, None]
        return subject_part + matrix[:, len(self.sizes) + relation].T

    def margins(self, matrix: Float[np.ndarray, "answer column"], block: int = 4096) -> Float[np.ndarray, "cell"]:
        """Each cell's stated answer's score minus the best other; blocks of cells keep the memory small."""
        found = [
            lead(
                self.scores(matrix, self.cell_subject[part], self.cell_relation[part]),
                self.cell_answer[part],
                np.ones(self.answers, dtype=bool),
            )
            for start in range(0, self.cells, block)
            for part in [slice(start, start + block)]
        ]
        return np.concatenate(found)


def lead(
    scores: Float[np.ndarray, "row answer"], answer: Int[np.ndarray, "row"], among: Bool[np.ndarray, "answer"]
) -> Float[np.ndarray, "row"]:
    """Score of `answer` minus the best other score among those allowed; infinite when there is no other."""
    rows = np.arange(len(scores))
    others = np.where(among, scores, -np.inf)
    others[rows, answer] = -np.inf
    return scores[rows, answer] - others.max(axis=1)


@dataclass(frozen=True, eq=False)
class Questions:
    """Holes of a table, one entry a (signature, relation, expected answer), standing for `count` subjects.

    expected: answer code, or -1 where no implication says one.
    """

    signature: Int[np.ndarray, "question"]
    relation: Int[np.ndarray, "question"]
    expected: Int[np.ndarray, "question"]
    count: Int[np.ndarray, "question"]

    def __len__(self) -> int:
        return len(self.signature)


@dataclass(frozen=True, eq=False)
class Table:
    """A pack in integers: names, stated rows without repetitions, and each subject's signature.

    subjects, relations, answers: names; a position is a code. subject, relation, answer: (row,), what is stated.
    signature: (subject,), subjects with equal stated (relation, answer) sets share one. candidates: (relation, answer).
    """

    subjects: tuple[str, ...]
    relations: tuple[str, ...]
    answers: tuple[str, ...]
    subject: Int[np.ndarray, "row"]
    relation: Int[np.ndarray, "row"]
    answer: Int[np.ndarray, "row"]
    signature: Int[np.ndarray, "subject"]
    candidates: Bool[np.ndarray, "relation answer"]
    questions: Questions

    @cached_property
    def representative(self) -> Int[np.ndarray, "signature"]:
        """The first subject of every signature."""
        return np.unique(self.signature, return_index=True)[1]

    @cached_property
    def problem(self) -> Problem:
        """The compressed program, a column a signature."""
        first = np.zeros(len(self.subjects), dtype=bool)
        first[self.representative] = True
        rows = first[self.subject]
        sizes = np.bincount(self.signature).astype(np.float64)
        return self._problem(sizes, self.signature[self.subject[rows]], rows)

    @cached_property
    def full_problem(self) -> Problem:
        """The program as stated, a column a subject."""
        return self._problem(np.ones(len(self.subjects)), self.subject, np.ones(len(self.subject), dtype=bool))

    def _problem(self, sizes: np.ndarray, subject: np.ndarray, rows: np.ndarray) -> Problem:
        return Problem(len(self.answers), len(self.relations), sizes, subject, self.relation[rows], self.answer[rows])

    def expand(self, matrix: Float[np.ndarray, "answer column"]) -> Float[np.ndarray, "answer full"]:
        """The matrix W over all subjects and relations behind a compressed, scaled matrix."""
        unscaled = matrix / self.problem.scale
        signatures = len(self.problem.sizes)
        return np.concatenate([unscaled[:, self.signature], unscaled[:, signatures:]], axis=1)


def table_of(pack: Pack) -> Table:
    """The table of a pack. Answers are ordered relation by relation; rows stated twice count once."""
    relations = tuple(relation.name for relation in pack.relations)
    answers = tuple(dict.fromkeys(answer for name in relations for answer in pack.candidates[name]))
    subjects = pack.subjects
    code = {name: index for index, name in enumerate(answers)}
    relation_code = {name: index for index, name in enumerate(relations)}
    subject_code = {name: index for index, name in enumerate(subjects)}
    rows = np.array([(subject_code[s], relation_code[r], code[a]) for s, r, a in pack.facts], dtype=np.int64).reshape(
        -1, 3
    )
    rows = distinct_rows(rows, len(relations), len(answers))
    candidates = np.zeros((len(relations), len(answers)), dtype=bool)
    for index, name in enumerate(relations):
        candidates[index, [code[answer] for answer in pack.candidates[name]]] = True
    signature = signatures(rows, len(subjects), len(answers))
    maps = [
        (relation_code[rule.given], relation_code[rule.then], {code[a]: code[b] for a, b in rule.map.items()})
        for rule in pack.implications
    ]
    questions = questions_of(rows, signature, len(relations), maps)
    subject, relation, answer = rows.T
    return Table(subjects, relations, answers, subject, relation, answer, signature, candidates, questions)


def distinct_rows(rows: Int[np.ndarray, "row 3"], relations: int, answers: int) -> Int[np.ndarray, "distinct 3"]:
    """Rows sorted by subject, relation and answer, each once."""
    key = np.unique((rows[:, 0] * relations + rows[:, 1]) * answers + rows[:, 2])
    return np.stack([key // (relations * answers), key // answers % relations, key % answers], axis=1)


def signatures(rows: Int[np.ndarray, "row 3"], subjects: int, answers: int) -> Int[np.ndarray, "subject"]:
    """Number subjects so that two have the same number exactly when they have the same (relation, answer) set.

    rows are sorted and distinct, so that the j-th statement of a subject is compared with the j-th of another.
    """
    start = np.searchsorted(rows[:, 0], np.arange(subjects))
    place = np.arange(len(rows)) - start[rows[:, 0]]
    pair = np.unique(rows[:, 1] * answers + rows[:, 2], return_inverse=True)[1]
    found = np.zeros(subjects, dtype=np.int64)
    for position in range(int(place.max(initial=-1)) + 1):
        now = place == position
        statement = np.zeros(subjects, dtype=np.int64)
        statement[rows[now, 0]] = pair[now] + 1
        found = np.unique(found * (len(rows) + 2) + statement, return_inverse=True)[1]
    return in_order_of_appearance(found)


def in_order_of_appearance(label: Int[np.ndarray, "subject"]) -> Int[np.ndarray, "subject"]:
    """The same labels renumbered by first appearance, so that a signature's number does not depend on names."""
    first = np.unique(label, return_index=True)[1]
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[label]


def questions_of(
    rows: Int[np.ndarray, "row 3"],
    signature: Int[np.ndarray, "subject"],
    relations: int,
    maps: Sequence[tuple[int, int, Mapping[int, int]]],
) -> Questions:
    """Every hole that is asked about: those of the implications (given, then, map), or all of them without any."""
    stated = np.full((int(signature.max(initial=-1)) + 1, relations), -1, dtype=np.int64)
    stated[signature[rows[:, 0]], rows[:, 1]] = rows[:, 2]
    if maps:
        found = [
            (index, then, answers[int(stated[index, given])])
            for given, then, answers in maps
            for index in range(len(stated))
            if int(stated[index, given]) in answers and stated[index, then] < 0
        ]
    else:
        asked = np.asarray((stated >= 0).any(axis=0))
        found = [(int(s), int(r), -1) for r, s in np.argwhere((stated < 0).T & asked[:, None])]
    index, relation, expected = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return Questions(index, relation, expected, np.bincount(signature, minlength=len(stated))[index])
