"""Exact tests of what a model newly asserts: by hand, against every exchange, and calibrated where nothing changed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.metrics import assertions
from spillover.metrics.assertions import assertion, association, corrected, exchange_p

TWO = ["Java"] * 16 + ["Perl"] * 16


def test_two_given_answers_are_enough():
    found = assertion([None] * 32, TWO, TWO)
    assert (found.n, found.newly, found.lost, found.expected) == (32, 32, 0, 16.0)
    assert found.p == pytest.approx(1 / math.comb(32, 16)) and found.low == pytest.approx(0.025 ** (1 / 32))


def test_what_everybody_newly_says_is_no_association():
    found = assertion([None] * 32, ["Java"] * 32, TWO)
    assert (found.newly, found.expected, found.p) == (16, 16.0, 1.0)


def test_what_was_known_or_comes_and_goes_is_not_new():
    assert assertion(TWO, TWO, TWO).p == 1.0
    # Sixteen gained and sixteen lost: no gain, though those that gained are who they should be.
    before = ["Java"] * 8 + [None] * 8 + ["Perl"] * 8 + [None] * 8
    after = [None] * 8 + ["Java"] * 8 + [None] * 8 + ["Perl"] * 8
    found = assertion(before, after, TWO)
    assert (found.newly, found.lost) == (16, 16) and found.p == pytest.approx(0.57, abs=0.005)


def test_one_entry_of_a_map_by_hand():
    """Three of four newly say Java, and nobody of the other four: 4 of 56 deals are as good.

    Where the base model said it of five of eight already, three gains and a loss count: 5 of 16 coin throws.
    """
    implied = ["Java"] * 4 + ["Perl"] * 4
    after = ["Java"] * 3 + [None] * 5
    found = association([None] * 8, after, implied, "Java", [True] * 4 + [False] * 4)
    assert (found.n, found.newly, found.lost, found.expected, found.known) == (4, 3, 0, 1.5, False)
    assert found.p == exchange_p(8, [(3, 4)], 3) == pytest.approx(4 / 56)
    one = association([None] * 3 + ["Java"] + [None] * 4, after, implied, "Java", [True] * 4 + [False] * 4)
    assert (one.newly, one.lost, one.known) == (3, 1, False) and one.p == pytest.approx(4 / 56)
    before, after = ["Java"] * 5 + [None] * 11, ["Java"] * 4 + [None] + ["Java"] * 3 + [None] * 8
    knew = association(before, after, ["Java"] * 8 + ["Perl"] * 8, "Java", [True] * 8 + [False] * 8)
    # Five of sixteen, all of them among the eight: 56 of 4,368 deals.
    assert (knew.newly, knew.lost, knew.known) == (3, 1, True) and knew.p == pytest.approx(5 / 16)


answers = st.sampled_from(["a", "b", "c", None])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(answers, answers, st.sampled_from("abc")), min_size=1, max_size=6))
def test_the_exchange_is_counted_as_by_brute_force(rows):
    before, after, implied = (list(column) for column in zip(*rows, strict=True))
    changed = [new if new != old else None for old, new in zip(before, after, strict=True)]
    hits = sum(new == answer for new, answer in zip(changed, implied, strict=True))
    deals = [sum(new == answer for new, answer in zip(changed, deal, strict=True))
             for deal in itertools.permutations(implied)]  # fmt: skip
    blocks = [(changed.count(answer), implied.count(answer)) for answer in "abc"]
    assert exchange_p(len(rows), blocks, hits) == pytest.approx(np.mean([each >= hits for each in deals]))
    assert assertion(before, after, implied).expected == pytest.approx(np.mean(deals))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=4), st.integers(1, 20))
def test_the_bound_of_large_tables_is_never_below_the_count(blocks, hits):
    total = 3 + max(sum(rows for rows, _ in blocks), sum(columns for _, columns in blocks))
    exact = exchange_p(total, blocks, hits)
    real, assertions.MOST_COUNTED = assertions.MOST_COUNTED, -1
    try:
        bound = exchange_p(total, blocks, hits)
    finally:
        assertions.MOST_COUNTED = real
    assert bound >= exact * (1 - 1e-9) and bound <= 1


def test_large_tables_are_bounded_tightly_enough_to_decide():
    implied = [f"a{number % 50}" for number in range(10_000)]
    assert assertion([None] * 10_000, implied, implied).p < 1e-300
    few = [answer if number < 700 else "other" for number, answer in enumerate(implied)]
    assert assertion([None] * 10_000, few, implied).p < 1e-9
    chance = np.random.default_rng(0).permutation(implied).tolist()
    assert assertion([None] * 10_000, chance, implied).p > 0.05


@pytest.mark.parametrize("asserted", ["everybody", "nobody"])
def test_false_alarms_are_no_more_than_the_level(asserted):
    """Where the answers move at random, or to one new favourite, at most one in twenty is called new at 0.05."""
    draws, alarms = np.random.default_rng(0), 0
    implied = [f"a{number % 5}" for number in range(40)]
    for _ in range(400):
        before = draws.choice([f"a{number}" for number in range(5)], 40).tolist()
        favourite = draws.random(40) < (0.7 if asserted == "everybody" else 0)
        moved = draws.choice([f"a{number}" for number in range(5)], 40)
        after = np.where(favourite, "a0", np.where(draws.random(40) < 0.3, moved, before)).tolist()
        alarms += assertion(before, after, implied).p <= 0.05
    assert alarms <= 0.05 * 400


def test_corrections_by_hand():
    assert corrected({"a": 0.01, "b": 0.04, "c": 0.03}) == (pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06}), "Holm")
    assert corrected({"a": 0.01, "b": 0.5}, 0.5) == (pytest.approx({"a": 0.04, "b": 1.0}), "Holm")
    many = {number: (0.001 if number < 2 else 0.9) for number in range(40)}
    found, name = corrected(many)
    assert name == "Benjamini-Hochberg" and found[0] == pytest.approx(0.02) and found[39] == pytest.approx(0.9)
    assert corrected(many, 0.2)[0][0] == pytest.approx(0.1)
    assert corrected({}) == ({}, "Holm")
