"""A study: a list or grid of settings for one verb, from a YAML file, expanded into cells that are found again."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from spillover.commands import settings_class, verbs
from spillover.config import MOST_SEED
from spillover.errors import UsageError, nearest

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
