"""The exact model of a table for prediction: whole, in parts that do not touch, or factorised with a proven gap.

Source: docs/predicting.md, "How large a pack can be".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse
from scipy.sparse.csgraph import connected_components

from spillover.theory.certificate import lower_bound
from spillover.theory.feasibility import infeasibility
from spillover.theory.norms import NORMS, Norm
from spillover.theory.ranges import RangeSolver
from spillover.theory.splitting import minimise
from spillover.theory.table import FactTable, Problem

Method = Literal["exact", "by parts", "factorised", "none"]
NUCLEAR = NORMS["nuclear"]
#: Unknowns, cells and columns times answers, up to which a problem is solved as a whole.
WHOLE = 1_500_000
#: Iterations times unknowns that a solution may cost, about ten minutes on one core, and the bounds of the former.
MOST_WORK, FEWEST, MOST = 4 * 10**9, 60, 5000


@dataclass(frozen=True, eq=False)
class Solved:
    """A matrix that states the table, how near the least norm it is, and how it was found.

    matrix: (answer, column) of the compressed problem, smallest stated margin 1, dense or sparse; None when there is
    none. gap: (upper - lower) / upper, both proven. verdict: a sentence. ranges: moves single margins; only of a table
    solved as a whole.
    """

    table: FactTable
    method: Method
    verdict: str
    matrix: Float[np.ndarray, "answer column"] | sparse.csc_matrix | None = None
    gap: float | None = None
    ranges: RangeSolver | None = None

    def scores(
        self, signature: Int[np.ndarray, "row"], relation: Int[np.ndarray, "row"]
    ) -> Float[np.ndarray, "row answer"]:
        """Logits of every answer at pairs of signature and relation."""
        assert self.matrix is not None
        problem = self.table.problem
        parts = (self.matrix[:, signature], self.matrix[:, len(problem.sizes) + relation])
        subject, of_relation = (part if isinstance(part, np.ndarray) else part.toarray() for part in parts)
        return np.asarray(subject.T / np.sqrt(problem.sizes[signature])[:, None] + of_relation.T)


def unknowns(problem: Problem) -> int:
    """How many numbers one step of the exact solver moves."""
    return problem.answers * (problem.columns + problem.cells)


def solved(table: FactTable, gap: float = 1e-6, whole: int = WHOLE) -> Solved:
    """The matrix of least nuclear norm that states the table, by the best method within reach.

    gap: how near the least norm, relatively, the iterations try to come. whole: unknowns up to which a problem is
    solved as a whole. A table that cannot be stated gets method none, and a verdict that says why.
    """
    if unknowns(table.problem) <= whole:
        return as_a_whole(table, NUCLEAR, gap)
    label = parts(table.problem)
    if label.max() and max(unknowns(part) for part, _, _ in split(table.problem, label)) <= whole:
        return _by_parts(table, label, gap)
    if not affordable(table.problem):
        what = f"{len(table.problem.sizes):,} kinds of subject by {table.problem.answers:,} answers"
        return Solved(table, "none", f"Beyond reach: {what}. Scores rest on support alone, and on the prior if asked.")
    found = factorised(table.problem)
    if found is None:
        return Solved(table, "none", "The factorised approximation did not state the pack within its iterations.")
    proven = f"the norm is proven to be within {found.gap:.2g} of the least possible."
    verdict = f"Approximated with factors of rank {found.rank}: {proven}"
    return Solved(table, "factorised", verdict, found.matrix, found.gap)


def iterations(work: int) -> int:
    """How many iterations a problem with `work` unknowns gets."""
    return max(FEWEST, min(MOST, MOST_WORK // max(1, work)))


def as_a_whole(table: FactTable, norm: Norm, gap: float) -> Solved:
    """The matrix of least norm, found without cutting the problem up."""
    if (proof := infeasibility(table)) is not None:
        return Solved(table, "none", proof.verdict)
    optimum = minimise(table.problem, norm, gap, iterations(unknowns(table.problem)))
    if optimum.matrix is None:
        return Solved(table, "none", f"No matrix that states the pack was met in {optimum.iterations} iterations.")
    reached = optimum.gap(norm)
    solver = RangeSolver(table.problem, norm, optimum) if optimum.lower > 0 else None
    how = "Solved exactly" if reached <= gap else f"Stopped after {optimum.iterations:,} iterations"
    verdict = f"{how}: the norm is proven to be within {reached:.2g} of the least possible."
    return Solved(table, "exact", verdict, optimum.matrix, reached, solver)


#: A problem of its own within a larger one, and which answers and columns of that one are its own, by number.
SubProblem = tuple[Problem, np.ndarray, np.ndarray]


def parts(problem: Problem) -> Int[np.ndarray, "column"]:
    """The part that each column belongs to: columns are joined by a cell, and by an answer that both state."""
    columns, answers = problem.columns, problem.answers
    relation = len(problem.sizes) + problem.cell_relation
    start = np.concatenate([problem.cell_subject, relation])
    end = np.concatenate([relation, columns + problem.cell_answer])
    size = columns + answers
    graph = sparse.coo_matrix((np.ones(len(start)), (start, end)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:columns]
    return np.unique(label, return_inverse=True)[1]


def split(problem: Problem, label: Int[np.ndarray, "column"]) -> list[SubProblem]:
    """The parts that state anything, each with the answers stated in it."""
    cell_label = label[problem.cell_subject]
    found = []
    for number in range(int(label.max()) + 1):
        cells = np.flatnonzero(cell_label == number)
        if not len(cells):
            continue
        columns = np.flatnonzero(label == number)
        signatures = columns[columns < len(problem.sizes)]
        relations = columns[columns >= len(problem.sizes)] - len(problem.sizes)
        answers = np.unique(problem.cell_answer[cells])
        own = Problem(
            len(answers),
            len(relations),
            problem.sizes[signatures],
            np.searchsorted(signatures, problem.cell_subject[cells]),
            np.searchsorted(relations, problem.cell_relation[cells]),
            np.searchsorted(answers, problem.cell_answer[cells]),
        )
        found.append((own, answers, columns))
    return found


def _by_parts(table: FactTable, label: Int[np.ndarray, "column"], gap: float) -> Solved:
    """Every part's solution at its own place of a matrix that is zero elsewhere.

    Its norm is the sum of the parts' norms, and the parts' multipliers together prove the sum of their bounds. It
    states the table where every stated answer's score is above zero, the score of answers of other parts.
    """
    problem, pieces = table.problem, split(table.problem, label)
    most = iterations(sum(unknowns(part) for part, _, _ in pieces))
    optima = [minimise(part, NUCLEAR, gap, most) for part, _, _ in pieces]
    matrices = [optimum.matrix for optimum in optima if optimum.matrix is not None]
    if len(matrices) < len(pieces):
        return Solved(table, "none", "One part of the pack cannot be stated, or was not within the iterations.")
    least = min(
        float(part.scores(own, part.cell_subject, part.cell_relation)[np.arange(part.cells), part.cell_answer].min())
        for (part, _, _), own in zip(pieces, matrices, strict=True)
    )
    if least <= 0:
        return Solved(table, "none", "The parts' solutions do not state the pack when put together.")
    unit = min(1.0, least)
    upper, lower = sum(each.upper for each in optima) / unit, sum(each.lower for each in optima)
    reached = 1 - lower / upper
    rows = np.concatenate([np.repeat(answers, len(columns)) for _, answers, columns in pieces])
    places = np.concatenate([np.tile(columns, len(answers)) for _, answers, columns in pieces])
    values = np.concatenate([matrix.ravel() for matrix in matrices]) / unit
    matrix = sparse.csc_matrix((values, (rows, places)), shape=(problem.answers, problem.columns))
    verdict = (
        f"Solved in {len(pieces)} parts that share no answer, relation or subject: "
        f"the norm is proven to be within {reached:.2g} of the least possible."
    )
    return Solved(table, "by parts", verdict, matrix, reached)


#: Columns of the factors at most, and cells taken at a time.
RANK, BLOCK = 512, 2048
#: Penalties of a lead that falls short, one after the other, and iterations for each; ends at a gap of ENOUGH.
PENALTIES, ITERATIONS, ENOUGH = (0.3, 1.0, 3.0, 10.0, 30.0), 200, 0.01
#: Products of numbers that the iterations may cost: about ten minutes on two cores.
MOST_PRODUCTS = 2e13
#: Numbers that the multipliers of the certificate may hold.
MOST_NUMBERS = 2 * 10**8


class Factorised(NamedTuple):
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
        factors = optimize.minimize(
            lambda values, penalty=penalty: penalised_loss(problem, values, rank, penalty),
            factors,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": ITERATIONS, "maxcor": 12},
        ).x
        left, right = _apart(problem, factors, rank)
        product = left @ right.T
        missing = _missing(problem, _inputs(problem, right, slice(None)) @ left.T, slice(None))
        lower = max(lower, lower_bound(problem, NUCLEAR, penalty * missing))
        margin = float(problem.margins(product).min())
        # The nuclear norm of a product is that of the small middle between the orthogonal parts of its factors.
        middle = np.linalg.qr(left)[1] @ np.linalg.qr(right)[1].T
        size = float(np.linalg.svd(middle, compute_uv=False).sum()) / margin if margin > 0 else np.inf
        if size < upper:
            matrix, upper = product / margin, size
        if matrix is not None and 1 - lower / upper <= ENOUGH:
            break
    return Factorised(matrix, rank, max(0.0, 1 - lower / upper)) if matrix is not None else None


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


def penalised_loss(
    problem: Problem, values: Float[np.ndarray, "value"], rank: int, penalty: float
) -> tuple[float, np.ndarray]:
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
