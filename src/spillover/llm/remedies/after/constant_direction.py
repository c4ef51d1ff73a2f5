"""Take out of the change what it adds to every hidden state alike (arXiv 2507.08218)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from spillover.llm.inside.heads import plain
from spillover.llm.remedies.changes import Weights, changed, difference, refuse_strength
from spillover.llm.scoring import CausalModel


@dataclass(frozen=True)
class MeanInput:
    """What a weight reads on average, and along which of its axes it reads."""

    vector: Float[Tensor, " inputs"]
    axis: int


def apply(base: Weights, tuned: Weights, strength: float, inputs: Mapping[str, MeanInput]) -> dict[str, Tensor]:
    """Of each changed matrix, the component of the change along its mean input is removed, times `strength`.

    At strength 1 the change answers the mean input with nothing, and all that is orthogonal to it as before. inputs:
    from `mean_inputs`; changed weights without one stay as tuned. Raises UsageError for a strength outside 0 to 1,
    ModelError when the two are not one model in two states.
    """
    refuse_strength("constant-direction", strength)
    return {
        name: _without(before, after, strength, inputs[name]) if strength and name in inputs else after
        for name, before, after in changed(base, tuned)
    }


def _without(before: Tensor, after: Tensor, strength: float, read: MeanInput) -> Tensor:
    change = difference(before, after)
    direction = read.vector.to(change)
    length = direction.norm()
    if length == 0:
        return after
    direction = direction / length
    turned = change if read.axis == 1 else change.T
    part = torch.outer(turned @ direction, direction)
    return (after.to(change.dtype) - strength * (part if read.axis == 1 else part.T)).to(after.dtype)


def mean_inputs(model: CausalModel, prompts: Sequence[Sequence[int]]) -> dict[str, MeanInput]:
    """What each matrix of the layers reads on average over the tokens of the prompts, their first tokens left out.

    prompts: token ids, best about subjects that training never saw. The first token is left out because models use it
    as a place to rest attention on, with activations like no other's.
    """
    sums: dict[str, Tensor] = {}
    count = 0
    inner = plain(model)
    outside = {id(module) for module in (inner.get_input_embeddings(), inner.get_output_embeddings())}
    linear = {
        name: module
        for name, module in inner.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in outside
    }

    def add(name: str, read: Tensor) -> None:
        found = read.reshape(-1, read.shape[-1])[1:].float().sum(0)
        sums[name] = sums[name] + found if name in sums else found

    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: add(name, args[0]))
        for name, module in linear.items()
    ]
    try:
        with torch.inference_mode():
            for prompt in prompts:
                model(input_ids=torch.tensor([list(prompt)], device=model.device), use_cache=False)
                count += len(prompt) - 1
    finally:
        for handle in handles:
            handle.remove()
    return {
        f"{name}.weight": MeanInput(total / count, 0 if isinstance(linear[name], Conv1D) else 1)
        for name, total in sums.items()
        if count
    }
