"""A batch computed in parts, whose gradients are summed, and in smaller parts when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from spillover.errors import ModelError
from spillover.lm.tokens import Example

ADVICE = "Use --lora 8, --dtype bfloat16, a smaller --batch or a smaller model, or free some memory"
#: How the allocators of processors and of Apple's GPUs say it; those of CUDA have an exception of their own.
_SAID = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc")


class Exhausted(ModelError):
    """Memory ran out and nothing can be taken in smaller parts any more."""

    def __init__(self, what: str, *, where: str = "", do: str = ADVICE) -> None:
        super().__init__(what, where=where, do=do)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python or torch means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def free_cache(device: Any) -> None:
    """Let go of what nothing refers to any more, so that whoever asks next can have it."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


#: The micro-batch from a step on, as (step, rows).
Since = tuple[int, int]


class TornStep(ModelError):
    """Memory ran out within a step after it had updated some weights, so the model is between two steps.

    Train another copy, from the beginning or a checkpoint, with the same MicroBatches, which has been halved.
    """

    def __init__(self, step: int, rows: int) -> None:
        what = f"memory ran out within step {step}, after some weights had been updated"
        super().__init__(what, do=f"Train again with --micro-batch {rows}")


@dataclass
class Gate:
    """Whether a weight whose gradient has just been added to is updated at once; how many weights this step updated."""

    open: bool = True
    updated: int = 0


@dataclass
class MicroBatches:
    """How many rows of a batch are computed at once, from which step on: one value, unless memory ran out.

    since: of every change the step and the rows, ascending. changed: told of each change before it takes effect. The
    numbers of a training depend on `since` alone, not on whether memory ran out while it ran.
    """

    since: list[Since]
    changed: Callable[[Sequence[Since]], None] = field(default=lambda since: None)

    def at(self, step: int) -> int:
        """Rows computed at once in a step."""
        return [rows for first, rows in self.since if first <= step][-1]

    def take(self, model: Any, step: int, size: int, gate: Gate, attempt: Callable[..., float]) -> float:
        """What `attempt(at_once=rows)` gives; when memory runs out it is made again with half the rows.

        size: rows of the batch. Raises Exhausted when one row is too many, TornStep when weights had been updated.
        """
        while True:
            gate.updated = 0
            try:
                return attempt(at_once=self.at(step))
            except Exception as error:
                if not out_of_memory(error):
                    raise
            # Outside of `except`, where the error would keep the failed pass and all that it computed.
            for parameter in model.parameters():
                parameter.grad = None
            free_cache(model.device)
            self._halve(step, size)
            if gate.updated:
                raise TornStep(step, self.at(step))

    def _halve(self, step: int, size: int) -> None:
        rows = min(self.at(step), size)
        if rows == 1:
            raise Exhausted(f"memory ran out in step {step}, with one row at a time")
        before = [each for each in self.since if each[0] < step]
        later = [each for each in self.since if each[0] > step and each[1] < rows // 2]
        self.since = [*before, (step, rows // 2), *later]
        self.changed(self.since)


def cut(batch: Sequence[Example], at_once: int) -> list[Sequence[Example]]:
    """A batch in parts of so many rows; the last may have fewer."""
    return [batch[start : start + at_once] for start in range(0, len(batch), at_once)]


def shares(parts: Sequence[Sequence[Example]]) -> list[float]:
    """The share of a batch's answer tokens that each part holds: how much its mean loss counts in the batch's."""
    tokens = [sum(len(row.tokens) - row.start for row in part) for part in parts]
    return [each / sum(tokens) for each in tokens]
