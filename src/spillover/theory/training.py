"""Train one-layer models and networks: one loop for every model, optimiser and batch; and hold a trained matrix beside
the exact ones: cosines, norm per margin, and the margin of what nobody stated.

Sign and scale of the key scores sit in W_OV, and no margin sees a constant added to the answers; so the matrix compared
is W_OV diag(k), each column centred. Source: docs/theory.md, "Training" and "Comparing a trained matrix".
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from spillover.errors import UsageError
from spillover.theory.closed_form import closed_form
from spillover.theory.models import BagBatch, Ensemble, Flat, Logits, Model, Models, check_choices
from spillover.theory.symbolic import Bags, Rows, Task, exact_bags, sampled_bags, training_batches
from spillover.theory.table import Weights, lead

#: A training may be saved before each step whose number this divides.
EVERY = 16


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Arguments:
    - optimiser: a name in OPTIMISERS.
    - rate: its step size (in units of the weights for normalised gradient descent).
    - weight_decay: decoupled, as in AdamW, for any optimiser.
    - batch: sequences a step, or 0 for all stated rows at once, each with its exact weight.
    - steps: at most.
    - stop_loss: a model rests once its loss over all stated rows, in nats, is below this; only for batch 0.
    - weighting: what shares the loss equally: kinds (of rows, as in sampled batches) or rows; only batch 0 heeds it.
    - precision: float32 or float64.
    - device: of the weights.

    Raises: UsageError for a setting that makes no sense.
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
        check_choices(self, "recipe", optimiser=OPTIMISERS, weighting=("kinds", "rows"))
        if not (np.isfinite(self.rate) and self.rate > 0 and np.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError("the rate must be a positive number and the weight decay at least 0", where="recipe")
        if self.steps < 0 or self.batch < 0:
            raise UsageError("steps and batch are counts", where="recipe", do="Use 0 or more")
        if self.precision not in ("float32", "float64"):
            raise UsageError(f"there is no precision called {self.precision!r}", do="Use float32 or float64")
        if self.stop_loss is not None and self.batch:
            raise UsageError("stop_loss needs the exact loss", where="recipe", do="Set batch=0")


class GradientDescent:
    """Plain gradient descent. rescales: whether a gradient's length is lost on it, so that it may be rescaled."""

    rescales = False

    def __init__(self, recipe: Recipe, flat: Flat) -> None:
        self.rate = recipe.rate

    def update(self, flat: Flat, gradient: Flat) -> Flat:
        """The change to add to the weights (decay aside)."""
        return gradient.mul_(-self.rate)

    def state(self) -> dict[str, Any]:
        """What the next update depends on beside the recipe, by attribute: tensors and whole numbers."""
        return {name: value for name, value in vars(self).items() if name != "rate"}


class NormalisedGradientDescent(GradientDescent):
    """Steps of equal length along the gradient: the path of gradient descent, without its logarithmic slowing down.

    The loss is rescaled by its largest slope in the log domain, so that a loss of e^-1000 still has a direction.
    """

    rescales = True

    def update(self, flat: Flat, gradient: Flat) -> Flat:
        least = 1e-300 if gradient.dtype == torch.float64 else 1e-38
        return gradient.mul_(-self.rate / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(least))


class AdamW(GradientDescent):
    """Adam with decoupled weight decay; betas 0.9 and 0.999, epsilon 1e-8 (Loshchilov and Hutter 2019)."""

    def __init__(self, recipe: Recipe, flat: Flat) -> None:
        super().__init__(recipe, flat)
        self.step, self.mean, self.square = 0, torch.zeros_like(flat), torch.zeros_like(flat)

    def update(self, flat: Flat, gradient: Flat) -> Flat:
        self.step += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        size = self.square.sqrt().div_((1 - 0.999**self.step) ** 0.5).add_(1e-8)
        return (self.mean / size).mul_(-self.rate / (1 - 0.9**self.step))


OPTIMISERS: dict[str, type[GradientDescent]] = {
    "adamw": AdamW,
    "gradient-descent": GradientDescent,
    "normalised-gradient-descent": NormalisedGradientDescent,
}


@dataclass(frozen=True)
class Snapshot:
    """A training before its step number `step`, or at its end. The tensors are its own, which the next step changes.

    facts: what JSON holds exactly: the history, the generators, the optimiser's counts.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    done: bool = False


@runtime_checkable
class Checkpointer(Protocol):
    """Saves the trainings of one experiment, which come in the same order whenever it is repeated."""

    def begin(self) -> Snapshot | None:
        """The next training begins; its snapshot, if there is one to resume from."""

    def save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Called every EVERY steps: may take the snapshot, and must be done with it when it returns."""

    def end(self, snapshot: Snapshot) -> None:
        """The training has ended; its tensors change no more."""


