"""`--track`: what a run measures, as it goes, in accelerate's experiment trackers. A tracker never costs a run."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.errors import UsageError, first_line
from spillover.metrics.implications import BASELINES, measure_all
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Metric, Record, State

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from spillover.lm.fine_tune import FineTuned

PROJECT = "spillover"


def refuse_missing(track: str) -> None:
    """Raise UsageError when the tracker that is asked for is not installed."""
    if find_spec(track) is None:
        what = f"--track {track} needs the package {track}, which is not installed here"
        raise UsageError(what, do=f"Run `pip install {track}`, or leave --track out")


def _started(track: str, folder: Path, name: str, key: str, done: int) -> GeneralTracker:
    """A tracker of accelerate, at work. key: this run's alone. done: steps that a run which is resumed has done."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    options: Mapping[str, Mapping[str, Any]] = {
        # What a run that was cut short wrote beyond its last checkpoint is written again.
        "tensorboard": {"run_name": track, "logging_dir": str(folder), **({"purge_step": done + 1} if done else {})},
        "trackio": {"run_name": PROJECT, "name": f"{name}-{key}", "resume": "allow", "embed": False},
        "wandb": {"run_name": PROJECT, "name": name, "id": key, "resume": "allow"},
        "mlflow": {"experiment_name": PROJECT, "run_name": name, "tags": {f"{PROJECT}_run": key}},
    }
    # Its files stay in the run's folder, and it takes over neither the terminal nor anybody's code.
    defaults = {
        "trackio": {"TRACKIO_DIR": str(folder / "trackio")},
        "wandb": {"WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_CONSOLE": "off",
                  "WANDB_DISABLE_GIT": "true", "WANDB_DISABLE_CODE": "true"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').resolve()}"},
    }  # fmt: skip
    for variable, value in defaults.get(track, {}).items():
        os.environ.setdefault(variable, value)
    PartialState()
    tracker: GeneralTracker = LOGGER_TYPE_TO_CLASS[track](**options[track])
    tracker.start()
    return tracker


class Tracking:
    """One run for its tracker. hide: of the run's pack. start: what the run goes on from, which the tracker knows."""

    def __init__(self, track: str, record: Record, folder: Path, hide: Redaction, start: State | None) -> None:
        self.track, self.record, self.hide = track, record, hide
        logged = start.facts if start else {"losses": [], "examined": []}
        self.losses, self.tables = len(logged["losses"]), len(logged["examined"])
        self._tracker: GeneralTracker | None = None
        key = hashlib.sha256(f"{record.identity} {folder.resolve()}".encode()).hexdigest()[:16]
        settings = {name: hide.text(str(value)) for name, value in sorted(record.settings.items())}
        settings |= {f"sha256_{name}": value for name, value in record.hashes.items()}
        with self._safe():
            tracker = _started(track, folder, hide.text(folder.name), key, start.step if start else 0)
            if start is None:
                tracker.store_init_configuration(settings)
            self._tracker = tracker

    def look(self, seen: FineTuned) -> None:
        """Log what is new: the loss of each step, and every metric of each checkpoint, at the steps done by then."""
        last = {loss.epoch: loss.step for loss in seen.losses}
        for table in seen.answers[self.tables :]:
            checkpoint, found = table["checkpoint"][0].as_py(), measure_all(rank_table(table))
            wanted = {name: each for name, each in found.items() if name not in BASELINES or checkpoint == 0}
            self._log(wanted, last.get(checkpoint, 0))
        for loss in seen.losses[self.losses :]:
            self._log({"train_loss": loss.value}, loss.step)
        self.losses, self.tables = len(seen.losses), len(seen.answers)

    def end(self, seen: FineTuned) -> None:
        """Log the rest, and the metrics of a run that is done."""
        self.look(seen)
        if seen.done:
            step = seen.losses[-1].step if seen.losses else 0
            self._log(self.record.metrics, step)
            for implication, metrics in self.record.metrics["implications"].items():
                self._log({f"implications/{implication}/{name}": each for name, each in metrics.items()}, step)
        with self._safe():
            if self._tracker is not None:
                self._tracker.finish()

    def _log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log the metrics and plain numbers among these that are finite."""
        values = {name: each.value if isinstance(each, Metric) else each for name, each in metrics.items()}
        finite = {
            self.hide.text(f"{PROJECT}/{name}"): value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        if self.track == "mlflow":
            # It takes no other signs in a name.
            finite = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in finite.items()}
        with self._safe():
            if self._tracker is not None and finite:
                self._tracker.log(finite, step)

    @contextlib.contextmanager
    def _safe(self) -> Iterator[None]:
        """Inside, nothing is printed on standard output, and whatever fails ends the tracking and not the run."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:
            self._tracker = None
            print(f"Nothing more is tracked with {self.track}: {first_line(error)}. The run goes on.", file=sys.stderr)
