"""Read a pack from disk: a folder with pack.yaml, or that single file."""

from __future__ import annotations

from pathlib import Path

from spillover.errors import UsageError
from spillover.facts.check import Fault, Findings, refuse
from spillover.facts.pack import Pack
from spillover.facts.reading.rows import READERS
from spillover.facts.reading.sheet import Sheet, printable
from spillover.facts.structure import check_structure

PACK_FILE = "pack.yaml"


def read_pack(path: Path | str) -> Pack:
    """The pack at `path`. Raises UsageError when there is none, PackError with every fault when it is not sound."""
    pack, faults, _ = check_pack(path)
    refuse(faults)
    assert pack is not None
    return pack


def check_pack(path: Path | str) -> tuple[Pack | None, list[Fault], list[Fault]]:
    """The pack at `path` (None when it has a fault), every fault, and every warning.

    Raises UsageError only when there is nothing at `path` that could be a pack.
    """
    file = find_pack_file(Path(path))
    findings = Findings()
    sheet = Sheet(file, findings)
    pack = sheet.pack()
    if pack is not None:
        found = check_structure(pack, sheet.places)
        findings.faults += found.faults
        findings.warnings += found.warnings
    return (None if findings.faults else pack), findings.faults, findings.warnings


def find_pack_file(path: Path) -> Path:
    """The pack.yaml that `path` means. Raises UsageError with what is there instead."""
    shown, file = printable(path), path
    try:
        file = path / PACK_FILE if path.is_dir() else path
        if file.is_file() and file.suffix.lower() not in READERS:
            return file
        exists = file.exists()
    except (OSError, ValueError):
        exists = False
    if exists and file.suffix.lower() in READERS:
        raise UsageError(
            "this is a table of facts, not a pack", where=shown, do=f"Name the folder or the {PACK_FILE} beside it"
        )
    if exists:
        raise UsageError("this is not a file", where=printable(file), do=f"Name a folder with a {PACK_FILE}")
    if file != path:
        raise UsageError(
            f"there is no {PACK_FILE} in this folder", where=shown, do="Make one with `spillover packs export`"
        )
    raise UsageError(
        "there is no such pack", where=shown, do="Name a built-in pack, a folder or a YAML file that exists"
    )
