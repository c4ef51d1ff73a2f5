import numpy as np
import pytest

from spillover.report.run_plots import draw_rank_change
from spillover.report.story import stories


def test_one_row_a_link_with_its_yardsticks(make):
    told = [*stories(make(right=7), "true"), *stories(make(right=6, kind="spurious"), "invented")]
    drawing = draw_rank_change(told)
    shown = np.array([[row[key] for key in ("before", "after", "marginal", "chance")] for row in drawing.rows])
    assert [row["link"] for row in drawing.rows] == ["true", "invented"]
    assert shown == pytest.approx(np.array([(4.4, 4.4 / 8, 2.0, 4.5), (4.4, 4.4 / 4, 2.0, 4.5)]))
    assert drawing.description == "true: 4.40 before, 0.55 after; invented: 4.40 before, 1.10 after."


def test_nothing_to_show_without_expected_answers(make):
    assert draw_rank_change(stories(make(implications=False), "holes")) is None
