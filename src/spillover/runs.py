"""One life of a run: its folder is claimed, locked, recorded, checkpointed, resumed and finished."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from spillover import record as records
from spillover.config import WORDING
from spillover.details import CheckpointsWritten
from spillover.errors import RunError
from spillover.record import RECORD, SCHEMA_VERSION, Record, State, identity, save_tensors, sha256_of, versions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from tqdm import tqdm

#: Seconds in which a worker whose study was killed has followed it, and let go of its run.
GRACE = 3.0
LOCK, CHECKPOINTS = ".lock", "checkpoints"
#: What a killed process may leave of a file or model that it was writing.
_LEFT = re.compile(r"\.saving-.*|\.(record\.json|page\.html|\w+\.parquet)\.[a-z0-9_]{8}")
#: What a file system says that knows no locks. There, nothing keeps two processes apart.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
#: The version since which equal settings give equal runs: raised with what they give, and not with every release.
SINCE = "0.1.0"
#: Options that came after schema 2, with the value at which a run is what it was without them, and so has its identity.
LATER = {"max_forgetting": 0.5, "train_prompts": 1, "hold_out": False, "minutes": 0.0, "ask_again": False,
         "all_remedies": False, "hold_out_relation": ""}  # fmt: skip


def identity_of(settings: DataclassInstance, *ignored: str, **more: object) -> str:
    """What two commands of one run have in common: every setting but `ignored` and those of LATER that have their value
    there, the version, the schema, `more`. How a chat is written counts as the prompts that it gives, which are in
    `more`."""
    ignored = ("out", "json", "browse", *WORDING, *ignored)
    every = dataclasses.asdict(settings).items()
    values = {name: value for name, value in every if name not in ignored and LATER.get(name, ...) != value}
    return identity({**values, **more, "schema": SCHEMA_VERSION, "version": SINCE})


class OpenRun:
    """A run whose folder this process holds until it lets go of it, or one without a folder, which leaves nothing.

    begun: the record that was here before, or None. finished: the same, if it says that there is nothing to do. record:
    the finished one, or the one that `recording` gives. resumed: how often the run was resumed, this time included.
    seconds_before: time that the run took before this process, or before `recording`.
    """

    record: Record

    def __init__(
        self, folder: Path | None, command: str, identity: str,
        made_from: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:  # fmt: skip
        self.folder, self.command, self.identity, self.made_from = folder, command, identity, made_from
        self.begun: Record | None = None
        self.finished: Record | None = None
        self.checkpoints: Checkpoints | None = None
        self.resumed, self.seconds_before, self._began = 0, 0.0, time.monotonic()

    @property
    def hashes(self) -> dict[str, str]:
        """Of what the run is made from, as it is now; without what is unknown."""
        return {name: sha256 for name, sha256 in self.made_from().items() if sha256}

    @property
    def seconds(self) -> float:
        """Time taken so far, with that before the last kill as far as a checkpoint knows it."""
        return self.seconds_before + time.monotonic() - self._began

    @contextmanager
    def recording(
        self, settings: DataclassInstance | Mapping[str, object], packages: Sequence[str], **fields: Any
    ) -> Iterator[Record]:
        """Inside, the record says `running`; afterwards it says how the run ended, and checkpoints of a done run go."""
        values = settings if isinstance(settings, Mapping) else dataclasses.asdict(settings)
        self.record = record = Record(
            command=self.command, settings=values, identity=self.identity, resumed=self.resumed,
            versions=versions(packages), commit=records.commit(), hardware=records.hardware(), **fields,
        )  # fmt: skip
        self._began = time.monotonic()
        self.write()
        try:
            yield record
            record.status = "done"
        except BaseException as error:
            record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            record.seconds = round(self.seconds, 2)
            if made := self.checkpoints:
                record.details.checkpoints = CheckpointsWritten(written=made.written, seconds=round(made.seconds, 3))
            self.write()
        if self.checkpoints:
            shutil.rmtree(self.checkpoints.folder, ignore_errors=True)

    def write(self) -> None:
        """Write the record as it is, if there is a folder."""
        if self.folder is not None:
            self.record.write(self.folder)

    def resume(self, patience: float) -> State | None:
        """The newest checkpoint of the run being recorded, if there is one; says so. patience: see `Checkpoints`."""
        assert self.folder is not None
        # One of another version, model or pack would end in numbers that neither gives alone.
        key = identity({"identity": self.identity, "hashes": self.record.hashes, "versions": self.record.versions})
        self.checkpoints = Checkpoints(self.folder, key, patience)
        state = self.checkpoints.newest()
        if state is not None:
            self.seconds_before = float(state.facts["seconds"])
            say(f"Going on behind step {state.step} of the run in {self.folder}.")
        return state

    def keep(self, size: int, state: Callable[[], State], **facts: object) -> None:
        """Write a checkpoint, of about `size` bytes, if one is due; `facts` are added to those of the state."""
        if self.checkpoints is not None and self.checkpoints.due(size):
            made = state()
            self.checkpoints.write(State(made.step, made.tensors, {**facts, **made.facts, "seconds": self.seconds}))


@contextmanager
def open_run(
    folder: Path | str | None, command: str, identity: str, *, whole: Callable[[Record], bool] = lambda record: True,
    made_from: Callable[[], Mapping[str, str | None]] = dict, silent: bool = False,
) -> Iterator[OpenRun]:  # fmt: skip
    """Claim `folder` for a run of this identity; inside, no other process works on it. Says when it is finished.

    whole: whether a record that says `done` is all of the run. made_from: hashes of facts and weights as they are now,
    by their names in the record, None where unknown. Raises RunError for a finished run of others, and as
    `claim_folder` and `locked` do.
    """
    run = OpenRun(Path(folder).expanduser() if folder else None, command, identity, made_from)
    if run.folder is None:
        yield run
        return
    own = run.folder

    def finished() -> bool:
        run.begun = begun = claim_folder(own, command, identity)
        run.resumed = begun.resumed + (begun.status != "done") if begun else 0
        if begun is not None and begun.status == "done" and whole(begun):
            refuse_changed(own, begun, run.hashes)
            run.finished = run.record = begun
        return run.finished is not None

    if not finished():
        with locked(own):
            # Another process may have finished it just before.
            if not finished():
                yield run
                return
    # A kill may have come after the record said `done` and before what the run no longer needs was removed.
    shutil.rmtree(own / CHECKPOINTS, ignore_errors=True)
    if (own / LOCK).exists():
        with suppress(RunError), locked(own):
            pass
    if not silent:
        say(f"Found this run finished in {own}; nothing was run.")
    yield run


def refuse_changed(folder: Path, record: Record, now: Mapping[str, str]) -> None:
    """Raises RunError when the facts or the weights that a run was made from are no longer what they were."""
    for name, sha256 in now.items():
        if record.hashes.get(name, sha256) != sha256:
            model = "model" if name == "model" else f"{name} model"
            changed = "the facts" if name.startswith("pack") else f"the weights of the {model}"
            what = f"this folder holds a run from before {changed} changed"
            raise RunError(what, where=str(folder), do="Choose another --out, or remove the folder")


def claim_folder(folder: Path, command: str, identity: str) -> Record | None:
    """Make `folder` ready for a run of this identity; its record, if it has begun before.

    Raises RunError when the folder holds another run or somebody's files, or cannot be written.
    """
    do = "Choose another --out"
    try:
        if folder.exists() and not folder.is_dir():
            raise RunError("this is a file, not a folder", where=str(folder), do=do)
        if (folder / RECORD).exists():
            record = Record.read(folder)
            if (record.command, record.identity) != (command, identity):
                raise RunError("this folder holds another run", where=str(folder), do=f"{do}, or remove the folder")
            return record
        if folder.is_dir() and any(not entry.name.startswith((".", "seed-")) for entry in folder.iterdir()):
            what = "this folder holds files that are not a run"
            raise RunError(what, where=str(folder), do="Choose a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise records.unwritable(folder, error) from None
    if not os.access(folder, os.W_OK):
        raise RunError("this folder cannot be written to", where=str(folder), do=do)
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, this process holds the folder; the system lets go of it when the process ends, however it ends.

    What a killed process left half-written is removed first. Raises RunError that names the process which holds it, or
    when the folder cannot be written.
    """
    path, lock = folder / LOCK, FileLock(folder / LOCK)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    holder = f"process {os.getpid()} on {platform.node()}, since {since}"
    try:
        lock.acquire(timeout=GRACE, poll_interval=0.1)
    except Timeout:
        found = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        what = f"another process is at work on this run: {found or 'one that has just begun'}"
        raise RunError(what, where=str(folder), do="Wait until it is done, or stop it") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise records.unwritable(path, error) from None
    try:
        path.write_text(holder, encoding="utf-8")
        for entry in folder.iterdir():
            if _LEFT.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):
            # Not the file of another process, which took this one for dead.
            if path.read_text(encoding="utf-8") == holder:
                path.unlink()
        lock.release()


