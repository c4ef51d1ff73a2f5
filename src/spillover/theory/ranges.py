"""How far can one margin be moved by matrices that state everything and are no worse than a given objective?

Source: docs/theory.md, "Ranges". Every number returned is an outer bound proven by multipliers: true ranges lie inside.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool
from scipy import optimize

from spillover.theory.certificate import force_of
from spillover.theory.norms import Norm, to_simplex
from spillover.theory.splitting import Anderson, Iterate, Optimum, Scores, Splitting, Tilt, steps
from spillover.theory.table import Problem

#: Least slack of the radius over the lower bound: closer, rounding decides; a wider ball's range is still valid.
LEAST_SLACK = 1e-7
#: Iterations between two looks at the bound, without any gain before giving up, and in all.
LOOK_EVERY, PATIENCE, MOST = 20, 200, 2000
#: Iterations stop when the bound and the margin met agree to this.
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
        for iteration in range(1, MOST + 1):
            found = splitting.step(state)
            if iteration % LOOK_EVERY == 0:
                proven = self._proven(question, found)
                if proven > best + PRECISION / 10:
                    gained = iteration
                best = max(best, proven)
                now = value(self.problem.scores_at(found.matrix.T, *question))
                if best >= known or abs(now - best) <= PRECISION or iteration - gained >= PATIENCE:
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
