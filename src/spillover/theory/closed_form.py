"""The exact solutions of the symbolic task with equal classes, as a few numbers instead of a matrix.

Source: docs/theory.md, "Closed forms", "A mixed norm" and "The embedding-MLP model".
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar, nnls

from spillover.errors import UsageError
from spillover.theory.norms import Mixed, Norm, norm_called
from spillover.theory.symbolic import EqualClasses

#: How near a minimum in one dimension is found.
PRECISE = {"xatol": 1e-10}
#: What the columns of r1 and r2 hold in the b rows and in the c rows of every bridged solution, twice over.
RELATIONS = np.array([[0, 0, 1, -1], [0, 0, -1, 1]])


@dataclass(frozen=True, eq=False)
class EquivariantMatrix:
    """A matrix that relabelling the classes does not change, rows the b answers and then the c answers.

    pattern: (b or c, train or test): the column of class i holds pattern * (e_i - 1/n). level: (b or c, train, test, r1
    or r2): what every row of the block holds besides. Subject columns are per subject, not yet merged.
    """

    task: EqualClasses
    pattern: Float[np.ndarray, "2 2"]
    level: Float[np.ndarray, "2 4"]

    def values(self) -> Float[np.ndarray, "value"]:
        """Singular values: those of the pattern block, each n - 1 times, and those of the level block, once each."""
        n, sizes = self.task.classes, np.array([self.task.train, self.task.test], dtype=float)
        columns = np.sqrt(np.concatenate([n * sizes, [1, 1]]))
        pattern = np.linalg.svd(self.pattern * np.sqrt(sizes), compute_uv=False)
        level = np.linalg.svd(np.sqrt(n) * self.level * columns, compute_uv=False)
        return np.concatenate([np.repeat(pattern, n - 1), level])

    def dense(self) -> Float[np.ndarray, "answer column"]:
        """The full matrix: a column a subject (class by class, train first), then r1 and r2."""
        n, sizes = self.task.classes, [self.task.train, self.task.test]
        kind = np.tile(np.repeat([0, 1], sizes), n)
        centred = (np.eye(n) - 1 / n)[:, np.repeat(np.arange(n), sum(sizes))]
        subjects = [self.pattern[row, kind] * centred + self.level[row, kind] for row in (0, 1)]
        return np.block([[subjects[row], np.tile(self.level[row, 2:], (n, 1))] for row in (0, 1)])


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The exact solution of one task and norm, with the multipliers that prove it.

    matrix: W. combination: sum_k lambda_k A_k. total: sum(lambda); total / |combination| is at most any feasible norm.
    """

    task: EqualClasses
    norm: Norm
    matrix: EquivariantMatrix
    combination: EquivariantMatrix
    total: float

    @property
    def objective(self) -> float:
        """The nuclear norm, or the squared Frobenius norm."""
        return self.norm.of_values(self.matrix.values()) ** self.norm.power

    @property
    def lower_bound(self) -> float:
        """The bound that the multipliers prove, to the same power."""
        return (self.total / self.norm.dual_of_values(self.combination.values())) ** self.norm.power

    @property
    def margin(self) -> float:
        """Of c_i against every other c_k at an unstated implication."""
        return float(self.matrix.pattern[1, 1])

    @property
    def margin_over_own_fact(self) -> float:
        """Score of c_i minus that of the subject's own b_i at its unstated implication."""
        pattern, level = self.matrix.pattern, self.matrix.level
        score = pattern[:, 1] * (1 - 1 / self.task.classes) + level[:, 1] + level[:, 3]
        return float(score[1] - score[0])


def closed_form(task: EqualClasses, norm_name: str) -> ClosedForm:
    """The exact solution for either norm, with its proof; no matrix of the task's size is built."""
    norm, n, train, test = norm_called(norm_name), task.classes, task.train, task.test
    frobenius = norm.name == "frobenius"
    if not train:
        return _without_bridge(task, norm)
    ratio = min(1.0, np.sqrt(train / test)) if test else 1.0
    # The optimal multipliers, by the kind of their cell, and the combination that they make.
    cross = 1 / (2 * train * np.sqrt(n))
    if frobenius:
        fact, implication, lone, cross = 1 / n, 1 / n, 1 / n, 1 / (2 * train)
    elif train < test:
        fact, implication, lone = 0, 1 / (n * np.sqrt(train)), 1 / (n * np.sqrt(test))
    else:
        unit = 1 / (n * train * np.sqrt(2 * (train + test)))
        fact, implication, lone = unit * (train - test), unit * (train + test), 2 * train * unit
    combination = EquivariantMatrix(task, n * np.array([[fact, lone], [implication, 0]]), train * cross * RELATIONS)
    total = n * train * ((n - 1) * (fact + implication) + 2 * cross) + n * test * (n - 1) * lone
    return ClosedForm(task, norm, _bridged(task, 0.0 if frobenius else ratio), combination, float(total))


