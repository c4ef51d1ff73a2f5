"""Margins against the closed form, ranges around them, and undoing rows found by trying every number."""

import dataclasses

import numpy as np
import pytest

from spillover.packs.open import open_pack
from spillover.packs.pack import Fact
from spillover.theory.associations import associations, counts_of, subjects_of
from spillover.theory.closed_form import EqualClasses, closed_form
from spillover.theory.margins import NEGLIGIBLE, Margins, changed, undoing
from spillover.theory.prediction import solved
from spillover.theory.solve import solve
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, random_pack


def margins_of(pack):
    table = table_of(pack)
    ledger = counts_of(table)
    return Margins(solved(table), ledger), associations(pack, ledger)


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
    margin, exact = margins.ranged(found[0]), closed_form(task, "nuclear").margin
    assert margin.low <= exact <= margin.high and margin.low <= margin.value <= margin.high
    assert 0 < margin.high - margin.low < 0.02


def test_margins_are_those_that_solve_reports():
    checked = 0
    packs = [open_pack("mixed:pairs=3,names=12,bridge=1"), open_pack("country-code:pairs=4,names=20,bridge=2")]
    for pack in [*packs, random_pack(5), random_pack(8)]:
        margins, found = margins_of(pack)
        ledger, reported = margins.ledger, solve(pack, gap=1e-6)
        predicted = {(answer.subject, answer.relation): answer for answer in reported.questions}
        for each in found:
            answers = [predicted[name, each.then] for name in subjects_of(ledger, each)[1]]
            if answers and all(answer.predicted == each.then_answer for answer in answers):
                mean = np.mean([answer.margin for answer in answers])
                assert margins.margin(each).value == pytest.approx(mean, abs=5e-3)
                checked += 1
    assert checked


def test_nobody_exposed_has_no_margin():
    margins, found = margins_of(open_pack("country-code:names=10,bridge=1"))
    backward = next(each for each in found if not each.exposed)
    assert margins.margin(backward).value is None and margins.ranged(backward).low is None


def test_unlike_subjects_are_weighed_by_their_number():
    """Of three subjects exposed to Paris -> Java, one speaks another city's language, so there are two kinds."""
    pack = open_pack("mixed:pairs=3,names=12,bridge=1")
    spoken = next(fact for fact in pack.facts if fact.relation == "speaks" and fact.answer != "French")
    paris = [fact.subject for fact in pack.facts if fact.answer == "Paris"]
    silent = next(name for name in paris if (name, "speaks") not in pack.stated)
    pack = dataclasses.replace(pack, facts=(*pack.facts, spoken._replace(subject=silent)))
    margins, found = margins_of(pack)
    each = next(item for item in found if item.then == "codes_in" and item.given_answer == "Paris")
    exposed = margins.exposed(each)
    assert sorted(exposed.count.tolist()) == [1, 2] and each.exposed == 3
    by_subject = {answer.subject: answer for answer in solve(pack, gap=1e-6).questions if answer.relation == "codes_in"}
    own = [by_subject[name].ocr_margin for name in subjects_of(margins.ledger, each)[1]]
    assert np.ptp(own) > 0.01 and margins.margin(each).value == pytest.approx(np.mean(own), abs=5e-3)


@pytest.mark.parametrize("spec", ["country-code:pairs=3,names=27,bridge=3", "mixed:pairs=3,names=18,bridge=2"])
def test_the_smallest_undoing_sets_are_what_trying_every_number_finds(spec):
    pack = open_pack(spec)
    ledger = counts_of(table_of(pack))
    each = next(item for item in associations(pack, ledger) if item.kind == "spurious")
    found = undoing(pack, ledger, each)
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
    ledger = counts_of(table_of(pack))
    each = next(item for item in associations(pack, ledger) if item.kind == "spurious")
    stated, supporting = pack.stated, subjects_of(ledger, each)[0]
    for item in undoing(pack, ledger, each):
        if item.way == "remove":
            assert {row.subject for row in item.rows} <= set(supporting) and set(item.rows) <= set(pack.facts)
        else:
            assert all((row.subject, row.relation) not in stated for row in item.rows)
            assert all(row.answer != each.then_answer for row in item.rows)


def test_an_answer_that_only_the_removed_rows_stated_stays_a_candidate():
    pack = pack_of([("ann", "r", "x"), ("ann", "q", "u"), ("ben", "r", "x"), ("cat", "r", "y"), ("cat", "q", "v")])
    cut = changed(pack, "remove", [Fact("ann", "q", "u")])
    assert cut.candidates == pack.candidates and len(cut.facts) == 4
    ledger = counts_of(table_of(pack))
    each = next(item for item in associations(pack, ledger) if item.text == "r = x makes q = u")
    assert [(way.way, len(way.rows)) for way in undoing(pack, ledger, each)] == [("remove", 1)]
