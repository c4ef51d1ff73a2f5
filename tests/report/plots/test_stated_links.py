from spillover.report.run_plots import draw
from spillover.report.story import stories


def test_one_line_a_link(make):
    drawing = draw("stated-links", [*stories(make(epochs=2), "one"), *stories(make(epochs=2), "two")])
    assert [(row["run"], row["mean"]) for row in drawing.rows] == [
        (run, value) for run in ("one", "two") for value in (2.5, 1.25, 0.0)
    ]
