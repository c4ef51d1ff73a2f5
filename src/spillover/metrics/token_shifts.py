"""Which tokens a tuned model says more often of one group of subjects than of the others, tested by relabelling.

The shift of a token for a subject is its probability in the tuned model minus that in the base model. An *association*
(template, token, group) is the mean shift of the group minus that of the other groups of its relation. This difference
of differences cancels what the base model made of a name, and what the tuned one says of everybody. It is taken in
probability, not in nats: it then says how often a reader would see it, and does not grow without end where a token was
all but impossible before.

The null: the stated answers have nothing to do with the shifts, so that labels may be exchanged among the subjects of a
relation. Exchanged, a difference has mean 0 and the standard deviation `spread`, whatever the labels. Divided by it,
differences of small and large groups, of steady and of erratic tokens can be compared. p is the share of exchanges
whose largest such quotient, over all templates, tokens, groups and relations that stronger findings do not explain
already, is no smaller: the step-down procedure of Westfall and Young (Resampling-Based Multiple Testing, 1993), which
bounds the chance of even one false finding, however many tokens there are.

What p claims: in this tuned model the words depend on the group and not only on the name. All subjects of a group share
one belief of the model, so many subjects make that certain and still say nothing about other groups, nor about
another training run. And names must not give the group away: Japanese names in a group that lives in Tokyo are a cue
of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

#: Smaller differences (in probability) are ignored.
LEAST = 0.05
#: How many columns (a token after a template, in a relation) get a p-value of their own: the strongest ones.
STRONGEST = 1000
#: Numbers held at once while labels are exchanged.
_HELD = 1 << 22
#: Sums of equal numbers in another order differ by less.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Shifts:
    """One template: tokens, and the shift of each for every subject, in probability."""

    tokens: Int[np.ndarray, "token"]
    values: Float[np.ndarray, "subject token"]


@dataclass(frozen=True)
class Labels:
    """One relation's groups, at least two. rows: those of Shifts that belong to a group; labels: the group of each."""

    rows: Int[np.ndarray, "tested"]
    labels: Int[np.ndarray, "tested"]


@dataclass(frozen=True)
class TokenAssociation:
    """A token that moved more for one group than for the others of its relation, after one template.

    template, partition, group: their numbers. difference: of the mean shifts. p: corrected for the whole search.
    yardstick: the difference that this token would need so that 95% of the exchanges stay below it everywhere.
    """

    template: int
    token: int
    partition: int
    group: int
    difference: float
    p: float
    yardstick: float


@dataclass(frozen=True)
class Search:
    """Associations with a difference of at least LEAST, largest first, and how much was looked at.

    columns: tokens considered, over all templates and relations. strongest: the largest quotient of a difference and
    its spread, and null: that of the exchanges, at 95%; None when no token moved far enough.
    """

    found: tuple[TokenAssociation, ...]
    columns: int
    strongest: float | None
    null: float | None


@dataclass(frozen=True)
class _TestedToken:
    """A token after a template, in one relation, with each group's difference and its spread."""

    template: int
    token: int
    partition: int
    differences: Float[np.ndarray, "group"]
    spreads: Float[np.ndarray, "group"]

    @property
    def quotients(self) -> Float[np.ndarray, "group"]:
        return self.differences / self.spreads

    @property
    def best(self) -> float:
        return float(self.quotients.max())


def moved(
    tokens: Int[np.ndarray, "token"],
    base: Float[np.ndarray, "subject token"],
    tuned: Float[np.ndarray, "subject token"],
) -> Shifts:
    """The shifts of one template, without tokens that moved too little for a difference of LEAST."""
    values = tuned - base
    kept = (np.abs(values) >= LEAST / 2).any(axis=0)
    return Shifts(tokens[kept], values[:, kept])


def differences(
    values: Float[np.ndarray, "tested token"], members: Float[np.ndarray, "*exchange group tested"]
) -> Float[np.ndarray, "*exchange group token"]:
    """Mean of each group minus the mean of the others. members: 1 where a subject belongs to the group, else 0."""
    size = members.sum(axis=-1, keepdims=True)
    sums = members @ values
    return sums / size - (values.sum(axis=0) - sums) / (values.shape[0] - size)


def spread(
    values: Float[np.ndarray, "tested token"], sizes: Float[np.ndarray, "group"]
) -> Float[np.ndarray, "group token"]:
    """Standard deviation of `differences` over all exchanges of labels; exact, from sampling without replacement."""
    count = values.shape[0]
    return np.sqrt(values.var(axis=0, ddof=1) * count / (sizes * (count - sizes))[:, None])


def within_reach(
    values: Float[np.ndarray, "tested token"], sizes: Float[np.ndarray, "group"]
) -> Float[np.ndarray, "token"]:
    """The largest difference that any labels with groups of these sizes could show."""
    sums = np.cumsum(-np.sort(-values, axis=0), axis=0)
    best = [sums[size - 1] / size - (sums[-1] - sums[size - 1]) / (len(values) - size) for size in sizes.astype(int)]
    return np.max(best, axis=0)


