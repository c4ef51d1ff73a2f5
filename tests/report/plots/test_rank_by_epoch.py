import pytest

from spillover.report.run_plots import draw_rank_by_epoch, highest
from spillover.report.story import stories


def test_one_row_a_checkpoint_with_every_pair(make):
    drawing = draw_rank_by_epoch(stories(make(right=7), "true"))
    assert [row["epoch"] for row in drawing.rows] == [0, 1, 2, 3, 4]
    assert [row["mean_rank"] for row in drawing.rows] == pytest.approx([4.4, 4.4, 4.4, 4.4, 4.4 / 8])
    assert drawing.rows[-1]["pair Paris"] == 1 / 8
    assert "knows only which answers occur: 2.00" in drawing.svg and "random guess: 4.50" in drawing.svg
    assert "each of the 5 pairs" in drawing.svg and "95% interval over 5 pairs (few)" in drawing.svg


def test_several_seeds_are_clusters(make):
    drawing = draw_rank_by_epoch(stories(make(seeds=(0, 1, 2)), "true"))
    assert "95% interval over 15 clusters of a pair and a seed" in drawing.svg and "each of" not in drawing.svg
    last = drawing.rows[-1]
    assert last["mean_rank"] == pytest.approx(4.4 / 8) and last["clusters"] == 15
    # Name 7 of each pair is wrong, by its place in the alphabet: 1, 3, 4, 6 and 8 over 8 names, whichever seed.
    assert 1 / 8 < last["low"] < 4.4 / 8 < last["high"] < 1


def test_the_axis_holds_the_highest_line(make):
    (story,) = stories(make(), "true")
    assert highest(story) > story.chance


def test_nothing_to_show_without_expected_answers(make):
    assert draw_rank_by_epoch(stories(make(implications=False), "holes")) is None
