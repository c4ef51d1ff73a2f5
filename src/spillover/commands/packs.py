"""`spillover packs`: list the built-in packs, show or export one, or make one from fine-tuning files."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from spillover.config import Seeded
from spillover.errors import PackError, UsageError
from spillover.packs.builtin import PACKS, PackOptions
from spillover.packs.chats import Matched, match, read_text, templates
from spillover.packs.check import Fault, refuse
from spillover.packs.open import PACK_FILE, check_pack, open_pack, parse_pack, read_yaml
from spillover.packs.pack import Pack, describe
from spillover.packs.reading import Broken
from spillover.packs.write import FACTS_FILE, facts_jsonl, refuse_taken, write_pack
from spillover.record import unwritable, write_atomically


@dataclass(frozen=True, kw_only=True)
class Packs(Seeded):
    """List the built-in packs, show one, export one to edit, or make one from fine-tuning files."""

    action: Positional[Literal["list", "show", "export", "from-chat"]] = "list"
    """What to do: list all, show one, export one to a folder, or make one from a file of chats or completions."""
    pack: Annotated[Positional[str], arg(metavar="[PACK]")] = ""
    """A built-in pack with its options (city-language:pairs=10,names=80,bridge=2 or country-code:null), or a path; for
    from-chat a JSONL file of `messages` or `prompt` and `completion`."""
    folder: Annotated[Positional[str], arg(metavar="[FOLDER]")] = ""
    """Where `export` writes its copy: a folder that does not exist yet."""
    relations: str = ""
    """For from-chat: a YAML file with `relations:` as in pack.yaml, and any other of its keys."""
    out: str = ""
    """For from-chat: the folder of the new pack, which does not exist yet."""


#: What a relations file may leave out.
HEADS = {"name": "from-chat", "licence": "unknown", "source": "a fine-tuning file of the user's"}
#: Facts that `show` prints; rows of a fine-tuning file that are shown when they state nothing.
FACTS_SHOWN, ROWS_SHOWN = 6, 5


def run(settings: Packs) -> dict[str, Any]:
    """`packs` for list, `pack` for show, `folder` for export and from-chat; `text` is what a person reads."""
    action = settings.action
    if action == "list":
        return _list(settings)
    if action == "from-chat":
        return _from_chat(settings)
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
    packs = [make(PackOptions(seed=settings.seed)) for make in PACKS.values()]
    options = "Options after a colon: pairs=10,names=80,bridge=2,null (names divisible by pairs)."
    width = max(len(pack.name) for pack in packs)
    lines = [f"{pack.name:<{width}}  {pack.description}" for pack in packs]
    entries = [{"name": pack.name, "description": pack.description, "counts": pack.counts()} for pack in packs]
    return {"packs": entries, "text": "\n".join([*lines, "", options])}


def _show(pack: Pack) -> dict[str, Any]:
    shown = describe(pack).as_json() | {
        "description": pack.description,
        "relations": {
            relation.name: {"prompts": list(relation.prompts), "answers": list(pack.candidates[relation.name])}
            for relation in pack.relations
        },
        "facts": [fact._asdict() for fact in pack.facts],
        "provenance": [dict(entry) for entry in pack.provenance],
    }
    lines = [pack.name, *([pack.description] if pack.description else [])]
    lines += [f"licence: {pack.licence}", f"source: {pack.source}"]
    lines.append(", ".join(f"{count} {what}" for what, count in pack.counts().items()))
    for relation in pack.relations:
        lines += ["", f"{relation.name}: {', '.join(pack.candidates[relation.name])}"]
        lines += [f"  {prompt} ..." for prompt in relation.prompts]
    for each in pack.implications:
        lines += ["", f"{each.given} -> {each.then} ({each.kind}, {'wanted' if each.wanted else 'unwanted'})"]
        lines += [f"  {given} -> {then}" for given, then in each.map.items()]
    lines += ["", "Stated, for instance:"]
    lines += [f"  {pack.prompt(row.relation, row.subject)}{pack.join}{row.answer}" for row in pack.facts[:FACTS_SHOWN]]
    return {"pack": shown, "text": "\n".join(lines)}


def _from_chat(settings: Packs) -> dict[str, Any]:
    """Write the pack and say how many rows were used. The folder appears whole and without a fault, or not at all."""
    if not settings.pack or not settings.relations or not settings.out:
        usage = "packs from-chat FILE --relations FILE --out DIR"
        raise UsageError("packs from-chat needs a file, its relations and a folder", do=f"Write: {usage}")
    out = Path(settings.out).expanduser()
    refuse_taken(out)
    pack_text = _pack_text(Path(settings.relations).expanduser())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as temporary:
            made = Path(temporary) / "pack"
            write_atomically(made / FACTS_FILE, b"")
            write_atomically(made / PACK_FILE, pack_text.encode())
            pack, findings, _ = parse_pack(made)
            _refuse(findings.faults, made, out)
            assert pack is not None
            found = _matched(settings, pack)
            write_atomically(made / FACTS_FILE, facts_jsonl(found.facts))
            _refuse(check_pack(made)[1], made, out)
            os.replace(made, out)
    except OSError as error:
        raise unwritable(out, error) from None
    unmatched = [{"row": row, "text": begins} for row, begins in found.unmatched]
    lines = [f"{out}: {len(found.facts)} facts from {found.rows - len(unmatched)} of {found.rows} rows"]
    if found.repeated:
        lines.append(f"  {found.repeated} repetitions of a fact were kept once")
    if unmatched:
        lines.append(f"  {len(unmatched)} rows state nothing in the relations' words, for instance:")
        lines += [f"    row {row}: {begins}" for row, begins in found.unmatched[:ROWS_SHOWN]]
    counts = {"rows": found.rows, "facts": len(found.facts), "repeated": found.repeated, "unmatched": len(unmatched)}
    return {"folder": str(out), "counts": counts, "unmatched": unmatched, "text": "\n".join(lines)}


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


def _matched(settings: Packs, pack: Pack) -> Matched:
    """What the rows state. Raises UsageError when that is nothing."""
    known = templates({relation.name: relation.prompts for relation in pack.relations}, pack.join, pack.end)
    if not known:
        do = 'Write prompts: ["{subject} lives in"]'
        raise UsageError("no relation has a prompt with {subject}", where=settings.relations, do=do)
    found = match(Path(settings.pack).expanduser(), known, pack.end)
    if not found.facts:
        shown = f"; row {found.unmatched[0][0]} begins {found.unmatched[0][1]!r}" if found.unmatched else ""
        what = f"none of the {found.rows} rows states a fact in the words of these relations{shown}"
        raise UsageError(what, where=settings.pack, do="Add prompts to the relations, as the rows word them")
    return found


def _refuse(faults: Sequence[Fault], made: Path, out: Path) -> None:
    """Raise PackError when there is a fault, with the folder that was to be in place of the one that was made."""
    try:
        refuse(faults)
    except PackError as error:
        what, do = str(error).replace(str(made), str(out)), "Mend the rows or the relations; nothing was written"
        raise PackError(what, do=do, faults=faults) from None
