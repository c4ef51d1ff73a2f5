"""Write a pack as files that a person can edit: pack.yaml with comments, and facts.jsonl."""

import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from spillover.errors import RunError, UsageError
from spillover.packs.open import NO_END, PACK_FILE
from spillover.packs.pack import Pack, Relation
from spillover.packs.reading import printable
from spillover.record import unwritable, write_atomically

FACTS_FILE, FREE_FILE = "facts.jsonl", "free-text.jsonl"
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*( [A-Za-z0-9_-]+)*")
#: Words that other YAML readers take for something else than text.
NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}


def write_pack(pack: Pack, folder: Path | str) -> Path:
    """Write `pack.yaml`, `facts.jsonl` and, if there is any, free text into a new folder, and return the folder.

    Reading it gives an equal pack.

    Raises RunError when the folder is taken or cannot be written, UsageError for an end mark that means none.
    """
    folder = Path(folder)
    if pack.end == NO_END:
        what = f"the end mark {NO_END!r} cannot be written: it means that there is none"
        raise UsageError(what, where=pack.name, do="Use another mark")
    refuse_taken(folder)
    write_tables(pack, folder)
    write_atomically(folder / PACK_FILE, pack_yaml(pack).encode())
    return folder


def write_tables(pack: Pack, folder: Path) -> None:
    """Write the facts and the free text of a pack, as its pack.yaml names them."""
    _write_rows(folder / FACTS_FILE, [fact._asdict() for fact in pack.facts])
    if pack.free:
        _write_rows(folder / FREE_FILE, [{"turns": turns} for turns in pack.free])


def _write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON object a line."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def refuse_taken(folder: Path) -> None:
    """Raise RunError unless `folder` is free: not there, or empty."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise unwritable(folder, error) from None
    if taken:
        what = "this folder holds something already" if folder.is_dir() else "this is a file, not a folder"
        raise RunError(what, where=printable(folder), do="Name a folder that does not exist yet")


def pack_yaml(pack: Pack) -> str:
    """The text of pack.yaml."""
    from jinja2 import Environment, StrictUndefined

    template = resources.files("spillover.packs").joinpath("pack_yaml.txt").read_text(encoding="utf-8")
    layout = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    layout.filters["scalar"] = scalar
    layout.filters["listed"] = _listed
    return layout.from_string(template).render(pack=pack, facts_file=FACTS_FILE, free_file=FREE_FILE, no_end=NO_END)


def _listed(relation: Relation) -> str:
    """The answers that a relation lists, with their aliases."""
    answers = dict.fromkeys((*relation.answers, *relation.aliases))
    others = {answer: ", ".join(map(scalar, wordings)) for answer, wordings in relation.aliases.items()}
    entry = "{{answer: {}, aliases: [{}]}}"
    return ", ".join(entry.format(scalar(each), others[each]) if each in others else scalar(each) for each in answers)


def scalar(text: str) -> str:
    """The text as a YAML scalar: bare where every YAML reader takes it for the same text, else in double quotes."""
    if PLAIN.fullmatch(text) and text.lower() not in NOT_TEXT:
        return text
    escaped = (letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)
    return '"' + "".join("\\" + letter if letter in '"\\' else letter for letter in escaped) + '"'
