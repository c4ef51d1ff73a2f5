"""Where a training stands: all that its later steps depend on, for whoever keeps it so that it can go on later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

#: A training may be kept before each step whose number this divides.
EVERY = 16


@dataclass(frozen=True)
class Standing:
    """A training before its step number `step`, or at its end. The tensors are its own, which the next step changes.

    facts: what JSON holds exactly: the history, the generators, the optimiser's counts.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    done: bool = False


@runtime_checkable
class Keeper(Protocol):
    """Keeps the trainings of one experiment, which come in the same order whenever it is repeated."""

    def begin(self) -> Standing | None:
        """The next training begins: where it stood, if it is known."""

    def keep(self, standing: Callable[[], Standing]) -> None:
        """Called now and then: may take the standing and must be done with it when it returns."""

    def end(self, standing: Standing) -> None:
        """The training has ended; its tensors change no more."""


class Course:
    """The bookkeeping of one training for its keeper, if there is one.

    start: the step to begin with. A training that had ended has `done`. tensors: what the steps change in place.
    optimiser: its fields but `recipe` are tensors or whole numbers. generators: what batches are drawn from.
    """

    def __init__(
        self,
        keeper: Keeper | None,
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
            self.keeper.end(Standing(step, self.tensors, self._facts(), done=True))

    def _facts(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "taken": None if self.taken is None else self.taken.tolist(),
            "generators": [generator.bit_generator.state for generator in self.generators],
            "optimiser": {name: value for name, value in self._counted().items() if not isinstance(value, Tensor)},
        }

    def _standing(self, step: int) -> Standing:
        own = {f"optimiser {name}": value for name, value in self._counted().items() if isinstance(value, Tensor)}
        return Standing(step, {**self.tensors, **own}, self._facts())

    def _restore(self, at: Standing) -> None:
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
