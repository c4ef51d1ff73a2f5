"""Fine-tuning on answer tokens only. The model handed in stays as it is; a copy is trained."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spillover.errors import ModelError
from spillover.llm.scoring import CausalModel, logits_only_at
from spillover.llm.tokens import Row, refuse_unreadable


@dataclass(frozen=True)
class Training:
    """How to fine-tune: passes over the rows, AdamW's constant rate, rows a step, and what is trained."""

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float
    freeze_embeddings: bool
    lora: int
    seed: int


@dataclass(frozen=True)
class Step:
    """One step done: its number from 1, the epoch it belongs to from 1, and the mean loss of its answer tokens."""

    number: int
    epoch: int
    loss: float
    last_of_epoch: bool


def trainable_copy(model: CausalModel, settings: Training) -> CausalModel:
    """A copy of `model` to train; weights that stay frozen share memory with the original, the others do not."""
    frozen = {id(parameter): parameter for parameter in _frozen(model, settings)}
    shared = {key: nn.Parameter(parameter.detach(), requires_grad=False) for key, parameter in frozen.items()}
    trained = copy.deepcopy(model, dict(shared))
    for name, parameter in trained.named_parameters():
        parameter.requires_grad_(id(parameter) not in {id(value) for value in shared.values()})
        parameter.grad = None
        if not parameter.is_floating_point():
            raise ModelError(f"the weight {name} is not in floating point and cannot be trained", do="Use --lora RANK")
    return _with_adapter(trained, settings) if settings.lora else trained


def _frozen(model: CausalModel, settings: Training) -> list[nn.Parameter]:
    """The parameters that stay as they are: none, both token embeddings, or all of them under an adapter."""
    if settings.lora:
        return list(model.parameters())
    if not settings.freeze_embeddings:
        return []
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    return [parameter for module in embeddings if module is not None for parameter in module.parameters()]


def _with_adapter(model: CausalModel, settings: Training) -> CausalModel:
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        adapter = LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear")
        return get_peft_model(model, adapter)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def fine_tune(model: CausalModel, rows: Sequence[Row], settings: Training, after_step: Callable[[Step], None]) -> None:
    """Train `model` (from `trainable_copy`) in place on `rows`; `after_step` may measure, which changes nothing.

    The loss of a step is the mean cross-entropy over the answer tokens of its rows, over the whole vocabulary.
    Raises ModelError when the model cannot read one of the rows, or when the loss is no longer a number.
    """
    refuse_unreadable(model, (row.tokens for row in rows))
    number = 0
    with _stepping_in_backward(model, settings):
        for epoch in range(1, settings.epochs + 1):
            batches = list(_shuffled(rows, settings, epoch))
            for place, batch in enumerate(batches):
                number += 1
                loss = _step(model, batch, seed=settings.seed * 1_000_003 + number)
                if not math.isfinite(loss):
                    raise ModelError(f"training went astray: the loss of step {number} is {loss}", do="Lower --lr")
                after_step(Step(number, epoch, loss, last_of_epoch=place == len(batches) - 1))


@contextmanager
def _stepping_in_backward(model: CausalModel, settings: Training) -> Iterator[None]:
    """Inside, each weight is updated by AdamW as soon as its gradient is complete, and the gradient is dropped.

    The same numbers as one step after the whole backward pass, without ever holding all gradients at once.
    """
    optimisers = {
        parameter: torch.optim.AdamW(
            [parameter], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        for parameter in model.parameters()
        if parameter.requires_grad
    }

    def update(parameter: Tensor) -> None:
        optimisers[parameter].step()
        parameter.grad = None

    handles = [parameter.register_post_accumulate_grad_hook(update) for parameter in optimisers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shuffled(rows: Sequence[Row], settings: Training, epoch: int) -> Iterator[list[Row]]:
    """The rows in an order of this epoch's own, cut into batches."""
    order = list(range(len(rows)))
    random.Random(f"rows {settings.seed} {epoch}").shuffle(order)
    for start in range(0, len(order), settings.batch):
        yield [rows[index] for index in order[start : start + settings.batch]]


def _step(model: CausalModel, batch: Sequence[Row], seed: int) -> float:
    model.train()
    # Dropout draws from a stream of this step's own, so that measuring in between cannot move it.
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        loss = answer_loss(model, batch)
        loss.backward()
    model.eval()
    return float(loss.detach())


def answer_loss(model: CausalModel, batch: Sequence[Row]) -> Tensor:
    """Mean cross-entropy (nats) of the answer tokens of a batch; logits are computed at no other position."""
    tokens, mask, positions, targets = (part.to(model.device) for part in collate(batch))
    with logits_only_at(model, positions):
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[0]
    return cross_entropy(logits.float(), targets)


def collate(
    batch: Sequence[Row],
) -> tuple[Int[Tensor, "row width"], Int[Tensor, "row width"], Int[Tensor, "target"], Int[Tensor, "target"]]:
    """Tokens and mask filled up on the right, flat positions whose logits predict an answer token, and those tokens."""
    # The last token of a row is predicted, never read.
    width = max(len(row.tokens) for row in batch) - 1
    tokens = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    positions: list[int] = []
    targets: list[int] = []
    for number, row in enumerate(batch):
        length = len(row.tokens) - 1
        tokens[number, :length] = torch.tensor(row.tokens[:-1])
        mask[number, :length] = 1
        positions.extend(range(number * width + row.start - 1, number * width + length))
        targets.extend(row.tokens[row.start :])
    return tokens, mask, torch.tensor(positions), torch.tensor(targets)
