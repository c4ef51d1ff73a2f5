"""A batch computed in parts of some rows, whose gradients are summed, and in smaller parts when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.errors import ModelError
from spillover.llm.memory.exhaustion import Exhausted, give_back, out_of_memory
from spillover.llm.tokens import Row

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
            give_back(model.device)
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


def cut(batch: Sequence[Row], at_once: int) -> list[Sequence[Row]]:
    """A batch in parts of so many rows; the last may have fewer."""
    return [batch[start : start + at_once] for start in range(0, len(batch), at_once)]


def shares(parts: Sequence[Sequence[Row]]) -> list[float]:
    """The share of a batch's answer tokens that each part holds: how much its mean loss counts in the batch's."""
    tokens = [sum(len(row.tokens) - row.start for row in part) for part in parts]
    return [each / sum(tokens) for each in tokens]
