"""Pools of workers that run the cells of a study: processes on this machine, or tasks on every node of a Ray cluster.

A cell whose node dies goes on, on another.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import multiprocessing
import os
import platform
import signal
import socket
import sys
import tempfile
import threading
import time
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import yaml
from filelock import FileLock

import spillover
from spillover import commands
from spillover.commands.prepare import Models
from spillover.errors import SpilloverError, UsageError, first_line, heard
from spillover.record import COMMIT, commit, hardware, sha256_of, versions
from spillover.runs import LOCK, progress, release

#: Of a worker, before it loads a library that computes: threads of one process spin while they wait for each other,
#: which starves the processes beside it.
WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
#: What a server loads once for all the workers that are forked from it. Nothing here may touch a GPU.
PRELOADED = ["torch", "transformers.modeling_utils", "spillover.lm.fine_tune"]
#: Seconds that interrupted workers have to write what they saw.
GRACE = 30
#: Of a run: its cell, and its seed or None.
Key = tuple[str, int | None]


@dataclass(frozen=True)
class Task:
    """One run of a cell: settings of the verb with seed and folder filled in."""

    key: Key
    verb: str
    settings: Any


@dataclass(frozen=True)
class Ended:
    """What became of a task: `error` is a sentence, or nothing when it is done; `outcome` what the verb gave."""

    key: Key
    seconds: float
    outcome: dict[str, Any]
    error: str = ""


def run_task(task: Task, models: Models) -> Ended:
    """Run one task; any failure but an interrupt becomes a sentence. models: what a run leaves for the next one."""
    began, outcome, error = time.monotonic(), dict[str, Any](), ""
    job = commands.job(task.verb)
    try:
        outcome = job(task.settings, models) if task.verb == "inject" else job(task.settings)
    except SpilloverError as mistake:
        error = str(mistake)
    except Exception as failure:
        error = f"{type(failure).__name__}: {(str(failure) or 'no message').splitlines()[0]}"
    return Ended(task.key, time.monotonic() - began, outcome, error)


def _context() -> Any:
    """How workers are started: forked from one server that has loaded the libraries, where that is safe."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context, before = multiprocessing.get_context("forkserver"), dict(os.environ)
    context.set_forkserver_preload(PRELOADED)
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


class WorkerProcess:
    """One worker process and the task that it runs."""

    def __init__(self) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, dict(os.environ)), daemon=True)
        # It needs nothing of the caller's script, and must not run it again.
        script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            self.process.start()
        finally:
            sys.modules["__main__"] = script
        theirs.close()
        self.task: Task | None = None

    def start(self, task: Task) -> None:
        self.task = task
        self.pipe.send(task)

    def interrupt(self) -> None:
        """Ask it to write what it saw and end, if it is at work."""
        if self.task is not None and self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)

    def result(self) -> Ended:
        """Wait for the end of its task; the death of the process ends the task with an error."""
        assert self.task is not None
        try:
            ended: Ended = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            ended = Ended(self.task.key, 0.0, {}, f"its process {how}; if memory is short, use fewer --processes")
        self.task = None
        return ended


def _work(pipe: Connection, environment: dict[str, str]) -> None:
    """The loop of a worker process, in the environment of the process that started it, not in that of the server."""
    # What the server loaded stays: it is shared with it, and never looked through for garbage again.
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment | WORKER_ENVIRONMENT)
    # Out of the terminal's reach: an interrupt comes once, from the parent, not twice; and is heard, which it would not
    # be when the parent was started deaf to it, as in a shell's background or by a cluster's daemon.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    models, told = Models(), _Told(sys.stderr)
    sys.stderr = told  # type: ignore[assignment]
    try:
        with heard(signal.SIGINT):
            while True:
                task = pipe.recv()
                told.name = task.key[0]
                pipe.send(run_task(task, models))
    except (EOFError, KeyboardInterrupt, OSError):
        return


class _Told(io.TextIOBase):
    """Standard error of a worker: every line begins with the name of its cell; it is no terminal, where several
    workers' bars would stand in one line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.name, self.begins = stream, "", True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self.stream.write(f"{self.name}: {line}" if self.begins else line)
            self.begins = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()


def _end_with_parent() -> None:
    """Wait for the death of the process that started this one, and follow it."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


