"""The Ray engine: cells run on every node of a Ray cluster. A cell whose node dies goes on, on another."""

from __future__ import annotations

import dataclasses
import os
import platform
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.commands.pool import GRACE, Ended, Task, WorkerProcess, calm
from spillover.errors import SpilloverError, UsageError
from spillover.record import hardware, sha256_of, versions
from spillover.runs import LOCK, release

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


#: Packages on which the bytes of a run depend, or that must agree for checkpoints to be of use on another node.
_PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Seconds that a file system on a network may need to notice that a node which held a lock is gone.
_PATIENCE = 120.0


@dataclass(frozen=True)
class WorkFolder:
    """Where a study was started: its working and its own folder, what its lock says, package versions, its files."""

    working: str
    folder: str
    lock: str
    versions: Mapping[str, str]
    sources: tuple[Source, ...]


def home(folder: Path, sources: list[Source]) -> WorkFolder:
    """This process's; it holds `folder`."""
    folder = folder.absolute()
    lock = (folder / LOCK).read_text(encoding="utf-8")
    return WorkFolder(os.getcwd(), str(folder), lock, versions(_PACKAGES), tuple(sources))


@dataclass(frozen=True)
class Seen:
    """What a worker's node is called, why it is of no use (a sentence, or nothing), and the files that it lacks."""

    node: str
    refusal: str = ""
    absent: tuple[Source, ...] = ()


class NodeWorker:
    """An actor; `stop` is called while `run` waits, and so must run beside it."""

    def __init__(self) -> None:
        self.hand: WorkerProcess | None = None

    def look(self, home: WorkFolder) -> Seen:
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
            release(Path(task.settings.out), _PATIENCE)
        if self.hand is None or not self.hand.process.is_alive():
            with calm():
                self.hand = WorkerProcess()
        self.hand.give(task)
        return self.hand.result()

    def stop(self) -> None:
        """Interrupt what runs, and give it time to write what it saw."""
        if self.hand is not None:
            self.hand.interrupt()
            deadline = time.monotonic() + GRACE
            while self.hand.task is not None and time.monotonic() < deadline:
                time.sleep(0.05)


def _refuse_other_versions(home: WorkFolder) -> None:
    here = versions(_PACKAGES)
    for name in (*home.versions, *here):
        ours, theirs = here.get(name, "none"), home.versions.get(name, "none")
        if ours != theirs:
            what = f"this node has {name} {ours}, and the study was started with {theirs}"
            raise UsageError(what, do="Install the same packages on every node")


def _refuse_other_folder(home: WorkFolder) -> None:
    try:
        same = (Path(home.folder) / LOCK).read_text(encoding="utf-8") == home.lock
    except OSError:
        same = False
    if not same:
        do = "Give an --out on a file system that every node shares"
        raise UsageError("this node does not see the study's folder", where=home.folder, do=do)


WHERE = "spillover sweep --engine ray"
#: How often a task is given to another worker after its own was lost.
_TRIES = 4
#: Seconds an address has to answer; between two counts of the nodes; after which waiting for room is told.
_ANSWER, _COUNT, _TELL = 5.0, 5.0, 20.0
#: Bytes of shared memory of a Ray that is started here (the least that it takes is 75 MiB), and of a piece of a file.
_STORE, _PIECE = 100 << 20, 32 << 20
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
#: What every HTTP/2 client begins with, an empty frame of settings behind it; a server of Ray's answers with its own.
_GREETING, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), 4


def run_ray(
    parts: Iterable[Iterable[Task]], folder: Path, *, address: str = "", processes: int = 0, threads: int = 1
) -> Iterator[Ended]:
    """Run tasks on a Ray cluster and give each as it ends; interrupted, the workers write what they saw.

    parts: as for run_local. folder: the study's, held by this process and seen by every node. address: HOST:PORT of
    the head node or `auto`; nothing starts Ray on this machine. processes: most workers; 0 takes all the cores.
    threads: cores a worker. Raises UsageError when Ray is not installed, does not answer, or has no node that can work.
    """
    with _connected(address) as ray:
        crew = _Crew(ray, folder, processes, threads)
        try:
            for part in parts:
                yield from crew.work(list(part))
        finally:
            crew.dismiss()


@dataclasses.dataclass(eq=False)
class _Worker:
    """A Seat somewhere, what is awaited of it, and its task if it has one.

    ready: it may be given one. refusal: why it never will be; it keeps its cores, so that the next one lands elsewhere.
    """

    actor: Any
    awaited: Any
    task: Task | None = None
    ready: bool = False
    refusal: str = ""


