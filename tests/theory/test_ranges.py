"""How far a margin may move: known values, both norms, and outer bounds that no matrix escapes."""

from dataclasses import replace

import numpy as np
import pytest

from spillover.theory.closed_form import closed_form
from spillover.theory.norms import NORMS
from spillover.theory.splitting import RangeSolver, minimise
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import lead, table_of


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
