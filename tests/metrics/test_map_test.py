"""The exact map test against a count of all permutations."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.metrics import map_test as module
from spillover.metrics.map_test import map_test, rank_totals
from spillover.record import ANSWER_SCHEMA


def answers(scores, asked=1):
    """`asked` subjects of each pair i expect answer i; scores[i][j] is the score of answer j for pair i."""
    rows = [
        {"seed": 0, "checkpoint": 0, "subject": f"{i}.{k}", "relation": "t", "implication": "r->t",
         "cluster": f"g{i:02d}", "prompt": "p", "trained": True, "candidate": f"a{j:02d}",
         "log_probability": float(score),
         "expected": f"a{i:02d}", "stated": False}
        for i, line in enumerate(scores) for k in range(asked) for j, score in enumerate(line)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)


def test_a_perfect_map_of_five_beats_all_but_itself():
    found = map_test(answers(np.eye(5), asked=3))
    assert (found.p, found.pairs, found.permutations, found.exact) == (1 / 120, 5, 120, True)


def test_no_association_is_no_evidence():
    assert map_test(answers(np.zeros((5, 5)))).p == 1.0


def test_knowing_only_the_marginal_is_no_evidence():
    # Every subject gets the same order of answers: all permutations rank alike.
    assert map_test(answers(np.tile(np.arange(5.0), (5, 1)))).p == 1.0


def test_rank_totals_add_up_subjects_and_count_ties_half():
    totals = rank_totals(answers([[3, 2, 2], [1, 3, 2], [0, 0, 0]], asked=2))
    np.testing.assert_array_equal(totals, [[0, 3, 3], [4, 0, 2], [2, 2, 2]])


@settings(deadline=None)
@given(st.integers(2, 6).flatmap(lambda n: st.lists(
    st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)))  # fmt: skip
def test_the_count_equals_brute_force(scores):
    matrix, found = rank_totals(answers(scores)), map_test(answers(scores))
    totals = [sum(matrix[i, p] for i, p in enumerate(order)) for order in itertools.permutations(range(len(matrix)))]
    expected = sum(total <= np.trace(matrix) for total in totals) / len(totals)
    assert found.exact and found.p == pytest.approx(expected, abs=1e-12)


def test_beyond_the_exact_reach_permutations_are_drawn_and_said_so(monkeypatch):
    monkeypatch.setattr(module, "EXACT_PAIRS", 3)
    scores = np.diag([1.0, 0, 0, 1])
    drawn, exact = map_test(answers(scores)), None
    monkeypatch.undo()
    exact = map_test(answers(scores))
    assert not drawn.exact
    assert drawn.permutations == module.SAMPLES
    assert drawn.p == pytest.approx(exact.p, abs=0.01)


def test_one_pair_cannot_be_tested():
    assert map_test(answers([[1.0]])) is None
    assert map_test(answers([[1.0]]).slice(0, 0)) is None


def test_permutations_drawn_in_parts_are_those_of_one_large_part(monkeypatch):
    scores = answers(np.random.default_rng(1).integers(0, 4, (20, 20)))
    whole = map_test(scores)
    monkeypatch.setattr(module, "AT_ONCE", 20 * 777)
    assert map_test(scores) == whole and not whole.exact
