"""One-layer attention models as matrices, many at once: an ensemble is one batched matrix product.

A sequence matters only through its token counts u and the end token's key scores k = W_KQ e_end (docs/theory.md, "The
bag identity"). Linear attention: logits = W_OV (u * k). Softmax attention: logits = W_OV w, w = u e^k / sum(u e^k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError, nearest
from spillover.theory.symbolic import Task

PARAMETRISATIONS = ("factorised", "merged", "linearised")
ATTENTIONS = ("linear", "softmax")
#: fixed: equal scores on subjects and relations, none elsewhere. trained: W_KQ as one matrix, of which only the end
#: token's column k ever has a gradient. factored: W_KQ = W_K W_Q, of which only W_K and the column q = W_Q e_end do.
KEY_QUERIES = ("fixed", "trained", "factored")


@dataclass(frozen=True)
class Model:
    """One model to train: how its weights are written, and where they start.

    parameters: factorised (W_O W_V^T), merged (W_OV), or linearised (the factorised model's first-order expansion
    around its start). head_dimension: d_h, columns of W_O and W_V; None for the size of the vocabulary. start: a name in
    STARTS; scale multiplies it. centred: the output matrix counts from its start, so that the first logits are zero.
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
        for name, known in (("parameters", PARAMETRISATIONS), ("attention", ATTENTIONS), ("key_query", KEY_QUERIES)):
            if getattr(self, name) not in known:
                raise UsageError(f"{getattr(self, name)!r} is no {name}", where="model", do=nearest(str(getattr(self, name)), known))
        if self.start not in STARTS:
            raise UsageError(f"there is no start called {self.start!r}", where="model", do=nearest(self.start, STARTS))
        if self.head_dimension is not None and self.head_dimension < 1:
            raise UsageError(f"d_h is {self.head_dimension}, but must be at least 1", where="model", do="Use 1 or more")
        if self.scale == 0 and (self.parameters != "merged" or self.key_query != "fixed"):
            raise UsageError(
                "a start of zero is a fixed point: each factor's gradient is a product with the other factor",
                where="model",
                do="Start from a small scale such as 0.0001",
            )


Draw = Callable[[np.random.Generator, str, tuple[int, ...], Task], np.ndarray]


