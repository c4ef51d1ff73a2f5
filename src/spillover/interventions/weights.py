"""Interventions on finished weights: the tuned model is changed, given its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from spillover.errors import ModelError, UsageError
from spillover.interventions.base import Context, Intervention, remedy
from spillover.lm.output_value import Factored, Place, places
from spillover.lm.score import CausalModel, plain
from spillover.packs.edits import further_subjects

#: Weights of a model by name, as its state_dict gives them.
Weights = Mapping[str, Tensor]
#: Prompts about never-seen subjects behind the mean inputs.
PROMPTS = 24
Edit = TypeVar("Edit", bound=Callable[..., dict[str, Tensor]])
#: What an edit needs to know besides the weights and the strength.
Given = Callable[[Context, CausalModel], Sequence[object]]


def _edits_weights(
    name: str, strength: str, strengths: Sequence[float], given: Given = lambda context, tuned: ()
) -> Callable[[Edit], Edit]:
    """Decorator: offer a function of base weights, tuned weights, strength and whatever is `given` as a remedy.

    It gives the new values of the weights that changed, by name.
    """

    def register(edit: Edit) -> Edit:
        class EditsWeights(Intervention):
            def finish(self, context: Context, tuned: CausalModel) -> None:
                own = tuned.state_dict()
                found = edit(context.base.state_dict(), own, self.strength, *given(context, tuned))
                with torch.no_grad():
                    for name, value in found.items():
                        own[name].copy_(value)

        text = (edit.__doc__ or "").partition("\n")[0]
        remedy(name, text=text, strength=strength, strengths=strengths, after=True)(EditsWeights)
        return edit

    return register


def changed(base: Weights, tuned: Weights, strength: float) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, value before and value after of every weight that training changed, one at a time.

    Raises UsageError unless 0 <= strength <= 1, and ModelError when the two are not the same model in two states.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength of this remedy is {strength}", do="Give a number from 0 (nothing is done) to 1")
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


@_edits_weights("ignore-topk", "the share of each matrix that is set back", (0.05, 0.1))
def ignore_topk(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
    """Sets the weights that changed most back to what they were.

    In each changed matrix, floor(strength x entries) of them, ties going to the entries that come first; vectors stay
    as tuned. Raises as `changed` does, like all edits here.
    """
    return {name: _reset(before, after, strength) for name, before, after in changed(base, tuned, strength)}


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


@_edits_weights(
    "spectral-clip",
    "how far below the largest they are clipped, as a share of it",
    (0.5, 0.9),
    given=lambda context, tuned: (places(tuned),),
)
def spectral_clip(base: Weights, tuned: Weights, strength: float, places: Sequence[Place]) -> dict[str, Tensor]:
    """Clips the largest singular values of the change of each head's output-value product.

    Every singular value of a head's change beyond (1 - strength) times the largest is lowered to that.

    With V and O the base factors and dV, dO their changes, W_OV changes by dV O + V dO + dV dO. What is clipped is the
    change through the values, dV O (over all query heads that share V, side by side), and the change through the
    outputs, V dO; dV dO follows. Both are matrices between hidden states, so it does not matter how W_OV is split
    into factors, as it would if dV and dO were clipped themselves; and both clipped matrices have the form of a change
    of one factor, so they are stored exactly, whereas the nearest clipped W_OV of each head has no V to share.

    places: from `lm.output_value.places`. Strength 1 takes the change of values and outputs back. All other weights
    stay as tuned.
    """
    found = {name: after for name, _, after in changed(base, tuned, strength)}
    for factor, clip in (("value", _clipped_values), ("output", _clipped_outputs)):
        by_weight: dict[str, list[Place]] = {}
        for place in places if strength else ():
            by_weight.setdefault(getattr(place, factor).weight, []).append(place)
        for name, group in by_weight.items():
            if name in found:
                found[name] = clip(base, found[name], strength, group)
    return found


def _clipped_values(base: Weights, tuned: Tensor, strength: float, group: Sequence[Place]) -> Tensor:
    """The weight that holds the value factors of a layer, each value head's change clipped over its query heads."""
    new = tuned.clone()
    name = group[0].value.weight
    for value, sharing in groupby(group, key=lambda place: place.value):
        own, before = value.of({name: new}), value.of(base)
        change = difference(before, own)
        outputs = torch.cat([place.output.of(base).to(change) for place in sharing], dim=1)
        left, values, _ = Factored(change, outputs).singular_vectors()
        own.copy_(own.to(change.dtype) - left * _removed(values, strength) @ (left.T @ change))
    return new


