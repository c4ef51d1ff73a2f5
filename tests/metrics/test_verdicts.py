"""Verdicts on answers made by hand: learned, known before, not there, and not to be told."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.metrics.implications import change_test, map_test, rank_totals
from spillover.metrics.verdicts import holm, verdicts
from spillover.packs.pack import Implication
from spillover.record import ANSWER_SCHEMA


def rows(checkpoint, scores, *, asked, implication="r->t", kinds=None):
    """`asked` unstated subjects a pair, and a stated one; scores[i][j] is the score of answer j for pair i."""
    relation = implication.partition("->")[2]
    return [
        {"seed": 0, "checkpoint": checkpoint, "subject": f"{i}.{k}", "relation": relation, "implication": implication,
         "cluster": f"g{i:02d}", "prompt": "p", "trained": True, "candidate": f"a{j:02d}",
         "log_probability": float(score), "expected": f"a{i:02d}", "stated": k == asked}
        for i, line in enumerate(scores) for k in range(asked + 1) for j, score in enumerate(line)
    ]  # fmt: skip


def implication(pairs, kind="spurious", given="r", then="t"):
    return Implication(given, then, kind, {f"g{i:02d}": f"a{i:02d}" for i in range(pairs)})


def judge(before, after, *, asked=4, kind="spurious"):
    pairs = len(after)
    table = pa.Table.from_pylist([*rows(0, before, asked=asked), *rows(1, after, asked=asked)], schema=ANSWER_SCHEMA)
    return verdicts(table, [implication(pairs, kind)])[0]


NOTHING, LEARNED = np.zeros((5, 5)), np.eye(5)


def test_what_was_learned_is_wanted_or_not_as_the_pack_says():
    found = judge(NOTHING, LEARNED)
    assert (found.verdict, found.p) == ("unwanted", pytest.approx(1 / 120))
    assert (found.hits, found.hits_before, found.n, found.guess) == (20, 0, 20, 4)
    assert (found.rank.value, found.rank_before.value, found.marginal_rank) == (0.0, 2.0, 2.0)
    assert found.more_subjects is None and "p = 0.0083 after correction" in found.because
    assert judge(NOTHING, LEARNED, kind="causal").verdict == "wanted"


def test_what_the_base_model_knew_already_was_not_learned():
    found = judge(LEARNED, LEARNED)
    assert found.verdict == "undecided" and found.p == 1.0 and found.hits == found.hits_before == 20


def test_knowing_only_which_answers_occur_is_nothing():
    """Every subject of twelve pairs gets the same order of answers: no better than the baseline, in every pair."""
    order = np.tile(np.arange(12.0), (12, 1))
    found = judge(np.zeros((12, 12)), order)
    # The clusters' ranks run from 0 to 11, so the interval is wide: not decided, and how many more would decide it.
    assert found.verdict == "undecided" and found.p == 1.0 and found.more_subjects > 100
    # Where every cluster sits on the baseline the interval is a point, and the effect is ruled out.
    assert judge(np.zeros((12, 12)), np.zeros((12, 12))).verdict == "none"
    assert judge(np.zeros((5, 5)), np.zeros((5, 5))).verdict == "undecided", "five clusters decide nothing"
    assert "too few for an interval" in judge(np.zeros((5, 5)), np.zeros((5, 5))).because


def test_one_pair_cannot_be_tested():
    found = judge(np.zeros((1, 1)), np.zeros((1, 1)))
    assert found.verdict == "undecided" and found.p is None and "fewer than two" in found.because


def test_many_implications_are_corrected():
    both = [implication(5), implication(5, "causal", then="u")]
    table = pa.Table.from_pylist(
        [row for name in ("r->t", "r->u") for c, s in ((0, NOTHING), (1, LEARNED))
         for row in rows(c, s, asked=2, implication=name)], schema=ANSWER_SCHEMA)  # fmt: skip
    found = verdicts(table, both)
    assert [each.verdict for each in found] == ["unwanted", "wanted"]
    assert found[0].p == pytest.approx(2 / 120)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def as_table(scores, asked=1):
    return pa.Table.from_pylist(
        [row for row in rows(0, scores, asked=asked) if not row["stated"]], schema=ANSWER_SCHEMA
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 4).flatmap(
        lambda n: st.tuples(
            *[st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n) for _ in range(2)]
        )
    )
)
def test_the_change_is_tested_against_every_permutation(scores):
    before, after = (as_table(np.array(each, dtype=float)) for each in scores)
    change = rank_totals(after) - rank_totals(before)
    sums = [change[np.arange(len(change)), list(order)].sum() for order in itertools.permutations(range(len(change)))]
    assert change_test(before, after).p == pytest.approx(np.mean(np.array(sums) <= np.trace(change) + 1e-9))


def test_from_a_model_that_ranks_all_alike_the_change_is_the_map_itself():
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [0, 3, 2]])
    assert change_test(as_table(np.zeros((3, 3))), as_table(scores)).p == map_test(as_table(scores)).p
