"""The frontier and the ladder of a hand-made comparison."""

import re

import pytest

from spillover.report.remedies import comparison_of
from spillover.report.remedies_plots import draw_remedy_frontier, draw_remedy_ladder
from tests.report.synthetic_remedies import ENTRIES, record


def test_every_measured_remedy_is_a_mark_with_its_number():
    drawing = draw_remedy_frontier(comparison_of(record()))
    rows = {row["remedy"]: row for row in drawing.rows}
    assert len(rows) == len(ENTRIES) - 1, "one could not be done"
    assert rows["untreated"]["group"] == "untreated" and rows["untreated"]["unwanted_rate"] == pytest.approx(0.8)
    assert rows["later-layers=0.5"]["unwanted_rate"] == pytest.approx(0.23) and rows["lazier=4"]["number"] == 3
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing.svg)
    assert set("12345678") <= set(texts)
    for words in ("safe corner: 90% removed", "unwanted rate without any association (20%)",
                  "5 points below the untreated wanted rate (85%)", "did not learn what was stated"):  # fmt: skip
        assert words in drawing.svg
    assert "later-layers=0.5: unwanted 23%, wanted 88%" in drawing.description
    assert drawing.pdf.startswith(b"%PDF")


def test_a_pack_that_wants_no_link_says_what_is_drawn_instead():
    made = record()
    for each in made.details.frontier:
        if each.metric("wanted_rate"):
            del each.wanted_rate
    found = comparison_of(made)
    drawing = draw_remedy_frontier(found)
    for words in ("no wanted rate: the pack wants no link", "forgetting, nats a token", "safe strip: 90% removed"):
        assert words in drawing.svg, words
    assert "wanted rate (more is better)" not in drawing.svg and "wanted kept" not in drawing.svg
    assert "later-layers=0.5: unwanted 23%, forgets 0.20 nats" in drawing.description
    assert {row["quantity"] for row in draw_remedy_ladder(found).rows} == {"unwanted_rate", "forgetting_nats"}


def test_nothing_to_show_without_an_unwanted_rate():
    made = record(ENTRIES[:1])
    del made.details.frontier[0].unwanted_rate
    assert draw_remedy_frontier(comparison_of(made)) is None


def test_one_row_a_remedy_and_quantity_in_the_order_of_the_table():
    drawing = draw_remedy_ladder(comparison_of(record()))
    own = [row for row in drawing.rows if row["quantity"] == "wanted_rate"]
    assert [row["remedy"] for row in own][:3] == ["untreated", "later-layers=0.5", "lazier=1.5+later-layers=0.5"]
    assert own[1]["value"] == pytest.approx(0.88) and own[1]["low"] == pytest.approx(0.78)
    assert len(drawing.rows) == 3 * (len(ENTRIES) - 1)
    assert "leaves out or rewrites stated rows" in drawing.svg and "8 fewer-bridging=2" in " ".join(drawing.svg.split())
    assert "later-layers=0.5: 95% removed, forgets 0.20 nats" in drawing.description


def test_the_untreated_run_alone_is_no_comparison():
    assert draw_remedy_ladder(comparison_of(record(ENTRIES[:1]))) is None
