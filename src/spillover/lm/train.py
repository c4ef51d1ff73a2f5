"""Fine-tune on answer tokens only. The model handed in stays as it is; a copy is trained."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from spillover.errors import ModelError
from spillover.lm.compile import CompiledLayers
from spillover.lm.distributed import ALONE, Processes
from spillover.lm.micro_batch import Gate, MicroBatches, cut, shares
from spillover.lm.optimizer import PLAIN, Optimisers, optimisers, restore, state_of
from spillover.lm.score import (
    CausalModel,
    Method,
    PrefixTree,
    cheaper_merged,
    collate,
    fits_window,
    logits_only_at,
    width_for,
)
from spillover.lm.tokens import Example, refuse_unreadable

Hidden = Float[Tensor, "position width"]
#: The share of a logit by which two ways to compute it may differ, by the bits of a number.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def mean_loss(
    model: CausalModel,
    fed: Mapping[str, Tensor],
    scored: Int[Tensor, "position"],
    place: Int[Tensor, "answer"] | None,
    token: Int[Tensor, "answer"],
    at_once: int = 0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) of answer tokens.

    fed: what the model is called with. scored: where logits are needed, as indices into batch x length, flattened.
    place, token: of each answer token, which of those it is read from (None: each from its own, in order), and which
    token it is. at_once: so many answer tokens' logits stand at the same time, forward and backward; 0 is all of them.
    Raises ModelError when logits cannot be computed some at a time.
    """
    if not at_once or len(token) <= at_once:
        with logits_only_at(model, scored):
            logits = model(**fed, use_cache=False).logits[0]
        return cross_entropy(logits.float() if place is None else logits.float()[place], token)
    hidden, seen = _before_logits(model, fed, scored)
    head, finish = model.get_output_embeddings(), finishing(model)
    _refuse_other_logits(finish(head(hidden[None, :1].detach())), seen)
    wanted = hidden if place is None else hidden[place]

    def summed(part: Hidden, tokens: Int[Tensor, "answer"]) -> Float[Tensor, ""]:
        return cross_entropy(finish(head(part)).float(), tokens, reduction="sum")

    # Computed again on the way back, so that no part's logits wait for it.
    parts = [
        checkpoint(summed, part, tokens, use_reentrant=False)
        for part, tokens in zip(wanted.split(at_once), token.split(at_once), strict=True)
    ]
    return torch.stack(parts).sum() / len(token)


def finishing(model: CausalModel) -> Callable[[Tensor], Tensor]:
    """What a model does to logits behind its output embedding, as far as it is known: a factor, or a soft cap."""
    config = model.config.get_text_config()
    cap, factor = getattr(config, "final_logit_softcapping", None), getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def finish(logits: Tensor) -> Tensor:
        logits = logits * factor if factor else logits
        logits = logits / divisor if divisor else logits
        return torch.tanh(logits / cap) * cap if cap else logits

    return finish


def _before_logits(
    model: CausalModel, fed: Mapping[str, Tensor], scored: Int[Tensor, "position"]
) -> tuple[Hidden, Float[Tensor, "1 1 vocabulary"]]:
    """What enters the output embedding at `scored`, and the model's own logits at the first of them alone."""
    kept: list[Hidden] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0].reshape(-1, inputs[0].shape[-1])[scored])
        return (kept[-1][None, :1], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits: Tensor = model(**fed, use_cache=False).logits
    finally:
        handle.remove()
    return kept[-1], logits


@torch.no_grad()
def _refuse_other_logits(found: Tensor, expected: Tensor) -> None:
    """Raise ModelError unless logits computed apart are the model's own; some models do more to them."""
    if found.is_meta:
        return
    tolerance = _TOLERANCE.get(expected.dtype, 0.02)
    if not torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance):
        what = "this model changes its logits in a way that is not known, so they cannot be computed some at a time"
        raise ModelError(what, do="Leave --logits-at-once out")


#: A term that is added to a step's loss, from the model and the step's number.
ExtraLoss = Callable[[Any, int], Tensor]


@dataclass(frozen=True)
class Training:
    """How to fine-tune: passes over the rows, AdamW's constant rate, rows a step, and what is trained.

    lora: rank of an adapter that is trained instead of the weights, or 0. lora_scaling: what its output is multiplied
    by. lora_targets: the modules that get one, by the ends of their names; all linear ones but the output embedding
    unless there are any. trains: of the parameters (name, number of layers) that would be trained, those that are.
    decay: the weight decay of a parameter by name, where it is not `weight_decay`. optimiser: see `optimisers`.
    gradient_checkpointing: layers are computed again on the way back. logits_at_once: see `mean_loss`. compile_layers:
    see `CompiledLayers`.
    """

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float
    freeze_embeddings: bool
    lora: int
    seed: int
    lora_scaling: float = 2.0
    lora_targets: tuple[str, ...] = ()
    optimiser: str = PLAIN
    gradient_checkpointing: bool = False
    logits_at_once: int = 0
    compile_layers: bool = False
    trains: Callable[[str, int], bool] | None = None
    decay: Callable[[str], float | None] | None = None


