import pytest

from spillover.report.remedies_data import comparison_of
from spillover.report.remedies_plots import draw_remedy_ladder
from tests.report.remedies.synthetic import ENTRIES, record


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
