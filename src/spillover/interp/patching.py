"""Patching: the weight change of one component or layer, put into the base model or reverted in the tuned one.

And its first-order expansion: what the model would answer in the lazy limit.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.pytorch_utils import Conv1D

from spillover.errors import ModelError
from spillover.lm.memory import out_of_memory
from spillover.lm.output_value import Place, changes_of, places, weight_of
from spillover.lm.score import CausalModel, Method, PrefixTree, Scorer, batch_for, logits_only_at
from spillover.lm.tokens import Request
from spillover.lm.trainable import part_of
from spillover.record import WHOLLY

#: Values and outputs of attention; all else in attention; the other matrices of the layers; embeddings; what is left.
COMPONENTS = ("output-value", "key-query", "mlp", "embeddings", "rest")
#: What is in no layer, and the whole change.
OUTSIDE = "outside the layers"
#: Numbers whose squares are summed at a time, in double precision.
_AT_ONCE = 1 << 22

#: Which numbers of each weight: True where, or None for all of them.
Region = Mapping[str, Bool[Tensor, "..."] | None]


class PatchedPart(NamedTuple):
    """A component or a layer, and the numbers that belong to it."""

    name: str
    kind: str
    region: Region


def parts_of(model: CausalModel, names: Iterable[str]) -> list[PatchedPart]:
    """The weights of these names as components, and again as layers, every number in exactly one of either; parts
    without any are left out. Raises ModelError when the model has no attention of a known shape."""
    found = places(model)
    blocks = list(dict.fromkeys(place.value.weight.rsplit(".", 3)[0] for place in found))
    layers = [*(f"layer {number}" for number in range(1, len(blocks) + 1)), OUTSIDE]
    keys = [*(("component", name) for name in COMPONENTS), *(("layer", name) for name in layers)]
    regions: dict[tuple[str, str], dict[str, Tensor | None]] = {key: {} for key in keys}
    for name in names:
        for component, mask in _components(model, found, name).items():
            regions["component", component][name] = mask
        inside = (layer for layer, block in zip(layers, blocks, strict=False) if name.startswith(f"{block}."))
        regions["layer", next(inside, OUTSIDE)][name] = None
    return [PatchedPart(name, kind, region) for (kind, name), region in regions.items() if region]


def _components(model: CausalModel, found: list[Place], name: str) -> dict[str, Tensor | None]:
    """The components that a weight belongs to; only a fused projection of queries, keys and values is of two."""
    owner, _, kind = name.rpartition(".")
    module, own = model.get_submodule(owner), f"{owner}.weight"
    if isinstance(module, nn.Embedding) or module is model.get_output_embeddings():
        return {"embeddings": None}
    if any(place.output.weight == own for place in found):
        return {"output-value": None}
    if values := [place.value for place in found if place.value.weight == own]:
        own_numbers = torch.zeros_like(module.get_parameter(kind).detach())
        for value in values:
            if kind == "bias":
                own_numbers[value.start : value.stop] = 1
            else:
                value.of({own: own_numbers}).fill_(1)
        mask = own_numbers.bool()
        return {"output-value": None} if mask.all() else {"output-value": mask, "key-query": ~mask}
    if any(owner.startswith(place.value.weight.rsplit(".", 2)[0] + ".") for place in found):
        return {"key-query": None}
    matrix = isinstance(module, nn.Linear | Conv1D) or part_of(name).kind == "mlp"
    return {"mlp" if matrix else "rest": None}


class Change:
    """The weight change that training made: patches parts of it into the base model, in place, and reverts them.

    tuned: new values by the names of the model's weights; weights that are equal are left out of `after`.
    model: a copy with the same weights where `tuned` has two values for one that goes by two names. Raises ModelError
    when they are not weights of this model.
    """

    def __init__(self, model: CausalModel, tuned: Mapping[str, Tensor]) -> None:
        if parted := tuned.keys() & (_parameters(model, all_names=True).keys() - _parameters(model).keys()):
            model = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
            for owner, _, kind in (name.rpartition(".") for name in parted):
                module = model.get_submodule(owner)
                setattr(module, kind, nn.Parameter(getattr(module, kind).detach().clone()))
        self.model, self._own = model, _parameters(model)
        self.before: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}
        for name, value in tuned.items():
            own = self._own.get(name)
            if own is None or own.shape != value.shape:
                what = f"the weight {name} has no counterpart of its shape in the base model"
                raise ModelError(what, do="Name a run that was made from this model")
            value = value.to(own)
            if not torch.equal(value, own):
                self.before[name], self.after[name] = own.clone(), value.detach()
        self.whole = PatchedPart(WHOLLY, "whole", dict.fromkeys(self.after))

    @cached_property
    def parts(self) -> list[PatchedPart]:
        """Components and layers that changed; see `parts_of`, and what it raises."""
        return parts_of(self.model, self.after)

    def only(self, part: PatchedPart) -> AbstractContextManager[CausalModel]:
        """Inside, the base model with the tuned values of this part alone."""
        return self._patched((self.after, part.region))

    def without(self, part: PatchedPart) -> AbstractContextManager[CausalModel]:
        """Inside, the tuned model with the base values of this part."""
        return self._patched((self.after, self.whole.region), (self.before, part.region))

    @contextmanager
    def share(self, size: float) -> Iterator[CausalModel]:
        """Inside, the base model with this share of the change added; it may be negative."""
        with self._patched() as model:
            for name, before in self.before.items():
                self._own[name].copy_(before + size * (self.after[name] - before))
            yield model

    @property
    def squared_norm(self) -> float:
        """Of the whole change."""
        return sum(_squares(before, self.after[name])[0] for name, before in self.before.items())

    @contextmanager
    def disturbed(self, size: float, generator: torch.Generator) -> Iterator[CausalModel]:
        """Inside, the tuned model moved by this share of the change's length, at random but orthogonally to the change.

        generator: of the CPU. One direction over all weights that changed, alike for every device and number format.
        """
        noise = {name: torch.randn(each.shape, generator=generator) for name, each in self.before.items()}
        deltas = {name: (self.after[name].double() - each.double()).cpu() for name, each in self.before.items()}
        along = sum(float((noise[name].double() * delta).sum()) for name, delta in deltas.items()) / self.squared_norm
        across = {name: noise[name].double() - along * delta for name, delta in deltas.items()}
        length = (self.squared_norm / sum(float(each.square().sum()) for each in across.values())) ** 0.5
        moved = {name: self.after[name] + (size * length * each).to(self.after[name]) for name, each in across.items()}
        with self._patched((moved, self.whole.region)) as model:
            yield model

    @contextmanager
    def _patched(self, *patches: tuple[Mapping[str, Tensor], Region]) -> Iterator[CausalModel]:
        """Inside, the model with these values in these regions; afterwards the base model, byte for byte."""
        try:
            for values, region in patches:
                self._put(values, region)
            yield self.model
        finally:
            self._put(self.before, self.whole.region)

    def _put(self, values: Mapping[str, Tensor], region: Region) -> None:
        for name, mask in region.items():
            own = self._own[name]
            own.copy_(values[name] if mask is None else torch.where(mask, values[name], own))


class Preference(NamedTuple):
    """Two reasons for which gradient descent may prefer a change: it buys much with little, and noise leaves it whole.

    before, after: the loss of the base and of the tuned model. squared_norm: of the change. efficiency: the loss taken
    away a unit of squared norm. disturbed: what noise adds to the loss, a number for each draw.
    """

    before: float
    after: float
    squared_norm: float
    efficiency: float
    disturbed: list[float]


def preference(
    change: Change, loss: Callable[[CausalModel], float], *, size: float = 1.0, draws: int = 4, seed: int = 0
) -> Preference:
    """How efficient a change is, and how stable under noise that is orthogonal to it.

    Arguments:
    - change: of one run, as saved; compare runs that reached the same loss, one that concludes and one that does not.
    - loss: of a model, such as its mean loss on the stated rows; called with gradients off.
    - size: of the noise, as a share of the change's length.
    - draws: of noise, from a generator with this seed.

    Returns: a Preference.

    Raises: ModelError for a change of nothing.
    """
    if not change.after:
        raise ModelError("training changed no weight", do="Name another run")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        before = loss(change.model)
        with change.only(change.whole) as model:
            after = loss(model)
        disturbed = []
        for _ in range(draws):
            with change.disturbed(size, generator) as model:
                disturbed.append(loss(model) - after)
    return Preference(before, after, change.squared_norm, (before - after) / change.squared_norm, disturbed)


def moved(base: CausalModel, tuned: CausalModel) -> dict[str, float]:
    """Part -> Frobenius norm of its change over that of what it was, both over the matrices that training changed.

    Vectors count in `rest` alone: those of norms may be so large that they hide what moved. Of a model without
    attention of a known shape, only `everything`; empty when nothing changed. tuned: may be a PEFT model. Of a model
    whose output-value products were merged, the change of the products over the products.
    """
    if any(name.endswith(".merged") for name, _ in tuned.named_parameters()):
        changes = changes_of(tuned)
        weights = {name: weight.detach() for name, weight in base.named_parameters()}
        start = sum(float(place.product(weights).squared_norm()) for place in changes)
        change = sum(float(each.double().square().sum()) for each in changes.values())
        return {WHOLLY: (change / start) ** 0.5} if change else {}
    before, after = _parameters(base, all_names=True), dict[str, Tensor]()
    for name, value in before.items():
        new = weight_of(tuned, name).detach()
        # A weight that goes by two names counts once, unless an adapter changed it under one of them.
        known = {value.data_ptr(), *(each.data_ptr() for each in after.values())}
        if new.data_ptr() not in known and not torch.equal(new, value):
            after[name] = new
    return parts_moved(base, before, after)


def parts_moved(model: CausalModel, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """How far the whole and each part moved; see `moved`."""
    parts = [PatchedPart(WHOLLY, "whole", dict.fromkeys(after))]
    with suppress(ModelError):
        parts += parts_of(model, after)
    # A weight without a mask is in the whole, in a component and in a layer.
    squares = cache(lambda name: _squares(before[name], after[name]))
    found = {}
    for part in parts:
        change = start = 0.0
        for name, mask in part.region.items():
            if part.name == COMPONENTS[-1] or before[name].ndim > 1:
                own = squares(name) if mask is None else _squares(before[name][mask], after[name][mask])
                change, start = change + own[0], start + own[1]
        if start:
            found[part.name] = (change / start) ** 0.5
    return found


def _squares(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Summed squares of the change and of the start, in double precision."""
    change = start = 0.0
    for parts in zip(before.reshape(-1).split(_AT_ONCE), after.reshape(-1).split(_AT_ONCE), strict=True):
        # Apple's GPUs have no double precision.
        old, new = ((each.cpu() if each.device.type == "mps" else each).double() for each in parts)
        change, start = change + float((new - old).square().sum()), start + float(old.square().sum())
    return change, start


