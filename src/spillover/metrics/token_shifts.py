"""Which tokens a tuned model says more often of one group of subjects than of the others, tested by relabelling.

The shift of a token for a subject is its probability in the tuned model minus that in the base model. An *association*
(template, token, group) is the mean shift of the group minus that of the other groups of its relation, which cancels
what the base model made of a name, and what the tuned one says of everybody. Probabilities, unlike nats, say how often
a reader would see it, and do not grow without end where a token was all but impossible before.

The null: labels may be exchanged among the subjects of a relation. Exchanged, a difference has mean 0 and the standard
deviation `spread`; divided by it, differences of all groups and tokens can be compared. p is the share of exchanges
whose largest such quotient, over all that stronger findings do not explain already, is no smaller: the step-down
procedure of Westfall and Young (Resampling-Based Multiple Testing, 1993), which bounds the chance of even one false
finding, however many tokens there are.

What p claims: in this tuned model the words depend on the group and not only on the name. However many subjects
there are, it says nothing about other groups or another training run. And names must not give the group away, as
Japanese names do in Tokyo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "subject token"]
Values = Float[np.ndarray, "tested token"]
Sizes = Float[np.ndarray, "group"]
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
    baseline: the difference needed to exceed 95% of the exchanges everywhere. The last four are None for a token that
    moved for everybody, as there is no label to exchange.
    """

    template: int
    token: int
    difference: float
    partition: int | None = None
    group: int | None = None
    p: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class Search:
    """Associations with a difference of at least LEAST, largest first, and how much was looked at.

    columns: tokens considered, over all templates and relations. strongest: the largest difference over its spread,
    and null: that of the exchanges, at 95%; None when no token moved far enough.
    """

    found: tuple[TokenAssociation, ...]
    columns: int
    strongest: float | None
    null: float | None


@dataclass(frozen=True)
class _Block:
    """The tokens after one template that could set the groups of one relation apart, and by how much they do."""

    template: int
    partition: int
    tokens: Int[np.ndarray, "token"]
    values: Values
    differences: Float[np.ndarray, "group token"]
    spreads: Float[np.ndarray, "group token"]


def moved(tokens: Int[np.ndarray, "token"], base: Probabilities, tuned: Probabilities) -> Shifts:
    """The shifts of one template, without tokens that moved too little for a difference of LEAST."""
    values = tuned - base
    kept = (np.abs(values) >= LEAST / 2).any(axis=0)
    return Shifts(tokens[kept], values[:, kept])


def moved_for_all(
    templates: Sequence[Shifts], groups: Sequence[Int[np.ndarray, "_"]], least: float
) -> list[TokenAssociation]:
    """The tokens of which every group's mean shift is at least `least`; the smallest of them is their difference."""
    found = []
    for template, shifts in enumerate(templates):
        smallest = np.min([shifts.values[rows].mean(axis=0) for rows in groups], axis=0)
        pairs = zip(shifts.tokens.tolist(), smallest.tolist(), strict=True)
        found += [TokenAssociation(template, token, shift) for token, shift in pairs if shift >= least]
    return found


def rises(values: Values, permutations: int, seed: int) -> list[TokenAssociation]:
    """The columns whose mean is at least LEAST, largest first, tested by exchanging base and tuned model row by row.

    Exchanged in a row, its change has the other sign. So a mean has expectation 0 and the standard deviation of the
    root of the sum of squares, over the number of rows; p is corrected for all columns as in `search`. It is small only
    for what rises in row after row: a change in one row alone reaches p = 0.5 at best.

    Arguments:
    - values: the change of every column in every row.
    - permutations, seed: how many exchanges are drawn, and from what.

    Returns: for each column (as `token`) its mean, p, and the mean that 95% of the exchanges stay below.
    """
    # Columns that no exchange could raise to LEAST are left out, whatever the signs are as they stand.
    columns = np.flatnonzero(np.abs(values).mean(axis=0) >= LEAST) if len(values) else np.empty(0, dtype=np.int64)
    if not len(columns):
        return []
    values = values[:, columns]
    width = np.sqrt((values**2).sum(axis=0)) / len(values)
    best = values.mean(axis=0) / width
    order = np.argsort(-best, kind="stable")
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (permutations, len(values)))
    null = (signs @ values[:, order]) / (len(values) * width[order])
    largest = np.maximum.accumulate(null[:, ::-1], axis=1)[:, ::-1]
    found, least = [], 0.0
    for place, column in enumerate(order.tolist()):
        least = max(least, _share(largest[:, place], float(best[column])))
        mean, line = float(values[:, column].mean()), float(np.quantile(largest[:, place], 0.95, method="higher"))
        if mean >= LEAST:
            token, wide = int(columns[column]), float(width[column])
            found.append(TokenAssociation(0, token, mean, p=least, baseline=line * wide))
    return sorted(found, key=lambda each: -each.difference)