def _bridged(task: EqualClasses, margin: float) -> EquivariantMatrix:
    """The matrix that states a bridged task with this margin at its unstated implications."""
    return EquivariantMatrix(task, np.array([[1, 1], [1, margin]]), 0.5 * RELATIONS)


def _without_bridge(task: EqualClasses, norm: Norm) -> ClosedForm:
    """Nobody's implication is stated: r2 is free, hence zero, and every c is as good as any other."""
    n, subjects = task.classes, task.classes * task.test
    unit = 1 / (2 * n * (subjects + 1))
    shape = np.array([[0, 1, subjects, 0], [0, -1, -subjects, 0]])
    pattern = np.array([[0.0, 1.0], [0.0, 0.0]])
    other, scale = unit, 1.0
    if norm.name == "nuclear":
        other, scale = 1 / np.sqrt(2 * n * subjects * (subjects + 1)), 1 / np.sqrt(task.test)
    total = subjects * ((n - 1) * (scale / n - other) + n * other)
    matrix, combination = (EquivariantMatrix(task, x * pattern, y * shape) for x, y in ((1.0, unit), (scale, other)))
    return ClosedForm(task, norm, matrix, combination, float(total))


def exact_margin(task: EqualClasses, share: float) -> float:
    """The margin of an unstated implication at the optimum of the mixed norm, for equal classes with a bridge.

    All that is free in an invariant optimum is how much of the implication a test subject's column holds.
    """
    norm = Mixed(share)
    if not task.train:
        raise UsageError("without a bridge nothing can be inferred", where="mixed norm", do="Use train=1 or more")

    def size(margin: float) -> float:
        return norm.of_values(_bridged(task, margin).values())

    return float(minimize_scalar(size, bounds=(0.0, 1.0), method="bounded", options=PRECISE).x)


@dataclass(frozen=True, eq=False)
class DeepForm:
    """What a product of `depth` matrices prefers for equal classes: the least sum of singular values to 2 / depth.

    Least among matrices that treat all classes alike, to within lower_bound; others may be smaller. Depth 2 is the
    nuclear norm and the attention model. matrix, margin: as in ClosedForm.
    """

    depth: int
    matrix: EquivariantMatrix
    objective: float
    lower_bound: float

    @property
    def margin(self) -> float:
        """Of c_i against every other c_k at an unstated implication."""
        return float(self.matrix.pattern[1, 1])


def deep_form(task: EqualClasses, depth: int) -> DeepForm:
    """The solution of a linear embedding-MLP of this depth; its margin lies near the fourth root of train / test.

    All that is free is the lead of b_i among the b at a train subject, times as far as it is stated: in a pattern of
    rank one the unstated margin is its inverse. The relations' columns pay for it.

    Raises: UsageError for a depth below 2.
    """
    if depth < 2:
        raise UsageError(f"a product of {depth} matrices has no depth", where="depth", do="Use 2 or more")
    exact, copies, power = closed_form(task, "nuclear"), task.classes - 1, 2 / depth
    # The nuclear solution has the least pattern and the least level, and a sum of powers is at least that of the sum.
    pattern = np.linalg.svd(exact.matrix.pattern * np.sqrt([task.train, task.test]), compute_uv=False).sum()
    least = copies * pattern**power + (exact.objective - copies * pattern) ** power

    def size(matrix: EquivariantMatrix) -> float:
        values = matrix.values()
        # What is zero but for rounding would count at a small power.
        return float((values[values > 1e-9 * values.max()] ** power).sum())

    matrix = exact.matrix
    if depth > 2 and 0 < task.train < task.test:
        between = {"bounds": (1.0, (task.test / task.train) ** 0.25), "method": "bounded", "options": PRECISE}
        matrix = _rank_one(task, float(minimize_scalar(lambda lead: size(_rank_one(task, lead)), **between).x))
    return DeepForm(depth, matrix, size(matrix), min(least, size(matrix)))


def _rank_one(task: EqualClasses, lead: float) -> EquivariantMatrix:
    """The least matrix whose pattern is of rank one, with this lead of b_i over b_k at train subjects.

    By how much b lies above c in the columns of train and test subjects, r1 and r2 is the nearest point to 0 of a
    polyhedron, a problem of non-negative least squares (Lawson and Hanson 1974, chapter 23).
    """
    n, short = task.classes, 1 - 1 / task.classes
    counts = np.sqrt([n * task.train, n * task.test, 1, 1])
    # Facts and implications of train subjects, facts of test subjects: each against the class's other answer.
    sides = np.array([[1, 0, 1, 0], [-1, 0, 0, -1], [0, 1, 1, 0]]) / counts
    needed = 1 - short * np.array([lead - 1, 1 - lead, 1 - 1 / lead])
    weights, _ = nnls(np.vstack([sides.T, needed]), np.array([0.0, 0, 0, 0, 1]))
    *point, scale = np.vstack([sides.T, needed]) @ weights - [0, 0, 0, 0, 1]
    apart = -np.array(point) / scale / counts
    return EquivariantMatrix(task, np.array([[lead, 1], [1, 1 / lead]]), np.array([apart, -apart]) / 2)
