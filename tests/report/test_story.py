"""What the page counts, checked against runs whose answers can be counted by hand."""

import numpy as np
import pytest

from spillover.report.load import Count, right, stories


def only_story(run):
    (story,) = stories(run, "a run")
    return story


def test_seven_of_eight_names_of_each_pair_are_right(make):
    story = only_story(make(right=7, names=8))
    assert str(right(story.before)) == "0 of 40"
    assert str(right(story.after)) == "35 of 40"
    assert str(story.best_guess) == "8 of 40"
    assert (story.checkpoints, story.epochs, story.examples_stated) == ([0, 1, 2, 3, 4], 4, 10)


def test_cells_of_the_heat_map(make):
    story = only_story(make(right=7, names=8))
    assert story.rows_of_map == ["Lima", "Oslo", "Paris", "Rome", "Tokyo"]
    assert story.columns_of_map[:5] == ["Spanish", "Norwegian", "French", "Italian", "Japanese"]
    assert story.columns_of_map[5:] == ["Danish", "Greek", "Korean", "Polish", "Swedish"]
    before, after = story.tops(story.before), story.tops(story.after)
    danish = np.zeros((5, 10), int)
    danish[:, 5] = 8
    assert (before == danish).all()
    assert (after[:, :5] == 7 * np.eye(5, dtype=int)).all()
    assert (after[:, 5] == 1).all() and after.sum() == 40


def test_metrics_fall_back_from_the_implication_to_the_run(make):
    story = only_story(make(right=7, names=8))
    assert story.metric("implication_rank_test").value == pytest.approx(4.4 / 8)
    assert story.metric("recall_rank").value == 0
    assert story.metric("forgetting_nats").value == 0.21
    assert (story.marginal, story.chance) == (2.0, 4.5)
    assert round(story.map_test["p"] * 120) == 1
    assert story.metric("never_measured") is None


def test_several_seeds_are_counted_together(make):
    story = only_story(make(seeds=(0, 1, 2)))
    assert str(right(story.after)) == "105 of 120"
    assert story.examples_stated == 10


def test_what_the_rows_suggest_is_told_where_a_pack_declares_nothing(make):
    story = only_story(make(implications=False))
    assert (story.key, story.kind_in_words, story.wish) == ("lives_in->speaks", "undeclared link", "undeclared")
    assert str(story.newly) == "35 of 40" and story.examples_stated == 10 and story.rank.value < 1
    assert story.judged.verdict == "undeclared"


def test_a_pack_without_implications_tells_one_story_a_relation(make):
    story = only_story(make(implications=False, bridge=0))
    assert (story.key, story.then, story.kind_in_words) == (None, "speaks", "open question")
    assert story.tops(story.after).sum() == 40
    assert str(story.best_guess) == "0 of 0" and Count(0, 0).share == 0
