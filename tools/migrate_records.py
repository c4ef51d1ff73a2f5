"""Give finished runs of schema 1 the identity that schema 2 computes, so that the same command finds them again.

A run's identity was a hash of the options that differ from their defaults; it is now one of every resolved option. A
record is rewritten only when its run verifies and its old identity is that of its own settings. Usage:

    python tools/migrate_records.py FOLDER
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spillover import commands
from spillover.commands.rerun import settings_of
from spillover.commands.verify import Verify
from spillover.record import RECORD, SCHEMA_VERSION, Record, identity
from spillover.runs import SINCE, identity_of

#: Commands whose identity rests on their settings alone, with the options that are no part of it.
IGNORED = {"inject": ("track",), "mitigate": ("processes",)}


def old_identity(settings: Any, *ignored: str) -> str:
    """The identity of schema 1: the options that differ from their defaults, and the version."""
    values = {item.name: (getattr(settings, item.name), item.default) for item in dataclasses.fields(settings)}
    ignored = ("out", "json", *ignored)
    told = {name: value for name, (value, default) in values.items() if name not in ignored and value != default}
    return identity(told | {"version": SINCE})


def asked(settings: Any) -> Iterator[Any]:
    """The settings as they may have been asked for: a micro-batch is recorded as it was chosen."""
    yield settings
    if hasattr(settings, "micro_batch"):
        yield replace(settings, micro_batch=0)


def new_identity(record: Record, folder: Path) -> str | None:
    """The identity of schema 2, or None for another schema and for an identity that is not that of the settings."""
    if record.schema != 1 or record.status != "done":
        return None
    if record.command == "sweep":
        return record.identity
    if record.command not in IGNORED:
        return None
    settings = settings_of(commands.settings_class(record.command), record, folder)
    ignored = IGNORED[record.command]
    # Of a chat, the rendered prompts are a part of it, which cannot be rendered without the model.
    fitting = (each for each in asked(settings) if not each.chat and old_identity(each, *ignored) == record.identity)
    return next((identity_of(each, *ignored) for each in fitting), None)


def migrate(root: Path) -> list[str]:
    """Rewrite what can be rewritten below `root`; a line for every record that was left as it is."""
    left = []
    for path in sorted(root.rglob(RECORD)):
        record = Record.read(path.parent)
        found = new_identity(record, path.parent)
        whole = commands.job("verify")(Verify(run=str(path.parent), json=True))["trusted"] if found else False
        if found is None or not whole:
            left.append(f"{path.parent}: {record.command}, schema {record.schema}, left as it is")
            continue
        fields = json.loads(path.read_text(encoding="utf-8")) | {"identity": found, "schema": SCHEMA_VERSION}
        path.write_text(json.dumps(fields, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    return left


if __name__ == "__main__":
    print("\n".join(migrate(Path(sys.argv[1]))))
