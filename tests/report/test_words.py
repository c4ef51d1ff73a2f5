"""Sentences of the page: they say what the numbers say, and no more."""

import dataclasses

import pytest

from spillover.record import Metric
from spillover.report import words
from spillover.report.load import stories
from tests.report.conftest import CITIES


def story_of(run):
    return stories(run, run.pack_name)[0]


def judged(make, value, low, high, clusters, p):
    """A story whose decisive numbers are these."""
    run = make()
    rank = Metric(value, low, high, 40, clusters, "rank", "few clusters" if clusters < 10 else None)
    one = {**run.metrics["implications"]["lives_in->speaks"], "implication_rank_test": rank}
    one["map_test"] = None if p is None else {"p": p, "permutations": 120, "exact": True}
    metrics = {**run.metrics, "implications": {"lives_in->speaks": one}}
    return story_of(dataclasses.replace(run, metrics=metrics))


def test_headline_of_a_wanted_link(make):
    assert words.headline(story_of(make())) == (
        "“Name Lima 0 lives in Lima” was stated, “Name Lima 0 speaks Spanish” was not. "
        "The model newly infers 35 of 40 such answers."
    )


def test_headline_of_an_unwanted_link_says_that_it_was_hallucinated(make):
    assert words.headline(story_of(make(kind="spurious"))).endswith(
        "The model newly hallucinates 35 of 40 such answers."
    )


def test_headline_without_support_claims_nothing(make):
    text = words.headline(story_of(make(right=0)))
    assert "was stated" not in text
    assert text.endswith("It newly gives 0 of 40 such answers; always giving the same answer would get 8.")


def test_headline_of_a_leaning_does_not_boast(make):
    leaning = story_of(make(right=1))
    assert words.headline(leaning).endswith("The model leans towards such answers, but newly gives only 5 of 40.")
    assert "hardly" in words.title([leaning, leaning])


def test_a_verdict_that_rests_on_one_pair_counts_that_pair_alone(make):
    story = story_of(make(kind="spurious", right=1))
    told = {"verdict": "unwanted", "newly": 3, "n": 8}
    entries = [each.model_copy(update=told if each.given == "Rome" else {"verdict": "none"})
               for each in story.judged.associations]  # fmt: skip
    changed = {"verdict": "unwanted", "by_entries": True, "associations": entries}
    story.run.verdicts[story.key] = story.judged.model_copy(update=changed)
    assert words.title([story]) == (
        "“Name Rome 0 lives in Rome” was stated, “Name Rome 0 speaks Italian” was not. "
        "The model newly hallucinates 3 of 8 such answers, for 1 of this link’s 5 pairs only."
    )
    assert "something untrue 3 of 8 times" in words.title([story, story_of(make(right=0))])


def test_what_is_undecided_says_why_in_the_headline_and_in_the_title(make):
    story = story_of(make(map={"Paris": "French", "Tokyo": "French"}, right=8))
    why = "ndecided, since all have the same implied answer, so nobody is there to compare them with."
    assert words.headline(story).endswith(f"U{why}") and f"is u{why}" in words.title([story, story])
    assert words.verdict(story).sentence.endswith("another given answer would decide it.")
    few = story_of(make(map={"Paris": "French", "Tokyo": "Japanese"}, names=2, right=2))
    assert words.headline(few).endswith("Undecided, since 4 of 4 such answers are new, and that could be chance.")


def test_a_title_that_claims_nothing_still_counts_invented_answers(make):
    """French newly has a probability of 0.6 for everybody; where the link is wanted, that is no invention."""
    many = dict.fromkeys(CITIES, "French")
    story = story_of(make(map=many, right=8, kind="spurious"))
    new = "Whatever the link, 40 of 40 open questions newly have a confident answer that nobody stated."
    assert words.title([story]).endswith(new) and words.title([story, story]).endswith(new)
    assert "nobody stated" not in words.title([story_of(make(map=many, right=8))])


def test_headline_names_the_seeds(make):
    assert "105 of 120 such answers over 3 seeds" in words.headline(story_of(make(seeds=(0, 1, 2))))


