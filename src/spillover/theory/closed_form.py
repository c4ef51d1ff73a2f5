"""The exact solutions of the symbolic task with equal classes, as a few numbers instead of a matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from spillover.errors import UsageError
from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.theory.norms import Matrix, Norm, NormName, norm_called

FACT, IMPLICATION = "r1", "r2"


@dataclass(frozen=True)
class EqualClasses:
    """n classes, each with `train` subjects whose fact and implication are stated and `test` whose fact alone is.

    Raises UsageError for fewer than two classes, a negative count, or no subjects at all.
    """

    classes: int
    train: int
    test: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise _wrong(
                f"n is {self.classes}, but at least 2 classes are needed to tell answers apart", "Use n=2 or more"
            )
        for name in ("train", "test"):
            if getattr(self, name) < 0:
                raise _wrong(
                    f"{name} is {getattr(self, name)}, but a number of subjects cannot be negative", "Use 0 or more"
                )
        if self.train + self.test == 0:
            raise _wrong("train and test are both 0, so nothing is stated", "Give each class a subject")

    @classmethod
    def parse(cls, text: str) -> EqualClasses:
        """The task behind `n=20,train=1,test=3`. Raises UsageError for anything else."""
        given = {}
        for part in text.split(","):
            found = re.fullmatch(r"\s*(n|train|test)\s*=\s*(-?[0-9]{1,9})\s*", part)
            if not found or found[1] in given:
                raise _wrong(f"{text!r} is not a symbolic task", "Write n=20,train=1,test=3")
            given[found[1]] = int(found[2])
        missing = [name for name in ("n", "train", "test") if name not in given]
        if missing:
            raise _wrong(f"{text!r} does not say {' and '.join(missing)}", "Write n=20,train=1,test=3")
        return cls(given["n"], given["train"], given["test"])

    @property
    def names(self) -> list[str]:
        """The classes' numbers, padded so that the order of names is the order of classes."""
        return [f"{i:0{len(str(self.classes - 1))}}" for i in range(self.classes)]

    def pack(self) -> Pack:
        """The task as a pack: subjects s<class>.<number>, answers b<class> to r1 and c<class> to r2."""
        facts = []
        for i in self.names:
            for j in range(self.train + self.test):
                facts.append(Fact(f"s{i}.{j}", FACT, f"b{i}"))
                if j < self.train:
                    facts.append(Fact(f"s{i}.{j}", IMPLICATION, f"c{i}"))
        rule = Implication(FACT, IMPLICATION, "spurious", {f"b{i}": f"c{i}" for i in self.names})
        relations = tuple(Relation(name, (f"{{subject}} {name}",)) for name in (FACT, IMPLICATION))
        name = f"symbolic:n={self.classes},train={self.train},test={self.test}"
        return Pack(name, "none", "the symbolic task", relations, tuple(facts), (rule,))


def _wrong(what: str, do: str) -> UsageError:
    return UsageError(what, where="symbolic task", do=do)


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
    if norm.name == "frobenius":
        fact, implication, lone, cross = 1 / n, 1 / n, 1 / n, 1 / (2 * train)
    elif train < test:
        fact, implication, lone, cross = (
            0,
            1 / (n * np.sqrt(train)),
            1 / (n * np.sqrt(test)),
            1 / (2 * train * np.sqrt(n)),
        )
    else:
        unit = 1 / (n * train * np.sqrt(2 * (train + test)))
        fact, implication, lone = unit * (train - test), unit * (train + test), 2 * train * unit
        cross = 1 / (2 * train * np.sqrt(n))
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


@dataclass(frozen=True)
class Mixed:
    """The norm (1 - share) |W|_* + share |W|_F. At share 0 it is the nuclear norm, at 1 the Frobenius norm.

    Raises UsageError for a share outside [0, 1].
    """

    share: float
    name: NormName = "nuclear"
    power: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"a share of {self.share:g} mixes nothing", where="mixed norm", do="Use 0 to 1")

    def of_spectrum(self, values: Float[np.ndarray, "value"]) -> float:
        """The norm of a matrix with these singular values."""
        return float((1 - self.share) * values.sum() + self.share * np.linalg.norm(values))

    def size(self, matrix: Matrix) -> float:
        """The norm itself."""
        return self.of_spectrum(np.linalg.svd(matrix, compute_uv=False)) if matrix.size else 0.0

    def dual_size(self, matrix: Matrix) -> float:
        """The least s for which the matrix is a sum of an operator norm (1 - share) s and a Frobenius norm share s."""
        values = np.linalg.svd(matrix, compute_uv=False) if matrix.size else np.zeros(1)
        if self.share in (0.0, 1.0) or not values.any():
            return float(np.linalg.norm(values)) if self.share else float(values.max())

        def excess(size: float) -> float:
            return float(np.linalg.norm(np.maximum(values - (1 - self.share) * size, 0)) - self.share * size)

        return float(brentq(excess, 0.0, self._enough(values), xtol=1e-14, rtol=1e-14))

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        """The minimiser X of threshold * norm(X) + |X - matrix|^2 / 2, and its size: both shrinkages in turn."""
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        soft = np.maximum(values - threshold * (1 - self.share), 0)
        length = np.linalg.norm(soft)
        kept = soft * max(0.0, 1 - threshold * self.share / length) if length else soft
        return (left * kept) @ right, self.of_spectrum(kept)

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        """The nearest matrix of size at most radius: a shrinkage by the threshold that just reaches it."""
        if self.size(matrix) <= radius:
            return matrix
        most = self._enough(np.linalg.svd(matrix, compute_uv=False))
        threshold = brentq(lambda value: self.shrink(matrix, value)[1] - radius, 0.0, most)
        return self.shrink(matrix, threshold)[0]

    def _enough(self, values: Float[np.ndarray, "value"]) -> float:
        """A threshold that shrinks these singular values to nothing, by the norm that has the larger share."""
        return float(values.max() / (1 - self.share) if self.share < 0.5 else np.linalg.norm(values) / self.share)


def exact_margin(task: EqualClasses, share: float) -> float:
    """The margin of an unstated implication at the optimum of the mixed norm, for equal classes with a bridge.

    All that is free in an invariant optimum is g, how much of the implication a test subject's column holds: n - 1
    blocks with sums of singular values sqrt(F^2 + 2 |det|), and one singular value sqrt(n) that no g moves.
    """
    train, test, blocks = task.train, task.test, task.classes - 1
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share:g} mixes nothing", where="mixed norm", do="Use 0 to 1")
    if not train:
        raise UsageError("without a bridge nothing can be inferred", where="mixed norm", do="Use train=1 or more")

    def size(kept: float) -> float:
        squares = 2 * train + test * (1 + kept**2)
        nuclear = blocks * np.sqrt(squares + 2 * np.sqrt(train * test) * (1 - kept))
        return float((1 - share) * (nuclear + np.sqrt(task.classes)) + share * np.sqrt(blocks * squares + task.classes))

    return float(minimize_scalar(size, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-10}).x)
