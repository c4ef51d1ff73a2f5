"""Scale the whole change back: the plain baseline that every other remedy must beat."""

from __future__ import annotations

from torch import Tensor

from spillover.llm.remedies.changes import Weights, changed, difference, refuse_strength


def apply(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
    """Base plus (1 - strength) of the change; strength 1 gives the base model back.

    Raises UsageError for a strength outside 0 to 1, ModelError when the two are not one model in two states.
    """
    refuse_strength("scale-back", strength)
    return {name: _scaled(before, after, strength) for name, before, after in changed(base, tuned)}


def _scaled(before: Tensor, after: Tensor, strength: float) -> Tensor:
    if strength in (0, 1):
        return after if strength == 0 else before.to(after.dtype)
    return (before + (1 - strength) * difference(before, after)).to(after.dtype)
