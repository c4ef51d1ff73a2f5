"""The tables behind the built-in packs: one JSON object a line, generated and cross-checked by tools/make_tables.py."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def rows(table: str) -> tuple[dict[str, Any], ...]:
    """The rows of one shipped table, best known first; each names its sources (package, version, licence, key)."""
    text = resources.files(__name__).joinpath(f"{table}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
