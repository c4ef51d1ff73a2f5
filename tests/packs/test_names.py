"""Fictitious names: unique in every word, seeded, and never an answer."""

from random import Random

import pytest

from spillover.errors import UsageError
from spillover.packs.builtin import available, draw_names, rows, shuffled
from spillover.packs.open import open_pack
from tests.packs.shelf import WIDE


def test_at_least_five_hundred_can_be_had():
    assert available() >= 500


def test_no_word_is_used_twice():
    words = " ".join(draw_names(available(), Random(1))).split()
    assert len(set(words)) == len(words) == 2 * available()


def test_one_seed_one_list_and_a_shorter_list_begins_it():
    assert draw_names(100, Random(3)) == draw_names(100, Random(3))
    assert draw_names(10, Random(3)) == draw_names(100, Random(3))[:10]
    assert draw_names(100, Random(3)) != draw_names(100, Random(4))


def test_asking_for_more_is_a_sentence():
    with pytest.raises(UsageError) as caught:
        draw_names(10_000, Random(0))
    most = available()
    expected = f"10000 fictitious names were asked for and there are {most}. Use names={most} or fewer."
    assert str(caught.value) == expected


def test_no_name_is_a_word_of_an_answer():
    answers = {
        word.lower()
        for spec in WIDE.values()
        for answers in open_pack(spec).candidates.values()
        for answer in answers
        for word in answer.split()
    }
    tables = {
        str(value).lower()
        for table in ("countries", "colors", "genres")
        for row in rows(table)
        for value in row.values()
    }
    names = {row["name"].lower() for row in rows("names")}
    assert {"paris", "java", "violet", "georgia"} <= answers | tables
    assert not names & (answers | tables | {"paris", "jordan", "violet", "rose", "ruby", "sofia", "chad", "brown"})


def test_shuffled_keeps_the_items_and_uses_only_the_stable_stream():
    class Counted(Random):
        calls = 0

        def random(self):
            Counted.calls += 1
            return (0.3, 0.1, 0.2)[Counted.calls - 1]

    assert shuffled(["a", "b", "c"], Counted()) == ["b", "c", "a"]
    assert Counted.calls == 3
