"""Infeasible packs are proven so, feasible ones are solved, and the rows named are the ones to blame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from spillover.packs.pack import Fact
from spillover.theory.certificate import infeasibility
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of

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
