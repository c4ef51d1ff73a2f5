import pytest

from spillover.report.plots.rank_by_epoch import draw, highest
from spillover.report.story import stories


def test_one_row_a_checkpoint_with_every_pair(make):
    drawing = draw(stories(make(right=7), "true"))
    assert [row["epoch"] for row in drawing.rows] == [0, 1, 2, 3, 4]
    assert [row["mean_rank"] for row in drawing.rows] == pytest.approx([4.4, 4.4, 4.4, 4.4, 4.4 / 8])
    assert drawing.rows[-1]["pair Paris"] == 1 / 8
    assert "knows only which answers occur: 2.00" in drawing.svg and "random guess: 4.50" in drawing.svg
    assert "each of the 5 pairs" in drawing.svg


def test_several_seeds_are_a_band(make):
    drawing = draw(stories(make(seeds=(0, 1, 2)), "true"))
    assert "range over 3 seeds" in drawing.svg and "each of" not in drawing.svg
    assert drawing.rows[-1]["seed 2"] == pytest.approx(4.4 / 8)


def test_the_axis_holds_the_highest_line(make):
    (story,) = stories(make(), "true")
    assert highest(story) > story.chance


def test_nothing_to_show_without_expected_answers(make):
    assert draw(stories(make(implications=False), "holes")) is None
