"""`spillover sweep`: a study file becomes cells; all are run but those finished, into one table and one page."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tyro.conf import Positional, arg

from spillover.commands import settings_class, verbs
from spillover.commands.pool import Ended, Key, LocalPool, Pool, Task, ray_pool
from spillover.config import MOST_SEED, MOST_THREADS, WORDING, Browsing, Flag, within
from spillover.details import CellState, StudyOutline, SweepDetails, Verdict
from spillover.errors import SpilloverError, UsageError, nearest
from spillover.packs.open import open_pack
from spillover.packs.pack import pack_hash
from spillover.record import RECORD, Record, hardware, identity, sha256_of_texts, write_atomically, write_table
from spillover.report.study import build_study_page
from spillover.report.study_curves import RATES, chosen_rates, rate_points
from spillover.report.study_data import load_study, study_table
from spillover.runs import OpenRun, open_run

#: Verdicts that the terminal shows.
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Sweep(Browsing):
    """Run a study: a grid or list over any verb's options, resumable, into one table and one page."""

    study: Annotated[Positional[str], arg(metavar="STUDY")]
    """A study's YAML file, or a built-in study: {built-in studies}."""
    out: str = ""
    """Folder of the study: cells/, table.parquet, page.html and record.json; needed unless --plan."""
    engine: Literal["local", "ray"] = "local"
    """Where the runs happen: local, in processes on this machine; ray, on every node of a Ray cluster."""
    address: str = ""
    """With --engine ray: HOST:PORT of the cluster's head node, or auto; without it, Ray is started on this machine."""
    processes: int = 0
    """Runs at the same time; 0 takes as many as the cores allow when each has the CPU threads of the study."""
    plan: Flag = False
    """List the cells and run nothing; needs no weights."""
    model: str = ""
    """One model in place of every model that the study names."""
    on: str = ""
    """With --plan: also what each cell takes of memory, time and disk on this device: cpu (this machine), l4-24,
    rtx-4090-24, a100-40, l40s-48, a100-80, h100-80 or h200-141. Nothing is downloaded."""
    devices: int = 1
    """With --plan: how many of these devices there are, each with runs of its own."""
    memory: float = 0.0
    """With --plan: the device's memory in gigabytes (10^9 bytes), for another device or a smaller part of one."""
    tflops: float = 0.0
    """With --plan: the device's peak in 10^12 operations a second, in the number format of the runs."""
    bandwidth: float = 0.0
    """With --plan: the peak of the device's memory in gigabytes a second."""

    def __post_init__(self) -> None:
        within("--processes", self.processes, MOST_THREADS)
        described = {"--memory": self.memory, "--tflops": self.tflops, "--bandwidth": self.bandwidth}
        for option, value in described.items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"{option} is {value:g}", do=f"Give {option} a number above 0")
        given = [option for option, value in {"--on": self.on, **described}.items() if value]
        given += ["--devices"] if self.devices > 1 else []
        first = given[0] if given else ""
        ray, known = "--address is for --engine ray alone", "--on cpu is this machine, whose speed is known"
        for wrong, what, do in (
            (self.devices < 1, f"--devices is {self.devices}", "Give --devices 1 or more"),
            (given and not self.plan, f"{first} is for a plan alone", f"Add --plan, or leave {first} out"),
            (self.browse and self.plan, "a plan has no page", "Leave --browse or --plan out"),
            (given == ["--devices"], "--devices needs a device", "Name one with --on"),
            (self.on == "cpu" and (self.tflops or self.bandwidth), known, "Leave --on out to describe another device"),
            (self.address and self.engine != "ray", ray, "Add --engine ray, or leave --address out"),
        ):  # fmt: skip
            if wrong:
                raise UsageError(what, do=do)


#: Options that do not change what a cell is about, and so do not name its folder.
_QUIET = ("evaluate_every", "threads", "device")
#: What a study must not set: the sweep decides it.
_OWN = ("out", "json", "seed", "seeds", "browse")
_LONGEST, _MOST_BYTES, _MOST_CELLS = 80, 1_000_000, 100_000
#: libyaml's where PyYAML was built with it. Safe: it knows no tags.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BUILT_IN = resources.files("spillover.commands").joinpath("built_in_studies")
Options = dict[str, Any]