class Trainer:
    """The loop that every training shares: measure, save, step; and how to resume.

    flat: (model, parameter), what is trained, in place. awake: (model, 1), 0 for a model that rests; a factor on its
    changes. generators: from which batches are drawn. history: what was measured; steps: (model,), how many were taken.
    """

    def __init__(
        self, recipe: Recipe, flat: Flat, awake: Tensor, generators: Sequence[np.random.Generator] = ()
    ) -> None:
        self.recipe, self.flat, self.awake, self.generators = recipe, flat, awake, generators
        self.optimiser = OPTIMISERS[recipe.optimiser](recipe, flat)
        self.history: list[dict[str, Any]] = []
        self.steps = np.zeros(len(flat), dtype=np.int64)

    def run(
        self,
        gradient: Callable[[int], Flat],
        measure: Callable[[int], dict[str, Any]] | None,
        schedule: Iterable[int],
        checkpointer: Checkpointer | None,
        losses: Callable[[], Float[Tensor, "model"]],
        progress: Callable[[int], object] = lambda step: None,
    ) -> None:
        """Take the recipe's steps, or those left. gradient: of the loss at a step. losses: over all stated rows, of
        which `stop_loss` is asked every ten steps."""
        recipe, wanted, first = self.recipe, set(schedule), 0
        if checkpointer is not None and (begun := checkpointer.begin()) is not None:
            self._restore(begun)
            if begun.done:
                return
            first = begun.step
        whole = bool((self.awake == 1).all()) and recipe.stop_loss is None
        for step in range(first, recipe.steps + 1):
            if checkpointer is not None and step > first and step % EVERY == 0:
                checkpointer.save(partial(self._snapshot, step))
            if measure is not None and step in wanted:
                self.history.append({"step": step, **measure(step)})
            if step == recipe.steps:
                break
            progress(step)
            if recipe.stop_loss is not None and step % 10 == 0:
                with torch.no_grad():
                    self.awake.mul_((losses() >= recipe.stop_loss)[:, None])
            if not self.awake.any():
                break
            change = self.optimiser.update(self.flat, gradient(step))
            if recipe.weight_decay:
                change.sub_(self.flat, alpha=recipe.rate * recipe.weight_decay)
            self.flat.add_(change if whole else change.mul_(self.awake))
            self.steps += self.awake[:, 0].cpu().numpy() > 0
        if checkpointer is not None:
            checkpointer.end(self._snapshot(step, done=True))

    def _snapshot(self, step: int, done: bool = False) -> Snapshot:
        state = self.optimiser.state()
        own = {f"optimiser {name}": value for name, value in state.items() if isinstance(value, Tensor) and not done}
        facts = {
            "history": self.history,
            "steps": self.steps.tolist(),
            "generators": [generator.bit_generator.state for generator in self.generators],
            "optimiser": {name: value for name, value in state.items() if not isinstance(value, Tensor)},
        }
        return Snapshot(step, {"flat": self.flat, "awake": self.awake, **own}, facts, done)

    def _restore(self, begun: Snapshot) -> None:
        self.history[:], self.steps[:] = begun.facts["history"], begun.facts["steps"]
        self.flat.copy_(begun.tensors["flat"])
        self.awake.copy_(begun.tensors["awake"])
        if begun.done:
            return
        for generator, state in zip(self.generators, begun.facts["generators"], strict=True):
            generator.bit_generator.state = state
        for name, value in self.optimiser.state().items():
            if isinstance(value, Tensor):
                value.copy_(begun.tensors[f"optimiser {name}"])
            else:
                setattr(self.optimiser, name, begun.facts["optimiser"][name])


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
    measure: Callable[[Ensemble, int], dict[str, Any]] | None = None,
    schedule: Iterable[int] = (),
    checkpointer: Checkpointer | None = None,
    progress: Callable[[int], object] = lambda step: None,
) -> Trained:
    """Train models together on their tasks; each equals the model trained alone.

    Arguments:
    - tasks: one for all, or one a model, of equal vocabulary.
    - models: what to train.
    - recipe: how, the same for all.
    - rates: a factor on the recipe's rate for each model.
    - measure: called with the ensemble and the step, such as a Probe; it must not change ensemble or draws.
    - schedule: steps at which to measure; 0 is before the first.
    - checkpointer: saves the training, and says where to resume it, to the same numbers.
    - progress: called with each step before it is taken.

    Returns: a Trained, with the ensemble, the history of measurements, and the steps each model took.

    Raises: UsageError for settings that do not fit.
    """
    each = [tasks] * len(models) if isinstance(tasks, Task) else list(tasks)
    ensemble = Ensemble(each, models, dtype=getattr(torch, recipe.precision), device=recipe.device)
    sampled = _Sampled(ensemble, recipe.batch) if recipe.batch else None
    if sampled is None:
        rows = [task.stated for task in ensemble.tasks]
        even = [np.full(len(each), 1 / len(each)) if recipe.weighting == "rows" else None for each in rows]
        whole = stacked_bags(ensemble, list(map(exact_bags, ensemble.tasks, rows, even)))
    awake = torch.tensor(rates or [1.0] * len(ensemble), **ensemble.like)[:, None]
    trainer = Trainer(recipe, ensemble.flat, awake, sampled.generators if sampled else [])

    def gradient(step: int) -> Flat:
        batch, now = sampled.at(step) if sampled else whole, ensemble.read()
        logits = ensemble.logits(batch, now)
        return ensemble.pull_back(batch, slope(logits, batch, trainer.optimiser.rescales), logits, now)

    def losses() -> Float[Tensor, "model"]:
        return (cross_entropy(ensemble.logits(whole), whole.answer) * whole.weight).sum(-1)

    measured = (lambda step: measure(ensemble, step)) if measure is not None else None
    trainer.run(gradient, measured, schedule, checkpointer, losses, progress)
    return Trained(ensemble, tuple(trainer.history), trainer.steps)


