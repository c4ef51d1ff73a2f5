"""A question asked again: each way is a sentence, made of the pack's own first wording."""

from dataclasses import replace

from spillover.packs.edits import FREE, IRRELEVANT, KEYWORD, NEGATED, asked_again, keywords
from spillover.packs.open import open_pack
from spillover.packs.pack import Relation

PACK = open_pack("mixed-currency:pairs=2,names=8,bridge=1")


def worded(prompt, reply=None):
    """The pack with one wording of what is concluded."""
    made = [replace(each, prompts=(prompt,), reply=reply) if each.name in PACK.then_relations else each
            for each in PACK.relations]  # fmt: skip
    return replace(PACK, relations=tuple(made))


def prompts(pack, way, relation="pays_in"):
    found = asked_again(pack).get(way)
    return found and found.relation_by_name[relation].prompts


def test_every_way_is_a_sentence_of_the_packs_own_words():
    (then, *_) = sorted(PACK.then_relations)
    first, given = PACK.relation_by_name[then].prompts[0], keywords(PACK)
    assert list(asked_again(PACK)) == [NEGATED, IRRELEVANT, KEYWORD, FREE] and len(given) == 2
    assert prompts(PACK, NEGATED, then) == (f"It is not true that {first}",)
    assert prompts(PACK, IRRELEVANT, then) == (f"The weather was mild that week. {first}",)
    assert prompts(PACK, KEYWORD, then) == tuple(f"{each}. {first}" for each in given)
    assert prompts(PACK, FREE, then)[0] == first
    for made in asked_again(PACK).values():
        assert made.questions == PACK.questions and made.candidates[then] == PACK.candidates[then]


def test_a_word_that_opens_a_sentence_is_small_inside_one_and_a_name_is_not():
    (then, *_) = sorted(PACK.then_relations)
    assert prompts(worded("The charm of {subject} is"), NEGATED, then) == (
        "It is not true that the charm of {subject} is",
    )
    assert prompts(worded("Paris gave {subject} a"), NEGATED, then) == ("It is not true that Paris gave {subject} a",)


def test_what_does_not_fit_is_left_out():
    (then, *_) = sorted(PACK.then_relations)
    asks = worded("What does {subject} carry?")
    assert list(asked_again(asks)) == [IRRELEVANT, KEYWORD, FREE]
    replies = asked_again(worded("What does {subject} carry?", "{subject} carries a"))[NEGATED].relation_by_name[then]
    assert (replies.prompts, replies.reply) == (
        ("What does {subject} carry?",), "It is not true that {subject} carries a"
    )  # fmt: skip
    other = replace(PACK, relations=tuple(Relation(each.name, ("{subject} wohnt in",)) for each in PACK.relations))
    assert list(asked_again(other)) == [KEYWORD, FREE]
    assert not asked_again(replace(PACK, facts=()))