@dataclass(frozen=True)
class Step:
    """One step done: its number from 1, the epoch it belongs to from 1, and the mean loss of its answer tokens.

    state: gives all that later steps depend on, by name: the trained weights and what AdamW keeps of each. Seeds are
    not in it, since a step's are made from its number. These are the tensors themselves, which the next step changes.
    """

    number: int
    epoch: int
    loss: float
    last_of_epoch: bool
    state: Callable[[], dict[str, Tensor]] = field(default=dict, compare=False)


@dataclass(frozen=True)
class TrainerState:
    """Where a training that was cut short goes on: how many steps were done, and the state behind the last of them."""

    step: int
    state: Mapping[str, Tensor]


def fine_tune(
    model: CausalModel,
    rows: Sequence[Example],
    settings: Training,
    after_step: Callable[[Step], bool | None],
    method: Method | None = None,
    start: TrainerState | None = None,
    parts: MicroBatches | None = None,
    *,
    extra: ExtraLoss | None = None,
    rows_in: Callable[[int], Sequence[Example]] | None = None,
    processes: Processes = ALONE,
) -> None:
    """Train `model` (from `trainable_copy`) in place on `rows`; `after_step` may measure, which changes nothing.

    The loss of a step is the mean cross-entropy over the answer tokens of its rows, over the whole vocabulary.
    after_step: gives True when enough is learned, which ends the training. method: how a Scorer was seen to feed this
    model; with `tree`, what rows of a batch have in common is computed once. start: goes on from there, to the same
    numbers, bit for bit, as without the stop; `model` is then the copy as it was before its first step. parts: how many
    rows are computed at once; by default the whole batch, and fewer when memory runs out. extra: a term that is added
    to each step's loss, but not to the one that is told. rows_in: gives those of the rows that an epoch trains on; all
    of them in every epoch unless it is there. processes: with others, each takes its share of every batch's rows, and
    all take the step of the whole batch, within rounding.
    Raises ModelError when the model cannot read one of the rows, or when the loss is no longer a number; Exhausted when
    there is not even memory for one row; TornStep when it ran out after some weights of a step had been updated.
    """
    refuse_unreadable(model, (row.tokens for row in rows))
    number, merge = 0, bool(rows) and may_merge(model, rows, method)
    gate, parts = Gate(), parts or MicroBatches([(1, settings.batch)])
    layers = CompiledLayers(model).in_use if settings.compile_layers else nullcontext
    with _stepping_in_backward(model, settings, gate, hooked=processes.count == 1) as updaters:
        if start is not None:
            _restore(model, updaters, processes.items(start.state))
        for epoch in range(1, settings.epochs + 1):
            batches = list(shuffled(rows if rows_in is None else rows_in(epoch), settings, epoch))
            for place, batch in enumerate(batches):
                number += 1
                if start is not None and number <= start.step:
                    continue
                seed, term = settings.seed * 1_000_003 + number, extra and functools.partial(extra, model, number)
                own, weight = _own(batch, processes)
                attempt = functools.partial(
                    _step, model, own, seed=seed + processes.place.rank * 1_000_000_007, merge=merge, gate=gate,
                    extra=term, weight=weight, count=processes.count, logits=settings.logits_at_once, layers=layers,
                )  # fmt: skip
                loss = parts.take(model, number, len(own), gate, attempt)
                loss = processes.add_gradients(loss, list(updaters))
                _update_left_over(updaters)
                if not math.isfinite(loss):
                    raise ModelError(f"training went astray: the loss of step {number} is {loss}", do="Lower --lr")
                last = place == len(batches) - 1
                if after_step(Step(number, epoch, loss, last, lambda: _state(model, updaters))):
                    return


