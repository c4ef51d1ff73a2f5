import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.theory.norms import NORMS, norm_called, to_simplex


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
