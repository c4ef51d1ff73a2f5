"""Differences of shifts by hand and by brute force; every exchange counted; no more false findings than promised."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spillover.metrics import token_shifts as shifts
from spillover.metrics.token_shifts import LEAST, Labels, Search, Shifts, moved, moved_for_all, rises, search


def labels(*groups):
    """Groups of these sizes in the first rows, one after another."""
    numbers = np.repeat(np.arange(len(groups)), groups)
    return Labels(np.arange(len(numbers)), numbers)


def difference(values, own):
    """A group's mean minus that of the others, one number at a time."""
    inside = [value for value, belongs in zip(values, own, strict=True) if belongs]
    outside = [value for value, belongs in zip(values, own, strict=True) if not belongs]
    return sum(inside) / len(inside) - sum(outside) / len(outside)


def exchanges(partition):
    """Every way to deal out the labels, each as often as it is a permutation."""
    return [np.array(dealt) for dealt in itertools.permutations(partition.labels.tolist())]


def test_worked_by_hand():
    """Two of four subjects moved by 0.8 and 0.6, the others by 0.2 and 0: 0.7 - 0.1 = 0.6, and -0.6 for the others.

    Of the six ways to choose two of four, one other is as far apart (for the other group), so a third of all exchanges
    reach it: p is a third but for the exchanges drawn.
    """
    base = np.array([[0.1, 0.0], [0.1, 0.0], [0.1, 0.0], [0.1, 0.02]])
    tuned = np.array([[0.9, 0.0], [0.7, 0.0], [0.3, 0.01], [0.1, 0.0]])
    own = moved(np.array([7, 9]), base, tuned)
    assert own.tokens.tolist() == [7]
    np.testing.assert_allclose(own.values[:, 0], [0.8, 0.6, 0.2, 0.0])
    found = search([own], [labels(2, 2)], 5000, 0)
    (only,) = found.found
    assert (only.template, only.token, only.partition, only.group) == (0, 7, 0, 0)
    assert only.difference == pytest.approx(0.6)
    assert only.p == pytest.approx(1 / 3, abs=0.03)
    # The variance of the four is 0.4 / 3; the spread is its root times the root of 4 / (2 * 2).
    assert found.strongest == pytest.approx(0.6 / np.sqrt(0.4 / 3))
    assert only.baseline == pytest.approx(0.6) and found.null == pytest.approx(found.strongest)
    assert found.columns == 1


@settings(max_examples=25, deadline=None)
@given(arrays(float, (5, 2), elements=st.floats(-1, 1)), st.sampled_from([(2, 3), (3, 2), (1, 4), (1, 2, 2)]))
def test_spread_and_reach_are_those_of_all_exchanges(values, groups):
    partition = labels(*groups)
    sizes = np.array(groups, dtype=float)
    found = np.array([[[difference(values[:, token], dealt == group) for token in range(2)]
                       for group in range(len(groups))] for dealt in exchanges(partition)])  # fmt: skip
    np.testing.assert_allclose(shifts.spread(values, sizes), found.std(axis=0), atol=1e-7)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(shifts.within_reach(values, sizes), found.max(axis=(0, 1)), atol=1e-9)
    own = shifts.differences(values, shifts._members(partition.labels))
    np.testing.assert_allclose(own, found[0], atol=1e-9)


def brute_force(templates, partitions, permutations, seed):
    """Step-down p of every (template, token, partition, group), without chunks, matrices or pruning of ranks."""
    dealt = [np.random.default_rng([seed, number]).permuted(np.tile(each.labels, (permutations, 1)), axis=1)
             for number, each in enumerate(partitions)]  # fmt: skip
    columns = {}
    for template, own in enumerate(templates):
        for number, partition in enumerate(partitions):
            for place, token in enumerate(own.tokens.tolist()):
                values = own.values[partition.rows, place]
                groups = range(partition.labels.max() + 1)
                sizes = [(partition.labels == group).sum() for group in groups]
                reach = [np.mean(sorted(values)[-size:]) - np.mean(sorted(values)[:-size]) for size in sizes]
                if max(reach) < LEAST:
                    continue
                width = [
                    np.sqrt(np.var(values, ddof=1) * len(values) / (size * (len(values) - size))) for size in sizes
                ]
                seen = [difference(values, partition.labels == group) for group in groups]
                null = [max(difference(values, deal == group) / width[group] for group in groups)
                        for deal in dealt[number]]  # fmt: skip
                columns[template, token, number] = (seen, [s / w for s, w in zip(seen, width, strict=True)], null)
    order = sorted(columns, key=lambda key: -max(columns[key][1]))
    found, least = {}, 0.0
    for rank, key in enumerate(order):
        seen, quotients, _ = columns[key]
        largest = np.max([columns[other][2] for other in order[rank:]], axis=0)
        least = max(least, (1 + (largest >= max(quotients) - 1e-9).sum()) / (1 + permutations))
        for group, value in enumerate(seen):
            if value >= LEAST:
                own = (1 + (largest >= quotients[group] - 1e-9).sum()) / (1 + permutations)
                found[(*key, group)] = (value, max(least, own))
    return found, len(columns)