class StudyGroup(BaseModel):
    """Cells that belong together: `cells`, a list of options, each multiplied by `grid`, option -> its values."""

    model_config = ConfigDict(extra="forbid")
    name: str
    text: str = ""
    plot: str | None = None
    seeds: Annotated[list[int], Field(min_length=1)] | None = None
    options: Options = {}
    cells: Annotated[list[Options], Field(min_length=1)] = [{}]
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}


class Study(BaseModel):
    """The file: what is common to all cells, what all cells of one model have in common, by its name, and the groups.

    A group's own options come before a model's, and those before the study's.
    """

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    title: str = ""
    text: str = ""
    verb: str = "inject"
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=MOST_SEED)]], Field(min_length=1)] = [0]
    options: Options = {}
    models: dict[str, Options] = {}
    groups: Annotated[list[StudyGroup], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One point of the grid. name: of its folder. settings: the verb's own, without seed and folder."""

    name: str
    options: Options
    seeds: tuple[int, ...]
    settings: Any


def builtin_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _BUILT_IN.iterdir() if file.name.endswith(".yaml"))


def read_study(name: str) -> Study:
    """A built-in study by name, or one from a file. Raises UsageError with the first thing that is wrong with it."""
    do = "See docs/verbs/sweep.md for an example"
    try:
        path = _BUILT_IN.joinpath(f"{name}.yaml") if name in builtin_studies() else Path(name).expanduser()
        if not path.is_file():
            raise UsageError("there is no such study file", where=name, do=nearest(name, builtin_studies()))
        if isinstance(path, Path) and path.stat().st_size > _MOST_BYTES:
            raise UsageError("this study has more than a million bytes", where=name, do="Use a grid instead of a list")
        text = path.read_text(encoding="utf-8")
        # A document is small, and anchors are refused, so nothing can grow.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_LOADER)):
            raise UsageError("aliases (*) are not read", where=name, do="Write the options out")
        return Study.model_validate(yaml.load(text, Loader=_LOADER))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the study'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    except UnicodeDecodeError:
        reason, do = "this study is not UTF-8 text", "Save it as UTF-8"
    except OSError as error:
        reason, do = f"this study cannot be read: {(error.strerror or str(error)).lower()}", "Check the path"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) if mark else str(error).splitlines()[0][:200]
        reason = f"{f'line {mark.line + 1}: ' if mark else ''}this is not YAML ({problem})"
    raise UsageError(reason, where=name[:200], do=do)


def with_model(study: Study, model: str) -> Study:
    """The study with one model in place of every model that it names. Raises UsageError when it names none."""

    def put(options: Options, value: Any = model) -> Options:
        return {**options, "model": value} if "model" in options else options

    groups = [
        group.model_copy(update={
            "options": put(group.options), "cells": [put(cell) for cell in group.cells],
            "grid": put(group.grid, [model]),
        })
        for group in study.groups
    ]  # fmt: skip
    if not any("model" in each for own in groups for each in (study.options, own.options, own.grid, *own.cells)):
        raise UsageError("this study names no model that --model could replace", where=study.name, do="Leave it out")
    return study.model_copy(update={"options": put(study.options), "groups": groups})


def expand(study: Study) -> tuple[list[Cell], dict[str, list[str]]]:
    """Every cell once, and group name -> names of its cells. Raises UsageError for an option that does not fit."""
    known = [verb for verb in verbs() if verb != "sweep"]
    if study.verb not in known:
        raise UsageError(f"there is no command {study.verb!r}", where=study.name, do=nearest(study.verb, known))
    own_class = settings_class(study.verb)
    found: dict[str, Cell] = {}
    groups: dict[str, list[str]] = {}
    most = sum(len(group.cells) * math.prod(map(len, group.grid.values())) for group in study.groups)
    if most > _MOST_CELLS:
        raise UsageError(f"more than {_MOST_CELLS:,} cells", where=study.name, do="Split the study")
    for group in study.groups:
        names = []
        for options, values in itertools.product(group.cells, itertools.product(*group.grid.values())):
            own = {**group.options, **options, **dict(zip(group.grid, values, strict=True))}
            cell = _cell(study, group, own, own_class, found)
            found[cell.name] = cell
            names.append(cell.name)
        groups[group.name] = list(dict.fromkeys(names))
    return list(found.values()), groups


