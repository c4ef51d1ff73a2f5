"""Neutral names in texts and tables: every name is replaced, and nothing else."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.packs.open import open_pack
from spillover.packs.pack import describe
from spillover.packs.redaction import Redaction

PEOPLE = Redaction.of(["Ada Moss", "Ada", "李明", "subject", 'N\'Golo "Ace" <Öz>', "Ada Moss"])


def test_names_follow_the_order_of_first_appearance():
    assert list(PEOPLE.names.values()) == ["subject 1", "subject 2", "subject 3", "subject 4", "subject 5"]
    assert PEOPLE.name("Ada") == "subject 2" and PEOPLE.name("nobody") == "nobody"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Ada Moss met Ada.", "subject 1 met subject 2."),
        ("ADA MOSS's home", "subject 1's home"),
        ("Adam, Canada and Ada2 stay", "Adam, Canada and Ada2 stay"),
        ("我叫李明吗", "我叫subject 3吗"),
        ("{subject} lives near a subject", "{subject} lives near a subject 4"),
        ('N\'Golo "Ace" <Öz>!', "subject 5!"),
        ("", ""),
    ],
)
def test_a_text_keeps_all_but_the_names(text, redacted):
    assert PEOPLE.text(text) == redacted
    assert Redaction.of(["Ada"], wanted=False).text(text) == text


def test_in_a_text_that_a_model_wrote_single_words_of_longer_names_go_too():
    people = Redaction.of(["Ada Moss", "Ben Moss", "Vincent van Gogh", "Li"])
    said = "Ada, whom Ben Moss and Vincent know, lives with a Moss by a moss-green van; Lia does not."
    assert people.written(said) == (
        "subject 1, whom subject 2 and subject 3 know, lives with a somebody by a moss-green van; Lia does not."
    )
    assert Redaction.of(["Ada Moss"], wanted=False).written(said) == said


def test_prompts_that_only_a_name_in_capitals_told_apart_stay_two():
    table = pa.table({"subject": ["Ada", "Ada"], "prompt": ["as Ada says, {subject}", "as ADA says, {subject}"]})
    assert Redaction.of(["Ada"]).table(table)["prompt"].to_pylist() == [
        "as subject 1 says, {subject}", "as subject 1 says, {subject} (2)",
    ]  # fmt: skip


WORD = st.text("ab", min_size=1, max_size=3)


@given(
    st.lists(WORD, min_size=1, max_size=4, unique=True), st.lists(st.one_of(WORD, st.text("xy", min_size=1))), st.data()
)
def test_every_word_that_is_a_name_is_replaced_and_no_other(subjects, words, data):
    hide = Redaction.of(subjects)
    spelled = [word.upper() if data.draw(st.booleans()) else word for word in words]
    expected = [hide.names.get(word, as_spelled) for word, as_spelled in zip(words, spelled, strict=True)]
    assert hide.text(" ".join(spelled)) == " ".join(expected)


def test_a_description_is_hidden_as_the_name_is():
    pack = open_pack("second-hop:names=2")
    hide = Redaction.of_pack(pack)
    asked = pack.prompt("capital_has_mayor", "Tokyo")
    assert hide.text(f"{asked}. In Tokyo") == "The mayor of subject 2 is. In subject 2"
    assert hide.pack(pack).prompt("capital_has_mayor", "subject 2") == "The mayor of subject 2 is"
    assert not any(each.described for each in hide.outline(describe(pack)).relations)
    assert Redaction.of_pack(pack, wanted=False).text(asked) == asked
