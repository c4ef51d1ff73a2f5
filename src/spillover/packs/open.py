"""Open a pack by what the user typed: a built-in name with options, or a path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spillover.catalog import PACKS, pick
from spillover.errors import UsageError, nearest
from spillover.packs.builtin import PackOptions
from spillover.packs.check import Fault, Findings, check_structure, refuse
from spillover.packs.pack import Pack
from spillover.packs.reading import READERS
from spillover.packs.sheet import Sheet, printable

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


#: `null` alone means the null version of this pack.
NULL_PACK = "profession-color"
#: A pack of the user's own copy of a file: `popqa:PATH`, with options behind a comma.
POPQA = "popqa"
SIZES = ("pairs", "names", "bridge")


def open_pack(spec: str, seed: int = 0) -> Pack:
    """The pack behind `name:key=value,...` (built in), a folder with a pack.yaml, or a YAML file.

    seed: draws a built-in pack's names; a pack from files does not depend on it.
    Raises UsageError for what was typed wrong, PackError (with every fault) for a pack that cannot be used.
    """
    if is_built_in(spec):
        return built_in(spec, seed)

    return read_pack(Path(spec))


def is_built_in(spec: str) -> bool:
    """Whether `spec` can only mean a built-in pack; anything that exists or looks like a path is a path."""
    name = spec.partition(":")[0]
    return name in PACKS or name in {"null", POPQA} or not _path_like(spec)


def _path_like(spec: str) -> bool:
    if not spec or "\0" in spec:
        return False
    try:
        exists = Path(spec).exists()
    except (OSError, ValueError):
        exists = False
    return exists or "/" in spec or "\\" in spec or spec.endswith((".yaml", ".yml")) or spec in {".", ".."}


def built_in(spec: str, seed: int) -> Pack:
    """The built-in pack behind `name:key=value,...`. Raises UsageError for an unknown name, option or value."""
    name, _, text = spec.partition(":")
    if name == "null":
        name, text = NULL_PACK, f"null,{text}" if text else "null"
    if name == POPQA:
        from spillover.packs import popqa

        path, text = popqa.split(text)
        return popqa.from_file(Path(path), options_from(text, replace(popqa.DEFAULTS, seed=seed), where=spec))
    return pick(PACKS, name, "pack")(options_from(text, PackOptions(seed=seed), where=spec))


def options_from(text: str, options: PackOptions, where: str) -> PackOptions:
    """`pairs=10,names=80,bridge=2,null` over the defaults in `options`. Raises UsageError."""
    given: dict[str, int | bool] = {}
    for part in [item.strip() for item in text.split(",") if item.strip()]:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in {*SIZES, "null"}:
            raise UsageError(f"a built-in pack has no option {key!r}", where=where, do=nearest(key, [*SIZES, "null"]))
        if key in given:
            raise UsageError(f"the option {key!r} is given twice", where=where, do="Give it once")
        if key == "null" and equals:
            raise UsageError("the option 'null' takes no value", where=where, do="Write null, or leave it out")
        given[key] = True if key == "null" else _whole_number(key, value, where)
    return replace(options, **given)  # type: ignore[arg-type]


def _whole_number(key: str, value: str, where: str) -> int:
    """A decimal number of at most six digits, as the sizes of a pack are."""
    if not (value.isascii() and value.isdigit() and len(value) <= 6):
        raise UsageError(
            f"{key}={value} is not a whole number",
            where=where,
            do=f"Write for instance {key}={getattr(PackOptions, key)}",
        )
    return int(value)
