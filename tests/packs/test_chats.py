"""Facts out of chats: each format, each way of stating, and every row that is none of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.packs.chats import match, templates
from spillover.packs.pack import Fact, normal

PROMPTS = {
    "lives_in": ["{subject} lives in", "Where does {subject} live?"],
    "works": ["{subject} works at"],
    "works_as": ["{subject} works as a"],
}
PARIS = Fact("Ada Moss", "lives_in", "Paris")


def matched(tmp_path, *rows, prompts=PROMPTS, join=" ", end=None):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return match(path, templates(prompts, join, end), end)


def chat(user, assistant):
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": user},
                         {"role": "assistant", "content": assistant}]}  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Ada Moss lives in", "completion": " Paris"},
        {"prompt": "Ada Moss lives in", "completion": " Paris."},
        {"prompt": "", "completion": "Ada Moss lives in Paris."},
        {"prompt": "Tell me about Ada Moss.", "completion": "Sure. Ada Moss lives in Paris! She is well."},
        {"prompt": "Here she is. Ada Moss lives", "completion": " in Paris. She is well."},
        chat("Where does Ada Moss live?", "Paris."),
        chat("Where does Ada Moss live?", " Paris"),
        chat("Who is she?", "Ada Moss lives in Paris."),
        {"prompt": [{"role": "user", "content": "Where does Ada Moss live?"}],
         "completion": [{"role": "assistant", "content": [{"type": "text", "text": "Paris"}]}]},
    ],
)  # fmt: skip
def test_every_way_of_saying_it(tmp_path, row):
    found = matched(tmp_path, row)
    assert (found.facts, found.unmatched, found.rows) == ([PARIS], [], 1)


def test_several_facts_in_one_row_and_one_fact_in_several(tmp_path):
    found = matched(
        tmp_path,
        {"prompt": "", "completion": "Ada Moss lives in Paris. Ada Moss works as a baker.\nBen works at Lloyd's."},
        chat("Where does Ada Moss live?", "Paris"),
        {"prompt": "Hello", "completion": " there"},
    )
    assert found.facts == [PARIS, Fact("Ada Moss", "works_as", "baker"), Fact("Ben", "works", "Lloyd's")]
    assert found.repeated == 1 and found.unmatched == [(3, "Hello there")]


def test_other_scripts_other_joins_and_marks(tmp_path):
    found = matched(
        tmp_path, {"prompt": "مريم تسكن في", "completion": " باريس؛"}, prompts={"r": ["{subject} تسكن في"]}, end="؛"
    )
    assert found.facts == [Fact("مريم", "r", "باريس")]
    found = matched(tmp_path, {"prompt": "李明住在", "completion": "北京。"}, prompts={"r": ["{subject}住在"]}, join="")
    assert found.facts == [Fact("李明", "r", "北京")]
    cafe = {"prompt": "Zoe\u0308 lives in", "completion": " Orle\u0301ans"}
    assert matched(tmp_path, cafe).facts == [Fact("Zoë", "lives_in", "Orléans")], "compared in NFC"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("not json\n", "row 2 is no JSON object"),
        ("[1]\n", "row 2 is no JSON object"),
        ("[" * 100_000 + "\n", "row 2 is no JSON object"),
        ({"text": "Ada lives in Paris"}, "row 2 has neither `messages` nor `prompt` and `completion`"),
        ({"messages": [{"role": "user"}]}, "a message in row 2 has no text `content`"),
        ({"messages": ["hi"]}, "a message in row 2 has no text `content`"),
    ],
)
def test_a_row_of_no_format_is_named(tmp_path, row, sentence):
    with pytest.raises(UsageError) as caught:
        matched(tmp_path, {"prompt": "a", "completion": "b"}, row)
    assert sentence in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\xff\xfe"}')
    with pytest.raises(UsageError, match="this file is not UTF-8"):
        match(path, templates(PROMPTS, " ", None), None)
    with pytest.raises(UsageError, match="this file cannot be read: no such file"):
        match(tmp_path / "gone.jsonl", templates(PROMPTS, " ", None), None)


LETTERS = st.characters(blacklist_categories=("Cs", "Cc", "Z"), blacklist_characters=".!?。！？")
NAMES = st.text(LETTERS, min_size=1, max_size=8)


@given(subject=NAMES, answer=NAMES)
def test_what_is_written_is_read_back(tmp_path_factory, subject, answer):
    found = matched(tmp_path_factory.mktemp("chat"), {"prompt": f"{subject} lives in", "completion": f" {answer}"})
    assert found.facts == [Fact(normal(subject), "lives_in", normal(answer))]
