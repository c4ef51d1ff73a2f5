"""Certificates by hand, and for matrices that nobody trusts; infeasible packs are proven so, by the rows to blame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from spillover.errors import UsageError
from spillover.packs.pack import Fact
from spillover.theory.certificate import certificate, checked_matrix, force_of, infeasibility, lower_bound
from spillover.theory.closed_form import closed_form
from spillover.theory.norms import NORMS
from spillover.theory.solving import certify
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, random_pack

PAIR = [("s", "r", "a"), ("t", "r", "b")]


def test_a_bound_by_hand():
    """s answers a, t answers b; lambda = 1 on both: columns (1, -1), (-1, 1) and 0, one singular value 2; 2 / 2 = 1.

    W = [[1/2, -1/2, 0], [-1/2, 1/2, 0]] has both margins 1 and the one singular value 1: it is optimal.
    """
    problem = table_of(pack_of(PAIR)).full_problem
    multipliers = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert np.allclose(problem.gather @ force_of(problem, multipliers), [[1, -1], [-1, 1], [0, 0]])
    matrix = np.array([[0.5, -0.5, 0], [-0.5, 0.5, 0]])
    for norm in NORMS.values():
        lower = lower_bound(problem, norm, multipliers)
        assert np.isclose(lower, 1)
        found = certificate(problem, norm, 3 * matrix, lower)
        assert (found.feasible, found.margin) == (True, 3)
        assert np.isclose(found.objective, 1)
        assert abs(found.gap) < 1e-12


def test_multipliers_that_make_no_sense_bound_nothing_falsely():
    problem = table_of(pack_of(PAIR)).problem
    assert lower_bound(problem, NORMS["nuclear"], -np.ones((2, 2))) == 0
    with_nonsense = np.array([[9.0, 1.0], [1.0, 9.0]])
    assert np.isclose(lower_bound(problem, NORMS["nuclear"], with_nonsense), 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(sorted(NORMS)))
def test_any_matrix_gets_valid_bounds(seed, norm):
    generator, exact = np.random.default_rng(seed), closed_form(EqualClasses(3, 1, 2), norm)
    pack = exact.task.pack()
    matrix = exact.matrix.dense() + generator.choice([0, 0.1, 1]) * generator.normal(size=(6, 11))
    found = certify(pack, matrix, norm).certificate
    assert found.lower_bound <= exact.objective * (1 + 1e-9)
    assert found.objective >= exact.objective * (1 - 1e-9)
    assert found.feasible == (found.margin > 0) == bool(np.isfinite(found.objective))
    assert 0 <= found.gap <= 1


def test_a_closed_form_is_certified_and_asked():
    exact = closed_form(EqualClasses(4, 1, 3), "nuclear")
    found = certify(exact.task.pack(), exact.matrix.dense())
    assert found.certificate.gap <= 1e-4
    assert [answer.predicted for answer in found.questions[:3]] == ["c0"] * 3
    assert np.allclose([answer.margin for answer in found.questions], exact.margin)
    assert np.allclose([answer.ocr_margin for answer in found.questions], exact.margin)


def test_a_matrix_that_states_too_little_is_told_so():
    found = certify(pack_of(PAIR), np.zeros((2, 3)))
    assert not found.certificate.feasible
    assert found.certificate.gap == 1
    assert "Not feasible" in found.verdict


def test_a_pack_that_nothing_states_is_told_so():
    found = certify(pack_of([*PAIR, ("s", "r", "b")]), np.zeros((2, 3)))
    assert len(found.rows) == 2
    assert found.verdict.startswith("Infeasible")


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((3, 2)), "shape 3 x 2, but this pack needs 2 x 3"),
        (np.zeros(6), "shape 6, but"),
        (np.array([[0, np.nan, 1], [0, 1, np.inf]]), "2 of its numbers are not finite, the first at row 0, column 1"),
        (np.array([["a"] * 3] * 2), "not numbers"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused_in_a_sentence(matrix, words):
    with pytest.raises(UsageError, match=words):
        checked_matrix(table_of(pack_of(PAIR)), matrix)


def test_random_matrices_of_random_packs():
    for seed in range(10):
        pack = random_pack(seed)
        table = table_of(pack)
        shape = (len(table.answers), len(table.subjects) + len(table.relations))
        found = certify(pack, np.random.default_rng(seed).normal(size=shape))
        assert found.certificate.lower_bound >= 0
        assert sum(answer.count for answer in found.questions) == len(pack.questions)


EXCLUSIVE_OR = [("s", "r1", "a"), ("s", "r2", "b"), ("t", "r1", "b"), ("t", "r2", "a")]
CYCLE = [("s", "r1", "a"), ("s", "r2", "b"), ("t", "r1", "b"), ("t", "r2", "c"), ("u", "r1", "c"), ("u", "r2", "a")]


def test_a_contradiction_names_every_row_of_it():
    proof = infeasibility(table_of(pack_of([("s", "r", "a"), ("t", "r", "b"), ("s", "r", "b"), ("u", "q", "c")])))
    assert proof.rows == (Fact("s", "r", "a"), Fact("s", "r", "b"))
    assert proof.contradiction
    assert np.allclose(proof.weights, 0.5)
    assert proof.residual == 0


@pytest.mark.parametrize("rows", [EXCLUSIVE_OR, CYCLE])
def test_an_exclusive_or_names_its_rows_and_no_others(rows):
    others = [("v", "r1", "d"), ("v", "r2", "e"), ("w", "r1", "a")]
    proof = infeasibility(table_of(pack_of(others + rows)))
    assert set(proof.rows) == {Fact(*row) for row in rows}
    assert not proof.contradiction
    assert proof.residual < 1e-12
    assert (proof.weights > 0).all()
    assert np.isclose(proof.weights.sum(), 1)


def test_leaving_out_any_row_of_an_exclusive_or_makes_it_feasible():
    for left_out in range(4):
        rows = [row for index, row in enumerate(EXCLUSIVE_OR) if index != left_out]
        assert infeasibility(table_of(pack_of(rows))) is None


def feasible_by_program(table):
    """All constraints at once as a linear program, nothing left out."""
    problem, scores = table.problem, table.problem.design.toarray()
    rows = []
    for cell, answer in enumerate(problem.cell_answer):
        for rival in range(problem.answers):
            if rival != answer:
                pick = np.zeros((problem.answers, 1))
                pick[answer], pick[rival] = -1, 1
                rows.append((pick * scores[cell]).ravel())
    if not rows:
        return True
    free = linprog(np.zeros(len(rows[0])), np.array(rows), -np.ones(len(rows)), bounds=(None, None))
    return free.status == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("stuv"), st.sampled_from(["r1", "r2", "r3"]), st.sampled_from("abcd")),
        min_size=1,
        max_size=12,
    )
)
def test_the_reduction_decides_as_the_whole_program_does(rows):
    table = table_of(pack_of(rows))
    proof = infeasibility(table)
    assert (proof is None) == feasible_by_program(table)
    if proof is not None:
        assert proof.residual < 1e-9
