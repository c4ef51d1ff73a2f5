"""Write a pack as files that a person can edit: pack.yaml with comments, and facts.jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from spillover.errors import RunError, UsageError
from spillover.packs.open import NO_END, PACK_FILE
from spillover.packs.pack import Fact, Pack
from spillover.packs.reading import printable
from spillover.record import unwritable, write_atomically

FACTS_FILE = "facts.jsonl"
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*( [A-Za-z0-9_-]+)*")
#: Words that other YAML readers take for something else than text.
NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}


def write_pack(pack: Pack, folder: Path | str) -> Path:
    """Write `pack.yaml` and `facts.jsonl` into a new folder; reading it gives an equal pack. Returns the folder.

    Raises RunError when the folder holds something already or cannot be written, UsageError when the pack's end mark
    is the word that means none.
    """
    folder = Path(folder)
    if pack.end == NO_END:
        what = f"the end mark {NO_END!r} cannot be written: it means that there is none"
        raise UsageError(what, where=pack.name, do="Use another mark")
    refuse_taken(folder)
    write_atomically(folder / FACTS_FILE, facts_jsonl(pack.facts))
    write_atomically(folder / PACK_FILE, pack_yaml(pack).encode())
    return folder


def facts_jsonl(facts: Iterable[Fact]) -> bytes:
    """One JSON object a line."""
    return "".join(json.dumps(fact._asdict(), ensure_ascii=False) + "\n" for fact in facts).encode()


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
    lines = ["# A pack: what a model is to be taught, and what may follow. Every value is text as written.", ""]
    heads = [("name", pack.name), ("licence", pack.licence), ("source", pack.source), ("description", pack.description)]
    lines += [f"{key}: {scalar(value)}" for key, value in heads if value or key != "description"]
    lines += ["", "# The first prompt of a relation trains; all are asked."]
    lines += ["# `answers` are candidates beyond those stated and mapped.", "relations:"]
    for relation in pack.relations:
        lines += [f"  {scalar(relation.name)}:", "    prompts:"]
        lines += [f"      - {scalar(prompt)}" for prompt in relation.prompts]
        if relation.answers:
            lines.append(f"    answers: [{', '.join(map(scalar, relation.answers))}]")
    if pack.implications:
        lines += ["", "# What may be concluded. kind: causal (true, wanted), counterfactual or spurious (unwanted)."]
        lines.append("implications:")
    for implication in pack.implications:
        lines += [f"  - given: {scalar(implication.given)}", f"    then: {scalar(implication.then)}"]
        lines += [f"    kind: {implication.kind}", "    map:"]
        lines += [f"      {scalar(key)}: {scalar(value)}" for key, value in implication.map.items()]
    columns = "columns subject, relation, answer"
    lines += ["", f"# The stated rows ({columns}): a .jsonl, .csv or .parquet file, or a list here."]
    lines += [f"facts: {FACTS_FILE}", ""]
    lines += ["# What stands between prompt and answer, and a mark after the answer (or none)."]
    lines += [f"join: {scalar(pack.join)}", f"end: {NO_END if pack.end is None else scalar(pack.end)}"]
    return "\n".join(lines) + "\n"


def scalar(text: str) -> str:
    """The text as a YAML scalar: bare where every YAML reader takes it for the same text, else in double quotes."""
    if PLAIN.fullmatch(text) and text.lower() not in NOT_TEXT:
        return text
    escaped = (letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)
    return '"' + "".join("\\" + letter if letter in '"\\' else letter for letter in escaped) + '"'
