"""The verbs: each is a file of this folder with the same name, which holds its settings and the job that runs them.

Started in several processes at once, they share the work of one verb, and the first of them speaks for all.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from spillover.errors import UsageError, nearest

#: In which order they are shown; a verb that is not named here comes last.
ORDER = ("models", "packs", "check", "predict", "inject", "mitigate", "repair", "audit", "where", "report", "verify",
         "rerun", "solve", "certify", "lab", "sweep")  # fmt: skip
#: Verb -> what to do after it: with the values of its settings, the first line of which none is empty.
NEXT: dict[str, Sequence[str]] = {
    "models": ["spillover inject mixed:names=60 --model {model} --out FOLDER"],
    "packs": ["spillover check {out}", "spillover check {folder}"],
    "check": ["spillover predict {pack}"],
    "predict": ["spillover check {draft}", "spillover report {out} --browse", "spillover inject {pack} --out FOLDER"],
    **dict.fromkeys(("inject", "repair", "where", "lab", "rerun"), ("spillover report {out} --browse",)),
    "mitigate": ["spillover inject {pack} --model {model} --remedy NAME=STRENGTH --save weights --out FOLDER"],
    "audit": ["spillover report {out} --browse", "the same with --out FOLDER, and then spillover report FOLDER"],
    "report": ["open {out} in a browser"],
    "verify": ["spillover rerun {run} --out FOLDER"],
    "solve": ["spillover predict {pack}"],
    "certify": ["spillover solve {pack}"],
    "sweep": ["spillover report {out}/cells/CELL/seed-0 --browse", "spillover sweep {study} --out FOLDER"],
}
_SETTINGS = re.compile(
    r'^class (\w+)\((?:Common|Browsing|Seeded|Running|Chat)(?:, \w+)*\):\n    """(.+?)(?:"""|\n)', re.MULTILINE
)


@cache
def verbs() -> dict[str, str]:
    """Verb -> what it does; read from each file with settings of its name, without an import, so that help is quick."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for name, text in _SETTINGS.findall(path.read_text(encoding="utf-8")):
            if name == path.stem.capitalize():
                found[path.stem] = text
    return {verb: found[verb] for verb in [*ORDER, *found] if verb in found}


def settings_class(verb: str) -> type:
    """The frozen dataclass whose fields are a verb's options. Raises UsageError with the nearest verb."""
    return getattr(_module(verb), verb.capitalize())


def job(verb: str) -> Callable[..., dict[str, Any]]:
    """What runs a verb's settings. Raises UsageError with the nearest verb."""
    return _module(verb).run


def next_step(verb: str, settings: Any) -> str:
    """What to do after a verb, or nothing. A page that was written is opened next, unless it was."""
    import shlex

    values = {name: shlex.quote(str(value)) for name, value in vars(settings).items() if value}
    if values.get("out", "").endswith(".html"):
        return "" if "browse" in values else f"open {values['out']} in a browser"
    for line in NEXT.get(verb, ()):
        try:
            return line.format_map(values)
        except KeyError:
            continue
    return ""


def browse(outcome: Mapping[str, Any]) -> str:
    """Open the page that a verb wrote in a browser; returns what to say if there is none.

    Of several processes, the first opens it.
    """
    import webbrowser

    from spillover.config import launch

    page = Path(outcome["page"])
    if launch().rank:
        return ""
    opened = webbrowser.open(page.resolve().as_uri())
    return "" if opened else f"There is no browser here to open {page} with."


def _module(verb: str) -> Any:
    if verb not in verbs():
        raise UsageError(f"there is no command {verb!r}", where="spillover", do=nearest(verb, verbs()))
    return import_module(f"spillover.commands.{verb}")


#: Verbs whose work can be shared.
SHARED = ("inject", "audit", "rerun")
#: How long the others wait until the first has said why all of them end.
PATIENCE = timedelta(minutes=5)
SPOKEN = "spoken"


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes, only the first prints inside; the others end after it, since a launcher that sees one end
    with an error ends the rest."""
    from spillover.config import launch

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
    from spillover.config import launch

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
