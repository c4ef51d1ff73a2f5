"""The exact solutions of the symbolic task with equal classes, as a few numbers instead of a matrix.

Source: docs/theory.md, "Closed forms" and "A mixed norm".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from spillover.errors import UsageError
from spillover.theory.norms import Norm, check_share, norm_called
from spillover.theory.symbolic import EqualClasses


@dataclass(frozen=True, eq=False)
class EquivariantMatrix:
    """A matrix that relabelling the classes does not change, rows the b answers and then the c answers.

    pattern: (b or c, train or test): the column of class i holds pattern * (e_i - 1/n). level: (b or c, train, test, r1
    or r2): what every row of the block holds besides. Subject columns are per subject, not yet merged.
    """

    task: EqualClasses
    pattern: Float[np.ndarray, "2 2"]
    level: Float[np.ndarray, "2 4"]

    @cached_property
    def spectrum(self) -> tuple[Float[np.ndarray, "pattern"], Float[np.ndarray, "level"]]:
        """Singular values: those of the pattern block, each n - 1 times, and those of the level block, once each."""
        n, sizes = self.task.classes, np.array([self.task.train, self.task.test], dtype=float)
        columns = np.sqrt(np.concatenate([n * sizes, [1, 1]]))
        pattern = np.linalg.svd(self.pattern * np.sqrt(sizes), compute_uv=False)
        return pattern, np.linalg.svd(np.sqrt(n) * self.level * columns, compute_uv=False)

    def size(self, norm: Norm) -> float:
        """The nuclear or Frobenius norm."""
        pattern, level = self.spectrum
        total = (self.task.classes - 1) * (pattern**norm.power).sum() + (level**norm.power).sum()
        return float(total ** (1 / norm.power))

    def dual_size(self, norm: Norm) -> float:
        """The norm dual to it: the largest singular value, or Frobenius again."""
        return self.size(norm) if norm.power == 2 else float(max(part.max() for part in self.spectrum))

    def dense(self) -> Float[np.ndarray, "answer column"]:
        """The full matrix: a column a subject (class by class, train first), then r1 and r2."""
        n, sizes = self.task.classes, [self.task.train, self.task.test]
        kind = np.tile(np.repeat([0, 1], sizes), n)
        owner = np.repeat(np.arange(n), sum(sizes))
        centred = np.eye(n) - 1 / n
        subjects = [self.pattern[row, kind] * centred[:, owner] + self.level[row, kind] for row in (0, 1)]
        relations = [np.tile(self.level[row, 2:], (n, 1)) for row in (0, 1)]
        return np.block([[subjects[row], relations[row]] for row in (0, 1)])


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The exact solution of one task and norm, with the multipliers that prove it.

    matrix: W. combination: sum_k lambda_k A_k. total: sum(lambda), so that total / |combination| bounds every
    feasible norm from below. margin: of c_i against every other c_k at an unstated implication.
    """

    task: EqualClasses
    norm: Norm
    matrix: EquivariantMatrix
    combination: EquivariantMatrix
    total: float

    @property
    def objective(self) -> float:
        """The nuclear norm, or the squared Frobenius norm."""
        return self.matrix.size(self.norm) ** self.norm.power

    @property
    def lower_bound(self) -> float:
        """The bound that the multipliers prove, to the same power."""
        return float((self.total / self.combination.dual_size(self.norm)) ** self.norm.power)

    @property
    def margin(self) -> float:
        return float(self.matrix.pattern[1, 1])

    @property
    def margin_over_own_fact(self) -> float:
        """Score of c_i minus that of the subject's own b_i at its unstated implication."""
        pattern, level, n = self.matrix.pattern, self.matrix.level, self.task.classes
        score = pattern[:, 1] * (1 - 1 / n) + level[:, 1] + level[:, 3]
        return float(score[1] - score[0])


def closed_form(task: EqualClasses, norm_name: str) -> ClosedForm:
    """The exact solution for either norm, with its proof; time and memory do not depend on the number of classes."""
    norm = norm_called(norm_name)
    if task.train == 0:
        return _without_bridge(task, norm)
    ratio = min(1.0, np.sqrt(task.train / task.test)) if task.test else 1.0
    margin = ratio if norm.name == "nuclear" else 0.0
    half = 0.5 * np.array([[0, 0, 1, -1], [0, 0, -1, 1]])
    matrix = EquivariantMatrix(task, np.array([[1, 1], [1, margin]]), half)
    return ClosedForm(task, norm, matrix, *_multipliers(task, norm))


def _multipliers(task: EqualClasses, norm: Norm) -> tuple[EquivariantMatrix, float]:
    """The optimal dual of a bridged task: the combination and the sum of its multipliers, from their few values."""
    n, train, test = task.classes, task.train, task.test
    cross = 1 / (2 * train * np.sqrt(n))
    if norm.name == "frobenius":
        fact, implication, lone, cross = 1 / n, 1 / n, 1 / n, 1 / (2 * train)
    elif train < test:
        fact, implication, lone = 0, 1 / (n * np.sqrt(train)), 1 / (n * np.sqrt(test))
    else:
        unit = 1 / (n * train * np.sqrt(2 * (train + test)))
        fact, implication, lone = unit * (train - test), unit * (train + test), 2 * train * unit
    pattern = n * np.array([[fact, lone], [implication, 0]])
    level = train * cross * np.array([[0, 0, 1, -1], [0, 0, -1, 1]])
    total = n * train * ((n - 1) * (fact + implication) + 2 * cross) + n * test * (n - 1) * lone
    return EquivariantMatrix(task, pattern, level), float(total)


def _without_bridge(task: EqualClasses, norm: Norm) -> ClosedForm:
    """Nobody's implication is stated: r2 is free, hence zero, and every c is as good as any other."""
    n, subjects = task.classes, task.classes * task.test
    unit = 1 / (2 * n * (subjects + 1))
    shape = np.array([[0, 1, subjects, 0], [0, -1, -subjects, 0]])
    pattern = np.array([[0.0, 1.0], [0.0, 0.0]])
    matrix = EquivariantMatrix(task, pattern, unit * shape)
    if norm.name == "frobenius":
        other, scale = unit, 1.0
    else:
        other, scale = 1 / np.sqrt(2 * n * subjects * (subjects + 1)), 1 / np.sqrt(task.test)
    own = scale / n - other
    total = subjects * ((n - 1) * own + n * other)
    return ClosedForm(task, norm, matrix, EquivariantMatrix(task, scale * pattern, other * shape), float(total))


def exact_margin(task: EqualClasses, share: float) -> float:
    """The margin of an unstated implication at the optimum of the mixed norm, for equal classes with a bridge.

    All that is free in an invariant optimum is g, how much of the implication a test subject's column holds: n - 1
    blocks with sums of singular values sqrt(F^2 + 2 |det|), and one singular value sqrt(n) that no g moves.
    """
    train, test, blocks = task.train, task.test, task.classes - 1
    check_share(share)
    if not train:
        raise UsageError("without a bridge nothing can be inferred", where="mixed norm", do="Use train=1 or more")

    def size(kept: float) -> float:
        squares = 2 * train + test * (1 + kept**2)
        nuclear = blocks * np.sqrt(squares + 2 * np.sqrt(train * test) * (1 - kept))
        return float((1 - share) * (nuclear + np.sqrt(task.classes)) + share * np.sqrt(blocks * squares + task.classes))

    return float(minimize_scalar(size, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-10}).x)
