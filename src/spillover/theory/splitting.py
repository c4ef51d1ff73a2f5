"""Solve a max-margin program to a certified gap; and how far one margin can be moved by matrices that are no worse.

Source: docs/theory.md, "The splitting method" and "Ranges". Every range is an outer bound proven by multipliers: the
true one lies inside.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, sparse

from spillover.errors import UsageError
from spillover.theory.certificate import force_of, lower_bound
from spillover.theory.norms import Norm, to_simplex
from spillover.theory.table import Problem, Weights

Vector = Float[np.ndarray, "state"]
Columns = Float[np.ndarray, "column answer"]
Cells = Float[np.ndarray, "cell answer"]
Scores = Float[np.ndarray, "answer"]
#: (matrix, weight) -> the proximal matrix and its size.
Shrink = Callable[[Columns, float], tuple[Columns, float]]
#: (scores of one row, weight) -> the proximal scores.
Tilt = Callable[[Scores, float], Scores]
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
#: Growth of the residual at which an extrapolation is undone.
PATIENCE = 2.0


class Anderson:
    """Remembers the last steps of one iteration w -> g(w) and extrapolates them.

    A proposal whose residual |g(w) - w| is more than PATIENCE times the one before is undone: the iteration goes on
    from the last plain step, with its memory cleared. So the worst case is the plain iteration's.
    """

    def __init__(self, length: int) -> None:
        memory = memory_for(length)
        self.image_steps, self.residual_steps = np.zeros((2, memory, length))
        self.gram = np.zeros((memory, memory))
        self.forget()

    def forget(self) -> None:
        """Start again from nothing, as after the iteration itself has changed."""
        self.filled = 0
        self.previous: tuple[Vector, Vector] | None = None
        self.plain: Vector | None = None
        self.last = np.inf

    def next(self, point: Vector, image: Vector) -> Vector:
        """Where to evaluate next, given that the iteration maps `point` to `image`."""
        residual = image - point
        size = float(np.linalg.norm(residual))
        if self.plain is not None and size > PATIENCE * self.last:
            retreat = self.plain
            self.forget()
            return retreat
        previous, used = self.previous, min(self.filled, len(self.gram))
        self.previous, self.last, self.plain = (point, residual), size, image
        change = residual - previous[1] if previous is not None else np.zeros(0)
        if (length := float(np.linalg.norm(change))) > 0 and previous is not None:
            # The last step, scaled to a unit change of the residual, in place of the oldest.
            slot = self.filled % len(self.gram)
            np.divide(change, length, out=self.residual_steps[slot])
            self.image_steps[slot] = (point - previous[0] + change) / length
            self.filled += 1
            used = min(self.filled, len(self.gram))
            self.gram[slot, :used] = self.gram[:used, slot] = self.residual_steps[:used] @ self.residual_steps[slot]
        if not used:
            return image
        gram = self.gram[:used, :used] + 1e-8 * used * np.eye(used)
        return image - np.linalg.solve(gram, self.residual_steps[:used] @ residual) @ self.image_steps[:used]


class Iterate(NamedTuple):
    """What one step finds. matrix: X. size: its norm. agreed: Y.

    force: rho eta (Z - P), -lambda off the stated answer; asked: the same of the question, if there is one.
    """

    state: Vector
    matrix: Columns
    size: float
    agreed: Columns
    force: Cells
    asked: Float[np.ndarray, "question answer"]


def into_cones(
    scores: Cells, answer: Int[np.ndarray, "cell"], start: Float[np.ndarray, "cell"] | None = None
) -> tuple[Cells, Float[np.ndarray, "cell"]]:
    """The nearest scores in which every cell's answer leads every other by at least 1.

    The others are cut at a level t, and the answer is raised to t + 1: t solves an increasing, concave, piecewise
    linear equation, on which Newton's iteration ends after finitely many steps from any start. Returns t too.
    """
    rows = np.arange(len(scores))
    own = scores[rows, answer] - 1
    level = own if start is None else start
    others = scores.copy()
    others[rows, answer] = -np.inf
    for _ in range(scores.shape[1] + 1):
        excess = np.maximum(others - level[:, None], 0)
        change = (own - level + excess.sum(axis=1)) / (1 + np.count_nonzero(excess, axis=1))
        level = level + change
        if np.abs(change).max(initial=0) <= 1e-14 * np.abs(level).max(initial=0):
            break
    found = np.minimum(others, level[:, None])
    found[rows, answer] = level + 1
    return found, level


class Splitting:
    """The iteration for min f(X) + cones(Z) + tilt(z) subject to X = Y, Z = B Y, in the state (Y, V).

    shrink: f's proximal map. weight: rho, the pull between X and Y. balance: eta, how much more the cells pull.
    tilt: with a `question` (subject column, relation), the proximal map of a function of its scores.
    """

    def __init__(
        self,
        problem: Problem,
        shrink: Shrink,
        weight: float,
        balance: float,
        question: tuple[int, int] | None = None,
        tilt: Tilt | None = None,
    ) -> None:
        self.problem, self.shrink, self.weight, self.balance, self.tilt = problem, shrink, weight, balance, tilt
        self.map = problem.design
        if question is not None:
            self.map = sparse.vstack([self.map, problem.inputs(*np.array(question)[:, None])], format="csr")
        self.back = self.map.T.tocsr()
        #: Where the last projection ended; the next begins there, which changes its time and not its result.
        self.levels: Float[np.ndarray, "cell"] | None = None
        #: Numbers in a state.
        self.length = (problem.columns + self.map.shape[0]) * problem.answers
        # I + eta B^T B is diagonal over subjects: eliminating them leaves one equation a relation.
        subjects = len(problem.sizes)
        square = (balance * (self.back @ self.map)).tocsr()
        self.diagonal = 1 + square.diagonal()[:subjects]
        self.cross = square[:subjects, subjects:].toarray()
        corner = np.eye(problem.relations) + square[subjects:, subjects:].toarray()
        self.corner = np.linalg.inv(corner - self.cross.T @ (self.cross / self.diagonal[:, None]))

    def start(self, matrix: Columns, force: Cells) -> Vector:
        """The state of a matrix and its force."""
        padded = np.zeros((self.map.shape[0], self.problem.answers))
        padded[: len(force)] = force
        return np.concatenate([matrix, np.sqrt(self.balance) * padded / (self.weight * self.balance)]).ravel()

    def step(self, state: Vector) -> Iterate:
        """One round; the state's image, and the primal and dual candidates found on the way."""
        problem, pull = self.problem, self.weight * self.balance
        agreed, drift = np.split(state.reshape(-1, problem.answers), [problem.columns])
        drift = drift / np.sqrt(self.balance)
        matrix, size = self.shrink(agreed + self.balance * (self.back @ drift), 1 / self.weight)
        before = self.map @ agreed - drift
        cells, self.levels = into_cones(before[: problem.cells], problem.cell_answer, self.levels)
        if self.tilt is not None:
            cells = np.concatenate([cells, self.tilt(before[-1], 1 / pull)[None]])
        # (I + eta B^T B)^-1 of what the matrix and the cells want.
        wanted, subjects = matrix + self.balance * (self.back @ cells), len(self.diagonal)
        ahead = wanted[:subjects] / self.diagonal[:, None]
        relations = self.corner @ (wanted[subjects:] - self.cross.T @ ahead)
        new = np.concatenate([ahead - (self.cross / self.diagonal[:, None]) @ relations, relations])
        image = np.concatenate([new, np.sqrt(self.balance) * (drift + cells - self.map @ new)]).ravel()
        return Iterate(image, matrix, size, new, *np.split(pull * (cells - before), [problem.cells]))


