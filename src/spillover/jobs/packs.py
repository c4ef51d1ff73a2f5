"""`spillover packs`: list the built-in packs, show a pack, or export one to edit."""

from __future__ import annotations

from typing import Any

from spillover.catalog import PACKS, find
from spillover.errors import UsageError
from spillover.facts.open import open_pack
from spillover.facts.pack import Implication, Pack
from spillover.facts.packs import PackOptions
from spillover.facts.write import write_pack
from spillover.jobs.packs_from_chat import from_chat
from spillover.settings import Packs

#: Facts that `show` prints, and subjects of each given answer it takes them from.
MOST_SHOWN = 6


def run(settings: Packs) -> dict[str, Any]:
    """`packs` for list, `pack` for show, `folder` for export; `text` is what a person reads."""
    if settings.action == "list":
        return _list(settings)
    if settings.action == "from-chat":
        return from_chat(settings)
    if not settings.pack:
        raise UsageError(
            f"packs {settings.action} needs the name of a pack", do=f"Try: packs {settings.action} city-language"
        )
    pack = open_pack(settings.pack, settings.seed)
    return _export(pack, settings) if settings.action == "export" else _show(pack)


def _list(settings: Packs) -> dict[str, Any]:
    packs = [find(reference)(PackOptions(seed=settings.seed)) for reference in PACKS.values()]
    width = max(len(pack.name) for pack in packs)
    options = "Options after a colon: pairs=10,names=80,bridge=2,null (names divisible by pairs)."
    lines = [f"{pack.name:<{width}}  {pack.description}" for pack in packs]
    entries = [{"name": pack.name, "description": pack.description, "counts": pack.counts()} for pack in packs]
    return {"packs": entries, "text": "\n".join([*lines, "", options])}


def _show(pack: Pack) -> dict[str, Any]:
    shown = {
        "name": pack.name,
        "description": pack.description,
        "licence": pack.licence,
        "source": pack.source,
        "counts": pack.counts(),
        "relations": {
            relation.name: {"prompts": list(relation.prompts), "answers": list(pack.candidates[relation.name])}
            for relation in pack.relations
        },
        "implications": [
            {"given": each.given, "then": each.then, "kind": each.kind, "map": dict(each.map)}
            for each in pack.implications
        ],
        "join": pack.join,
        "end": pack.end,
        "facts": [fact._asdict() for fact in pack.facts],
        "provenance": [dict(entry) for entry in pack.provenance],
    }
    return {"pack": shown, "text": "\n".join(_show_lines(pack))}


def _show_lines(pack: Pack) -> list[str]:
    lines = [pack.name, *([pack.description] if pack.description else [])]
    lines += [f"licence: {pack.licence}", f"source: {pack.source}"]
    lines.append(", ".join(f"{count} {what}" for what, count in pack.counts().items()))
    for relation in pack.relations:
        lines += ["", f"{relation.name}: {', '.join(pack.candidates[relation.name])}"]
        lines += [f"  {prompt} ..." for prompt in relation.prompts]
    for implication in pack.implications:
        lines += ["", *_implication_lines(implication)]
    lines += ["", "Stated, for instance:"]
    lines += [
        f"  {pack.prompt(fact.relation, fact.subject)}{pack.join}{fact.answer}" for fact in pack.facts[:MOST_SHOWN]
    ]
    return lines


def _implication_lines(implication: Implication) -> list[str]:
    wish = "wanted" if implication.wanted else "unwanted"
    head = f"{implication.given} -> {implication.then} ({implication.kind}, {wish})"
    return [head, *(f"  {given} -> {then}" for given, then in implication.map.items())]


def _export(pack: Pack, settings: Packs) -> dict[str, Any]:
    if not settings.folder:
        raise UsageError("packs export needs a folder to write to", do=f"Try: packs export {settings.pack} my-pack")
    folder = write_pack(pack, settings.folder)
    return {"folder": str(folder), "pack": pack.name, "counts": pack.counts(), "text": f"{folder}"}
