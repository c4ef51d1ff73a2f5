"""A factorised approximation of the max-margin program, for tables beyond the exact solver, with a proven gap.

Source: docs/predicting.md, "The factorised approximation".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize

from spillover.theory.certificate import lower_bound
from spillover.theory.norms import Nuclear
from spillover.theory.table import Problem

#: Columns of the factors at most, and cells taken at a time.
RANK, BLOCK = 512, 2048
#: Penalties of a lead that falls short, one after the other, and iterations for each; ends at a gap of ENOUGH.
PENALTIES, ITERATIONS, ENOUGH = (0.3, 1.0, 3.0, 10.0, 30.0), 200, 0.01
#: Products of numbers that the iterations may cost: about ten minutes on two cores.
MOST_PRODUCTS = 2e13
#: Numbers that the multipliers of the certificate may hold.
MOST_NUMBERS = 2 * 10**8


@dataclass(frozen=True, eq=False)
class Factorised:
    """matrix: (answer, column), smallest stated margin 1. gap: (upper - lower) / upper of its nuclear norm."""

    matrix: Float[np.ndarray, "answer column"]
    rank: int
    gap: float


def affordable(problem: Problem) -> bool:
    """Whether the iterations and the certificate fit into minutes and memory."""
    rank = min(RANK, problem.answers, problem.columns)
    products = 6 * problem.cells * problem.answers * rank * ITERATIONS * len(PENALTIES)
    numbers = problem.cells * problem.answers + problem.columns * problem.answers
    return products <= MOST_PRODUCTS and numbers <= MOST_NUMBERS


def factorised(problem: Problem, rank: int = RANK, seed: int = 0) -> Factorised | None:
    """Factors U, V that minimise (|U|^2 + |V|^2) / 2 plus a growing penalty on every lead below 1.

    The least of (|U|^2 + |V|^2) / 2 over U V^T = M is the nuclear norm of M, and penalty times shortfall are
    multipliers, which bound the least norm from below whatever the iterations did. None when some stated answer still
    does not lead at the end.
    """
    rank = min(rank, problem.answers, problem.columns)
    start = np.random.default_rng(seed).standard_normal(rank * (problem.answers + problem.columns))
    factors = 0.3 * start / np.sqrt(rank)
    matrix, upper, lower = None, np.inf, 0.0
    for penalty in PENALTIES:
        factors = _minimised(problem, factors, rank, penalty)
        left, right = _apart(problem, factors, rank)
        product = left @ right.T
        lower = max(lower, lower_bound(problem, Nuclear(), penalty * _shortfall(problem, left, right)))
        margin = float(problem.margins(product).min())
        size = _size(left, right) / margin if margin > 0 else np.inf
        if size < upper:
            matrix, upper = product / margin, size
        if matrix is not None and 1 - lower / upper <= ENOUGH:
            break
    return Factorised(matrix, rank, max(0.0, 1 - lower / upper)) if matrix is not None else None


def _minimised(
    problem: Problem, factors: Float[np.ndarray, "value"], rank: int, penalty: float
) -> Float[np.ndarray, "value"]:
    found = optimize.minimize(
        lambda values: _loss(problem, values, rank, penalty),
        factors,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "maxcor": 12},
    )
    return np.asarray(found.x)


def _size(left: Float[np.ndarray, "answer rank"], right: Float[np.ndarray, "column rank"]) -> float:
    """The nuclear norm of a product: that of the small middle between the orthogonal parts of its factors."""
    middle = np.linalg.qr(left)[1] @ np.linalg.qr(right)[1].T
    return float(np.linalg.svd(middle, compute_uv=False).sum())


def _apart(
    problem: Problem, values: Float[np.ndarray, "value"], rank: int
) -> tuple[Float[np.ndarray, "answer rank"], Float[np.ndarray, "column rank"]]:
    """U and V out of one vector."""
    cut = problem.answers * rank
    return values[:cut].reshape(problem.answers, rank), values[cut:].reshape(problem.columns, rank)


def _inputs(problem: Problem, right: np.ndarray, cells: slice) -> Float[np.ndarray, "cell rank"]:
    """V^T (e_s + e_r) of some cells, for subject columns over the root of their size."""
    subject, relation = problem.cell_subject[cells], problem.cell_relation[cells]
    return right[subject] / np.sqrt(problem.sizes[subject])[:, None] + right[len(problem.sizes) + relation]


def _missing(problem: Problem, scores: np.ndarray, cells: slice) -> Float[np.ndarray, "cell answer"]:
    """By how much each stated answer's lead over each other falls short of 1; zero at the stated answer itself."""
    rows, answer = np.arange(len(scores)), problem.cell_answer[cells]
    found = np.maximum(1 - scores[rows, answer][:, None] + scores, 0)
    found[rows, answer] = 0
    return found


def _shortfall(problem: Problem, left: np.ndarray, right: np.ndarray) -> Float[np.ndarray, "cell answer"]:
    everything = slice(None)
    return _missing(problem, _inputs(problem, right, everything) @ left.T, everything)


def _loss(problem: Problem, values: Float[np.ndarray, "value"], rank: int, penalty: float) -> tuple[float, np.ndarray]:
    """The penalised loss and its gradient, block of cells by block."""
    left, right = _apart(problem, values, rank)
    loss = 0.5 * float(values @ values)
    gradient = values.copy()
    left_gradient, right_gradient = _apart(problem, gradient, rank)
    for begin in range(0, problem.cells, BLOCK):
        cells = slice(begin, begin + BLOCK)
        given = _inputs(problem, right, cells)
        missing = _missing(problem, given @ left.T, cells)
        loss += 0.5 * penalty * float((missing * missing).sum())
        force = penalty * missing
        rows, answer = np.arange(len(force)), problem.cell_answer[cells]
        force[rows, answer] = -force.sum(axis=1)
        left_gradient += force.T @ given
        pulled = force @ left
        subject, relation = problem.cell_subject[cells], problem.cell_relation[cells]
        np.add.at(right_gradient, subject, pulled / np.sqrt(problem.sizes[subject])[:, None])
        np.add.at(right_gradient, len(problem.sizes) + relation, pulled)
    return loss, gradient
