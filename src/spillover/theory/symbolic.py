"""The symbolic task: which subject has which answer to which relation, as a pack and as bags of tokens.

Source: the paper's one-layer experiments; docs/theory.md, "The symbolic task" and "The bag identity".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int, Num

from spillover.errors import UsageError
from spillover.packs.pack import Fact, Implication, Pack, Relation

#: The two relations of the task as a pack, r1 and r2.
FACT, IMPLICATION = "r1", "r2"
Classes = TypeVar("Classes", bound="EqualClasses")


@dataclass(frozen=True)
class EqualClasses:
    """Classes of equal size, whose fact implies an answer; `solve` knows their exact solution.

    Arguments:
    - classes: n, at least 2.
    - train: m_train, the subjects of each class whose fact and implication are stated.
    - test: m_test, the subjects of each class whose fact alone is stated.

    Raises: UsageError for fewer than two classes, a negative count, or no subjects at all.
    """

    classes: int
    train: int
    test: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            what = f"n is {self.classes}, but at least 2 classes are needed to tell answers apart"
            raise _refused(what, "Use n=2 or more")
        for name in ("train", "test"):
            if (value := getattr(self, name)) < 0:
                raise _refused(f"{name} is {value}, but a number of subjects cannot be negative", "Use 0 or more")
        if self.train + self.test == 0:
            raise _refused("train and test are both 0, so nothing is stated", "Give each class a subject")

    @classmethod
    def parse(cls: type[Classes], text: str, **fields: int) -> Classes:
        """The task behind `n=20,train=1,test=3`; `fields` set the rest, and a size left out has the class's default.

        Raises: UsageError for any other text, and for a size that is missing and has no default.
        """
        names = {"n": "classes", "train": "train", "test": "test"}
        given: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            found = re.fullmatch(r"\s*(n|train|test)\s*=\s*(-?[0-9]{1,9})\s*", part)
            if not found or names[found[1]] in given:
                raise _refused(f"{text!r} is not a symbolic task", "Write it as n=20,train=1,test=3")
            given[names[found[1]]] = int(found[2])
        missing = [key for key, name in names.items() if name not in given and not hasattr(cls, name)]
        if missing:
            raise _refused(f"{text!r} does not say {' and '.join(missing)}", "Write it as n=20,train=1,test=3")
        return cls(**{**fields, **given})

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


def _refused(what: str, do: str) -> UsageError:
    return UsageError(what, where="symbolic task", do=do)


@dataclass(frozen=True)
class Task(EqualClasses):
    """Equal classes as sequences of tokens, to train on.

    Arguments:
    - classes, train, test: n, m_train and m_test, as in EqualClasses.
    - noise_tokens: distinct noise tokens of the vocabulary.
    - noise_places: places of a sequence that hold noise, drawn with replacement; 0 for none.
    - vocabulary: size d; 0 for the smallest that fits.

    Tokens are numbered: the context r1, r2, noise and end; subjects class by class (train before test); the n fact
    answers b; the n implication answers c; then tokens that never occur.

    Raises: UsageError when a number is impossible.
    """

    classes: int = 20
    train: int = 1
    test: int = 3
    noise_tokens: int = 5
    noise_places: int = 13
    vocabulary: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.noise_tokens, self.noise_places) < 0:
            raise _refused("noise_tokens and noise_places are counts", "Use 0 or more")
        if self.noise_places and not self.noise_tokens:
            raise _refused("noise_places needs noise tokens to draw from", "Set noise_tokens, or noise_places=0")
        needed = self.answers.stop
        object.__setattr__(self, "vocabulary", self.vocabulary or needed)
        if self.vocabulary < needed:
            what = f"vocabulary is {self.vocabulary}, but must be at least {needed}"
            raise _refused(what, "Every subject, relation and answer is a token of its own")

    @property
    def subjects_each(self) -> int:
        return self.train + self.test

    @property
    def subjects(self) -> int:
        return self.classes * self.subjects_each

    @property
    def noise(self) -> slice:
        return slice(2, 2 + self.noise_tokens)

    @property
    def end(self) -> int:
        """The token that closes every sequence, at whose place the model answers."""
        return self.noise.stop

    @property
    def context(self) -> int:
        """Tokens before the first subject: relations, noise and end."""
        return self.end + 1

    @property
    def inputs(self) -> int:
        """How many tokens can stand in a sequence; answers never do."""
        return self.context + self.subjects

    @property
    def answers(self) -> slice:
        """Tokens of the answers: the n facts' b, then the n implications' c."""
        return slice(self.inputs, self.inputs + 2 * self.classes)

    @property
    def implication_answers(self) -> slice:
        return slice(self.answers.stop - self.classes, self.answers.stop)

    @property
    def columns(self) -> Int[np.ndarray, "column"]:
        """Tokens of the exact solutions' columns: the subjects, then r1 and r2."""
        return np.r_[self.context : self.inputs, 0, 1]

    @cached_property
    def stated(self) -> Rows:
        """Every stated (subject, relation): facts and implications of train subjects, then facts of test subjects."""
        return self._rows(("train", 0), ("train", 1), ("test", 0))

    @cached_property
    def questions(self) -> Rows:
        """The implications nobody states: (test subject, r2), with the answer that the class would give."""
        return self._rows(("test", 1))

    def _rows(self, *groups: tuple[str, int]) -> Rows:
        """Rows of each group in turn: all subjects of a split, and the token of the relation asked of them."""
        split = np.where(np.arange(self.subjects) % self.subjects_each < self.train, "train", "test")
        subjects = [np.flatnonzero(split == name) for name, _ in groups]
        group = np.repeat(np.arange(len(groups)), [len(each) for each in subjects])
        subject, relation = np.concatenate(subjects), np.array([token for _, token in groups])[group]
        answer = self.answers.start + relation * self.classes + subject // self.subjects_each
        return Rows(self.context + subject, relation, answer, group)


