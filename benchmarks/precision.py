"""What settings that save memory, an adapter and the look inside do to a run of `inject`: metrics, time and memory.

    python benchmarks/precision.py [--model gemma-3-270m] [--pack city-language:pairs=2,names=8,bridge=1]
        [--epochs 8] [--threads 1] [--only float32,bfloat16]

Every setting is the command itself in a process of its own, against plain float32 in the same run. Ranks are among ten
candidates; a step's time is the median of those that follow another within an epoch, so that measuring is not in it.
Peak memory is the process's, and what training adds to the loaded model is foretold (`spillover inject` says how well).
What the look inside takes is its share of the whole run, as the run's record has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spillover.commands import inject
from spillover.commands.inject import Inject
from spillover.record import Record

SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "4 logits at once": {"logits_at_once": 4},
    "8-bit AdamW": {"optimiser": "adamw-8bit"},
    "bfloat16": {"dtype": "bfloat16"},
    "look inside": {"inside": True},
    "adapter of rank 8": {"lora": 8},
    "adapter and look": {"lora": 8, "inside": True},
    "all that save memory": {
        "gradient_checkpointing": True, "logits_at_once": 4, "optimiser": "adamw-8bit", "dtype": "bfloat16"
    },
}  # fmt: skip
METRICS = ("recall_rank", "implication_rank_train", "implication_rank_test", "forgetting_nats")


def run_one(name: str, options: argparse.Namespace, folder: Path) -> None:
    """In a process of its own: the run, and on standard output the seconds of its steps."""
    from spillover.lm import fine_tune as experiment

    real, seconds, since = experiment.fine_tune, [], [0.0]

    def timed(model: Any, rows: Any, settings: Any, after_step: Any, *more: Any, **how: Any) -> None:
        def noted(step: Any) -> bool | None:
            seconds.append(time.perf_counter() - since[0])
            stop = after_step(step)
            # Behind a measurement, the processor's caches hold other things.
            since[0] = float("-inf") if step.last_of_epoch else time.perf_counter()
            return stop

        since[0] = float("-inf")
        real(model, rows, settings, noted, *more, **how)

    experiment.fine_tune = timed
    settings = Inject(
        pack=options.pack, model=options.model, out=str(folder), epochs=options.epochs, threads=options.threads,
        device="cpu", evaluate_every=options.epochs, batch=options.batch, **SETTINGS[name],
    )  # fmt: skip
    inject.run(settings)
    print(json.dumps([each for each in seconds if each != float("inf")]))


def measured(name: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Metrics, median seconds a step, gigabytes at the peak and gigabytes foretold for training alone."""
    words = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--into", str(folder)]
    quiet = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(words, env=quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    record, memory = Record.read(folder), Record.read(folder).details.memory
    foretold = memory.forecast
    found = {metric: record.metrics[metric]["value"] for metric in METRICS}
    found["look"] = record.details.inside.share if record.details.inside else 0.0
    found["step"] = statistics.median(json.loads(done.stdout.splitlines()[-1]))
    training = foretold["trained"] + foretold["sums"] + foretold["gradients"] + foretold["step"]
    return {**found, "peak": memory.peak / 1e9, "foretold": foretold["peak"] / 1e9, "training": training / 1e9}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--pack", default="city-language:pairs=2,names=8,bridge=1")
    parser.add_argument("--only", default=",".join(SETTINGS))
    for name, default in (("epochs", 8), ("threads", 1), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options, options.into)
        return
    print(f"{options.pack} on {options.model}, {options.epochs} epochs, batches of {options.batch}")
    print(
        "setting                 recall  stated  unstated  forgotten    step    peak  foretold  training alone   look"
    )
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(options.only.split(",")):
            found = measured(name, options, Path(place) / str(number))
            ranks = "{recall_rank:6.2f}  {implication_rank_train:6.2f}  {implication_rank_test:8.2f}"
            costs = "{step:4.2f} s  {peak:4.2f} GB   {foretold:4.2f} GB   {training:4.2f} GB  {look:5.1%}"
            rest = f"{{forgetting_nats:9.2f}}  {costs}"
            print(f"{name:<22}  {ranks}  {rest}".format(**found), flush=True)


if __name__ == "__main__":
    main()
