"""Fine-tune on answer tokens only: the loss, the optimizer of each weight, micro-batches and the loop of steps.

The model handed in stays as it is; a copy is trained.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.adamw import adamw
from torch.utils.checkpoint import checkpoint

from spillover.errors import ModelError, UsageError
from spillover.lm.distributed import SINGLE, Processes
from spillover.lm.memory import Exhausted, free_cache, out_of_memory
from spillover.lm.score import (
    CausalModel,
    Method,
    TreeBatch,
    batch_for,
    cheaper_merged,
    logits_only_at,
    tree_width,
    window_of,
)
from spillover.lm.tokens import Example, refuse_unreadable
from spillover.lm.trainable import CompiledLayers, Training
from spillover.record import State

Hidden = Float[Tensor, "position width"]
#: The share of a logit by which two ways to compute it may differ, by the precision.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
#: A term that is added to a step's loss, from the model and the step's number. What later steps depend on it keeps in
#: `memory`, tensors by name.
ExtraLoss = Callable[[CausalModel, int], Tensor]
#: Before the name of a term's tensor in a checkpoint.
REMEMBERED = "remembered "


def memory_of(extra: ExtraLoss | None) -> dict[str, Tensor]:
    """What a term keeps from step to step, by name. These are the tensors themselves."""
    return getattr(extra, "memory", {})


def mean_loss(model: CausalModel, batch: TreeBatch, at_once: int = 0) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) of the answer tokens of a batch, which is on the model's device.

    at_once: the most answer tokens whose logits stand at the same time, forward and backward; 0 is all of them. Raises
    ModelError when logits cannot be computed some at a time.
    """
    places, token = batch.places, batch.token
    if not at_once or len(token) <= at_once:
        with logits_only_at(model, batch.scored):
            logits = model(**batch.fed, use_cache=False).logits[0].float()
        return cross_entropy(logits if places is None else logits[places], token)
    hidden, logits_from = _before_logits(model, batch)

    def summed(part: Hidden, tokens: Int[Tensor, "answer"]) -> Float[Tensor, ""]:
        return cross_entropy(logits_from(part).float(), tokens, reduction="sum")

    # Computed again in the backward pass, so that no part's logits wait for it.
    wanted = (hidden if places is None else hidden[places]).split(at_once)
    parts = [checkpoint(summed, *each, use_reentrant=False) for each in zip(wanted, token.split(at_once), strict=True)]
    return torch.stack(parts).sum() / len(token)


