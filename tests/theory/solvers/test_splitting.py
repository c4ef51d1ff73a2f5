import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.theory.splitting import design, into_cones
from spillover.theory.table import table_of
from tests.theory.random_packs import random_pack


def test_a_projection_by_hand():
    """(0, 2, 1) with the first right: cut at t and raise to t + 1, where t + 1 = (2 - t) + (1 - t): t = 2/3."""
    found, level = into_cones(np.array([[0.0, 2.0, 1.0]]), np.array([0]))
    assert np.allclose(level, 2 / 3)
    assert np.allclose(found, [[5 / 3, 2 / 3, 2 / 3]])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), start=st.sampled_from([None, -5.0, 0.0, 5.0]))
def test_a_projection_is_the_nearest_point_from_any_start(seed, start):
    """<scores - found, other - found> <= 0 for every other point of the cone, and the found point is in it."""
    generator = np.random.default_rng(seed)
    scores, answer = generator.normal(size=(4, 5)) * 3, generator.integers(5, size=4)
    found, _ = into_cones(scores, answer, None if start is None else np.full(4, start))
    rows = np.arange(4)
    others = np.delete(found[0], answer[0])
    assert found[0, answer[0]] - others.max() >= 1 - 1e-9
    inside = generator.normal(size=(4, 5))
    inside[rows, answer] = inside.max(axis=1) + 1
    assert (((scores - found) * (inside - found)).sum(axis=1) <= 1e-9).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_map_gives_the_scores_of_the_cells(seed):
    problem = table_of(random_pack(seed)).problem
    matrix = np.random.default_rng(seed).normal(size=(problem.answers, problem.columns))
    assert np.allclose(design(problem) @ matrix.T, problem.scores(matrix, problem.cell_subject, problem.cell_relation))
