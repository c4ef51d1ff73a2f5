import pytest

from spillover.report.study_plots import draw_rank_by_rate


def test_one_row_a_rate_and_one_a_seed(study):
    drawing = draw_rank_by_rate([cell for cell in study.done if cell.slug in ("city-language", "slow", "never")])
    pooled = [row for row in drawing.rows if row["seed"] is None]
    assert [row["learning_rate"] for row in pooled] == ["1e-05", "5e-05", "0.0001"]
    assert [row["learned"] for row in pooled] == [True, True, False]
    slow = [row for row in drawing.rows if row["learning_rate"] == "1e-05" and row["seed"] is not None]
    assert [row["mean_rank"] for row in slow] == pytest.approx([0.55, 4.4, 4.4])
    assert "hollow: stated rows not learned by the end" in drawing.svg and "5e−5" in drawing.svg
    assert "(3 of 3 seeds never learned)" in drawing.description


def test_nothing_to_show_without_runs(study):
    assert draw_rank_by_rate([cell for cell in study.cells if cell.run is None]) is None
