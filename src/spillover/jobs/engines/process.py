"""A worker process: it takes tasks one after the other and ends at once when the process that started it ends.

So the same command finds the runs of a study that was killed free to go on with.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from spillover.jobs.engines import Ended, Task, Worker

#: Threads of one process spin while they wait for each other, which starves the processes beside it.
_CALM = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
#: Seconds that interrupted workers have to write what they saw.
GRACE = 30


class Hand:
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


def dismiss(hands: Sequence[Hand]) -> None:
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
