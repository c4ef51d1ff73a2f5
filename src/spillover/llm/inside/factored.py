"""Matrices kept as the product of two factors, such as W_OV of an attention head; the product is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Factored:
    """The matrix `left @ right`, rows x columns, of rank `inner` at most."""

    left: Float[Tensor, "rows inner"]
    right: Float[Tensor, "inner columns"]

    def minus(self, other: Factored) -> Factored:
        """This matrix less another of the same shape, in as many inner columns as both have together.

        The sum is (L - L') R + L' (R - R'), so that where two matrices are nearly equal no digits are lost.
        """
        left = torch.cat([self.left - other.left, other.left], dim=1)
        return Factored(left, torch.cat([self.right, self.right - other.right], dim=0))

    def squared_norm(self, gram: Float[Tensor, "inner inner"] | None = None) -> Float[Tensor, ""]:
        """Squared Frobenius norm, from the two inner x inner Gram matrices; gradients flow through it.

        gram: that of the left factor, where several matrices share it.
        """
        return ((self.left.T @ self.left if gram is None else gram) * (self.right @ self.right.T)).sum()

    def right_gram(self) -> Float[Tensor, "inner inner"]:
        """The Gram matrix of the right factor's rows."""
        right = _precise(self.right)
        return right @ right.T

    def left_grams(self, other: Factored) -> tuple[Tensor, Tensor, Tensor]:
        """What `squared_distance` needs of the left factors: Gram matrices of their difference, of the other's, and
        between the two."""
        theirs = _precise(other.left)
        moved = theirs - _precise(self.left)
        return moved.T @ moved, theirs.T @ theirs, theirs.T @ moved

    def squared_distance(
        self, other: Factored, left: tuple[Tensor, Tensor, Tensor], right: Tensor
    ) -> Float[Tensor, ""]:
        """Squared Frobenius norm of `other` less this matrix, in half the work that their difference takes.

        The difference is (L' - L) R + L' (R' - R). left: `left_grams(other)`, which matrices with the same left factors
        share. right: `right_gram()`, which stays the same when another is compared.
        """
        own = _precise(self.right)
        moved = _precise(other.right) - own
        return (left[0] * right).sum() + (left[1] * (moved @ moved.T)).sum() + 2 * (left[2] * (moved @ own.T)).sum()

    def singular_values(self, triangle: Float[Tensor, "small inner"] | None = None) -> Float[Tensor, " values"]:
        """Singular values, largest first: those of the small core that QR of both factors leaves between them.

        triangle: `triangle_of` the left factor, where several matrices share it.
        """
        own = triangle_of(self.left) if triangle is None else triangle
        return torch.linalg.svdvals(own @ triangle_of(self.right.T).T)

    def singular_vectors(
        self,
    ) -> tuple[Float[Tensor, "rows values"], Float[Tensor, " values"], Float[Tensor, "values columns"]]:
        """Left singular vectors as columns, singular values (largest first), right singular vectors as rows."""
        before, inner = torch.linalg.qr(_precise(self.left))
        after, outer = torch.linalg.qr(_precise(self.right.T))
        left, values, right = torch.linalg.svd(inner @ outer.T, full_matrices=False)
        return before @ left, values, right @ after.T


def triangle_of(factor: Float[Tensor, "long short"]) -> Float[Tensor, "small short"]:
    """R of a factor's QR decomposition."""
    return torch.linalg.qr(_precise(factor), mode="r").R


def _precise(factor: Float[Tensor, "long short"]) -> Float[Tensor, "long short"]:
    """In single precision at least, which decompositions need."""
    return factor.to(torch.promote_types(factor.dtype, torch.float32))
