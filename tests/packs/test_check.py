"""What only tokens can show, on tokenizers small enough to work out by hand."""

import re
from dataclasses import replace

import pytest

from spillover.errors import PackError
from spillover.packs.check import Fault, hint, quoted, refuse, token_faults
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation
from tests.packs.shelf import WIDE

WORDS = re.compile(r" ?[^\s]+|\s+")


def words(text):
    """A token a word with the space before it: ` Paris` is one token."""
    return [hash(word) for word in WORDS.findall(text)]


def letters(text):
    return [ord(letter) for letter in text]


def folded(text):
    """A tokenizer that does not know case."""
    return letters(text.lower())


def merging(text):
    """A tokenizer whose longest token `in Paris` reaches over the end of the prompt."""
    return [hash(part) for part in re.split(r"(in Paris)|( )", text) if part]


def pack_of(*answers, end=None, join=" ", prompts=("{subject} lives in",)):
    facts = tuple(Fact(f"S{index}", "lives_in", answer) for index, answer in enumerate(answers))
    return Pack("tiny", "CC0-1.0", "made up", (Relation("lives_in", prompts),), facts, join=join, end=end)


def sentences(pack, encode):
    return [str(fault) for fault in token_faults(pack, encode)]


def test_a_sound_pack_has_none():
    assert sentences(pack_of("Paris", "Rome", "Oslo"), words) == []
    assert sentences(pack_of("Paris", "Rome", "Oslo"), letters) == []


@pytest.mark.parametrize("name", WIDE.values())
def test_built_in_answers_can_be_told_apart_by_any_tokens(name):
    """By letters and by words: no answer begins another, and no prompt runs into its answer."""
    assert sentences(open_pack(name), letters) == sentences(open_pack(name), words) == []


def test_token_identical_answers():
    assert sentences(pack_of("Paris", "PARIS", "Rome"), folded) == [
        "tiny: the answers 'PARIS' and 'Paris' of 'lives_in' have the same tokens; "
        "expected answers that the model can tell apart. Rename one of them."
    ]


def test_a_prefix_matters_only_without_an_end_mark():
    assert sentences(pack_of("Java", "JavaScript"), letters) == [
        "tiny: the tokens of 'Java' begin those of 'JavaScript', both answers of 'lives_in'; "
        'expected answers of which none begins another. Rename one of them, or set `end` to a mark such as ".".'
    ]
    assert sentences(pack_of("Java", "JavaScript", end="."), letters) == []
    assert sentences(pack_of("Java", "JavaScript"), words) == [], "one token each"


def test_mapped_and_declared_answers_count_as_candidates():
    relations = (
        Relation("lives_in", ("{subject} lives in",), ("New York",)),
        Relation("speaks", ("{subject} speaks",)),
    )
    implications = (Implication("lives_in", "speaks", "causal", {"New": "Old", "Rome": "Old Norse"}),)
    pack = replace(pack_of("New", "Rome"), relations=relations, implications=implications)
    found = [re.findall("tokens of '(.*?)' begin those of '(.*?)'", sentence)[0] for sentence in sentences(pack, words)]
    assert found == [("New", "New York"), ("Old", "Old Norse")]


def test_a_prompt_whose_tokens_change():
    assert sentences(pack_of("Paris", "Rome"), merging) == [
        "tiny: the tokens of the prompt 'S0 lives in' change when ' Paris' is appended; "
        "expected the prompt's own tokens first. End the prompt with a whole word, and let `join` begin the answer."
    ]


def test_a_prompt_that_ends_in_a_space():
    pack = pack_of("Paris", join="", prompts=("{subject} lives in", "{subject} is in "))
    found = sentences(pack, words)
    assert [re.findall("prompt '(.*?)'", sentence)[0] for sentence in found] == ["S0 lives in", "S0 is in "]


def test_a_row_whose_subject_alone_makes_the_tokens_change():
    """Every stated row is tried, not only the first subject: here the subject ends the prompt."""

    def glue(text):
        return [hash(part) for part in re.split(r"(-x Oslo)| ", text) if part]

    pack = pack_of("Rome", "Oslo", prompts=("the home of {subject}",))
    pack = replace(pack, facts=(pack.facts[0], Fact("Lee-x", "lives_in", "Oslo")))
    (fault,) = token_faults(pack, glue)
    assert (fault.code, fault.row) == ("prompt-tokens-change", 2)
    assert fault.what.startswith("the tokens of the prompt 'the home of Lee-x' change")


def test_an_answer_without_a_token():
    (first, *_) = token_faults(pack_of("\u200b", "Rome"), lambda text: letters(text.replace(" \u200b", "")))
    assert (first.code, first.what) == ("no-token", "the answer '\\u200b' of 'lives_in' has no token of its own")


def test_a_large_pack_is_sampled():
    facts = tuple(Fact(f"S{index}", "lives_in", "Paris") for index in range(100_000))
    calls = []
    token_faults(replace(pack_of("Paris"), facts=facts), lambda text: calls.append(text) or letters(text))
    assert 20_000 < len(calls) < 70_000


def test_refuse_tells_the_first_and_carries_all():
    faults = [Fault("a", "p.yaml", 3, "this is wrong", "that", "Do so"), Fault("b", "p.yaml", None, "also")]
    with pytest.raises(PackError) as caught:
        refuse(faults)
    assert str(caught.value) == "p.yaml, row 3: this is wrong; expected that. Do so (1 more: see `spillover check`)."
    assert caught.value.faults == tuple(faults)
    refuse([])


def test_a_fault_as_text_and_as_json():
    fault = Fault("a", "p.yaml", 3, "this is wrong", "that", "Do so")
    assert str(fault) == "p.yaml, row 3: this is wrong; expected that. Do so."
    assert str(Fault("b", "p.yaml", None, "it is wrong")) == "p.yaml: it is wrong."
    assert fault.as_json() == {
        "code": "a",
        "file": "p.yaml",
        "row": 3,
        "what": "this is wrong",
        "expected": "that",
        "do": "Do so",
    }


def test_quoted_and_hint_stay_short_and_printable():
    assert quoted("a\ud800\nb") == r"'a\ud800\nb'"
    assert len(quoted("x" * 10_000)) == 82
    assert hint("Pariss", ["Paris", "Rome"]) == "Did you mean 'Paris'?"
    assert hint("x" * 1000, ["Paris"]) == hint("Paris", [str(i) for i in range(1000)]) == hint("a", ["\ud800"]) == ""


def test_the_texts_of_one_prompt_are_counted_once():
    pack = pack_of("Paris", "Paris North", "Rome", "Paris")
    (fault,) = token_faults(pack, merging)
    assert "(4 texts)" in fault.what, "S0 with both as candidates, S1 with its row, S3 with its row"