def release(folder: Path, patience: float) -> None:
    """Free the runs in `folder` of a holder whose machine is known to be gone."""
    deadline = time.monotonic() + patience
    for path in [*folder.glob(LOCK), *folder.glob(f"seed-*/{LOCK}")]:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=0.2)
            lock.release()
        except Timeout:
            # A file system on a network may keep the lock of a dead machine for ever.
            path.unlink(missing_ok=True)


KEPT = 2
#: After a checkpoint, a run does its own work for at least this many times what the checkpoint took.
PATIENCE = 20.0
#: What the first checkpoint is expected to take: seconds, and bytes a second of a slow disk.
LEAST, SLOW = 0.05, 1e8
MANIFEST, TENSORS, FACTS = "manifest.json", "state.safetensors", "state.json"


class Checkpoints:
    """The checkpoints of the run in `folder`, in its folder `checkpoints`, while the run is not done.

    key: hash of everything that a checkpoint must have in common with the run that goes on from it. patience: how many
    times what the last one took to wait before the next; 0 writes one whenever asked. written, seconds: since resumed.
    """

    def __init__(self, folder: Path, key: str, patience: float = PATIENCE) -> None:
        self.folder, self.key, self.patience = folder / CHECKPOINTS, key, patience
        self.seconds, self.written = 0.0, 0
        self._cost, self._since, self._refused = 0.0, time.monotonic(), False

    def due(self, size: int) -> bool:
        """Whether the next checkpoint, of `size` bytes, may be written by now."""
        return time.monotonic() - self._since >= self.patience * (self._cost or LEAST + size / SLOW)

    def write(self, state: State) -> None:
        """Write one and remove all but the last two. A disk that refuses is announced once, and the run goes on."""
        began = time.monotonic()
        try:
            self.save(state)
            self._prune(KEPT)
            self.written += 1
        except OSError as error:
            if not self._refused:
                reason = (error.strerror or str(error)).lower()
                say(f"{self.folder}: no checkpoint can be written: {reason}. The run goes on without it.")
            self._refused = True
        self._since = time.monotonic()
        self._cost = self._since - began
        self.seconds += self._cost

    def newest(self) -> State | None:
        """The newest that is whole and fits this run, or nothing; whatever else a kill left there is removed."""
        found, used, every = None, None, self._all()
        for path in every:
            try:
                found, used = self._read(path), path
                break
            except (OSError, ValueError, KeyError, TypeError) as error:
                say(f"{path}: this checkpoint cannot be used: {error}.")
        if every and found is None:
            say("There is no other checkpoint; the run starts again from the beginning.")
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry != used:
                shutil.rmtree(entry, ignore_errors=True)
        return found

    def _all(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-" + "[0-9]" * 9), reverse=True)

    def _prune(self, kept: int) -> None:
        for path in self._all()[kept:]:
            shutil.rmtree(path)

    def save(self, state: State) -> None:
        """Write one as a folder, whole or not at all. Raises OSError when the disk refuses it."""
        self.folder.mkdir(exist_ok=True)
        if shutil.disk_usage(self.folder).free < state.size:
            self._prune(KEPT - 1)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".writing-", ignore_cleanup_errors=True) as made:
            tensors, facts, manifest = (Path(made) / name for name in (TENSORS, FACTS, MANIFEST))
            save_tensors({name: value.contiguous() for name, value in state.tensors.items()}, tensors)
            facts.write_text(json.dumps({"step": state.step, **state.facts}), encoding="utf-8")
            files = {path.name: sha256_of(path) for path in (tensors, facts)}
            # Last, so that a checkpoint with a manifest is a whole one.
            manifest.write_text(json.dumps({"key": self.key, "files": files}, indent=1), encoding="utf-8")
            for path in (tensors, facts, manifest):
                _to_disk(path)
            target = self.folder / f"step-{state.step:09d}"
            shutil.rmtree(target, ignore_errors=True)
            os.replace(made, target)
            _to_disk(self.folder)

    def _read(self, path: Path) -> State:
        """Raises ValueError for one that is damaged or another run's, KeyError or TypeError for a strange manifest."""
        from safetensors.torch import load_file

        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["key"] != self.key:
            raise ValueError("it was made by another version, or from another model or pack")
        for name in (TENSORS, FACTS):
            if sha256_of(path / name) != manifest["files"][name]:
                raise ValueError(f"{name} does not have the checksum that it was written with")
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        # The file is mapped into memory, so that its tensors take no room of their own.
        return State(facts.pop("step"), load_file(path / TENSORS), facts)