def some_templates(generator, subjects, templates, tokens):
    """Shifts of which some are larger for the first subjects."""
    values = generator.normal(0, 0.1, (templates, subjects, tokens))
    values[0, :4, 0] += 0.6
    values[1, 4:7, 2] += 0.3
    return [Shifts(np.arange(tokens) * 3, each) for each in values]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_brute_force(seed, monkeypatch):
    """With every column ranked, and with exchanges done a few at a time."""
    templates = some_templates(np.random.default_rng(seed), 12, 3, 5)
    partitions = [labels(4, 4, 4), Labels(np.array([1, 4, 6, 9, 11]), np.array([0, 1, 0, 1, 1]))]
    expected, columns = brute_force(templates, partitions, 60, seed)
    for held in (1 << 22, 100):
        monkeypatch.setattr(shifts, "_HELD", held)
        found = search(templates, partitions, 60, seed)
        assert found.columns == columns
        own = {(e.template, e.token, e.partition, e.group): (e.difference, e.p) for e in found.found}
        assert own.keys() == expected.keys()
        for key, (value, p) in expected.items():
            assert own[key] == (pytest.approx(value), pytest.approx(p)), key
        assert [e.difference for e in found.found] == sorted((e.difference for e in found.found), reverse=True)


def test_only_the_strongest_get_a_p_and_it_is_the_same(monkeypatch):
    templates = some_templates(np.random.default_rng(3), 12, 3, 5)
    whole = search(templates, [labels(4, 4, 4)], 60, 0)
    monkeypatch.setattr(shifts, "STRONGEST", 4)
    few = search(templates, [labels(4, 4, 4)], 60, 0)
    assert 0 < len(few.found) < len(whole.found) and few.columns == whole.columns == 15
    assert set(few.found) <= set(whole.found)


def test_a_strong_association_does_not_hide_a_weaker_one():
    """Many tokens that tell the groups apart perfectly, as a pack's own answers do, and one that does so less."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 0.02, (20, 9))
    values[:10, :8] += 0.9
    values[:10, 8] += 0.08
    found = search([Shifts(np.arange(9), values)], [labels(10, 10)], 400, 0)
    weak = next(each for each in found.found if each.token == 8)
    assert weak.p <= 0.01 and weak.difference < 0.2


def test_false_findings_are_as_rare_as_promised():
    """Nothing but noise, of all sizes and skewed, in 200 searches: any finding at 5% in about ten of them."""
    wrong = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        noise = generator.standard_exponential((15, 30)) ** 2 * generator.uniform(0.02, 0.3, 30)
        found = search([Shifts(np.arange(30), noise)], [labels(5, 5, 5)], 99, seed)
        wrong += any(each.p <= 0.05 for each in found.found)
    # Beyond 20 of 200 at a true rate of 5%: less than one in five hundred.
    assert wrong <= 20


def test_nothing_moved_and_nobody_to_compare():
    still = Shifts(np.arange(2), np.zeros((6, 2)))
    assert search([still], [labels(3, 3)], 10, 0) == Search((), 0, None, None)
    loud = Shifts(np.arange(2), np.ones((6, 2)))
    assert search([loud], [], 10, 0) == Search((), 0, None, None)
    assert search([loud], [labels(3, 3)], 10, 0).found == (), "what moves for all alike is no difference"
    none = Shifts(np.empty(0, dtype=int), np.empty((6, 0)))
    assert search([none], [labels(3, 3)], 10, 0).columns == 0


def test_what_moved_for_everybody_is_what_moved_least():
    values = np.array([[0.5, 0.4], [0.3, 0.4], [0.9, -0.2]])
    groups = [np.array([0, 1]), np.array([2])]
    found = moved_for_all([Shifts(np.array([5, 8]), values)], groups, -1.0)
    assert [(each.template, each.token, each.group, each.p) for each in found] == [
        (0, 5, None, None),
        (0, 8, None, None),
    ]
    np.testing.assert_allclose([each.difference for each in found], [0.4, -0.2])
    assert [each.token for each in moved_for_all([Shifts(np.array([5, 8]), values)], groups, 0.1)] == [5]


def test_a_rise_in_every_text_by_hand():
    """Four texts: 0.2 more in each, so one exchange of signs in sixteen is as high; 0.8 in one text alone, so one in
    two; 0.1 up and down; and too little. Two columns are tested with the first, so its p is above a sixteenth."""
    values = np.array([[0.2, 0.8, 0.1, 0.01], [0.2, 0.0, -0.1, 0.01], [0.2, 0.0, 0.1, 0.01], [0.2, 0.0, -0.1, 0.01]])
    first, second = sorted(rises(values, 4000, 0), key=lambda each: each.token)
    assert (first.token, second.token) == (0, 1)
    assert (first.difference, second.difference) == pytest.approx((0.2, 0.2))
    # Alone: 1/16 and 1/2. The mean over its standard deviation is 2 for the first, as the others' never is but at 1/8.
    (alone,) = rises(values[:, :1], 4000, 0)
    assert alone.p == pytest.approx(1 / 16, abs=0.015) and rises(values[:, 1:2], 4000, 0)[0].p == pytest.approx(
        0.5, abs=0.03
    )
    assert alone.p <= first.p <= second.p and alone.baseline == pytest.approx(0.2)
    assert rises(values[:, 2:], 100, 0) == [] and rises(np.zeros((0, 0)), 100, 0) == []


def test_two_models_that_differ_by_chance_make_no_more_rises_than_promised():
    """The larger p of each world is uniform at least: in at most about one of twenty any column rises at 5%."""
    random, hits = np.random.default_rng(3), 0
    for world in range(200):
        values = random.normal(0, 0.3, (30, 12)) * random.choice([0.2, 1.0, 3.0], (1, 12))
        hits += any(each.p <= 0.05 for each in rises(values, 199, world))
    assert hits <= 20
