"""Files that a study reads and a machine of a cluster may not have: found here, and put there once, at one path."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.errors import UsageError
from spillover.record import sha256_of

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

#: Bytes up to which two files of one size are told apart by their checksum, too; a larger one is a model's weights,
#: whose checksum every run records.
_SMALL = 1 << 24
#: Options that name what a run writes.
_WRITTEN = ("out", "junit", "json")


@dataclass(frozen=True)
class Source:
    """A file that a study reads: its path as it is where the study was started, bytes, and SHA-256 if it is small."""

    path: str
    size: int
    sha256: str


def sources(settings: Iterable[Any]) -> list[Source]:
    """Every file that options of these settings name or that lies in a folder they name; of a pack, its facts too."""
    named = {
        value
        for each in settings
        for item in dataclasses.fields(each)
        if item.name not in _WRITTEN and isinstance(value := getattr(each, item.name), str) and value
    }
    found: dict[Path, None] = {}
    for name in sorted(named):
        with suppress(OSError, ValueError):
            path = Path(name).expanduser().absolute()
            if path.is_dir():
                found |= dict.fromkeys(sorted(each for each in path.rglob("*") if each.is_file()))
            elif path.is_file():
                found |= dict.fromkeys([path, *_facts_of(path)])
    return [_source(path) for path in found]


def _facts_of(path: Path) -> list[Path]:
    """The table of facts that a pack's file names, if it is a pack's file."""
    if path.suffix not in (".yaml", ".yml"):
        return []
    import yaml

    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        facts = path.parent / told["facts"]
        return [facts] if facts.is_file() else []
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []  # Whoever reads it as a pack says what is wrong with it.


def _source(path: Path) -> Source:
    size = path.stat().st_size
    return Source(str(path), size, sha256_of(path) if size <= _SMALL else "")


def absent(wanted: Iterable[Source]) -> list[Source]:
    """Those that are not on this machine. Raises UsageError for one that is, with other contents."""
    found = []
    for source in wanted:
        path = Path(source.path)
        if not path.exists():
            found.append(source)
        elif path.stat().st_size != source.size or (source.sha256 and sha256_of(path) != source.sha256):
            do = "Make them the same, or put it where every machine sees the same file"
            raise UsageError("another file has this name here", where=source.path, do=do)
    return found


def place(wanted: Iterable[Source], contents: Callable[[Source], Iterator[bytes]]) -> list[Source]:
    """Put the files that are absent here at their paths, each whole or not at all; gives those that it put there.

    One process of a machine does so at a time, so that each file comes once. contents: gives a file in pieces.
    Raises UsageError when a path cannot be written.
    """
    with _alone():
        wanted = absent(wanted)
        for source in wanted:
            _place(source, contents(source))
    return wanted


def _place(source: Source, pieces: Iterator[bytes]) -> None:
    target, temporary = Path(source.path), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".placing-")
        with os.fdopen(handle, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        what, do = f"could not be copied to this machine: {reason}", "Put it where every machine of the cluster sees it"
        raise UsageError(what, where=source.path, do=do) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Inside, no other process of this user on this machine places files."""
    path = Path(tempfile.gettempdir()) / f"spillover-placing-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"
    with path.open("a") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
