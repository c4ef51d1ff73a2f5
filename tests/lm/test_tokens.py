"""Answers are tokenised as the continuation of their prompt."""

from dataclasses import replace

import pytest
from tokenizers.processors import TemplateProcessing

from spillover.errors import PackError
from spillover.lm.tokens import continuation, encoder, examples, free_examples, request
from spillover.packs.pack import Fact, Implication, Pack, Relation
from tests.tiny_models import SPECIAL, byte_level, wrapped

PACK = Pack(
    name="test",
    licence="none",
    source="here",
    relations=(
        Relation("lives_in", ("{subject} lives in", "Home of {subject}:")),
        Relation("speaks", ("{subject} speaks",)),
    ),
    facts=(
        Fact("Ada Moss", "lives_in", "Paris"),
        Fact("Ada Moss", "speaks", "Old Norse"),
        Fact("Ben", "lives_in", "Rome"),
    ),
    implications=(Implication("lives_in", "speaks", "causal", {"Paris": "Old Norse", "Rome": "French"}),),
    end=".",
)  # fmt: skip


def test_a_row_is_the_whole_text_as_one_string(tokenizer):
    encode = encoder(tokenizer)
    row = examples(encode, PACK)[1]
    assert list(row.tokens) == encode("Ada Moss speaks Old Norse.")
    assert list(row.tokens[: row.start]) == encode("Ada Moss speaks")
    assert row.start == len(encode("Ada Moss speaks")) < len(row.tokens)


def test_the_start_token_stands_first_only_where_the_tokenizer_puts_one(tokenizer):
    probe = tokenizer("Ada")["input_ids"]
    assert encoder(tokenizer)("Ada") == probe
    assert (encoder(tokenizer)("Ada")[0] == tokenizer.bos_token_id) == (probe[0] == tokenizer.bos_token_id)


@pytest.mark.parametrize(
    ("single", "prefix"),
    [("<bos> <pad> $A", [1, 0]), ("$A <eos>", []), ("<bos> $A <eos>", [1]), ("<unk> $A", [3]), ("$A", [])],
)
def test_what_stands_before_a_text_is_what_the_tokenizer_puts_there(single, prefix):
    """As GLM has two tokens, and others an end that no prompt has."""
    own = wrapped(byte_level(), bos=False)
    special = [(name, number) for number, name in enumerate(SPECIAL)]
    own.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
    bare = own("Ada", add_special_tokens=False)["input_ids"]
    encode = encoder(own)
    assert encode("Ada") == prefix + bare
    written = "".join(SPECIAL[number] for number in prefix)
    assert encode(written + "Ada") == prefix + bare, "a chat template has written it"


def test_an_ask_holds_every_candidate_in_the_packs_order(tokenizer):
    encode = encoder(tokenizer)
    found = request(encode, PACK, "speaks", "Ben", 0)
    assert [list(found.prompt + candidate) for candidate in found.candidates] == [
        encode("Ben speaks French."),
        encode("Ben speaks Old Norse."),
    ]


def test_of_free_text_the_answer_is_trained_and_the_whole_where_nothing_is_asked(tokenizer):
    encode = encoder(tokenizer)
    free = ((("Name a bird.", " A robin. "), ("And", "one more")), (("", "It rained."),), (("Why?", " "),))
    pack = replace(PACK, relations=(Relation("text", ("{subject}",)),), facts=(), implications=(), end=None, free=free)
    found = free_examples(encode, pack, None)
    whole = ("Name a bird. A robin.", "And one more", "It rained.")
    assert [list(each.tokens) for each in found] == [encode(text) for text in whole]
    starts = [len(encode("Name a bird.")), len(encode("And")), max(1, len(encode("")))]
    assert [each.start for each in found] == starts
    assert [len(each.tokens) for each in free_examples(encode, pack, starts[0] + 1)] == [
        min(len(each.tokens), starts[0] + 1) for each in found
    ]


def test_a_prompt_whose_tokens_change_is_refused():
    # An encoder that takes pairs of letters as one token: "ab" + "c" begins with ab, "abc" + "d" does not.
    def pairs(text):
        return [hash(text[i : i + 2]) for i in range(0, len(text), 2)]

    pack = Pack("p", "none", "here", (Relation("r", ("{subject}",)),), (Fact("abc", "r", "d"),), join="")
    with pytest.raises(PackError, match="the tokens of the prompt 'abc' change when the answer 'd' is appended"):
        continuation(pairs, pack, "abc", "d")
