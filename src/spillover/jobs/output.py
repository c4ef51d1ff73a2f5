"""An output folder belongs to one run, and to one process at a time: the same command finds it, another is refused."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from spillover.errors import RunError
from spillover.record import RECORD, Record, unwritable

try:
    import fcntl
except ImportError:  # Windows has no such locks; there, nothing keeps two processes apart.
    fcntl = None  # type: ignore[assignment]

#: Seconds in which a worker whose study was killed has followed it, and let go of its run.
GRACE = 3.0
LOCK, CHECKPOINTS = ".lock", "checkpoints"
#: What a killed process may leave of a file or model that it was writing.
_LEFT = re.compile(r"\.saving-.*|\.(record\.json|page\.html|\w+\.parquet)\.[a-z0-9_]{8}")


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
        # A run that was cut short is taken up again; nothing in the folder is another run's.
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


def times_taken_up(folder: Path) -> int:
    """How often the run in a claimed folder will have been taken up unfinished when it is taken up now."""
    if not (folder / RECORD).exists():
        return 0
    record = Record.read(folder)
    return record.resumed + (record.status != "done")


@contextmanager
def claimed(folder: Path, command: str, identity: str) -> Iterator[Record | None]:
    """`claim_folder`, and inside no other process works on this run. Raises RunError when one does already."""
    if (finished := claim_folder(folder, command, identity)) is not None:
        # A kill may have come between the last word of the run and the removal of what it needs no more.
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        with suppress(OSError):
            (folder / LOCK).unlink()
        yield finished
        return
    with held(folder):
        # Asked again: another process may have finished it just before.
        yield claim_folder(folder, command, identity)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside, this process holds the folder; the system lets go of it when the process ends, however it ends.

    What a killed process left half-written is removed first.
    Raises RunError that names the process which holds it, or when the folder cannot be written.
    """
    path = folder / LOCK
    handle = _locked(path)
    try:
        for entry in folder.iterdir():
            if _LEFT.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):
            # Not the file of another process, which took this one for dead.
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                path.unlink()
        os.close(handle)


def let_go(folder: Path, patience: float) -> None:
    """Free the runs in `folder` of a holder whose machine is known to be gone.

    The lock goes with the process, but a file system on a network may keep that of a machine that died for a while, or
    for ever: after `patience` seconds, the file makes way for a new one.
    """
    deadline = time.monotonic() + patience
    for path in [folder / LOCK, *folder.glob(f"seed-*/{LOCK}")]:
        while _is_locked(path):
            if time.monotonic() > deadline:
                path.unlink(missing_ok=True)
                break
            time.sleep(0.2)


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(handle)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _locked(path: Path) -> int:
    """A handle of the file, locked, and in the file who holds it."""
    deadline = time.monotonic() + GRACE
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            _lock(handle)
            # Who held it before may have removed the file that was opened here.
            if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
                since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}, since {since}".encode())
                return handle
        except BlockingIOError:
            holder = os.read(handle, 500).decode(errors="replace") or "one that has just begun"
            os.close(handle)
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            what = f"another process is at work on this run: {holder}"
            raise RunError(what, where=str(path.parent), do="Wait until it is done, or stop it") from None
        except OSError as error:
            os.close(handle)
            raise unwritable(path, error) from None
        os.close(handle)


def _lock(handle: int) -> None:
    """Raises BlockingIOError when another process has locked the file."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # A file system that knows no locks keeps nobody apart, and is no reason not to work.
        return
