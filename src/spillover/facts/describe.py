"""A pack in outline, for records and pages, and what identifies it."""

from __future__ import annotations

import json
from typing import Any

from spillover.facts.pack import Pack
from spillover.record import sha256_of_texts


def describe(pack: Pack) -> dict[str, Any]:
    """A pack's outline for records and pages; its rows stay in the answers table."""
    return {
        "name": pack.name,
        "licence": pack.licence,
        "source": pack.source,
        "relations": [{"name": relation.name, "prompts": list(relation.prompts)} for relation in pack.relations],
        "implications": [
            {"given": item.given, "then": item.then, "kind": item.kind, "map": dict(item.map)}
            for item in pack.implications
        ],
        "join": pack.join,
        "end": pack.end,
        "counts": pack.counts(),
    }


def pack_hash(pack: Pack) -> str:
    """SHA-256 of everything in a pack that a run depends on."""
    return sha256_of_texts([json.dumps(describe(pack), sort_keys=True, ensure_ascii=False), *map(repr, pack.facts)])
