"""`--track`: what a run measures, as it goes, in the words of an experiment tracker. A tracker never costs a run."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spillover.errors import UsageError
from spillover.metrics.implications import BASELINES, measure_all
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Metric, Record

if TYPE_CHECKING:
    from spillover.lm.fine_tune import FineTuned, Snapshot

PROJECT = "spillover"


class Tracker(Protocol):
    """What all trackers can do. values: of one step; the steps never go back."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def finish(self, status: str) -> None: ...


#: Gives a tracker: the run's folder, its name, a key that is this run's alone, what was set, steps already done.
Opening = Callable[[Path, str, str, Mapping[str, str], int], Tracker]


class TensorBoard:
    """Event files in the run's folder `tensorboard`."""

    def __init__(self, folder: Path, name: str, key: str, told: Mapping[str, str], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a run that was cut short wrote beyond its last checkpoint is written again.
        purge = {"purge_step": done + 1} if done else {}
        self.writer = SummaryWriter(str(folder / "tensorboard"), **purge)
        body = "\n".join(f"    {key}: {value}" for key, value in told.items())
        self.writer.add_text(f"{PROJECT}/settings", body, 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self, status: str) -> None:
        self.writer.close()


class Trackio:
    """A database in the folder `trackio` of the first run that this process tracks, unless TRACKIO_DIR says where."""

    def __init__(self, folder: Path, name: str, key: str, told: Mapping[str, str], done: int) -> None:
        with _default("TRACKIO_DIR", str(folder / "trackio")):
            import trackio
        self.run = trackio.init(
            project=PROJECT, name=f"{name}-{key}", config=dict(told), resume="allow", embed=False, auto_log_cpu=False,
            auto_log_gpu=False,
        )  # fmt: skip
        # Of the module, since a run that is finished by itself is finished once more when Python ends.
        self._finish = trackio.finish

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, status: str) -> None:
        self._finish()


class Wandb:
    """Weights & Biases, whose own settings and environment say where to; its files are in the run's folder `wandb`."""

    def __init__(self, folder: Path, name: str, key: str, told: Mapping[str, str], done: int) -> None:
        import wandb

        # Without these it would take over the terminal, and send names of machines and programs along.
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, login_timeout=30)
        self.run = wandb.init(
            project=PROJECT, name=name, id=key, resume="allow", dir=str(folder), config=dict(told), settings=quiet
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "done" else 1)


