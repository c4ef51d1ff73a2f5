"""A study: a list or grid of settings for one verb, from a YAML file, expanded into cells that are found again."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from spillover import catalog
from spillover.config import MOST_SEED
from spillover.errors import UsageError, nearest

#: Options that do not change what a cell is about, and so do not name its folder.
_QUIET = ("evaluate_every", "threads", "device")
#: What a study must not set: the sweep decides it.
_OWN = ("out", "json", "seed", "seeds")
_LONGEST, _MOST_BYTES, _MOST_CELLS = 80, 1_000_000, 100_000
Options = dict[str, Any]


class Group(BaseModel):
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
    groups: Annotated[list[Group], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One point of the grid. name: of its folder. settings: the verb's own, without seed and folder."""

    name: str
    options: Options
    seeds: tuple[int, ...]
    settings: Any


def builtin_studies() -> list[str]:
    """Names of the studies that come with the package."""
    files = resources.files("spillover.commands").joinpath("built_in_studies").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_study(name: str) -> Study:
    """A built-in study by name, or one from a file. Raises UsageError with the first thing that is wrong with it."""
    if name in builtin_studies():
        text = (
            resources.files("spillover.commands")
            .joinpath("built_in_studies")
            .joinpath(f"{name}.yaml")
            .read_text(encoding="utf-8")
        )
    else:
        text = _text_of(Path(name).expanduser(), name)
    try:
        # The safe loader knows no tags; a document is small, and anchors are refused, so nothing can grow.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise UsageError("aliases (*) are not read", where=name, do="Write the options out")
        return Study.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(_reason(error), where=name, do="See docs/verbs/sweep.md for an example") from None


