"""Associations: counts equal a plain count over the rows; margins, their ranges, and the rows that undo them.

And remedies in the exact model: against the closed forms, known figures, and the ranges of the general solver.
"""

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.interventions import base as interventions
from spillover.packs.edits import EDITS
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication
from spillover.theory.associations import (
    NEGLIGIBLE,
    REMEDIES,
    ExactResult,
    Margins,
    associations,
    changed,
    counts_of,
    exactly_remedied,
    leads,
    subjects_of,
    undoing,
)
from spillover.theory.closed_form import closed_form, exact_margin
from spillover.theory.prediction import solved
from spillover.theory.solving import solve
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, random_pack


def listed(pack):
    counts = counts_of(table_of(pack))
    return counts, associations(pack, counts)


def counted(pack):
    """(given, a, then) -> counts of the answers that go with it, and how many have none; by a loop over subjects."""
    by_subject = defaultdict(dict)
    for fact in pack.facts:
        by_subject[fact.subject][fact.relation] = fact.answer
    together, silent = defaultdict(Counter), Counter()
    for own in by_subject.values():
        for given_relation, answer in own.items():
            for then in [relation.name for relation in pack.relations if relation.name != given_relation]:
                if then in own:
                    together[given_relation, answer, then][own[then]] += 1
                else:
                    silent[given_relation, answer, then] += 1
    return together, silent


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_every_stated_pair_is_counted_as_a_loop_counts_it(seed):
    pack = random_pack(seed)
    together, silent = counted(pack)
    counts, found = listed(pack)
    assert {(each.given, each.given_answer, each.then) for each in found} == set(together)
    for each in found:
        answers = together[each.given, each.given_answer, each.then]
        assert each.support == answers[each.then_answer] == max(answers.values())
        assert each.opposed == answers.total() - each.support
        assert each.exposed == silent[each.given, each.given_answer, each.then]
        supporting, exposed = subjects_of(counts, each)
        assert (len(supporting), len(exposed)) == (each.support, each.exposed)
        stated = {(fact.subject, fact.relation): fact.answer for fact in pack.facts}
        assert all(stated[name, each.then] == each.then_answer for name in supporting)
        assert all(
            (name, each.then) not in stated and stated[name, each.given] == each.given_answer for name in exposed
        )


def test_the_paper_s_size_by_hand():
    _, found = listed(open_pack("country-code"))
    forward = [each for each in found if each.given == "lives_in"]
    backward = [each for each in found if each.given == "codes_in"]
    assert len(forward) == len(backward) == 5 and found[:5] == forward
    assert {(each.support, each.opposed, each.exposed, each.kind) for each in forward} == {(4, 0, 16, "spurious")}
    assert {(each.support, each.opposed, each.exposed, each.kind) for each in backward} == {(4, 0, 0, None)}
    assert "lives_in = France makes codes_in = Java" in [each.text for each in forward]


def test_a_declared_association_stands_beside_the_one_that_rows_suggest():
    rows = [("a", "r", "x"), ("a", "q", "u"), ("b", "r", "x"), ("b", "q", "u"), ("c", "r", "x"), ("d", "q", "v")]
    pack = pack_of(rows)
    rule = Implication("r", "q", "counterfactual", {"x": "v"})
    pack = type(pack)(**{**{name: getattr(pack, name) for name in pack.__dataclass_fields__}, "implications": (rule,)})
    found = {each.text: each for each in listed(pack)[1]}
    declared, led = found["r = x makes q = v"], found["r = x makes q = u"]
    assert (declared.support, declared.opposed, declared.exposed, declared.kind) == (0, 2, 1, "counterfactual")
    assert (led.support, led.opposed, led.exposed, led.kind) == (2, 0, 1, None)
    assert (found["q = u makes r = x"].support, found["q = u makes r = x"].exposed) == (2, 0)


def test_a_declared_answer_that_nobody_states_has_nobody_exposed():
    pack = open_pack("city-language:bridge=0,names=10")
    found = listed(pack)[1]
    assert {(each.support, each.exposed) for each in found} == {(0, 2)} and len(found) == 5
    assert all(each.kind == "causal" for each in found)


@pytest.mark.parametrize("spec", ["mixed:names=10,bridge=1", "country-code:null,names=25"])
def test_most_exposed_come_first(spec):
    found = listed(open_pack(spec))[1]
    assert [each.exposed for each in found] == sorted((each.exposed for each in found), reverse=True)


def margins_of(pack):
    table = table_of(pack)
    counts = counts_of(table)
    return Margins(solved(table), counts), associations(pack, counts)


@pytest.mark.parametrize(("classes", "train", "test"), [(3, 1, 3), (5, 4, 16), (4, 3, 2), (4, 0, 3)])
def test_equal_classes_have_the_margin_of_the_closed_form(classes, train, test):
    task = EqualClasses(classes, train, test)
    margins, found = margins_of(task.pack())
    exact = closed_form(task, "nuclear").margin
    declared = [each for each in found if each.kind and each.exposed]
    assert len(declared) == classes
    for each in declared:
        assert margins.margin(each).value == pytest.approx(exact, abs=2e-3)


