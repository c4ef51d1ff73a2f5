"""Counts of associations equal a plain count over the rows."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.packs.open import open_pack
from spillover.packs.pack import Implication
from spillover.theory.associations import associations, counts_of, subjects_of
from spillover.theory.table import table_of
from tests.theory.random_packs import pack_of, random_pack


def listed(pack):
    ledger = counts_of(table_of(pack))
    return ledger, associations(pack, ledger)


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
    ledger, found = listed(pack)
    assert {(each.given, each.given_answer, each.then) for each in found} == set(together)
    for each in found:
        answers = together[each.given, each.given_answer, each.then]
        assert each.support == answers[each.then_answer] == max(answers.values())
        assert each.opposed == answers.total() - each.support
        assert each.exposed == silent[each.given, each.given_answer, each.then]
        supporting, exposed = subjects_of(ledger, each)
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
