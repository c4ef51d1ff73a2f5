import pytest

from spillover.report.remedies_data import comparison_of
from spillover.report.remedies_plots import draw_remedy_frontier
from tests.report.remedies.synthetic import ENTRIES, record


def test_every_measured_remedy_is_a_mark_with_its_name():
    drawing = draw_remedy_frontier(comparison_of(record()))
    rows = {row["remedy"]: row for row in drawing.rows}
    assert len(rows) == len(ENTRIES) - 1, "one could not be done"
    assert rows["untreated"]["group"] == "untreated" and rows["untreated"]["unwanted_rate"] == pytest.approx(0.8)
    assert rows["later-layers=0.5"]["unwanted_rate"] == pytest.approx(0.23) and rows["lazier=4"]["number"] == 3
    assert "1 later-layers=0.5" in drawing.svg and "7 scale-back=0.3" in drawing.svg
    for words in ("safe corner: 90% removed", "unwanted rate without any association (20%)",
                  "5 points below the untreated wanted rate (85%)", "did not learn what was stated"):  # fmt: skip
        assert words in drawing.svg
    assert "later-layers=0.5: unwanted 23%, wanted 88%" in drawing.description
    assert drawing.pdf.startswith(b"%PDF")


def test_nothing_to_show_without_an_unwanted_rate():
    made = record(ENTRIES[:1])
    del made.details["frontier"][0]["unwanted_rate"]
    assert draw_remedy_frontier(comparison_of(made)) is None
