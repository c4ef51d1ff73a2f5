"""What a pass through a model takes beyond its weights, found by going through it with tensors that have no numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spillover.llm.forest import Batch, Forest, cheaper_merged, collate
from spillover.llm.memory.loss import mean_loss
from spillover.llm.scoring import CausalModel, Scorer, logits_only_at
from spillover.llm.tokens import Ask, Row
from spillover.llm.training import may_merge
from spillover.llm.weights.compiled import stack_of

META = torch.device("meta")


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still alive; `peak` is the most there were at once."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage not in self._known:
            size = storage.nbytes()
            self._known.add(storage)
            weakref.finalize(storage, self._freed, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _freed(self, size: int) -> None:
        self.now -= size


def training_pass(model: CausalModel, rows: Sequence[Row], at_once: int, logits_at_once: int = 0) -> int:
    """Bytes that the heaviest pass of so many rows takes, forward and backward, each gradient dropped once it is there.

    model: a trainable copy without numbers. Gradients that are summed over several passes are not among them.
    logits_at_once: see `mean_loss`.
    """
    longest = sorted(rows, key=lambda row: len(row.tokens), reverse=True)[:at_once]
    forests = cheaper_merged(longest) if may_merge(model, rows, "tree") else [Forest([row]) for row in longest]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles: list[Any] = [parameter.register_post_accumulate_grad_hook(_drop) for parameter in trained]
    inputs = model.get_input_embeddings()
    if sparse := getattr(inputs, "sparse", False):
        # What has no numbers has no sparse gradient either. It is small, but the sum with the output's is made anew.
        handles.append(inputs.register_forward_hook(lambda module, given, read: read.detach().requires_grad_()))
    model.train()
    try:
        found = _peak(model, lambda: _loss(model, forests, logits_at_once).backward())
    finally:
        model.eval()
        for handle in handles:
            handle.remove()
    return max(found, 2 * inputs.weight.nbytes) if sparse else found


def ranking_pass(model: CausalModel, asks: Sequence[Ask]) -> int:
    """Bytes that the heaviest pass of ranking these prompts' candidates takes."""
    forests = Scorer(model, method="tree").largest(asks)

    def ranked() -> None:
        with torch.inference_mode():
            torch.logsumexp(_logits(model, forests), -1)

    return _peak(model, ranked)


def _peak(model: CausalModel, go_through: Callable[[], object]) -> int:
    """The most bytes alive at once. Of many equal layers two are enough: every further one adds what the second did."""
    parent, name, layers = stack_of(model)
    if len(layers) < 4:
        return _alive(model, go_through)
    try:
        setattr(parent, name, layers[:1])
        first = _alive(model, go_through)
        setattr(parent, name, layers[:2])
        return first + (_alive(model, go_through) - first) * (len(layers) - 1)
    finally:
        setattr(parent, name, layers)


def _alive(model: CausalModel, go_through: Callable[[], object]) -> int:
    live = _Live([*model.parameters(), *model.buffers()])
    with live:
        go_through()
    return live.peak


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _loss(model: CausalModel, forests: Sequence[Forest], logits_at_once: int = 0) -> Tensor:
    read, fed = _fed(model, forests)
    place = None if read.places is None else read.places.to(META)
    return mean_loss(model, fed, read.scored.to(META), place, read.token.to(META), logits_at_once)


def _logits(model: CausalModel, forests: Sequence[Forest]) -> Tensor:
    read, fed = _fed(model, forests)
    with logits_only_at(model, read.scored.to(META)):
        logits: Tensor = model(**fed, use_cache=False).logits[0].float()
    return logits


def _fed(model: CausalModel, forests: Sequence[Forest]) -> tuple[Batch, dict[str, Tensor]]:
    """A batch, and what a model without numbers is called with for it."""
    read = collate(forests, model.dtype)
    # Always the additive mask of forests: models look into the other one, and here there is nothing to see.
    width = read.tokens.shape[1]
    mask = torch.zeros(len(forests), 1, width, width, dtype=model.dtype, device=META)
    return read, {
        "input_ids": read.tokens.to(META), "position_ids": read.positions.to(META), "attention_mask": mask
    }  # fmt: skip
