"""The table that puts what the exact model says of a remedy beside what the language model did."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report.remedies.load import Comparison, Tried
from spillover.report.remedies.table import Column, Field, Table, share, table_of
from spillover.report.remedies.words import percent
from spillover.report.words import number

#: A share of the unwanted that counts as removed, and one that counts as left alone.
MOST, LITTLE = 0.5, 0.1
_CAPTION = (
    "Some remedies have a counterpart in the factorised model, which is solved exactly (docs/theory.md): the same rows "
    "added or left out, or a norm between the nuclear and Frobenius norm. A lead is by how much the answer is ahead of "
    "the best other one at unstated subjects, in units of the smallest stated margin; at 0 or below it is no longer "
    "concluded. They part where one of the two removes half of the unwanted or more, and the other a tenth or less."
)


def exactly(found: Comparison) -> Table | None:
    """What the exact model foretells, and what was measured; None when no remedy that was tried has a counterpart."""
    tried = [each for each in found.measured if each.exact]
    columns: list[Column] = [
        ("unwanted answer, lead", lambda each: _lead(each, "unwanted")),
        ("wanted answer, lead", lambda each: _lead(each, "wanted")),
        ("unwanted lead removed", lambda each: (percent(foretold(each)), "")),
        ("unwanted rate removed, measured", lambda each: share(each, "removed")),
        ("they", lambda each: (verdict(each), "")),
    ]
    return table_of(found, _CAPTION, columns, tried, untreated=False) if tried else None


def foretold(each: Tried) -> float | None:
    """The share of the unwanted answer's lead that the remedy takes away in the exact model; above 1 it is behind."""
    before, after = (each.exact or {}).get("unwanted_untreated"), (each.exact or {}).get("unwanted")
    return None if before is None or after is None or before <= 0 else 1 - after / before


def verdict(each: Tried) -> str:
    """Whether theory and measurement go together."""
    shares: Sequence[float | None] = (foretold(each), each.value("removed"))
    known = [one for one in shares if one is not None]
    if len(known) < 2:
        return "–"
    if max(known) >= MOST and min(known) <= LITTLE:
        return "part"
    close = min(known) >= MOST or max(known) <= LITTLE
    return "agree" if close else "differ in size"


def _lead(each: Tried, name: str) -> Field:
    exact = each.exact or {}
    before, after = exact.get(f"{name}_untreated"), exact.get(name)
    if after is None:
        return "–", ""
    return number(after), "" if before is None else f"untreated {number(before)}"
