"""One seed's run of `inject` from checkpoint to checkpoint: where it goes on, and what it leaves for the next."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.jobs.checkpoints import Checkpoints, State
from spillover.jobs.output import times_taken_up
from spillover.record import Record, identity

if TYPE_CHECKING:
    from spillover.llm.inject import Injected, Snapshot

#: Bytes a trained weight takes in a checkpoint: itself and AdamW's two sums, in single precision.
BYTES = 12


class Course:
    """Takes up the run of `record` in `folder`, which this process holds; tells so, and counts it in the record.

    start: the snapshot to go on from, or nothing. patience: see Checkpoints.
    """

    def __init__(self, record: Record, seen: Injected, folder: Path, patience: float) -> None:
        # What has another version or another model would end in numbers that neither gives alone.
        key = identity({"identity": record.identity, "hashes": record.hashes, "versions": record.versions})
        record.resumed = times_taken_up(folder)
        self.seen, self.checkpoints, self._began = seen, Checkpoints(folder, key, patience), time.monotonic()
        state = self.checkpoints.newest()
        self.start = None if state is None else _snapshot(state)
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
            self.checkpoints.write(_state(snapshot(), self.seconds))


def _state(snapshot: Snapshot, seconds: float) -> State:
    facts = {
        "seconds": seconds,
        "method": snapshot.method,
        "losses": [[loss.step, loss.epoch, loss.value] for loss in snapshot.losses],
        "examined": [[each.checkpoint, each.full, each.scores.tolist()] for each in snapshot.examined],
    }
    return State(snapshot.start.step, snapshot.start.state, facts)


def _snapshot(state: State) -> Snapshot:
    import numpy as np

    from spillover.llm.inject import Examined, Loss, Snapshot
    from spillover.llm.training import Start

    losses = [Loss(*values) for values in state.facts["losses"]]
    examined = [Examined(checkpoint, full, np.array(scores)) for checkpoint, full, scores in state.facts["examined"]]
    return Snapshot(Start(state.step, state.tensors), state.facts["method"], examined, losses)
