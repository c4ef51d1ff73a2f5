"""Anderson acceleration: the next point of a fixed-point iteration from the last few, instead of from one.

Source: D. G. Anderson 1965 (type II), with the safeguard that docs/theory.md, "The splitting method", describes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "state"]


class Anderson:
    """Remembers the last `memory` steps of one iteration w -> g(w) and extrapolates them.

    A proposal whose residual |g(w) - w| is more than `patience` times the one before is undone: the iteration goes on
    from the last plain step, with its memory cleared. So the worst case is the plain iteration's.
    """

    def __init__(self, length: int, memory: int = 20, patience: float = 2.0) -> None:
        self.image_steps = np.zeros((memory, length))
        self.residual_steps = np.zeros((memory, length))
        self.gram = np.zeros((memory, memory))
        self.patience = patience
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
        if self.plain is not None and size > self.patience * self.last:
            retreat = self.plain
            self.forget()
            return retreat
        products = self._remember(point, residual)
        self.previous, self.last, self.plain = (point, residual), size, image
        if products is None:
            return image
        used = len(products)
        gram = self.gram[:used, :used] + 1e-8 * used * np.eye(used)
        return image - np.linalg.solve(gram, products) @ self.image_steps[:used]

    def _remember(self, point: Vector, residual: Vector) -> Float[np.ndarray, "used"] | None:
        """Put the last step, scaled to a unit change of the residual, in place of the oldest.

        Returns the products of all the changes remembered with the residual, or None before there are any.
        """
        if self.previous is None:
            return None
        change = residual - self.previous[1]
        size = float(np.linalg.norm(change))
        if size > 0:
            slot = self.filled % len(self.gram)
            np.divide(change, size, out=self.residual_steps[slot])
            self.image_steps[slot] = (point - self.previous[0] + change) / size
            self.filled += 1
        used = min(self.filled, len(self.gram))
        if not used:
            return None
        newest, steps = (self.filled - 1) % len(self.gram), self.residual_steps[:used]
        self.gram[newest, :used] = self.gram[:used, newest] = steps @ self.residual_steps[newest]
        return steps @ residual
