"""Set the entries that changed most back to what they were (arXiv 2504.09522)."""

from __future__ import annotations

from torch import Tensor

from spillover.llm.remedies.changes import Weights, changed, difference, refuse_strength


def apply(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
    """In each changed matrix, the share `strength` of entries that changed most takes its base value again.

    Exactly floor(strength x entries) of each, ties going to the entries that come first; vectors stay as tuned.
    Raises UsageError for a strength outside 0 to 1, ModelError when the two are not one model in two states.
    """
    refuse_strength("ignore-topk", strength)
    return {name: _reset(before, after, strength) for name, before, after in changed(base, tuned)}


def _reset(before: Tensor, after: Tensor, strength: float) -> Tensor:
    count = int(strength * after.numel())
    if after.ndim < 2 or count == 0:
        return after
    size = difference(before, after).abs_().flatten()
    least = size.kthvalue(size.numel() - count + 1).values
    back = size > least
    tied = (size == least).nonzero()[:, 0]
    back[tied[: count - int(back.sum())]] = True
    return after.where(~back.view_as(after), before.to(after.dtype))
