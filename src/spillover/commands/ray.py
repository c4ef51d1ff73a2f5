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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.commands.pool import GRACE, Ended, Pool, Task, WorkerProcess, environment
from spillover.errors import SpilloverError, UsageError
from spillover.record import hardware, sha256_of, versions
from spillover.runs import LOCK, release

WHERE = "spillover sweep --engine ray"
#: Packages on which the bytes of a run depend, or that must agree for checkpoints to be of use on another node.
_PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Options that name what a run writes.
_WRITTEN = ("out", "junit", "json")
#: Bytes up to which two files of one size are told apart by their checksum, too; a larger one is a model's weights,
#: whose checksum every run records.
_SMALL = 1 << 24
#: Seconds that a file system on a network may need to notice that a node which held a lock is gone.
_LOCK_PATIENCE = 120.0
#: How often a task is given to another worker after its own was lost.
_TRIES = 4
#: Seconds an address has to answer; between two counts of the nodes; after which waiting for room is announced.
_ANSWER, _COUNT, _ANNOUNCE = 5.0, 5.0, 20.0
#: Bytes of shared memory of a Ray that is started here (the least that it takes is 75 MiB), and of a piece of a file.
_STORE, _PIECE = 100 << 20, 32 << 20
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
#: What every HTTP/2 client begins with, an empty frame of settings behind it; a server of Ray's answers with its own.
_GREETING, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), 4


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
    sizes = {path: path.stat().st_size for path in found}
    return [Source(str(path), size, sha256_of(path) if size <= _SMALL else "") for path, size in sizes.items()]


