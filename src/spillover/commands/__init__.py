"""The verbs: each is a file of this folder with the same name, which holds its settings and the job that runs them."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from spillover.errors import UsageError, nearest

#: In which order they are shown; a verb that is not named here comes last.
ORDER = ("models", "packs", "check", "predict", "inject", "mitigate", "repair", "audit", "where", "report", "verify",
         "rerun", "solve", "certify", "lab", "sweep")  # fmt: skip
#: Verb -> what to do after it: with the values of its settings, the first line of which none is empty.
NEXT = {
    "models": ["spillover inject mixed:names=60 --model {model} --out FOLDER"],
    "packs": ["spillover check {out}", "spillover check {folder}"],
    "check": ["spillover predict {pack}"],
    "predict": ["spillover check {draft}", "spillover report {out} --browse", "spillover inject {pack} --out FOLDER"],
    "inject": ["spillover report {out} --browse"],
    "mitigate": ["spillover inject {pack} --model {model} --remedy NAME=STRENGTH --save weights --out FOLDER"],
    "repair": ["spillover report {out} --browse"],
    "audit": ["spillover report {out} --browse", "the same with --out FOLDER, and then spillover report FOLDER"],
    "where": ["spillover report {out} --browse"],
    "lab": ["spillover report {out} --browse"],
    "report": ["open {out} in a browser"],
    "verify": ["spillover rerun {run} --out FOLDER"],
    "rerun": ["spillover report {out} --browse"],
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
