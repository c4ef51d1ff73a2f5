"""What the list says of an audit, counted by hand (conftest.py has the answers)."""

import copy

from spillover.report.audit import COLUMNS, RUN, listing
from spillover.report.story import stories


def table(found):
    return [{"link": (row.given, row.given_answer, row.then, row.then_answer),
             **dict(zip((column.key for column in found.columns), row.values, strict=True))}
            for row in found.rows]  # fmt: skip


def test_counts_ranks_and_others(small):
    found = listing(stories(small, "small"))
    first, second = table(found)
    # x came first for a2 before, for a1 and a2 now; it also comes first for b2 and b3, of the three who live in B.
    assert first["link"] == ("lives", "A", "codes", "x")
    assert (first["before"], first["now"], first["new"], first["others"]) == ((1, 3), (2, 3), 1, 2 / 3)
    # Where it is not first, the answers that are not first follow in the alphabet: z first puts x at rank 1.
    assert (first["rank_before"], first["rank_now"]) == (2 / 3, 1 / 3)
    # y came first for b1 and b3 before, for b1 now; nobody who lives in A gets it. With x first, y is at rank 1.
    assert second["link"] == ("lives", "B", "codes", "y")
    assert (second["before"], second["now"], second["new"], second["others"]) == ((2, 3), (1, 3), -1, 0)
    assert (second["rank_before"], second["rank_now"]) == (1 / 3, 2 / 3)
    # Two subjects state A and x; the one that states B and z is no example of B -> y.
    assert (first["stated"], second["stated"]) == (2, 0)
    assert {row["verdict"] for row in (first, second)} == {"undecided"}
    assert found.columns == COLUMNS and found.sorted_by == "new"


def test_evidence_is_who_was_asked_in_the_order_of_the_pack(small):
    evidence = listing(stories(small, "small")).rows[0].evidence
    assert evidence.notes == ("Stated of each: “… lives A”. Asked of each: “… codes ?”",)
    assert evidence.rows == [("a1", "z", "x", 1, 0), ("a2", "x", "x", 0, 0), ("a3", "z", "z", 1, 1)]
    assert evidence.of == 3


def test_several_audits_are_told_apart(small):
    found = listing([*stories(small, "one"), *stories(copy.copy(small), "two")])
    assert found.columns[-1] == RUN and len(found.rows) == 4
    assert [row.values[-1] for row in found.rows] == ["one", "two", "one", "two"]
