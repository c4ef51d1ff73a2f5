"""Train one-layer models: one loop for every model, optimiser and batch. docs/theory.md, "Training"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError, nearest
from spillover.theory.models import Batch, Ensemble, Model
from spillover.theory.symbolic import Bags, Task, exact_bags, training_batches

#: A training may be kept before each step whose number this divides.
EVERY = 16


@dataclass(frozen=True)
class TrainerState:
    """A training before its step number `step`, or at its end. The tensors are its own, which the next step changes.

    facts: what JSON holds exactly: the history, the generators, the optimiser's counts.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    done: bool = False


@runtime_checkable
class Checkpointer(Protocol):
    """Keeps the trainings of one experiment, which come in the same order whenever it is repeated."""

    def begin(self) -> TrainerState | None:
        """The next training begins: where it stood, if it is known."""

    def keep(self, standing: Callable[[], TrainerState]) -> None:
        """Called now and then: may take the standing and must be done with it when it returns."""

    def end(self, standing: TrainerState) -> None:
        """The training has ended; its tensors change no more."""


class Course:
    """The bookkeeping of one training for its keeper, if there is one.

    start: the step to begin with. A training that had ended has `done`. tensors: what the steps change in place.
    optimiser: its fields but `recipe` are tensors or whole numbers. generators: what batches are drawn from.
    """

    def __init__(
        self,
        keeper: Checkpointer | None,
        history: list[dict[str, Any]],
        tensors: Mapping[str, Tensor],
        optimiser: object,
        taken: np.ndarray | None = None,
        generators: list[np.random.Generator] | None = None,
    ) -> None:
        self.keeper, self.history, self.taken, self.generators = keeper, history, taken, generators or []
        self.tensors, self.optimiser = dict(tensors), optimiser
        at = keeper.begin() if keeper is not None else None
        self.start, self.done = (at.step, at.done) if at is not None else (0, False)
        if at is not None:
            self._restore(at)

    def _counted(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self.optimiser).items() if name != "recipe"}

    def before(self, step: int) -> None:
        """Tell the keeper that `step` is next."""
        if self.keeper is not None and step > self.start and step % EVERY == 0:
            self.keeper.keep(lambda: self._standing(step))

    def end(self, step: int) -> None:
        """Tell the keeper that training has ended before `step`."""
        if self.keeper is not None and not self.done:
            self.keeper.end(TrainerState(step, self.tensors, self._facts(), done=True))

    def _facts(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "taken": None if self.taken is None else self.taken.tolist(),
            "generators": [generator.bit_generator.state for generator in self.generators],
            "optimiser": {name: value for name, value in self._counted().items() if not isinstance(value, Tensor)},
        }

    def _standing(self, step: int) -> TrainerState:
        own = {f"optimiser {name}": value for name, value in self._counted().items() if isinstance(value, Tensor)}
        return TrainerState(step, {**self.tensors, **own}, self._facts())

    def _restore(self, at: TrainerState) -> None:
        self.history[:] = at.facts["history"]
        for name, value in self.tensors.items():
            value.copy_(at.tensors[name])
        if self.taken is not None:
            self.taken[:] = at.facts["taken"]
        if at.done:
            return
        for generator, state in zip(self.generators, at.facts["generators"], strict=True):
            generator.bit_generator.state = state
        for name, value in self._counted().items():
            if isinstance(value, Tensor):
                value.copy_(at.tensors[f"optimiser {name}"])
            else:
                setattr(self.optimiser, name, at.facts["optimiser"][name])


#: Steps of sampled batches drawn ahead in one go; a matter of speed, not of what is drawn. None is left over where a
#: training may be kept.
AHEAD = EVERY


