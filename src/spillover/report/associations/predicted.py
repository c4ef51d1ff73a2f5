"""What a prediction says of each association, for the same list: how many subjects would come to answer so, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spillover.facts.pack import WANTED
from spillover.report.associations.listing import Association, Column, Evidence, Listing, Value
from spillover.report.story import KINDS
from spillover.report.words import number

COLUMNS = (
    Column("kind", "Kind", "choice", "what the pack says of the implication"),
    Column("score", "Expected to answer so", "part", "of the exposed, of whom only the given answer is stated, how "
           "many would come to answer so"),
    Column("support", "Stated examples", "count", "subjects with both halves stated, from which it can be learned"),
    Column("opposed", "Stated otherwise", "count", "subjects with the given answer of whom another answer is stated"),
    Column("margin", "Margin", "number", "by how much the one-layer model puts this answer ahead of the next one, in "
           "units of the smallest stated margin"),
    Column("range", "Its range", "text", "least and greatest margin over all solutions that are no worse"),
    Column("prior", "Prior", "share", "how much of its belief the untrained model gives to the answer once it is told "
           "the given one"),
)  # fmt: skip
ASKED = (
    Column("what", "Which rows", "text"),
    Column("subject", "Subject", "text"),
    Column("relation", "Relation", "text"),
    Column("answer", "Answer", "text"),
)
UNDECLARED = "not declared"
WAYS = {"remove": "undone by leaving out", "abstain": "undone by adding", "contradict": "undone by adding"}


def listing(associations: Sequence[Mapping[str, Any]]) -> Listing:
    """The associations of a prediction's record (`details["associations"]`), in the order of their score."""
    rows = [_association(each) for each in sorted(associations, key=lambda each: -float(each["score"]))]
    return Listing(COLUMNS, rows, "score", ASKED, "Why, and what would undo it")


def _association(each: Mapping[str, Any]) -> Association:
    kind = str(each.get("kind") or "")
    values: tuple[Value, ...] = (
        KINDS.get(kind, kind) if kind else UNDECLARED, (float(each["score"]), int(each["exposed"])),
        int(each["support"]), int(each.get("opposed") or 0), each.get("margin"),
        _range(each.get("margin_low"), each.get("margin_high")), each.get("prior"),
    )  # fmt: skip
    because = each.get("because")
    notes = (because,) if isinstance(because, str) else tuple(map(str, because or ()))
    link = (each["given"], each["given_answer"], each["then"], each["then_answer"])
    rows = list(_rows(each))
    return Association(*link, kind in WANTED, values, Evidence(notes, rows, len(rows)) if notes else None)


def _rows(each: Mapping[str, Any]) -> Iterator[tuple[Value, ...]]:
    """The rows it rests on, then those that would undo it, way by way."""
    for subject in each.get("rests_on") or ():
        yield ("rests on", str(subject), str(each["then"]), str(each["then_answer"]))
    for way in each.get("undone_by") or ():
        for row in way["rows"]:
            yield (WAYS.get(way["way"], way["way"]), row["subject"], row["relation"], row["answer"])


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{number(low, 3)} to {number(high, 3)}"
