"""Norms: sizes, duals and projections by hand and against their definitions; the mixed norm against one unknown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.theory.closed_form import exact_margin
from spillover.theory.norms import NORMS, Mixed, norm_called, to_simplex
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_a_norm_and_its_dual_bound_every_inner_product(norm, seed, rows, columns):
    one, other = np.random.default_rng(seed).normal(size=(2, rows, columns))
    assert (one * other).sum() <= norm.size(one) * norm.dual_size(other) + 1e-9


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_nothing_near_a_shrunken_matrix_is_better(norm, seed, rows, columns):
    generator = np.random.default_rng(seed)
    matrix, threshold = generator.normal(size=(rows, columns)), generator.uniform(0.1, 1)

    def value(candidate):
        size = norm.size(candidate)
        return threshold * (size if norm.power == 1 else size**2 / 2) + ((candidate - matrix) ** 2).sum() / 2

    found, size = norm.shrink(matrix, threshold)
    assert np.isclose(size, norm.size(found))
    for _ in range(20):
        assert value(found) <= value(found + generator.normal(size=matrix.shape) * 0.01) + 1e-9


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_nearest_matrix_of_a_ball(norm, seed):
    """A projection p of x satisfies <x - p, q - p> <= 0 for every q in the ball."""
    generator = np.random.default_rng(seed)
    matrix, other = generator.normal(size=(2, 4, 5))
    found = norm.ball(matrix, 1.0)
    assert norm.size(found) <= 1 + 1e-9
    inside = other / max(1.0, norm.size(other))
    assert ((matrix - found) * (inside - found)).sum() <= 1e-9
    assert np.array_equal(norm.ball(inside / 2, 1.0), inside / 2)


def test_a_simplex_by_hand():
    assert np.allclose(to_simplex(np.array([3.0, 2.0, 0.5]), 2.0), [1.5, 0.5, 0.0])


def test_an_unknown_norm_is_refused():
    with pytest.raises(UsageError, match=r"no norm called 'nuklear'\. Did you mean 'nuclear'"):
        norm_called("nuklear")


SHARES = st.floats(0.0, 1.0)
SEEDS = st.integers(0, 10_000)


def matrix_of(seed, rows=4, columns=6):
    return np.random.default_rng(seed).standard_normal((rows, columns))


def test_the_ends_are_the_two_norms():
    matrix = matrix_of(0)
    for share, name in ((0.0, "nuclear"), (1.0, "frobenius")):
        assert Mixed(share).size(matrix) == pytest.approx(norm_called(name).size(matrix))
        assert Mixed(share).dual_size(matrix) == pytest.approx(norm_called(name).dual_size(matrix))


@settings(max_examples=40, deadline=None)
@given(SHARES, SEEDS, SEEDS)
def test_no_inner_product_exceeds_norm_times_dual(share, first, second):
    one, other = matrix_of(first), matrix_of(second)
    assert (one * other).sum() <= Mixed(share).size(one) * Mixed(share).dual_size(other) * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(SHARES, SEEDS, st.floats(0.01, 3.0))
def test_shrinking_minimises(share, seed, threshold):
    norm, matrix = Mixed(share), matrix_of(seed)
    best, size = norm.shrink(matrix, threshold)
    assert size == pytest.approx(norm.size(best))

    def cost(candidate):
        return threshold * norm.size(candidate) + ((candidate - matrix) ** 2).sum() / 2

    for step in (1e-2, 1e-4):
        for other in (matrix_of(seed + 1), matrix, -best):
            assert cost(best) <= cost(best + step * other) + 1e-9


@settings(max_examples=20, deadline=None)
@given(SHARES, SEEDS)
def test_the_ball_is_reached_and_not_left(share, seed):
    norm, matrix = Mixed(share), matrix_of(seed)
    nearest = norm.ball(matrix, 0.5 * norm.size(matrix))
    assert norm.size(nearest) == pytest.approx(0.5 * norm.size(matrix), rel=1e-6)
    assert norm.ball(matrix, 2 * norm.size(matrix)) is matrix


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_one_unknown_is_enough_for_equal_classes(share):
    task, norm = EqualClasses(4, 1, 3), Mixed(share)
    problem = table_of(task.pack()).problem
    optimum = minimise(problem, norm, 1e-7, 4000)
    assert optimum.gap(norm) <= 1e-7
    test = int(np.argmax(problem.sizes))
    answers = np.sort(optimum.matrix[task.classes :, test] / np.sqrt(problem.sizes[test]))[::-1]
    assert answers[0] - answers[1] == pytest.approx(exact_margin(task, share), abs=2e-3)


def test_the_exact_margin_at_the_ends():
    assert exact_margin(EqualClasses(20, 1, 3), 0.0) == pytest.approx(3**-0.5, abs=1e-6)
    assert exact_margin(EqualClasses(20, 1, 3), 1.0) == pytest.approx(0, abs=1e-6)
    assert exact_margin(EqualClasses(5, 3, 2), 0.0) == pytest.approx(1, abs=1e-6)


def test_impossible_mixtures_are_refused():
    for call in (lambda: Mixed(1.5), lambda: Mixed(-0.1), lambda: exact_margin(EqualClasses(3, 1, 1), 2.0)):
        with pytest.raises(UsageError, match="Use 0 to 1"):
            call()
    with pytest.raises(UsageError, match="bridge"):
        exact_margin(EqualClasses(3, 0, 2), 0.5)
