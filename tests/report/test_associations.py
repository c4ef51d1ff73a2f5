"""The list as text, as data for the page's script, and as a CSV."""

import base64
import csv
import io
import json

import pytest

from spillover.details import PredictedAssociation
from spillover.report import page as module
from spillover.report.page import Association, Column, Listing, part_share, value_text
from spillover.report.prediction import listing as predicted
from tests.report.synthetic_audit import HOSTILE

COUNT = Column("n", "Count", "count")


def one(value, answer="A", notes=(), evidence=()):
    return Association("lives_in", answer, "codes_in", "x", False, (value,), notes, evidence)


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("count", 1234, "1,234"), ("count", 0.5, "0.5"), ("count", 2.0, "2"), ("change", 12, "+12"),
        ("change", -1234, "−1,234"), ("change", 0, "0"), ("number", 1.005, "1.00"), ("number", -0.5, "−0.50"),
        ("share", 0.666, "67%"), ("share", 0.0123, "1.2%"), ("share", 0.0, "0%"),
        ("part", (1200, 3400), "1,200 of 3,400"),
        ("part", (12.34, 16), "12.3 of 16"), ("text", "a\u202eb", "a\ufffdb"), ("choice", "none", "none"),
        ("number", None, "–"),
    ],
)  # fmt: skip
def test_a_cell_in_a_readers_words(kind, value, shown):
    assert value_text(Column("k", "K", kind), value) == shown


def test_a_part_is_shaded_by_its_share():
    assert part_share((3, 4)) == 0.75 and part_share((0, 0)) is None and part_share(3) is None


def test_data_ends_no_script_and_gives_back_what_was_put_in():
    found = Listing((COUNT,), [one(1, HOSTILE, (HOSTILE,), [(HOSTILE,)])], "n",
                    (Column("s", "Subject", "text"),))  # fmt: skip
    assert not set("<>&\u2028\u202e") & set(found.data)
    ((link, values, _, notes, rows),) = json.loads(found.data)["rows"]
    clean = HOSTILE.replace("\u2028", " ").replace("\u202e", "\ufffd")
    assert link == ["lives in", clean, "codes in", "x", 0] and values == [1]
    assert notes == [clean] and rows == [[clean]]


def test_the_page_holds_so_much_and_the_download_all(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    monkeypatch.setattr(module, "MOST_EVIDENCE", 12)
    evidence = [(index,) for index in range(9)]
    found = Listing((COUNT,), [one(value, evidence=evidence) for value in range(5)], "n", (COUNT,), "Asked")
    assert len(json.loads(found.data)["rows"]) == 3
    assert found.each == 4 and found.opens(found.rows[0]) == "Asked (4 of 9)"
    assert found.evidence(found.rows[0]) == [["0"], ["1"], ["2"], ["3"]]
    body = base64.b64decode(found.download("all", "All").href.partition(",")[2]).decode()
    assert [row["n"] for row in csv.DictReader(io.StringIO(body))] == ["0", "1", "2", "3", "4"]


def test_a_part_is_two_columns_of_the_download_and_no_formula():
    found = Listing((Column("now", "Now", "part"),), [one((0.125, 3), answer="=1+1")], "now")
    body = base64.b64decode(found.download("all", "All").href.partition(",")[2]).decode()
    assert body.splitlines() == ["given,given_answer,then,then_answer,now,now_of", "lives_in,'=1+1,codes_in,x,0.125,3"]


def test_a_prediction_makes_the_same_list():
    each = {"given": "lives_in", "given_answer": "Paris", "then": "codes_in", "then_answer": "Java", "support": 4,
            "exposed": 16, "margin": 0.5, "margin_low": 0.48, "margin_high": 0.52, "prior": 0.034, "lift": 2.1,
            "score": 11.46, "kind": "spurious", "because": "four rows state both"}  # fmt: skip
    low = {
        **each,
        "given_answer": "Rome",
        "score": 0.2,
        "margin_low": None,
        "prior": None,
        "lift": None,
        "kind": "causal",
    }
    found = predicted([PredictedAssociation(rate=0.5, **fields) for fields in (low, each)])
    assert [row.given_answer for row in found.rows] == ["Paris", "Rome"]
    first, second = ([words for _, words, _ in found.shown(row)] for row in found.rows)
    assert first == ["invented link", "11.5 of 16", "4", "0", "0.50", "0.480 to 0.520", "3.4%", "2.10"]
    assert second == ["true link", "0.2 of 16", "4", "0", "0.50", "–", "–", "–"]
    assert found.rows[0].notes == ("four rows state both",) and not found.rows[0].wanted
    assert found.rows[1].wanted and found.opens(found.rows[0]) == "Why, and what would undo it"
