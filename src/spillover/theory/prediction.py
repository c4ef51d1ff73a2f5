"""The exact model of a table for prediction: whole, in parts that do not touch, or factorised with a proven gap.

Source: docs/predicting.md, "How large a pack can be".
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse
from scipy.sparse.csgraph import connected_components

from spillover.theory.certificate import infeasibility, lower_bound
from spillover.theory.norms import NORMS, Norm
from spillover.theory.splitting import RangeSolver, minimise
from spillover.theory.table import FactTable, Problem, Scores, Weights

Method = Literal["exact", "by parts", "factorised", "none"]
NUCLEAR = NORMS["nuclear"]
#: Unknowns, cells and columns times answers, up to which a problem is solved as a whole.
WHOLE = 1_500_000
#: Iterations times unknowns that a solution may cost, about ten minutes on one core, and the bounds of the former.
MOST_WORK, FEWEST, MOST = 4 * 10**9, 60, 5000


@dataclass(frozen=True, eq=False)
class Solved:
    """A matrix that states the table, how near the least norm it is, and how it was found.

    matrix: (answer, column) of the compressed problem, smallest stated margin 1, dense or sparse, or None. gap: (upper
    - lower) / upper, both proven. verdict: a sentence. ranges: moves single margins of a table solved as a whole.
    """

    table: FactTable
    method: Method
    verdict: str
    matrix: Weights | sparse.csc_matrix | None = None
    gap: float | None = None
    ranges: RangeSolver | None = None

    def scores(self, signature: Int[np.ndarray, "row"], relation: Int[np.ndarray, "row"]) -> Scores:
        """Logits of every answer at pairs of signature and relation."""
        assert self.matrix is not None
        return self.table.problem.scores(self.matrix, signature, relation)


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
    return factorised(table)


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
    relation, size = len(problem.sizes) + problem.cell_relation, problem.columns + problem.answers
    ends = (np.append(problem.cell_subject, relation), np.append(relation, problem.columns + problem.cell_answer))
    graph = sparse.coo_matrix((np.ones(len(ends[0])), ends), shape=(size, size))
    return np.unique(connected_components(graph, directed=False)[1][: problem.columns], return_inverse=True)[1]


def split(problem: Problem, label: Int[np.ndarray, "column"]) -> list[SubProblem]:
    """The parts that state anything, each with the answers stated in it."""
    found, cell_label = [], label[problem.cell_subject]
    for number in np.unique(cell_label):
        cells, columns = cell_label == number, np.flatnonzero(label == number)
        signatures, relations = np.split(columns, [np.searchsorted(columns, len(problem.sizes))])
        answers = np.unique(problem.cell_answer[cells])
        own = Problem(
            len(answers),
            len(relations),
            problem.sizes[signatures],
            np.searchsorted(signatures, problem.cell_subject[cells]),
            np.searchsorted(relations, len(problem.sizes) + problem.cell_relation[cells]),
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
    if any(optimum.matrix is None for optimum in optima):
        return Solved(table, "none", "One part of the pack cannot be stated, or was not within the iterations.")
    blocks = sparse.block_diag([optimum.matrix for optimum in optima], format="coo")
    answers, columns = (np.concatenate([piece[which] for piece in pieces]) for which in (1, 2))
    places = (answers[blocks.row], columns[blocks.col])
    whole = sparse.csc_matrix((blocks.data, places), shape=(problem.answers, problem.columns))
    least = float((problem.design @ whole.T)[np.arange(problem.cells), problem.cell_answer].min())
    if least <= 0:
        return Solved(table, "none", "The parts' solutions do not state the pack when put together.")
    unit = min(1.0, least)
    reached = 1 - sum(each.lower for each in optima) / (sum(each.upper for each in optima) / unit)
    verdict = (
        f"Solved in {len(pieces)} parts that share no answer, relation or subject: "
        f"the norm is proven to be within {reached:.2g} of the least possible."
    )
    return Solved(table, "by parts", verdict, whole / unit, reached)


Factors = Float[np.ndarray, "value"]
#: Columns of the factors at most, and cells taken at a time.
RANK, BLOCK = 512, 2048
#: Penalties of a lead that falls short, one after the other, and iterations for each; ends at a gap of ENOUGH.
PENALTIES, ITERATIONS, ENOUGH = (0.3, 1.0, 3.0, 10.0, 30.0), 200, 0.01
#: Products that the iterations may cost, about ten minutes on two cores; numbers that the certificate may hold.
MOST_PRODUCTS, MOST_NUMBERS = 2e13, 2 * 10**8


def affordable(problem: Problem) -> bool:
    """Whether the iterations and the certificate fit into minutes and memory."""
    rank = min(RANK, problem.answers, problem.columns)
    products = 6 * problem.cells * problem.answers * rank * ITERATIONS * len(PENALTIES)
    numbers = problem.cells * problem.answers + problem.columns * problem.answers
    return products <= MOST_PRODUCTS and numbers <= MOST_NUMBERS


def factorised(table: FactTable) -> Solved:
    """Factors U, V that minimise (|U|^2 + |V|^2) / 2 plus a growing penalty on every lead below 1.

    The least of (|U|^2 + |V|^2) / 2 over U V^T = M is the nuclear norm of M, and penalty times shortfall are
    multipliers, which bound the least norm from below whatever the iterations did.
    """
    problem, rank = table.problem, min(RANK, table.problem.answers, table.problem.columns)
    factors = 0.3 * np.random.default_rng(0).standard_normal(rank * (problem.answers + problem.columns)) / np.sqrt(rank)
    matrix, upper, lower = None, np.inf, 0.0
    for penalty in PENALTIES:
        loss, options = partial(penalised_loss, problem, penalty=penalty), {"maxiter": ITERATIONS, "maxcor": 12}
        factors = optimize.minimize(loss, factors, jac=True, method="L-BFGS-B", options=options).x
        left, right = np.split(factors.reshape(-1, rank), [problem.answers])
        product = left @ right.T
        missing = _missing(problem.design @ product.T, problem.cell_answer)
        lower = max(lower, lower_bound(problem, NUCLEAR, penalty * missing))
        margin = float(problem.margins(product).min())
        # The nuclear norm of a product is that of the small middle between the orthogonal parts of its factors.
        middle = np.linalg.qr(left)[1] @ np.linalg.qr(right)[1].T
        if margin > 0 and (size := NUCLEAR.size(middle) / margin) < upper:
            matrix, upper = product / margin, size
        if 1 - lower / upper <= ENOUGH:
            break
    if matrix is None:
        return Solved(table, "none", "The factorised approximation did not state the pack within its iterations.")
    gap = max(0.0, 1 - lower / upper)
    proven = f"the norm is proven to be within {gap:.2g} of the least possible."
    return Solved(table, "factorised", f"Approximated with factors of rank {rank}: {proven}", matrix, gap)


def _missing(scores: Scores, answer: Int[np.ndarray, "row"]) -> Scores:
    """By how much each stated answer's lead over each other falls short of 1; zero at the stated answer itself."""
    rows = np.arange(len(scores))
    found = np.maximum(1 - scores[rows, answer][:, None] + scores, 0)
    found[rows, answer] = 0
    return found


def penalised_loss(problem: Problem, values: Factors, penalty: float) -> tuple[float, Factors]:
    """(|U|^2 + |V|^2) / 2 plus half the penalty times the squared shortfalls, and its slope; U, V after each other."""
    loss, gradient = 0.5 * float(values @ values), values.copy()
    (left, right), (left_slope, right_slope) = (
        np.split(each.reshape(problem.answers + problem.columns, -1), [problem.answers]) for each in (values, gradient)
    )
    for begin in range(0, problem.cells, BLOCK):
        design, answer = problem.design[begin : begin + BLOCK], problem.cell_answer[begin : begin + BLOCK]
        given = design @ right
        force = _missing(given @ left.T, answer)
        loss += 0.5 * penalty * float((force * force).sum())
        force *= penalty
        force[np.arange(len(force)), answer] = -force.sum(axis=1)
        left_slope += force.T @ given
        right_slope += design.T @ (force @ left)
    return loss, gradient