@dataclass(frozen=True)
class Recipe:
    """How to train. batch: sequences a step, or 0 for all stated rows at once, each with its exact weight.

    optimiser: a name in OPTIMISERS. rate: its step size (in units of the weights for normalised gradient descent).
    weight_decay: decoupled, as in AdamW, for any optimiser. stop_loss: a model rests once its loss over all stated rows
    is below this; only for batch 0. weighting: kinds (train facts, train implications and test facts share the loss
    equally, as in sampled batches) or rows (every stated row does); only batch 0 heeds it. precision: float32 or
    float64.
    """

    optimiser: str = "adamw"
    rate: float = 5e-3
    weight_decay: float = 0.0
    batch: int = 252
    steps: int = 2000
    stop_loss: float | None = None
    weighting: str = "kinds"
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise UsageError(
                f"there is no optimiser called {self.optimiser!r}",
                where="recipe",
                do=nearest(self.optimiser, OPTIMISERS),
            )
        if not (np.isfinite(self.rate) and self.rate > 0 and np.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError("the rate must be a positive number and the weight decay at least 0", where="recipe")
        if self.steps < 0 or self.batch < 0:
            raise UsageError("steps and batch are counts", where="recipe", do="Use 0 or more")
        if self.weighting not in ("kinds", "rows"):
            raise UsageError(f"there is no weighting called {self.weighting!r}", do="Use kinds or rows")
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
        length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(
            1e-300 if gradient.dtype == torch.float64 else 1e-38
        )
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
    keeper: Checkpointer | None = None,
) -> Trained:
    """Train models together on their tasks; each equals the model trained alone.

    tasks: one for all, or one a model, of equal vocabulary. rates: a factor on the recipe's rate for each model.
    measure: called with the ensemble and the step at each step of `schedule` (0 is before the first); it must not
    change the ensemble, and changes no random number by being called. keeper: knows where this training stood, from
    which it goes on to the same numbers. Raises UsageError for settings that do not fit.
    """
    each = [tasks] * len(models) if isinstance(tasks, Task) else list(tasks)
    ensemble = Ensemble(each, models, dtype=getattr(torch, recipe.precision), device=recipe.device)
    optimiser = OPTIMISERS[recipe.optimiser](recipe, ensemble.flat)
    sampled = _Sampled(ensemble, recipe.batch) if recipe.batch else None
    batch_at = sampled.at if sampled else _exact(ensemble, recipe)
    wanted, history = set(schedule), list[dict[str, Any]]()
    awake = torch.tensor(rates or [1.0] * len(ensemble), **ensemble.like)[:, None]
    taken = np.zeros(len(ensemble), dtype=np.int64)
    tensors = {"flat": ensemble.flat, "awake": awake}
    course = Course(keeper, history, tensors, optimiser, taken, sampled.generators if sampled else None)
    step = course.start
    for step in range(course.start, 0 if course.done else recipe.steps + 1):
        course.before(step)
        if measure is not None and step in wanted:
            history.append({"step": step, **measure(ensemble, step)})
        if step == recipe.steps or not _still_awake(ensemble, batch_at, recipe, step, awake):
            break
        batch, now = batch_at(step), ensemble.read()
        logits = ensemble.logits(batch, now)
        gradient = ensemble.pull_back(batch, slope(logits, batch, optimiser.rescales), logits, now)
        change = optimiser.update(ensemble.flat, gradient)
        if recipe.weight_decay:
            change.sub_(ensemble.flat, alpha=recipe.rate * recipe.weight_decay)
        ensemble.flat.add_(change if recipe.stop_loss is None and rates is None else change.mul_(awake))
        taken += awake[:, 0].cpu().numpy() > 0
    course.end(step)
    return Trained(ensemble, tuple(history), taken)


def slope(
    logits: Float[Tensor, "model bag token"], batch: Batch, rescaled: bool = False
) -> Float[Tensor, "model bag token"]:
    """The slope of the mean cross-entropy in the logits: softmax minus one-hot, times weight.

    The right answer's entry is minus the sum of the others, never 1 - 1, so small slopes stay exact. rescaled: divide
    each model's slopes by the largest, in the log domain.
    """
    place, weight = batch.answer[:, :, None], batch.weight[:, :, None]
    if rescaled:
        log = torch.log_softmax(logits, -1).add_(weight.log()).scatter_(-1, place, -torch.inf)
        share = log.sub_(log.amax((1, 2), keepdim=True)).exp_()
    else:
        share = torch.softmax(logits, -1).mul_(weight).scatter_(-1, place, 0)
    return share.scatter_(-1, place, -share.sum(-1, keepdim=True))