class MLflow:
    """The server that MLFLOW_TRACKING_URI names, or a database `mlflow.db` in the run's folder."""

    #: Seconds that numbers wait to be sent together, and how many a message may hold.
    PATIENCE, MOST = 1.0, 1000

    def __init__(self, folder: Path, name: str, key: str, told: Mapping[str, str], done: int) -> None:
        import mlflow
        from mlflow.entities import Param

        here = "MLFLOW_TRACKING_URI" not in os.environ and not mlflow.is_tracking_uri_set()
        self.client = mlflow.MlflowClient(f"sqlite:///{(folder / 'mlflow.db').resolve()}" if here else None)
        experiment = self.client.get_experiment_by_name(PROJECT)
        own = experiment.experiment_id if experiment else self.client.create_experiment(
            PROJECT, artifact_location=(folder / "mlflow").resolve().as_uri() if here else None
        )  # fmt: skip
        before = self.client.search_runs([own], f"tags.{PROJECT}_run = '{key}'", max_results=1)
        self.waiting: list[Any] = []
        self.sent = time.monotonic()
        if before:
            self.id = before[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
        else:
            self.id = self.client.create_run(own, tags={f"{PROJECT}_run": key}, run_name=name).info.run_id
            self.client.log_batch(self.id, params=[Param(key, value[:500]) for key, value in told.items()])

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric as Number

        now = int(time.time() * 1000)
        # It takes no other signs in a name.
        names = {name: re.sub(r"[^\w\-. :/]", "_", name) for name in values}
        self.waiting += [Number(names[name], value, now, step) for name, value in values.items()]
        if time.monotonic() - self.sent > self.PATIENCE or len(self.waiting) >= self.MOST:
            self._send()

    def _send(self) -> None:
        while self.waiting:
            self.client.log_batch(self.id, metrics=self.waiting[: self.MOST])
            self.waiting = self.waiting[self.MOST :]
        self.sent = time.monotonic()

    def finish(self, status: str) -> None:
        self._send()
        ended = {"done": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self.client.set_terminated(self.id, ended)


TRACKERS: dict[str, Opening] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": MLflow,
}


def refuse_missing(track: str) -> None:
    """Raise UsageError when the tracker that is asked for is not installed."""
    if track != "none" and find_spec(track) is None:
        what = f"--track {track} needs the package {track}, which is not installed here"
        raise UsageError(what, do=f"Run `pip install {track}`, or leave --track out")


class Tracking:
    """One run as its tracker hears of it: settings, then numbers as they come, then how it ended.

    Whatever goes wrong in the tracker is told once, and nothing more is tracked. hide: of the run's pack.
    """

    def __init__(self, track: str, record: Record, folder: Path, hide: Redaction, start: Snapshot | None) -> None:
        self.track, self.hide = track, hide
        done = start.start.step if start else 0
        # What the run measured before it was cut short is known to the tracker.
        self.losses, self.tables = (len(start.losses), len(start.examined)) if start else (0, 0)
        self._tracker: Tracker | None = None
        if track != "none":
            key = hashlib.sha256(f"{record.identity} {folder.resolve()}".encode()).hexdigest()[:16]
            told = {name: hide.text(str(value)) for name, value in sorted(record.settings.items())}
            told |= {f"sha256_{name}": value for name, value in record.hashes.items()}
            with self._safe():
                self._tracker = TRACKERS[track](folder, hide.text(folder.name), key, told, done)

    def after(self, seen: FineTuned, progress: Callable[[int], Any]) -> Callable[[int], None]:
        """`progress`, and a look at what a step gave."""

        def told(step: int) -> None:
            progress(step)
            self.look(seen)

        return told

    def before(self, seen: FineTuned, keep: Callable[[Any], None]) -> Callable[[Any], None]:
        """`keep`, once all is told that a checkpoint holds, since who goes on from it does not tell it again."""

        def told(snapshot: Any) -> None:
            self.look(seen)
            keep(snapshot)

        return told

    def look(self, seen: FineTuned) -> None:
        """Tell what is new: the loss of each step, and every measure of each checkpoint, at the steps done until it."""
        if self._tracker is None:
            return
        last = {loss.epoch: loss.step for loss in seen.losses}
        for table in seen.answers[self.tables :]:
            checkpoint, found = table["checkpoint"][0].as_py(), measure_all(rank_table(table))
            wanted = {name: each for name, each in found.items() if name not in BASELINES or checkpoint == 0}
            self._log(wanted, last.get(checkpoint, 0))
        self.tables = len(seen.answers)
        for loss in seen.losses[self.losses :]:
            self._say({"train_loss": loss.value}, loss.step)
        self.losses = len(seen.losses)

    def end(self, seen: FineTuned, record: Record) -> None:
        """Tell the rest, and a finished run's metrics."""
        if self._tracker is None:
            return
        self.look(seen)
        if record.status == "done":
            step = seen.losses[-1].step
            self._log(record.metrics, step)
            for implication, metrics in record.metrics["implications"].items():
                self._log({f"implications/{implication}/{name}": each for name, each in metrics.items()}, step)
        with self._safe():
            if self._tracker is not None:
                self._tracker.finish(record.status)

    def _log(self, metrics: Mapping[str, Any], step: int) -> None:
        values = {name: each.value for name, each in metrics.items() if isinstance(each, Metric)}
        self._say({name: value for name, value in values.items() if value is not None}, step)

    def _say(self, values: Mapping[str, float], step: int) -> None:
        finite = {self.hide.text(f"{PROJECT}/{name}"): value for name, value in values.items() if math.isfinite(value)}
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
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            print(f"Nothing more is tracked with {self.track}: {reason}. The run goes on.", file=sys.stderr)


@contextlib.contextmanager
def _default(variable: str, value: str) -> Iterator[None]:
    """Inside, an environment variable has this value unless it has one."""
    given = variable in os.environ
    os.environ.setdefault(variable, value)
    try:
        yield
    finally:
        if not given:
            del os.environ[variable]
