"""What stands on a node of a cluster for one worker there: it looks around first, then has tasks run in a process."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.errors import SpilloverError, UsageError
from spillover.jobs.engines import Ended, Task
from spillover.jobs.engines.placing import Source, absent, place
from spillover.jobs.engines.process import GRACE, Hand, calm
from spillover.jobs.output import LOCK, let_go
from spillover.record import versions

#: Packages on which the bytes of a run depend, or that must agree for checkpoints to be of use on another node.
_PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Seconds that a file system on a network may need to notice that a node which held a lock is gone.
_PATIENCE = 120.0


@dataclass(frozen=True)
class Home:
    """Where a study was started: its working and its own folder, what its lock says, package versions, its files."""

    working: str
    folder: str
    lock: str
    versions: Mapping[str, str]
    sources: tuple[Source, ...]


def home(folder: Path, sources: list[Source]) -> Home:
    """This process's; it holds `folder`."""
    folder = folder.absolute()
    lock = (folder / LOCK).read_text(encoding="utf-8")
    return Home(os.getcwd(), str(folder), lock, versions(_PACKAGES), tuple(sources))


@dataclass(frozen=True)
class Seen:
    """What a worker's node is called, why it is of no use (a sentence, or nothing), and the files that it lacks."""

    node: str
    refusal: str = ""
    absent: tuple[Source, ...] = ()


class Seat:
    """An actor; `stop` is called while `run` waits, and so must run beside it."""

    def __init__(self) -> None:
        self.hand: Hand | None = None

    def look(self, home: Home) -> Seen:
        """Whether runs of the study at home may be made here, with the same bytes."""
        try:
            _refuse_other_versions(home)
            Path(home.working).mkdir(parents=True, exist_ok=True)
            os.chdir(home.working)
            _refuse_other_folder(home)
            return Seen(platform.node(), absent=tuple(absent(home.sources)))
        except SpilloverError as error:
            return Seen(platform.node(), str(error))
        except OSError as error:
            return Seen(platform.node(), f"{home.working}: {(error.strerror or str(error)).lower()}.")

    def place(self, wanted: tuple[Source, ...], pieces: Mapping[str, Any]) -> Seen:
        """Put files here that this node lacks. pieces: path -> references to what the cluster's store holds of it."""
        import ray

        def contents(source: Source) -> Iterator[bytes]:
            return (ray.get(reference) for reference in pieces[source.path])

        try:
            place(wanted, contents)
        except SpilloverError as error:
            return Seen(platform.node(), str(error))
        return Seen(platform.node())

    def run(self, task: Task, taken_over: bool) -> Ended:
        """Run one task. taken_over: whether a worker that is gone had it before."""
        if taken_over and getattr(task.settings, "out", None):
            let_go(Path(task.settings.out), _PATIENCE)
        if self.hand is None or not self.hand.process.is_alive():
            with calm():
                self.hand = Hand()
        self.hand.give(task)
        return self.hand.result()

    def stop(self) -> None:
        """Interrupt what runs, and give it time to write what it saw."""
        if self.hand is not None:
            self.hand.interrupt()
            deadline = time.monotonic() + GRACE
            while self.hand.task is not None and time.monotonic() < deadline:
                time.sleep(0.05)


def _refuse_other_versions(home: Home) -> None:
    here = versions(_PACKAGES)
    for name in (*home.versions, *here):
        ours, theirs = here.get(name, "none"), home.versions.get(name, "none")
        if ours != theirs:
            what = f"this node has {name} {ours}, and the study was started with {theirs}"
            raise UsageError(what, do="Install the same packages on every node")


def _refuse_other_folder(home: Home) -> None:
    try:
        same = (Path(home.folder) / LOCK).read_text(encoding="utf-8") == home.lock
    except OSError:
        same = False
    if not same:
        do = "Give an --out on a file system that every node shares"
        raise UsageError("this node does not see the study's folder", where=home.folder, do=do)
