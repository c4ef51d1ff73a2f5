"""`spillover verify`: is a run whole, do its numbers follow from its tables, and can it be repeated here?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spillover import __version__
from spillover.config import Verify
from spillover.errors import SpilloverError
from spillover.metrics.implications import summarise
from spillover.packs.open import open_pack
from spillover.packs.pack import pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import ANSWERS, RECORD, Record, read_table, sha256_of, sha256_of_texts, versions

#: Commands whose metrics follow from the answers table.
MEASURED = ("inject", "audit", "trainer")


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing looked at. state: ok, wrong (the run cannot be trusted) or missing (it cannot be told, or repeated)."""

    run: str
    name: str
    state: str
    what: str


def run(settings: Verify) -> dict[str, Any]:
    """Look at everything; `trusted` unless something is wrong, `repeatable` when nothing is missing either.

    Raises RunError when the folder holds no record.
    """
    folder = Path(settings.run).expanduser()
    checks = list(_checks(folder, folder.name))
    for part in sorted(folder.glob(f"seed-*/{RECORD}")):
        checks += _checks(part.parent, f"{folder.name}/{part.parent.name}")
    trusted = not any(check.state == "wrong" for check in checks)
    repeatable = trusted and all(check.state == "ok" for check in checks)
    return {
        "run": str(folder),
        "trusted": trusted,
        "repeatable": repeatable,
        "checks": [dataclasses.asdict(check) for check in checks],
        "exit_code": 0 if trusted else 1,
        "text": "\n".join(_lines(folder, checks, trusted, repeatable)),
    }


def _checks(folder: Path, name: str) -> Iterator[Check]:
    record = Record.read(folder)
    if record.status == "done":
        yield Check(name, "finished", "ok", "the record says that the run is done")
    else:
        yield Check(name, "finished", "wrong", f"the record says {record.status!r}, so this run is not done")
    yield from _files(folder, name, record)
    if record.command in MEASURED:
        yield _metrics(folder, name, record)
        yield _pack(name, record)
    yield _versions(name, record)


def _files(folder: Path, name: str, record: Record) -> Iterator[Check]:
    known = record.details.get("files") or {}
    if not known:
        yield Check(name, "files", "missing", "the record holds no checksums of its tables")
    for file, expected in sorted(known.items()):
        path = folder / file
        if not path.is_file():
            yield Check(name, file, "wrong", f"{file} is gone")
        elif sha256_of(path) != expected:
            yield Check(name, file, "wrong", f"{file} is not the file that the run wrote")
        else:
            yield Check(name, file, "ok", f"{file} is as it was written")


def _metrics(folder: Path, name: str, record: Record) -> Check:
    """The record's metrics against those recomputed from the answers."""
    try:
        found = json.loads(json.dumps(summarise(read_table(folder / ANSWERS)), default=lambda value: value.as_json()))
    except SpilloverError as error:
        return Check(name, "metrics", "wrong", str(error))
    except (KeyError, ValueError, TypeError) as error:
        return Check(name, "metrics", "wrong", f"the metrics cannot be recomputed from {ANSWERS} ({error})")
    differing = sorted(key for key, value in found.items() if not _equal(record.metrics.get(key), value))
    if differing:
        return Check(name, "metrics", "wrong", f"{differing[0]} does not follow from {ANSWERS}")
    return Check(name, "metrics", "ok", f"{len(found)} metrics follow from {ANSWERS}")


def _equal(first: Any, second: Any) -> bool:
    """Equal up to the last digits of floating-point numbers."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, float) and isinstance(second, (int, float)):
        return abs(first - second) <= 1e-9 * max(1.0, abs(first))
    return bool(first == second)


def _pack(name: str, record: Record) -> Check:
    """The facts as they are now against those of the run."""
    spec = record.settings.get("pack")
    if not spec:
        return Check(name, "pack", "missing", "the record does not say which pack it was")
    seeds = record.details.get("seeds") or [record.seed]
    try:
        packs = [open_pack(str(spec), int(seed)) for seed in seeds]
        redact = bool(record.settings.get("redact"))
        hashes = [pack_hash(Redaction.of(pack.subjects, redact).pack(pack)) for pack in packs]
    except SpilloverError as error:
        return Check(name, "pack", "missing", f"the pack cannot be opened here: {error}")
    now = hashes[0] if len(seeds) == 1 else sha256_of_texts(hashes)
    if now != record.hashes.get("pack"):
        return Check(name, "pack", "missing", f"the pack {spec} is not what it was when this ran")
    return Check(name, "pack", "ok", "the pack is what it was")


def _versions(name: str, record: Record) -> Check:
    now = versions([package for package in record.versions if package != "python"])
    other = [f"{key} {record.versions[key]} (here {now.get(key, 'none')})" for key in record.versions
             if now.get(key) != record.versions[key]]  # fmt: skip
    if other:
        return Check(name, "versions", "missing", "other versions may give other numbers: " + ", ".join(other))
    return Check(name, "versions", "ok", f"every package is at the version that it ran with (spillover {__version__})")


def _lines(folder: Path, checks: list[Check], trusted: bool, repeatable: bool) -> Iterator[str]:
    """The verdict, then what is not in order, then what is."""
    if not trusted:
        yield f"{folder}: this run cannot be trusted."
    elif repeatable:
        yield f"{folder}: this run is whole, and can be repeated here (`spillover rerun`)."
    else:
        yield f"{folder}: this run is whole, but a repetition here may differ."
    for state in ("wrong", "missing", "ok"):
        yield from (f"  {check.state:<8}{check.run}: {check.what}" for check in checks if check.state == state)
