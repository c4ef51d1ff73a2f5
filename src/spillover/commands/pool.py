"""A pool of worker processes that run the cells of a study, behind a bar that counts them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any


@dataclass(frozen=True)
class Task:
    """One run of a cell: settings of the verb with seed and folder filled in. key: (cell, seed or None)."""

    key: tuple[str, int | None]
    verb: str
    settings: Any


@dataclass(frozen=True)
class Ended:
    """What became of a task: `error` is a sentence, or nothing when it is done; `outcome` what the verb gave."""

    key: tuple[str, int | None]
    seconds: float
    outcome: dict[str, Any]
    error: str = ""


class Worker:
    """Runs tasks one after the other in one process; what a run leaves for the next (a loaded model) is kept here."""

    def __init__(self) -> None:
        from spillover.commands.prepare import Cache

        self.kept = Cache()

    def run(self, task: Task) -> Ended:
        """Run one task; a mistake or a failure becomes a sentence, and only an interrupt passes through."""
        import time

        from spillover import catalog
        from spillover.errors import SpilloverError

        began = time.monotonic()
        job = catalog.find(catalog.VERBS[task.verb][1])
        try:
            outcome = job(task.settings, self.kept) if task.verb == "inject" else job(task.settings)
            error = ""
        except SpilloverError as mistake:
            outcome, error = {}, str(mistake)
        except Exception as failure:
            outcome, error = {}, f"{type(failure).__name__}: {(str(failure) or 'no message').splitlines()[0]}"
        return Ended(task.key, time.monotonic() - began, outcome, error)


#: Threads of one process spin while they wait for each other, which starves the processes beside it.
_CALM = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
#: Seconds that interrupted workers have to write what they saw.
GRACE = 30


class WorkerProcess:
    """One worker process and the task it holds."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        self.pipe.send(task)

    def interrupt(self) -> None:
        """Ask it to write what it saw and end, if it is at work."""
        if self.task is not None and self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)

    def result(self) -> Ended:
        """What it sends; when it died instead, that as the outcome of its task."""
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


@contextmanager
def calm() -> Iterator[None]:
    """Inside, the environment that workers are started in: theirs from then on, and this process's own again after."""
    before = {name: os.environ.get(name) for name in _CALM}
    os.environ.update(_CALM)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dismiss(hands: Sequence[WorkerProcess]) -> None:
    """End the workers; one that is still busy was interrupted, and is given time to write what it saw."""
    for hand in hands:
        hand.interrupt()
        hand.pipe.close()
    for hand in hands:
        hand.process.join(GRACE)
        if hand.process.is_alive():
            hand.process.kill()


def _work(pipe: Connection) -> None:
    """The loop of a worker process."""
    # Out of the terminal's reach: an interrupt comes once, from the parent, not twice; and is heard, which it would not
    # be when the parent was started deaf to it, as in a shell's background or by a cluster's daemon.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker()
    try:
        while True:
            pipe.send(worker.run(pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError, OSError):
        return


def _end_with_parent() -> None:
    """Wait for the death of the process that started this one, and follow it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_local(parts: Iterable[Iterable[Task]], processes: int) -> Iterator[Ended]:
    """Run tasks in `processes` workers and give each as it ends; interrupted, the workers write what they saw.

    A part is asked for, and begun, when every task of the one before has ended; so it may depend on what became of it.
    """
    hands: list[WorkerProcess] = []
    with calm():
        try:
            for part in parts:
                yield from _part(iter(part), hands, processes)
        finally:
            dismiss(hands)


def _part(waiting: Iterator[Task], hands: list[WorkerProcess], processes: int) -> Iterator[Ended]:
    for place in range(processes):
        if (task := next(waiting, None)) is None:
            break
        _give(task, hands, place)
    while busy := [hand for hand in hands if hand.task]:
        ready = wait([hand.pipe for hand in busy])
        for hand in [hand for hand in busy if hand.pipe in ready]:
            ended = hand.result()
            # The next one first: what is done with the outcome needs no worker.
            if (task := next(waiting, None)) is not None:
                _give(task, hands, hands.index(hand))
            yield ended


def _give(task: Task, hands: list[WorkerProcess], place: int) -> None:
    """Hand a task to the worker at a place, which is started if there is none, or none any more."""
    if place == len(hands):
        hands.append(WorkerProcess())
    elif not hands[place].process.is_alive():
        hands[place] = WorkerProcess()
    hands[place].give(task)


def shown(engine: Callable[[Iterable[list[Task]]], Iterator[Ended]], parts: Iterable[list[Task]]) -> Iterator[Ended]:
    """What `engine` gives for the parts, each as it ends."""
    from tqdm import tqdm

    with tqdm(total=0, unit="run", dynamic_ncols=True, smoothing=0.1, disable=None) as bar:

        def counted() -> Iterator[list[Task]]:
            for part in parts:
                bar.total += len(part)
                bar.refresh()
                yield part

        for ended in engine(counted()):
            bar.update()
            if ended.error:
                bar.write(f"{ended.key[0]}: {ended.error}", file=sys.stderr)
            yield ended
