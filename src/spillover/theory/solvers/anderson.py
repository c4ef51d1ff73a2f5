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
        self.point_steps = np.zeros((memory, length))
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
        if self.previous is not None:
            self._remember(point - self.previous[0], residual - self.previous[1])
        self.previous, self.last, self.plain = (point, residual), size, image
        return self._extrapolate(image, residual) if self.filled else image

    def _remember(self, point_step: Vector, residual_step: Vector) -> None:
        """Put one step, scaled to a unit change of the residual, in place of the oldest."""
        size = float(np.linalg.norm(residual_step))
        if size == 0:
            return
        slot = self.filled % len(self.gram)
        self.point_steps[slot] = point_step / size
        self.residual_steps[slot] = residual_step / size
        self.filled += 1
        used = min(self.filled, len(self.gram))
        self.gram[slot, :used] = self.gram[:used, slot] = self.residual_steps[:used] @ self.residual_steps[slot]

    def _extrapolate(self, image: Vector, residual: Vector) -> Vector:
        used = min(self.filled, len(self.gram))
        gram = self.gram[:used, :used] + 1e-8 * used * np.eye(used)
        weights = np.linalg.solve(gram, self.residual_steps[:used] @ residual)
        return image - weights @ self.point_steps[:used] - weights @ self.residual_steps[:used]
