import pytest

from spillover.report.study_plots import draw_rank_by_bridging


def test_ranks_and_margins_beside_the_theory(study):
    cells = [cell for cell in study.done if cell.slug in ("bridge=0", "bridge=1", "city-language", "counterfactual")]
    drawing = draw_rank_by_bridging(cells)
    rows = {(row["set"], row["bridging_names"]): row for row in drawing.rows}
    assert [row["theory_margin"] for row in drawing.rows] == pytest.approx([0, 8**-0.5, 0.5, 0.5])
    assert rows["city-language", 2]["mean_rank"] == pytest.approx(0.55)
    assert rows["city-language", 0]["margin"] is None
    assert "city-language (true)" in drawing.svg and "city-language-counterfactual (not true)" in drawing.svg
    assert "knows only which answers occur: 2.00" in drawing.svg


def test_nothing_to_show_without_runs(study):
    assert draw_rank_by_bridging([cell for cell in study.cells if cell.run is None]) is None
