"""A command that was started in several processes at once: they share the work, and one of them speaks for all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from spillover.config import launch
from spillover.errors import UsageError

if TYPE_CHECKING:
    from spillover.commands.audit import Audit
    from spillover.commands.inject import Inject
    from spillover.lm.distributed import Processes

Shared = TypeVar("Shared", "Inject", "Audit")

#: Verbs whose work can be shared.
SHARED = ("inject", "audit", "rerun")
#: How long the others wait until the first has said why all of them end.
PATIENCE = timedelta(minutes=5)
SPOKEN = "spoken"


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes, only the first prints inside; the others end after it, since a launcher that sees one end
    with an error ends the rest."""
    own = launch()
    if own.count == 1:
        yield
        return
    from spillover.lm.distributed import shared_store

    store = shared_store(own, new=False)
    if own.rank == 0:
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            with contextlib.suppress(RuntimeError):
                store.set(SPOKEN, "")
        return
    # A traceback comes after this, and is seen.
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield
    # Until then, or until the first process is gone.
    with contextlib.suppress(RuntimeError):
        store.wait([SPOKEN], PATIENCE)


@contextlib.contextmanager
def sharing(verb: str) -> Iterator[None]:
    """Inside, the processes that were started together work together. Raises UsageError for a verb that cannot."""
    own = launch()
    if own.single_process:
        do = "Use `accelerate launch --multi_gpu`, which does so without a GPU too"
        print(f"accelerate launch --cpu starts one process, whatever --num_processes says. {do}.", file=sys.stderr)
    if own.count == 1:
        yield
        return
    if verb not in SHARED:
        what = f"this was started in {own.count} processes, but only {', '.join(SHARED)} can share their work"
        raise UsageError(what, where=f"spillover {verb}", do="Start it without a launcher")
    from spillover.lm.distributed import joined

    with joined():
        yield


def resolved(settings: Shared, processes: Processes) -> Shared:
    """The settings with `auto` and 0 replaced by what they stand for, the same in every process.

    Raises UsageError when as many processes as the settings name were not started.
    """
    from spillover.commands.inject import Inject
    from spillover.lm.distributed import pick_device
    from spillover.record import hardware

    count = processes.count
    if settings.processes not in (1, count):
        what, given = f"--processes is {settings.processes}, but this was started in {count}", settings.processes
        do = f"Start it with `accelerate launch --multi_gpu --num_processes {given} -m spillover`, without a GPU too"
        raise UsageError(what, do=do if given > 1 else "Leave --processes out")
    threads = settings.threads or max(1, int(hardware()["cores"]) // processes.launch.local_count)
    device = str(pick_device(processes.device(settings.device)))
    found = replace(settings, device=device, threads=threads, processes=count)
    if isinstance(found, Inject):
        if processes.sharded:
            refused = {
                "a remedy cannot treat a model that is split": found.remedy,
                "--inside cannot look into a model that is split": found.inside,
                "--optimiser does not act on a model that is split": found.optimiser != "adamw",
                "--logits-at-once does not act on a model that is split": found.logits_at_once,
            }
            for sentence, asked in refused.items():
                if asked:
                    raise UsageError(sentence, do="Start it without --use_fsdp")
        elif found.sharded:
            what = "--sharded splits a model over processes, which were not started"
            raise UsageError(what, do="Start it with `accelerate launch --use_fsdp`")
        found = replace(found, sharded=processes.sharded)  # type: ignore[call-arg]
    return processes.broadcast(lambda: found)
