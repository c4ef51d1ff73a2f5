"""An output folder belongs to one run: the same command finds it again, another one is refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from spillover.errors import RunError
from spillover.record import RECORD, Record, unwritable


def telling(settings: Any, *quiet: str) -> dict[str, Any]:
    """The settings that tell one run from another: those not at their default, without the `quiet` ones.

    So an option that is new does not make another run of an old one.
    """
    values = {item.name: (getattr(settings, item.name), item.default) for item in dataclasses.fields(settings)}
    return {name: value for name, (value, default) in values.items() if name not in quiet and value != default}


def claim_folder(folder: Path, command: str, identity: str) -> Record | None:
    """Make `folder` ready for a run of this identity; the finished record if that run is already there.

    Raises RunError when the folder holds another run or somebody's files, or cannot be written.
    """
    try:
        occupied = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise unwritable(folder, error) from None
    if occupied:
        raise RunError("this is a file, not a folder", where=str(folder), do="Choose another --out")
    if (folder / RECORD).exists():
        record = Record.read(folder)
        if (record.command, record.identity) != (command, identity):
            raise RunError(
                "this folder holds another run", where=str(folder), do="Choose another --out, or remove the folder"
            )
        # A run that was cut short starts over; nothing in the folder is another run's.
        return record if record.status == "done" else None
    if folder.is_dir() and any(not entry.name.startswith((".", "seed-")) for entry in folder.iterdir()):
        raise RunError(
            "this folder holds files that are not a run", where=str(folder), do="Choose a new or an empty folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    if not os.access(folder, os.W_OK):
        raise RunError("this folder cannot be written to", where=str(folder), do="Choose another --out")
    return None