def _parameters(model: Any, all_names: bool = False) -> dict[str, Tensor]:
    """The model's weights by name, each once or under `all_names`; writing into one writes into the model."""
    named = model.named_parameters(remove_duplicate=not all_names)
    return {name: value.detach() for name, value in named if value.is_floating_point()}


#: The share of the change that a finite difference adds and subtracts.
STEP = 2.0**-6
#: Forward-mode differentiation, or finite differences where an operation of the model has none.
How = Literal["forward mode", "finite difference"]


def slopes(change: Change, asks: Sequence[Request], method: Method | None) -> tuple[list[Float[np.ndarray, "_"]], How]:
    """J(theta0) . delta: the derivative of each candidate's log-probability (nats) along the change, at the base.

    The base's score plus this is the score of the model's first-order expansion. Also says how it was computed. method:
    how a scorer of this model feeds texts. Raises ModelError as Scorer.score does.
    """
    try:
        return _Slopes(change, method).score(asks), "forward mode"
    except (NotImplementedError, RuntimeError) as error:
        if out_of_memory(error):
            raise
    ends = []
    for size in (STEP, -STEP):
        with change.share(size) as model:
            ends.append(Scorer(model, method=method).score(asks))
    return [(ahead - behind) / (2 * STEP) for ahead, behind in zip(*ends, strict=True)], "finite difference"


class _Slopes(Scorer):
    """Scores by the derivative along the change instead of by the log-probability itself."""

    def __init__(self, change: Change, method: Method | None) -> None:
        super().__init__(change.model, method=method)
        # Values and derivatives take twice the room.
        self.maximum_tokens, self.maximum_logits = self.maximum_tokens // 2, self.maximum_logits // 2
        self.before = dict(change.before)
        self.along = {name: change.after[name] - value for name, value in change.before.items()}

    def score_batch(self, trees: Sequence[PrefixTree]) -> Float[np.ndarray, "text"]:
        model: Any = self.model

        def scores(values: dict[str, Tensor]) -> Tensor:
            with logits_only_at(model, batch.scored):
                given = functional_call(model, values, (), {**batch.fed, "use_cache": False})
            return batch.log_probabilities(given.logits[0].float())

        # The fused kernels of attention have no derivative in this direction; inference mode has none at all.
        with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            batch = batch_for(model, trees)
            return batch.by_text(jvp(scores, (self.before,), (self.along,))[1])
