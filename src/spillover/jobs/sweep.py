"""`spillover sweep`: run every cell of a study, skip what is finished, and leave one table and one page."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spillover.errors import UsageError
from spillover.jobs.engines import Ended, Task
from spillover.jobs.engines.local import run_local
from spillover.jobs.output import claim_folder, held, times_taken_up
from spillover.jobs.studies import Cell, Study, expand, read_study
from spillover.record import RECORD, Record, commit, hardware, identity, versions, write_atomically, write_table
from spillover.report.study.load import load_study, study_table
from spillover.report.study.page import build_study_page
from spillover.settings import Sweep

CELLS, TABLE, PAGE = "cells", "table.parquet", "page.html"
PACKAGES = ("spillover", "torch", "transformers", "numpy", "pyarrow")


@dataclasses.dataclass
class _Progress:
    """What became of every task so far, by (cell, seed)."""

    ended: dict[tuple[str, int | None], Ended] = dataclasses.field(default_factory=dict)

    def error(self, cell: Cell) -> str | None:
        """The first failure of a cell, as a sentence."""
        errors = [(key[1], each.error) for key, each in self.ended.items() if key[0] == cell.name and each.error]
        return next((f"seed {seed}: {error}" if seed is not None else error for seed, error in errors), None)

    def status(self, cell: Cell) -> str:
        """done, failed or waiting."""
        if self.error(cell) is not None:
            return "failed"
        last = (cell.name, None if _pooled(cell) else cell.seeds[-1])
        return "done" if last in self.ended else "waiting"

    def as_json(self, cell: Cell, verb: str) -> dict[str, Any]:
        spent = sum(each.seconds for key, each in self.ended.items() if key[0] == cell.name)
        return {
            "cell": cell.name,
            "verb": verb,
            "options": cell.options,
            "seeds": list(cell.seeds),
            "status": self.status(cell),
            "error": self.error(cell),
            "seconds": round(spent, 1),
        }


def run(settings: Sweep) -> dict[str, Any]:
    """Run or plan a study. Gives the folder, the state of every cell, its metrics, and a text for a person.

    Raises UsageError for a study that cannot be read, RunError for a folder that is not the study's. A cell that
    fails is recorded and does not stop the rest; the exit code is then 1.
    """
    study = read_study(settings.study)
    cells, groups = expand(study)
    if settings.plan:
        return _plan(study, cells)
    if not settings.out:
        raise UsageError("missing --out", where="spillover sweep", do="Name a folder for the study")
    folder = Path(settings.out).expanduser()
    claim_folder(folder, "sweep", identity({"study": study.name, "verb": study.verb}))
    with held(folder):
        if (finished := _finished(folder, cells)) is not None:
            print(f"Found this study finished in {folder}; nothing was run.", file=sys.stderr)
            return _outcome(folder, finished)
        return _outcome(folder, _ran(settings, study, cells, groups, folder))


def _ran(
    settings: Sweep, study: Study, cells: Sequence[Cell], groups: dict[str, list[str]], folder: Path
) -> Record:  # fmt: skip
    """The study's record, once every task has run and its table and page are written."""
    record, progress, began = _record(settings, study, cells, groups), _Progress(), time.monotonic()
    record.resumed = times_taken_up(folder)
    _note(record, study, cells, progress, folder, began)
    try:
        for part in (_seed_tasks(study, cells, folder), list(_pool_tasks(study, cells, folder))):
            tasks = [task for task in part if not progress.error(_of(cells, task))]
            for ended in _shown(tasks, _processes(settings, cells)):
                progress.ended[ended.key] = ended
                _note(record, study, cells, progress, folder, began)
        record.status = "done"
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    finally:
        _note(record, study, cells, progress, folder, began)
    write(folder)
    return record


def write(folder: Path) -> None:
    """The study's table and page, from its record and cells."""
    loaded = load_study(folder)
    write_table(folder / TABLE, study_table(loaded))
    write_atomically(folder / PAGE, build_study_page(loaded).encode())


def _plan(study: Study, cells: Sequence[Cell]) -> dict[str, Any]:
    progress = _Progress()
    planned = [progress.as_json(cell, study.verb) for cell in cells]
    runs = sum(len(cell.seeds) for cell in cells)
    lines = [f"{study.name}: {len(cells)} cells, {runs} runs of `{study.verb}`"]
    lines += [f"  {cell.name}  seeds {', '.join(map(str, cell.seeds))}" for cell in cells]
    return {"cells": planned, "text": "\n".join(lines)}