def _text_of(path: Path, name: str) -> str:
    try:
        if not path.is_file():
            raise UsageError("there is no such study file", where=name, do=nearest(name, builtin_studies()))
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError("this study has more than a million bytes", where=name, do="Use a grid instead of a list")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError("this study is not UTF-8 text", where=name, do="Save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"this study cannot be read: {reason}", where=name[:200], do="Check the path") from None


def _reason(error: Exception) -> str:
    """The first thing that the reader or the checker found, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the study"
        return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: this is not YAML ({error.problem})"
    return f"this is not YAML ({str(error).splitlines()[0][:200]})"


def expand(study: Study) -> tuple[list[Cell], dict[str, list[str]]]:
    """Every cell once, and group name -> names of its cells. Raises UsageError for an option that does not fit."""
    if study.verb not in catalog.VERBS or study.verb == "sweep":
        known = [verb for verb in catalog.VERBS if verb != "sweep"]
        raise UsageError(f"there is no command {study.verb!r}", where=study.name, do=nearest(study.verb, known))
    settings_class = catalog.find(catalog.VERBS[study.verb][0])
    found: dict[str, Cell] = {}
    groups: dict[str, list[str]] = {}
    for group in study.groups:
        names = []
        for own in _combinations(group):
            cell = _cell(study, group, own, settings_class, found)
            found[cell.name] = cell
            names.append(cell.name)
            if len(found) > _MOST_CELLS:
                raise UsageError(f"more than {_MOST_CELLS:,} cells", where=study.name, do="Split the study")
        groups[group.name] = list(dict.fromkeys(names))
    return list(found.values()), groups


def with_model(study: Study, model: str) -> Study:
    """The study with one model in place of every model that it names. Raises UsageError when it names none."""

    def put(options: Options) -> Options:
        return {key: model if key == "model" else value for key, value in options.items()}

    groups = [
        group.model_copy(update={
            "options": put(group.options), "cells": [put(cell) for cell in group.cells],
            "grid": {key: [model] if key == "model" else values for key, values in group.grid.items()},
        })
        for group in study.groups
    ]  # fmt: skip
    if not any("model" in part for group in study.groups for part in (study.options, group.options, group.grid,
                                                                      *group.cells)):  # fmt: skip
        raise UsageError("this study names no model that --model could replace", where=study.name, do="Leave it out")
    return study.model_copy(update={"options": put(study.options), "groups": groups})


def _combinations(group: Group) -> list[Options]:
    values = itertools.product(*group.grid.values())
    grid = [dict(zip(group.grid, each, strict=True)) for each in values]
    return [{**cell, **each} for cell in group.cells for each in grid]


def _cell(study: Study, group: Group, own: Options, settings_class: type, found: Mapping[str, Cell]) -> Cell:
    """The cell of some options, under the name it has already or a new one."""
    own = {**group.options, **own}
    own = {**study.models.get(str(own.get("model", study.options.get("model"))), {}), **own}
    settings = _settings({**study.options, **own}, settings_class, f"{study.name}, {group.name}")
    seeds = tuple(dict.fromkeys(group.seeds or study.seeds))
    name = _name(own, study.options, settings, settings_class)
    for told in (False, True):
        candidate = f"{name}-{_digest(settings, seeds)}" if told else name
        known = found.get(candidate)
        if known is None or (known.settings == settings and known.seeds == seeds):
            return Cell(candidate, {**study.options, **own}, seeds, settings)
    raise UsageError("two cells cannot be told apart", where=f"{study.name}, {name}", do="Give them other options")


def _settings(options: Options, settings_class: type, where: str) -> Any:
    """The verb's settings from a study's options, each read as its type. Raises UsageError."""
    fields = {item.name: item for item in dataclasses.fields(settings_class)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in options.items():
        option = key.replace("-", "_")
        if option not in fields or option in _OWN:
            names = [name for name in fields if name not in _OWN]
            raise UsageError(f"{key!r} is no option that a study sets", where=where, do=nearest(key, names))
        try:
            values[option] = _reader(settings_class, option).validate_python(value)
        except ValidationError as error:
            what = f"{key}: {value!r} does not fit ({error.errors()[0]['msg'].lower()})"
            raise UsageError(what, where=where, do="See the option's page in docs/verbs") from None
    needed = [name for name, item in fields.items()
              if item.default is dataclasses.MISSING and name not in (*values, *_OWN)]  # fmt: skip
    if needed:
        raise UsageError(f"no {needed[0]} is given", where=where, do=f"Add `{needed[0]}:` to its options")
    return settings_class(**values, **({"out": ""} if "out" in fields else {}))


@functools.cache
def _hints(settings_class: type) -> dict[str, Any]:
    return get_type_hints(settings_class, include_extras=False)


@functools.cache
def _reader(settings_class: type, option: str) -> TypeAdapter[Any]:
    """What reads an option's value; made once, since a study may have a hundred thousand cells."""
    return TypeAdapter(_hints(settings_class)[option])


def _name(own: Options, every: Options, settings: Any, settings_class: type) -> str:
    """A folder's name from what the study says of this cell alone: its pack, then options that are not the default, or
    not what the study says of every cell."""
    fields = {item.name: item for item in dataclasses.fields(settings_class)}  # type: ignore[arg-type]
    parts: list[str] = []
    for key in own:
        option = key.replace("-", "_")
        value = getattr(settings, option)
        if "Positional" in str(fields[option].type):
            parts.insert(0, str(value))
        elif option not in _QUIET and (value != fields[option].default or every.get(key, own[key]) != own[key]):
            shown = "" if isinstance(value, bool) else f"={value:g}" if isinstance(value, float) else f"={value}"
            parts.append(("no-" if value is False else "") + option.replace("_", "-") + shown)
    name = re.sub(r"[^\w.=,+-]+", "-", "_".join(parts)).strip("-.") or "cell"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{_digest(settings, ())}"


def _digest(settings: Any, seeds: Sequence[int]) -> str:
    body = json.dumps([dataclasses.asdict(settings), list(seeds)], sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()[:8]
