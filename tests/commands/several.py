"""Commands in several real processes, joined as a launcher joins them; without its cost, since they are forked."""

import contextlib
import gc
import os
import socket
import sys

from spillover.cli import main
from tests.forked import CONTEXT


def _work(words, rank, count, port, folder, before, environment):
    gc.freeze()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "TQDM_DISABLE": "1",
                   "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   **environment}  # fmt: skip
    with (
        open(folder / f"out-{rank}", "w") as out,
        open(folder / f"err-{rank}", "w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        if before is not None:
            before(rank)
        code = main(words)
    sys.exit(code)


def run(words, folder, *, count=2, before=None, **environment):
    """Exit code, standard output and standard error of every process.

    before: called in each process with its number, to prepare a mishap. environment: more of what a launcher sets.
    """
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_work, args=(list(words), rank, count, port, folder, before, environment))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode is not None, "it hangs"
    return [
        (process.exitcode, (folder / f"out-{rank}").read_text(), (folder / f"err-{rank}").read_text())
        for rank, process in enumerate(processes)
    ]