class Pool(AbstractContextManager["Pool"]):
    """Runs tasks, one batch after another, and counts them on a bar. Leaving it ends the workers."""

    def __init__(self) -> None:
        self.bar = progress("runs", 0, "run", leave=True)

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Run a batch of tasks and give the end of each as it comes."""
        self.bar.total += len(tasks)
        self.bar.refresh()
        for ended in self.ends(tasks):
            self.bar.update()
            if ended.error:
                self.bar.write(f"{ended.key[0]}: {ended.error}", file=sys.stderr)
            yield ended

    @abstractmethod
    def ends(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Run the tasks; what `run` gives, without the bar."""

    @abstractmethod
    def stop(self) -> None:
        """End the workers. One that is busy is interrupted, and has some time to write what it saw."""

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.stop()


class LocalPool(Pool):
    """Worker processes on this machine, `processes` at the most."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self.processes = processes
        self.workers: list[WorkerProcess] = []

    def ends(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        waiting = deque(tasks)
        self._hand_out(waiting)
        while busy := {worker.pipe: worker for worker in self.workers if worker.task}:
            for pipe in wait(list(busy)):
                ended = busy[pipe].result()  # type: ignore[index]
                # The next one first: what is done with the outcome needs no worker.
                self._hand_out(waiting)
                yield ended

    def _hand_out(self, waiting: deque[Task]) -> None:
        """Give tasks to idle workers; a worker that died is replaced."""
        self.workers = [worker for worker in self.workers if worker.task or worker.process.is_alive()]
        while waiting and sum(worker.task is not None for worker in self.workers) < self.processes:
            idle = next((worker for worker in self.workers if worker.task is None), None)
            if idle is None:
                idle = WorkerProcess()
                self.workers.append(idle)
            idle.start(waiting.popleft())

    def stop(self) -> None:
        for worker in self.workers:
            worker.interrupt()
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()


WHERE = "spillover sweep --engine ray"
#: Packages on which the bytes of a run depend, or that must agree for checkpoints to be of use on another node.
_PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Options that name what a run writes.
_WRITTEN = ("out", "junit", "json")
#: Bytes up to which two files of one size are compared by their checksum, too; a larger one is a model's weights,
#: whose checksum every run records.
_SMALL = 1 << 24
#: How often a task is given to another worker after its own was lost.
_TRIES = 4
#: Seconds an address has to answer, between two counts of the nodes, and that a file system on a network may need to
#: notice that a node which held a lock is gone.
_ANSWER, _COUNT, _LOCK_PATIENCE = 5.0, 5.0, 120.0
#: Bytes of shared memory of a Ray that is started here (the least that it takes is 75 MiB), and of a piece of a file;
#: pieces that are read ahead of a slow node.
_STORE, _PIECE, _AHEAD = 100 << 20, 8 << 20, 4
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
#: What every HTTP/2 client begins with, an empty frame of settings behind it; a server of Ray's answers with its own.
_GREETING, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), 4


def sources(settings: Iterable[Any]) -> dict[str, str]:
    """Path -> size and checksum of every file that options of these settings name, that lies in a folder they name, or
    that holds the facts of a pack they name."""
    named = {
        value
        for each in settings
        for item in dataclasses.fields(each)
        if item.name not in _WRITTEN and isinstance(value := getattr(each, item.name), str) and value
    }
    found: list[Path] = []
    for name in sorted(named):
        with suppress(OSError, ValueError):
            path = Path(name).expanduser().absolute()
            inside = sorted(path.rglob("*")) if path.is_dir() else [path, *_facts_of(path)]
            found += [each for each in inside if each.is_file()]
    return {str(path): _contents(path) for path in found}


def _contents(path: Path) -> str:
    size = path.stat().st_size
    return f"{size} {sha256_of(path) if size <= _SMALL else ''}"


def _facts_of(path: Path) -> list[Path]:
    """The table of facts that a pack's file names; whoever reads the file as a pack says what is wrong with it."""
    with suppress(OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        if path.suffix in (".yaml", ".yml"):
            return [path.parent / yaml.safe_load(path.read_text(encoding="utf-8"))["facts"]]
    return []


def stage(wanted: Iterable[tuple[str, str]], pieces: Callable[[str], Iterable[bytes]]) -> list[str]:
    """Copy the files of `sources` that are absent here to their paths, each whole or not at all; gives their paths.

    pieces: gives a file's contents. Raises UsageError for a file with other contents, or one that cannot be written.
    """
    copied = []
    # One process of a machine at a time, so that each file comes once.
    with FileLock(Path(tempfile.gettempdir()) / f"spillover-staging-{os.getuid()}.lock"):
        for name, contents in wanted:
            path = Path(name)
            if path.exists():
                if _contents(path) != contents:
                    do = "Make them the same, or put it where every machine sees the same file"
                    raise UsageError("another file has this name here", where=name, do=do)
                continue
            temporary = path.with_name(f".staging-{path.name}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as stream:
                    stream.writelines(pieces(name))
                temporary.replace(path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                what = f"could not be copied to this machine: {(error.strerror or str(error)).lower()}"
                raise UsageError(what, where=name, do="Put it where every machine of the cluster sees it") from None
            copied.append(name)
    return copied


@dataclass(frozen=True)
class WorkFolder:
    """Where a study was started. home: Ray's name of the node. lock: what the lock of the study's folder says."""

    home: str
    working: str
    folder: str
    lock: str
    versions: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refused:
    """Why no run of the study can be made on a node, a sentence. node: its name in Ray."""

    node: str
    reason: str


def run_on_node(task: Task, work: WorkFolder, taken_over: bool) -> Ended | Refused:
    """Run one task in a worker process of Ray. taken_over: whether a worker that is gone had it before."""
    import ray

    # Where a daemon started this process, it would be deaf to the interrupt that `stop` sends.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        models = _models_in(work)
    except (SpilloverError, OSError) as error:
        reason = error if isinstance(error, SpilloverError) else f"{work.working}: {(error.strerror or error)}."
        return Refused(ray.get_runtime_context().get_node_id(), f"{platform.node()}: {reason}")
    if taken_over and getattr(task.settings, "out", None):
        release(Path(task.settings.out), _LOCK_PATIENCE)
    with heard(signal.SIGINT):
        return run_task(task, models)


@cache
def _models_in(work: WorkFolder) -> Models:
    """The models of this process, once runs of the study can be made here with the same bytes."""
    here, there = versions(_PACKAGES), dict(work.versions)
    for name in dict.fromkeys([*there, *here]):
        ours, theirs = here.get(name, "none"), there.get(name, "none")
        if ours != theirs:
            what = f"this node has {name} {ours}, and the study was started with {theirs}"
            raise UsageError(what, do="Install the same packages on every node")
    Path(work.working).mkdir(parents=True, exist_ok=True)
    os.chdir(work.working)
    lock = Path(work.folder) / LOCK
    if not lock.is_file() or lock.read_text(encoding="utf-8") != work.lock:
        do = "Give an --out on a file system that every node shares"
        raise UsageError("this node does not see the study's folder", where=work.folder, do=do)
    stage(work.sources, partial(from_home, work.home))
    return Models()


def from_home(node: str, path: str) -> Iterator[bytes]:
    """The contents of a file, which a task on the study's own node reads."""
    import ray

    here = {"label_selector": {"ray.io/node-id": node}, "_generator_backpressure_num_objects": _AHEAD}
    yield from map(ray.get, ray.remote(num_cpus=0)(_pieces).options(**here).remote(path))


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


@contextmanager
def ray_pool(folder: Path, *, address: str = "", processes: int = 0, threads: int = 1) -> Iterator[Pool]:
    """The tasks of a study on a Ray cluster, or with no address on a Ray that is started here.

    folder: the study's, seen by every node. processes: most tasks at once; 0 takes all cores. threads: cores a task.
    Raises UsageError when Ray is not installed, does not answer, or has no node that can work.
    """
    with _connected(address) as ray, RayPool(ray, folder, processes, threads) as pool:
        yield pool


class RayPool(Pool):
    """Tasks of Ray, each with its cores and perhaps a GPU.

    A lost task is started again here: Ray's own retries are silent, and never end when memory ran out.
    """

    def __init__(self, ray: Any, folder: Path, processes: int, threads: int) -> None:
        super().__init__()
        self.ray, self.folder, self.processes = ray, folder, processes
        self.needed = {"CPU": threads}
        self.running: dict[Any, Task] = {}
        self.lost: Counter[Key] = Counter()
        self.refused: dict[str, str] = {}
        self.remote: Any = None
        self.work: Any = None

    def ends(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        if tasks and self.remote is None:
            self._prepare(tasks)
        waiting = deque(tasks)
        while waiting or self.running:
            room = self._room()
            while waiting and len(self.running) < min(room, self.processes or room):
                self._start(waiting.popleft())
            done, _ = self.ray.wait(list(self.running), timeout=_COUNT)
            for reference in done:
                if (ended := self._answer(reference, waiting)) is not None:
                    yield ended

    def stop(self) -> None:
        with suppress(self.ray.exceptions.RayError):
            for reference in self.running:
                self.ray.cancel(reference)
            if self.running:
                self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE + 5)

    def _prepare(self, tasks: Sequence[Task]) -> None:
        """Before the first task: what every node must have, and whether each task takes a GPU."""
        ray, devices = self.ray, {str(getattr(task.settings, "device", "")) for task in tasks}
        if any(name.startswith("cuda") for name in devices) or ("auto" in devices and "GPU" in ray.cluster_resources()):
            self.needed["GPU"] = 1
        gpus, folder = self.needed.get("GPU", 0), self.folder.absolute()
        # A process keeps its model for the next run, but cannot change the GPU that it has once used.
        once = gpus and any(node["Resources"].get("GPU", 0) > 1 for node in ray.nodes())
        remote = ray.remote(num_cpus=self.needed["CPU"], num_gpus=gpus, max_retries=0, max_calls=int(once))
        self.remote = remote(run_on_node)
        self.work = ray.put(WorkFolder(
            home=ray.get_runtime_context().get_node_id(),
            working=os.getcwd(),
            folder=str(folder),
            lock=(folder / LOCK).read_text(encoding="utf-8"),
            versions=tuple(versions(_PACKAGES).items()),
            sources=tuple(sources(task.settings for task in tasks).items()),
        ))  # fmt: skip
        if ray.available_resources().get("CPU", 0) < self.needed["CPU"]:
            print(f"Waiting for a node of the cluster with {self.needed['CPU']} free cores.", file=sys.stderr)

    def _room(self) -> int:
        """How many tasks the nodes can hold. Raises UsageError when there is none that could."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["NodeID"] not in self.refused]
        each = [min(node["Resources"].get(name, 0) // count for name, count in self.needed.items()) for node in nodes]
        if not any(each) and not self.running:
            what = f"no node of this cluster has {self.needed['CPU']} cores" + " and a GPU" * ("GPU" in self.needed)
            do = "Set fewer `threads` in the study, or add nodes"
            raise UsageError(next(iter(self.refused.values()), what), where=WHERE, do="" if self.refused else do)
        return int(sum(each))

    def _start(self, task: Task) -> None:
        """Give a task to Ray, with settings that mean the same on every node."""
        changes: dict[str, Any] = {}
        if getattr(task.settings, "threads", None) == 0:
            changes["threads"] = int(hardware()["cores"])
        if getattr(task.settings, "device", "") == "auto" and "GPU" in self.needed:
            changes["device"] = "cuda"
        own = dataclasses.replace(task, settings=dataclasses.replace(task.settings, **changes))
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(self.refused)})"}} if self.refused else {}
        started = self.remote.options(**elsewhere).remote(own, self.work, task.key in self.lost)
        self.running[started] = task

    def _answer(self, reference: Any, waiting: deque[Task]) -> Ended | None:
        """How a task ended; or nothing, when it is the next to be started again elsewhere."""
        task = self.running.pop(reference)
        try:
            answer: Ended | Refused = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            reason = first_line(getattr(error, "cause", None) or error)
            self.lost[task.key] += 1
            if self.lost[task.key] == _TRIES:
                return Ended(task.key, 0.0, {}, f"its worker was lost {_TRIES} times; the last time: {reason}")
            print(f"{task.key[0]}: its worker was lost, another takes it up. ({reason})", file=sys.stderr)
        else:
            if isinstance(answer, Ended):
                return answer
            if answer.node not in self.refused:
                print(f"A node is of no use. {answer.reason}", file=sys.stderr)
            self.refused[answer.node] = answer.reason
        waiting.appendleft(task)
        return None


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
    # Every node runs the code that runs here, whose copy is no checkout any more.
    options["runtime_env"] = {"py_modules": [spillover], "env_vars": {**WORKER_ENVIRONMENT, COMMIT: commit() or ""}}
    if address:
        _refuse_silent(address)
    else:
        options |= {"num_cpus": hardware()["cores"], "object_store_memory": _STORE, "include_dashboard": False}
    os.environ.update(_QUIET)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (Exception, SystemExit) as error:
        # Ray raises bare exceptions, and ends the process when a head node falls silent.
        what = f"Ray could not be {'reached' if address else 'started'}: {first_line(error).split('. ')[0]}"
        do = "Name the head node's HOST:PORT on a machine of the cluster, or use --engine local"
        raise UsageError(what, where=f"--address {address}" if address else WHERE, do=do) from None
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
