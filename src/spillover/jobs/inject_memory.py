"""What a run of `inject` will take of memory: foretold before its model is read, chosen to fit, told and recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spillover.errors import ModelError
from spillover.facts.pack import Pack
from spillover.record import identity
from spillover.settings import Inject

if TYPE_CHECKING:
    from spillover.llm.memory.forecast import Forecast
    from spillover.llm.training import Training

#: What transformers raises for a configuration that it makes no model of.
UNKNOWN = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Budget:
    """A run's forecast, if one could be made, bytes that this process could hold then, and rows of a step at once."""

    forecast: Forecast | None
    room: int
    device: str
    micro_batch: int

    def told(self) -> dict[str, Any]:
        """For the record: what was foretold, what there was, and the most that was taken so far."""
        import torch

        from spillover.llm.memory.room import most_taken

        taken = most_taken(torch.device(self.device))
        return {"forecast": self.forecast and self.forecast.as_json(), "room": self.room, "peak": taken}

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Inside, memory that ran out for good is one sentence: what was needed, what is free and what to do."""
        import torch

        from spillover.llm.memory.exhaustion import Exhausted, out_of_memory
        from spillover.llm.memory.room import free

        try:
            yield
        except Exception as error:
            if not (isinstance(error, Exhausted) or out_of_memory(error)):
                raise
            what = error.what if isinstance(error, Exhausted) else "memory ran out"
        else:
            return
        needed = f"needs about {gigabytes(self.forecast.needed)} in all" if self.forecast else "needs more"
        left = gigabytes(free(torch.device(self.device)))
        raise Exhausted(f"{what}: the run {needed}, and {left} are free beside what it held")


class Budgets:
    """The budgets of several runs in one process; a run like the one before is not foretold again."""

    def __init__(self) -> None:
        self._known: dict[str, Budget] = {}
        self._said: set[str] = set()
        self._process: int | None = None

    def of(self, settings: Inject, training: Training, pack: Pack, tokenizer: Any) -> Budget:
        """The budget of a run whose device is resolved. Says it, once, on standard error.

        Raises Exhausted when there is no memory even for one row at a time.
        """
        key = identity({"settings": replace(settings, seed=0, seeds="", out="")})
        if key not in self._known:
            self._known[key] = self._made(settings, training, pack, tokenizer)
        return self._known[key]

    def _made(self, settings: Inject, training: Training, pack: Pack, tokenizer: Any) -> Budget:
        import torch

        from spillover.llm.memory.exhaustion import Exhausted
        from spillover.llm.memory.forecast import MARGIN, Forecaster, Work, libraries
        from spillover.llm.memory.room import free, taken
        from spillover.llm.tokens import encoder
        from spillover.llm.weights.loading import load_config

        device = torch.device(settings.device)
        room, asked = free(device) + taken(device), min(settings.micro_batch, settings.batch)
        try:
            forecaster = Forecaster(
                load_config(settings.model, settings.revision), training, Work.of(pack, encoder(tokenizer)),
                dtype=settings.dtype, device=settings.device, save_merged=settings.save == "weights",
            )  # fmt: skip
        except (ModelError, *UNKNOWN):
            # What is wrong with it, if anything, is told when the model itself is read.
            return Budget(None, room, settings.device, asked or settings.batch)
        # What the process holds before its first model; later it holds models too, which the next run does without.
        self._process = taken(device) if self._process is None else self._process
        forecaster.process = self._process + libraries(training)
        chosen = forecaster.at(asked) if asked else forecaster.fitting(room)
        least = forecaster.fitting(room) if chosen.needed > room * MARGIN else chosen
        if least.needed > room * MARGIN:
            what = f"this run needs about {gigabytes(least.needed)} of memory, and there are {gigabytes(room)} for it"
            raise Exhausted(what, where=settings.model)
        if (needed := _needs(chosen, settings)) not in self._said:
            # Once for all runs of a study that need the same.
            self._said.add(needed)
            print(f"{needed}; {gigabytes(room)} are there for it.", file=sys.stderr, flush=True)
        return Budget(chosen, room, settings.device, chosen.micro_batch)


def _needs(chosen: Forecast, settings: Inject) -> str:
    parts = "" if chosen.micro_batch >= settings.batch else f" with {chosen.micro_batch} rows of a step at once"
    return f"This run needs about {gigabytes(chosen.peak)} of memory{parts}"


def gigabytes(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.1f} GB"
