"""`spillover packs`: list the built-in packs, show or export one, or make one from fine-tuning files."""

from __future__ import annotations

import json
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
from spillover.packs.chats import match, templates
from spillover.packs.check import refuse
from spillover.packs.open import NO_END, PACK_FILE, Node, check_pack, open_pack, read_yaml
from spillover.packs.pack import Fact, Pack
from spillover.packs.reading import Broken
from spillover.packs.write import FACTS_FILE, refuse_taken, write_pack
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
    """`packs` for list, `pack` for show, `folder` for export and from-chat; `text` is what a person reads.

    Raises UsageError for a pack or file that is not there, PackError for a pack's faults.
    """
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
    width = max(len(pack.name) for pack in packs)
    options = "Options after a colon: pairs=10,names=80,bridge=2,null (names divisible by pairs)."
    lines = [f"{pack.name:<{width}}  {pack.description}" for pack in packs]
    entries = [{"name": pack.name, "description": pack.description, "counts": pack.counts()} for pack in packs]
    return {"packs": entries, "text": "\n".join([*lines, "", options])}


def _show(pack: Pack) -> dict[str, Any]:
    shown = {name: getattr(pack, name) for name in ("name", "description", "licence", "source", "join", "end")} | {
        "counts": pack.counts(),
        "relations": {
            relation.name: {"prompts": list(relation.prompts), "answers": list(pack.candidates[relation.name])}
            for relation in pack.relations
        },
        "implications": [
            {"given": each.given, "then": each.then, "kind": each.kind, "map": dict(each.map)}
            for each in pack.implications
        ],
        "facts": [fact._asdict() for fact in pack.facts],
        "provenance": [dict(entry) for entry in pack.provenance],
    }  # fmt: skip
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
    for fact in pack.facts[:FACTS_SHOWN]:
        lines.append(f"  {pack.prompt(fact.relation, fact.subject)}{pack.join}{fact.answer}")
    return {"pack": shown, "text": "\n".join(lines)}


def _from_chat(settings: Packs) -> dict[str, Any]:
    """Write the pack and say how many rows were used."""
    if not settings.pack or not settings.relations or not settings.out:
        usage = "packs from-chat FILE --relations FILE --out DIR"
        raise UsageError("packs from-chat needs a file, its relations and a folder", do=f"Write: {usage}")
    out = Path(settings.out).expanduser()
    refuse_taken(out)
    text, root = _relations_file(Path(settings.relations).expanduser())
    end = _scalar(root, "end", NO_END)
    mark = None if end == NO_END else end
    wanted = templates(_prompts(root, settings.relations), _scalar(root, "join", " "), mark)
    found = match(Path(settings.pack).expanduser(), wanted, mark)
    if not found.facts:
        shown = f"; row {found.unmatched[0][0]} begins {found.unmatched[0][1]!r}" if found.unmatched else ""
        what = f"none of the {found.rows} rows states a fact in the words of these relations{shown}"
        raise UsageError(what, where=settings.pack, do="Add prompts to the relations, as the rows word them")
    # The relations file as it was written, comments and all, with the keys that a pack needs besides.
    heads = [f"{key}: {value}" for key, value in HEADS.items() if key not in root]
    _write(out, "\n".join([*heads, text.rstrip("\n"), f"facts: {FACTS_FILE}", ""]), found.facts)
    used = found.rows - len(found.unmatched)
    lines = [f"{out}: {len(found.facts)} facts from {used} of {found.rows} rows"]
    if found.repeated:
        lines.append(f"  {found.repeated} repetitions of a fact were kept once")
    if found.unmatched:
        lines.append(f"  {len(found.unmatched)} rows state nothing in the relations' words, for instance:")
        lines += [f"    row {row}: {begins}" for row, begins in found.unmatched[:ROWS_SHOWN]]
    return {
        "folder": str(out),
        "counts": {
            "rows": found.rows, "facts": len(found.facts), "repeated": found.repeated,
            "unmatched": len(found.unmatched),
        },
        "unmatched": [{"row": row, "text": begins} for row, begins in found.unmatched],
        "text": "\n".join(lines),
    }  # fmt: skip


def _relations_file(path: Path) -> tuple[str, dict[str, Node]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        root = read_yaml(text)
    except UnicodeDecodeError:
        raise UsageError("this file is not UTF-8", where=str(path), do="Save it as UTF-8") from None
    except Broken as refused:
        raise UsageError(f"line {refused.row}: {refused.what}", where=str(path), do=refused.do) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"this file cannot be read: {reason}", where=str(path)[:200], do="Check --relations") from None
    if not isinstance(root.value, dict) or "relations" not in root.value:
        raise UsageError(
            "this file has no `relations:`", where=str(path), do="Write it as in pack.yaml (docs/packs.md)"
        )
    if "facts" in root.value:
        raise UsageError(
            "this file has facts already", where=str(path), do="Leave `facts:` out; they come from the rows"
        )
    return text, root.value


def _prompts(root: dict[str, Node], where: str) -> dict[str, list[str]]:
    """Relation -> its prompts; what else is wrong with them the finished pack's check says."""
    relations = root["relations"].value
    found: dict[str, list[str]] = {}
    for name, node in relations.items() if isinstance(relations, dict) else ():
        prompts = node.value.get("prompts") if isinstance(node.value, dict) else None
        if prompts is not None and isinstance(prompts.value, list):
            found[name] = [each.value for each in prompts.value if isinstance(each.value, str)]
    if not any("{subject}" in prompt for group in found.values() for prompt in group):
        raise UsageError(
            "no relation has a prompt with {subject}", where=where, do='Write prompts: ["{subject} lives in"]'
        )
    return found


def _scalar(root: dict[str, Node], key: str, default: str) -> str:
    value = root[key].value if key in root else default
    return value if isinstance(value, str) else default


def _write(out: Path, pack_text: str, facts: Sequence[Fact]) -> None:
    """The folder appears whole, once its check found no fault, or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as temporary:
            made = Path(temporary) / "pack"
            lines = "".join(json.dumps(fact._asdict(), ensure_ascii=False) + "\n" for fact in facts)
            write_atomically(made / FACTS_FILE, lines.encode())
            write_atomically(made / PACK_FILE, pack_text.encode())
            _, faults, _ = check_pack(made)
            try:
                refuse(faults)
            except PackError as error:
                what, do = (
                    str(error).replace(str(made), str(out)),
                    "Mend the rows or the relations; nothing was written",
                )
                raise PackError(what, do=do, faults=faults) from None
            os.replace(made, out)
    except OSError as error:
        raise unwritable(out, error) from None