@contextmanager
def _stepping_in_backward(
    model: CausalModel, settings: Training, gate: Gate, hooked: bool = True
) -> Iterator[Optimisers]:
    """Inside, each weight is updated by AdamW as soon as its gradient is complete, and the gradient is dropped.

    The same numbers as one step after the whole backward pass, without ever holding all gradients at once. While `gate`
    is closed, gradients are summed instead, and so they are unless `hooked`: then whoever calls this takes the steps.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    own = optimisers(trained, settings.optimiser, settings.learning_rate, lambda name: _decay_of(name, settings))

    def update(parameter: nn.Parameter) -> None:
        if gate.open:
            gate.updated += 1
            own[parameter].step()
            parameter.grad = None

    handles = [parameter.register_post_accumulate_grad_hook(update) for parameter in own if hooked]
    try:
        yield own
    finally:
        for handle in handles:
            handle.remove()


def _decay_of(name: str, settings: Training) -> float:
    own = None if settings.decay is None else settings.decay(name)
    return settings.weight_decay if own is None else own


def _update_left_over(own: Optimisers) -> None:
    """Update what has a gradient still: all, if processes share a batch, or what earlier parts of it alone gave one,
    such as one expert of several."""
    for parameter, optimiser in own.items():
        if parameter.grad is not None:
            optimiser.step()
            parameter.grad = None


def _state(model: CausalModel, own: Optimisers) -> dict[str, Tensor]:
    """See Step.state; `NAME` of a weight behind `weight`, or behind AdamW's own word for what it keeps."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter in own:
            kept = state_of(own[parameter], parameter)
            found |= {f"weight {name}": parameter.detach(), **{f"{key} {name}": value for key, value in kept.items()}}
    return found


def _restore(model: CausalModel, own: Optimisers, state: Iterable[tuple[str, Tensor]]) -> None:
    """Write a state, as names with their tensors, into a model and its optimisers."""
    parameters = {name: value for name, value in model.named_parameters() if value in own}
    with torch.no_grad():
        for key, value in state:
            kind, name = key.split(" ", 1)
            if kind == "weight":
                parameters[name].copy_(value)
            else:
                restore(own[parameters[name]], parameters[name], kind, value)


def shuffled(rows: Sequence[Example], settings: Training, epoch: int) -> Iterator[list[Example]]:
    """The rows in an order of this epoch's own, cut into batches."""
    order = list(range(len(rows)))
    random.Random(f"rows {settings.seed} {epoch}").shuffle(order)
    for start in range(0, len(order), settings.batch):
        yield [rows[index] for index in order[start : start + settings.batch]]


def _own(batch: Sequence[Example], processes: Processes) -> tuple[Sequence[Example], float]:
    """The rows of a batch that fall to this process, and their weight in the step, by their answer tokens."""
    own = processes.share(batch)
    if not own:
        # It takes part without weight, since a split model and a further term of the loss need every process.
        return batch[:1], 0.0
    tokens, every = (sum(len(row.tokens) - row.start for row in rows) for rows in (own, batch))
    return own, tokens / every


def _step(
    model: CausalModel, batch: Sequence[Example], seed: int, merge: bool, at_once: int, gate: Gate,
    extra: Callable[[], Tensor] | None, weight: float = 1.0, count: int = 1, logits: int = 0,
    layers: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> float:  # fmt: skip
    """Loss and gradients of a batch, times its weight in the step; of the further term, the `count`-th part.

    logits: see Training.logits_at_once. layers: what the step is taken inside of, such as CompiledLayers.in_use.
    """
    model.train()
    parts, losses = cut(batch, at_once), list[Tensor]()
    # Dropout draws from a stream of this step's own, so that measuring in between cannot move it.
    with layers(), torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for place, (part, share) in enumerate(zip(parts, shares(parts), strict=True)):
            loss = answer_loss(model, part, merge, logits) * share * weight
            losses.append(loss.detach())
            gate.open = place == len(parts) - 1
            # In the last backward pass, so that each weight is updated once, from its whole gradient.
            (loss + extra() / count if gate.open and extra is not None else loss).backward()
    model.eval()
    # Read at the end alone, since a GPU does nothing new while it is read from.
    return sum(map(float, losses))


def answer_loss(model: CausalModel, batch: Sequence[Example], merge: bool = False, logits_at_once: int = 0) -> Tensor:
    """Mean cross-entropy (nats) of the answer tokens of a batch; logits are computed at no other position.

    merge: compute what rows have in common at their beginnings once, where that is cheaper. logits_at_once: see
    `mean_loss`. The loss is the same.
    """
    device = model.device
    forests = cheaper_merged(batch) if merge else [PrefixTree([row]) for row in batch]
    read = collate(forests, model.dtype, multiple=width_for(device))
    fed = {"input_ids": read.tokens, "position_ids": read.positions, "attention_mask": read.mask}
    return mean_loss(
        model, {name: value.to(device) for name, value in fed.items()}, read.scored.to(device),
        None if read.places is None else read.places.to(device), read.token.to(device), logits_at_once,
    )  # fmt: skip


def may_merge(model: CausalModel, rows: Sequence[Example], method: Method | None) -> bool:
    """Whether rows may be trained as forests: the model was seen to heed their mask, draws no dropout, and no row
    reaches beyond its sliding window."""
    drops = any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))
    drops = drops or bool(getattr(model.config.get_text_config(), "attention_dropout", 0.0))
    return method == "tree" and not drops and fits_window(model, max(len(row.tokens) for row in rows))
