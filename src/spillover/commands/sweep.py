"""`spillover sweep`: run every cell of a study, skip what is finished, and leave one table and one page."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spillover.commands.pool import Ended, Task, run_local, shown
from spillover.commands.ray import run_ray
from spillover.commands.studies import Cell, Study, expand, read_study, with_model
from spillover.commands.sweep_plan import study_plan, tell, wanted
from spillover.config import Sweep
from spillover.errors import UsageError
from spillover.record import RECORD, Record, commit, hardware, identity, versions, write_atomically, write_table
from spillover.report.study import RATES, build_study_page
from spillover.report.study_data import ChosenRate, chosen_rates, load_study, rate_points, study_table
from spillover.runs import claim_folder, locked, times_resumed

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


CELLS, TABLE, PAGE = "cells", "table.parquet", "page.html"
PACKAGES = ("spillover", "torch", "transformers", "numpy", "pyarrow")


def run(settings: Sweep) -> dict[str, Any]:
    """Run or plan a study. Gives the folder, the state of every cell, its metrics, and a text for a person.

    Raises UsageError for a study that cannot be read, RunError for a folder that is not the study's. A cell that
    fails is recorded and does not stop the rest; the exit code is then 1.
    """
    study = read_study(settings.study)
    study = with_model(study, settings.model) if settings.model else study
    cells, groups = expand(study)
    if settings.plan:
        return _plan(settings, study, cells)
    if not settings.out:
        raise UsageError("missing --out", where="spillover sweep", do="Name a folder for the study")
    folder = Path(settings.out).expanduser()
    claim_folder(folder, "sweep", identity({"study": study.name, "verb": study.verb}))
    with locked(folder):
        if (finished := _finished(folder, cells)) is not None:
            print(f"Found this study finished in {folder}; nothing was run.", file=sys.stderr)
            if not all((folder / name).exists() for name in (TABLE, PAGE)):
                # A kill may have come between the last word of the study and what is made from it.
                write(folder)
            return _outcome(folder, finished)
        return _outcome(folder, _ran(settings, study, cells, groups, folder))


def _ran(
    settings: Sweep, study: Study, cells: Sequence[Cell], groups: dict[str, list[str]], folder: Path
) -> Record:  # fmt: skip
    """The study's record, once every task has run and its table and page are written."""
    record, progress, began = _record(settings, study, cells, groups), Progress(cells, study.verb), time.monotonic()
    record.resumed = times_resumed(folder)
    for name in (TABLE, PAGE):
        # Those of the study as it was before it gained a cell.
        (folder / name).unlink(missing_ok=True)
    _note(record, progress, folder, began)
    try:
        for ended in shown(lambda parts: _engine(settings, parts, cells, folder), _parts(study, progress, folder)):
            progress.add(ended)
            if progress.due():
                _note(record, progress, folder, began)
        record.status = "done"
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    finally:
        _note(record, progress, folder, began)
    write(folder)
    return record


def _parts(study: Study, progress: Progress, folder: Path) -> Iterator[list[Task]]:
    """Every run, then what pools the seeds of each cell of which none failed."""
    yield _seed_tasks(study, progress.cells, folder)
    yield _pool_tasks(study, [cell for cell in progress.cells if not progress.error(cell)], folder)


def write(folder: Path) -> None:
    """The study's table and page, from its record and cells."""
    loaded = load_study(folder)
    write_table(folder / TABLE, study_table(loaded))
    write_atomically(folder / PAGE, build_study_page(loaded).encode())


def _plan(settings: Sweep, study: Study, cells: Sequence[Cell]) -> dict[str, Any]:
    planned = Progress(cells, study.verb).as_json()
    runs = sum(len(cell.seeds) for cell in cells)
    lines = [f"{study.name}: {len(cells)} cells, {runs} runs of `{study.verb}`"]
    if wanted(settings):
        plan = study_plan(settings, study, cells)
        planned = [{**each, "a_run": plan.cells[each["cell"]].as_json()} for each in planned]
        return {"cells": planned, **plan.as_json(), "text": "\n".join([*lines, *tell(plan, cells)])}
    lines += [f"  {cell.name}  seeds {', '.join(map(str, cell.seeds))}" for cell in cells]
    lines += ["Add --on DEVICE for memory, time and disk."] if study.verb == "inject" else []
    return {"cells": planned, "text": "\n".join(lines)}


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


def _pool_tasks(study: Study, cells: Sequence[Cell], folder: Path) -> list[Task]:
    """For every cell of several seeds, the run that finds them all finished and pools them."""
    tasks = []
    for cell in cells:
        if pooled(cell):
            seeds = ",".join(map(str, cell.seeds))
            settings = _settings(cell, seeds=seeds, out=str(folder / CELLS / cell.name))
            tasks.append(Task((cell.name, None), study.verb, settings))
    return tasks


def _settings(cell: Cell, **changes: Any) -> Any:
    known = {item.name for item in dataclasses.fields(cell.settings)}
    return dataclasses.replace(cell.settings, **{key: value for key, value in changes.items() if key in known})


def _threads(cells: Sequence[Cell]) -> int:
    """Cores that a run takes: as many as the study's threads, or all."""
    cores = int(hardware()["cores"])
    return max(getattr(cell.settings, "threads", 1) or cores for cell in cells)


def _engine(settings: Sweep, parts: Iterable[list[Task]], cells: Sequence[Cell], folder: Path) -> Iterator[Ended]:
    threads = _threads(cells)
    if settings.engine == "ray":
        return run_ray(parts, folder, address=settings.address, processes=settings.processes, threads=threads)
    return run_local(parts, settings.processes or max(1, int(hardware()["cores"]) // threads))


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


def _note(record: Record, progress: Progress, folder: Path, began: float) -> None:
    now = time.monotonic()
    record.seconds = round(now - began, 1)
    record.details = {**record.details, "cells": progress.as_json()}
    record.write(folder)
    progress.took(now)


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
    chosen = _rates(folder, record)
    lines = [f"{len(cells) - len(failed)} of {len(cells)} cells are done."]
    lines += [f"  {cell['cell']} failed: {cell['error']}" for cell in failed]
    lines += [f"  {each.sentence}" for each in chosen]
    lines += [f"  table: {folder / TABLE}", f"  page: {folder / PAGE}"]
    return {
        **({"rates": {each.model: each.rate for each in chosen}} if chosen else {}),
        "run": str(folder),
        "metrics": metrics,
        "cells": cells,
        "page": str(folder / PAGE),
        "exit_code": 1 if failed else 0,
        "text": "\n".join(lines),
    }


def _rates(folder: Path, record: Record) -> list[ChosenRate]:
    """The learning rate of each model, where a study swept it."""
    if not any(group["plot"] == RATES for group in record.details["study"]["groups"]):
        return []
    study = load_study(folder)
    cells = {cell.slug: cell for group in study.groups if group.plot == RATES for cell in group.cells}
    return chosen_rates(rate_points(list(cells.values())))
