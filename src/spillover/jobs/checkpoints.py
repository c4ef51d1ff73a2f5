"""Checkpoints of an unfinished run: all it needs to go on, whole or not at all, the last two, for 5% of its time."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spillover.jobs.output import CHECKPOINTS
from spillover.record import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

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
        from spillover.llm.weights.saving import save_tensors

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
