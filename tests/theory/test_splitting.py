"""The splitting method: its projections, and its optima against a pencil, a conic solver and the closed forms.

And how far a margin may move: known values, both norms, and outer bounds that no matrix escapes.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.theory.certificate import infeasibility, lower_bound
from spillover.theory.closed_form import closed_form
from spillover.theory.norms import NORMS
from spillover.theory.splitting import RangeSolver, into_cones, memory_for, minimise
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import lead, table_of
from tests import quick
from tests.theory.random_packs import pack_of, peer_optimum, random_pack


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
    assert np.allclose(problem.design @ matrix.T, problem.scores(matrix, problem.cell_subject, problem.cell_relation))


def test_one_subject_by_hand():
    """s answers a and not b: with column (x, -x) and relation (y, -y), 2x + 2y >= 1, so x = y = 1/4 by symmetry.

    The matrix [[1/4, 1/4], [-1/4, -1/4]] has the one singular value 1/2: nuclear 1/2, squared Frobenius 1/4.
    """
    problem = table_of(pack_of([("s", "r", "a")], {"r": ("b",)})).problem
    for norm in NORMS.values():
        found = minimise(problem, norm, 1e-8)
        assert np.allclose(found.matrix, [[0.25, 0.25], [-0.25, -0.25]], atol=1e-4)
        assert np.isclose(found.upper, 0.5, atol=1e-6)


def test_a_subject_repeated_weighs_more_by_hand():
    """Four equal subjects: 4 x^2 + y^2 is least with 2x + 2y = 1 at x = 1/10, y = 2/5; squared norm 2/5."""
    problem = table_of(pack_of([(f"s{i}", "r", "a") for i in range(4)], {"r": ("b",)})).problem
    found = minimise(problem, NORMS["frobenius"], 1e-10)
    assert np.isclose(found.upper**2, 0.4, atol=1e-8)
    assert np.allclose(found.matrix[0], [0.1 * 2, 0.4], atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", quick.first(range(50), 10))
def test_it_agrees_with_a_conic_solver(seed, norm):
    table = table_of(random_pack(seed))
    assert infeasibility(table) is None
    found = minimise(table.problem, NORMS[norm])
    assert found.gap(NORMS[norm]) <= 1e-4
    assert np.isclose(found.upper, peer_optimum(table.problem, norm), rtol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("task", [(2, 1, 1), (5, 1, 3), (4, 3, 2), (4, 0, 3), (20, 1, 3)])
def test_it_finds_the_closed_forms(task, norm):
    exact = closed_form(EqualClasses(*task), norm)
    found = minimise(table_of(exact.task.pack()).problem, NORMS[norm], 1e-6)
    assert found.gap(NORMS[norm]) <= 1e-6
    assert np.isclose(found.upper ** NORMS[norm].power, exact.objective, rtol=2e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(sorted(NORMS)))
def test_no_multipliers_bound_more_than_any_feasible_matrix_has(seed, name):
    generator, norm = np.random.default_rng(seed), NORMS[name]
    problem = table_of(random_pack(seed % 97)).problem
    multipliers = generator.exponential(size=(problem.cells, problem.answers)) ** 3 - 0.2
    matrix = minimise(problem, norm, 0.5).matrix + 0.05 * generator.normal(size=(problem.answers, problem.columns))
    margin = problem.margins(matrix).min()
    if margin > 0:
        assert lower_bound(problem, norm, multipliers) <= norm.size(matrix / margin) * (1 + 1e-9)


def test_running_out_of_iterations_is_told_with_the_true_gap():
    problem = table_of(EqualClasses(6, 1, 3).pack()).problem
    short, long = (minimise(problem, NORMS["nuclear"], 1e-9, limit) for limit in (15, 2000))
    assert short.iterations == 15
    assert short.gap(NORMS["nuclear"]) > 1e-6
    assert short.lower <= long.upper * (1 + 1e-12)
    assert long.gap(NORMS["nuclear"]) <= 1e-9


def test_a_problem_larger_than_memory_is_refused():
    assert memory_for(1000) == 20
    with pytest.raises(UsageError, match="unknowns"):
        memory_for(10**9)


def test_nothing_to_tell_apart_costs_nothing():
    found = minimise(table_of(pack_of([("s", "r", "only")])).problem, NORMS["nuclear"])
    assert (found.upper, found.lower, found.gap(NORMS["nuclear"])) == (0, 0, 0)


def range_solver(norm, slack, task=(4, 1, 3)):
    exact, table = closed_form(EqualClasses(*task), norm), table_of(EqualClasses(*task).pack())
    found = minimise(table.problem, NORMS[norm], 1e-8)
    optimum = exact.objective ** (1 / NORMS[norm].power)
    near = replace(found, upper=optimum * (1 + slack), lower=optimum)
    return table, RangeSolver(table.problem, NORMS[norm], near)


def first_question(table):
    questions = table.questions
    return (int(questions.signature[0]), int(questions.relation[0])), int(questions.expected[0]), table.candidates[1]


@pytest.mark.parametrize(
    ("slack", "low", "high"), [(1e-6, 0.571, 0.585), (1e-5, 0.556, 0.601), (1e-4, 0.510, 0.654), (1e-3, 0.366, 0.819)]
)
def test_the_flatness_of_the_nuclear_optimum(slack, low, high):
    table, solver = range_solver("nuclear", slack)
    found = solver.margin_range(*first_question(table))
    assert np.allclose(found, (low, high), atol=3e-3)
    assert found[0] < 1 / np.sqrt(3) < found[1]


@pytest.mark.parametrize("norm", NORMS)
def test_no_matrix_as_good_escapes_the_range(norm):
    """Random walks that stay feasible and within the size never leave the range."""
    table, solver = range_solver(norm, 1e-3)
    question, answer, among = first_question(table)
    low, high = solver.margin_range(question, answer, among)
    generator, problem = np.random.default_rng(0), table.problem
    matrix, met = solver.matrix, []
    for _ in range(3000):
        step = matrix + generator.normal(size=matrix.shape) * generator.choice([1e-2, 1e-3, 1e-4])
        margin = problem.margins(step).min()
        if margin > 0 and NORMS[norm].size(step / margin) <= solver.reach:
            matrix = step / margin
            scores = problem.scores(matrix, np.array([question[0]]), np.array([question[1]]))
            met.append(lead(scores, np.array([answer]), among)[0])
    assert len(met) > 10
    assert low <= min(met) <= max(met) <= high
