"""`spillover packs`: list the built-in packs, show or export one, or make one from fine-tuning files."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from tyro.conf import Positional, arg

from spillover.config import Seeded
from spillover.errors import PackError, UsageError
from spillover.packs.builtin import PACKS, built_in
from spillover.packs.chats import Matched, Unread, is_chat, match, templates
from spillover.packs.check import Fault, Places, check_structure, refuse
from spillover.packs.discovery import discover
from spillover.packs.open import PACK_FILE, UNSTATED_KEYS, check_pack, open_pack, parse_pack, read_yaml
from spillover.packs.pack import Pack, describe
from spillover.packs.reading import Broken, read_text, rows_of
from spillover.packs.tables import is_edit_set, read_edit_set
from spillover.packs.write import FACTS_FILE, FREE_FILE, pack_yaml, refuse_taken, write_pack, write_tables
from spillover.record import unwritable, write_atomically


@dataclass(frozen=True, kw_only=True)
class Packs(Seeded):
    """List the built-in packs, show one, export one to edit, or make one from fine-tuning files."""

    action: Positional[Literal["list", "show", "export", "discover", "from-chat"]] = "list"
    """What to do: list all, show one, export one to a folder, find the relations of a training file, or make a pack
    from one in the words of relations that you name."""
    pack: Annotated[Positional[str], arg(metavar="[PACK]")] = ""
    """A built-in pack with its options (city-language:pairs=10,names=80,bridge=2 or country-code:null), or a path; for
    discover and from-chat a training file (CSV, TSV, Excel, JSON, JSONL, Parquet, text, also in gzip), or CounterFact,
    MQuAKE or PopQA."""
    folder: Annotated[Positional[str], arg(metavar="[FOLDER]")] = ""
    """Where `export` writes its copy: a folder that does not exist yet."""
    relations: str = ""
    """For discover and from-chat: a YAML file with `relations:` as in pack.yaml, and any other of its keys; then only
    they are looked for. CounterFact, MQuAKE and PopQA bring their own."""
    out: str = ""
    """For discover and from-chat: the folder of the new pack, which does not exist yet. Without it, discover only says
    what it found."""
    encoding: str = ""
    """For discover: the file's encoding, where it is not UTF-8: latin-1, for instance."""
    separator: str = ""
    """For discover: what parts the columns of a CSV file, where it is none of comma, semicolon, tab and bar."""
    sheet: str = ""
    """For discover: the sheet of a workbook, if not the first."""
    subject: str = ""
    """For discover: the column of a table that names whom a row is about."""
    least: int = 0
    """For discover: the fewest subjects of a relation that is found in wordings; by default 3, more in a large file."""


#: What a relations file may leave out.
HEADS = {"name": "from-chat"}
#: Facts that `show` prints; rows of a fine-tuning file that are shown when they state nothing, or are not understood.
FACTS_SHOWN, ROWS_SHOWN = 6, 20
#: Faults of relations that facts may mend, or that are said in other words.
LATER = {"no-facts", "map-outside", "prompt-without-subject"}


def run(settings: Packs) -> dict[str, Any]:
    """`packs` for list, `pack` for show, `folder` for export and from-chat; `text` is what a person reads."""
    action = settings.action
    if action == "list":
        return _list(settings)
    if action == "from-chat" or (action == "discover" and settings.relations):
        return _from_chat(settings)
    if action == "discover":
        return _discover(settings)
    if not settings.pack:
        raise UsageError(f"packs {action} needs the name of a pack", do=f"Try: packs {action} city-language")
    pack = open_pack(settings.pack, settings.seed)
    if action == "show":
        return _show(pack)
    if not settings.folder:
        raise UsageError("packs export needs a folder to write to", do=f"Try: packs export {settings.pack} my-pack")
    folder = write_pack(pack, settings.folder)
    return {"folder": str(folder), "pack": pack.name, "counts": pack.counts(), "text": f"{folder}"}


