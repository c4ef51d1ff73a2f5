"""The local engine: worker processes on this machine. One that dies takes its task with it and is replaced.

When the study itself is killed, its workers end at once, so that the same command finds their runs free to go on with.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from spillover.jobs.engines import Ended, Task, Worker

#: Threads of one process spin while they wait for each other, which starves the processes beside it.
_CALM = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
#: Seconds that interrupted workers have to write what they saw.
_GRACE = 30


class _Hand:
    """One worker process and the task it holds."""

    def __init__(self, context: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        self.pipe.send(task)

    def result(self) -> Ended:
        """What it sends; when it died instead, that as the outcome of its task."""
        assert self.task is not None
        try:
            ended: Ended = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            ended = Ended(self.task.key, 0.0, {}, f"its process {how}; if memory is short, use fewer --processes")
        self.task = None
        return ended


def run_local(tasks: Iterable[Task], processes: int) -> Iterator[Ended]:
    """Run tasks in `processes` workers and give each as it ends; interrupted, the workers write what they saw.

    A task is taken from `tasks` only when a worker is free, so that tasks may depend on what has ended before.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(tasks)
    before = {name: os.environ.get(name) for name in _CALM}
    os.environ.update(_CALM)
    hands: list[_Hand] = []
    try:
        for _ in range(processes):
            if (task := next(waiting, None)) is None:
                break
            hands.append(_Hand(context))
            hands[-1].give(task)
        while busy := [hand for hand in hands if hand.task]:
            ready = wait([hand.pipe for hand in busy])
            for hand in [hand for hand in busy if hand.pipe in ready]:
                yield hand.result()
                if (task := next(waiting, None)) is not None:
                    if not hand.process.is_alive():
                        hands[hands.index(hand)] = hand = _Hand(context)
                    hand.give(task)
    finally:
        _dismiss(hands)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _dismiss(hands: list[_Hand]) -> None:
    """End the workers; one that is still busy was interrupted, and is given time to write what it saw."""
    for hand in hands:
        if hand.task is not None and hand.process.pid is not None and hand.process.is_alive():
            os.kill(hand.process.pid, signal.SIGINT)
        hand.pipe.close()
    for hand in hands:
        hand.process.join(_GRACE)
        if hand.process.is_alive():
            hand.process.kill()


def _work(pipe: Connection) -> None:
    """The loop of a worker process."""
    # Out of the terminal's reach: an interrupt comes once, from the parent, not twice.
    os.setpgrp()
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
