"""The exact solutions of the symbolic task with equal classes, as a few numbers instead of a matrix.

Source: docs/theory.md, "Closed forms". Theorem 2 of arXiv 2506.10887 bounds the margin; the values here are equalities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from spillover.errors import UsageError
from spillover.facts.pack import Fact, Implication, Pack, Relation
from spillover.theory.norms import Norm, norm_called

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