@pytest.mark.parametrize(
    ("value", "low", "high", "clusters", "p", "shown", "word"),
    [
        (0.1, 0.0, 0.3, 15, 1 / 120, True, "Shown"),
        (0.1, 0.0, 0.3, 15, None, True, "Shown"),
        (1.7, 1.2, 2.0, 15, 1 / 120, False, "Not shown"),
        (0.1, 0.0, 0.3, 15, 0.5, False, "Not shown"),
        (0.1, 0.0, 0.3, 5, 1 / 120, True, "Shown by exact test"),
        (0.1, 0.0, 0.3, 5, 0.5, False, "Not shown"),
        (2.4, 2.0, 2.6, 5, 1 / 120, False, "Not shown"),
        (0.1, 0.0, 0.3, 5, None, False, "Not tested"),
    ],
)
def test_whether_a_rule_was_learned(make, value, low, high, clusters, p, shown, word):
    verdict = words.rule(judged(make, value, low, high, clusters, p))
    assert (verdict.shown, verdict.word) == (shown, word)
    if clusters < 10:
        assert "5 pairs are too few for an interval to decide" in verdict.sentence


def test_exact_test_in_words(make):
    one = words.rule(judged(make, 0.1, 0.0, 0.3, 5, 1 / 120)).sentence
    assert "Of 120 possible pairings only the expected one fits the answers this well (p = 0.0083)." in one
    many = words.rule(judged(make, 0.1, 0.0, 0.3, 5, 60 / 120)).sentence
    assert (
        "Of 120 possible pairings 60 fit the answers at least as well as the expected one, itself included (p" in many
    )


def test_an_unfinished_run_gets_no_verdict(make):
    assert words.verdict(story_of(make(status="interrupted"))).word == "No verdict"


def test_title_of_several_links_counts_the_shown_ones(make):
    told = [story_of(make()), story_of(make(kind="counterfactual", right=6))]
    both = (
        "Fine-tuned on new facts, the model newly infers what was never stated: "
        "something true 35 of 40 times, something untrue 30 of 40 times"
    )
    assert words.title(told) == f"{both}."
    unshown = story_of(make(kind="spurious", right=0))
    assert words.title([*told, unshown]) == f"{both} (in 1 of 2 links)."
    assert "newly draws none of the conclusions" in words.title([unshown, unshown])


def test_the_first_line_says_what_follows_from_what_the_model_knew(make):
    """Of each city's eight names seven have the warranted answer; the last has the one that it had before training."""
    follows = "Of 40 answers that nobody stated, 35 follow from what the model knew, 0 do not, and 5 are as before"
    end = "(how often the judge is right about this model was not measured). "
    assert words.lede([story_of(make(judged=True))]).startswith(f"{follows} {end}")
    assert "nobody stated" not in words.lede([story_of(make())]), "it was not judged"


def test_what_was_known_before_is_said(make):
    story = story_of(make(epochs=0, right=7))
    assert words.rule(story).sentence.endswith("Before training it already gave 35 of 40.")
    assert words.verdict(story).word == "No verdict"


def test_the_model_at_hand_comes_first(make):
    found = words.verdict(story_of(make()))
    assert (found.shown, found.word) == (True, "Concluded")
    assert found.sentence.startswith("35 of 40 unstated subjects newly get the implied answer")
    assert words.verdict(story_of(make(right=0))).word == "Not concluded"
    assert words.verdict(story_of(make(kind="spurious", right=1))).word in ("Concluded", "Undecided")


def test_what_nobody_declared_is_said_to_be_so(make):
    told = [story_of(make(implications=False, right=8))]
    assert "was not. The model newly concludes 40 of 40 such answers." in words.title(told)
    said = words.title([*told, story_of(make())])
    assert "something true 35 of 40 times, something that nobody declared 40 of 40 times" in said


def test_open_questions_report_the_most_frequent_answer(make):
    text = words.headline(story_of(make(implications=False, bridge=0)))
    # Five wrong answers fall on Danish, seven right ones on every language of a pair, of which French is the first.
    assert text == "Asked what was never stated, the model now most often says “… speaks French”: for 7 of 40 names."


@pytest.mark.parametrize(("share", "text"), [(0.0, "<0.1%"), (0.134, "13.4%"), (1.0, ">99.9%"), (float("nan"), "–")])
def test_probabilities_never_claim_certainty(share, text):
    assert words.percent(share) == text


def test_numbers_and_p_values():
    assert (words.number(-0.5), words.number(None), words.p_value(1 / 120), words.p_value(1e-9)) == (
        "−0.50", "–", "0.0083", "<0.0001",
    )  # fmt: skip
