"""What became of the cells of a study so far, and when that is written down."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.jobs.engines import Ended
from spillover.jobs.studies import Cell

#: Writing the study's record takes one part in so many of the time, at most.
_SHARE = 50.0


def pooled(cell: Cell) -> bool:
    """Whether the verb itself pools several seeds: `inject` does."""
    return len(cell.seeds) > 1 and type(cell.settings).__name__ == "Inject"


@dataclass
class Progress:
    """What became of every task so far. ended: cell -> seed (None: the pooling one) -> how it ended."""

    cells: Sequence[Cell]
    verb: str
    ended: dict[str, dict[int | None, Ended]] = field(default_factory=dict)
    _written: float = 0.0
    _cost: float = 0.0

    def add(self, ended: Ended) -> None:
        name, seed = ended.key
        self.ended.setdefault(name, {})[seed] = ended

    def of(self, cell: Cell) -> Mapping[int | None, Ended]:
        return self.ended.get(cell.name, {})

    def error(self, cell: Cell) -> str | None:
        """The first failure of a cell, as a sentence."""
        errors = [(seed, each.error) for seed, each in self.of(cell).items() if each.error]
        return next((f"seed {seed}: {error}" if seed is not None else error for seed, error in errors), None)

    def status(self, cell: Cell) -> str:
        """done, failed or waiting."""
        if self.error(cell) is not None:
            return "failed"
        last = None if pooled(cell) else cell.seeds[-1]
        return "done" if last in self.of(cell) else "waiting"

    def as_json(self) -> list[dict[str, Any]]:
        """Every cell, for the record and for --json."""
        return [
            {
                "cell": cell.name,
                "verb": self.verb,
                "options": cell.options,
                "seeds": list(cell.seeds),
                "status": self.status(cell),
                "error": self.error(cell),
                "seconds": round(sum(each.seconds for each in self.of(cell).values()), 3),
            }
            for cell in self.cells
        ]

    def due(self) -> bool:
        """Whether the record may be written again by now; it grows with the study, and is a mirror, not the memory."""
        return time.monotonic() - self._written >= _SHARE * self._cost

    def took(self, began: float) -> None:
        """The record has been written, from `began` (monotonic seconds) to now."""
        self._written = time.monotonic()
        self._cost = self._written - began
