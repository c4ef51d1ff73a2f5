"""Between the two norms: (1 - t) nuclear + t Frobenius, for the solver and in closed form for equal classes.

Source: docs/theory.md, "A mixed norm".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from spillover.errors import UsageError
from spillover.theory.closed_form import EqualClasses
from spillover.theory.norms import Matrix, NormName


@dataclass(frozen=True)
class Mixed:
    """The norm (1 - share) |W|_* + share |W|_F. At share 0 it is the nuclear norm, at 1 the Frobenius norm.

    Raises UsageError for a share outside [0, 1].
    """

    share: float
    name: NormName = "nuclear"
    power: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"a share of {self.share:g} mixes nothing", where="mixed norm", do="Use 0 to 1")

    def of_spectrum(self, values: Float[np.ndarray, "value"]) -> float:
        """The norm of a matrix with these singular values."""
        return float((1 - self.share) * values.sum() + self.share * np.linalg.norm(values))

    def size(self, matrix: Matrix) -> float:
        """The norm itself."""
        return self.of_spectrum(np.linalg.svd(matrix, compute_uv=False)) if matrix.size else 0.0

    def dual_size(self, matrix: Matrix) -> float:
        """The least s for which the matrix is a sum of an operator norm (1 - share) s and a Frobenius norm share s."""
        values = np.linalg.svd(matrix, compute_uv=False) if matrix.size else np.zeros(1)
        if self.share in (0.0, 1.0) or not values.any():
            return float(np.linalg.norm(values)) if self.share else float(values.max())

        def excess(size: float) -> float:
            return float(np.linalg.norm(np.maximum(values - (1 - self.share) * size, 0)) - self.share * size)

        most = min(np.linalg.norm(values) / self.share, values.max() / (1 - self.share))
        return float(brentq(excess, 0.0, 2 * most, xtol=1e-14, rtol=1e-14))

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        """The minimiser X of threshold * norm(X) + |X - matrix|^2 / 2, and its size: both shrinkages in turn."""
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        soft = np.maximum(values - threshold * (1 - self.share), 0)
        length = np.linalg.norm(soft)
        kept = soft * max(0.0, 1 - threshold * self.share / length) if length else soft
        return (left * kept) @ right, self.of_spectrum(kept)

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        """The nearest matrix of size at most radius: a shrinkage by the threshold that just reaches it."""
        if self.size(matrix) <= radius:
            return matrix
        most = np.linalg.norm(matrix) / max(self.share, 1e-9) if self.share else np.linalg.norm(matrix, 2)
        threshold = brentq(lambda value: self.shrink(matrix, value)[1] - radius, 0.0, most)
        return self.shrink(matrix, threshold)[0]


def exact_margin(task: EqualClasses, share: float) -> float:
    """The margin of an unstated implication at the optimum of the mixed norm, for equal classes with a bridge.

    All that is free in an invariant optimum is g, how much of the implication a test subject's column holds: n - 1
    blocks with sums of singular values sqrt(F^2 + 2 |det|), and one singular value sqrt(n) that no g moves.
    """
    train, test, blocks = task.train, task.test, task.classes - 1
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share:g} mixes nothing", where="mixed norm", do="Use 0 to 1")
    if not train:
        raise UsageError("without a bridge nothing can be inferred", where="mixed norm", do="Use train=1 or more")

    def size(kept: float) -> float:
        squares = 2 * train + test * (1 + kept**2)
        nuclear = blocks * np.sqrt(squares + 2 * np.sqrt(train * test) * (1 - kept))
        return float((1 - share) * (nuclear + np.sqrt(task.classes)) + share * np.sqrt(blocks * squares + task.classes))

    return float(minimize_scalar(size, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-10}).x)