def cross_entropy(
    logits: Float[Tensor, "model bag token"], answer: Int[Tensor, "model bag"]
) -> Float[Tensor, "model bag"]:
    """Minus the log-probability of each bag's answer, among all tokens; in nats."""
    return torch.logsumexp(logits, -1) - logits.gather(-1, answer[:, :, None])[:, :, 0]


def stacked_bags(ensemble: Ensemble, bags: Sequence[Bags]) -> Batch:
    """One Bags a model as tensors; shorter ones are filled with bags of weight 0."""
    longest = max(len(bag.answer) for bag in bags)

    def filled(name: str, dtype: torch.dtype) -> Tensor:
        values = [getattr(bag, name) for bag in bags]
        padded = [
            np.pad(v, [(0, longest - len(v))] + [(0, 0)] * (v.ndim - 1), "edge" if len(v) else "constant")
            for v in values
        ]
        return torch.tensor(np.stack(padded), dtype=dtype, device=ensemble.like["device"])

    real = ensemble.like["dtype"]
    weight = np.stack([np.pad(bag.weight, (0, longest - len(bag.weight))) for bag in bags])
    return Batch(
        filled("subject", torch.int64),
        filled("context", real),
        filled("answer", torch.int64),
        torch.tensor(weight, **ensemble.like),
    )


def _exact(ensemble: Ensemble, recipe: Recipe) -> Callable[[int], Batch]:
    even = [
        np.full(len(task.stated), 1 / len(task.stated)) if recipe.weighting == "rows" else None
        for task in ensemble.tasks
    ]
    bags = [exact_bags(task, task.stated, weight) for task, weight in zip(ensemble.tasks, even, strict=True)]
    whole = stacked_bags(ensemble, bags)
    return lambda step: whole


class _Sampled:
    """Batches drawn a few steps ahead; models with the same task and seed see the same ones."""

    def __init__(self, ensemble: Ensemble, size: int) -> None:
        self.ensemble, self.size = ensemble, size
        pairs = [(task, model.seed) for task, model in zip(ensemble.tasks, ensemble.models, strict=True)]
        self.distinct = list(dict.fromkeys(pairs))
        self.which = [self.distinct.index(pair) for pair in pairs]
        self.generators = [np.random.default_rng([seed, 0]) for _, seed in self.distinct]
        self.ahead: list[Batch] = []

    def at(self, step: int) -> Batch:
        if step % AHEAD == 0:
            self.ahead = self._draw()
        return self.ahead[step % AHEAD]

    def _draw(self) -> list[Batch]:
        drawn = [
            training_batches(task, self.size, AHEAD, generator)
            for (task, _), generator in zip(self.distinct, self.generators, strict=True)
        ]
        like = self.ensemble.like

        def stacked(name: str, dtype: torch.dtype) -> Tensor:
            values = torch.from_numpy(np.stack([getattr(bags, name) for bags in drawn], axis=1)).to(
                like["device"], dtype
            )
            if len(drawn) == 1:
                # Models that see the same batch share its memory.
                return values.expand(-1, len(self.which), *values.shape[2:])
            return values if len(drawn) == len(self.which) else values[:, self.which]

        subject, answer = stacked("subject", torch.int64), stacked("answer", torch.int64)
        context = stacked("context", like["dtype"])
        weight = torch.full((len(self.ensemble), self.size), 1 / self.size, **like)
        return [Batch(subject[now], context[now], answer[now], weight) for now in range(AHEAD)]


def _still_awake(
    ensemble: Ensemble, batch_at: Callable[[int], Batch], recipe: Recipe, step: int, awake: Float[Tensor, "model 1"]
) -> bool:
    """Put to rest the models that have reached `stop_loss`, looked at every ten steps; is any still training?"""
    if recipe.stop_loss is None or step % 10:
        return True
    batch = batch_at(step)
    loss = (cross_entropy(ensemble.logits(batch), batch.answer) * batch.weight).sum(-1)
    awake.mul_((loss >= recipe.stop_loss)[:, None])
    return bool(awake.any())
