"""The local engine: worker processes on this machine. One that dies takes its task with it and is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait

from spillover.jobs.engines import Ended, Task
from spillover.jobs.engines.process import Hand, calm, dismiss


def run_local(parts: Iterable[Iterable[Task]], processes: int) -> Iterator[Ended]:
    """Run tasks in `processes` workers and give each as it ends; interrupted, the workers write what they saw.

    A part is asked for, and begun, when every task of the one before has ended; so it may depend on what became of it.
    """
    hands: list[Hand] = []
    with calm():
        try:
            for part in parts:
                yield from _part(iter(part), hands, processes)
        finally:
            dismiss(hands)


def _part(waiting: Iterator[Task], hands: list[Hand], processes: int) -> Iterator[Ended]:
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


def _give(task: Task, hands: list[Hand], place: int) -> None:
    """Hand a task to the worker at a place, which is started if there is none, or none any more."""
    if place == len(hands):
        hands.append(Hand())
    elif not hands[place].process.is_alive():
        hands[place] = Hand()
    hands[place].give(task)