def slope(logits: Logits, batch: BagBatch, rescaled: bool = False) -> Logits:
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
    logits: Logits, answer: Int[Tensor, "model bag"], among: slice = slice(None)
) -> Float[Tensor, "model bag"]:
    """Minus the log-probability of each bag's answer in nats, among all tokens or those of a slice that has it."""
    return torch.logsumexp(logits[:, :, among], -1) - logits.gather(-1, answer[:, :, None])[:, :, 0]


def stacked_bags(ensemble: Models, bags: Sequence[Bags]) -> BagBatch:
    """One Bags a model as tensors; shorter ones are filled with bags of weight 0."""

    def filled(name: str, dtype: torch.dtype) -> Tensor:
        values = [torch.tensor(getattr(bag, name), dtype=dtype) for bag in bags]
        return pad_sequence(values, batch_first=True).to(ensemble.like["device"])

    whole, real = torch.int64, ensemble.like["dtype"]
    return BagBatch(filled("subject", whole), filled("context", real), filled("answer", whole), filled("weight", real))


class _Sampled:
    """Batches drawn EVERY steps ahead, for speed alone; models with the same task and seed see the same ones.

    None is left over where a training may be saved.
    """

    def __init__(self, ensemble: Ensemble, size: int) -> None:
        pairs = [(task, model.seed) for task, model in zip(ensemble.tasks, ensemble.models, strict=True)]
        distinct = list(dict.fromkeys(pairs))
        self.which, self.tasks = [distinct.index(pair) for pair in pairs], [task for task, _ in distinct]
        self.generators = [np.random.default_rng([seed, 0]) for _, seed in distinct]
        self.size, self.like = size, ensemble.like
        self.weight = torch.full((len(pairs), size), 1 / size, **ensemble.like)

    def at(self, step: int) -> BagBatch:
        if step % EVERY == 0:
            pairs = zip(self.tasks, self.generators, strict=True)
            drawn = [training_batches(task, self.size, EVERY, generator) for task, generator in pairs]
            self.ahead = [self._stacked(drawn, name) for name in ("subject", "context", "answer")]
        subject, context, answer = (values[step % EVERY] for values in self.ahead)
        return BagBatch(subject, context, answer, self.weight)

    def _stacked(self, drawn: Sequence[Bags], name: str) -> Tensor:
        values = torch.from_numpy(np.stack([getattr(bags, name) for bags in drawn], axis=1))
        values = values.to(self.like["device"], self.like["dtype"] if name == "context" else torch.int64)
        # Models that see the same batch share its memory.
        return values.expand(-1, len(self.which), *values.shape[2:]) if len(drawn) == 1 else values[:, self.which]


Matrix = Float[np.ndarray, "... answer column"]
#: What is compared of a matrix, in the order of `compare`.
COMPARISONS = (
    *("cosine_to_nuclear", "cosine_to_frobenius", "smallest_margin"),
    *("nuclear_over_margin", "frobenius_over_margin", "margin_ratio_test"),
)


def effective_matrices(ensemble: Ensemble) -> list[Weights]:
    """W_OV diag(k) of every model: 2n answer rows, subject and relation columns, each column centred over the rows."""
    pairs = zip(ensemble.tasks, ensemble.effective().double().cpu().numpy(), strict=True)
    return [centred(matrix[task.answers][:, task.columns]) for task, matrix in pairs]


def centred(matrix: Matrix) -> Matrix:
    """The matrix with every column's mean over the rows taken away."""
    return matrix - matrix.mean(-2, keepdims=True)


def exact_matrix(task: Task, norm: str) -> Weights:
    """The exact solution of the task in the shape of `effective_matrices`; norm is nuclear or frobenius."""
    return closed_form(task, norm).matrix.dense()


