"""Remedies in the exact model: against the closed forms, known figures, and the ranges of the general solver."""

import dataclasses

import pytest

from spillover.errors import UsageError
from spillover.interventions import base as interventions
from spillover.packs.edits import EDITS
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact
from spillover.theory.associations import REMEDIES, ExactResult, exactly_remedied, leads
from spillover.theory.closed_form import closed_form, exact_margin
from spillover.theory.solving import solve
from spillover.theory.symbolic import EqualClasses


def symbolic(classes, train, test):
    pack = EqualClasses(classes, train, test).pack()
    return pack, pack.implications[0]


def arbitrary(pack):
    return next(rule for rule in pack.implications if not rule.wanted)


@pytest.mark.parametrize(("people", "figure"), [(0, 0.835), (1, -0.106), (2, -0.360), (4, -0.602)])
def test_abstention_flips_the_leaked_answer(people, figure):
    """Six subjects a class, one of them bridging, `people` of them abstaining: four classes."""
    pack, _ = symbolic(4, 1, 5 - people)
    found = exactly_remedied(pack, "abstention", people)
    assert found.treated.over_abstention == pytest.approx(figure, abs=1e-3)
    assert found.untreated.unwanted == pytest.approx(closed_form(EqualClasses(4, 1, 5 - people), "nuclear").margin)
    assert (found.added, found.left_out) == (4 * 2 * people, 0)
    if people:
        assert found.treated.unwanted == found.treated.over_abstention


@pytest.mark.parametrize("train", [1, 2, 3])
def test_one_rival_cancels_the_leak_only_when_it_is_stated_as_often(train):
    pack, rule = symbolic(4, train, 5)
    for rows in (1, 2, 3):
        facts = list(pack.facts)
        for i in range(4):
            for number in range(rows):
                facts += [Fact(f"t{i}.{number}", "r1", f"b{i}"), Fact(f"t{i}.{number}", "r2", f"c{(i + 1) % 4}")]
        unwanted = leads(dataclasses.replace(pack, facts=tuple(facts)), pack, [rule]).unwanted
        assert unwanted == pytest.approx(0, abs=1e-5) if rows == train else (unwanted > 0.05) == (rows < train)


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_fewer_bridging_is_the_closed_form_of_the_smaller_bridge(left_out):
    """Asked of the subjects that were never stated; those whose row is left out are like them."""
    pack, _ = symbolic(4, 3, 5)
    found = exactly_remedied(pack, "fewer-bridging", left_out)
    exact = closed_form(EqualClasses(4, 3 - left_out, 5 + left_out), "nuclear").margin
    assert found.treated.unwanted == pytest.approx(exact, abs=2e-3)
    assert (found.added, found.left_out) == (0, 4 * left_out)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_the_mixed_norm_has_the_margin_of_its_one_unknown(share):
    pack, _ = symbolic(4, 1, 3)
    found = exactly_remedied(pack, "mixed-norm", share)
    assert found.treated.unwanted == pytest.approx(exact_margin(EqualClasses(4, 1, 3), share), abs=2e-3)
    assert found.untreated.unwanted == pytest.approx(3**-0.5, abs=2e-3)
    assert (found.treated == found.untreated) == (share == 0)


@pytest.mark.parametrize(("remedy", "strength"), [("abstention", 1), ("contradiction", 2), ("fewer-bridging", 1)])
def test_a_treated_pack_has_the_margins_that_solve_reports(remedy, strength):
    pack = open_pack("mixed:pairs=3,names=12,bridge=2")
    rule = arbitrary(pack)
    found = exactly_remedied(pack, remedy, strength)
    solution = solve(EDITS[remedy](pack, rule, strength, 0), gap=1e-6)
    asked = {(question.subject, question.relation) for question in pack.questions}
    for relation, margin in ((rule.then, found.treated.unwanted), ("speaks", found.treated.wanted)):
        own = [
            answer.ocr_margin
            for answer in solution.questions
            if answer.relation == relation and (answer.subject, relation) in asked
        ]
        assert len(own) == 6 and margin == pytest.approx(sum(own) / len(own), abs=5e-3)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_strength_none_changes_nothing(remedy):
    pack = open_pack("mixed:pairs=3,names=12,bridge=2")
    found = exactly_remedied(pack, remedy, 0, arbitrary(pack))
    assert isinstance(found, ExactResult) and found.treated is found.untreated
    assert (found.added, found.left_out) == (0, 0) and found.untreated.gap < 1e-5


def test_on_mixed_the_rows_keep_the_true_link_and_the_norm_takes_both():
    """The default pack: what stands beside a language model's frontier."""
    pack = open_pack("mixed")
    abstaining, norm = exactly_remedied(pack, "abstention", 4), exactly_remedied(pack, "mixed-norm", 0.75)
    assert abstaining.untreated.unwanted == pytest.approx(8**-0.5, abs=2e-3)
    assert abstaining.treated.unwanted < -0.2 and abstaining.treated.wanted > 0.28
    assert norm.treated.unwanted == pytest.approx(norm.treated.wanted, abs=2e-3) and norm.treated.unwanted < 0.13


@pytest.mark.parametrize(
    ("remedy", "strength", "sentence"),
    [
        ("abstension", 1, "there is no remedy called 'abstension' in theory. Did you mean 'abstention'?"),
        ("abstention", 0.5, "abstention: 0.5 rows are no whole number. Use 0, 1, 2 or more."),
        ("contradiction", float("nan"), "contradiction: nan rows are no whole number. Use 0, 1, 2 or more."),
        ("mixed-norm", 1.5, "mixed norm: a share of 1.5 mixes nothing. Use 0 to 1."),
        ("mixed-norm", float("nan"), "mixed norm: a share of nan mixes nothing. Use 0 to 1."),
        ("fewer-bridging", -1, "fewer-bridging: -1 rows are no whole number. Use 0, 1, 2 or more."),
    ],
)
def test_what_cannot_be_is_a_sentence(remedy, strength, sentence):
    pack = open_pack("mixed:pairs=3,names=12,bridge=2")
    with pytest.raises(UsageError) as caught:
        exactly_remedied(pack, remedy, strength)
    assert str(caught.value) == sentence


def test_where_nothing_is_unwanted_there_is_nothing_to_do():
    pack = open_pack("mixed:pairs=3,names=12,bridge=2")
    with pytest.raises(UsageError, match=r"lives_in->speaks is wanted\. Choose an implication of kind spurious"):
        exactly_remedied(pack, "abstention", 1, pack.implications[0])
    with pytest.raises(UsageError, match="city-language:names=10,bridge=1: this pack declares no unwanted implication"):
        exactly_remedied(open_pack("city-language:names=10,bridge=1"), "abstention", 1)


def test_the_names_are_those_of_a_language_models_remedies():
    assert set(EDITS) <= set(interventions.remedies())