def _facts_of(path: Path) -> list[Path]:
    """The table of facts that a pack's file names, if it is a pack's file."""
    import yaml

    if path.suffix not in (".yaml", ".yml"):
        return []
    try:
        facts = path.parent / yaml.safe_load(path.read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []  # Whoever reads it as a pack says what is wrong with it.
    return [facts] if facts.is_file() else []


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


def stage(wanted: Iterable[Source], contents: Callable[[Source], Iterable[bytes]]) -> list[Source]:
    """Copy the files that are absent here to their paths, each whole or not at all; gives those that were copied.

    One process of a machine does so at a time, so that each file comes once. contents: gives a file in pieces.
    """
    import fcntl

    with (Path(tempfile.gettempdir()) / f"spillover-staging-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        copied = absent(wanted)
        for source in copied:
            target = Path(source.path)
            temporary = target.with_name(f".staging-{target.name}")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as stream:
                    stream.writelines(contents(source))
                temporary.replace(target)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                what = f"could not be copied to this machine: {(error.strerror or str(error)).lower()}"
                do = "Put it where every machine of the cluster sees it"
                raise UsageError(what, where=source.path, do=do) from None
    return copied


@dataclass(frozen=True)
class WorkFolder:
    """Where a study was started: its working and its own folder, what its lock says, package versions, its files."""

    working: str
    folder: str
    lock: str
    versions: Mapping[str, str]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class NodeReport:
    """What a worker's node is called, why it is of no use (a sentence, or nothing), and the files that it lacks."""

    node: str
    refusal: str = ""
    absent: tuple[Source, ...] = ()


class NodeWorker:
    """The actor on a node; `stop` is called while `run` waits, and so must run beside it."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None

    def look(self, work: WorkFolder) -> NodeReport:
        """Whether runs of the study may be made here, with the same bytes."""
        try:
            here = versions(_PACKAGES)
            for name in (*work.versions, *here):
                ours, theirs = here.get(name, "none"), work.versions.get(name, "none")
                if ours != theirs:
                    what = f"this node has {name} {ours}, and the study was started with {theirs}"
                    raise UsageError(what, do="Install the same packages on every node")
            Path(work.working).mkdir(parents=True, exist_ok=True)
            os.chdir(work.working)
            lock = Path(work.folder) / LOCK
            if not lock.is_file() or lock.read_text(encoding="utf-8") != work.lock:
                do = "Give an --out on a file system that every node shares"
                raise UsageError("this node does not see the study's folder", where=work.folder, do=do)
            return NodeReport(platform.node(), absent=tuple(absent(work.sources)))
        except SpilloverError as error:
            return NodeReport(platform.node(), str(error))
        except OSError as error:
            return NodeReport(platform.node(), f"{work.working}: {(error.strerror or str(error)).lower()}.")

    def stage(self, wanted: Sequence[Source], pieces: Mapping[str, Any]) -> NodeReport:
        """Copy files here that this node lacks. pieces: path -> references to what the cluster's store holds."""
        import ray

        try:
            stage(wanted, lambda source: map(ray.get, pieces[source.path]))
        except SpilloverError as error:
            return NodeReport(platform.node(), str(error))
        return NodeReport(platform.node())

    def run(self, task: Task, taken_over: bool) -> Ended:
        """Run one task. taken_over: whether a worker that is gone had it before."""
        if taken_over and getattr(task.settings, "out", None):
            release(Path(task.settings.out), _LOCK_PATIENCE)
        if self.worker is None or not self.worker.process.is_alive():
            self.worker = WorkerProcess()
        self.worker.start(task)
        return self.worker.result()

    def stop(self) -> None:
        """Interrupt what runs, and give it time to write what it saw."""
        if self.worker is not None:
            self.worker.interrupt()
            deadline = time.monotonic() + GRACE
            while self.worker.task is not None and time.monotonic() < deadline:
                time.sleep(0.05)


@dataclass(eq=False)
class _RemoteWorker:
    """A NodeWorker somewhere, what is awaited of it, and its task if it has one.

    ready: it may be given one. refusal: why it never will be; it keeps its cores, so that the next one lands elsewhere.
    """

    actor: Any
    awaited: Any
    task: Task | None = None
    ready: bool = False
    refusal: str = ""


@contextmanager
def ray_pool(folder: Path, *, address: str = "", processes: int = 0, threads: int = 1) -> Iterator[RayPool]:
    """Workers on a Ray cluster, or with no address on a Ray that is started here.

    folder: the study's, held by this process and seen by every node. processes: most workers; 0 takes all the cores.
    threads: cores a worker. Raises UsageError when Ray is not installed, does not answer, or has no node that can work.
    """
    with _connected(address) as ray, RayPool(ray, folder, processes, threads) as pool:
        yield pool


class RayPool(Pool):
    """The workers of a study on a cluster."""

    def __init__(self, ray: Any, folder: Path, processes: int, threads: int) -> None:
        super().__init__()
        self.ray, self.folder, self.processes, self.threads = ray, folder, processes, threads
        self.workers: list[_RemoteWorker] = []
        self.lost: dict[tuple[str, int | None], int] = {}
        self.failed: list[str] = []
        self.work: WorkFolder | None = None
        self.pieces: dict[str, list[Any]] = {}
        self.gpus, self.room, self.counted, self.idle_since = 0, 0, 0.0, time.monotonic()

    def ends(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        if tasks and self.work is None:
            self._prepare(tasks)
        waiting = deque(self._for_nodes(task) for task in tasks)
        while waiting or any(worker.task for worker in self.workers):
            self._recruit(len(waiting))
            for worker in self.workers:
                if worker.ready and worker.task is None and waiting:
                    worker.task = waiting.popleft()
                    worker.awaited = worker.actor.run.remote(worker.task, worker.task.key in self.lost)
            awaited = {worker.awaited: worker for worker in self.workers if worker.awaited is not None}
            done, _ = self.ray.wait(list(awaited), num_returns=1, timeout=1.0)
            for reference in done:
                if (ended := self._answer(awaited[reference], waiting)) is not None:
                    yield ended

    def stop(self) -> None:
        with suppress(self.ray.exceptions.RayError):
            busy = [worker.actor.stop.remote() for worker in self.workers if worker.task is not None]
            if busy:
                self.ray.wait(busy, num_returns=len(busy), timeout=GRACE + 5)
        for worker in list(self.workers):
            self._drop(worker)

    def _prepare(self, tasks: Sequence[Task]) -> None:
        """Before the first worker: what every node must have, and whether workers take a GPU each."""
        devices = {str(getattr(task.settings, "device", "")) for task in tasks}
        there = any(resources.get("GPU") for resources in self._resources())
        self.gpus = int(any(name.startswith("cuda") for name in devices) or ("auto" in devices and there))
        folder = self.folder.absolute()
        lock, files = (folder / LOCK).read_text(encoding="utf-8"), sources(task.settings for task in tasks)
        self.work = WorkFolder(os.getcwd(), str(folder), lock, versions(_PACKAGES), tuple(files))

    def _for_nodes(self, task: Task) -> Task:
        """The task with settings that mean the same on every node; its folder, which is no part of a run, in full."""
        settings, changes = task.settings, dict[str, Any]()
        if getattr(settings, "out", ""):
            changes["out"] = str(Path(settings.out).absolute())
        if getattr(settings, "threads", None) == 0:
            changes["threads"] = int(hardware()["cores"])
        if getattr(settings, "device", "") == "auto" and self.gpus:
            changes["device"] = "cuda"
        return dataclasses.replace(task, settings=dataclasses.replace(settings, **changes))

    def _resources(self) -> list[Mapping[str, float]]:
        """What every node that is alive has."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _recruit(self, waiting: int) -> None:
        """Have as many workers as there is room and work for. Raises UsageError when none can work."""
        now = time.monotonic()
        if now - self.counted >= _COUNT or not self.workers:
            self.counted = now
            needed = {"CPU": self.threads, **({"GPU": 1} if self.gpus else {})}
            rooms = [[each.get(name, 0) // count for name, count in needed.items()] for each in self._resources()]
            self.room = int(sum(map(min, rooms)))
        busy = sum(worker.task is not None for worker in self.workers)
        useless = sum(bool(worker.refusal) for worker in self.workers)
        most = min(self.room or self.processes, (self.processes or self.room) + useless)
        if useless == len(self.workers) and (useless >= most or len(self.failed) >= _TRIES):
            reasons = [worker.refusal for worker in self.workers if worker.refusal] + self.failed
            if reasons:
                raise UsageError(reasons[0], where=WHERE)
            what = f"no node of this cluster has {self.threads} cores" + (" and a GPU" if self.gpus else "")
            raise UsageError(what, where=WHERE, do="Set fewer `threads` in the study, or add nodes")
        if len(self.failed) < _TRIES:
            for _ in range(min(most, useless + busy + waiting) - len(self.workers)):
                options = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_concurrency": 2}
                actor = self.ray.remote(**options)(NodeWorker).remote()
                self.workers.append(_RemoteWorker(actor, actor.look.remote(self.work)))
        if any(worker.ready for worker in self.workers):
            self.idle_since = now
        elif now - self.idle_since > _ANNOUNCE:
            print(f"Waiting for a node of the cluster with {self.threads} free cores.", file=sys.stderr)
            self.idle_since = float("inf")

    def _answer(self, worker: _RemoteWorker, waiting: deque[Task]) -> Ended | None:
        """Read an awaited answer: a task's end, or a step of a worker that gets ready, or its loss."""
        try:
            answer: Ended | NodeReport = self.ray.get(worker.awaited)
        except self.ray.exceptions.RayError as error:
            return self._lose(worker, error, waiting)
        worker.awaited = None
        if isinstance(answer, Ended):
            worker.task = None
            return answer
        if answer.refusal:
            worker.refusal = f"{answer.node}: {answer.refusal}"
            print(f"A node is of no use. {worker.refusal}", file=sys.stderr)
        elif answer.absent:
            pieces = {source.path: self._in_store(source.path) for source in answer.absent}
            worker.awaited = worker.actor.stage.remote(answer.absent, pieces)
        else:
            worker.ready, self.failed = True, []
        return None

    def _in_store(self, path: str) -> list[Any]:
        """References to a file's pieces; the cluster's store holds them from the first node that asks."""
        if path not in self.pieces:
            with open(path, "rb") as stream:
                self.pieces[path] = [self.ray.put(piece) for piece in iter(lambda: stream.read(_PIECE), b"")]
        return self.pieces[path]

    def _lose(self, worker: _RemoteWorker, error: Exception, waiting: deque[Task]) -> Ended | None:
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

    def _drop(self, worker: _RemoteWorker) -> None:
        with suppress(Exception):
            self.ray.kill(worker.actor)
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
    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if address:
        _refuse_silent(address)
    else:
        options |= {"num_cpus": hardware()["cores"], "object_store_memory": _STORE, "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with environment(_QUIET):
            ray.init(**options)
    except (Exception, SystemExit) as error:
        # Ray raises bare exceptions, and ends the process when a head node falls silent.
        reason = _first_line(error).split(". ")[0]
        if address:
            do = "Name the head node's HOST:PORT on a machine of the cluster, or leave --address out"
            raise UsageError(f"Ray could not be reached: {reason}", where=f"--address {address}", do=do) from None
        do = "Try again when this machine is less busy, or use --engine local"
        raise UsageError(f"Ray could not be started: {reason}", where=WHERE, do=do) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        # A thread of Ray's prints what befell its nodes.
        with redirect_stdout(sys.stderr):
            yield ray
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raise UsageError unless a server answers at HOST:PORT as Ray's do; Ray itself would wait for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        do = "Give the head node's HOST:PORT, as `ray start --head` prints it, or auto"
        raise UsageError(f"{address!r} is no address of a Ray cluster", where="--address", do=do)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER) as stream:
            stream.sendall(_GREETING)
            reason = "" if stream.recv(4)[3:] == bytes([_SETTINGS]) else "something else than Ray answers there"
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or str(error) or "it does not answer").lower()
    if reason:
        do = "Check that `ray status` answers on that machine, or leave --address out to run on this one"
        raise UsageError(f"no Ray cluster answers: {reason}", where=f"--address {address}", do=do)
