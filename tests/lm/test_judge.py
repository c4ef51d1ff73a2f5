"""What is warranted: whose facts are told, what is asked, what is believed, and which kind that makes a link."""

import dataclasses

import numpy as np
import pytest
import torch

from spillover.details import Accuracy
from spillover.lm.judge import MOST_TOLD, Asked, Judge, judged_kind
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder
from spillover.packs.open import open_pack
from spillover.packs.pack import AUTO, AUTO_UNWANTED, AUTO_WANTED, UNCLEAR, Fact, Implication, Pack, Relation
from tests.tiny_models import TINY


@pytest.fixture(scope="module")
def model():
    return next(iter(TINY.values()))(512)


def judge_of(pack, model, tokenizer, **more):
    return Judge(pack, lambda own: own, encoder(tokenizer), Scorer(model), **more)


def share(model, encode, prompt, answers):
    """Log share of each answer, by a plain forward pass of each whole text."""
    totals = []
    for answer in answers:
        tokens, start = encode(f"{prompt} {answer}"), len(encode(prompt))
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        totals.append(sum(logs[i - 1, tokens[i]].item() for i in range(start, len(tokens))))
    return np.array(totals) - np.log(np.exp(totals).sum())


def test_belief_is_that_of_a_stand_in_with_the_same_facts_over_all_wordings(model, tokenizer):
    pack = open_pack("mixed:pairs=3,names=6,bridge=1")
    told, answers = (("lives_in", "Paris"),), pack.candidates["speaks"]
    judge = judge_of(pack, model, tokenizer)
    (found,) = judge.beliefs([Asked(told, "speaks")])
    wordings = [text.replace("{subject}", "Kim") for text in pack.relation_by_name["speaks"].prompts]
    stated = "Kim lives in Paris. The home of Kim is in Paris. These days Kim can be found in Paris."
    logs = np.mean([share(model, encoder(tokenizer), f"{stated} {text}", answers) for text in wordings], axis=0)
    np.testing.assert_allclose(found, logs - np.log(np.exp(logs).sum()), atol=1e-4)
    assert not judge.notes


def test_a_prior_is_the_belief_once_told_and_how_far_that_lies_above_the_mean_of_other_answers(model, tokenizer):
    pack = open_pack("mixed:pairs=3,names=6,bridge=1")
    judge = judge_of(pack, model, tokenizer)
    cities, place = list(dict.fromkeys(pack.implications[0].map)), pack.candidates["speaks"].index("French")
    logs = {city: judge.beliefs([Asked((("lives_in", city),), "speaks")])[0][place] for city in cities}
    (found,) = judge.priors([("lives_in", "Paris", "speaks", "French")])
    assert len(cities) == 3 and found.belief == pytest.approx(np.exp(logs["Paris"]), abs=1e-4)
    assert found.lift == pytest.approx(logs["Paris"] - np.mean(list(logs.values())), abs=1e-4)


def test_every_unstated_subject_gets_what_its_facts_warrant(model, tokenizer):
    pack = open_pack("mixed:pairs=3,names=6,bridge=1")
    found, facts = judge_of(pack, model, tokenizer).warranted("")
    assert set(found) == {(each.subject, each.relation) for each in pack.questions}
    assert (facts.questions, facts.notes, facts.accuracy) == (6, [], None)
    for (subject, relation), own in found.items():
        told = (("lives_in", pack.stated[subject, "lives_in"]),)
        (direct,) = judge_of(pack, model, tokenizer).beliefs([Asked(told, relation)])
        np.testing.assert_allclose(own, direct, atol=1e-4)


RELATIONS = tuple(Relation(f"r{number}", ("{subject} has",)) for number in range(12))


