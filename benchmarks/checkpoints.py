"""What checkpoints cost a run of `inject`, and what going on from one takes; one process, one model, no peer.

    python benchmarks/checkpoints.py [--model gemma-3-270m] [--pack city-language] [--epochs 24] [--threads 2]
    python benchmarks/checkpoints.py --epochs 0                    # without the long run

First a run is stopped behind its first steps, each with a checkpoint, which gives the size and the seconds of one, and
taken up again: seconds from the command to its next step, beside those of a fresh run to its first, with the model
loaded in both. Then a run goes to its end with checkpoints as they come; their share of its time is the claim.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from spillover.commands import inject, prepare
from spillover.commands.inject import Inject
from spillover.lm import train as training
from spillover.record import Record

#: Steps of the run that is stopped.
STEPS = 4


@contextlib.contextmanager
def stopping(after: int) -> Iterator[list[float]]:
    """Inside, training is interrupted when `after` steps are done; the list is of the times at which steps began."""
    real, began = training.training_step, list[float]()

    def step(*words: object, **options: object) -> float:
        began.append(time.monotonic())
        if len(began) > after:
            raise KeyboardInterrupt
        return real(*words, **options)  # type: ignore[arg-type]

    training.training_step = step
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield began
    finally:
        training.training_step = real


def seconds_to_step(own: Inject, kept: prepare.Models) -> float:
    """From the call to the next training step."""
    called = time.monotonic()
    with stopping(0) as began:
        inject.run(own, kept)
    return began[0] - called


def main() -> dict[str, float]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--pack", default="city-language")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    kept, found = prepare.Models(), dict[str, float]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        own = Inject(
            pack=options.pack, model=options.model, out=str(folder / "cut"), epochs=999, threads=options.threads
        )
        seconds_to_step(replace(own, out=str(folder / "first")), kept)  # Loads the model.
        found["fresh_seconds_to_step"] = seconds_to_step(replace(own, out=str(folder / "fresh")), kept)
        with stopping(STEPS):
            inject.run(own, kept, patience=0)
        found_details = Record.read(folder / "cut").details.checkpoints
        sizes = [path.stat().st_size for path in (folder / "cut").rglob("state.safetensors")]
        found |= {
            "checkpoint_gigabytes": max(sizes) / 1e9,
            "checkpoint_seconds": found_details.seconds / found_details.written,
        }
        found["resumed_seconds_to_step"] = seconds_to_step(own, kept)
        if options.epochs:
            whole = replace(own, out=str(folder / "whole"), epochs=options.epochs)
            inject.run(whole, kept)
            record = Record.read(folder / "whole")
            found_details = record.details.checkpoints
            found |= {"run_seconds": record.seconds, "checkpoints_written": found_details.written}
            found["share_of_time"] = found_details.seconds / record.seconds
    print(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=1))
    return found


if __name__ == "__main__":
    main()
