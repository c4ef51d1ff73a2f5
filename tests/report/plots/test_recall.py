import pytest

from spillover.report.run_plots import draw


def test_the_mean_and_range_over_seeds(make):
    drawing = draw("recall", [("a run", make(seeds=(0, 1), epochs=4))])
    # 2 (1 - part) for seed 0, and 0.1 more for seed 1.
    assert [row["mean"] for row in drawing.rows] == pytest.approx([2.05, 1.55, 1.05, 0.55, 0.05])
    assert (drawing.rows[0]["low"], drawing.rows[0]["high"], drawing.rows[0]["n"]) == pytest.approx((2.0, 2.1, 2))
