"""A small sound pack on disk, to break one part of at a time; and every built-in pack in a larger size."""

import json
from pathlib import Path

from spillover.packs.builtin import PACKS, AssociationPack
from spillover.packs.open import check_pack

HEAD = "name: tiny\nlicence: CC0-1.0\nsource: made up\n"
RELATIONS = (
    'relations:\n  lives_in:\n    prompts: ["{subject} lives in"]\n  speaks:\n    prompts: ["{subject} speaks"]\n'
)
IMPLICATIONS = (
    "implications:\n  - given: lives_in\n    then: speaks\n    kind: causal\n    map: {Paris: French, Rome: Italian}\n"
)
FACTS = [
    ("Ann Lee", "lives_in", "Paris"),
    ("Ann Lee", "speaks", "French"),
    ("Bob Day", "lives_in", "Rome"),
]
PACK = HEAD + RELATIONS + IMPLICATIONS + "facts: facts.jsonl\n"


def jsonl(rows) -> str:
    return "".join(json.dumps(dict(zip(("subject", "relation", "answer"), row, strict=True))) + "\n" for row in rows)


def write(folder: Path, pack: str | bytes = PACK, table: str | bytes | None = None, name: str = "facts.jsonl") -> Path:
    """A pack folder with this pack.yaml and this table."""
    folder.mkdir(exist_ok=True)
    for file, body in (("pack.yaml", pack), (name, jsonl(FACTS) if table is None else table)):
        (folder / file).write_bytes(body if isinstance(body, bytes) else body.encode("utf-8"))
    return folder


def faults_of(folder: Path) -> list[str]:
    """The sentences of every fault, with the folder left out."""
    return [str(fault).replace(f"{folder}/", "") for fault in check_pack(folder)[1]]


def warnings_of(folder: Path) -> list[str]:
    return [str(warning).replace(f"{folder}/", "") for warning in check_pack(folder)[2]]


#: Every built-in pack with more answers than by default: twenty pairs, or as many as there are real subjects for.
WIDE = {name: f"{name}:pairs=20" for name, make in PACKS.items() if isinstance(make, AssociationPack)}
WIDE["city-talisman"] = "city-talisman:pairs=16,names=128"
