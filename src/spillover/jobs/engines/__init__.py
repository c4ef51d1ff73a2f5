"""Where the cells of a study run. An engine takes tasks and hands back what became of each, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One run of a cell: settings of the verb with seed and folder filled in. key: (cell, seed or None)."""

    key: tuple[str, int | None]
    verb: str
    settings: Any


@dataclass(frozen=True)
class Ended:
    """What became of a task: `error` is a sentence, or nothing when it is done; `outcome` what the verb gave."""

    key: tuple[str, int | None]
    seconds: float
    outcome: dict[str, Any]
    error: str = ""


class Worker:
    """Runs tasks one after the other in one process; what a run leaves for the next (a loaded model) is kept here."""

    def __init__(self) -> None:
        from spillover.jobs.inject import Kept

        self.kept = Kept()

    def run(self, task: Task) -> Ended:
        """Run one task; a mistake or a failure becomes a sentence, and only an interrupt passes through."""
        import time

        from spillover import catalog
        from spillover.errors import SpilloverError

        began = time.monotonic()
        job = catalog.find(catalog.VERBS[task.verb][1])
        try:
            outcome = job(task.settings, self.kept) if task.verb == "inject" else job(task.settings)
            error = ""
        except SpilloverError as mistake:
            outcome, error = {}, str(mistake)
        except Exception as failure:
            outcome, error = {}, f"{type(failure).__name__}: {(str(failure) or 'no message').splitlines()[0]}"
        return Ended(task.key, time.monotonic() - began, outcome, error)
