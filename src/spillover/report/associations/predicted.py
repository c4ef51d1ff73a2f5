"""What a prediction says of each association, for the same list: how many subjects would come to answer so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spillover.facts.pack import WANTED
from spillover.report.associations.listing import Association, Column, Evidence, Listing
from spillover.report.story import KINDS
from spillover.report.words import number

COLUMNS = (
    Column("kind", "Kind", "choice", "what the pack says of the implication"),
    Column("score", "Subjects expected to answer so", "part", "of those exposed, how many would come to answer so"),
    Column("support", "Stated examples", "count", "subjects with both halves stated, from which it can be learned"),
    Column("margin", "Margin", "number", "by how much the one-layer model prefers this answer, in units of a stated "
           "row’s own margin"),
    Column("range", "Its range", "text", "least and greatest margin over all solutions that are no worse"),
    Column("prior", "Prior", "share", "probability of the answer under the base model"),
)  # fmt: skip


def listing(associations: Sequence[Mapping[str, Any]]) -> Listing:
    """The associations of a prediction's record (`details["associations"]`), in the order of their score."""
    rows = [_association(each) for each in sorted(associations, key=lambda each: -float(each["score"]))]
    return Listing(COLUMNS, rows, "score", evidence_words="Why")


def _association(each: Mapping[str, Any]) -> Association:
    kind = str(each.get("kind") or "")
    values = (
        KINDS.get(kind, kind), (float(each["score"]), int(each["exposed"])), int(each["support"]), each.get("margin"),
        _range(each.get("margin_low"), each.get("margin_high")), each.get("prior"),
    )  # fmt: skip
    because = each.get("because")
    notes = (because,) if isinstance(because, str) else tuple(map(str, because or ()))
    link = (each["given"], each["given_answer"], each["then"], each["then_answer"])
    return Association(*link, kind in WANTED, values, Evidence(notes) if notes else None)


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{number(low)} to {number(high)}"
