"""Processes that kill themselves (SIGKILL) at a given moment of their work: between steps, and inside writes.

A moment is before or after a training step, an examination, the flush of a file or the renaming or removal of one; or
in the middle of writing one, of which half is then on the disk.
"""

import gc
import io
import os
import shutil
import signal
from contextlib import suppress

import safetensors.torch

from spillover.commands import inject, lab, mitigate, sweep
from spillover.commands.lab import Lab
from spillover.commands.mitigate import Mitigate
from spillover.commands.sweep import Sweep
from spillover.lm import train as training
from spillover.lm.evaluate import Evaluation
from spillover.theory.training import AdamW, NormalisedGradientDescent
from tests.forked import CONTEXT


class Moments:
    """Counts the moments of this process and kills it at number `deadly`, from 1."""

    def __init__(self, deadly: int | None = None) -> None:
        self.deadly, self.names = deadly, []
        for module, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
            self.watch(module, name)
        self.watch(training, "training_step")
        self.watch(Evaluation, "answers")
        for optimiser in (AdamW, NormalisedGradientDescent):
            self.watch(optimiser, "update")
        self._open, self._save = io.open, safetensors.torch.save_file
        io.open = self.open
        safetensors.torch.save_file = self.save

    def pass_by(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args, **kwargs):
            self.pass_by(f"before {name}")
            found = real(*args, **kwargs)
            self.pass_by(f"after {name}")
            return found

        setattr(owner, name, watched)

    def open(self, file, mode="r", *args, **kwargs):
        stream = self._open(file, mode, *args, **kwargs)
        if "w" in mode:
            write = stream.write

            def in_halves(body):
                write(body[: len(body) // 2])
                stream.flush()
                self.pass_by("half of a write")
                return write(body[len(body) // 2 :])

            # A stream's own attributes cannot be set.
            return _Stream(stream, in_halves)
        return stream

    def save(self, tensors, path, **kwargs):
        self._save(tensors, path, **kwargs)
        whole = os.path.getsize(path)
        if len(self.names) + 1 == self.deadly:
            os.truncate(path, whole // 2)
        self.pass_by("half of the tensors")


class _Stream:
    def __init__(self, stream, write) -> None:
        self.stream, self.write = stream, write

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stream.close()


def _work(settings, patience, deadly, pipe) -> None:
    gc.freeze()
    moments = Moments(deadly)
    if isinstance(settings, (Sweep, Mitigate)):
        (sweep.run if isinstance(settings, Sweep) else mitigate.run)(settings)
    else:
        (lab.run if isinstance(settings, Lab) else inject.run)(settings, patience=patience)
    pipe.send(moments.names)


def run_to(settings, deadly: int | None = None, *, patience: float = 0.0) -> list[str] | None:
    """Run in a process of its own; the names of the moments that it passed, or nothing when it was killed at one."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(settings, patience, deadly, theirs))
    process.start()
    theirs.close()
    names = None
    with suppress(EOFError):
        names = ours.recv()
    process.join()
    assert process.exitcode == (0 if names else -signal.SIGKILL), process.exitcode
    return names
