"""`spillover lab`: run one experiment of the one-layer theory, and leave a record, tables and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from tyro.conf import Positional, arg

from spillover.commands.prepare import seeds_of
from spillover.config import Browsing, Flag
from spillover.details import LabDetails
from spillover.errors import UsageError, nearest
from spillover.record import TRAJECTORY, Record, State, checksums, plain, write_atomically, write_table
from spillover.report.lab import MATRICES, build_lab_page, load_lab
from spillover.runs import PATIENCE, OpenRun, identity_of, open_run
from spillover.theory.symbolic import Task

if TYPE_CHECKING:
    from spillover.commands.experiments import Experiment
    from spillover.theory.training import Snapshot

PAGE = "page.html"
PACKAGES = ("spillover", "torch", "numpy", "scipy", "pyarrow")
MATRIX_SCHEMA = pa.schema({"name": pa.string(), "row": pa.int32(), "column": pa.int32(), "value": pa.float64()})


@dataclass(frozen=True, kw_only=True)
class Lab(Browsing):
    """Train one-layer attention models on the symbolic task, compare them with the exact solutions, and make a page."""

    preset: Annotated[Positional[str], arg(metavar="PRESET")]
    """The experiment: two-models, sample-efficiency, rank-sweep, key-query, architecture,
    embedding-mlp or dial."""
    out: str
    """Folder of the run: record.json, trajectory.parquet, matrices.parquet and page.html."""
    seeds: str = ""
    """Seeds of the trainings side by side, such as 0,1,2,3,4 (the default; key-query takes ten)."""
    steps: int = 0
    """Training steps; 0 for the preset's own number."""
    quick: Flag = False
    """A small task and few steps: seconds instead of minutes, the same code."""
    symbolic: str = ""
    """Size of the task, as n=20,train=1,test=3: classes, and subjects a class with and without a stated implication."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto takes a GPU if there is one."""
    threads: int = 1
    """CPU threads; these models are so small that one is fastest. 0 takes every core. Another number is another run."""
    head_dimension: int | None = None
    """Columns d_h of W_O and W_V of a factorised model, by default the size of the vocabulary; of embedding-mlp, its
    width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise UsageError(f"{self.steps} steps cannot be taken", where="--steps", do="Use 1 or more")
        if self.head_dimension is not None and self.head_dimension < 1:
            what = f"d_h is {self.head_dimension}, but must be at least 1"
            raise UsageError(what, where="--head-dimension", do="Use 1 or more")


def run(settings: Lab, patience: float = PATIENCE) -> dict[str, Any]:
    """Run the preset and write its folder; gives {"run", "metrics", "page", "text"}. patience: see `Checkpoints`.

    The same command finds its finished run, and goes on with an unfinished one to the bytes of one that never stopped.
    Raises UsageError for an unknown preset, seeds that are no numbers, or sizes that cannot be; RunError when the
    folder cannot be written or holds another run.
    """
    import torch

    from spillover.commands.experiments import EXPERIMENTS, Experiment
    from spillover.lm.distributed import pick_device

    if settings.preset not in EXPERIMENTS:
        raise UsageError(f"there is no preset called {settings.preset!r}", do=nearest(settings.preset, EXPERIMENTS))
    experiment, count = EXPERIMENTS[settings.preset]
    Task.parse(settings.symbolic)
    seeds, before = seeds_of(settings) if settings.seeds else range(count), torch.get_num_threads()
    resolved = replace(settings, device=str(pick_device(settings.device)), threads=settings.threads or before)
    with open_run(settings.out, f"lab {settings.preset}", identity_of(resolved)) as opened:
        folder = opened.folder
        assert folder is not None
        if opened.finished is None:
            with opened.recording(resolved, PACKAGES, seed=0) as record:
                torch.set_num_threads(resolved.threads)
                try:
                    found = Experiment(resolved, seeds, Trainings(opened, patience))
                    experiment(found)
                finally:
                    torch.set_num_threads(before)
                _write(folder, record, found)
        if not (folder / PAGE).exists():
            write_atomically(folder / PAGE, build_lab_page(load_lab(folder)).html().encode())
        metrics = dict(opened.record.metrics)
    return {"run": str(folder), "metrics": metrics, "page": str(folder / PAGE), "text": _text(metrics, folder)}


class Trainings:
    """Saves and resumes an experiment's trainings in order, with those that ended; a theory.training.Checkpointer."""

    def __init__(self, run: OpenRun, patience: float) -> None:
        from spillover.theory.training import Snapshot

        self.run, self._ended, self._known = run, list[Snapshot](), list[Snapshot]()
        if (state := run.resume(patience)) is None:
            return
        for number, facts in enumerate(state.facts["trainings"]):
            mine = f"{number} "
            tensors = {key.removeprefix(mine): value for key, value in state.tensors.items() if key.startswith(mine)}
            self._known.append(Snapshot(facts.pop("step"), tensors, facts, facts.pop("done")))

    def begin(self) -> Snapshot | None:
        """The snapshot of the next training, if a checkpoint holds one."""
        known = next(iter(self._known[len(self._ended) :]), None)
        if known is not None and known.done:
            self._ended.append(known)
        return known

    def save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a checkpoint if one is due."""
        every = [*self._ended, snapshot()]
        tensors = {f"{number} {name}": value for number, at in enumerate(every) for name, value in at.tensors.items()}
        facts = [{"step": at.step, "done": at.done, **at.facts} for at in every]
        state = State(sum(at.step for at in every), tensors, {"trainings": facts})
        self.run.keep(state.size, lambda: state)

    def end(self, snapshot: Snapshot) -> None:
        self._ended.append(snapshot)


def _write(folder: Path, record: Record, found: Experiment) -> None:
    """The tables, and what the record says of them."""
    names = dict.fromkeys(name for row in found.trajectory for name in row)
    columns = {name: _plain([row.get(name) for row in found.trajectory]) for name in names}
    write_table(folder / TRAJECTORY, pa.table(columns))
    cells = [
        {"name": name, "row": row, "column": column, "value": float(value)}
        for name, matrix in found.matrices.items()
        for (row, column), value in np.ndenumerate(matrix)
    ]
    write_table(folder / MATRICES, pa.Table.from_pylist(cells, MATRIX_SCHEMA))
    record.hashes = checksums(folder, TRAJECTORY, MATRICES)
    record.metrics, record.details = _plain(found.metrics), LabDetails.model_validate(_plain(found.details.as_json()))
    # An old page would be taken for this run's.
    (folder / PAGE).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Metrics as dictionaries, and None in place of numbers that JSON cannot write."""
    return json.loads(json.dumps(value, default=plain), parse_constant=lambda name: None)


def _text(metrics: Mapping[str, Any], folder: Path) -> str:
    """A few lines for the terminal: every metric of every group, then where the run is."""
    lines = []
    for name, group in metrics.items():
        values = {key: "undefined" if each["value"] is None else f"{each['value']:.4g}" for key, each in group.items()}
        lines += [name, *(f"  {key:32s}{value:>12s}  {group[key]['unit']}" for key, value in values.items())]
    return "\n".join([*lines, f"page: {folder / PAGE}"])
