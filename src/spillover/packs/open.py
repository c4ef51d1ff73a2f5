"""Open a pack: an object, a built-in name with options, or a path; and check it."""

from __future__ import annotations

from pathlib import Path

from spillover.errors import UsageError
from spillover.packs.builtin import PACKS, built_in
from spillover.packs.check import Fault, Findings, check_structure, refuse
from spillover.packs.pack import Pack
from spillover.packs.reading import READERS
from spillover.packs.sheet import Sheet, printable

PACK_FILE = "pack.yaml"


def open_pack(pack: Pack | Path | str, seed: int = 0) -> Pack:
    """Open a pack and check it.

    Arguments:
    - pack: a pack that one holds; a built-in name with options, such as `city-language:pairs=10,names=80`; a folder
      with a pack.yaml; or a YAML file.
    - seed: draws the subjects of a built-in pack. Other packs do not depend on it.

    Returns:
    - the pack. One that was passed as an object is returned as it is.

    Raises:
    - UsageError: there is no such pack, option or value.
    - PackError: the pack has faults; `faults` holds all of them.
    """
    if isinstance(pack, Pack):
        refuse(check_structure(pack).faults)
        return pack
    if isinstance(pack, str) and is_built_in(pack):
        return built_in(pack, seed)
    return read_pack(pack)


def is_built_in(spec: str) -> bool:
    """Whether `spec` can only mean a built-in pack; anything that exists or looks like a path is a path."""
    if spec.partition(":")[0] in {*PACKS, "null"} or not spec or "\0" in spec:
        return True
    try:
        exists = Path(spec).exists()
    except (OSError, ValueError):
        exists = False
    return not (exists or "/" in spec or "\\" in spec or spec.endswith((".yaml", ".yml")))


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
    findings = Findings()
    sheet = Sheet(find_pack_file(Path(path)), findings)
    pack = sheet.pack()
    if pack is not None:
        found = check_structure(pack, sheet.places)
        findings.faults += found.faults
        findings.warnings += found.warnings
    return (None if findings.faults else pack), findings.faults, findings.warnings


def find_pack_file(path: Path) -> Path:
    """The pack.yaml that `path` means. Raises UsageError with what is there instead."""
    file = path
    try:
        file = path / PACK_FILE if path.is_dir() else path
        is_table = file.suffix.lower() in READERS
        if file.is_file() and not is_table:
            return file
        exists = file.exists()
    except (OSError, ValueError):
        exists = is_table = False
    if exists and is_table:
        what, do = "this is a table of facts, not a pack", f"Name the folder or the {PACK_FILE} beside it"
    elif exists:
        what, do = "this is not a file", f"Name a folder with a {PACK_FILE}"
    elif file != path:
        what, do = f"there is no {PACK_FILE} in this folder", "Make one with `spillover packs export`"
    else:
        what, do = "there is no such pack", "Name a built-in pack, a folder or a YAML file that exists"
    raise UsageError(what, where=printable(file if exists and not is_table else path), do=do)
