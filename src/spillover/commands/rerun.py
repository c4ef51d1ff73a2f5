"""`spillover rerun`: repeat a run from its record alone, and compare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from tyro.conf import Positional, arg

from spillover import commands
from spillover.config import Common
from spillover.errors import RunError
from spillover.record import ANSWERS, TRAJECTORY, Record, checksums

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Rerun(Common):
    """Repeat a run from its record alone, into a new folder, and say whether it came out the same."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder to repeat."""
    out: str
    """Folder of the repetition."""


def run(settings: Rerun) -> dict[str, Any]:
    """Run the record's verb with its settings into a new folder; `same`: whether the tables are equal bytes."""
    folder, out = Path(settings.run).expanduser(), Path(settings.out).expanduser()
    record = Record.read(folder)
    verb = record.command.split(" ")[0]
    if verb not in commands.verbs():
        what = f"a run of {record.command!r} was made by another program, so it cannot be repeated from here"
        raise RunError(what, where=str(folder), do="Repeat it where it was made")
    if out.resolve() == folder.resolve():
        raise RunError("a repetition must not overwrite its run", where=str(out), do="Choose another --out")
    outcome = dict(commands.job(verb)(settings_of(commands.settings_class(verb), record, out)))
    # The tables of the run and of each of its seeds.
    tables = [path.relative_to(folder) for name in (ANSWERS, TRAJECTORY) for path in sorted(folder.rglob(name))]
    compared = {str(name): checksums(folder, str(name)) == checksums(out, str(name)) for name in tables}
    same = all(compared.values()) if compared else None
    outcome.pop("exit_code", None)
    words = {True: "every table has the same bytes", False: "the tables differ", None: "there is no table to compare"}
    lines = [str(outcome.pop("text", "")), f"Against {folder}: {words[same]}."]
    lines += [f"  {name}: {'the same' if equal else 'different'}" for name, equal in compared.items() if same is False]
    return {**outcome, "same": same, "compared": compared, "text": "\n".join(lines)}


def settings_of(settings_class: type[Settings], record: Record, out: Path) -> Settings:
    """The verb's settings as the record holds them but for `out`; options that it does not know take their default."""
    changed = {**record.settings, "json": False, "track": "none", "browse": False, "out": str(out)}
    known = {item.name: item.default for item in dataclasses.fields(settings_class)}
    values = {name: tuple(each) if isinstance(each, list) else each for name, each in changed.items() if name in known}
    # A record that does not name its model is not repeated on the default one.
    needed = [name for name, default in known.items() if default is dataclasses.MISSING or name == "model"]
    if missing := [name for name in needed if name not in values]:
        what = f"the record does not say what {missing[0]} was"
        raise RunError(what, where=record.command, do="Give the command yourself")
    return settings_class(**values)
