"""`spillover lab`: run one experiment of the one-layer theory, and leave a record, tables and a page."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tyro.conf import Positional

from spillover import catalog, record
from spillover.config import Flag, Running
from spillover.errors import UsageError
from spillover.metrics.intervals import over_seeds
from spillover.record import Record, identity
from spillover.report.lab import MATRICES, build_lab_page, load_lab
from spillover.runs import PATIENCE, Checkpoints, State, claimed, times_resumed
from spillover.theory.symbolic import Task

if TYPE_CHECKING:
    from spillover.theory.training import Checkpointer, Snapshot, Trained


@dataclass(frozen=True, kw_only=True)
class Lab(Running):
    """Train one-layer attention models on the symbolic task, beside the exact solutions, and make a page of it."""

    preset: Positional[str]
    """The experiment: two-models, sample-efficiency, rank-sweep, key-query, architecture or dial."""
    out: str
    """Folder of the run: record.json, trajectory.parquet, matrices.parquet and page.html."""
    seeds: str = ""
    """Seeds that train side by side, as 0,1,2,3,4 (the default; key-query takes ten)."""
    steps: int = 0
    """Training steps; 0 for the preset's own number."""
    quick: Flag = False
    """A small task and few steps: seconds instead of minutes, the same code."""
    symbolic: str = ""
    """Size of the task, as n=20,train=1,test=3: classes, and subjects a class with and without a stated implication."""
    threads: int = 1
    """Processor threads; these models are so small that one is the fastest. Part of a run's identity."""
    head_dimension: int | None = None
    """Columns d_h of W_O and W_V of a factorised model; by default the size of the vocabulary."""


#: What each measured number is, in words.
UNITS = {
    "train_loss": "nats a stated row, over all tokens",
    "implication_loss_test": "nats an unstated implication, over all tokens",
    "implication_loss_among": "nats an unstated implication, among the implication answers",
    "implication_accuracy_test": "share of unstated implications answered as the class would",
    "cosine_to_nuclear": "cosine",
    "cosine_to_frobenius": "cosine",
    "nuclear_over_margin": "nuclear norm at a smallest stated margin of 1",
    "frobenius_over_margin": "Frobenius norm at a smallest stated margin of 1",
    "margin_ratio_test": "smallest unstated margin in units of the smallest stated margin",
}


@dataclass(frozen=True)
class Scope:
    """What the user asked of an experiment. seeds: None for the preset's own. steps: 0 for the preset's own.

    checkpointer: is given to every training, so that an experiment that was cut short goes on.
    """

    seeds: tuple[int, ...] | None = None
    steps: int = 0
    quick: bool = False
    symbolic: str = ""
    head_dimension: int | None = None
    device: str = "cpu"
    progress: Callable[[str], None] = lambda message: None
    checkpointer: Checkpointer | None = None

    def task(self, *, quick: str = "n=6,train=1,test=3", full: str = "n=20,train=1,test=3", **fields: int) -> Task:
        """The task: the user's, or the preset's for this size of run."""
        return Task.parse(self.symbolic or (quick if self.quick else full), **fields)

    def seeds_or(self, count: int) -> tuple[int, ...]:
        """The user's seeds, or 0 .. count - 1."""
        return tuple(range(count)) if self.seeds is None else self.seeds

    def steps_or(self, full: int, quick: int) -> int:
        """The user's steps, or the preset's for this size of run."""
        return self.steps or (quick if self.quick else full)


@dataclass(frozen=True)
class Findings:
    """What an experiment found. metrics: named metrics, nested. details: what the page needs beside them, as JSON.

    trajectory: one row a model and measured step. matrices: what the page draws as heat maps, by name.
    """

    metrics: Mapping[str, Any]
    details: Mapping[str, Any]
    trajectory: Sequence[Mapping[str, Any]]
    matrices: Mapping[str, np.ndarray] = field(default_factory=dict)


def schedule(steps: int, points: int = 40) -> list[int]:
    """Steps to measure at: the first, the last, and between them evenly on a logarithmic scale."""
    return sorted({0, steps, *np.unique(np.geomspace(1, max(steps, 1), points).round().astype(int)).tolist()})


