import pytest

from spillover.report.study_plots import draw_study_sets


def test_ours_and_the_papers_are_beside_each_other(study):
    drawing = draw_study_sets(study.done[:5])
    ours = [row for row in drawing.rows if row["set"] == "city-language" and "paper" not in row["model"]]
    assert [(row["trained"], row["when"]) for row in ours] == [
        ("embeddings frozen", "before"),
        ("embeddings frozen", "after"),
        ("all weights trained", "before"),
        ("all weights trained", "after"),
    ]
    assert [row["mean_rank"] for row in ours] == pytest.approx([4.4, 0.55, 4.4, 0])
    assert [row["mean_rank"] for row in drawing.rows if row["model"] == "OLMo-7B (the paper)"] == [0.07, 1.33]
    assert "the paper's models 0.00 to 0.13" in drawing.description
    assert "paper: Llama-3-8B" in drawing.svg and drawing.pdf.startswith(b"%PDF")


def test_nothing_to_show_without_runs(study):
    assert draw_study_sets([cell for cell in study.cells if cell.run is None]) is None