def _to_disk(path: Path) -> None:
    """Have a file or folder outlive a power cut; where a folder cannot be opened, its file system sees to that."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def say(sentence: str) -> None:
    """Tell the user on standard error."""
    print(sentence, file=sys.stderr, flush=True)


#: Seconds between two lines that say how far a long piece of work is, where no terminal shows a bar.
SELDOM = 30


def progress(name: str, total: int, unit: str, leave: bool = False) -> tqdm:
    """How far a long piece of work is, with the time that is left: on standard error, a bar on a terminal or in a
    notebook, and a line now and then elsewhere. leave: whether the bar stays when all is done."""
    from tqdm.auto import tqdm

    own: dict[str, Any] = {"total": total, "desc": name, "unit": unit, "leave": leave}
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return tqdm(**own, dynamic_ncols=True, smoothing=0.1, delay=1)
    line = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} gone, {remaining} left"
    return tqdm(**own, file=_Lines(), bar_format=line, mininterval=SELDOM, maxinterval=SELDOM, delay=SELDOM)


def watched(name: str) -> Callable[[int, int], None]:
    """What to call with how many questions of how many are answered; it shows them as `progress` does."""
    bar: tqdm | None = None

    def answered(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = progress(name, total, "answer")
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return answered


class _Lines:
    """Standard error for a bar that is no bar: each state is a line, and what moves the cursor is dropped."""

    def write(self, text: str) -> None:
        # Before the first step is done nobody knows how long it takes.
        if (line := text.strip("\r\n ")) and not line.endswith("? left"):
            say(line)

    def flush(self) -> None:
        """Nothing is held back."""
