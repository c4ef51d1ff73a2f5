"""What a user can do wrong, as a sentence: what was wrong, where, and what to do about it; and how they interrupt."""

import difflib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class SpilloverError(Exception):
    """A mistake that a user can cause and mend; the command line prints it without a traceback.

    what: what was wrong. where: the file, row, option or name it was found at. do: what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.do = what, where, do

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what, self.do]
        return " ".join(part if part.endswith("?") else part.rstrip(". ") + "." for part in parts if part)

    def as_json(self) -> dict[str, str]:
        """The three parts under the keys `what`, `where`, `do`."""
        return {"what": self.what, "where": self.where, "do": self.do}


class UsageError(SpilloverError):
    """A command, option or value that does not exist or does not fit."""


class PackError(SpilloverError):
    """A pack that cannot be read or trained on; `faults` holds every fault found, the message is of the first."""

    def __init__(self, what: str, *, where: str = "", do: str = "", faults: Iterable[object] = ()) -> None:
        super().__init__(what, where=where, do=do)
        self.faults = tuple(faults)


class ModelError(SpilloverError):
    """A model that is not there, is not a causal language model, or cannot do what was asked of it."""


class RunError(SpilloverError):
    """An output folder, record or disk that cannot be used."""


class Interrupted(SpilloverError):
    """The user stopped it; what was seen until then is kept."""

    exit_code = 130


@contextmanager
def heard(number: int) -> Iterator[None]:
    """Inside, an interrupt that falls where Python drops exceptions, as in a destructor, comes again a moment later.

    Arguments:
    - number: the signal whose handler raises KeyboardInterrupt.
    """
    before, sent = sys.unraisablehook, threading.Thread()

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        nonlocal sent
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
        elif not sent.is_alive():
            # From a thread, since here it would be dropped once more.
            sent = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, number))
            sent.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def first_line(error: BaseException) -> str:
    """What an exception of a library says first; its class, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known name, or lists all when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else "Known names: " + ", ".join(names)