def trajectory(trained: Trained, labels: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The history of an ensemble as rows, one a measured step and model; `labels` name each model."""
    rows = []
    for moment in trained.history:
        names = [name for name in moment if name != "step"]
        for index, label in enumerate(labels):
            rows.append({**label, "step": moment["step"], **{name: moment[name][index] for name in names}})
    return rows


def last(trained: Trained, names: Sequence[str]) -> dict[str, Any]:
    """Metrics over all models of an ensemble (its seeds) at the last measured step."""
    return {name: over_seeds(trained.history[-1][name], UNITS[name]) for name in names}


class Trainings:
    """Takes up the experiment of `record` in `folder`, which this process holds; a theory.learning.standing.Keeper.

    Its trainings are told apart by their order. Those that have ended are in every checkpoint too, without what only
    their steps needed. patience: see Checkpoints.
    """

    def __init__(self, record: Record, folder: Path, patience: float) -> None:
        record.resumed = times_resumed(folder)
        key = identity({"identity": record.identity, "versions": record.versions})
        self.checkpoints, self._began = Checkpoints(folder, key, patience), time.monotonic()
        self._ended: list[Snapshot] = []
        self._known: list[Snapshot] = []
        self._before = 0.0
        if (state := self.checkpoints.newest()) is not None:
            self._known, self._before = _standings(state), float(state.facts["seconds"])
            print(f"Going on behind step {state.step} of the run in {folder}.", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Time taken so far, that before the last kill included as far as a checkpoint knows of it."""
        return self._before + time.monotonic() - self._began

    def begin(self) -> Snapshot | None:
        """Where the next training stood, if a checkpoint knows it."""
        number = len(self._ended)
        at = self._known[number] if number < len(self._known) else None
        if at is not None and at.done:
            self._ended.append(at)
        return at

    def save(self, standing: Callable[[], Snapshot]) -> None:
        """Write a checkpoint if one is due."""
        if self.checkpoints.due(_state([*self._ended, now := standing()], 0.0).size):
            self.checkpoints.write(_state([*self._ended, now], self.seconds))

    def end(self, standing: Snapshot) -> None:
        """The training under way has ended."""
        self._ended.append(standing)


def _state(standings: list[Snapshot], seconds: float) -> State:
    tensors = {f"{number} {name}": value for number, at in enumerate(standings) for name, value in at.tensors.items()}
    facts = [{"step": at.step, "done": at.done, **at.facts} for at in standings]
    return State(sum(at.step for at in standings), tensors, {"seconds": seconds, "trainings": facts})


def _standings(state: State) -> list[Snapshot]:
    from spillover.theory.training import Snapshot

    found = []
    for number, facts in enumerate(state.facts["trainings"]):
        mine = f"{number} "
        tensors = {key.removeprefix(mine): value for key, value in state.tensors.items() if key.startswith(mine)}
        found.append(Snapshot(facts.pop("step"), tensors, facts, facts.pop("done")))
    return found


PAGE = "page.html"
PACKAGES = ("spillover", "torch", "numpy", "scipy", "pyarrow")


def run(settings: Lab, patience: float = PATIENCE) -> dict[str, Any]:
    """Run the preset and write its folder; gives {"run", "metrics", "text"}. patience: see `Checkpoints`.

    The same command finds its finished run, and goes on with an unfinished one to the bytes of one that never stopped.
    Raises UsageError for an unknown preset, seeds that are no numbers, or sizes that cannot be; RunError when the
    folder cannot be written or holds another run.
    """
    preset = catalog.pick(catalog.PRESETS, settings.preset, "preset")
    scope = _scope(settings)
    import torch

    folder, before = Path(settings.out).expanduser(), torch.get_num_threads()
    threads = settings.threads or before
    asked = {**dataclasses.asdict(settings), "device": scope.device, "threads": threads}
    for name in ("json", "out"):
        del asked[name]
    made = _record(settings, asked)
    with claimed(folder, made.command, made.identity) as finished:
        if finished is not None:
            print(f"Found this run finished in {folder}; nothing was run.", file=sys.stderr)
        else:
            torch.set_num_threads(threads)
            try:
                _ran(preset, scope, made, folder, patience)
            finally:
                torch.set_num_threads(before)
        if not (folder / PAGE).exists():
            _write_page(folder)
        metrics = dict((finished or made).metrics)
    return {"run": str(folder), "metrics": metrics, "text": _text(metrics, folder)}


def _ran(
    preset: Callable[[Scope], Findings], scope: Scope, made: record.Record, folder: Path, patience: float
) -> None:  # fmt: skip
    """Run the preset into its folder, whose record says so whatever happens."""
    trainings = Trainings(made, folder, patience)
    made.write(folder)
    try:
        found = preset(dataclasses.replace(scope, checkpointer=trainings))
        _write(folder, made, found, trainings)
    except BaseException as error:
        made.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        made.write(folder)
        raise
    trainings.checkpoints.remove()


def _scope(settings: Lab) -> Scope:
    if settings.dtype != "float32":
        raise UsageError("lab trains in float32 or float64, as each preset needs", where="--dtype", do="Leave it out")
    if settings.steps < 0:
        raise UsageError(f"{settings.steps} steps cannot be taken", where="--steps", do="Use 1 or more")
    if settings.head_dimension is not None and settings.head_dimension < 1:
        raise UsageError(
            f"d_h is {settings.head_dimension}, but must be at least 1", where="--head-dimension", do="Use 1 or more"
        )
    if settings.symbolic:
        Task.parse(settings.symbolic)
    return Scope(
        seeds=_seeds(settings.seeds),
        steps=settings.steps,
        quick=settings.quick,
        symbolic=settings.symbolic,
        head_dimension=settings.head_dimension,
        device=_device(settings.device),
        progress=lambda message: print(message, file=sys.stderr, flush=True),
    )


def _seeds(text: str) -> tuple[int, ...] | None:
    if not text.strip():
        return None
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = (-1,)
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"{text!r} is no list of seeds", where="--seeds", do="Write different whole numbers: 0,1,2")
    return seeds


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"the device {name!r} is not there", where="--device", do="Use auto or cpu") from None
    return name


