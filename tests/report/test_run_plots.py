"""The figures of runs hold the numbers that were counted by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spillover.errors import UsageError
from spillover.metrics.implications import TRAJECTORY_SCHEMA
from spillover.report import run_plots as module
from spillover.report.drawing import PLOTS, find_plot
from spillover.report.load import stories
from spillover.report.run_plots import (
    after,
    before,
    draw,
    draw_forgetting,
    draw_rank_by_epoch,
    draw_rank_change,
    highest,
)


def test_one_row_a_link_with_its_baselines(make):
    told = [*stories(make(right=7), "true"), *stories(make(right=6, kind="spurious"), "invented")]
    drawing = draw_rank_change(told)
    shown = np.array([[row[key] for key in ("before", "after", "marginal", "chance")] for row in drawing.rows])
    assert [row["link"] for row in drawing.rows] == ["true", "invented"]
    assert shown == pytest.approx(np.array([(4.4, 4.4 / 8, 2.0, 4.5), (4.4, 4.4 / 4, 2.0, 4.5)]))
    assert drawing.description == "true: 4.40 before, 0.55 after; invented: 4.40 before, 1.10 after."


def test_nothing_to_show_without_expected_answers(make):
    assert draw_rank_change(stories(make(implications=False, bridge=0), "holes")) is None


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


def test_nothing_to_show_without_expected_answers_of_rank_by_epoch(make):
    assert draw_rank_by_epoch(stories(make(implications=False, bridge=0), "holes")) is None


def test_cells_are_the_shares_counted_by_hand(make):
    told = stories(make(right=7, names=8), "true")
    cells = {(row["given"], row["answer"]): row for row in after(told).rows}
    assert len(cells) == 5 * 10
    assert (cells["Paris", "French"]["share"], cells["Paris", "French"]["expected"]) == (7 / 8, True)
    assert (cells["Paris", "Danish"]["share"], cells["Paris", "Danish"]["expected"]) == (1 / 8, False)
    assert cells["Paris", "Spanish"]["names"] == 0
    early = {(row["given"], row["answer"]): row["share"] for row in before(told).rows}
    assert early["Tokyo", "Danish"] == 1.0 and early["Tokyo", "Japanese"] == 0.0


def test_it_is_said_in_words(make):
    text = after(stories(make(right=7, names=8), "true")).description
    assert "Paris: mostly French, 7 of 8" in text


def test_open_questions_expect_nothing(make):
    drawing = after(stories(make(implications=False, bridge=0), "holes"))
    assert {row["given"] for row in drawing.rows} == {"Lima", "Oslo", "Paris", "Rome", "Tokyo"}
    assert not any(row["expected"] for row in drawing.rows)


def test_many_pairs_scroll_instead_of_shrinking(make):
    pairs = {f"City {index}": f"Language {index}" for index in range(20)}
    drawing = after(stories(make(map=pairs, names=1, right=1, bridge=0, epochs=1), "many"))
    least = int(drawing.svg.partition("min-width: ")[2].partition("px")[0])
    assert len(drawing.rows) == 20 * 25 and least > 360


def test_of_many_the_rows_that_changed_most_are_drawn_and_the_rest_is_added_up(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    (story,) = stories(make(right=7, names=8), "true")
    # All five pairs won seven names alike, so the first two are drawn; Danish, the eighth, is among the others.
    drawing = after([story])
    cells = {(row["given"], row["answer"]): row["names"] for row in drawing.rows}
    assert cells == {
        ("Lima", "Spanish"): 7, ("Lima", "Norwegian"): 0, ("Lima", module.OTHERS): 1,
        ("Oslo", "Spanish"): 0, ("Oslo", "Norwegian"): 7, ("Oslo", module.OTHERS): 1,
    }  # fmt: skip
    assert "2 of 5 given answers" in drawing.note and "2 of 10 answers" in drawing.note
    early = {(row["given"], row["answer"]): row["names"] for row in before([story]).rows}
    assert early.keys() == cells.keys() and early["Lima", module.OTHERS] == 8


def test_the_mean_and_range_over_seeds(make):
    drawing = draw("recall", [("a run", make(seeds=(0, 1), epochs=4))])
    # 2 (1 - part) for seed 0, and 0.1 more for seed 1.
    assert [row["mean"] for row in drawing.rows] == pytest.approx([2.05, 1.55, 1.05, 0.55, 0.05])
    assert (drawing.rows[0]["low"], drawing.rows[0]["high"], drawing.rows[0]["n"]) == pytest.approx((2.0, 2.1, 2))


def test_one_line_a_link(make):
    drawing = draw("stated-links", [*stories(make(epochs=2), "one"), *stories(make(epochs=2), "two")])
    assert [(row["run"], row["mean"]) for row in drawing.rows] == [
        (run, value) for run in ("one", "two") for value in (2.5, 1.25, 0.0)
    ]


def test_the_loss_of_every_epoch(make):
    drawing = draw("training-loss", [("a run", make(epochs=4))])
    assert [row["mean"] for row in drawing.rows] == [2.0, 1.0, 2 / 3, 0.5]
    assert drawing.description == "a run: from 2.00 at epoch 1 to 0.50 at epoch 4."


def test_nothing_to_show_without_a_trajectory(make):
    run = dataclasses.replace(make(), trajectory=TRAJECTORY_SCHEMA.empty_table())
    assert draw("training-loss", [("a run", run)]) is None


def test_one_row_a_run_that_measured_it(make):
    drawing = draw_forgetting([("a run", make()), ("holes", make(metrics={"forgetting_nats": None}))])
    assert [(row["run"], row["value"], row["low"], row["high"]) for row in drawing.rows] == [
        ("a run", 0.21, 0.18, 0.25)
    ]
    assert drawing.description == "a run: +0.210 nats a token."


def test_nothing_to_show_when_it_was_not_measured(make):
    assert draw_forgetting([("holes", make(metrics={"forgetting_nats": None}))]) is None


def test_every_plot_has_a_test():
    find_plot("where-layers")
    with pytest.raises(UsageError, match="no plot called 'rank-by-epochs'"):
        find_plot("rank-by-epochs")
    tests = Path(__file__).parent
    tested = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
    assert len(PLOTS) >= 20
    named = {name: {f'"{name}"', getattr(plot.draw, "__name__", name)} for name, plot in PLOTS.items()}
    assert [name for name, words in named.items() if not any(word in tested for word in words)] == []


def test_a_run_is_drawn_by_the_name_of_a_plot_and_saved(make, tmp_path):
    run = make()
    drawing = draw("rank-by-epoch", run, implication="lives_in->speaks")
    assert drawing.rows[-1]["epoch"] == 4 and drawing.svg.startswith("<svg")
    for ending, begin in ((".svg", b"<svg"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        drawing.save(tmp_path / f"ranks{ending}")
        assert (tmp_path / f"ranks{ending}").read_bytes().startswith(begin)
    with pytest.raises(UsageError, match="SVG, PDF or PNG"):
        drawing.save(tmp_path / "ranks.doc")
    assert draw("recall", run).rows and draw("inside-change", run) is None
    assert draw("rank-change", run, implication="none->such") is None
