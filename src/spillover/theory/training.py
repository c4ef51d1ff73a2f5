"""Training: one loop for every model, optimiser and batch; many models at once. docs/theory.md, "What training does"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError, nearest
from spillover.theory.models import Ensemble, Model
from spillover.theory.symbolic import Bags, Task, exact_bags, training_batches

#: Steps of sampled batches drawn ahead in one go; a matter of speed, not of what is drawn.
AHEAD = 16


@dataclass(frozen=True)
class Recipe:
    """How to train. batch: sequences a step, or 0 for all stated rows at once, each with its exact weight.

    optimiser: a name in OPTIMISERS. rate: its step size (in units of the weights for normalised gradient descent).
    weight_decay: decoupled, as in AdamW, for any optimiser. stop_loss: a model rests once its loss over all stated rows
    is below this; only for batch 0. precision: float32 or float64.
    """

    optimiser: str = "adamw"
    rate: float = 5e-3
    weight_decay: float = 0.0
    batch: int = 252
    steps: int = 2000
    stop_loss: float | None = None
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise UsageError(
                f"there is no optimiser called {self.optimiser!r}", where="recipe", do=nearest(self.optimiser, OPTIMISERS)
            )
        if not (np.isfinite(self.rate) and self.rate > 0 and np.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError("the rate must be a positive number and the weight decay at least 0", where="recipe")
        if self.steps < 0 or self.batch < 0:
            raise UsageError("steps and batch are counts", where="recipe", do="Use 0 or more")
        if self.precision not in ("float32", "float64"):
            raise UsageError(f"there is no precision called {self.precision!r}", do="Use float32 or float64")
        if self.stop_loss is not None and self.batch:
            raise UsageError("stop_loss needs the exact loss", where="recipe", do="Set batch=0")


class AdamW:
    """Adam with decoupled weight decay; betas 0.9 and 0.999, epsilon 1e-8 (Loshchilov and Hutter 2019)."""

    rescales = False

    def __init__(self, recipe: Recipe, flat: Float[Tensor, "model parameter"]) -> None:
        self.recipe, self.step = recipe, 0
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)

    def update(self, flat: Float[Tensor, "model parameter"], gradient: Float[Tensor, "model parameter"]) -> Tensor:
        """The change to add to the weights (decay aside)."""
        self.step += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        size = self.square.sqrt().div_((1 - 0.999**self.step) ** 0.5).add_(1e-8)
        return (self.mean / size).mul_(-self.recipe.rate / (1 - 0.9**self.step))


class GradientDescent:
    """Plain gradient descent."""

    rescales = False

    def __init__(self, recipe: Recipe, flat: Float[Tensor, "model parameter"]) -> None:
        self.recipe = recipe

    def update(self, flat: Float[Tensor, "model parameter"], gradient: Float[Tensor, "model parameter"]) -> Tensor:
        """The change to add to the weights (decay aside)."""
        return gradient.mul_(-self.recipe.rate)


class NormalisedGradientDescent(GradientDescent):
    """Steps of equal length along the gradient: the path of gradient descent, without its logarithmic slowing down.

    The loss is rescaled by its largest slope in the log domain, so that a loss of e^-1000 still has a direction.
    """

    rescales = True

    def update(self, flat: Float[Tensor, "model parameter"], gradient: Float[Tensor, "model parameter"]) -> Tensor:
        """The change to add to the weights (decay aside)."""
        length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-300 if gradient.dtype == torch.float64 else 1e-38)
        return gradient.mul_(-self.recipe.rate / length)


OPTIMISERS: dict[str, type] = {
    "adamw": AdamW,
    "gradient-descent": GradientDescent,
    "normalised-gradient-descent": NormalisedGradientDescent,
}

Measure = Callable[[Ensemble, int], dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """Models after training. history: what `measure` gave, each with its step. steps: steps each model took."""

    ensemble: Ensemble
    history: tuple[dict[str, Any], ...]
    steps: Int[np.ndarray, "model"]


def train(
    tasks: Task | Sequence[Task],
    models: Sequence[Model],
    recipe: Recipe,
    *,
    rates: Sequence[float] | None = None,
    measure: Measure | None = None,
    schedule: Iterable[int] = (),
) -> Trained:
    """Train models together on their tasks; each equals the model trained alone.

    tasks: one for all, or one a model, of equal vocabulary. rates: a factor on the recipe's rate for each model. measure: called with the ensemble and the step at each step
    of `schedule` (0 is before the first); it must not change the ensemble, and changes no random number by being
    called. Raises UsageError for settings that do not fit.
    """
    each = [tasks] * len(models) if isinstance(tasks, Task) else list(tasks)
    ensemble = Ensemble(each, models, dtype=getattr(torch, recipe.precision), device=recipe.device)
    optimiser = OPTIMISERS[recipe.optimiser](recipe, ensemble.flat)
    batches = _exact(ensemble) if recipe.batch == 0 else _Sampled(ensemble, recipe.batch)
    wanted, history = set(schedule), []
    awake = torch.tensor(rates or [1.0] * len(ensemble), **ensemble.like)[:, None]
    taken = np.zeros(len(ensemble), dtype=np.int64)
    for step in range(recipe.steps + 1):
        if measure is not None and step in wanted:
            history.append({"step": step, **measure(ensemble, step)})
        if step == recipe.steps or not _still_awake(ensemble, batches, recipe, step, awake):
            break
        counts, answer, weight = batches.at(step)
        gradient = ensemble.pull_back(counts, slope(ensemble.logits(counts), answer, weight, optimiser.rescales))
        change = optimiser.update(ensemble.flat, gradient)
        if recipe.weight_decay:
            change.sub_(ensemble.flat, alpha=recipe.rate * recipe.weight_decay)
        ensemble.flat.add_(change if recipe.stop_loss is None and rates is None else change.mul_(awake))
        taken += awake[:, 0].cpu().numpy() > 0
    return Trained(ensemble, tuple(history), taken)


def slope(
    logits: Float[Tensor, "model bag token"],
    answer: Int[Tensor, "model bag"],
    weight: Float[Tensor, "model bag"],
    rescaled: bool = False,
) -> Float[Tensor, "model bag token"]:
    """The slope of the mean cross-entropy in the logits: softmax minus one-hot, times weight.

    The right answer's entry is minus the sum of the others, never 1 - 1, so small slopes stay exact. rescaled: divide
    each model's slopes by the largest, in the log domain.
    """
    place = answer[:, :, None]
    if rescaled:
        log = torch.log_softmax(logits, -1).add_(weight[:, :, None].log()).scatter_(-1, place, -torch.inf)
        share = log.sub_(log.amax((1, 2), keepdim=True)).exp_()
    else:
        share = torch.softmax(logits, -1).mul_(weight[:, :, None]).scatter_(-1, place, 0)
    return share.scatter_(-1, place, -share.sum(-1, keepdim=True))


def cross_entropy(
    logits: Float[Tensor, "model bag token"], answer: Int[Tensor, "model bag"]
) -> Float[Tensor, "model bag"]:
    """Minus the log-probability of each bag's answer, among all tokens; in nats."""
    return torch.logsumexp(logits, -1) - logits.gather(-1, answer[:, :, None])[:, :, 0]


