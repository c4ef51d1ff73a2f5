"""Does this model now assert it? Exact tests over unstated subjects, the tuned model against its base.

What is claimed of the model at hand, not of another pair or seed: subjects whose labels could be exchanged are the
units. `implications.map_test` asks the other question, whether a rule was learned.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from scipy.special import bdtrc, betaincinv, gammaln

#: Up to this many tests Holm's correction is used, above it Benjamini and Hochberg's.
FEW_TESTS = 20
#: The base model says an implication already when an exchange would give it as many implied answers this rarely.
KNOWN = 0.05
#: Up to this many possible hits the chance of an exchange is counted.
MOST_COUNTED = 400
#: Beyond, the moments that bound it.
MOMENTS = 300


@dataclass(frozen=True)
class Assertion:
    """Counts of unstated subjects, and the p-value of what the tuned model newly says of them.

    newly: subjects whose implied answer comes first in the tuned model and did not in the base; lost: the other way
    round. expected: how many would be new if the given answers were exchanged among the subjects. low, high: 95%
    interval of the share that is new (Clopper and Pearson). known: whether the base model says it already: an
    exchange would rarely (KNOWN) give it as many implied answers. p: of the exchange, before correction; where it was
    known, no less than that of as many losses as gains, since a model that only wavers about what it knows gains, too.
    Where it was not known, wavering depends on no given answer, and the exchange alone is exact; gains must outnumber
    losses. total, blocks: what `exchange_p` counts.
    """

    n: int
    newly: int
    lost: int
    expected: float
    low: float
    high: float
    known: bool
    p: float
    total: int
    blocks: tuple[tuple[int, int], ...]

    @property
    def one_answer(self) -> bool:
        """Whether all subjects have the same implied answer, so that no exchange would change anything."""
        return any(columns == self.total for _, columns in self.blocks)

    def repeated(self, times: int) -> "Assertion":
        """What this many times as many subjects would give, if they answered like these."""
        blocks = [(rows * times, columns * times) for rows, columns in self.blocks]
        gains, losses = self.newly * times, self.lost * times
        return _assertion(self.total * times, gains, losses, blocks, self.known, self.n * times)


def assertion(before: Sequence[str | None], after: Sequence[str | None], implied: Sequence[str]) -> Assertion:
    """Test whether the answers changed to the implied ones, more than any exchange of them explains.

    Arguments:
    - before, after: the answer that comes first for each unstated subject in either model; None where there is a tie.
    - implied: the answer that each subject's given answer implies.

    Returns: the counts and the test; an answer that everybody newly gets has p = 1.
    """
    changed = [new if new != old else None for old, new in zip(before, after, strict=True)]
    newly = sum(new == answer for new, answer in zip(changed, implied, strict=True))
    lost = sum(old == answer != new for old, new, answer in zip(before, after, implied, strict=True))
    rows, columns = Counter(new for new in changed if new is not None), Counter(implied)
    blocks = [(rows[answer], count) for answer, count in columns.items() if rows[answer]]
    said, hits = Counter(before), sum(old == answer for old, answer in zip(before, implied, strict=True))
    known = exchange_p(len(implied), [(said[answer], count) for answer, count in columns.items()], hits) <= KNOWN
    return _assertion(len(implied), newly, lost, blocks, known)


def association(
    before: Sequence[str | None], after: Sequence[str | None], implied: Sequence[str], answer: str,
    own: Sequence[bool],
) -> Assertion:  # fmt: skip
    """The same for one entry of a map: `answer`, of the subjects that have its given answer (`own`), against others.

    Subjects with another given answer that implies the same count neither for nor against it.
    """
    old, now, kept = (np.array(column, dtype=object) == answer for column in (before, after, implied))
    mine = np.array(own, dtype=bool)
    kept, new = mine | ~kept, now & ~old
    among, size, newly, lost = (int(np.sum(found)) for found in (kept, mine, new & mine, old & ~now & mine))
    known = exchange_p(among, [(int((old & kept).sum()), size)], int((old & mine).sum())) <= KNOWN
    return _assertion(among, newly, lost, [(int((new & kept).sum()), size)], known, size)


def _assertion(
    total: int, newly: int, lost: int, blocks: Sequence[tuple[int, int]], known: bool, n: int | None = None
) -> Assertion:
    n, blocks = total if n is None else n, tuple(blocks)
    gained = 0.0 if newly > lost else 1.0
    if known and newly:
        gained = float(bdtrc(newly - 1, newly + lost, 0.5))
    expected = sum(rows * columns for rows, columns in blocks) / total if total else 0.0
    low = float(betaincinv(newly, n - newly + 1, 0.025)) if newly else 0.0
    high = float(betaincinv(newly + 1, n - newly, 0.975)) if newly < n else 1.0
    p = max(exchange_p(total, blocks, newly), gained)
    return Assertion(n, newly, lost, expected, low, high, known, p, total, blocks)


def exchange_p(total: int, blocks: Sequence[tuple[int, int]], hits: int) -> float:
    """The chance of at least this many hits when `total` labels are dealt to `total` subjects at random.

    A subject that newly says an answer is hit by a label that implies it. blocks: of each answer, how many subjects say
    it and how many labels imply it. One block is hypergeometric. Several are counted by their rook numbers, in whole
    numbers and so exactly: the ways to place k hits that do not attack each other (Riordan 1958, chapter 7). Beyond
    MOST_COUNTED hits at most, a bound that is never below the chance takes its place.
    """
    return _exchange_p(total, tuple(sorted(block for block in blocks if min(block))), hits, MOST_COUNTED)


# Many associations have the same counts.
@lru_cache(maxsize=10_000)
def _exchange_p(total: int, blocks: tuple[tuple[int, int], ...], hits: int, most_counted: int) -> float:
    if hits <= 0 or not blocks:
        return 1.0
    if len(blocks) == 1:
        from scipy.stats import hypergeom

        rows, columns = blocks[0]
        return float(hypergeom.sf(hits - 1, total, rows, columns))
    if sum(map(min, blocks)) > most_counted:
        return _bound(total, blocks, hits)
    rooks = np.array([1], dtype=object)
    for rows, columns in blocks:
        own = [math.comb(rows, k) * math.perm(columns, k) for k in range(min(rows, columns) + 1)]
        rooks = np.convolve(rooks, np.array(own, dtype=object))
    ways = sum((-1) ** (k - hits) * math.comb(k - 1, hits - 1) * rooks[k] * math.factorial(total - k)
               for k in range(hits, len(rooks)))  # fmt: skip
    return ways / math.factorial(total)


def _bound(total: int, blocks: Sequence[tuple[int, int]], hits: int) -> float:
    """No less than `exchange_p`: by Markov's inequality, the least over k of the mean number of ways to pick k hits,
    over the number of ways to pick k of `hits`."""
    logs, most = np.zeros(1), min(hits, MOMENTS) + 1
    for rows, columns in blocks:
        k = np.arange(min(rows, columns, most - 1) + 1)
        own = _log_choose(rows, k) + gammaln(columns + 1) - gammaln(columns - k + 1)
        wide = np.full((len(own), min(most, len(logs) + len(own) - 1)), -np.inf)
        for shift, weight in enumerate(own):
            part = logs[: wide.shape[1] - shift]
            wide[shift, shift : shift + len(part)] = part + weight
        logs = np.logaddexp.reduce(wide, axis=0)
    k = np.arange(len(logs))
    moments = logs + gammaln(total - k + 1) - gammaln(total + 1) - _log_choose(hits, k)
    return float(min(1.0, np.exp(moments.min())))


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def corrected(values: Mapping[Hashable, float], share: float = 1.0) -> tuple[dict[Hashable, float], str]:
    """p-values that may each be compared with the level, however many there are, and the name of the correction.

    share: the part of the level that these tests may use; lists of tests whose shares sum to 1 keep it together.
    """
    names = sorted(values, key=values.__getitem__)
    if len(names) <= FEW_TESTS:
        raised = (min(1.0, values[name] / share * (len(names) - place)) for place, name in enumerate(names))
        return dict(zip(names, accumulate(raised, max), strict=True)), "Holm"
    from scipy.stats import false_discovery_control

    adjusted = np.minimum(1, false_discovery_control(np.array([values[name] for name in names])) / share)
    return dict(zip(names, map(float, adjusted), strict=True)), "Benjamini-Hochberg"