def cosine(one: Matrix, other: Matrix) -> float:
    """The cosine of two matrices as vectors."""
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def margins(task: Task, matrix: Weights, rows: Rows, *, same_relation: bool = False) -> Float[np.ndarray, "row"]:
    """Score of the right answer minus the best other; same_relation: the best other of the same relation only."""
    # The score of all 2n answers to each row, whose input is the sum of its subject's and its relation's column.
    scores = (matrix[:, rows.subject - task.context] + matrix[:, task.subjects + rows.relation]).T
    return leads(task, scores, rows, same_relation=same_relation)


def leads(
    task: Task, scores: Float[np.ndarray, "row answer"], rows: Rows, *, same_relation: bool = False
) -> Float[np.ndarray, "row"]:
    """The same of scores: those of all 2n answers to each row."""
    right = rows.answer - task.answers.start
    among = (np.arange(2 * task.classes) >= task.classes) == (right >= task.classes)[:, None]
    return lead(scores, right, among if same_relation else None)


def compare(task: Task, matrix: Weights) -> dict[str, float]:
    """Every comparison of one centred effective matrix; NaN throughout for one that has diverged.

    cosine_to_nuclear, cosine_to_frobenius: with the exact solutions. smallest_margin: of the stated rows, in logits.
    nuclear_over_margin, frobenius_over_margin: the norm when the smallest stated margin is scaled to 1; infinite while
    some stated row is answered wrongly. margin_ratio_test: smallest margin of an unstated implication among the
    implication answers, in units of the smallest stated margin; NaN without one of either.
    """
    if not np.isfinite(matrix).all():
        return dict.fromkeys(COMPARISONS, np.nan)
    smallest = float(margins(task, matrix, task.stated).min())
    scale = smallest if smallest > 0 else np.nan
    test = float(margins(task, matrix, task.questions, same_relation=True).min()) if len(task.questions) else np.nan
    cosines = [cosine(matrix, exact_matrix(task, norm)) if task.train else np.nan for norm in ("nuclear", "frobenius")]
    sizes = [size / scale if smallest > 0 else np.inf for size in norms(matrix)]
    return dict(zip(COMPARISONS, (*cosines, smallest, *sizes, test / scale), strict=True))


def norms(matrix: Weights) -> tuple[float, float]:
    """The nuclear and the Frobenius norm."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return float(singular.sum()), float(np.linalg.norm(singular))


class Probe:
    """What to measure of an ensemble along the way: one list of numbers, a model each, under every name.

    Arguments:
    - matrices: also `compare` the matrices, which costs more than the losses.
    - draws: sequences for each row of a task with noise, drawn once and from a generator of the probe's own.

    Returns, when called with an ensemble and a step: mean cross-entropies in nats over all tokens (train_loss,
    implication_loss_test) or implication answers (implication_loss_among); implication_accuracy_test; COMPARISONS.
    """

    def __init__(self, *, matrices: bool = True, draws: int = 8) -> None:
        self.matrices, self.draws = matrices, draws
        self.bags: dict[str, BagBatch] = {}

    def __call__(self, ensemble: Models, step: int) -> dict[str, list[float]]:
        found = {}
        for name, loss_name in (("stated", "train_loss"), ("questions", "implication_loss_test")):
            if name not in self.bags:
                self.bags[name] = self._drawn(ensemble, name)
            batch = self.bags[name]
            logits = ensemble.logits(batch)
            found[loss_name] = (cross_entropy(logits, batch.answer) * batch.weight).sum(-1).tolist()
        found["implication_accuracy_test"] = ((logits.argmax(-1) == batch.answer) * batch.weight).sum(-1).tolist()
        found["implication_loss_among"] = [
            float((cross_entropy(one[None], answer[None], task.implication_answers)[0] * weight).sum())
            for task, one, answer, weight in zip(ensemble.tasks, logits, batch.answer, batch.weight, strict=True)
        ]
        if self.matrices and isinstance(ensemble, Ensemble):
            compared = list(map(compare, ensemble.tasks, effective_matrices(ensemble)))
            found |= {name: [one[name] for one in compared] for name in COMPARISONS}
        return found

    def _drawn(self, ensemble: Models, name: str) -> BagBatch:
        drawn = {}
        for task in dict.fromkeys(ensemble.tasks):
            rows: Rows = getattr(task, name)
            drawn[task] = bags = exact_bags(task, rows)
            if task.noise_places:
                index = np.repeat(np.arange(len(rows)), self.draws)
                noisy = sampled_bags(task, rows.take(index), np.random.default_rng(9))
                drawn[task] = dataclasses.replace(noisy, weight=bags.weight[index] / self.draws)
        return stacked_bags(ensemble, [drawn[task] for task in ensemble.tasks])