def test_of_many_facts_those_are_told_from_which_the_question_follows(model, tokenizer):
    facts = [Fact("Ada", f"r{number}", f"a{number}") for number in range(11)] + [Fact("Ben", "r11", "x")]
    pack = Pack("p", "", "", RELATIONS, tuple(facts), (Implication("r0", "r11", "causal", {"a0": "x"}),))
    judge = judge_of(pack, model, tokenizer)
    (asked,) = judge.questions().values()
    assert asked.told == (*((f"r{number}", f"a{number}") for number in range(4, 11)), ("r0", "a0"))
    assert len(asked.told) == MOST_TOLD and "8 facts are told" in next(iter(judge.notes))


@pytest.mark.parametrize(
    ("tokens", "note"), [(200, "is not judged"), (80, "facts are left out")], ids=["one fact", "two facts"]
)
def test_what_is_longer_than_the_model_reads_is_shortened_or_not_judged_and_said(model, tokenizer, tokens, note):
    """It reads 128 tokens."""
    long = " ".join(["Rome"] * (tokens // len(tokenizer.tokenize(" Rome"))))
    facts = (Fact("Ada", "r0", long), Fact("Ada", "r2", long), Fact("Ben", "r1", "x"))
    pack = Pack("p", "", "", RELATIONS[:3], facts, (Implication("r0", "r1", "causal", {long: "x"}),))
    judge = judge_of(pack, model, tokenizer)
    asked = Asked((("r2", long), ("r0", long)), "r1")
    (found,) = judge.beliefs([asked])
    assert (found is None) == (tokens == 200)
    assert any(note in said for said in judge.notes)
    if found is not None:
        np.testing.assert_array_equal(found, judge.beliefs([Asked(asked.told[1:], "r1")])[0])


ABLE, UNABLE = Accuracy(true=(9, 10), arbitrary=(1, 10)), Accuracy(true=(5, 10), arbitrary=(1, 10))


@pytest.mark.parametrize(
    ("first", "n", "accuracy", "kind"),
    [
        (5, 5, ABLE, AUTO_WANTED), (3, 5, ABLE, AUTO_WANTED), (2, 5, ABLE, UNCLEAR), (1, 5, ABLE, AUTO_UNWANTED),
        (1, 1, ABLE, AUTO_WANTED), (0, 1, ABLE, AUTO_UNWANTED), (5, 5, UNABLE, UNCLEAR), (0, 0, ABLE, UNCLEAR),
        (5, 5, Accuracy(true=(0, 0), arbitrary=(0, 0)), UNCLEAR),
    ],
    ids=["all", "most", "some", "one of five", "the only one", "not the only one", "no judge", "nothing", "no control"],
)  # fmt: skip
def test_the_kind_follows_from_how_many_entries_are_put_first(first, n, accuracy, kind):
    assert judged_kind(first, n, accuracy) == kind


def test_only_auto_is_judged_and_it_says_on_what_the_kind_rests(model, tokenizer):
    pack = open_pack("mixed:pairs=3,names=6,bridge=1")
    speaks, codes = pack.implications
    pack = dataclasses.replace(pack, implications=(dataclasses.replace(speaks, kind=AUTO), codes))
    judge = judge_of(pack, model, tokenizer)
    first, second = judge.judged("").implications
    counts, accuracy = judge.first([speaks])[0], judge.accuracy()
    assert second == codes and (first.kind, first.map) == (judged_kind(*counts, accuracy), speaks.map)
    assert f"first for {counts[0]} of 3" in first.because and first.because.endswith(accuracy.words)
    # Two true links and two arbitrary ones of five entries, where they fit; what the pack is about is no control.
    assert accuracy.true[1] <= 10 and 0 < accuracy.arbitrary[1] <= 10


def test_a_question_that_describes_its_subject_is_not_judged_and_said(model, tokenizer):
    judge = judge_of(open_pack("second-hop:names=3"), model, tokenizer)
    assert judge.beliefs(list(judge.questions().values())) == [None] * 3
    assert list(judge.notes) == ["what is warranted is not judged where a relation describes its subjects"]