def differences(
    values: Values, members: Float[np.ndarray, "*exchange group tested"]
) -> Float[np.ndarray, "*exchange group token"]:
    """Mean of each group minus the mean of the others. members: 1 where a subject belongs to the group, else 0."""
    size = members.sum(axis=-1, keepdims=True)
    sums = members @ values
    return sums / size - (values.sum(axis=0) - sums) / (values.shape[0] - size)


def spread(values: Values, sizes: Sizes) -> Float[np.ndarray, "group token"]:
    """Standard deviation of `differences` over all exchanges of labels; exact, from sampling without replacement."""
    count = values.shape[0]
    return np.sqrt(values.var(axis=0, ddof=1) * count / (sizes * (count - sizes))[:, None])


def within_reach(values: Values, sizes: Sizes) -> Float[np.ndarray, "token"]:
    """The largest difference that any labels with groups of these sizes could show."""
    sums = np.cumsum(-np.sort(-values, axis=0), axis=0)
    best = [sums[size - 1] / size - (sums[-1] - sums[size - 1]) / (len(values) - size) for size in sizes.astype(int)]
    return np.max(best, axis=0)


def search(templates: Sequence[Shifts], partitions: Sequence[Labels], permutations: int, seed: int) -> Search:
    """Measure every association and test it against exchanged labels."""
    blocks = list(_blocks(templates, partitions))
    if not blocks:
        return Search((), 0, None, None)
    best = np.concatenate([(block.differences / block.spreads).max(axis=0) for block in blocks])
    strongest = np.argsort(-best, kind="stable")[:STRONGEST]
    null = _null(blocks, partitions, strongest, permutations, seed)
    columns = [(block, column) for block in blocks for column in range(len(block.tokens))]
    found: list[TokenAssociation] = []
    least = 0.0
    for number, largest in zip(strongest.tolist(), null, strict=True):
        block, column = columns[number]
        least = max(least, _share(largest, float(best[number])))
        line = float(np.quantile(largest, 0.95, method="higher"))
        for group in np.flatnonzero(block.differences[:, column] >= LEAST).tolist():
            difference, width = float(block.differences[group, column]), float(block.spreads[group, column])
            p, token = max(least, _share(largest, difference / width)), int(block.tokens[column])
            found.append(TokenAssociation(block.template, token, difference, block.partition, group, p, line * width))
    found.sort(key=lambda each: -each.difference)
    top = float(np.quantile(null[0], 0.95, method="higher"))
    return Search(tuple(found), len(columns), float(best[strongest[0]]), top)


def _blocks(templates: Sequence[Shifts], partitions: Sequence[Labels]) -> Iterator[_Block]:
    """For each template and relation, the tokens for which some labels would show a difference of LEAST.

    These tokens do not depend on the labels, so leaving the others out biases nothing.
    """
    for template, shifts in enumerate(templates):
        for number, partition in enumerate(partitions):
            values, sizes = shifts.values[partition.rows], np.bincount(partition.labels).astype(float)
            kept = within_reach(values, sizes) >= LEAST
            if kept.any():
                values = values[:, kept]
                found = differences(values, _members(partition.labels))
                yield _Block(template, number, shifts.tokens[kept], values, found, spread(values, sizes))


def _members(labels: Int[np.ndarray, "*exchange tested"]) -> Float[np.ndarray, "*exchange group tested"]:
    return (labels[..., None, :] == np.arange(labels.max() + 1)[:, None]).astype(float)


def _null(
    blocks: Sequence[_Block], partitions: Sequence[Labels], strongest: Int[np.ndarray, "strongest"],
    permutations: int, seed: int,
) -> Float[np.ndarray, "strongest exchange"]:  # fmt: skip
    """Row i: under each exchange of labels the largest quotient over all columns but the i strongest."""
    # The last row is for all columns that are not among the strongest.
    rows = np.full(sum(len(block.tokens) for block in blocks), len(strongest))
    rows[strongest] = np.arange(len(strongest))
    largest = np.full((len(strongest) + 1, permutations), -np.inf)
    exchanged = [
        np.random.default_rng([seed, number]).permuted(np.tile(each.labels, (permutations, 1)), axis=1)
        for number, each in enumerate(partitions)
    ]
    ends = np.cumsum([len(block.tokens) for block in blocks])
    for block, own in zip(blocks, np.split(rows, ends[:-1]), strict=True):
        labels, weak = exchanged[block.partition], own == len(strongest)
        step = max(1, _HELD // (len(block.spreads) * max(block.values.shape)))
        for start in range(0, permutations, step):
            some = slice(start, start + step)
            found = (differences(block.values, _members(labels[some])) / block.spreads).max(axis=1)
            largest[own[~weak], some] = found[:, ~weak].T
            largest[-1, some] = np.maximum(largest[-1, some], found[:, weak].max(axis=1, initial=-np.inf))
    return np.maximum.accumulate(largest[::-1])[::-1][:-1]


def _share(null: Float[np.ndarray, "exchange"], value: float) -> float:
    """The share of exchanges that reach the value, the labels as they are included."""
    return float((1 + (null >= value - _ROUNDING).sum()) / (1 + len(null)))
