"""A command that was started in several processes at once: they share the work, and one of them speaks for all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from spillover.errors import UsageError
from spillover.lm.place import place

if TYPE_CHECKING:
    from spillover.commands.audit import Audit
    from spillover.commands.inject import Inject
    from spillover.lm.distributed import Processes
    from spillover.lm.load import LoadedModel
    from spillover.lm.train import Training
    from spillover.packs.pack import Pack

Shared = TypeVar("Shared", "Inject", "Audit")

#: Verbs whose work can be shared.
SHARED = ("inject", "audit", "rerun")
#: How long the others wait until the first has said why all of them end.
PATIENCE = timedelta(minutes=5)
SPOKEN = "spoken"


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes, only the first prints inside; the others end after it has spoken, since a launcher that
    sees one end with an error ends the rest."""
    where = place()
    if where.count == 1:
        yield
        return
    from spillover.lm.distributed import await_word, board, leave

    words = board(where)
    if where.rank == 0:
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            leave(words, SPOKEN)
        return
    # A traceback comes after this, and is seen.
    with open(os.devnull, "w") as nothing:
        with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            yield
        await_word(words, SPOKEN, PATIENCE)


@contextlib.contextmanager
def sharing(verb: str) -> Iterator[None]:
    """Inside, the processes that were started together work together. Raises UsageError for a verb that cannot."""
    where = place()
    if where.lonely:
        do = "Use `accelerate launch --multi_gpu`, which does so without a GPU too"
        print(f"accelerate launch --cpu starts one process, whatever --num_processes says. {do}.", file=sys.stderr)
    if where.count == 1:
        yield
        return
    if verb not in SHARED:
        what = f"this was started in {where.count} processes, but only {', '.join(SHARED)} can share their work"
        raise UsageError(what, where=f"spillover {verb}", do="Start it without a launcher")
    from spillover.lm.distributed import joined

    with joined():
        yield


def resolved(settings: Shared, processes: Processes) -> Shared:
    """The settings with `auto` and 0 replaced by what they stand for, the same in every process.

    Raises UsageError when as many processes as the settings name were not started.
    """
    from spillover.commands.inject import Inject
    from spillover.lm.load import pick_device
    from spillover.record import hardware

    count = processes.count
    if settings.processes not in (1, count):
        what, given = f"--processes is {settings.processes}, but this was started in {count}", settings.processes
        do = f"Start it with `accelerate launch --multi_gpu --num_processes {given} -m spillover`, without a GPU too"
        raise UsageError(what, do=do if given > 1 else "Leave --processes out")
    threads = settings.threads or max(1, int(hardware()["cores"]) // processes.place.local_count)
    device = str(pick_device(processes.device(settings.device)))
    told = replace(settings, device=device, threads=threads, processes=count)
    if isinstance(told, Inject):
        if told.remedy and processes.sharded:
            raise UsageError("a remedy cannot treat a model that is split", do="Start it without --use_fsdp")
        if told.inside and processes.sharded:
            raise UsageError("--inside cannot look into a model that is split", do="Start it without --use_fsdp")
        for option, given in (("--optimiser", told.optimiser != "adamw"), ("--logits-at-once", told.logits_at_once)):
            if given and processes.sharded:
                raise UsageError(f"{option} does not act on a model that is split", do="Start it without --use_fsdp")
        if told.sharded and not processes.sharded:
            what, do = "--sharded splits a model over processes", "Start it with `accelerate launch --use_fsdp`"
            raise UsageError(f"{what}, which were not started", do=do)
        split: dict[str, Any] = {"sharded": processes.sharded}
        told = replace(told, **split)
    return processes.of_first(lambda: told)


def take_part(loaded: LoadedModel, pack: Pack, training: Training, how: dict[str, Any]) -> None:
    """What a process that is not the first does for a run: train and ask its share, and keep nothing of it.

    how: what `inject` takes by name on all processes.
    """
    from spillover.lm.fine_tune import inject
    from spillover.lm.micro_batch import MicroBatches

    parts = MicroBatches(how["processes"].of_first(list))
    inject(loaded, pack, training, progress=lambda step: None, parts=parts, **how)
