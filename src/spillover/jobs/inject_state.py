"""One seed's run of `inject` from checkpoint to checkpoint: where it goes on, and what it leaves for the next."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.errors import RunError
from spillover.jobs.checkpoints import Checkpoints, State
from spillover.jobs.output import times_taken_up
from spillover.record import Record, identity

if TYPE_CHECKING:
    from spillover.llm.inject import Injected, Snapshot
    from spillover.llm.memory.micro_batch import MicroBatches, Since

#: Bytes a trained weight takes in a checkpoint: itself and AdamW's two sums, in single precision.
BYTES = 12


class Course:
    """Takes up the run of `record` in `folder`, which this process holds; tells so, and counts it in the record.

    start: the snapshot to go on from, or nothing. patience: see Checkpoints. micro_batch: rows at once, if the run has
    not begun with another number; `parts` holds what it is then and later, as the record and each checkpoint do.
    """

    def __init__(self, record: Record, seen: Injected, folder: Path, patience: float, micro_batch: int) -> None:
        from spillover.llm.memory.micro_batch import MicroBatches

        begun = _recorded(folder)
        # What has another version or another model would end in numbers that neither gives alone.
        key = identity({"identity": record.identity, "hashes": record.hashes, "versions": record.versions})
        record.resumed = times_taken_up(folder)
        self.seen, self.checkpoints, self._began = seen, Checkpoints(folder, key, patience), time.monotonic()
        state = self.checkpoints.newest()
        self.start = None if state is None else _snapshot(state)
        begun = max(begun, _micro_batches(state), key=len)
        self.record, self.folder = record, folder
        self.parts = MicroBatches(begun or [(1, micro_batch)], self._note)
        record.settings = {**record.settings, "micro_batch": self.parts.since[0][1]}
        self._note(self.parts.since, write=False)
        self._before = 0.0 if state is None else float(state.facts["seconds"])
        if state is not None:
            print(f"Going on behind step {state.step} of the run in {folder}.", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Time taken so far, that before the last kill included as far as a checkpoint knows of it."""
        return self._before + time.monotonic() - self._began

    @property
    def told(self) -> dict[str, float]:
        """For the record: checkpoints written since the run was last taken up, and the seconds they took."""
        return {"written": self.checkpoints.written, "seconds": round(self.checkpoints.seconds, 3)}

    def keep(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a checkpoint if one is due."""
        if self.checkpoints.due(self.seen.trained_parameters * BYTES):
            self.checkpoints.write(_state(snapshot(), self.seconds, self.parts))

    def through(self, attempt: Callable[[Snapshot | None], None]) -> None:
        """`attempt(start)`, and again from the newest checkpoint whenever memory runs out in the middle of a step."""
        from spillover.llm.memory.micro_batch import TornStep

        while True:
            try:
                return attempt(self.start)
            except TornStep as error:
                print(f"{error.what[0].upper()}{error.what[1:]}; going back to the last checkpoint.", file=sys.stderr)
            state = self.checkpoints.newest()
            self.start = None if state is None else _snapshot(state)
            self.seen.answers, self.seen.losses = [], []

    def _note(self, since: Sequence[Since], write: bool = True) -> None:
        """Keep a micro-batch before it takes effect, so that whoever takes the run up does the same."""
        kept = [list(each) for each in since]
        memory = {**self.record.details.get("memory", {}), "micro_batches": kept}
        self.record.details = {**self.record.details, "memory": memory}
        if write:
            step, rows = since[-1]
            print(f"Memory ran out; from step {step} on, {rows} rows are computed at once.", file=sys.stderr)
            self.record.write(self.folder)


def _recorded(folder: Path) -> list[Since]:
    """The micro-batches of the run that was begun in a folder, if one was."""
    with contextlib.suppress(RunError):
        found = Record.read(folder).details.get("memory", {}).get("micro_batches", [])
        return [(int(step), int(rows)) for step, rows in found]
    return []


def _micro_batches(state: State | None) -> list[Since]:
    return [] if state is None else [(step, rows) for step, rows in state.facts.get("micro_batches", [])]


def _state(snapshot: Snapshot, seconds: float, parts: MicroBatches) -> State:
    facts = {
        "micro_batches": parts.since,
        "bounds": snapshot.bounds,
        "seconds": seconds,
        "method": snapshot.method,
        "losses": [[loss.step, loss.epoch, loss.value] for loss in snapshot.losses],
        "examined": [[each.checkpoint, each.full, each.scores.tolist()] for each in snapshot.examined],
    }
    return State(snapshot.start.step, snapshot.start.state, facts)


def _snapshot(state: State) -> Snapshot:
    import numpy as np

    from spillover.llm.inject import BOUNDS, Examined, Loss, Snapshot
    from spillover.llm.training import Start

    losses = [Loss(*values) for values in state.facts["losses"]]
    examined = [Examined(checkpoint, full, np.array(scores)) for checkpoint, full, scores in state.facts["examined"]]
    start, bounds = Start(state.step, state.tensors), tuple(state.facts.get("bounds", BOUNDS))
    return Snapshot(start, state.facts["method"], examined, losses, bounds)