@dataclass(frozen=True)
class Batch:
    """One batch for all models; `at` gives the same at every step."""

    counts: Float[Tensor, "model bag token"]
    answer: Int[Tensor, "model bag"]
    weight: Float[Tensor, "model bag"]

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.counts, self.answer, self.weight


def stacked_bags(ensemble: Ensemble, bags: Sequence[Bags]) -> Batch:
    """One Bags a model as tensors; shorter ones are filled with bags of weight 0."""
    longest = max(len(bag.answer) for bag in bags)

    def filled(name: str, dtype: torch.dtype | None = None) -> Tensor:
        values = [getattr(bag, name) for bag in bags]
        padded = [np.pad(v, [(0, longest - len(v))] + [(0, 0)] * (v.ndim - 1)) for v in values]
        return torch.tensor(np.stack(padded), dtype=dtype or ensemble.like["dtype"], device=ensemble.like["device"])

    return Batch(filled("counts"), filled("answer", torch.int64), filled("weight"))


def _exact(ensemble: Ensemble) -> Batch:
    return stacked_bags(ensemble, [exact_bags(task, task.stated) for task in ensemble.tasks])


class _Sampled:
    """Batches drawn a few steps ahead; models with the same task and seed see the same ones."""

    def __init__(self, ensemble: Ensemble, size: int) -> None:
        self.ensemble, self.size = ensemble, size
        pairs = [(task, model.seed) for task, model in zip(ensemble.tasks, ensemble.models, strict=True)]
        self.distinct = list(dict.fromkeys(pairs))
        self.which = torch.tensor([self.distinct.index(pair) for pair in pairs])
        self.generators = [np.random.default_rng([seed, 0]) for _, seed in self.distinct]

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        if step % AHEAD == 0:
            drawn = [
                training_batches(task, self.size, AHEAD, generator)
                for (task, _), generator in zip(self.distinct, self.generators, strict=True)
            ]
            device, dtype = self.ensemble.like["device"], self.ensemble.like["dtype"]
            self.counts = torch.from_numpy(np.stack([bags.counts for bags in drawn], 1)).to(device, dtype)
            self.answer = torch.from_numpy(np.stack([bags.answer for bags in drawn], 1)).to(device)
            self.weight = torch.full((len(self.ensemble), self.size), 1 / self.size, device=device, dtype=dtype)
        now = step % AHEAD
        return self._spread(self.counts[now]), self._spread(self.answer[now]), self.weight

    def _spread(self, drawn: Tensor) -> Tensor:
        if len(self.distinct) == len(self.ensemble):
            return drawn
        if len(self.distinct) == 1:
            return drawn.expand(len(self.ensemble), *drawn.shape[1:])
        return drawn[self.which.to(drawn.device)]


def _still_awake(
    ensemble: Ensemble, batches: Any, recipe: Recipe, step: int, awake: Float[Tensor, "model 1"]
) -> bool:
    """Put to rest the models that have reached `stop_loss`, looked at every ten steps; is any still training?"""
    if recipe.stop_loss is None or step % 10:
        return True
    counts, answer, weight = batches.at(step)
    loss = (cross_entropy(ensemble.logits(counts), answer) * weight).sum(-1)
    awake.mul_((loss >= recipe.stop_loss)[:, None])
    return bool(awake.any())