def _list(settings: Packs) -> dict[str, Any]:
    packs = [built_in(name, settings.seed) for name in PACKS]
    options = "Options after a colon: pairs=10,names=80,bridge=2,null (names divisible by pairs)."
    width = max(len(pack.name) for pack in packs)
    lines = [f"{pack.name:<{width}}  {pack.description}" for pack in packs]
    entries = [{"name": pack.name, "description": pack.description, "counts": pack.counts()} for pack in packs]
    return {"packs": entries, "text": "\n".join([*lines, "", options])}


def _show(pack: Pack) -> dict[str, Any]:
    shown = describe(pack).as_json() | {
        "description": pack.description,
        "relations": {
            relation.name: {key: own for key, own in relation.outline().items() if key != "name"}
            | {"answers": list(pack.candidates[relation.name])}
            for relation in pack.relations
        },
        "facts": [fact._asdict() for fact in pack.facts],
        "provenance": [dict(entry) for entry in pack.provenance],
    }
    lines = [pack.name, *([pack.description] if pack.description else [])]
    lines += [f"licence: {pack.licence}", f"source: {pack.source}"]
    lines.append(", ".join(f"{count} {what}" for what, count in pack.counts().items()))
    for relation in pack.relations:
        wordings = (" = ".join(group) for group in pack.wordings(relation.name))
        lines += ["", f"{relation.name}: {', '.join(wordings)}"]
        lines += [f"  {prompt} ..." for prompt in relation.prompts]
    for each in pack.implications:
        lines += ["", f"{each.given} -> {each.then} ({each.kind}, {each.wish})"]
        lines += [f"  {given} -> {then}" for given, then in each.map.items()]
    lines += ["", "Stated, for instance:"]
    lines += [f"  {pack.prompt(row.relation, row.subject)}{pack.join}{row.answer}" for row in pack.facts[:FACTS_SHOWN]]
    return {"pack": shown, "text": "\n".join(lines)}


def _discover(settings: Packs) -> dict[str, Any]:
    """Say what a training file states, and write it as a pack to edit."""
    if not settings.pack:
        raise UsageError("packs discover needs a file", do="Write: packs discover FILE --out DIR")
    out = Path(settings.out).expanduser()
    if settings.out:
        refuse_taken(out)
    reading = {key: getattr(settings, key) for key in ("encoding", "separator", "sheet", "subject", "least")}
    found = discover(settings.pack, **reading)
    if settings.out:
        _write(found.pack, "", out)
    relations = [vars(each) for each in found.relations]
    text = found.text()
    if settings.out:
        text += f"\n{out}: written" + f", free text in {FREE_FILE}" * bool(found.pack.free)
    counts = {"rows": found.rows, "facts": len(found.pack.facts), "free": len(found.free)}
    return {"folder": str(out) if settings.out else None, "counts": counts, "relations": relations,
            "free": [{"row": each.row, "text": each.shown(), "why": each.why} for each in found.free],
            "guesses": list(found.guesses), "text": text}  # fmt: skip


def _from_chat(settings: Packs) -> dict[str, Any]:
    """Write the pack and say how many rows were used. The folder appears whole and without a fault, or not at all."""
    if not settings.pack or not settings.out:
        _too_little()
    path, out = Path(settings.pack).expanduser(), Path(settings.out).expanduser()
    refuse_taken(out)
    if is_edit_set(next((row for _, row in rows_of(path, is_chat)), {})):
        if settings.relations:
            raise UsageError("the relations come from this file", where=settings.pack, do="Leave --relations out")
        text, (pack, found) = "", read_edit_set(rows_of(path, is_chat), path)
        places = Places(settings.pack, settings.pack)
    else:
        if not settings.relations:
            _too_little()
        relations = Path(settings.relations).expanduser()
        text = _pack_text(relations)
        bare, findings, places = parse_pack(relations, UNSTATED_KEYS)
        _refuse(findings.faults)
        assert bare is not None
        _refuse(each for each in check_structure(bare, places).faults if each.code not in LATER)
        found = _matched(settings, bare, path)
        heads: dict[str, Any] = {key: getattr(bare, key) or value for key, value in HEADS.items()}
        pack = replace(bare, **heads, facts=tuple(found.facts))
    places.facts_file, places.facts = settings.pack, found.places
    _refuse(check_structure(pack, places).faults)
    _write(pack, text, out)
    return {"folder": str(out), **_said(found, out)}


