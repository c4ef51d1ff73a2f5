"""The trainings of one `lab` experiment from checkpoint to checkpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from spillover.jobs.checkpoints import Checkpoints, State
from spillover.jobs.output import times_taken_up
from spillover.record import Record, identity
from spillover.theory.learning.standing import Standing


class Trainings:
    """Takes up the experiment of `record` in `folder`, which this process holds; a theory.learning.standing.Keeper.

    Its trainings are told apart by their order. Those that have ended are in every checkpoint too, without what only
    their steps needed. patience: see Checkpoints.
    """

    def __init__(self, record: Record, folder: Path, patience: float) -> None:
        record.resumed = times_taken_up(folder)
        key = identity({"identity": record.identity, "versions": record.versions})
        self.checkpoints, self._began = Checkpoints(folder, key, patience), time.monotonic()
        self._ended: list[Standing] = []
        self._known: list[Standing] = []
        self._before = 0.0
        if (state := self.checkpoints.newest()) is not None:
            self._known, self._before = _standings(state), float(state.facts["seconds"])
            print(f"Going on behind step {state.step} of the run in {folder}.", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Time taken so far, that before the last kill included as far as a checkpoint knows of it."""
        return self._before + time.monotonic() - self._began

    def begin(self) -> Standing | None:
        """Where the next training stood, if a checkpoint knows it."""
        number = len(self._ended)
        at = self._known[number] if number < len(self._known) else None
        if at is not None and at.done:
            self._ended.append(at)
        return at

    def keep(self, standing: Callable[[], Standing]) -> None:
        """Write a checkpoint if one is due."""
        if self.checkpoints.due(_state([*self._ended, now := standing()], 0.0).size):
            self.checkpoints.write(_state([*self._ended, now], self.seconds))

    def end(self, standing: Standing) -> None:
        """The training under way has ended."""
        self._ended.append(standing)


def _state(standings: list[Standing], seconds: float) -> State:
    tensors = {f"{number} {name}": value for number, at in enumerate(standings) for name, value in at.tensors.items()}
    facts = [{"step": at.step, "done": at.done, **at.facts} for at in standings]
    return State(sum(at.step for at in standings), tensors, {"seconds": seconds, "trainings": facts})


def _standings(state: State) -> list[Standing]:
    found = []
    for number, facts in enumerate(state.facts["trainings"]):
        mine = f"{number} "
        tensors = {key.removeprefix(mine): value for key, value in state.tensors.items() if key.startswith(mine)}
        found.append(Standing(facts.pop("step"), tensors, facts, facts.pop("done")))
    return found
