"""The exact solutions against numbers derived by hand, the published table, and each task's own full problem."""

import time
from math import isclose, sqrt

import cvxpy
import numpy as np
import pytest

from spillover.errors import UsageError
from spillover.theory.certificate import certificate, force_of
from spillover.theory.closed_form import closed_form, deep_form
from spillover.theory.norms import NORMS
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of

TASKS = [(2, 1, 1), (3, 1, 3), (4, 2, 2), (5, 1, 3), (3, 4, 1), (2, 2, 0), (3, 0, 2), (4, 0, 3), (6, 2, 5)]


def exact(n, train, test, norm):
    return closed_form(EqualClasses(n, train, test), norm)


def test_two_classes_by_hand():
    """n = 2, one train and one test subject a class: P e_1 = (1, -1)/2, so that the pattern is one direction.

    Its block [[1, 1], [1, 1]] has the one singular value 2; the relation columns +-1/2 have sqrt(8)/2 = sqrt 2.
    """
    found = exact(2, 1, 1, "nuclear")
    assert isclose(found.objective, 2 + sqrt(2), rel_tol=1e-12)
    wanted = [[0.5, 0.5, -0.5, -0.5, 0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, 0.5, -0.5]]
    wanted += [[0.5, 0.5, -0.5, -0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5, -0.5, 0.5]]
    assert np.allclose(found.matrix.dense(), wanted)
    # Frobenius: b block 4 columns of squared length 1/2, c block 2 of them, relations 8 entries of 1/4: 2 + 1 + 2.
    assert isclose(exact(2, 1, 1, "frobenius").objective, 5, rel_tol=1e-12)


def test_three_classes_by_hand():
    """n = 3, one train and three test: two copies of [[1, sqrt 3], [1, 1]], whose nuclear norm is 1 + sqrt 3.

    Its squared Frobenius norm is 6 and its determinant 1 - sqrt 3: |M|_*^2 = 6 + 2 (sqrt 3 - 1) = (1 + sqrt 3)^2.
    """
    found = exact(3, 1, 3, "nuclear")
    assert isclose(found.objective, 2 * (1 + sqrt(3)) + sqrt(3), rel_tol=1e-12)
    assert isclose(found.margin, 1 / sqrt(3), rel_tol=1e-12)
    assert isclose(found.margin_over_own_fact, 1 / sqrt(3) + (1 - 1 / sqrt(3)) / 3, rel_tol=1e-12)
    plain = exact(3, 1, 3, "frobenius")
    assert isclose(plain.objective, 2 * (2 + 3) + 3, rel_tol=1e-12)
    assert plain.margin == 0
    assert isclose(plain.margin_over_own_fact, 1 / 3, rel_tol=1e-12)


def test_without_a_bridge_by_hand():
    """n = 2, two lone subjects a class: N = 4, t = 4 / (2 * 2 * 5) = 1/5; sqrt 2 + sqrt(1/5), and 2 + 1/5 squared."""
    assert isclose(exact(2, 0, 2, "nuclear").objective, sqrt(2) + sqrt(1 / 5), rel_tol=1e-12)
    assert isclose(exact(2, 0, 2, "frobenius").objective, 2 + 1 / 5, rel_tol=1e-12)
    assert exact(2, 0, 2, "nuclear").margin == 0


@pytest.mark.parametrize(("n", "train", "test"), [*TASKS, (20, 1, 3), (10000, 25, 75), (7, 3, 0)])
def test_the_formulas(n, train, test):
    """The two optima as docs/theory.md prints them, to 1e-9."""
    level = n if train else n * test / (2 * n * (n * test + 1))
    nuclear = (n - 1) * (sqrt(train) + sqrt(test) if train < test else sqrt(2 * (train + test))) + sqrt(level)
    assert isclose(exact(n, train, test, "nuclear").objective, nuclear, rel_tol=1e-9)
    assert isclose(exact(n, train, test, "frobenius").objective, (n - 1) * (2 * train + test) + level, rel_tol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("n", "train", "test"), [*TASKS, (20, 1, 3), (10000, 25, 75)])
def test_the_multipliers_prove_it(n, train, test, norm):
    found = exact(n, train, test, norm)
    assert isclose(found.lower_bound, found.objective, rel_tol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("n", "train", "test"), TASKS)
def test_the_structured_matrix_is_feasible_and_of_the_norm_it_says(n, train, test, norm):
    found = exact(n, train, test, norm)
    table = table_of(found.task.pack())
    proof = certificate(table.full_problem, NORMS[norm], found.matrix.dense(), 0.0)
    assert isclose(proof.margin, 1, rel_tol=1e-12)
    assert isclose(proof.objective, found.objective, rel_tol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("n", "train", "test"), TASKS)
def test_the_combination_comes_from_allowed_multipliers(n, train, test, norm):
    """The solver's multipliers are non-negative by construction; at the optimum the structured bound is the same."""
    found = exact(n, train, test, norm)
    problem = table_of(found.task.pack()).problem
    solved = minimise(problem, NORMS[norm], 1e-7)
    size = NORMS[norm].dual_size(problem.gather @ force_of(problem, solved.multipliers))
    assert size > 0
    assert isclose(solved.lower ** NORMS[norm].power, found.lower_bound, rel_tol=1e-6)
    assert isclose(solved.upper ** NORMS[norm].power, found.objective, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("n", "train", "test", "nuclear", "square"),
    [
        (3, 1, 3, 7.1962, 13),
        (4, 2, 2, 10.4853, 22),
        (5, 1, 3, 13.1643, 25),
        (3, 0, 2, 3.2064, 4.1429),
        (4, 0, 3, 5.5358, 9.1154),
        (8, 1, 3, 21.9528, None),
        (12, 1, 3, 33.5167, None),
        (20, 1, 3, 56.3811, None),
    ],
)
def test_the_values_a_conic_solver_found(n, train, test, nuclear, square):
    assert round(exact(n, train, test, "nuclear").objective, 4) == nuclear
    if square is not None:
        assert round(exact(n, train, test, "frobenius").objective, 4) == square


