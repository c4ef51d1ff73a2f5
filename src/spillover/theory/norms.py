"""The norms: size, dual size, and the two projections that a splitting method needs.

Source: docs/theory.md, "The two norms" and "A mixed norm".
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from spillover.errors import UsageError, nearest

Matrix = Float[np.ndarray, "row column"]
Values = Float[np.ndarray, "value"]


class Norm:
    """The nuclear norm, the sum of the singular values; other norms differ from it by these methods.

    name: as in NORMS. power: the reported objective is the norm to this power.
    """

    name: Literal["nuclear", "frobenius"] = "nuclear"
    power = 1

    def of_values(self, values: Values) -> float:
        """The norm of a matrix with these singular values."""
        return float(values.sum())

    def dual_of_values(self, values: Values) -> float:
        """The dual norm of a matrix with these singular values."""
        return float(values.max())

    def size(self, matrix: Matrix) -> float:
        """The norm itself."""
        return self.of_values(np.linalg.svd(matrix, compute_uv=False)) if matrix.size else 0.0

    def dual_size(self, matrix: Matrix) -> float:
        """The dual norm: the largest inner product with a matrix of size 1."""
        # The largest value is as accurate from the Gram matrix, which costs a fraction of the decomposition.
        return float(np.sqrt(max(np.linalg.eigvalsh(_gram(matrix))[-1], 0.0))) if matrix.size else 0.0

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        """The minimiser X of threshold * f(X) + |X - matrix|^2 / 2 and its size; f is the norm or half its square."""
        return _with_values(matrix, lambda values: np.maximum(values - threshold, 0))

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        """The nearest matrix of size at most radius."""
        return _with_values(matrix, lambda values: values if values.sum() <= radius else to_simplex(values, radius))[0]


class Frobenius(Norm):
    """The root of the sum of squares; its own dual. The program minimises its square."""

    name = "frobenius"
    power = 2

    def of_values(self, values: Values) -> float:
        return float(np.linalg.norm(values))

    def size(self, matrix: Matrix) -> float:
        return float(np.linalg.norm(matrix))

    dual_of_values, dual_size = of_values, size

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        found = matrix / (1 + threshold)
        return found, self.size(found)

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        return matrix * min(1.0, radius / max(self.size(matrix), 1e-300))


class Mixed(Norm):
    """The norm (1 - share) |W|_* + share |W|_F. Raises UsageError for a share outside [0, 1]."""

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise UsageError(f"a share of {share:g} mixes nothing", where="mixed norm", do="Use 0 to 1")
        self.share = share

    def of_values(self, values: Values) -> float:
        return float((1 - self.share) * values.sum() + self.share * np.linalg.norm(values))

    def dual_of_values(self, values: Values) -> float:
        """The least s for which the matrix is a sum of an operator norm (1 - share) s and a Frobenius norm share s."""
        if self.share in (0.0, 1.0) or not values.any():
            return float(np.linalg.norm(values)) if self.share else float(values.max())

        def excess(size: float) -> float:
            return float(np.linalg.norm(np.maximum(values - (1 - self.share) * size, 0)) - self.share * size)

        return float(brentq(excess, 0.0, self._enough(values), xtol=1e-14, rtol=1e-14))

    def dual_size(self, matrix: Matrix) -> float:
        return self.dual_of_values(np.linalg.svd(matrix, compute_uv=False)) if matrix.size else 0.0

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        """Both shrinkages in turn."""
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        soft = np.maximum(values - threshold * (1 - self.share), 0)
        length = np.linalg.norm(soft)
        kept = soft * max(0.0, 1 - threshold * self.share / length) if length else soft
        return (left * kept) @ right, self.of_values(kept)

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        """A shrinkage by the threshold that just reaches the radius."""
        if self.size(matrix) <= radius:
            return matrix
        most = self._enough(np.linalg.svd(matrix, compute_uv=False))
        threshold = brentq(lambda value: self.shrink(matrix, value)[1] - radius, 0.0, most)
        return self.shrink(matrix, threshold)[0]

    def _enough(self, values: Values) -> float:
        """A threshold that shrinks these singular values to nothing, by the norm that has the larger share."""
        return float(values.max() / (1 - self.share) if self.share < 0.5 else np.linalg.norm(values) / self.share)


#: Norms by name.
NORMS: dict[str, Norm] = {"nuclear": Norm(), "frobenius": Frobenius()}


def norm_called(name: str) -> Norm:
    """The norm of this name. Raises UsageError for any other."""
    if name not in NORMS:
        raise UsageError(f"there is no norm called {name!r}", where="norm", do=nearest(name, NORMS))
    return NORMS[name]


def _gram(matrix: Matrix) -> Float[np.ndarray, "side side"]:
    """The matrix of inner products of its shorter side."""
    return matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix


def _with_values(matrix: Matrix, change: Callable[[Values], Values]) -> tuple[Matrix, float]:
    """The matrix with its singular values changed, and the sum of the new ones; those that become zero cost nothing.

    From the Gram matrix, which is several times cheaper than the decomposition. Values below 1e-8 of the largest are
    inaccurate; both uses remove or keep small what is that small.
    """
    squares, turn = np.linalg.eigh(_gram(matrix))
    old = np.sqrt(np.maximum(squares, 0))
    new = change(old)
    if new is old:
        return matrix, float(old.sum())
    kept = new > 0
    basis, factor = turn[:, kept], new[kept] / old[kept]
    if matrix.shape[0] <= matrix.shape[1]:
        return basis @ ((basis * factor).T @ matrix), float(new.sum())
    return (matrix @ (basis * factor)) @ basis.T, float(new.sum())


def to_simplex(values: Values, total: float) -> Values:
    """The nearest non-negative vector with this total (values are non-negative and sum to more)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(values) + 1)
    return np.maximum(values - excess[np.flatnonzero(ordered > excess)[-1]], 0)