@dataclass(frozen=True)
class Rows:
    """Subjects, relations and right answers as tokens, one entry a row; `group` is the kind of row."""

    subject: Int[np.ndarray, "*row"]
    relation: Int[np.ndarray, "*row"]
    answer: Int[np.ndarray, "*row"]
    group: Int[np.ndarray, "*row"]

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, index: np.ndarray) -> Rows:
        """The rows at these positions (an index array of any shape keeps its shape)."""
        return Rows(*(values[index] for values in (self.subject, self.relation, self.answer, self.group)))


@dataclass(frozen=True)
class Bags:
    """Sequences as token counts: one subject each, and how often each context token occurs (Task.context of them).

    subject, answer: tokens. context: counts. weight: each bag's share of the loss, summing to 1.
    """

    subject: Int[np.ndarray, "... bag"]
    context: Num[np.ndarray, "... bag context"]
    answer: Int[np.ndarray, "... bag"]
    weight: Float[np.ndarray, "... bag"]


def exact_bags(task: Task, rows: Rows, weight: Float[np.ndarray, "row"] | None = None) -> Bags:
    """One bag a row, noise at its expected count: every sequence there is when the task has no noise.

    weight: each row's share of the loss; by default every group that occurs shares equally, as in the paper's batches.
    """
    context = _context(task, rows)
    if task.noise_places:
        context[:, task.noise] = task.noise_places / task.noise_tokens
    if weight is None:
        sizes = np.bincount(rows.group)
        weight = 1 / (sizes[rows.group] * max(1, np.count_nonzero(sizes)))
    return Bags(rows.subject, context, rows.answer, weight)


def sampled_bags(task: Task, rows: Rows, generator: np.random.Generator) -> Bags:
    """Bags of these rows (any shape of index), each with noise of its own; equal weights over the last axis of rows.

    Noise places filled one by one with replacement are a multinomial count: no sequence is built.
    """
    context = _context(task, rows)
    if task.noise_places:
        drawn = generator.integers(task.noise_tokens, size=(rows.subject.size, task.noise_places), dtype=np.uint16)
        cell = drawn + task.noise_tokens * np.arange(rows.subject.size)[:, None]
        total = np.bincount(cell.ravel(), minlength=rows.subject.size * task.noise_tokens)
        context[..., task.noise] = total.reshape(*rows.subject.shape, task.noise_tokens)
    return Bags(rows.subject, context, rows.answer, np.full(rows.subject.shape, 1 / rows.subject.shape[-1]))


def training_batches(task: Task, size: int, steps: int, generator: np.random.Generator) -> Bags:
    """Batches of `size` sequences for `steps` steps, (step, bag, ...), as in the paper: one third of each group.

    Groups without rows (no train subjects, or no test subjects) leave their share to the others.
    """
    stated = task.stated
    present = np.unique(stated.group)
    if size < len(present):
        raise UsageError(f"a batch of {size} cannot hold every kind of row", do=f"Use at least {len(present)}")
    shares = [len(part) for part in np.array_split(np.arange(size), len(present))]
    picked = [
        generator.choice(np.flatnonzero(stated.group == group), size=(steps, share))
        for group, share in zip(present, shares, strict=True)
    ]
    return sampled_bags(task, stated.take(np.concatenate(picked, axis=1)), generator)


def _context(task: Task, rows: Rows) -> Float[np.ndarray, "... bag context"]:
    """Counts of the context tokens without noise: the row's relation, and the end."""
    context = np.zeros((*rows.subject.shape, task.context), dtype=np.float32)
    context[..., :2] = rows.relation[..., None] == np.arange(2)
    context[..., task.end] = 1
    return context
