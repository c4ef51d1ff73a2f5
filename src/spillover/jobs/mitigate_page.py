"""The page of a comparison, and what it tells of each remedy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spillover import catalog
from spillover.record import write_atomically
from spillover.report.remedies.load import Comparison, load_comparison
from spillover.report.remedies.page import build_remedies_page

PAGE = "page.html"


def described(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each remedy what it does, what its strength means, and whether a finished model is all that it needs."""
    found = {name: catalog.pick(catalog.REMEDIES, name, "remedy") for name in dict.fromkeys(names)}
    return {
        name: {"text": each.text, "strength": each.strength, "after": each.after} for name, each in found.items()
    }  # fmt: skip


def compared(folder: Path) -> Comparison:
    """The comparison in a folder. Raises RunError when it holds none that is finished."""
    found = load_comparison(folder)
    if found.record.details.get("remedies"):
        return found
    # The record is older than the words; a remedy that has gone since stays without them.
    return load_comparison(folder, described(name for name in found.names if name in catalog.REMEDIES))


def write_page(folder: Path, page: Path | None = None) -> Path:
    """Make the page of the comparison in `folder`; gives its path. Raises RunError."""
    page = page or folder / PAGE
    write_atomically(page, build_remedies_page(compared(folder)).encode())
    return page