def _before_logits(model: CausalModel, batch: TreeBatch) -> tuple[Hidden, Callable[[Tensor], Tensor]]:
    """What enters the output embedding where logits are needed, and the function that turns it into logits. Raises
    ModelError when the model does more to its logits than is known: a factor, a divisor or a soft cap."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    cap, factor = getattr(config, "final_logit_softcapping", None), getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    kept: list[Hidden] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0].reshape(-1, inputs[0].shape[-1])[batch.scored])
        return (kept[-1][None, :1], *inputs[1:])

    def logits_from(hidden: Tensor) -> Tensor:
        logits: Tensor = head(hidden)
        logits = logits * factor if factor else logits
        logits = logits / divisor if divisor else logits
        return torch.tanh(logits / cap) * cap if cap else logits

    with head.register_forward_pre_hook(keep):
        expected: Tensor = model(**batch.fed, use_cache=False).logits
    tolerance = _TOLERANCE.get(expected.dtype, 0.02)
    with torch.no_grad():
        found = logits_from(kept[-1][None, :1])
        same = found.is_meta or torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance)
    if not same:
        what = "this model changes its logits in a way that is not known, so they cannot be computed some at a time"
        raise ModelError(what, do="Leave --logits-at-once out")
    return kept[-1], logits_from


def answer_loss(model: CausalModel, batch: Sequence[Example], merge: bool = False, logits_at_once: int = 0) -> Tensor:
    """`mean_loss` of examples; merge: what they share at their beginnings is computed once, if that is cheaper."""
    return mean_loss(model, batch_for(model, cheaper_merged(batch, merge)), logits_at_once)


def may_merge(model: CausalModel, examples: Sequence[Example], method: Method | None) -> bool:
    """Whether examples may be trained as prefix trees: the model was seen to heed their mask, draws no dropout, and no
    example reaches beyond its window."""
    drops = any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))
    drops = drops or bool(getattr(model.config.get_text_config(), "attention_dropout", 0.0))
    fits = max(len(each.tokens) for each in examples) < window_of(model) and tree_width(model) == math.inf
    return method == "tree" and not drops and fits


@runtime_checkable
class Optimizer(Protocol):
    """What updates one weight from its gradient. state: of that weight, what it keeps from step to step, by name."""

    state: dict[Any, Any]

    def step(self) -> None: ...


#: Every trained weight has an optimizer of its own.
Optimizers = dict[nn.Parameter, Optimizer]
ADAMW, EIGHT_BIT, NORMALISED = "adamw", "adamw-8bit", "normalised-gradient-descent"
#: With 8 bits, weights of fewer numbers keep single precision, and this many numbers in a row share a scale.
SMALL, BLOCK = 4096, 256
#: How fast AdamW's two moments decay, and what keeps it from dividing by zero: torch's own values.
BETAS, EPSILON = (0.9, 0.999), 1e-8
#: Bytes a number that one update with 8 bits takes on a CPU, where all is unpacked at once.
UPDATE = 20


def refuse_missing_optimizer(kind: str) -> None:
    """Raise UsageError when the package that an optimizer comes from is not installed."""
    if kind == EIGHT_BIT and find_spec("bitsandbytes") is None:
        what = "the package that keeps an optimizer's state in 8 bits is not installed"
        raise UsageError(what, where=f"--optimiser {kind}", do='Run `pip install "spillover[eight-bit]"`')


def optimizers(
    parameters: Iterable[tuple[str, nn.Parameter]], kind: str, rate: float, decay: Callable[[str], float]
) -> Optimizers:
    """An optimizer for every parameter (name, parameter); its state is there before the first step. kind: ADAMW
    (torch's), EIGHT_BIT (AdamW of bitsandbytes) or NORMALISED. decay: the weight decay of a parameter by name."""
    make: Callable[..., Optimizer] = {EIGHT_BIT: _eight_bit, NORMALISED: _Descent}.get(kind, _AdamW)
    return {parameter: make(parameter, rate, decay(name)) for name, parameter in parameters}


class _AdamW:
    """AdamW of one weight. Its state is there from the beginning, so that no step has a reason to fail half-way.

    The function itself, since torch's class takes four times as long around it as a small weight's update does.
    """

    def __init__(self, parameter: nn.Parameter, rate: float, decay: float) -> None:
        self.parameter, self.rate, self.decay = parameter, rate, decay
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        self.state: dict[Any, Any] = {parameter: {"step": step, **moments}}

    @torch.no_grad()
    def step(self) -> None:
        kept, gradient = self.state[self.parameter], self.parameter.grad
        assert gradient is not None
        adamw(
            [self.parameter], [gradient], [kept["exp_avg"]], [kept["exp_avg_sq"]], [], [kept["step"]],
            fused=True, amsgrad=False, maximize=False, beta1=BETAS[0], beta2=BETAS[1], eps=EPSILON, lr=self.rate,
            weight_decay=self.decay,
        )  # fmt: skip


class _Descent:
    """Gradient descent on one weight, which keeps nothing from step to step; `Updates` makes its gradient the share
    that it has of a whole of norm 1."""

    def __init__(self, parameter: nn.Parameter, rate: float, decay: float) -> None:
        self.parameter, self.rate, self.decay = parameter, rate, decay
        self.state: dict[Any, Any] = {parameter: {}}

    @torch.no_grad()
    def step(self) -> None:
        assert self.parameter.grad is not None
        self.parameter.mul_(1 - self.rate * self.decay).sub_(self.parameter.grad, alpha=self.rate)


def _eight_bit(parameter: nn.Parameter, rate: float, decay: float) -> Optimizer:
    from bitsandbytes.optim import AdamW8bit, GlobalOptimManager

    made: Any = AdamW8bit([parameter], lr=rate, weight_decay=decay, min_8bit_size=SMALL)
    # Its settings by parameter are the process's, where a Trainer that ran before leaves 32 bits for the first weight.
    made.mng = GlobalOptimManager.__new__(GlobalOptimManager)
    made.mng.initialize()
    made.init_state(made.param_groups[0], parameter, 0, 0)
    return made


def state_of(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """All that later steps depend on, by the optimizer's own words. These are the tensors themselves."""
    # What every 8-bit optimizer holds alike is left out, so that no checkpoint need hold it.
    state = optimizer.state[parameter].items()
    return {key: torch.as_tensor(value) for key, value in state if key not in ("qmap1", "qmap2")}


def optimizer_bytes(parameters: Iterable[nn.Parameter], kind: str) -> int:
    """Bytes of the optimizer state of these parameters."""
    if kind == NORMALISED:
        return 0
    if kind == ADAMW:
        return sum(2 * parameter.nbytes for parameter in parameters)
    counts = [parameter.numel() for parameter in parameters]
    return sum(8 * count if count < SMALL else 2 * (count + 4 * -(-count // BLOCK) + 4 * 256) for count in counts)


def update_bytes(parameters: Iterable[nn.Parameter], kind: str, device: torch.device) -> int:
    """Bytes that the largest update takes beside what is kept."""
    return 0 if kind != EIGHT_BIT or device.type != "cpu" else UPDATE * max((p.numel() for p in parameters), default=0)


#: The micro-batch from a step on, as (step, examples).
Since = tuple[int, int]


class TornStep(ModelError):
    """Memory ran out within a step after it had updated some weights, so the model is between two steps: train another
    copy, from the beginning or a checkpoint, with the same MicroBatches, which has been halved."""

    def __init__(self, step: int, size: int) -> None:
        what = f"memory ran out within step {step}, after some weights had been updated"
        super().__init__(what, do=f"Train again with --micro-batch {size}")


@dataclass
class MicroBatches:
    """How many examples of a batch are computed at once, from which step on: one value, unless memory ran out.

    since: of every change the step and the examples, ascending. changed: called with `since` at each change, before it
    takes effect. The numbers of a training depend on `since` alone, not on whether memory ran out while it ran.
    """

    since: list[Since]
    changed: Callable[[Sequence[Since]], None] = field(default=lambda since: None)

    def at(self, step: int) -> int:
        """Examples computed at once in a step."""
        return [size for first, size in self.since if first <= step][-1]

    def take(self, model: CausalModel, step: int, size: int, updates: Updates, attempt: Callable[..., float]) -> float:
        """What `attempt(at_once=...)` gives; when memory runs out it is made again with half the examples. size: those
        of the batch. Raises Exhausted when one is too many, TornStep when weights had been updated."""
        while True:
            updates.done = 0
            try:
                return attempt(at_once=self.at(step))
            except Exception as error:
                if not out_of_memory(error):
                    raise
            # Outside of `except`, where the error would keep the failed pass and all that it computed.
            for parameter in model.parameters():
                parameter.grad = None
            free_cache(model.device)
            self.halve(step, size)
            if updates.done:
                raise TornStep(step, self.at(step))

    def halve(self, step: int, size: int) -> None:
        """From this step on, compute half of at most `size` examples at once. Raises Exhausted when it is one."""
        now = min(self.at(step), size)
        if now == 1:
            raise Exhausted(f"memory ran out in step {step}, with one row at a time")
        later = [each for each in self.since if each[0] > step and each[1] < now // 2]
        self.since = [*(each for each in self.since if each[0] < step), (step, now // 2), *later]
        self.changed(self.since)


def cut(batch: Sequence[Example], at_once: int) -> list[Sequence[Example]]:
    """A batch in parts of `at_once` examples; the last may have fewer."""
    return [batch[start : start + at_once] for start in range(0, len(batch), at_once)]


def shares(parts: Sequence[Sequence[Example]]) -> list[float]:
    """The share of a batch's answer tokens that each part holds: how much its mean loss counts in the batch's."""
    tokens = [_answer_tokens(part) for part in parts]
    return [each / sum(tokens) for each in tokens]


def _answer_tokens(batch: Sequence[Example]) -> int:
    return sum(len(each.tokens) - each.start for each in batch)


@dataclass(frozen=True)
class TrainingStep:
    """One step done: its number from 1, the epoch it belongs to from 1, and the mean loss of its answer tokens.

    state: gives all that later steps depend on, by name: the trained weights and the optimizer state of each. Seeds are
    not in it, since a step's are made from its number. These are the tensors themselves, which the next step changes.
    """

    number: int
    epoch: int
    loss: float
    last_of_epoch: bool
    state: Callable[[], dict[str, Tensor]] = field(default=dict, compare=False)


def fine_tune(
    model: CausalModel,
    examples: Sequence[Example],
    settings: Training,
    after_step: Callable[[TrainingStep], bool | None],
    method: Method | None = None,
    resume: State | None = None,
    micro_batches: MicroBatches | None = None,
    *,
    extra: ExtraLoss | None = None,
    examples_in: Callable[[int], Sequence[Example]] | None = None,
    processes: Processes = SINGLE,
) -> None:
    """Train `model` (from `trainable_copy`) in place on `examples`; `after_step` may measure, which changes nothing.

    The loss of a step is the mean cross-entropy over the answer tokens of its examples, over the whole vocabulary.
    after_step: gives True when enough is learned, which ends the training. method: how a Scorer was seen to feed this
    model; with `tree`, what examples of a batch have in common is computed once, with `single`, each is computed by
    itself. resume: goes on from there, to the same numbers, bit for bit, as without the stop; `model` is then the copy
    as it was before its first step. micro_batches: by default the whole batch, and fewer examples when memory runs out.
    extra: a term that is added to each step's loss, but not to the one that is reported. examples_in: the examples of
    an epoch, unless all are trained in each. processes: with others, each takes its share of every batch, and all take
    the step of the whole batch, within rounding.
    Raises ModelError when the model cannot read an example, or when the loss is no longer a number; Exhausted when
    there is not even memory for one example; TornStep when it ran out after some weights of a step had been updated.
    """
    refuse_unreadable(model, (example.tokens for example in examples))
    merge = bool(examples) and may_merge(model, examples, method)
    micro_batches = micro_batches or MicroBatches([(1, settings.batch)])
    layers = CompiledLayers(model).in_use if settings.compile_layers else nullcontext
    updates = Updates(model, settings)
    memory = {REMEMBERED + name: kept for name, kept in memory_of(extra).items()}
    with ExitStack() as stack:
        if processes.count == 1 and not updates.together:
            for weight in updates.optimizers:
                stack.enter_context(weight.register_post_accumulate_grad_hook(updates.update))
        if resume is not None:
            for key, value in processes.broadcast_tensors(resume.tensors):
                if key in memory:
                    memory[key].copy_(value)
                else:
                    updates.restore([(key, value)])
        for number, (epoch, batch, last) in enumerate(_steps(examples, settings, examples_in), start=1):
            if resume is not None and number <= resume.step:
                continue
            own: Sequence[Example] = [example for example, counts in processes.round_robin(batch) if counts]
            share = _answer_tokens(own) / _answer_tokens(batch)
            # Without examples it takes part, without weight: a split model and `extra` need every process.
            own = own or batch[:1]
            attempt = partial(
                training_step, model, own, merge=merge, alone=method == "single", updates=updates,
                extra=extra and partial(extra, model, number),
                seed=settings.seed * 1_000_003 + number + processes.launch.rank * 1_000_000_007, weight=share,
                count=processes.count, logits=settings.logits_at_once, layers=layers,
            )  # fmt: skip
            loss = micro_batches.take(model, number, len(own), updates, attempt)
            loss = processes.add_gradients(loss, list(updates.optimizers))
            if updates.together:
                updates.normalise()
            # All, if they are updated together, or only the weights that earlier parts gave a gradient.
            for weight in updates.optimizers:
                if weight.grad is not None:
                    updates.update(weight)
            if not math.isfinite(loss):
                raise ModelError(f"training went astray: the loss of step {number} is {loss}", do="Lower --lr")
            if after_step(TrainingStep(number, epoch, loss, last, lambda: updates.state() | memory)):
                return


class Updates:
    """Updates each trained weight as soon as its gradient is complete, and drops the gradient.

    The same numbers as one step after the whole backward pass, without ever holding all gradients at once. complete:
    whether this is the last backward pass of the step; before it, gradients are summed. done: the updates of this step.
    together: whether an update needs all gradients, so that they are held until the step's end.
    """

    def __init__(self, model: CausalModel, settings: Training) -> None:
        def decay(name: str) -> float:
            own = None if settings.decay is None else settings.decay(name)
            return settings.weight_decay if own is None else own

        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.optimizers = optimizers(self.weights.items(), settings.optimizer, settings.learning_rate, decay)
        self.complete, self.done = True, 0
        self.together = settings.optimizer == NORMALISED

    def normalise(self) -> None:
        """Scale the gradients of all weights so that together they have norm 1."""
        gradients = [weight.grad for weight in self.optimizers if weight.grad is not None]
        norm: Any = nn.utils.get_total_norm(gradients)
        # Of a model that several processes share, each knows a part.
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        for gradient in gradients if norm > 0 else ():
            gradient.div_(norm)

    def update(self, weight: nn.Parameter) -> None:
        """Take the step of one weight, unless more is to be added to its gradient."""
        if self.complete:
            self.done += 1
            self.optimizers[weight].step()
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """See TrainingStep.state; `NAME` of a weight after `weight`, or after AdamW's own word for what it keeps."""
        found: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            kept = {"weight": weight.detach(), **state_of(self.optimizers[weight], weight)}
            found |= {f"{key} {name}": value for key, value in kept.items()}
        return found

    @torch.no_grad()
    def restore(self, state: Iterable[tuple[str, Tensor]]) -> None:
        """Write a state, as names with their tensors, into the weights and their optimizers."""
        for key, value in state:
            kind, name = key.split(" ", 1)
            weight = self.weights[name]
            if kind == "weight":
                weight.copy_(value)
                continue
            kept: dict[str, Any] = self.optimizers[weight].state[weight]
            if isinstance(kept[kind], Tensor):
                # Laid out in memory as the weight is, as AdamW does it.
                like = weight if value.shape == weight.shape else value
                kept[kind] = torch.empty_like(like, dtype=value.dtype, device=weight.device).copy_(value)
            else:
                kept[kind] = int(value)


def _steps(
    examples: Sequence[Example], settings: Training, examples_in: Callable[[int], Sequence[Example]] | None
) -> Iterator[tuple[int, Sequence[Example], bool]]:
    """Epoch, batch, and whether it is the epoch's last, of each step."""
    for epoch in range(1, settings.epochs + 1):
        batches = shuffled(examples if examples_in is None else examples_in(epoch), settings, epoch)
        for place, batch in enumerate(batches, start=1):
            yield epoch, batch, place == len(batches)


def shuffled(examples: Sequence[Example], settings: Training, epoch: int) -> list[Sequence[Example]]:
    """The examples in an order of this epoch's own, cut into batches."""
    order = list(examples)
    random.Random(f"rows {settings.seed} {epoch}").shuffle(order)
    return cut(order, settings.batch)


def training_step(
    model: CausalModel, batch: Sequence[Example], seed: int, merge: bool, at_once: int, updates: Updates,
    extra: Callable[[], Tensor] | None, weight: float = 1.0, count: int = 1, logits: int = 0, alone: bool = False,
    layers: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> float:  # fmt: skip
    """Loss and gradients of a batch, times its weight in the step; of the extra term, the `count`-th part. logits: see
    Training.logits_at_once. alone: whether examples are computed one at a time. layers: what the step is taken inside,
    such as CompiledLayers.in_use."""
    model.train()
    parts, losses = cut(batch, 1 if alone else at_once), list[Tensor]()
    # Dropout draws from a stream of this step's own, so that measuring in between cannot move it.
    with layers(), torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for place, (part, share) in enumerate(zip(parts, shares(parts), strict=True)):
            loss = answer_loss(model, part, merge, logits) * share * weight
            losses.append(loss.detach())
            updates.complete = place == len(parts) - 1
            # In the last backward pass, so that each weight is updated once, from its whole gradient.
            (loss + extra() / count if updates.complete and extra is not None else loss).backward()
    model.eval()
    # Read at the end alone, since a GPU does nothing new while it is read from.
    return sum(map(float, losses))