DEEP = [(3, 1, 3), (20, 1, 19), (6, 2, 5), (4, 2, 2), (3, 0, 2), (2, 2, 0)]


def test_a_product_of_three_by_hand():
    """n = 2, one of each: the nuclear solution's values 2 and sqrt 2, both of rank one, to the power 2/3.

    One against three, n = 10,000: the level is one value of many, and the pattern alone has its least rank-one form, in
    which b_i leads by x = 3^(1/4) at train subjects and c_i by 1/x at test subjects: [[x, sqrt 3], [1, sqrt 3 / x]].
    """
    found = deep_form(EqualClasses(2, 1, 1), 3)
    assert isclose(found.objective, 2 ** (2 / 3) + 2 ** (1 / 3), rel_tol=1e-12)
    assert found.margin == 1
    many = deep_form(EqualClasses(10_000, 1, 3), 3)
    assert isclose(many.margin, (1 / 3) ** 0.25, abs_tol=1e-3)
    assert isclose(many.objective / 9_999, (1 + sqrt(3)) ** (2 / 3), rel_tol=2e-3)


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize(("n", "train", "test"), DEEP)
def test_a_deeper_product_states_the_task_and_lies_within_its_bound(n, train, test, depth):
    task = EqualClasses(n, train, test)
    found, plain = deep_form(task, depth), closed_form(task, "nuclear")
    proof = certificate(table_of(task.pack()).full_problem, NORMS["nuclear"], found.matrix.dense(), 0.0)
    assert isclose(proof.margin, 1, rel_tol=1e-9)
    assert found.lower_bound <= found.objective <= 1.012 * found.lower_bound
    assert found.margin >= plain.margin
    if 0 < train < test:
        assert (train / test) ** 0.25 < found.margin < 1


def test_depth_two_is_the_nuclear_norm():
    found, plain = deep_form(EqualClasses(5, 1, 3), 2), closed_form(EqualClasses(5, 1, 3), "nuclear")
    assert isclose(found.objective, plain.objective, rel_tol=1e-12)
    assert isclose(found.lower_bound, plain.objective, rel_tol=1e-12)
    assert found.margin == plain.margin


def test_a_conic_solver_finds_no_smaller_product():
    """Another way: the sum of powers as a weighted sum of squares on the full problem, weighted anew each time."""
    task, power = EqualClasses(3, 1, 3), 2 / 3
    problem = table_of(task.pack()).full_problem
    matrix, weight = cvxpy.Variable((6, 14)), cvxpy.Parameter((6, 6))
    leads = []
    for subject, relation, right in zip(problem.cell_subject, problem.cell_relation, problem.cell_answer, strict=True):
        score = matrix[:, subject] + matrix[:, 12 + relation]
        leads += [score[right] - score[other] for other in range(6) if other != right]
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(weight @ matrix)), [cvxpy.hstack(leads) >= 1])
    at = closed_form(task, "nuclear").matrix.dense()
    for smooth in np.geomspace(1e-1, 1e-8, 60):
        squares, turn = np.linalg.eigh(at @ at.T)
        weight.value = (turn * (np.maximum(squares, 0) + smooth) ** ((power - 2) / 4)) @ turn.T
        program.solve(solver="CLARABEL")
        at = np.asarray(matrix.value)
    values = np.linalg.svd(at, compute_uv=False)
    found = deep_form(task, 3)
    assert found.objective <= (values[values > 1e-4] ** power).sum() <= 1.001 * found.objective
    assert isclose(found.margin, 0.7876, abs_tol=1e-3)


def test_the_pattern_of_least_nuclear_norm_is_not_unique():
    """From the square root to the fourth root of train / test: only the relations' columns choose the square root."""
    lead, margin = cvxpy.Variable(), cvxpy.Variable()
    pattern = cvxpy.vstack([cvxpy.hstack([lead, sqrt(3)]), cvxpy.hstack([1.0, margin * sqrt(3)])])
    allowed = [cvxpy.normNuc(pattern) <= 1 + sqrt(3) + 1e-9, lead >= 1]
    goals = (cvxpy.Minimize(margin), cvxpy.Maximize(margin))
    ends = [cvxpy.Problem(goal, allowed).solve(solver="CLARABEL") for goal in goals]
    assert np.allclose(ends, [(1 / 3) ** 0.5, (1 / 3) ** 0.25], atol=2e-3)


def test_ten_thousand_classes_of_a_hundred_take_under_a_second():
    began = time.perf_counter()
    found = exact(10_000, 25, 75, "nuclear")
    assert found.objective > 0
    assert found.lower_bound > 0
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n=3",
        "n=1,train=1,test=1",
        "n=3,train=-1,test=2",
        "n=3,train=0,test=0",
        "n=3,train=1.5,test=2",
        "n=3,train=1,test=1,n=3",
        "n=3;train=1;test=1",
        "n=x,train=1,test=1",
        "n=3,train=1,test=1,seed=2",
    ],
)
def test_a_malformed_task_is_refused_in_a_sentence(text):
    with pytest.raises(UsageError, match=r"symbolic task: .+\."):
        EqualClasses.parse(text)


def test_a_task_is_read_in_any_order():
    assert EqualClasses.parse(" train=1, n=20 ,test=3") == EqualClasses(20, 1, 3)
