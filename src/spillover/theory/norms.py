"""The two norms: size, dual size, and the two projections a splitting method needs.

Source: docs/theory.md, "The two norms".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from spillover.errors import UsageError, nearest

Matrix = Float[np.ndarray, "row column"]
NormName = Literal["nuclear", "frobenius"]


@runtime_checkable
class Norm(Protocol):
    """A norm of matrices, with what the program and its dual need to know of it."""

    @property
    def name(self) -> NormName:
        """nuclear or frobenius."""

    @property
    def power(self) -> int:
        """The reported objective is the norm to this power."""

    def size(self, matrix: Matrix) -> float:
        """The norm itself."""

    def dual_size(self, matrix: Matrix) -> float:
        """The dual norm: the largest inner product with a matrix of size 1."""

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        """The minimiser X of threshold * f(X) + |X - matrix|^2 / 2 and its size; f is the norm or half its square."""

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        """The nearest matrix of size at most radius."""


@dataclass(frozen=True)
class Nuclear:
    """The sum of the singular values; its dual is the largest."""

    name: NormName = "nuclear"
    power: int = 1

    def size(self, matrix: Matrix) -> float:
        return float(np.linalg.svd(matrix, compute_uv=False).sum()) if matrix.size else 0.0

    def dual_size(self, matrix: Matrix) -> float:
        if not matrix.size:
            return 0.0
        # The largest value is as accurate from the Gram matrix, which costs a fraction of the decomposition.
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0)))

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        values, turn, left = _spectrum(matrix)
        kept = np.maximum(values - threshold, 0)
        return _rescaled(matrix, values, kept, turn, left), float(kept.sum())

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        values, turn, left = _spectrum(matrix)
        if values.sum() <= radius:
            return matrix
        return _rescaled(matrix, values, to_simplex(values, radius), turn, left)


@dataclass(frozen=True)
class Frobenius:
    """The root of the sum of squares; its own dual. The program minimises its square."""

    name: NormName = "frobenius"
    power: int = 2

    def size(self, matrix: Matrix) -> float:
        return float(np.linalg.norm(matrix))

    def dual_size(self, matrix: Matrix) -> float:
        return float(np.linalg.norm(matrix))

    def shrink(self, matrix: Matrix, threshold: float) -> tuple[Matrix, float]:
        found = matrix / (1 + threshold)
        return found, self.size(found)

    def ball(self, matrix: Matrix, radius: float) -> Matrix:
        return matrix * min(1.0, radius / max(self.size(matrix), 1e-300))


#: Norms by name.
NORMS: dict[str, Norm] = {"nuclear": Nuclear(), "frobenius": Frobenius()}


def norm_called(name: str) -> Norm:
    """The norm of this name. Raises UsageError for any other."""
    if name not in NORMS:
        raise UsageError(f"there is no norm called {name!r}", where="norm", do=nearest(name, NORMS))
    return NORMS[name]


def _spectrum(matrix: Matrix) -> tuple[np.ndarray, np.ndarray, bool]:
    """Singular values and the singular vectors of the shorter side, from the Gram matrix (several times cheaper).

    Values below 1e-8 of the largest are inaccurate; both uses remove or keep small what is that small.
    """
    left = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if left else matrix.T @ matrix
    squares, turn = np.linalg.eigh(gram)
    return np.sqrt(np.maximum(squares, 0)), turn, left


def _rescaled(matrix: Matrix, old: np.ndarray, new: np.ndarray, turn: np.ndarray, left: bool) -> Matrix:
    """The matrix with its singular values `old` replaced by `new`; those that become zero cost nothing."""
    kept = new > 0
    basis, factor = turn[:, kept], new[kept] / old[kept]
    if left:
        return basis @ ((basis * factor).T @ matrix)
    return (matrix @ (basis * factor)) @ basis.T


def to_simplex(values: Float[np.ndarray, "value"], total: float) -> Float[np.ndarray, "value"]:
    """The nearest non-negative vector with this total (values are non-negative and sum to more)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(values) + 1)
    shift = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.maximum(values - shift, 0)
