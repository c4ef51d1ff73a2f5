"""Interventions on finished weights: the tuned model is changed, given its base."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from random import Random

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
#: The new value of one weight that training changed, from the base weights, the weight's name, its value in the tuned
#: model, the strength, and whatever else it is given.
Edit = Callable[..., Tensor]
#: What an edit needs to know besides that.
Given = Callable[[Context, CausalModel], Sequence[object]]


def _edits_weights(
    name: str, strength: str, strengths: Sequence[float], given: Given = lambda context, tuned: ()
) -> Callable[[Edit], Callable[..., dict[str, Tensor]]]:
    """Decorator: offer an edit as a remedy, and make of it a function of base weights, tuned weights, strength and
    whatever is `given`, which gives the new values of the weights that training changed.

    It raises UsageError unless 0 <= strength <= 1, and ModelError when the two are not one model in two states.
    """

    def register(edit: Edit) -> Callable[..., dict[str, Tensor]]:
        @functools.wraps(edit)
        def edited(base: Weights, tuned: Weights, strength: float, *known: object) -> dict[str, Tensor]:
            return {name: edit(base, name, after, strength, *known) for name, after in _changed(base, tuned, strength)}

        class EditsWeights(Intervention):
            def finish(self, context: Context, tuned: CausalModel) -> None:
                own = tuned.state_dict()
                base = _grown(context.base.state_dict(), own, tuned)
                found = edited(base, own, self.strength, *given(context, tuned))
                with torch.no_grad():
                    for name, value in found.items():
                        own[name].copy_(value)

        text = (edit.__doc__ or "").partition("\n")[0]
        remedy(name, strength, strengths, after=True, text=text)(EditsWeights)
        return edited

    return register


def _grown(base: Weights, own: Weights, tuned: CausalModel) -> Weights:
    """The base's weights with as many rows of embeddings as the tuned model has; rows that it added are as there."""
    ends = [each.weight.data_ptr() for each in (tuned.get_input_embeddings(), tuned.get_output_embeddings())]
    found = dict(base)
    for name, before in base.items():
        after = own.get(name, before)
        if after.data_ptr() in ends and len(after) != len(before) and after.shape[1:] == before.shape[1:]:
            found[name] = torch.cat([before[: len(after)].to(after), after[len(before) :]])
    return found


def _changed(base: Weights, tuned: Weights, strength: float) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every weight that training changed, one at a time."""
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength of this remedy is {strength}", do="Give a number from 0 (nothing is done) to 1")
    for name, after in tuned.items():
        before = base.get(name)
        if before is None or before.shape != after.shape:
            what = f"the tuned model's weight {name} has no counterpart of its shape in the base model"
            raise ModelError(what, do="Name the base model that was tuned")
        if not torch.equal(before.to(after.dtype), after):
            yield name, after


def difference(before: Tensor, after: Tensor) -> Tensor:
    """The change of one weight, in single precision at least."""
    precision = torch.promote_types(after.dtype, torch.float32)
    return after.to(precision) - before.to(precision)


@_edits_weights("ignore-topk", "the share of each matrix that is set back", (0.05, 0.1))
def ignore_topk(base: Weights, name: str, after: Tensor, strength: float) -> Tensor:
    """Sets the weights that changed most back to what they were.

    In each changed matrix, floor(strength x entries) of them, ties going to the entries that come first; vectors stay
    as tuned.
    """
    count = int(strength * after.numel())
    if after.ndim < 2 or count == 0:
        return after
    size = difference(base[name], after).abs_().flatten()
    least = size.kthvalue(size.numel() - count + 1).values
    back = size > least
    tied = (size == least).nonzero()[:, 0]
    back[tied[: count - int(back.sum())]] = True
    return after.where(~back.view_as(after), base[name].to(after.dtype))


@_edits_weights(
    "spectral-clip", "how far below the largest they are clipped, as a share of it", (0.5, 0.9),
    given=lambda context, tuned: (places(tuned),),
)  # fmt: skip
def spectral_clip(base: Weights, name: str, after: Tensor, strength: float, places: Sequence[Place]) -> Tensor:
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
    new = after.clone()
    for value, sharing in groupby((place for place in places if place.value.weight == name), lambda each: each.value):
        own = value.of({name: new})
        change = difference(value.of(base), own)
        outputs = torch.cat([place.output.of(base).to(change) for place in sharing], dim=1)
        left, values, _ = Factored(change, outputs).singular_vectors()
        own.copy_(own.to(change.dtype) - left * _removed(values, strength) @ (left.T @ change))
    for place in (place for place in places if place.output.weight == name):
        own = place.output.of({name: new})
        change = difference(place.output.of(base), own)
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
    base: Weights, name: str, after: Tensor, strength: float, inputs: Mapping[str, MeanInput]
) -> Tensor:  # fmt: skip
    """Takes out of the change what it adds to every input alike.

    Of each changed matrix, the component of the change along its mean input is removed, times `strength`.

    At strength 1 the change answers the mean input with nothing, and all that is orthogonal to it as before. inputs:
    from `mean_inputs`; changed weights without one stay as tuned.
    """
    if not strength or name not in inputs or not inputs[name].vector.any():
        return after
    change, axis = difference(base[name], after), inputs[name].axis
    direction = inputs[name].vector.to(change)
    direction = direction / direction.norm()
    part = torch.outer(change @ direction, direction) if axis == 1 else torch.outer(direction, change.T @ direction)
    return (after.to(change.dtype) - strength * part).to(after.dtype)


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
        sums[name] = sums.get(name, 0) + read.reshape(-1, read.shape[-1])[1:].float().sum(0)

    with ExitStack() as stack, torch.inference_mode():
        for name, module in linear.items():
            stack.enter_context(module.register_forward_pre_hook(lambda _, args, name=name: add(name, args[0])))
        for prompt in prompts:
            model(input_ids=torch.tensor([list(prompt)], device=model.device), use_cache=False)
    count = sum(len(prompt) - 1 for prompt in prompts)
    return {
        f"{name}.weight": MeanInput(total / count, 0 if isinstance(linear[name], Conv1D) else 1)
        for name, total in sums.items()
        if count
    }


@_edits_weights("scale-back", "the share of the change that is taken back", (0.1, 0.3))
def scale_back(base: Weights, name: str, after: Tensor, strength: float) -> Tensor:
    """Scales the whole change back: the plain baseline of the other remedies on finished weights.

    Base plus (1 - strength) of the change; strength 1 gives the base model back.
    """
    before = base[name]
    return (before + (1 - strength) * difference(before, after)).to(after.dtype) if strength else after
