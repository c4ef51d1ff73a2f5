"""One life of a run: its folder is claimed, locked, checkpointed, resumed and finished."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.errors import RunError
from spillover.record import RECORD, Record, save_tensors, sha256_of, unwritable

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows has no such locks; there, nothing keeps two processes apart.
    fcntl = None  # type: ignore[assignment]

#: Seconds in which a worker whose study was killed has followed it, and let go of its run.
GRACE = 3.0
LOCK, CHECKPOINTS = ".lock", "checkpoints"
#: What a killed process may leave of a file or model that it was writing.
_LEFT = re.compile(r"\.saving-.*|\.(record\.json|page\.html|\w+\.parquet)\.[a-z0-9_]{8}")


def identifying_settings(settings: Any, *quiet: str) -> dict[str, Any]:
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


def times_resumed(folder: Path) -> int:
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
    with locked(folder):
        # Asked again: another process may have finished it just before.
        yield claim_folder(folder, command, identity)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
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


def release(folder: Path, patience: float) -> None:
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


KEPT = 2
#: A checkpoint is followed by at least so many times what it took, in which the run does its own work.
PATIENCE = 20.0
#: What the first is expected to take, of which nothing is known yet: seconds, and bytes a second of a slow disk.
LEAST, SLOW = 0.05, 1e8
MANIFEST, TENSORS, FACTS = "manifest.json", "state.safetensors", "state.json"
NAMES = (TENSORS, FACTS)
_NAME = re.compile(r"step-(\d{9})")


@dataclass(frozen=True)
class State:
    """A run behind one of its steps. facts: whatever JSON holds exactly. Neither may hold what the run hides."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes on the disk, nearly."""
        return sum(value.nbytes for value in self.tensors.values())


class _Stored(Mapping[str, "Tensor"]):
    """The tensors of a file, each read when it is asked for: so that they take no room once they have been used."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self.path = path
        with safe_open(path, "pt") as stored:
            self.names = list(stored.keys())

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        if name not in self.names:
            raise KeyError(name)
        with safe_open(self.path, "pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Checkpoints:
    """The checkpoints of the run in `folder`, in its folder `checkpoints`, while the run is not done.

    key: the SHA-256 of everything that a checkpoint must have in common with the run that goes on from it. patience:
    how many times what the last one took to wait before the next; 0 writes one whenever asked. Whoever uses this holds
    the run's folder.
    """

    def __init__(self, folder: Path, key: str, patience: float = PATIENCE) -> None:
        self.folder, self.key, self.patience = folder / CHECKPOINTS, key, patience
        self.seconds, self.written = 0.0, 0
        self._cost, self._since, self._refused = 0.0, time.monotonic(), False

    def due(self, size: int) -> bool:
        """Whether the next checkpoint, of so many bytes, may be written by now."""
        cost = self._cost or LEAST + size / SLOW
        return time.monotonic() - self._since >= self.patience * cost

    def write(self, state: State) -> None:
        """Write one and remove all but the last two. A disk that refuses is told once, and the run goes on."""
        began = time.monotonic()
        try:
            self._write(state)
            self._prune(KEPT)
            self.written += 1
        except OSError as error:
            if not self._refused:
                reason = (error.strerror or str(error)).lower()
                _say(f"{self.folder}: no checkpoint can be written: {reason}. The run goes on without it.")
            self._refused = True
        self._since = time.monotonic()
        self._cost = self._since - began
        self.seconds += self._cost

    def newest(self) -> State | None:
        """The newest that is whole and fits this run, or nothing; whatever else a kill left there is removed."""
        found, used, useless = None, None, 0
        for path in self._all():
            try:
                found, used = self._read(path), path
                break
            except (OSError, ValueError, KeyError, TypeError) as error:
                _say(f"{path}: this checkpoint cannot be used: {error}.")
                useless += 1
        if useless and found is None:
            _say("There is no other checkpoint; the run starts again from the beginning.")
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry != used:
                shutil.rmtree(entry, ignore_errors=True)
        return found

    def remove(self) -> None:
        """The run is done, and needs none any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _at(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _all(self) -> list[Path]:
        """Newest first."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((entry for entry in entries if _NAME.fullmatch(entry.name)), reverse=True)

    def _prune(self, kept: int) -> None:
        for path in self._all()[kept:]:
            shutil.rmtree(path)

    def _write(self, state: State) -> None:
        self.folder.mkdir(exist_ok=True)
        if shutil.disk_usage(self.folder).free < state.size:
            self._prune(KEPT - 1)
        temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=".writing-"))
        try:
            save_tensors({name: value.contiguous() for name, value in state.tensors.items()}, temporary / TENSORS)
            (temporary / FACTS).write_text(json.dumps({"step": state.step, **state.facts}), encoding="utf-8")
            manifest = {"key": self.key, "files": {name: sha256_of(temporary / name) for name in NAMES}}
            for name in NAMES:
                _to_disk(temporary / name)
            # Last, so that a checkpoint with a manifest is a whole one.
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            _to_disk(temporary / MANIFEST)
            target = self._at(state.step)
            if target.exists():
                shutil.rmtree(target)
            os.replace(temporary, target)
            _to_disk(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _read(self, path: Path) -> State:
        """Raises ValueError for one that is damaged or another run's, KeyError or TypeError for a strange manifest."""
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["key"] != self.key:
            raise ValueError("it was made by another version, or from another model or pack")
        for name in NAMES:
            if sha256_of(path / name) != manifest["files"][name]:
                raise ValueError(f"{name} does not have the checksum that it was written with")
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        return State(facts.pop("step"), _Stored(path / TENSORS), facts)


def _to_disk(path: Path) -> None:
    """Have a file or folder outlive a power cut; where a folder cannot be opened, its file system sees to that."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