@dataclass(frozen=True, eq=False)
class Optimum:
    """What the iteration ended with.

    matrix: (answer, column), feasible and scaled to smallest margin 1, or None when no feasible matrix was met.
    multipliers: (cell, answer), non-negative. upper and lower bound the least norm, whatever the iteration did.
    """

    matrix: Weights | None
    multipliers: Cells
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
    accelerated, state, look = Anderson(splitting.length), np.zeros(splitting.length), 4 * LOOK_EVERY
    for iteration in range(1, max_iterations + 1):
        found = splitting.step(state)
        if iteration >= look or iteration == max_iterations:
            best = replace(_better(problem, norm, best, found, gap), iterations=iteration)
            if best.gap(norm) <= gap:
                break
            look = iteration + LOOK_EVERY + int(LOOK_LATER * np.log10(best.gap(norm) / gap))
        state = accelerated.next(state, found.state)
    return best


def memory_for(length: int) -> int:
    """Steps that the acceleration may remember. Raises UsageError when not even two states fit in 4 GB."""
    if length > MOST_NUMBERS // 4:
        what = f"the compressed problem has {length:,} unknowns, more than this solver's {MOST_NUMBERS // 4:,}"
        raise UsageError(what, where="solve", do="Take fewer answers or fewer kinds of subject")
    return min(40 if length > LONG_STATE else 20, max(2, MOST_NUMBERS // (2 * length)))


def steps(problem: Problem) -> tuple[float, float]:
    """Weight and balance, in units of the signatures' mean size, which sets the scale of M."""
    size = float(problem.sizes.mean()) / 2
    share = min(1.0, FEW_CELLS * problem.relations / problem.cells) ** 1.5
    return WEIGHT / np.sqrt(size * np.sqrt(share)), BALANCE * size * share


def _better(problem: Problem, norm: Norm, best: Optimum, found: Iterate, gap: float) -> Optimum:
    """The best of both bounds so far, given what one step found.

    X's size comes free; Y has the better margin, but its size is worth finding only where it may end the search.
    """
    multipliers = np.maximum(-found.force, 0)
    multipliers[np.arange(problem.cells), problem.cell_answer] = 0
    if (lower := lower_bound(problem, norm, multipliers)) > best.lower:
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


#: Least slack of the radius over the lower bound: closer, rounding decides; a wider ball's range is still valid.
LEAST_SLACK = 1e-7
#: Of a range, iterations between two looks at the bound, without any gain before giving up, and in all.
RANGE_LOOK, RANGE_PATIENCE, RANGE_MOST = 20, 200, 2000
#: They stop when the bound and the margin met agree to this.
PRECISION = 3e-4


class RangeSolver:
    """Ranges of margins over the matrices that are feasible for `problem` and no larger than the optimum's upper bound.

    optimum: with a matrix, from which the search starts, and a lower bound above 0 on the size of any feasible one.
    """

    def __init__(self, problem: Problem, norm: Norm, optimum: Optimum) -> None:
        assert optimum.matrix is not None
        self.problem, self.norm, self.matrix = problem, norm, optimum.matrix
        # The radius: the upper bound, or a little more where that leaves no room.
        self.reach = max(optimum.upper, optimum.lower * (1 + LEAST_SLACK))
        # Roughly how much margin one unit of size buys: a margin moves with the root of the slack in the size.
        self.price = max(1.0, 0.3 / float(np.sqrt(self.reach / optimum.lower - 1)))
        # Of the optimum's multipliers, scaled until their combination has dual size 1.
        force = force_of(problem, optimum.multipliers)
        self.force = force / norm.dual_size(problem.gather @ force)

    def margin_range(
        self, question: tuple[int, int], answer: int, among: Bool[np.ndarray, "answer"]
    ) -> tuple[float, float]:
        """Least and greatest lead of `answer` over the best other candidate at (subject column, relation)."""
        rivals = among.copy()
        rivals[answer] = False
        scores, low = self.problem.scores_at(self.matrix, *question), np.inf
        stated = np.isin(np.arange(self.problem.answers), self.problem.cell_answer)
        # One of the rivals that nobody states is enough: they can be exchanged without changing the problem.
        distinct = np.concatenate([np.flatnonzero(rivals & stated), np.flatnonzero(rivals & ~stated)[:1]])
        for rival in sorted(map(int, distinct), key=lambda index: -scores[index]):
            low = min(low, self._least(question, answer, rival, low))
        return low, self._greatest(question, answer, rivals)

    def _least(self, question: tuple[int, int], answer: int, rival: int, known: float) -> float:
        """A lower bound on score(answer) - score(rival); stops as soon as it cannot fall below `known`."""
        lead = np.zeros(self.problem.answers)
        lead[[answer, rival]] = 1, -1
        return self._bound(
            question, lambda scores, weight: scores - weight * lead, lambda scores: float(scores @ lead), known
        )

    def _greatest(self, question: tuple[int, int], answer: int, rivals: Bool[np.ndarray, "answer"]) -> float:
        """An upper bound on score(answer) - the best score of the rivals."""

        def tilt(scores: Scores, weight: float) -> Scores:
            found = scores.copy()
            found[answer] += weight
            others = scores[rivals]
            # The proximal map of the maximum takes `weight` off the top, as far down as it goes.
            top = to_simplex(others - others.min() + weight, weight) if len(others) > 1 else weight
            found[rivals] = others - top
            return found

        return -self._bound(question, tilt, lambda scores: float(scores[rivals].max() - scores[answer]), np.inf)

    def _bound(self, question: tuple[int, int], tilt: Tilt, value: Callable[[Scores], float], known: float) -> float:
        """The best proven lower bound on the least `value` of the scores at `question`."""
        weight, balance = steps(self.problem)
        weight *= self.price

        def shrink(matrix: np.ndarray, _: float) -> tuple[np.ndarray, float]:
            return self.norm.ball(matrix, self.reach), self.reach

        splitting = Splitting(self.problem, shrink, weight, balance, question, tilt)
        state = splitting.start(self.matrix.T, self.price * self.force)
        accelerated, best, gained = Anderson(splitting.length), -np.inf, 0
        for iteration in range(1, RANGE_MOST + 1):
            found = splitting.step(state)
            if iteration % RANGE_LOOK == 0:
                proven = self._proven(question, found)
                if proven > best + PRECISION / 10:
                    gained = iteration
                best = max(best, proven)
                now = value(self.problem.scores_at(found.matrix.T, *question))
                if best >= known or abs(now - best) <= PRECISION or iteration - gained >= RANGE_PATIENCE:
                    break
            state = accelerated.next(state, found.state)
        return best

    def _proven(self, question: tuple[int, int], found: Iterate) -> float:
        """max over s >= 0 of s sum(lambda) - radius |D - s sum_k lambda_k A_k|, D the question's part of the force."""
        stated = force_of(self.problem, -found.force)
        total = float(stated[np.arange(self.problem.cells), self.problem.cell_answer].sum())
        direction = self.problem.gather @ stated
        wanted = self.problem.inputs(*np.array(question)[:, None]).T @ -found.asked

        def loss(scale: float) -> float:
            return self.reach * self.norm.dual_size(wanted - scale * direction) - scale * total

        scaled = optimize.minimize_scalar(loss, bounds=(0.5, 2.0), method="bounded", options={"maxiter": 12})
        return -min(loss(1.0), float(scaled.fun))