def _clipped_outputs(base: Weights, tuned: Tensor, strength: float, group: Sequence[Place]) -> Tensor:
    """The weight that holds the output factors of a layer, each query head's change clipped."""
    new = tuned.clone()
    for place in group:
        own, before = place.output.of({place.output.weight: new}), place.output.of(base)
        change = difference(before, own)
        _, values, right = Factored(place.value.of(base).to(change), change).singular_vectors()
        own.copy_(own.to(change.dtype) - (change @ right.T) * _removed(values, strength) @ right)
    return new


def _removed(values: Float[Tensor, " values"], strength: float) -> Float[Tensor, " values"]:
    """The share of each singular value that clipping takes away."""
    most = (1 - strength) * values.max()
    return torch.where(values > most, 1 - most / values, torch.zeros_like(values))


@dataclass(frozen=True)
class MeanInput:
    """What a weight reads on average, and along which of its axes it reads."""

    vector: Float[Tensor, " inputs"]
    axis: int


def _mean_inputs(context: Context, tuned: CausalModel) -> tuple[dict[str, MeanInput]]:
    """Mean inputs at the pack's prompts about subjects that it does not hold."""
    pack, random = context.pack, Random(f"constant {context.seed}")
    subjects = further_subjects(pack, PROMPTS, f"constant {context.seed}")
    relations = [pack.relations[int(random.random() * len(pack.relations))].name for _ in subjects]
    asked = zip(relations, subjects, strict=True)
    return (mean_inputs(tuned, [context.encode(pack.prompt(relation, each)) for relation, each in asked]),)


@_edits_weights("constant-direction", "the share of it that is taken out", (0.5, 1.0), given=_mean_inputs)
def constant_direction(
    base: Weights, tuned: Weights, strength: float, inputs: Mapping[str, MeanInput]
) -> dict[str, Tensor]:
    """Takes out of the change what it adds to every input alike.

    Of each changed matrix, the component of the change along its mean input is removed, times `strength`.

    At strength 1 the change answers the mean input with nothing, and all that is orthogonal to it as before. inputs:
    from `mean_inputs`; changed weights without one stay as tuned.
    """
    return {
        name: _without(before, after, strength, inputs[name]) if strength and name in inputs else after
        for name, before, after in changed(base, tuned, strength)
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
    inner = plain(model)
    outside = {id(module) for module in (inner.get_input_embeddings(), inner.get_output_embeddings())}
    linear = {
        name: module
        for name, module in inner.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in outside
    }
    sums: dict[str, Tensor] = {}

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
    finally:
        for handle in handles:
            handle.remove()
    count = sum(len(prompt) - 1 for prompt in prompts)
    return {
        f"{name}.weight": MeanInput(total / count, 0 if isinstance(linear[name], Conv1D) else 1)
        for name, total in sums.items()
        if count
    }


@_edits_weights("scale-back", "the share of the change that is taken back", (0.1, 0.3))
def scale_back(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
    """Scales the whole change back: the plain baseline of the other remedies on finished weights.

    Base plus (1 - strength) of the change; strength 1 gives the base model back.
    """
    return {name: _scaled(before, after, strength) for name, before, after in changed(base, tuned, strength)}


def _scaled(before: Tensor, after: Tensor, strength: float) -> Tensor:
    if strength in (0, 1):
        return after if strength == 0 else before.to(after.dtype)
    return (before + (1 - strength) * difference(before, after)).to(after.dtype)
