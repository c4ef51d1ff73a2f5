"""Associations: counts equal a plain count over the rows; margins, their ranges, and the rows that undo them."""

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication
from spillover.theory.associations import NEGLIGIBLE, Margins, associations, changed, counts_of, subjects_of, undoing
from spillover.theory.closed_form import closed_form
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