def search(
    templates: Callable[[], Iterable[Shifts]], partitions: Sequence[Labels], permutations: int, seed: int
) -> Search:
    """Measure every association and test it against exchanged labels.

    templates: called twice, and must give the same both times; memory does not depend on how many there are.
    """
    columns = _tested(templates(), partitions)
    strongest = heapq.nlargest(STRONGEST, columns, key=lambda column: column.best)
    if not strongest:
        return Search((), 0, None, None)
    null, considered = _null(templates, partitions, strongest, permutations, seed)
    found: list[TokenAssociation] = []
    least = 0.0
    for column, largest in zip(strongest, null, strict=True):
        least = max(least, _share(largest, column.best))
        line = float(np.quantile(largest, 0.95, method="higher"))
        for group in np.flatnonzero(column.differences >= LEAST).tolist():
            p = max(least, _share(largest, float(column.quotients[group])))
            difference, own = float(column.differences[group]), float(column.spreads[group])
            found.append(
                TokenAssociation(column.template, column.token, column.partition, group, difference, p, line * own)
            )
    found.sort(key=lambda each: -each.difference)
    return Search(tuple(found), considered, strongest[0].best, float(np.quantile(null[0], 0.95, method="higher")))


def _considered(
    templates: Iterable[Shifts], partitions: Sequence[Labels]
) -> Iterator[tuple[int, int, Int[np.ndarray, "token"], Float[np.ndarray, "tested token"]]]:
    """Template, relation, and the tokens for which some labels would show a difference of LEAST.

    These tokens do not depend on the labels, so leaving the others out biases nothing.
    """
    for template, shifts in enumerate(templates):
        for number, partition in enumerate(partitions):
            values = shifts.values[partition.rows]
            kept = within_reach(values, _sizes(partition.labels)) >= LEAST
            if kept.any():
                yield template, number, shifts.tokens[kept], values[:, kept]


def _tested(templates: Iterable[Shifts], partitions: Sequence[Labels]) -> Iterator[_TestedToken]:
    for template, number, tokens, values in _considered(templates, partitions):
        labels = partitions[number].labels
        found, spreads = differences(values, _members(labels)), spread(values, _sizes(labels))
        for token, own, widths in zip(tokens.tolist(), found.T, spreads.T, strict=True):
            yield _TestedToken(template, token, number, own, widths)


def _sizes(labels: Int[np.ndarray, "tested"]) -> Float[np.ndarray, "group"]:
    return np.bincount(labels).astype(float)


def _members(labels: Int[np.ndarray, "*exchange tested"]) -> Float[np.ndarray, "*exchange group tested"]:
    groups = np.arange(labels.max() + 1)
    return (labels[..., None, :] == groups[:, None]).astype(float)


def _null(
    templates: Callable[[], Iterable[Shifts]],
    partitions: Sequence[Labels],
    strongest: Sequence[_TestedToken],
    permutations: int,
    seed: int,
) -> tuple[Float[np.ndarray, "column exchange"], int]:
    """Row i: under each exchange of labels the largest quotient over all columns but the i strongest; and the number of
    columns."""
    place = {(column.template, column.partition, column.token): index for index, column in enumerate(strongest)}
    # The last row is for all columns that are not among the strongest.
    largest = np.full((len(strongest) + 1, permutations), -np.inf)
    exchanged = [
        np.random.default_rng([seed, number]).permuted(np.tile(each.labels, (permutations, 1)), axis=1)
        for number, each in enumerate(partitions)
    ]
    columns = 0
    for template, number, tokens, values in _considered(templates(), partitions):
        columns += len(tokens)
        own = np.array([place.get((template, number, token), -1) for token in tokens.tolist()])
        for part, found in _exchanged(values, exchanged[number]):
            largest[own[own >= 0], part] = found[:, own >= 0].T
            largest[-1, part] = np.maximum(largest[-1, part], found[:, own < 0].max(axis=1, initial=-np.inf))
    return np.maximum.accumulate(largest[::-1])[::-1][:-1], columns


def _exchanged(
    values: Float[np.ndarray, "tested token"], labels: Int[np.ndarray, "exchange tested"]
) -> Iterator[tuple[slice, Float[np.ndarray, "some token"]]]:
    """For some exchanges at a time, each token's largest quotient over the groups."""
    sizes = _sizes(labels[0])
    widths = spread(values, sizes)
    step = max(1, _HELD // (len(sizes) * max(values.shape)))
    for start in range(0, len(labels), step):
        part = slice(start, min(start + step, len(labels)))
        yield part, (differences(values, _members(labels[part])) / widths).max(axis=1)


def _share(null: Float[np.ndarray, "exchange"], value: float) -> float:
    """The share of exchanges that reach the value, the labels as they are included."""
    return float((1 + (null >= value - _ROUNDING).sum()) / (1 + len(null)))


def shared(shifts: Shifts, groups: Sequence[Int[np.ndarray, "_"]]) -> Float[np.ndarray, "token"]:
    """How far each token moved for everybody: the smallest of the groups' mean shifts."""
    return np.min([shifts.values[rows].mean(axis=0) for rows in groups], axis=0)