def _pooled(cell: Cell) -> bool:
    """Whether the verb itself pools several seeds: `inject` does."""
    return len(cell.seeds) > 1 and type(cell.settings).__name__ == "Inject"


def _seed_tasks(study: Study, cells: Sequence[Cell], folder: Path) -> list[Task]:
    """One task a cell and seed; the first seed of every cell comes first, so that a picture forms early."""
    tasks = []
    for place in range(max(len(cell.seeds) for cell in cells)):
        for cell in cells:
            if place < len(cell.seeds):
                seed = cell.seeds[place]
                own = folder / CELLS / cell.name / (f"seed-{seed}" if len(cell.seeds) > 1 else "")
                tasks.append(Task((cell.name, seed), study.verb, _settings(cell, seed=seed, out=str(own))))
    return tasks


def _pool_tasks(study: Study, cells: Sequence[Cell], folder: Path) -> Iterator[Task]:
    """For every cell of several seeds, the run that finds them all finished and pools them."""
    for cell in cells:
        if _pooled(cell):
            seeds = ",".join(map(str, cell.seeds))
            settings = _settings(cell, seeds=seeds, out=str(folder / CELLS / cell.name))
            yield Task((cell.name, None), study.verb, settings)


def _settings(cell: Cell, **changes: Any) -> Any:
    known = {item.name for item in dataclasses.fields(cell.settings)}
    return dataclasses.replace(cell.settings, **{key: value for key, value in changes.items() if key in known})


def _of(cells: Sequence[Cell], task: Task) -> Cell:
    return next(cell for cell in cells if cell.name == task.key[0])


def _processes(settings: Sweep, cells: Sequence[Cell]) -> int:
    """Workers: as asked, else as many as the cores allow with the threads that a run takes."""
    threads = max((getattr(cell.settings, "threads", 1) or int(hardware()["cores"])) for cell in cells)
    return settings.processes or max(1, int(hardware()["cores"]) // threads)


def _shown(tasks: Sequence[Task], processes: int) -> Iterator[Ended]:
    """Run the tasks behind a bar that counts runs, names failures and tells the time left."""
    from tqdm import tqdm

    with tqdm(total=len(tasks), unit="run", dynamic_ncols=True, smoothing=0.1, disable=None) as bar:
        for ended in run_local(tasks, processes):
            bar.update()
            if ended.error:
                bar.write(f"{ended.key[0]}: {ended.error}", file=sys.stderr)
            yield ended


def _record(settings: Sweep, study: Study, cells: Sequence[Cell], groups: dict[str, list[str]]) -> Record:
    told = [
        {"name": group.name, "text": group.text, "plot": group.plot, "cells": groups[group.name]}
        for group in study.groups
    ]
    return Record(
        command="sweep",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        identity=identity({"study": study.name, "verb": study.verb}),
        hashes={"cells": _cells_identity(cells)},
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        details={"study": {"name": study.name, "title": study.title, "text": study.text, "groups": told}},
    )


def _cells_identity(cells: Sequence[Cell]) -> str:
    return identity({cell.name: [dataclasses.asdict(cell.settings), list(cell.seeds)] for cell in cells})


def _note(
    record: Record, study: Study, cells: Sequence[Cell], progress: _Progress, folder: Path, began: float
) -> None:  # fmt: skip
    record.seconds = round(time.monotonic() - began, 1)
    record.details = {**record.details, "cells": [progress.as_json(cell, study.verb) for cell in cells]}
    record.write(folder)


def _finished(folder: Path, cells: Sequence[Cell]) -> Record | None:
    """The record of a study whose every cell is done, and is a cell of the study as it reads now."""
    if not (folder / RECORD).exists():
        return None
    record = Record.read(folder)
    done = record.status == "done" and record.hashes.get("cells") == _cells_identity(cells)
    return record if done and all(cell["status"] == "done" for cell in record.details["cells"]) else None


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    cells = record.details["cells"]
    failed = [cell for cell in cells if cell["status"] == "failed"]
    metrics = {}
    for cell in cells:
        if (folder / CELLS / cell["cell"] / RECORD).exists():
            metrics[cell["cell"]] = Record.read(folder / CELLS / cell["cell"]).metrics
    lines = [f"{len(cells) - len(failed)} of {len(cells)} cells are done."]
    lines += [f"  {cell['cell']} failed: {cell['error']}" for cell in failed]
    lines += [f"  table: {folder / TABLE}", f"  page: {folder / PAGE}"]
    return {
        "run": str(folder),
        "metrics": metrics,
        "cells": cells,
        "page": str(folder / PAGE),
        "exit_code": 1 if failed else 0,
        "text": "\n".join(lines),
    }
