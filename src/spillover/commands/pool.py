"""Pools of workers that run the cells of a study: what every pool shares, and worker processes on this machine."""

import gc
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TextIO

from spillover import commands
from spillover.commands.prepare import Models
from spillover.errors import SpilloverError
from spillover.runs import progress

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
