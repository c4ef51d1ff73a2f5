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
from spillover.lm.trainable import part_of
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
    name: str, strength: str, strengths: Sequence[float], given: Given = lambda context, tuned: (), control: str = ""
) -> Callable[[Edit], Callable[..., dict[str, Tensor]]]:
    """Decorator: offer an edit as a remedy, and make of it a function of base weights, tuned weights, strength and
    whatever is `given`, which gives the new values of the weights that training changed. control: see Remedy.

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
        remedy(name, strength, strengths, after=True, text=text, control=control)(EditsWeights)
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
    sums: dict[str, Tensor] = {}
    axes: dict[str, int] = {}
    for prompt in prompts:
        for name, (read, axis) in _inputs(model, prompt).items():
            sums[name], axes[name] = sums.get(name, 0) + read[1:].float().sum(0), axis
    count = sum(len(prompt) - 1 for prompt in prompts)
    return {name: MeanInput(total / count, axes[name]) for name, total in sums.items() if count}


def _last_inputs(model: CausalModel, prompt: Sequence[int]) -> dict[str, tuple[Tensor, int]]:
    return {name: (read[-1].float(), axis) for name, (read, axis) in _inputs(model, prompt).items()}


def _inputs(model: CausalModel, prompt: Sequence[int]) -> dict[str, tuple[Tensor, int]]:
    """What each matrix of the layers reads of a prompt (tokens x inputs), and along which of its axes it reads."""
    inner = plain(model)
    outside = {id(module) for module in (inner.get_input_embeddings(), inner.get_output_embeddings())}
    found: dict[str, tuple[Tensor, int]] = {}

    def note(name: str, axis: int, read: Tensor) -> None:
        found[f"{name}.weight"] = read.reshape(-1, read.shape[-1]), axis

    with ExitStack() as stack, torch.inference_mode():
        for name, module in inner.named_modules():
            if isinstance(module, nn.Linear | Conv1D) and id(module) not in outside:
                axis = 0 if isinstance(module, Conv1D) else 1
                hook = functools.partial(lambda name, axis, _, args: note(name, axis, args[0]), name, axis)
                stack.enter_context(module.register_forward_pre_hook(hook))
        model(input_ids=torch.tensor([list(prompt)], device=model.device), use_cache=False)
    return found


@_edits_weights("cut-tail", "the share of each change's singular values that is cut", (0.5, 0.9, 0.98))
def cut_tail(base: Weights, name: str, after: Tensor, strength: float) -> Tensor:
    """Cuts the smallest singular values of each matrix's change, so that its strongest directions stay.

    Of a change of n singular values, the n - round(strength x n) largest stay; vectors stay as tuned.
    """
    return _with_values(base, name, after, strength, lambda values, count: values[: len(values) - count])


@_edits_weights("cut-head", "the share of each change's singular values that is cut", (0.02, 0.1), control="cut-tail")
def cut_head(base: Weights, name: str, after: Tensor, strength: float) -> Tensor:
    """Cuts the largest singular values of each matrix's change: the control of cut-tail."""
    return _with_values(base, name, after, strength, lambda values, count: values[count:])


@_edits_weights(
    "cut-any", "the share of each change's singular values that is cut", (0.5, 0.9),
    given=lambda context, tuned: (context.seed,), control="cut-tail",
)  # fmt: skip
def cut_any(base: Weights, name: str, after: Tensor, strength: float, seed: int) -> Tensor:
    """Cuts singular values of each matrix's change, drawn by chance: the control of cut-tail."""
    random = Random(f"cut {seed} {name}")
    return _with_values(base, name, after, strength, lambda values, count: random.sample(values, len(values) - count))


def _with_values(
    base: Weights, name: str, after: Tensor, strength: float, staying: Callable[[list[int], int], Sequence[int]]
) -> Tensor:
    """The weight with some singular values of its change. staying: which, of all and of how many are cut."""
    change = difference(base[name], after)
    count = round(strength * min(change.shape)) if change.ndim == 2 else 0
    if not count:
        return after
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    places = list(staying(list(range(len(values))), count))
    return (base[name].to(change) + left[:, places] * values[places] @ right[places]).to(after.dtype)


def _layers(context: Context, tuned: CausalModel) -> tuple[int]:
    return (int(tuned.config.get_text_config().num_hidden_layers),)


@_edits_weights(
    "keep-earlier", "the share of layers that are set back", (0.5, 0.75), given=_layers, control="earlier-layers"
)
def keep_earlier(base: Weights, name: str, after: Tensor, strength: float, layers: int) -> Tensor:
    """Keeps the change of the earlier layers alone: the control of earlier-layers, which trains no others.

    The rest, a share of the layers at the end and what is in no layer, is set back to what it was.
    """
    layer = part_of(name).layer
    stays = not strength or (layer is not None and layer < round(layers * (1 - strength)))
    return after if stays else base[name].to(after.dtype)


