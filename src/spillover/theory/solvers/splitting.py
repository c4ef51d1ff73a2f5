"""One step of the splitting method: shrink the matrix, move every cell's scores into their cone, make the two agree.

Source: docs/theory.md, "The splitting method". Matrices are transposed here (column, answer), so that a cell is a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from spillover.theory.table import Problem

Columns = Float[np.ndarray, "column answer"]
Cells = Float[np.ndarray, "cell answer"]
#: (matrix, weight) -> the proximal matrix and its size.
Shrink = Callable[[Columns, float], tuple[Columns, float]]
#: (scores of one row, weight) -> the proximal scores.
Tilt = Callable[[Float[np.ndarray, "answer"], float], Float[np.ndarray, "answer"]]


class Step(NamedTuple):
    """What one step finds. matrix: X. size: its norm. agreed: Y.

    force: rho eta (Z - P), -lambda off the stated answer.
    """

    state: Float[np.ndarray, "state"]
    matrix: Columns
    size: float
    agreed: Columns
    force: Cells


def design(
    problem: Problem, extra_subject: tuple[int, ...] = (), extra_relation: tuple[int, ...] = ()
) -> sparse.csr_matrix:
    """The sparse matrix that turns the columns of M into scores, (cell, column); extra rows ask, and state nothing."""
    subject = np.concatenate([problem.cell_subject, np.array(extra_subject, dtype=np.int64)])
    relation = np.concatenate([problem.cell_relation, np.array(extra_relation, dtype=np.int64)])
    cells = len(subject)
    values = np.concatenate([1 / np.sqrt(problem.sizes[subject]), np.ones(cells)])
    where = (np.tile(np.arange(cells), 2), np.concatenate([subject, len(problem.sizes) + relation]))
    return sparse.csr_matrix((values, where), shape=(cells, problem.columns))


def into_cones(
    scores: Cells, answer: Int[np.ndarray, "cell"], start: Float[np.ndarray, "cell"] | None = None
) -> tuple[Cells, Float[np.ndarray, "cell"]]:
    """The nearest scores in which every cell's answer leads every other by at least 1.

    The others are cut at a level t, and the answer is raised to t + 1: t solves an increasing, concave, piecewise
    linear equation, on which Newton's iteration ends after finitely many steps from any start. Returns t too.
    """
    rows = np.arange(len(scores))
    own = scores[rows, answer] - 1
    level = own if start is None else start
    others = scores.copy()
    others[rows, answer] = -np.inf
    for _ in range(scores.shape[1] + 1):
        excess = np.maximum(others - level[:, None], 0)
        change = (own - level + excess.sum(axis=1)) / (1 + np.count_nonzero(excess, axis=1))
        level = level + change
        if np.abs(change).max(initial=0) <= 1e-14 * np.abs(level).max(initial=0):
            break
    found = np.minimum(others, level[:, None])
    found[rows, answer] = level + 1
    return found, level


@dataclass
class Splitting:
    """The iteration for min f(X) + cones(Z) + tilt(z) subject to X = Y, Z = B Y, in the state (Y, V).

    shrink: f's proximal map. weight: rho, the pull between X and Y. balance: eta, how much more the cells pull.
    tilt: with a `question` (subject column, relation), the proximal map of a function of its scores.
    """

    problem: Problem
    shrink: Shrink
    weight: float
    balance: float
    question: tuple[int, int] | None = None
    tilt: Tilt | None = None

    def __post_init__(self) -> None:
        extra = self.question
        self.map = design(self.problem, *(((extra[0],), (extra[1],)) if extra else ()))
        self.back = self.map.T.tocsr()
        #: Where the last projection ended; the next begins there, which changes its time and not its result.
        self.levels: Float[np.ndarray, "cell"] | None = None
        self._prepare_agreement()

    @property
    def length(self) -> int:
        """Numbers in a state."""
        return (self.problem.columns + self.map.shape[0]) * self.problem.answers

    def start(self, matrix: Columns | None = None, force: Cells | None = None) -> Float[np.ndarray, "state"]:
        """The state of a matrix and its force, or zero."""
        columns, cells, answers = self.problem.columns, self.map.shape[0], self.problem.answers
        state = np.zeros(self.length)
        if matrix is not None:
            state[: columns * answers] = matrix.ravel()
        if force is not None:
            padded = np.zeros((cells, answers))
            padded[: len(force)] = force
            state[columns * answers :] = np.sqrt(self.balance) * padded.ravel() / (self.weight * self.balance)
        return state

    def step(self, state: Float[np.ndarray, "state"]) -> Step:
        """One round; the state's image, and the primal and dual candidates found on the way."""
        columns, answers = self.problem.columns, self.problem.answers
        agreed = state[: columns * answers].reshape(columns, answers)
        drift = state[columns * answers :].reshape(-1, answers) / np.sqrt(self.balance)
        matrix, size = self.shrink(agreed + self.balance * (self.back @ drift), 1 / self.weight)
        before = self.map @ agreed - drift
        cells = self._into_place(before)
        new = self._agree(matrix + self.balance * (self.back @ cells))
        drift = drift + cells - self.map @ new
        image = np.concatenate([new.ravel(), np.sqrt(self.balance) * drift.ravel()])
        return Step(image, matrix, size, new, self.weight * self.balance * (cells - before))

    def _into_place(self, scores: Cells) -> Cells:
        stated, self.levels = into_cones(scores[: self.problem.cells], self.problem.cell_answer, self.levels)
        if self.tilt is None:
            return stated
        return np.concatenate([stated, self.tilt(scores[-1], 1 / (self.weight * self.balance))[None]])

    def _prepare_agreement(self) -> None:
        """Factor I + eta B^T B: diagonal over subjects, so that eliminating them leaves one equation a relation."""
        subjects = len(self.problem.sizes)
        square = (self.balance * (self.back @ self.map)).tocsr()
        self.diagonal = 1 + square.diagonal()[:subjects]
        self.cross = square[:subjects, subjects:].toarray()
        corner = np.eye(self.problem.relations) + square[subjects:, subjects:].toarray()
        self.corner = np.linalg.inv(corner - self.cross.T @ (self.cross / self.diagonal[:, None]))

    def _agree(self, wanted: Columns) -> Columns:
        """(I + eta B^T B)^-1 wanted."""
        subjects = len(self.diagonal)
        ahead = wanted[:subjects] / self.diagonal[:, None]
        relations = self.corner @ (wanted[subjects:] - self.cross.T @ ahead)
        return np.concatenate([ahead - (self.cross / self.diagonal[:, None]) @ relations, relations])
