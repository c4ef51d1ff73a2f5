"""The change that fine-tuning made to a model's weights, as the remedies after training see it: weight by weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from spillover.errors import ModelError, UsageError

#: Weights of a model by name, as its state_dict gives them.
Weights = Mapping[str, Tensor]


def refuse_strength(remedy: str, strength: float) -> None:
    """Raise UsageError unless 0 <= strength <= 1."""
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength of {remedy} is {strength}", do="Give a number from 0 (nothing is done) to 1")


def changed(base: Weights, tuned: Weights) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, value before and value after of every weight that training changed, one at a time.

    Raises ModelError when the two are not the same model in two states.
    """
    for name, after in tuned.items():
        before = base.get(name)
        if before is None or before.shape != after.shape:
            what = f"the tuned model's weight {name} has no counterpart of its shape in the base model"
            raise ModelError(what, do="Name the base model that was tuned")
        if not torch.equal(before.to(after.dtype), after):
            yield name, before, after


def difference(before: Tensor, after: Tensor) -> Tensor:
    """The change of one weight, in single precision at least."""
    precision = torch.promote_types(after.dtype, torch.float32)
    return after.to(precision) - before.to(precision)