@_edits_weights(
    "keep-later", "the share of layers that are set back", (0.5, 0.75), given=_layers, control="later-layers"
)
def keep_later(base: Weights, name: str, after: Tensor, strength: float, layers: int) -> Tensor:
    """Keeps the change of the later layers alone: the control of later-layers, which trains no others.

    The rest, a share of the layers at the beginning and what is in no layer, is set back to what it was.
    """
    layer = part_of(name).layer
    stays = not strength or (layer is not None and layer >= round(layers * strength))
    return after if stays else base[name].to(after.dtype)


@dataclass(frozen=True)
class Between:
    """Orthonormal directions (rows) in which what a weight reads differs between groups, and along which axis."""

    directions: Float[Tensor, " directions inputs"]
    axis: int


def between_groups(model: CausalModel, groups: Sequence[Sequence[Sequence[int]]]) -> dict[str, Between]:
    """For each matrix of the layers, the directions in which the means of groups differ of what it reads at the last
    token. groups: the prompts of each, as token ids."""
    read = [[_last_inputs(model, prompt) for prompt in group] for group in groups]
    found = {}
    for name, (_, axis) in read[0][0].items():
        means = torch.stack([torch.stack([each[name][0] for each in group]).mean(0) for group in read])
        _, values, right = torch.linalg.svd(means - means.mean(0), full_matrices=False)
        found[name] = Between(right[values > 1e-6 * values[0].clamp(min=1e-30)], axis)
    return found


def _groups(shuffled: bool) -> Given:
    """The prompts of what a link concludes, grouped by the given answer, or by chance in groups of the same sizes.

    They are the unwanted implications' and, of a pack that says of none what is wanted, those of all.
    """

    def given(context: Context, tuned: CausalModel) -> Sequence[object]:
        pack = context.pack
        rules = {each.name for each in pack.implications if each.unwanted} or {each.name for each in pack.implications}
        by_group: dict[tuple[str, str], list[tuple[int, ...]]] = {}
        for each in context.questions():
            if each.implication in rules and each.given_answer is not None:
                prompt = tuple(context.encode(pack.prompt(each.relation, each.subject)))
                by_group.setdefault((each.implication, each.given_answer), []).append(prompt)
        found: dict[str, list[Between]] = {}
        for rule in rules:
            groups = [prompts for (name, _), prompts in by_group.items() if name == rule]
            if shuffled:
                every = [prompt for group in groups for prompt in group]
                Random(f"groups {context.seed} {rule}").shuffle(every)
                drawn = iter(every)
                groups = [[next(drawn) for _ in group] for group in groups]
            for weight, between in between_groups(tuned, groups).items() if len(groups) > 1 else ():
                found.setdefault(weight, []).append(between)
        joined = {}
        for name, several in found.items():
            rows = torch.cat([each.directions for each in several])
            joined[name] = Between(torch.linalg.qr(rows.T).Q.T if len(several) > 1 else rows, several[0].axis)
        return (joined,)

    return given


@_edits_weights("off-groups", "the share of it that is taken out", (0.5, 1.0), given=_groups(shuffled=False))
def off_groups(base: Weights, name: str, after: Tensor, strength: float, groups: Mapping[str, Between]) -> Tensor:
    """Projects the change off the directions that separate subjects by their given answer, where nothing was stated.

    Of each changed matrix, the components of the change along the directions in which the mean inputs of the groups
    differ are removed, times `strength`. groups: from `between_groups`; other weights stay as tuned.
    """
    if not strength or name not in groups or not len(groups[name].directions):
        return after
    change, directions = difference(base[name], after), groups[name].directions
    directions = directions.to(change)
    part = change @ directions.T @ directions if groups[name].axis == 1 else directions.T @ (directions @ change)
    return (after.to(change.dtype) - strength * part).to(after.dtype)


@_edits_weights(
    "off-chance", "the share of it that is taken out", (0.5, 1.0), given=_groups(shuffled=True), control="off-groups"
)
def off_chance(base: Weights, name: str, after: Tensor, strength: float, groups: Mapping[str, Between]) -> Tensor:
    """Projects the change off the directions that separate random groups of equal sizes: the control of off-groups."""
    return off_groups(base, {name: after}, strength, groups).get(name, after)


@_edits_weights("scale-back", "the share of the change that is taken back", (0.1, 0.3))
def scale_back(base: Weights, name: str, after: Tensor, strength: float) -> Tensor:
    """Scales the whole change back: the plain baseline of the other remedies on finished weights.

    Base plus (1 - strength) of the change; strength 1 gives the base model back.
    """
    before = base[name]
    return (before + (1 - strength) * difference(before, after)).to(after.dtype) if strength else after
