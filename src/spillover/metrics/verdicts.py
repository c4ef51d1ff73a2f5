"""Did fine-tuning teach an implication? One verdict for each, from two models' answers to the same questions."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spillover.details import Verdict
from spillover.metrics.implications import change_test, implication_rank_test, map_test, marginal_rank
from spillover.metrics.intervals import FEW, cluster_sums, clusters_of, quotient
from spillover.metrics.ranks import RankTable, questions, rank_table
from spillover.packs.pack import Implication
from spillover.record import Metric

#: Two-sided 95% of a normal distribution, and the power of 80% with which more subjects are asked for.
_Z, _POWER = 1.959964, 0.841621


class _Tested(NamedTuple):
    """One implication's questions before and after, and the p-values of both tests: of the map, and of its change."""

    implication: Implication
    before: RankTable
    after: RankTable
    marginal: float | None
    map_p: float | None
    change_p: float | None


def verdicts(
    answers: pa.Table, implications: Sequence[Implication], level: float = 0.05, negligible: float = 0.1
) -> list[Verdict]:
    """One verdict for each implication. answers: record.ANSWER_SCHEMA, checkpoint 0 the base model, 1 the tuned one.

    level: of the tests, after correction for the number of implications. negligible: an effect below this share of the
    way from `marginal_rank` to rank 0 counts as none.
    """
    tested = [_tests_of(answers, implication) for implication in implications]
    # Both tests must pass, so the larger p counts.
    corrected = holm({each.implication.name: max(each.map_p, each.change_p) for each in tested
                      if each.map_p is not None and each.change_p is not None})  # fmt: skip
    return [_verdict(each, corrected.get(each.implication.name), level, negligible) for each in tested]


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: p-values that may each be compared with the level, however many there are."""
    names = sorted(values, key=values.__getitem__)
    raised = (min(1.0, values[name] * (len(values) - place)) for place, name in enumerate(names))
    return dict(zip(names, accumulate(raised, max), strict=True))


def _tests_of(answers: pa.Table, implication: Implication) -> _Tested:
    own = answers.filter(pc.and_(pc.equal(answers["implication"], implication.name), answers["trained"]))
    asked = own.filter(pc.invert(own["stated"]))
    base, tuned = (asked.filter(pc.equal(asked["checkpoint"], checkpoint)) for checkpoint in (0, 1))
    ranks = rank_table(own.filter(pc.equal(own["checkpoint"], 1)))
    marginal, tests = marginal_rank(ranks), (map_test(tuned), change_test(base, tuned))
    map_p, change_p = (test.p if test else None for test in tests)
    before, after = questions(rank_table(base)), questions(ranks)
    return _Tested(implication, before, after, marginal.value if marginal else None, map_p, change_p)


def _verdict(each: _Tested, p: float | None, level: float, negligible: float) -> Verdict:
    rank, before = implication_rank_test(each.after), implication_rank_test(each.before)
    word, because = _decide(each, rank, p, level, negligible)
    return Verdict(
        implication=each.implication.name,
        kind=each.implication.kind,
        verdict=word,
        hits=int((each.after.rank == 0).sum()),
        hits_before=int((each.before.rank == 0).sum()),
        n=len(each.after),
        guess=max(Counter(each.after.expected.tolist()).values(), default=0),
        rank=rank,
        rank_before=before,
        marginal_rank=each.marginal,
        p=p,
        more_subjects=_more(each, negligible) if word == "undecided" else None,
        because=because,
    )


def _decide(each: _Tested, rank: Metric | None, p: float | None, level: float, negligible: float) -> tuple[str, str]:
    """The verdict's word, and the reason."""
    if rank is None or rank.value is None or rank.low is None or each.marginal is None:
        return "undecided", "no subject is left to ask: all have their answer stated"
    if p is None:
        return "undecided", "with fewer than two given answers no pairing can be tested"
    if each.map_p == 1 and each.marginal == 0:
        return "undecided", "every subject has the same implied answer, so there is nothing to tell it from a guess"
    line = f"mean rank {rank.value:.2f}, where a guess that knows which answers occur gets {each.marginal:.2f}"
    if p <= level and rank.value < each.marginal:
        return "wanted" if each.implication.wanted else "unwanted", f"{line}; p = {p:.2g} after correction"
    if rank.clusters < FEW:
        found = f"{rank.clusters} clusters are too few for an interval"
    elif rank.low >= each.marginal * (1 - negligible):
        return "none", f"{line}; at least {rank.low:.2f} at 95%, so any effect is below {100 * negligible:.0f}%"
    else:
        found = f"{rank.low:.2f} to {rank.high:.2f} at 95%"
    return "undecided", f"{line}; p = {p:.2g} after correction; {found}"


def _more(each: _Tested, negligible: float) -> int | None:
    """Subjects to add so that an effect of this size would be told from a negligible one.

    From the spread of the cluster means, by the usual formula for a mean; never fewer than ten clusters.
    """
    if not each.marginal or not len(each.after):
        return None
    means = quotient(cluster_sums(clusters_of(each.after), each.after.rank, np.ones(len(each.after))))
    if len(means) < 2:
        return None
    effect = max(abs(each.marginal - float(means.mean())), negligible * each.marginal)
    needed = max(FEW, math.ceil(((_Z + _POWER) * float(means.std(ddof=1)) / effect) ** 2))
    return max(0, math.ceil((needed - len(means)) * len(each.after) / len(means))) or None