class _Crew:
    """The workers of a study on a cluster."""

    def __init__(self, ray: Any, folder: Path, processes: int, threads: int) -> None:
        self.ray, self.folder, self.processes, self.threads = ray, folder, processes, threads
        self.workers: list[_Worker] = []
        self.lost: dict[tuple[str, int | None], int] = {}
        self.failed: list[str] = []
        self.home: WorkFolder | None = None
        self.pieces: dict[str, list[Any]] = {}
        self.gpus, self.room, self.counted, self.idle_since = 0, 0, 0.0, time.monotonic()

    def work(self, tasks: list[Task]) -> Iterator[Ended]:
        """Run one part. Raises UsageError when no node can."""
        if not tasks:
            return
        self._settle(tasks)
        waiting = deque(self._settled(task) for task in tasks)
        while waiting or any(worker.task for worker in self.workers):
            self._recruit(len(waiting))
            for worker in self.workers:
                if worker.ready and worker.task is None and waiting:
                    self._give(worker, waiting.popleft())
            awaited = {worker.awaited: worker for worker in self.workers if worker.awaited is not None}
            done, _ = self.ray.wait(list(awaited), num_returns=1, timeout=1.0)
            for reference in done:
                if (ended := self._heard(awaited[reference], waiting)) is not None:
                    yield ended

    def dismiss(self) -> None:
        """End the workers; those that are still busy were interrupted, and are given time to write what they saw."""
        with suppress(self.ray.exceptions.RayError):
            busy = [worker.actor.stop.remote() for worker in self.workers if worker.task is not None]
            if busy:
                self.ray.wait(busy, num_returns=len(busy), timeout=GRACE + 5)
        for worker in self.workers:
            self._drop(worker)

    def _settle(self, tasks: list[Task]) -> None:
        """Once, before the first worker: what every node must have, and whether workers take a GPU each."""
        devices = {str(getattr(task.settings, "device", "")) for task in tasks}
        there = any(node["Resources"].get("GPU") for node in self._nodes())
        self.gpus = int(any(name.startswith("cuda") for name in devices) or ("auto" in devices and there))
        self.home = home(self.folder, sources(task.settings for task in tasks))

    def _settled(self, task: Task) -> Task:
        """The task with settings that mean the same on every node; its folder, which is no part of a run, in full."""
        settings, changes = task.settings, dict[str, Any]()
        if getattr(settings, "out", ""):
            changes["out"] = str(Path(settings.out).absolute())
        if getattr(settings, "threads", None) == 0:
            changes["threads"] = int(hardware()["cores"])
        if getattr(settings, "device", "") == "auto" and self.gpus:
            changes["device"] = "cuda"
        return dataclasses.replace(task, settings=dataclasses.replace(settings, **changes))

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _recruit(self, waiting: int) -> None:
        """Have as many workers as there is room and work for. Raises UsageError when none can work."""
        now = time.monotonic()
        if now - self.counted >= _COUNT or not self.workers:
            self.counted = now
            self.room = sum(self._room_on(node["Resources"]) for node in self._nodes())
        busy, useless = (sum(map(bool, each)) for each in (
            [worker.task for worker in self.workers], [worker.refusal for worker in self.workers]
        ))  # fmt: skip
        most = min(self.room or self.processes, (self.processes or self.room) + useless)
        if useless == len(self.workers) and (useless >= most or len(self.failed) >= _TRIES):
            self._give_up()
        if len(self.failed) < _TRIES:
            for _ in range(min(most, useless + busy + waiting) - len(self.workers)):
                options = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_concurrency": 2}
                actor = self.ray.remote(**options)(NodeWorker).remote()
                self.workers.append(_Worker(actor, actor.look.remote(self.home)))
        if any(worker.ready for worker in self.workers):
            self.idle_since = now
        elif now - self.idle_since > _TELL:
            print(f"Waiting for a node of the cluster with {self.threads} free cores.", file=sys.stderr)
            self.idle_since = float("inf")

    def _give_up(self) -> None:
        reasons = [worker.refusal for worker in self.workers if worker.refusal] + self.failed
        if reasons:
            raise UsageError(reasons[0], where=WHERE)
        what = f"no node of this cluster has {self.threads} cores" + (" and a GPU" if self.gpus else "")
        raise UsageError(what, where=WHERE, do="Set fewer `threads` in the study, or add nodes")

    def _room_on(self, resources: dict[str, float]) -> int:
        room = int(resources.get("CPU", 0) // self.threads)
        return min(room, int(resources.get("GPU", 0))) if self.gpus else room

    def _give(self, worker: _Worker, task: Task) -> None:
        worker.task = task
        worker.awaited = worker.actor.run.remote(task, task.key in self.lost)

    def _heard(self, worker: _Worker, waiting: deque[Task]) -> Ended | None:
        """What an awaited answer comes to: a task's end, or a step of a worker that gets ready, or its loss."""
        try:
            answer = self.ray.get(worker.awaited)
        except self.ray.exceptions.RayError as error:
            return self._lose(worker, error, waiting)
        worker.awaited = None
        if isinstance(answer, Ended):
            worker.task = None
            return answer
        seen: Seen = answer
        if seen.refusal:
            worker.refusal = f"{seen.node}: {seen.refusal}"
            print(f"A node is of no use. {worker.refusal}", file=sys.stderr)
        elif seen.absent:
            pieces = {source.path: self._put(source) for source in seen.absent}
            worker.awaited = worker.actor.place.remote(seen.absent, pieces)
        else:
            worker.ready, self.failed = True, []
        return None

    def _put(self, source: Source) -> list[Any]:
        """References to a file's pieces; the cluster's store holds them from the first node that asks."""
        if source.path not in self.pieces:
            with open(source.path, "rb") as stream:
                self.pieces[source.path] = [self.ray.put(piece) for piece in iter(lambda: stream.read(_PIECE), b"")]
        return self.pieces[source.path]

    def _lose(self, worker: _Worker, error: Exception, waiting: deque[Task]) -> Ended | None:
        """A worker is gone; its task is the next to be given to another, unless that happened too often."""
        task, reason = worker.task, _first_line(error)
        self._drop(worker)
        if task is None:
            self.failed.append(f"a worker could not be started: {reason}")
            return None
        self.lost[task.key] = self.lost.get(task.key, 0) + 1
        if self.lost[task.key] >= _TRIES:
            return Ended(task.key, 0.0, {}, f"its worker was lost {_TRIES} times; the last time: {reason}")
        print(f"{task.key[0]}: its worker was lost, another takes it up. ({reason})", file=sys.stderr)
        waiting.appendleft(task)
        return None

    def _drop(self, worker: _Worker) -> None:
        with suppress(Exception):
            self.ray.kill(worker.actor)
        if worker in self.workers:
            self.workers.remove(worker)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(getattr(error, "cause", None) or error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray's module, connected to the cluster at an address, or to a Ray that is started here and ends with this."""
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        what, do = "this needs ray, which is not installed here", 'Run `pip install "spillover[ray]"`'
        raise UsageError(what, where=WHERE, do=do) from None
    if address:
        _refuse_silent(address)
    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        options |= {
            "num_cpus": int(hardware()["cores"]), "object_store_memory": _STORE, "include_dashboard": False,
        }  # fmt: skip
    try:
        with _surroundings():
            ray.init(**options)
    except (Exception, SystemExit) as error:
        # Ray raises bare exceptions, and ends the process when a head node falls silent.
        reason = _first_line(error).split(". ")[0]
        if address:
            do = "Name the head node's HOST:PORT on a machine of the cluster, or leave --address out"
            raise UsageError(f"Ray could not be reached: {reason}", where=f"--address {address}", do=do) from None
        do = "Try again when this machine is less busy, or use --engine local"
        raise UsageError(f"Ray could not be started: {reason}", where=WHERE, do=do) from None
    try:
        # A thread of Ray's prints what befell its nodes.
        with redirect_stdout(sys.stderr):
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def _surroundings() -> Iterator[None]:
    """Inside, Ray reports nothing to its makers; what it changes of this process is changed back."""
    before, handler = {name: os.environ.get(name) for name in _QUIET}, signal.getsignal(signal.SIGTERM)
    os.environ.update(_QUIET)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _refuse_silent(address: str) -> None:
    """Raise UsageError unless a server answers at HOST:PORT as Ray's do; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if "://" in address or not host or not port.isdigit():
        do = "Give the head node's HOST:PORT, as `ray start --head` prints it, or auto"
        raise UsageError(f"{address!r} is no address of a Ray cluster", where="--address", do=do)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER) as stream:
            stream.sendall(_GREETING)
            answer = stream.recv(4)
        reason = "" if answer[3:] == bytes([_SETTINGS]) else "something else than Ray answers there"
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error) or "it does not answer").lower()
    if reason:
        do = "Check that `ray status` answers on that machine, or leave --address out to run on this one"
        raise UsageError(f"no Ray cluster answers: {reason}", where=f"--address {address}", do=do)
