"""A pack as a bipartite table, subjects x relations -> answers, and its compression to one column a signature.

Source: docs/theory.md, "The table" and "Signature compression".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from spillover.packs.pack import Pack

Weights = Float[np.ndarray, "answer column"]
Scores = Float[np.ndarray, "row answer"]
Codes = dict[str, int]


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

    def inputs(self, subject: Int[np.ndarray, "row"], relation: Int[np.ndarray, "row"]) -> sparse.csr_matrix:
        """The inputs e_s / sqrt(g) + e_r, (row, column), of pairs of subject column and relation."""
        values = np.concatenate([1 / np.sqrt(self.sizes[subject]), np.ones(len(subject))])
        row, column = np.tile(np.arange(len(subject)), 2), np.concatenate([subject, len(self.sizes) + relation])
        return sparse.csr_matrix((values, (row, column)), shape=(len(subject), self.columns))

    @cached_property
    def design(self) -> sparse.csr_matrix:
        """B, (cell, column): turns the columns of M into the scores of cells, Z = B M^T."""
        return self.inputs(self.cell_subject, self.cell_relation)

    @cached_property
    def gather(self) -> sparse.csr_matrix:
        """B^T, (column, cell): adds up what is said of cells, for each subject column (over sqrt g) and relation."""
        return self.design.T.tocsr()

    def scores(
        self, matrix: Weights | sparse.csc_matrix, subject: Int[np.ndarray, "row"], relation: Int[np.ndarray, "row"]
    ) -> Scores:
        """Logits W (e_s + e_r) of the scaled matrix at pairs of subject column and relation."""
        found = self.inputs(subject, relation) @ matrix.T
        return found.toarray() if sparse.issparse(found) else found

    def scores_at(self, matrix: Weights, subject: int, relation: int) -> Float[np.ndarray, "answer"]:
        """`scores` at one subject column and relation."""
        return self.scores(matrix, np.array([subject]), np.array([relation]))[0]

    def margins(self, matrix: Weights, block: int = 4096) -> Float[np.ndarray, "cell"]:
        """Each cell's stated answer's score minus the best other; blocks of cells keep the memory small."""
        parts = [slice(start, start + block) for start in range(0, self.cells, block)]
        found = [lead(self.design[cells] @ matrix.T, self.cell_answer[cells]) for cells in parts]
        return np.concatenate([np.empty(0), *found])


def lead(
    scores: Scores, answer: Int[np.ndarray, "row"], among: Bool[np.ndarray, "*rows answer"] | None = None
) -> Float[np.ndarray, "row"]:
    """Score of `answer` minus the best other score among those allowed; infinite when there is no other."""
    rows = np.arange(len(scores))
    others = scores.copy() if among is None else np.where(among, scores, -np.inf)
    others[rows, answer] = -np.inf
    return scores[rows, answer] - others.max(axis=1)


@dataclass(frozen=True, eq=False)
class Questions:
    """Holes of a table, one entry a (signature, relation, expected answer or -1), standing for `count` subjects."""

    signature: Int[np.ndarray, "question"]
    relation: Int[np.ndarray, "question"]
    expected: Int[np.ndarray, "question"]
    count: Int[np.ndarray, "question"]


@dataclass(frozen=True, eq=False)
class FactTable:
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
    pack: Pack

    @cached_property
    def codes(self) -> tuple[Codes, Codes, Codes]:
        """Name -> code, of subjects, relations and answers."""
        return numbered(self.subjects), numbered(self.relations), numbered(self.answers)

    @cached_property
    def questions(self) -> Questions:
        """The pack's questions, by implication (by relation where there is none) and then by signature."""
        subject, relation, answer = self.codes
        rule = numbered([rule.name for rule in self.pack.implications])
        asked = [
            (
                rule.get(each.implication or "", -1),
                relation[each.relation],
                self.signature[subject[each.subject]],
                answer.get(each.expected or "", -1),
            )
            for each in self.pack.questions
        ]
        found, count = np.unique(np.array(asked, dtype=np.int64).reshape(-1, 4), axis=0, return_counts=True)
        return Questions(found[:, 2], found[:, 1], found[:, 3], count)

    @cached_property
    def representative(self) -> Int[np.ndarray, "signature"]:
        """The first subject of every signature."""
        return np.unique(self.signature, return_index=True)[1]

    @cached_property
    def first(self) -> Bool[np.ndarray, "row"]:
        """Whether a row is of its signature's first subject; these rows stand for all others."""
        return np.isin(self.subject, self.representative)

    @cached_property
    def problem(self) -> Problem:
        """The compressed program, a column a signature."""
        rows = self.first
        cells = (self.signature[self.subject[rows]], self.relation[rows], self.answer[rows])
        return Problem(len(self.answers), len(self.relations), np.bincount(self.signature).astype(np.float64), *cells)

    @cached_property
    def full_problem(self) -> Problem:
        """The program as stated, a column a subject."""
        cells = (self.subject, self.relation, self.answer)
        return Problem(len(self.answers), len(self.relations), np.ones(len(self.subjects)), *cells)

    def expand(self, matrix: Weights) -> Float[np.ndarray, "answer full"]:
        """The matrix W over all subjects and relations behind a compressed, scaled matrix."""
        subjects, relations = np.split(matrix, [len(self.problem.sizes)], axis=1)
        return np.concatenate([(subjects / np.sqrt(self.problem.sizes))[:, self.signature], relations], axis=1)


def numbered(names: Sequence[str]) -> Codes:
    return {name: code for code, name in enumerate(names)}


def table_of(pack: Pack) -> FactTable:
    """The table of a pack. Answers are ordered relation by relation; rows stated twice count once."""
    relations = tuple(relation.name for relation in pack.relations)
    answers = tuple(dict.fromkeys(answer for name in relations for answer in pack.candidates[name]))
    subject_code, relation_code, code = numbered(pack.subjects), numbered(relations), numbered(answers)
    stated = [(subject_code[s], relation_code[r], code[a]) for s, r, a in pack.meant_facts]
    rows = np.unique(np.array(stated, dtype=np.int64).reshape(-1, 3), axis=0)
    candidates = np.zeros((len(relations), len(answers)), dtype=bool)
    for index, name in enumerate(relations):
        candidates[index, [code[answer] for answer in pack.candidates[name]]] = True
    # Rows are sorted: subjects who state the same have equal stretches of them, and share the first one's number.
    bounds = np.searchsorted(rows[:, 0], np.arange(len(pack.subjects) + 1)).tolist()
    contents, number = np.ascontiguousarray(rows[:, 1:]), dict[bytes, int]()
    numbers = [number.setdefault(contents[start:stop].tobytes(), len(number)) for start, stop in pairwise(bounds)]
    signature = np.array(numbers, dtype=np.int64)
    subject, relation, answer = rows.T
    return FactTable(pack.subjects, relations, answers, subject, relation, answer, signature, candidates, pack)
