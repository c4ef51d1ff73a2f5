"""Programs in processes of their own that start at once: forked from one server that has loaded the libraries."""

import contextlib
import gc
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from spillover.commands.pool import PRELOADED

#: A server that computes nothing itself, so that what is forked from it may.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*PRELOADED, "transformers.models.llama.modeling_llama"])


def _work(program, words, cwd, environment, outputs):
    gc.freeze()
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, stream in zip(outputs, (sys.stdout, sys.stderr), strict=True):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(program), *words]
    if isinstance(program, Path):
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name="__main__")
    else:
        sys.path.insert(0, str(cwd))
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


class Program:
    """A program at work.

    Arguments:
        program: the path of a script, or its text.
        words: its arguments.
    """

    def __init__(self, program, *words, cwd=".", env=None):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name) / name for name in ("out", "err")]
        words = list(map(str, words))
        where = (str(Path(cwd).resolve()), dict(os.environ) | (env or {}), list(map(str, self._outputs)))
        self.args = [str(program), *words]
        self._process = CONTEXT.Process(target=_work, args=(program, words, *where))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=300):
        """Wait for its end; gives what it wrote to its output and as errors."""
        self._process.join(timeout)
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutExpired(self.args, timeout)
        return tuple(path.read_text() if path.exists() else "" for path in self._outputs)


def run(program, *words, **where):
    """Run a program to its end."""
    started = Program(program, *words, **where)
    out, err = started.communicate()
    return CompletedProcess(started.args, started.returncode, out, err)


#: The text of a program that is the command.
COMMAND = "import sys; from spillover.cli import main; sys.exit(main())"
