"""One-layer attention models as matrices, many at once: an ensemble is one batched matrix product."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError, nearest
from spillover.theory.symbolic import Task

Flat = Float[Tensor, "model parameter"]
Logits = Float[Tensor, "model bag token"]
#: From a generator, a weight's name, its shape and the task to its first value.
Draw = Callable[[np.random.Generator, str, tuple[int, ...], Task], np.ndarray]


def gaussian(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Independent normal entries with standard deviation 1 / sqrt(d)."""
    return generator.standard_normal(shape) / np.sqrt(task.vocabulary)


def symmetric(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Random, but equal for all subjects of a split, all b, all c and all noise: no class stands out (Theorem 3)."""
    kind = token_kinds(task)
    table = generator.standard_normal((kind.max() + 1, kind.max() + 1)) / np.sqrt(task.vocabulary)
    if name == "W_OV":
        return table[kind][:, kind]
    if len(shape) == 1 and shape[0] == task.vocabulary:
        return table[0, kind]
    return generator.standard_normal((kind.max() + 1, *shape[1:]))[kind] / np.sqrt(task.vocabulary)


#: Every start by name. None is zero: two zero factors are a fixed point. docs/theory.md, "Starts".
STARTS: dict[str, Draw] = {
    "gaussian": gaussian,
    # Standard deviation 1 / sqrt(columns), so that W_O W_V^T keeps its size.
    "gaussian-width": lambda generator, name, shape, task: generator.standard_normal(shape) / np.sqrt(shape[-1]),
    # Two constant factors stay of rank one in exact arithmetic.
    "constant-1e-4": lambda generator, name, shape, task: np.full(shape, 1e-4),
    # The key scores alone constant, the output and value matrices small.
    "constant-keys": lambda generator, name, shape, task: (
        np.full(shape, 1e-4) if name == "k" else 1e-3 * gaussian(generator, name, shape, task)
    ),
    "symmetric": symmetric,
    "symmetric-perturbed": lambda *given: symmetric(*given) + 1e-3 * gaussian(*given),
}


def token_kinds(task: Task) -> Int[np.ndarray, "token"]:
    """A number for each token's kind: train subject, test subject, r1, r2, b, c, noise, end and unused."""
    kind = np.full(task.vocabulary, 7)
    kind[task.context : task.inputs] = np.arange(task.subjects) % task.subjects_each >= task.train
    kind[:2] = (2, 3)
    kind[task.answers] = 4
    kind[task.implication_answers] = 5
    kind[task.noise] = 6
    kind[task.end] = 8
    return kind


PARAMETRISATIONS = ("factorised", "merged", "linearised")
ATTENTIONS = ("linear", "softmax")
#: fixed: equal scores on subjects and relations, none elsewhere. trained: W_KQ as one matrix, of which only the end
#: token's column k ever has a gradient. factored: W_KQ = W_K W_Q, of which only W_K and the column q = W_Q e_end do.
KEY_QUERIES = ("fixed", "trained", "factored")


def check_choices(settings: object, where: str, **known: Collection[str]) -> None:
    """Raise UsageError for a field whose value is not one of those known."""
    for name, choices in known.items():
        if (value := str(getattr(settings, name))) not in choices:
            raise UsageError(f"{value!r} is no {name}", where=where, do=nearest(value, choices))


@dataclass(frozen=True)
class Model:
    """One model to train: how its weights are written, and where they start.

    Arguments:
    - parameters: factorised (W_O W_V^T), merged (W_OV), or linearised (factorised, to first order around its start).
    - attention: linear or softmax.
    - key_query: a name in KEY_QUERIES.
    - head_dimension: d_h, columns of W_O and W_V; None for the size of the vocabulary.
    - start: a name in STARTS; scale multiplies it.
    - centred: the output matrix counts from its start, so that the first logits are zero.
    - seed: of the start, and of sampled batches.

    Raises: UsageError for a setting that is unknown or cannot be trained.
    """

    parameters: str = "factorised"
    attention: str = "linear"
    key_query: str = "trained"
    head_dimension: int | None = None
    start: str = "gaussian"
    scale: float = 1.0
    centred: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        known = {"parameters": PARAMETRISATIONS, "attention": ATTENTIONS, "key_query": KEY_QUERIES, "start": STARTS}
        check_choices(self, "model", **known)
        if self.head_dimension is not None and self.head_dimension < 1:
            raise UsageError(f"d_h is {self.head_dimension}, but must be at least 1", where="model", do="Use 1 or more")
        if self.scale == 0 and (self.parameters != "merged" or self.key_query != "fixed"):
            what = "a start of zero is a fixed point: each factor's gradient is a product with the other factor"
            raise UsageError(what, where="model", do="Start from a small scale such as 0.0001")


@dataclass(frozen=True)
class BagBatch:
    """One batch of bags for all models: symbolic.Bags as tensors."""

    subject: Int[Tensor, "model bag"]
    context: Float[Tensor, "model bag context"]
    answer: Int[Tensor, "model bag"]
    weight: Float[Tensor, "model bag"]


@runtime_checkable
class Models(Protocol):
    """Models side by side, as a Probe measures them."""

    tasks: tuple[Task, ...]
    like: dict[str, Any]

    def logits(self, batch: BagBatch) -> Logits:
        """The logits of every bag under every model."""


@dataclass(frozen=True)
class Reading:
    """What an ensemble reads with: W_OV transposed, the tokens' key scores, and their product W_OV diag(k).

    A token's score is what its attention is made of: k for linear attention, e^(k - max k) for softmax attention.
    """

    matrix: Float[Tensor, "model input token"]
    keys: Float[Tensor, "model input"]
    effective: Float[Tensor, "model input token"]


def views(flat: Flat, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every matrix by name, the model first, as views into all numbers of all models."""
    parts = flat.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


class Ensemble:
    """Models of one parametrisation and attention, trained together; they may differ in start, rank, task and seed.

    `flat` (model, parameter) holds every trained number; `weights` are views into it by name (of the merged matrix, its
    transpose). Narrow models keep columns of zeros, which no gradient changes. Only the first Task.inputs tokens, those
    that can stand in a sequence, are ever multiplied.
    """

    def __init__(
        self, tasks: Sequence[Task], models: Sequence[Model], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        self.tasks, self.models = tuple(tasks), tuple(models)
        self.kind, self.attention, self.key_query = _shared(self.models, ("parameters", "attention", "key_query"))
        self.size, self.context = _shared(self.tasks, ("vocabulary", "context"))
        self.inputs = max(task.inputs for task in self.tasks)
        self.like: dict[str, Any] = {"dtype": dtype, "device": device}
        starts = [_start(task, model) for task, model in zip(self.tasks, self.models, strict=True)]
        self.start = {name: torch.tensor(_stacked([one[name] for one in starts]), **self.like) for name in starts[0]}
        trained = {name: value.clone() for name, value in self.start.items()}
        if self.kind == "linearised":
            trained |= {name: torch.zeros_like(trained[name]) for name in ("W_O", "W_V")}
        self.flat = torch.cat([value.reshape(len(models), -1) for value in trained.values()], dim=1)
        self.shapes = {name: value.shape[1:] for name, value in self.start.items()}
        self.weights = views(self.flat, self.shapes)
        self._gradient = torch.zeros_like(self.flat)
        self._gradient_views = views(self._gradient, self.shapes)
        # The fixed attention: 1 on subjects and relations, which are weighed equally, and 0 elsewhere.
        self.fixed = torch.zeros(len(models), self.inputs, **self.like)
        for fixed, task in zip(self.fixed, self.tasks, strict=True):
            fixed[task.columns] = 1
        # Row offsets that make one list of every model's tokens, for gathering and adding up.
        self._first = torch.arange(len(models), device=device)[:, None] * self.inputs
        # What is added to the trained part of the matrix: minus the start if centred, plus it if linearised.
        centred = torch.tensor([float(model.centred) for model in self.models], **self.like)[:, None, None]
        factor = 1 - centred if self.kind == "linearised" else -centred
        self._base = self._product(self.start, self.start) * factor if bool(factor.any()) else None

    def __len__(self) -> int:
        return len(self.models)

    def _product(self, values: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Tensor:
        """W_OV transposed, (model, input, token), from the value and the output matrix of two sets of weights."""
        if self.kind == "merged":
            return values["W_OV^T"][:, : self.inputs]
        return torch.bmm(values["W_V"][:, : self.inputs], outputs["W_O"].mT)

    def read(self) -> Reading:
        """W_OV and the key scores as they are now, for `logits` and `pull_back` to share."""
        if self.kind == "linearised":
            matrix = self._product(self.weights, self.start) + self._product(self.start, self.weights)
        else:
            matrix = self._product(self.weights, self.weights)
        matrix = matrix if self._base is None else matrix + self._base
        if self.key_query == "fixed":
            return Reading(matrix, self.fixed, matrix * self.fixed[:, :, None])
        if self.key_query == "trained":
            keys = self.weights["k"][:, : self.inputs]
        else:
            keys = torch.einsum("mtq,mq->mt", self.weights["W_K"], self.weights["q"])[:, : self.inputs]
        if self.attention == "softmax":
            keys = (keys - keys.amax(1, keepdim=True)).exp()
        return Reading(matrix, keys, matrix * keys[:, :, None])

    def effective(self) -> Float[Tensor, "model token input"]:
        """W_OV diag(k): what training shapes, and what may be compared with an exact solution."""
        return self.read().effective.mT

    def logits(self, batch: BagBatch, now: Reading | None = None) -> Logits:
        """The logits of every bag under every model."""
        now = now or self.read()
        place = (batch.subject + self._first).ravel()
        logits = now.effective.view(-1, self.size).index_select(0, place).view(*batch.subject.shape, self.size)
        logits.baddbmm_(batch.context, now.effective[:, : self.context])
        return logits if self.attention == "linear" else logits.div_(self._normaliser(batch, now))

    def _normaliser(self, batch: BagBatch, now: Reading) -> Float[Tensor, "model bag 1"]:
        context = torch.bmm(batch.context, now.keys[:, : self.context, None])
        return now.keys.gather(1, batch.subject)[:, :, None] + context

    def pull_back(self, batch: BagBatch, slope: Logits, logits: Logits, now: Reading) -> Flat:
        """The gradient of a loss in the parameters, given its slope in the logits; valid until the next call.

        With E = W_OV diag(k) and counts u, dE = slope^T u; then dW_OV = dE diag(k) and dk_t = sum_a dE_at W_OV_at, so
        that a trained key-query costs no further product. Softmax attention adds the quotient rule of its normaliser.
        """
        if self.attention == "softmax":
            normaliser = self._normaliser(batch, now)
            share = (slope * logits).sum(-1, keepdim=True) / normaliser
            slope = slope / normaliser
        change, views = self._added_up(batch, slope), self._gradient_views
        if self.key_query != "fixed":
            steepness = (change * now.matrix).sum(2)
            if self.attention == "softmax":
                steepness = (steepness - self._added_up(batch, share)[:, :, 0]) * now.keys
            if self.key_query == "trained":
                views["k"][:, : self.inputs] = steepness
            else:
                views["W_K"][:, : self.inputs] = steepness[:, :, None] * self.weights["q"][:, None, :]
                views["q"].copy_(torch.einsum("mt,mtq->mq", steepness, self.weights["W_K"][:, : self.inputs]))
        change.mul_(now.keys[:, :, None])
        if self.kind == "merged":
            views["W_OV^T"][:, : self.inputs] = change
        else:
            at = self.weights if self.kind == "factorised" else self.start
            views["W_V"][:, : self.inputs] = torch.bmm(change, at["W_O"])
            views["W_O"].copy_(torch.bmm(change.mT, at["W_V"][:, : self.inputs]))
        return self._gradient

    def _added_up(self, batch: BagBatch, slope: Tensor) -> Float[Tensor, "model input column"]:
        """u^T slope: for every token, the slopes of the bags that hold it, as often as they hold it."""
        total = torch.zeros(len(self) * self.inputs, slope.shape[-1], **self.like)
        total.index_add_(0, (batch.subject + self._first).ravel(), slope.flatten(0, 1))
        total = total.view(len(self), self.inputs, -1)
        total[:, : self.context] = torch.bmm(batch.context.mT, slope)
        return total


def _start(task: Task, model: Model) -> dict[str, np.ndarray]:
    """The named start of one model, each matrix from a generator of its own."""
    size, width = task.vocabulary, model.head_dimension or task.vocabulary
    names = ["W_OV"] if model.parameters == "merged" else ["W_O", "W_V"]
    names += {"fixed": [], "trained": ["k"], "factored": ["W_K", "q"]}[model.key_query]
    matrix, vector = (size, size), (size,)
    shapes = {"W_OV": matrix, "W_O": (size, width), "W_V": (size, width), "k": vector, "W_K": matrix, "q": vector}
    drawn = {}
    for name in names:
        generator = np.random.default_rng([model.seed, 1 + list(shapes).index(name)])
        drawn[name] = model.scale * STARTS[model.start](generator, name, shapes[name], task)
    return {"W_OV^T": drawn.pop("W_OV").T, **drawn} if model.parameters == "merged" else drawn


def _stacked(values: Sequence[np.ndarray]) -> Float[np.ndarray, "model ..."]:
    """The models' matrices as one array, narrow ones filled with zero columns."""
    width = max(value.shape[-1] for value in values)
    return np.stack([np.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, width - v.shape[-1])]) for v in values])


def _shared(items: Sequence[Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    if not items:
        raise UsageError("there is no model to train", do="Name at least one")
    for name in names:
        if len({getattr(item, name) for item in items}) > 1:
            raise UsageError(f"models that train together must share {name!r}", do="Train them in two batches")
    return tuple(getattr(items[0], name) for name in names)