def _cell(study: Study, group: StudyGroup, own: Options, settings_class: type, found: Mapping[str, Cell]) -> Cell:
    """The cell of some options, under the name it has already or a new one."""
    own = {**study.models.get(str(own.get("model", study.options.get("model"))), {}), **own}
    settings = _settings({**study.options, **own}, settings_class, f"{study.name}, {group.name}")
    seeds = tuple(dict.fromkeys(group.seeds or study.seeds))
    name = _name(own, study.options, settings)
    for candidate in (name, f"{name}-{_digest(settings, seeds)}"):
        known = found.get(candidate)
        if known is None or (known.settings == settings and known.seeds == seeds):
            return Cell(candidate, {**study.options, **own}, seeds, settings)
    raise UsageError("two cells cannot be told apart", where=f"{study.name}, {name}", do="Give them other options")


def _settings(options: Options, settings_class: type, where: str) -> Any:
    """The verb's settings from a study's options, each read as its type. Raises UsageError."""
    every = [item.name for item in dataclasses.fields(settings_class)]  # type: ignore[arg-type]
    names = [name for name in every if name not in _OWN]
    for key in options:
        if key.replace("-", "_") not in names:
            raise UsageError(f"{key!r} is no option that a study sets", where=where, do=nearest(key, names))
    values = {key.replace("-", "_"): value for key, value in options.items()}
    try:
        return _reader(settings_class).validate_python(values | ({"out": ""} if "out" in every else {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        what, do = f"{name}: {values.get(name)!r} does not fit ({first['msg'].lower()})", "See its page in docs/verbs"
        if first["type"] == "missing":
            what, do = f"no {name} is given", f"Add `{name}:` to its options"
        raise UsageError(what, where=where, do=do) from None


#: What reads the options of a cell; made once, since a study may have a hundred thousand cells.
_reader = functools.cache(TypeAdapter)


def _name(own: Options, every: Options, settings: Any) -> str:
    """A folder's name from what the study says of this cell alone: its pack, then options that are not the default, or
    not what the study says of every cell."""
    fields = {item.name: item for item in dataclasses.fields(settings)}
    parts: list[str] = []

    def plain(option: str) -> Any:
        """What an option is when nothing is said; the model says some."""
        default = fields[option].default
        return default if default is not None else getattr(dataclasses.replace(settings, **{option: None}), option)

    for key in own:
        option = key.replace("-", "_")
        value = getattr(settings, option)
        if "Positional" in str(fields[option].type):
            parts.insert(0, str(value))
        elif option not in _QUIET and (value != plain(option) or every.get(key, own[key]) != own[key]):
            shown = "" if isinstance(value, bool) else f"={value:g}" if isinstance(value, float) else f"={value}"
            parts.append(("no-" if value is False else "") + option.replace("_", "-") + shown)
    name = re.sub(r"[^\w.=,+-]+", "-", "_".join(parts)).strip("-.") or "cell"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{_digest(settings, ())}"


def _digest(settings: Any, seeds: Sequence[int]) -> str:
    given = {name: value for name, value in dataclasses.asdict(settings).items() if name != "browse"}
    body = json.dumps([given, list(seeds)], sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()[:8]


CELLS, TABLE, PAGE = "cells", "table.parquet", "page.html"
PACKAGES = ("spillover", "torch", "transformers", "numpy", "pyarrow")


def run(settings: Sweep) -> dict[str, Any]:
    """Run or plan a study. A cell that fails is recorded and does not stop the rest; the exit code is then 1.

    Raises UsageError for a study that cannot be read, RunError for a folder that is not the study's.
    """
    study = read_study(settings.study)
    study = with_model(study, settings.model) if settings.model else study
    cells, groups = expand(study)
    if settings.plan:
        return _plan(settings, study, cells)
    if not settings.out:
        raise UsageError("missing --out", where="spillover sweep", do="Name a folder for the study")
    folder = Path(settings.out).expanduser()
    own = identity({"study": study.name, "verb": study.verb})
    cells_identity = identity({cell.name: [_given(cell.settings), list(cell.seeds)] for cell in cells})

    def whole(record: Record) -> bool:
        """Whether every cell of the study as it reads now is done and here."""
        here = all((folder / CELLS / cell.name / RECORD).exists() for cell in cells if pooled(cell))
        done = all(cell.status == "done" for cell in record.details_of(SweepDetails).cells)
        return here and done and record.hashes.get("cells") == cells_identity

    def made_from() -> dict[str, str | None]:
        """Hash of the facts of the user's own files."""
        asked = {(str(getattr(cell.settings, "pack", "")), seed) for cell in cells for seed in cell.seeds}
        hashes = []
        for pack, seed in sorted(asked):
            with suppress(SpilloverError):  # Its own cell says what is wrong.
                hashes += [pack_hash(open_pack(pack, seed))] if pack and Path(pack).expanduser().exists() else []
        return {"packs": sha256_of_texts(hashes) if hashes else None}

    with open_run(folder, "sweep", own, whole=whole, made_from=made_from) as opened:
        if opened.finished:
            # A kill may have come between the last word of the study and what is made from it.
            if not all((folder / name).exists() for name in (TABLE, PAGE)):
                write(folder)
            return _outcome(folder, opened.finished)
        for name in (TABLE, PAGE):
            # Those of the study as it was before it gained a cell.
            (folder / name).unlink(missing_ok=True)
        about = study.model_dump(include={"name", "title", "text"})
        listed = [group.model_dump(include={"name", "text", "plot"}) for group in study.groups]
        about["groups"] = [{**group, "cells": groups[group["name"]]} for group in listed]
        details = SweepDetails(study=StudyOutline.model_validate(about), cells=cell_states(study.verb, cells, {}))
        hashes = {"cells": cells_identity, **opened.hashes}
        with opened.recording(settings, PACKAGES, seed=0, hashes=hashes, details=details) as record:
            _run(settings, StudyProgress(opened, details, study.verb, cells))
        write(folder)
        return _outcome(folder, record)


def write(folder: Path) -> None:
    """The study's table and page, from its record and cells."""
    loaded = load_study(folder)
    write_table(folder / TABLE, study_table(loaded))
    write_atomically(folder / PAGE, build_study_page(loaded).html().encode())


class StudyProgress:
    """How the tasks of a study ended so far, and the study's record, which mirrors it."""

    #: Writing the record, which grows with the study, takes at most one part in this many of the time.
    SHARE = 50

    def __init__(self, opened: OpenRun, details: SweepDetails, verb: str, cells: Sequence[Cell]) -> None:
        self.opened, self.details, self.verb, self.cells = opened, details, verb, cells
        self.ended: dict[Key, Ended] = {}
        self._next_write = 0.0

    def add(self, ended: Ended) -> None:
        """Note the end of a task; the record is written if its turn has come."""
        self.ended[ended.key] = ended
        began = time.monotonic()
        if began >= self._next_write:
            self.mirror()
            self.opened.write()
            now = time.monotonic()
            self._next_write = now + self.SHARE * (now - began)

    def mirror(self) -> None:
        """Bring the record to how things stand."""
        self.details.cells = cell_states(self.verb, self.cells, self.ended)


def pooled(cell: Cell) -> bool:
    """Whether the verb itself pools several seeds: `inject` does."""
    return len(cell.seeds) > 1 and type(cell.settings).__name__ == "Inject"


def cell_states(verb: str, cells: Sequence[Cell], ended: Mapping[Key, Ended]) -> list[CellState]:
    """Of every cell what was asked for, whether it is done, failed or waiting, and its first failure."""
    states = []
    for cell in cells:
        keys = [(cell.name, seed) for seed in (*cell.seeds, *([None] if pooled(cell) else []))]
        own = [ended[key] for key in keys if key in ended]
        errors = [(each.key[1], each.error) for each in own if each.error]
        error = next((text if seed is None else f"seed {seed}: {text}" for seed, text in errors), None)
        status = "failed" if error else "done" if len(own) == len(keys) else "waiting"
        seconds = round(sum(each.seconds for each in own), 3)
        states.append(CellState(cell=cell.name, verb=verb, options=dict(cell.options), seeds=list(cell.seeds),
                                status=status, error=error, seconds=seconds))  # fmt: skip
    return states


def _run(settings: Sweep, progress: StudyProgress) -> None:
    """Run every seed of every cell, then pool the seeds of each cell of which none failed."""
    cells, folder, verb = progress.cells, progress.opened.folder, progress.verb
    assert folder is not None
    cores, workers = int(hardware()["cores"]), settings.processes
    threads = max(getattr(cell.settings, "threads", 1) or cores for cell in cells)
    pools: AbstractContextManager[Pool] = (
        ray_pool(folder, address=settings.address, processes=workers, threads=threads)
        if settings.engine == "ray"
        else LocalPool(workers or max(1, cores // threads))
    )

    def task(cell: Cell, number: int | None, **changes: Any) -> Task:
        known = {item.name for item in fields(cell.settings)}
        own = {name: value for name, value in changes.items() if name in known}
        return Task((cell.name, number), verb, replace(cell.settings, **own))

    tasks = []
    # The first seed of every cell comes first, so that a picture forms early.
    for seeds in itertools.zip_longest(*(cell.seeds for cell in cells)):
        for cell, seed in zip(cells, seeds, strict=True):
            if seed is not None:
                own = folder / CELLS / cell.name / (f"seed-{seed}" if len(cell.seeds) > 1 else "")
                tasks.append(task(cell, seed, seed=seed, out=str(own)))
    try:
        with pools as pool:
            for ended in pool.run(tasks):
                progress.add(ended)
            failed = {name for (name, _), ended in progress.ended.items() if ended.error}
            whole = [cell for cell in cells if pooled(cell) and cell.name not in failed]
            for ended in pool.run([
                task(cell, None, seeds=",".join(map(str, cell.seeds)), out=str(folder / CELLS / cell.name))
                for cell in whole
            ]):  # fmt: skip
                progress.add(ended)
    finally:
        progress.mirror()


def _given(settings: Any) -> dict[str, Any]:
    """A cell's settings, without those of a chat that are not given."""
    return {name: value for name, value in asdict(settings).items() if value or name not in (*WORDING, "browse")}


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    details = record.details_of(SweepDetails)
    cells, failed = details.cells, [cell for cell in details.cells if cell.status == "failed"]
    folders = {cell.cell: folder / CELLS / cell.cell for cell in cells}
    swept = any(group.plot == RATES for group in details.study.groups)
    rates = chosen_rates(rate_points(load_study(folder).cells_of(RATES))) if swept else []
    lines = [f"{len(cells) - len(failed)} of {len(cells)} cells are done."]
    lines += [f"  {cell.cell} failed: {cell.error}" for cell in failed]
    lines += [f"  {rate.sentence}" for rate in rates]
    judged = [f"  {cell.slug}: {_judged(each)}" for cell in load_study(folder).done if cell.run
              for each in cell.run.verdicts.values() if each.n]  # fmt: skip
    lines += judged[:SHOWN] + ([f"  and {len(judged) - SHOWN:,} more: the page has all"] if len(judged) > SHOWN else [])
    lines += [f"  table: {folder / TABLE}", f"  page: {folder / PAGE}"]
    return {
        **({"rates": {each.model: each.rate for each in rates}} if rates else {}),
        "run": str(folder),
        "metrics": {name: Record.read(own).metrics for name, own in folders.items() if (own / RECORD).exists()},
        "cells": [cell.as_json() for cell in cells],
        "page": str(folder / PAGE),
        "exit_code": 1 if failed else 0,
        "text": "\n".join(lines),
    }


def _judged(verdict: Verdict) -> str:
    """A verdict in one line: of how many unstated subjects the model newly says it."""
    return f"{verdict.verdict}, {verdict.implication} newly of {verdict.newly:,} of {verdict.n:,} unstated subjects"


def _plan(settings: Sweep, study: Study, cells: Sequence[Cell]) -> dict[str, Any]:
    states = [state.as_json() for state in cell_states(study.verb, cells, {})]
    lines = [f"{study.name}: {len(cells)} cells, {sum(len(cell.seeds) for cell in cells)} runs of `{study.verb}`"]
    if settings.on or settings.memory or settings.tflops or settings.bandwidth:
        from spillover.commands.sweep_plan import study_plan

        plan = study_plan(settings, study, cells)
        states = [{**state, "a_run": own} for state, own in zip(states, plan.pop("cells"), strict=True)]
        return {"cells": states, **plan, "text": "\n".join([*lines, plan["text"]])}
    lines += [f"  {cell.name}  seeds {', '.join(map(str, cell.seeds))}" for cell in cells]
    lines += ["Add --on DEVICE for memory, time and disk."] if study.verb == "inject" else []
    return {"cells": states, "text": "\n".join(lines)}