def gaussian(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Independent normal entries with standard deviation 1 / sqrt(d)."""
    return generator.standard_normal(shape) / np.sqrt(task.vocabulary)


def gaussian_width(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Independent normal entries with standard deviation 1 / sqrt(columns), so that W_O W_V^T keeps its size."""
    return generator.standard_normal(shape) / np.sqrt(shape[-1])


def constant(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Every entry 1e-4. Two constant factors stay of rank one in exact arithmetic (docs/theory.md)."""
    return np.full(shape, 1e-4)


def symmetric(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Random, but equal for all subjects of a split, all b, all c and all noise: no class stands out (Theorem 3)."""
    kind = token_kinds(task)
    table = generator.standard_normal((kind.max() + 1, kind.max() + 1)) / np.sqrt(task.vocabulary)
    if name == "W_OV":
        return table[kind][:, kind]
    if len(shape) == 1 and shape[0] == task.vocabulary:
        return table[0, kind]
    return generator.standard_normal((kind.max() + 1, *shape[1:]))[kind] / np.sqrt(task.vocabulary)


def symmetric_perturbed(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """The symmetric start and a Gaussian a thousandth of its size."""
    return symmetric(generator, name, shape, task) + 1e-3 * gaussian(generator, name, shape, task)


def constant_keys(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """The key scores all 1e-4, the output and value matrices Gaussian a thousandth of 1 / sqrt(d)."""
    return np.full(shape, 1e-4) if name == "k" else 1e-3 * gaussian(generator, name, shape, task)


#: Every start by name. None is zero: two zero factors are a fixed point.
STARTS: dict[str, Draw] = {
    "gaussian": gaussian,
    "gaussian-width": gaussian_width,
    "constant-1e-4": constant,
    "constant-keys": constant_keys,
    "symmetric": symmetric,
    "symmetric-perturbed": symmetric_perturbed,
}


def token_kinds(task: Task) -> Int[np.ndarray, "token"]:
    """A number for each token's kind: train subject, test subject, r1, r2, b, c, noise, end and unused."""
    kind = np.full(task.vocabulary, 7)
    kind[: task.subjects] = np.arange(task.subjects) % task.subjects_each >= task.train
    kind[list(task.relations)] = (2, 3)
    kind[task.answers] = 4
    kind[task.implication_answers] = 5
    kind[task.noise] = 6
    return kind


def attended(task: Task) -> Float[np.ndarray, "token"]:
    """1 on subjects and relations, 0 elsewhere: the fixed attention that weighs the two equally."""
    weights = np.zeros(task.vocabulary)
    weights[: task.subjects + 2] = 1
    return weights


class Ensemble:
    """Models of one parametrisation and attention, trained together; they may differ in start, rank, task and seed.

    `flat` (model, parameter) holds every trained number; `weights` are views into it by name. A model whose
    d_h is below the widest keeps zero columns: both factors are zero there, which no gradient ever changes.
    """

    def __init__(
        self, tasks: Sequence[Task], models: Sequence[Model], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        self.tasks, self.models = tuple(tasks), tuple(models)
        self.kind, self.attention, self.key_query = _shared(self.models, ("parameters", "attention", "key_query"))
        (self.size,) = {task.vocabulary for task in tasks} if len({t.vocabulary for t in tasks}) == 1 else (0,)
        if not self.size:
            raise UsageError("models train together only over one size of vocabulary", do="Set vocabulary on each task")
        self.like = {"dtype": dtype, "device": device}
        starts = [_start(task, model) for task, model in zip(self.tasks, self.models, strict=True)]
        widest = max(model.head_dimension or self.size for model in self.models)
        start = {name: _padded([one[name] for one in starts], widest, self.size) for name in starts[0]}
        self.start = {name: torch.tensor(value, **self.like) for name, value in start.items()}
        trained = {name: torch.zeros_like(v) if self.kind == "linearised" and name in "W_OW_V" else v for name, v in self.start.items()}
        self.flat = torch.cat([value.reshape(len(models), -1) for value in trained.values()], dim=1)
        self.weights = self._views(self.flat)
        self.fixed = torch.tensor(np.stack([attended(task) for task in self.tasks]), **self.like)
        self.offset = self._output_value(self.start) if any(m.centred for m in models) and self.kind != "linearised" else None
        if self.offset is not None:
            self.offset *= torch.tensor([float(m.centred) for m in models], **self.like)[:, None, None]

    def __len__(self) -> int:
        return len(self.models)

    def _views(self, flat: Float[Tensor, "model parameter"]) -> dict[str, Tensor]:
        shapes = {name: value.shape for name, value in self.start.items()}
        parts = flat.split([shape[1:].numel() for shape in shapes.values()], dim=1)
        return {name: part.view(shape) if part.is_contiguous() else part.unflatten(1, shape[1:]) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def output_value(self) -> Float[Tensor, "model token token"]:
        """W_OV of every model: rows are answers, columns what they are read from."""
        matrix = self._output_value(self.weights)
        return matrix if self.offset is None else matrix - self.offset

    def _output_value(self, weights: dict[str, Tensor]) -> Float[Tensor, "model token token"]:
        if self.kind == "merged":
            return weights["W_OV"]
        if self.kind == "factorised" or weights is self.start:
            return torch.bmm(weights["W_O"], weights["W_V"].mT)
        change = torch.bmm(weights["W_O"], self.start["W_V"].mT) + torch.bmm(self.start["W_O"], weights["W_V"].mT)
        return change if all(model.centred for model in self.models) else change + self._output_value(self.start)

    def key_scores(self) -> Float[Tensor, "model token"]:
        """What each token's attention is made of: k for linear attention, e^(k - max k) for softmax attention."""
        if self.key_query == "fixed":
            return self.fixed
        scores = self._scores()
        return scores if self.attention == "linear" else (scores - scores.amax(1, keepdim=True)).exp()

    def _scores(self) -> Float[Tensor, "model token"]:
        if self.key_query == "trained":
            return self.weights["k"]
        return torch.einsum("mtq,mq->mt", self.weights["W_K"], self.weights["q"])

    def effective(self) -> Float[Tensor, "model token token"]:
        """W_OV diag(k): what training shapes, and what may be compared with an exact solution."""
        return self.output_value() * self.key_scores()[:, None, :]

    def logits(self, counts: Float[Tensor, "model bag token"]) -> Float[Tensor, "model bag token"]:
        """The logits of every bag under every model."""
        logits = torch.bmm(counts, self.effective().mT)
        return logits if self.attention == "linear" else logits / self._normaliser(counts)

    def _normaliser(self, counts: Float[Tensor, "model bag token"]) -> Float[Tensor, "model bag 1"]:
        return torch.bmm(counts, self.key_scores()[:, :, None])

    def pull_back(
        self, counts: Float[Tensor, "model bag token"], slope: Float[Tensor, "model bag token"]
    ) -> Float[Tensor, "model parameter"]:
        """The gradient of a loss in the parameters, given its slope in the logits.

        With E = W_OV diag(k), dE = slope^T counts; then dW_OV = dE diag(k) and dk_t = sum_a dE_at W_OV_at, so that a
        trained key-query costs no further product. Softmax attention adds the quotient rule of its normaliser.
        """
        matrix, scores = self.output_value(), self.key_scores()
        if self.attention == "softmax":
            normaliser = self._normaliser(counts)
            logits = torch.bmm(counts, (matrix * scores[:, None, :]).mT) / normaliser
            share = (slope * logits).sum(-1, keepdim=True) / normaliser
            slope = slope / normaliser
        change = torch.bmm(slope.mT, counts)
        gradient = torch.empty_like(self.flat)
        views = self._views(gradient)
        if self.key_query != "fixed":
            score_slope = (change * matrix).sum(1)
            if self.attention == "softmax":
                score_slope = (score_slope - torch.bmm(counts.mT, share)[:, :, 0]) * scores
            self._pull_back_scores(views, score_slope)
        self._pull_back_matrix(views, change.mul_(scores[:, None, :]))
        return gradient

    def _pull_back_matrix(self, views: dict[str, Tensor], slope: Float[Tensor, "model token token"]) -> None:
        if self.kind == "merged":
            views["W_OV"].copy_(slope)
            return
        at = self.weights if self.kind == "factorised" else self.start
        views["W_O"].copy_(torch.bmm(slope, at["W_V"]))
        views["W_V"].copy_(torch.bmm(slope.mT, at["W_O"]))

    def _pull_back_scores(self, views: dict[str, Tensor], slope: Float[Tensor, "model token"]) -> None:
        if self.key_query == "trained":
            views["k"].copy_(slope)
            return
        views["W_K"].copy_(slope[:, :, None] * self.weights["q"][:, None, :])
        views["q"].copy_(torch.einsum("mt,mtq->mq", slope, self.weights["W_K"]))


def _start(task: Task, model: Model) -> dict[str, np.ndarray]:
    """The named start of one model, each matrix from a generator of its own."""
    size, width = task.vocabulary, model.head_dimension or task.vocabulary
    shapes = {"W_OV": (size, size)} if model.parameters == "merged" else {"W_O": (size, width), "W_V": (size, width)}
    shapes |= {"fixed": {}, "trained": {"k": (size,)}, "factored": {"W_K": (size, size), "q": (size,)}}[model.key_query]
    purpose = {"W_OV": 1, "W_O": 2, "W_V": 3, "k": 4, "W_K": 5, "q": 6}
    draw = STARTS[model.start]
    return {
        name: model.scale * draw(np.random.default_rng([model.seed, purpose[name]]), name, shape, task)
        for name, shape in shapes.items()
    }


def _padded(values: Sequence[np.ndarray], width: int, size: int) -> Float[np.ndarray, "model ..."]:
    if values[0].ndim == 1 or all(value.shape == values[0].shape for value in values):
        return np.stack(values)
    return np.stack([np.pad(value, ((0, 0), (0, width - value.shape[1]))) for value in values])


def _shared(models: Sequence[Model], names: tuple[str, ...]) -> tuple[str, ...]:
    if not models:
        raise UsageError("there is no model to train", do="Name at least one")
    for name in names:
        if len({getattr(model, name) for model in models}) > 1:
            raise UsageError(f"models that train together must share {name!r}", do="Train them in two batches")
    return tuple(getattr(models[0], name) for name in names)
