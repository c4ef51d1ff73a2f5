"""The Ray engine: workers on every node of a Ray cluster. A task whose node dies goes on, on another."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from spillover.errors import UsageError
from spillover.jobs.engines import Ended, Task
from spillover.jobs.engines.placing import Source, sources
from spillover.jobs.engines.process import GRACE
from spillover.jobs.engines.seat import Home, Seat, Seen, home
from spillover.record import hardware

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
        self.home: Home | None = None
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
                actor = self.ray.remote(**options)(Seat).remote()
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
