"""Solve a max-margin program to a certified gap: splitting, accelerated, watched by both bounds.

Source: docs/theory.md, "The splitting method" and "Certificates".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from spillover.errors import UsageError
from spillover.theory.certificate import lower_bound
from spillover.theory.norms import Norm
from spillover.theory.solvers.anderson import Anderson
from spillover.theory.solvers.splitting import Columns, Splitting, Step
from spillover.theory.table import Problem

#: How strongly the matrix and its copy pull on each other, and how much more the cells pull (for sizes near 2).
WEIGHT, BALANCE = 0.3, 1.0
#: Cells that may pull on one relation at full strength; more share that strength, or its column would hardly move.
FEW_CELLS = 60
#: Numbers that the states remembered may hold together (4 GB of float64).
MOST_NUMBERS = 5 * 10**8
#: Above this length a step costs so much more than its memory that twice the memory pays.
LONG_STATE = 10**5
#: Fewest iterations between two looks at the bounds, and how many more for every factor of ten that the gap lacks.
LOOK_EVERY, LOOK_LATER = 5, 5


@dataclass(frozen=True, eq=False)
class Optimum:
    """What the iteration ended with.

    matrix: (answer, column), feasible and scaled to smallest margin 1, or None when no feasible matrix was met.
    multipliers: (cell, answer), non-negative. upper and lower bound the least norm, whatever the iteration did.
    """

    matrix: Float[np.ndarray, "answer column"] | None
    multipliers: Float[np.ndarray, "cell answer"]
    upper: float
    lower: float
    iterations: int

    def gap(self, norm: Norm) -> float:
        """(upper - lower) / upper of the objective, which is the norm to its power; 1 while nothing is known."""
        if self.upper == 0:
            return 0.0
        return 1 - (self.lower / self.upper) ** norm.power if np.isfinite(self.upper) else 1.0


def minimise(problem: Problem, norm: Norm, gap: float = 1e-4, max_iterations: int = 20_000) -> Optimum:
    """The matrix of least norm in which every stated answer leads by 1, to a relative gap, or the best met till then.

    problem: must be feasible (docs/theory.md, "Infeasible packs"), or the iterations run out.
    """
    nothing = np.zeros((problem.cells, problem.answers))
    if problem.answers < 2 or problem.cells == 0:
        return Optimum(np.zeros((problem.answers, problem.columns)), nothing, 0.0, 0.0, 0)
    best = Optimum(None, nothing, np.inf, 0.0, 0)
    splitting = Splitting(problem, norm.shrink, *steps(problem))
    accelerated, state = Anderson(splitting.length, memory_for(splitting.length)), splitting.start()
    look = 4 * LOOK_EVERY
    for iteration in range(1, max_iterations + 1):
        found = splitting.step(state)
        if iteration >= look or iteration == max_iterations:
            best = replace(better(problem, norm, best, found, gap), iterations=iteration)
            if best.gap(norm) <= gap:
                break
            look = iteration + LOOK_EVERY + int(LOOK_LATER * np.log10(best.gap(norm) / gap))
        state = accelerated.next(state, found.state)
    return best


def memory_for(length: int) -> int:
    """Steps that the acceleration may remember. Raises UsageError when not even two states fit in 4 GB."""
    if length > MOST_NUMBERS // 4:
        raise UsageError(
            f"the compressed problem has {length:,} unknowns, more than this solver's {MOST_NUMBERS // 4:,}",
            where="solve",
            do="Take fewer answers or fewer kinds of subject",
        )
    return min(40 if length > LONG_STATE else 20, max(2, MOST_NUMBERS // (2 * length)))


def steps(problem: Problem) -> tuple[float, float]:
    """Weight and balance, in units of the signatures' mean size, which sets the scale of M."""
    size = float(problem.sizes.mean()) / 2
    share = min(1.0, FEW_CELLS * problem.relations / problem.cells) ** 1.5
    return WEIGHT / np.sqrt(size * np.sqrt(share)), BALANCE * size * share


def better(problem: Problem, norm: Norm, best: Optimum, found: Step, gap: float) -> Optimum:
    """The best of both bounds so far, given what one step found.

    X's size comes free; Y has the better margin, but its size is worth finding only where it may end the search.
    """
    multipliers = multipliers_of(problem, found.force)
    lower = lower_bound(problem, norm, multipliers)
    if lower > best.lower:
        best = replace(best, multipliers=multipliers, lower=lower)
    best = _if_smaller(best, found.matrix, float(problem.margins(found.matrix.T).min()), found.size)
    margin = float(problem.margins(found.agreed.T).min())
    if margin > 0 and replace(best, upper=found.size / margin).gap(norm) <= 2 * gap < 2 * best.gap(norm):
        best = _if_smaller(best, found.agreed, margin, norm.size(found.agreed))
    return best


def _if_smaller(best: Optimum, matrix: Columns, margin: float, size: float) -> Optimum:
    """The optimum with this matrix, scaled to margin 1, if that is feasible and of less size."""
    if margin <= 0 or size / margin >= best.upper:
        return best
    return replace(best, matrix=matrix.T / margin, upper=size / margin)


def multipliers_of(problem: Problem, force: Float[np.ndarray, "row answer"]) -> Float[np.ndarray, "cell answer"]:
    """The multipliers behind a step's force: minus its entries off each cell's answer, none of them negative."""
    found = np.maximum(-force[: problem.cells], 0)
    found[np.arange(problem.cells), problem.cell_answer] = 0
    return found