def _record(settings: Lab, asked: Mapping[str, Any]) -> record.Record:
    return record.Record(
        command=f"lab {settings.preset}",
        settings=asked,
        seed=settings.seed,
        identity=record.identity(asked),
        versions=record.versions(PACKAGES),
        commit=record.commit(),
        hardware=record.hardware(),
    )


def _write(folder: Path, made: record.Record, found: Findings, trainings: Trainings) -> None:
    """Tables first, the record last: a record that says `done` has its tables beside it."""
    record.write_table(folder / record.TRAJECTORY, trajectory_table(found.trajectory))
    record.write_table(folder / MATRICES, matrices_table(found.matrices))
    made.hashes = {name: record.sha256_of(folder / name) for name in (record.TRAJECTORY, MATRICES)}
    made.metrics, made.details = _plain(found.metrics), _plain(found.details)
    made.seconds, made.status = round(trainings.seconds, 3), "done"
    # An old page would be taken for this run's.
    (folder / PAGE).unlink(missing_ok=True)
    made.write(folder)


def _write_page(folder: Path) -> None:
    record.write_atomically(folder / PAGE, build_lab_page(load_lab(folder)).encode())


def trajectory_table(rows: Any) -> pa.Table:
    """The measured steps as a table; a number that does not exist there (NaN, infinite) is a null."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [_number(row.get(name)) for row in rows] for name in names}
    return pa.table(columns)


def matrices_table(matrices: Mapping[str, np.ndarray]) -> pa.Table:
    """All matrices as one table: name, row, column, value."""
    parts: dict[str, list[Any]] = {"name": [], "row": [], "column": [], "value": []}
    for name, matrix in matrices.items():
        row, column = np.indices(matrix.shape)
        parts["name"] += [name] * matrix.size
        parts["row"] += row.ravel().tolist()
        parts["column"] += column.ravel().tolist()
        parts["value"] += matrix.ravel().tolist()
    types = (pa.string(), pa.int32(), pa.int32(), pa.float64())
    return pa.table([pa.array(values, kind) for values, kind in zip(parts.values(), types, strict=True)], list(parts))


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Metrics as dictionaries, and no number that JSON cannot write."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _number(value.item() if hasattr(value, "item") else value)


def _text(metrics: Mapping[str, Any], folder: Path) -> str:
    """A few lines for the terminal: every metric of the first two levels, then where the run is."""
    lines = []
    for name, group in metrics.items():
        lines.append(name)
        for key, metric in group.items():
            if "value" in metric:
                value = "undefined" if metric["value"] is None else f"{metric['value']:.4g}"
                lines.append(f"  {key:32s}{value:>12s}  {metric['unit']}")
    return "\n".join([*lines, f"page: {folder / PAGE}"])