def test_the_range_holds_the_exact_margin():
    task = EqualClasses(3, 1, 3)
    margins, found = margins_of(task.pack())
    margin, exact = margins.margin(found[0], ranged=True), closed_form(task, "nuclear").margin
    assert margin.low <= exact <= margin.high and margin.low <= margin.value <= margin.high
    assert 0 < margin.high - margin.low < 0.02


def test_margins_are_those_that_solve_reports():
    checked = 0
    packs = [open_pack("mixed:pairs=3,names=12,bridge=1"), open_pack("country-code:pairs=4,names=20,bridge=2")]
    for pack in [*packs, random_pack(5), random_pack(8)]:
        margins, found = margins_of(pack)
        counts, reported = margins.counts, solve(pack, gap=1e-6)
        predicted = {(answer.subject, answer.relation): answer for answer in reported.questions}
        for each in found:
            answers = [predicted[name, each.then] for name in subjects_of(counts, each)[1]]
            if answers and all(answer.predicted == each.then_answer for answer in answers):
                mean = np.mean([answer.margin for answer in answers])
                assert margins.margin(each).value == pytest.approx(mean, abs=5e-3)
                checked += 1
    assert checked


def test_nobody_exposed_has_no_margin():
    margins, found = margins_of(open_pack("country-code:names=10,bridge=1"))
    backward = next(each for each in found if not each.exposed)
    assert margins.margin(backward).value is None and margins.margin(backward, ranged=True).low is None


def test_unlike_subjects_are_weighed_by_their_number():
    """Of three subjects exposed to Paris -> Java, one speaks another city's language, so there are two kinds."""
    pack = open_pack("mixed:pairs=3,names=12,bridge=1")
    spoken = next(fact for fact in pack.facts if fact.relation == "speaks" and fact.answer != "French")
    paris = [fact.subject for fact in pack.facts if fact.answer == "Paris"]
    silent = next(name for name in paris if (name, "speaks") not in pack.stated)
    pack = dataclasses.replace(pack, facts=(*pack.facts, spoken._replace(subject=silent)))
    margins, found = margins_of(pack)
    each = next(item for item in found if item.then == "codes_in" and item.given_answer == "Paris")
    kinds = margins.counts.table.signature[margins.counts.exposed(each)]
    assert sorted(np.unique(kinds, return_counts=True)[1].tolist()) == [1, 2] and each.exposed == 3
    by_subject = {answer.subject: answer for answer in solve(pack, gap=1e-6).questions if answer.relation == "codes_in"}
    own = [by_subject[name].ocr_margin for name in subjects_of(margins.counts, each)[1]]
    assert np.ptp(own) > 0.01 and margins.margin(each).value == pytest.approx(np.mean(own), abs=5e-3)


@pytest.mark.parametrize("spec", ["country-code:pairs=3,names=27,bridge=3", "mixed:pairs=3,names=18,bridge=2"])
def test_the_smallest_undoing_sets_are_what_trying_every_number_finds(spec):
    pack = open_pack(spec)
    counts = counts_of(table_of(pack))
    each = next(item for item in associations(pack, counts) if item.kind == "spurious")
    found = undoing(pack, counts, each)
    assert {item.way for item in found} >= {"remove", "contradict"}
    assert [len(item.rows) for item in found] == sorted(len(item.rows) for item in found)
    for item in found:
        lead_after = [
            margins_of(changed(pack, item.way, item.rows[:count]))[0].margin(each).value
            for count in range(len(item.rows) + 1)
        ]
        assert lead_after[-1] == pytest.approx(item.margin, abs=1e-6) and lead_after[-1] <= NEGLIGIBLE
        assert all(margin > NEGLIGIBLE for margin in lead_after[:-1])


def test_rows_that_undo_are_rows_that_may_be_stated():
    pack = open_pack("country-code:pairs=3,names=27,bridge=3")
    counts = counts_of(table_of(pack))
    each = next(item for item in associations(pack, counts) if item.kind == "spurious")
    stated, supporting = pack.stated, subjects_of(counts, each)[0]
    for item in undoing(pack, counts, each):
        if item.way == "remove":
            assert {row.subject for row in item.rows} <= set(supporting) and set(item.rows) <= set(pack.facts)
        else:
            assert all((row.subject, row.relation) not in stated for row in item.rows)
            assert all(row.answer != each.then_answer for row in item.rows)


def test_an_answer_that_only_the_removed_rows_stated_stays_a_candidate():
    pack = pack_of([("ann", "r", "x"), ("ann", "q", "u"), ("ben", "r", "x"), ("cat", "r", "y"), ("cat", "q", "v")])
    cut = changed(pack, "remove", [Fact("ann", "q", "u")])
    assert cut.candidates == pack.candidates and len(cut.facts) == 4
    counts = counts_of(table_of(pack))
    each = next(item for item in associations(pack, counts) if item.text == "r = x makes q = u")
    assert [(way.way, len(way.rows)) for way in undoing(pack, counts, each)] == [("remove", 1)]


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
