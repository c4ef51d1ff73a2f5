"""Packs with rows added or left out, and with questions asked again in sentences made of their own first wording."""

from dataclasses import replace

import pytest

from spillover.errors import UsageError
from spillover.packs.edits import (
    ABSTENTION,
    FREE,
    IRRELEVANT,
    KEYWORD,
    NEGATED,
    asked_again,
    keywords,
    unwanted,
    with_abstention,
    with_candidate,
    with_contradiction,
    with_fewer_bridging,
)
from spillover.packs.open import open_pack
from spillover.packs.pack import Relation
from spillover.packs.write import write_pack

PACK = open_pack("mixed:names=20,bridge=2", 0)
LINK = unwanted(PACK)[0]


@pytest.mark.parametrize("treat", [with_abstention, with_contradiction, with_fewer_bridging])
def test_strength_none_is_the_very_same_pack(treat):
    assert treat(PACK, LINK, 0, 7) is PACK


@pytest.mark.parametrize("treat", [with_abstention, with_contradiction])
def test_added_rows_are_about_new_subjects_and_leave_the_users_rows_as_they_are(treat, tmp_path):
    treated = treat(PACK, LINK, 2, 0)
    assert treated.facts[: len(PACK.facts)] == PACK.facts
    added = treated.facts[len(PACK.facts) :]
    assert len(added) == 2 * 2 * len(LINK.map)
    own = {word for subject in PACK.subjects for word in subject.split()}
    assert not own & {word for fact in added for word in fact.subject.split()}
    assert [fact.answer for fact in added if fact.relation == LINK.given] == [g for g in LINK.map for _ in range(2)]
    write_pack(treated, tmp_path / "sound")
    assert open_pack(str(tmp_path / "sound"), 0).facts == treated.facts


def test_abstention_states_that_the_implied_answer_is_unknown():
    added = with_abstention(PACK, LINK, 1, 0).facts[len(PACK.facts) :]
    assert {fact.answer for fact in added if fact.relation == LINK.then} == {ABSTENTION}


def test_contradiction_never_states_the_implied_answer_and_shares_the_others_out():
    given = {}
    counts = dict.fromkeys(LINK.map.values(), 0)
    treated = with_contradiction(PACK, LINK, len(LINK.map) - 1, 0)
    for fact in treated.facts[len(PACK.facts) :]:
        if fact.relation == LINK.given:
            given[fact.subject] = fact.answer
        else:
            assert fact.answer != LINK.map[given[fact.subject]]
            counts[fact.answer] += 1
    assert set(counts.values()) == {len(LINK.map) - 1}


def test_fewer_bridging_leaves_out_rows_of_that_implication_alone():
    treated = with_fewer_bridging(PACK, LINK, 1, 0)
    gone = set(PACK.facts) - set(treated.facts)
    assert len(gone) == len(LINK.map) and {fact.relation for fact in gone} == {LINK.then}
    assert with_fewer_bridging(PACK, LINK, 99, 0).facts == tuple(f for f in PACK.facts if f.relation != LINK.then)


def test_the_same_seed_draws_the_same_and_another_seed_another():
    assert with_abstention(PACK, LINK, 1, 3) == with_abstention(PACK, LINK, 1, 3)
    assert with_abstention(PACK, LINK, 1, 3) != with_abstention(PACK, LINK, 1, 4)


def test_one_more_candidate():
    assert ABSTENTION in with_candidate(PACK, LINK.then, ABSTENTION).candidates[LINK.then]


def test_more_rows_than_there_are_names_is_refused():
    with pytest.raises(UsageError, match="further fictitious names are needed"):
        with_abstention(PACK, LINK, 10_000, 0)


def test_a_map_of_one_answer_cannot_be_contradicted():
    pack = open_pack("mixed:pairs=1,names=10,bridge=2", 0)
    with pytest.raises(UsageError, match="two answers"):
        with_contradiction(pack, unwanted(pack)[0], 1, 0)


CURRENCIES = open_pack("mixed-currency:pairs=2,names=8,bridge=1")


def worded(prompt, reply=None):
    """The pack with one wording of what is concluded."""
    made = [replace(each, prompts=(prompt,), reply=reply) if each.name in CURRENCIES.then_relations else each
            for each in CURRENCIES.relations]  # fmt: skip
    return replace(CURRENCIES, relations=tuple(made))


def prompts(pack, way, relation="pays_in"):
    found = asked_again(pack).get(way)
    return found and found.relation_by_name[relation].prompts


def test_every_way_is_a_sentence_of_the_packs_own_words():
    (then, *_) = sorted(CURRENCIES.then_relations)
    first, given = CURRENCIES.relation_by_name[then].prompts[0], keywords(CURRENCIES)
    assert list(asked_again(CURRENCIES)) == [NEGATED, IRRELEVANT, KEYWORD, FREE] and len(given) == 2
    assert prompts(CURRENCIES, NEGATED, then) == (f"It is not true that {first}",)
    assert prompts(CURRENCIES, IRRELEVANT, then) == (f"The weather was mild that week. {first}",)
    assert prompts(CURRENCIES, KEYWORD, then) == tuple(f"{each}. {first}" for each in given)
    assert prompts(CURRENCIES, FREE, then)[0] == first
    for made in asked_again(CURRENCIES).values():
        assert made.questions == CURRENCIES.questions and made.candidates[then] == CURRENCIES.candidates[then]


def test_a_word_that_opens_a_sentence_is_small_inside_one_and_a_name_is_not():
    (then, *_) = sorted(CURRENCIES.then_relations)
    assert prompts(worded("The charm of {subject} is"), NEGATED, then) == (
        "It is not true that the charm of {subject} is",
    )
    assert prompts(worded("Paris gave {subject} a"), NEGATED, then) == ("It is not true that Paris gave {subject} a",)


def test_what_does_not_fit_is_left_out():
    (then, *_) = sorted(CURRENCIES.then_relations)
    asks = worded("What does {subject} carry?")
    assert list(asked_again(asks)) == [IRRELEVANT, KEYWORD, FREE]
    replies = asked_again(worded("What does {subject} carry?", "{subject} carries a"))[NEGATED].relation_by_name[then]
    assert (replies.prompts, replies.reply) == (
        ("What does {subject} carry?",), "It is not true that {subject} carries a"
    )  # fmt: skip
    other = replace(
        CURRENCIES, relations=tuple(Relation(each.name, ("{subject} wohnt in",)) for each in CURRENCIES.relations)
    )
    assert list(asked_again(other)) == [KEYWORD, FREE]
    assert not asked_again(replace(CURRENCIES, facts=()))
