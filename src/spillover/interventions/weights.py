"""Interventions on finished weights: the tuned model is changed, given its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from spillover.errors import ModelError, UsageError
from spillover.interventions.base import Context, Intervention, Remedy
from spillover.lm.output_value import Factored, Place, places, plain
from spillover.lm.score import CausalModel
from spillover.packs.edits import further_subjects

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


def ignore_topk(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
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


def scale_back(base: Weights, tuned: Weights, strength: float) -> dict[str, Tensor]:
    """Base plus (1 - strength) of the change; strength 1 gives the base model back.

    Raises UsageError for a strength outside 0 to 1, ModelError when the two are not one model in two states.
    """
    refuse_strength("scale-back", strength)
    return {name: _scaled(before, after, strength) for name, before, after in changed(base, tuned)}


def _scaled(before: Tensor, after: Tensor, strength: float) -> Tensor:
    if strength in (0, 1):
        return after if strength == 0 else before.to(after.dtype)
    return (before + (1 - strength) * difference(before, after)).to(after.dtype)


def spectral_clip(base: Weights, tuned: Weights, strength: float, places: Sequence[Place]) -> dict[str, Tensor]:
    """Every singular value of a head's change beyond (1 - strength) times the largest is lowered to that.

    With V and O the base factors and dV, dO their changes, W_OV changes by dV O + V dO + dV dO. What is clipped is the
    change through the values, dV O (over all query heads that share V, side by side), and the change through the
    outputs, V dO; dV dO follows. Both are matrices between hidden states, so it does not matter how W_OV is split
    into factors, as it would if dV and dO were clipped themselves; and both clipped matrices have the form of a change
    of one factor, so they are stored exactly, whereas the nearest clipped W_OV of each head has no V to share.

    places: from `llm.inside.heads.places`. Strength 1 takes the change of values and outputs back. All other weights
    stay as tuned. Raises UsageError for a strength outside 0 to 1, ModelError when the two are not one model in two
    states.
    """
    refuse_strength("spectral-clip", strength)
    found = {name: after for name, _, after in changed(base, tuned)}
    if strength:
        for name, group in _by_weight(places, "value").items():
            if name in found:
                found[name] = _clipped_values(base, found[name], strength, group)
        for name, group in _by_weight(places, "output").items():
            if name in found:
                found[name] = _clipped_outputs(base, found[name], strength, group)
    return found


def _by_weight(places: Sequence[Place], factor: str) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(getattr(place, factor).weight, []).append(place)
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


def _clipped_outputs(base: Mapping[str, Tensor], tuned: Tensor, strength: float, group: Sequence[Place]) -> Tensor:
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


def constant_direction(
    base: Weights, tuned: Weights, strength: float, inputs: Mapping[str, MeanInput]
) -> dict[str, Tensor]:
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


#: (scene, tuned model, strength) -> the new value of every weight that differs from the base's, by name.
Change = Callable[[Context, CausalModel, float], dict[str, Tensor]]
#: Prompts about never-seen subjects behind the mean inputs.
PROMPTS = 24


class Finished(Intervention):
    """Changes finished weights."""

    def __init__(self, strength: float, change: Change) -> None:
        super().__init__(strength)
        self.change = change

    def finish(self, scene: Context, tuned: CausalModel) -> None:
        found = self.change(scene, tuned, self.strength)
        own = tuned.state_dict()
        with torch.no_grad():
            for name, value in found.items():
                own[name].copy_(value)


def _ignore_topk(scene: Context, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return ignore_topk(scene.base.state_dict(), tuned.state_dict(), strength)


def _scale_back(scene: Context, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return scale_back(scene.base.state_dict(), tuned.state_dict(), strength)


def _spectral_clip(scene: Context, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return spectral_clip(scene.base.state_dict(), tuned.state_dict(), strength, places(tuned))


def _constant_direction(scene: Context, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    """Mean inputs are those of the pack's prompts about subjects that it does not hold."""
    pack, random = scene.pack, Random(f"constant {scene.seed}")
    subjects = further_subjects(pack, PROMPTS, f"constant {scene.seed}")
    relations = [relation.name for relation in pack.relations]
    prompts = [scene.encode(pack.prompt(relations[int(random.random() * len(relations))], each)) for each in subjects]
    inputs = mean_inputs(tuned, prompts)
    return constant_direction(scene.base.state_dict(), tuned.state_dict(), strength, inputs)


def _remedy(text: str, strength: str, strengths: tuple[float, ...], change: Change) -> Remedy:
    return Remedy(text, strength, strengths, 1.0, lambda dose: Finished(dose, change), after=True)


IGNORE_TOPK = _remedy(
    "Sets the weights that changed most back to what they were.",
    "the share of each matrix that is set back",
    (0.05, 0.1),
    _ignore_topk,
)
SPECTRAL_CLIP = _remedy(
    "Clips the largest singular values of the change of each head's output-value product.",
    "how far below the largest they are clipped, as a share of it",
    (0.5, 0.9),
    _spectral_clip,
)
CONSTANT_DIRECTION = _remedy(
    "Takes out of the change what it adds to every input alike.",
    "the share of it that is taken out",
    (0.5, 1.0),
    _constant_direction,
)
SCALE_BACK = _remedy(
    "Scales the whole change back: the plain baseline of the other remedies on finished weights.",
    "the share of the change that is taken back",
    (0.1, 0.3),
    _scale_back,
)