def _too_little() -> NoReturn:
    usage = "packs from-chat FILE --relations FILE --out DIR"
    raise UsageError("packs from-chat needs a file, its relations and a folder", do=f"Write: {usage}")


def _write(pack: Pack, text: str, out: Path) -> None:
    """Write a pack, whole or not at all, with this pack.yaml where that means the same pack."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as temporary:
            made = Path(temporary) / "pack"
            write_tables(pack, made)
            write_atomically(made / PACK_FILE, text.encode())
            if not text or check_pack(made)[0] != pack:
                write_atomically(made / PACK_FILE, pack_yaml(pack).encode())
            os.replace(made, out)
    except OSError as error:
        raise unwritable(out, error) from None


def _said(found: Matched, out: Path) -> dict[str, Any]:
    """What was used and what was not, as `counts`, `unmatched` and `text`."""
    lines = [f"{out}: {len(found.facts)} facts from {found.used} of {found.rows} rows"]
    if found.repeated:
        lines.append(f"  {found.repeated} repetitions of a fact were kept once")
    for title, entries in (
        ("rows state nothing in the relations' words:", [each for each in found.unmatched if not each.why]),
        ("texts are not understood and were left out:", [each for each in found.unmatched if each.why]),
    ):
        lines += [f"  {len(entries)} {title}"] if entries else []
        lines += [f"    row {row}: {text}{f' ({why})' if why else ''}" for row, text, why in entries[:ROWS_SHOWN]]
        if len(entries) > ROWS_SHOWN:
            lines.append(f"    and {len(entries) - ROWS_SHOWN} more: --json lists all")
    unmatched = [
        {key: value for key, value in each._asdict().items() if value or key != "why"} for each in found.unmatched
    ]
    counts = {"rows": found.rows, "facts": len(found.facts), "repeated": found.repeated, "unmatched": len(unmatched)}
    return {"counts": counts, "unmatched": unmatched, "text": "\n".join(lines)}


def _pack_text(path: Path) -> str:
    """A relations file as it was written, comments and all, with the keys that a pack needs besides."""
    text = read_text(path, "Check --relations")
    try:
        root = read_yaml(text).value
    except Broken as broken:
        raise UsageError(f"line {broken.row}: {broken.what}", where=str(path), do=broken.do) from None
    if not isinstance(root, dict) or "relations" not in root:
        do = "Write it as in pack.yaml (docs/packs.md)"
        raise UsageError("this file has no `relations:`", where=str(path), do=do)
    if "facts" in root:
        do = "Leave `facts:` out; they come from the rows"
        raise UsageError("this file has facts already", where=str(path), do=do)
    heads = [f"{key}: {value}" for key, value in HEADS.items() if key not in root]
    return "\n".join([*heads, text.rstrip("\n"), f"facts: {FACTS_FILE}", ""])


def _matched(settings: Packs, pack: Pack, path: Path) -> Matched:
    """What the rows state. Raises UsageError when that is nothing."""
    known = templates(pack)
    if not known:
        do = 'Write prompts: ["{subject} lives in"]'
        raise UsageError("no relation has a prompt with {subject}", where=settings.relations, do=do)
    found = match(path, known, pack)
    if not found.facts:
        row, text, why = (found.unmatched or [Unread(0, "")])[0]
        shown = f"; row {row} begins {text!r}" + (f" ({why})" if why else "") if row else ""
        what = f"none of the {found.rows} rows states a fact in the words of these relations{shown}"
        raise UsageError(what, where=settings.pack, do="Add prompts to the relations, as the rows word them")
    return found


def _refuse(faults: Iterable[Fault]) -> None:
    """Raise PackError when there is a fault, and say that nothing was written."""
    try:
        refuse(faults)
    except PackError as error:
        do = "Mend the rows or the relations; nothing was written"
        raise PackError(error.what, where=error.where, do=do, faults=error.faults) from None
