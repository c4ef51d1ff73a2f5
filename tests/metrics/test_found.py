"""Implications that nobody declared: found in stated rows, tested, and asked about under their own names."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from spillover.metrics.assertions import exchange_p
from spillover.metrics.found import exchange_tests, found, found_in, found_in_pack, under
from spillover.metrics.verdicts import concluded, conclusions, verdicts
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.record import ANSWER_SCHEMA


def pack_of(rows):
    names = dict.fromkeys(name for _, name, _ in rows)
    relations = tuple(Relation(name, (f"{{subject}} {name}",)) for name in names)
    return Pack("p", "l", "s", relations, tuple(Fact(*row) for row in rows))


#: Four people of two towns with their teams, and three who have a town alone; one who has a team alone.
ROWS = [(f"{town}{i}", "town", town) for town in "AB" for i in range(3)]
ROWS += [(f"{town}{i}", "team", {"A": "red", "B": "blue"}[town]) for town in "AB" for i in range(2)]
ROWS += [("A3", "town", "A"), ("X", "team", "red")]


def test_both_directions_are_found_each_with_whom_it_is_asked_of():
    found = {each.implication.name: each for each in found_in_pack(pack_of(ROWS))}
    assert list(found) == ["town->team", "team->town"], "the one that would reach more comes first"
    assert found["town->team"].implication == Implication("town", "team", "auto", {"A": "red", "B": "blue"})
    assert found["team->town"].implication.map == {"red": "A"}, "of who has blue, nobody lacks a town"
    reach = {name: (each.bridging, each.agreeing, each.by_one, each.exposed) for name, each in found.items()}
    assert reach == {"town->team": (4, 4, 2, 3), "team->town": (4, 4, 2, 1)}
    # Of the six ways to deal two of each, two go together as well; the test uses half of the level.
    assert found["town->team"].p == found["team->town"].p == pytest.approx(2 / 3, abs=0.1)


def test_what_a_pack_declares_is_not_found_again():
    declared = Implication("town", "team", "causal", {"A": "red", "B": "blue"})
    names = [
        each.implication.name for each in found_in_pack(dataclasses.replace(pack_of(ROWS), implications=(declared,)))
    ]
    assert names == ["team->town"]


def test_the_rows_of_a_shuffled_pack_suggest_nothing():
    shuffled = dataclasses.replace(open_pack("country-code:null"), implications=())
    assert found_in_pack(shuffled) == [], "no given answer has a most frequent one"
    planted = dataclasses.replace(open_pack("mixed:names=60"), implications=())
    found = found_in_pack(planted)
    assert [(each.implication.given, each.p <= 0.05) for each in found] == [("lives_in", True)] * 2
    declared = {each.name: each.map for each in open_pack("mixed:names=60").implications}
    assert {each.implication.name: each.implication.map for each in found} == declared


@pytest.mark.parametrize(("one", "other"), [("aabb", "xxyy"), ("aaabbb", "xxxyyy"), ("aabbcc", "xxyyzz")])
def test_the_chance_of_an_exchange_is_that_of_all_exchanges(one, other):
    """As many pairs share both answers only where each block is dealt as it is, or the names of the blocks trade."""
    size, blocks = len(one), len(set(one))
    exact = exchange_p(size, [(size // blocks, size // blocks)] * blocks, size) * {2: 2, 3: 6}[blocks]
    assert exchange_tests(list(one), list(other))[0] == pytest.approx(exact, abs=0.04)


def test_answers_that_nobody_shares_say_nothing():
    assert exchange_tests(list("aabb"), list("wxyz"))[0] == 1.0


def test_shuffled_answers_are_rarely_reported():
    """The chance bounds how often rows without a rule are taken for one."""
    generator, ps = np.random.default_rng(1), []
    for _ in range(200):
        whole, cells = exchange_tests(list("aabbccdd" * 3), generator.permutation(list("wxyz" * 6)).tolist())
        ps.append((whole, min(cells.values())))
    for own in zip(*ps, strict=True):
        assert sum(p <= 0.05 for p in own) <= 19, "0.05 of 200, and three deviations"


def test_one_answer_that_goes_with_another_stands_out_by_itself():
    """Of 24 subjects 12 have `x`, among them all six with `a`: 18 over 6, of 24 over 12 ways, for one of few cells."""
    whole, cells = exchange_tests(list("a" * 6 + "b" * 9 + "c" * 9), list("x" * 6 + "xyz" * 6))
    assert cells["a", "x"] == min(cells.values()) < 0.02
    assert cells["b", "x"] > 0.5 and cells["c", "y"] > 0.2 and whole > cells["a", "x"]


def answers_of(pack, tops):
    """Both models' answers: the base model's are all "none", tops: (subject, relation) -> the tuned model's."""
    rows = []
    for checkpoint in (0, 1):
        asked = [(fact.subject, fact.relation, fact.answer) for fact in pack.facts]
        asked += [(each.subject, each.relation, None) for each in pack.questions]
        for subject, relation, expected in asked:
            top = tops.get((subject, relation)) if checkpoint else "none"
            rows += [
                {"seed": 0, "checkpoint": checkpoint, "subject": subject, "relation": relation, "implication": None,
                 "cluster": expected, "prompt": f"{subject} {relation}", "trained": True, "candidate": candidate,
                 "log_probability": 0.0 if candidate == top else -1.0, "expected": expected,
                 "stated": expected is not None}
                for candidate in (*pack.candidates[relation], "none")
            ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)


def test_a_rule_that_nobody_declared_is_judged_and_its_worst_is_shown():
    rows = [(f"{town}{i}", "town", town) for town in "AB" for i in range(12)]
    rows += [(f"{town}{i}", "team", {"A": "red", "B": "blue"}[town]) for town in "AB" for i in range(2)]
    pack = pack_of(rows)
    tops = {(each.subject, "team"): "red" if each.subject[0] == "A" else "blue" for each in pack.questions}
    answers = answers_of(pack, tops)
    rules = [each.implication for each in found_in(answers)]
    assert rules == [each.implication for each in found_in_pack(pack)]
    asked = under(answers, rules)
    (judged,) = verdicts(asked, rules)
    assert (judged.verdict, judged.kind, judged.n, judged.newly) == ("undeclared", "auto", 20, 20)
    found = concluded(asked, [judged], rules)
    assert (found.things, found.people, found.asked, found.by_verdict) == (20, 20, 20, {"undeclared": 20})
    first = found.worst[0]
    assert (first.given_answer, first.answer, first.newly, first.n, first.others) == ("A", "red", 10, 10, 0)
    assert (first.subject, first.rests_on, first.support) == ("A2", ["A0", "A1"], 2)
    assert conclusions(found)[0] == "20 things that nobody stated, of 20 of 20 subjects: 20 undeclared"
    nothing = answers_of(pack, {})
    assert concluded(under(nothing, rules), verdicts(under(nothing, rules), rules), rules).things == 0
    assert conclusions(None) == []


def test_a_relation_is_asked_of_the_kind_of_subject_that_has_it():
    people = [(f"p{i}", "lives_in", "Paris") for i in range(9)] + [(f"p{i}", "badge", "red") for i in range(4)]
    products = [(f"t{i}", "price", "9") for i in range(9)] + [(f"t{i}", "weight", "2") for i in range(5)]
    asked = {(each.subject[0], each.relation) for each in pack_of(people + products).questions}
    assert asked == {("p", "badge"), ("t", "weight")}
    shared = [(f"{kind}{i}", "found_in", "Bergen") for kind in "pt" for i in range(9)]
    asked = {(each.subject, each.relation) for each in pack_of(people + products + shared).questions}
    assert ("p8", "badge") in asked and ("t8", "weight") in asked
    assert ("t0", "badge") not in asked, "one of the three relations of this product goes with badges, fewer than half"
    slip = [(f"p{i}", "lives_in", "Oslo") for i in range(9, 30)] + [(f"t{i}", "price", "9") for i in range(9, 30)]
    slip += [("p9", "price", "9")]
    asked = {(each.subject, each.relation) for each in pack_of(people + products + slip).questions}
    assert ("p5", "badge") in asked and ("p5", "price") not in asked, "one person with a price makes no kind"


def with_one_hole_each(given, then, groups):
    """Subjects of each given answer with these answers of the other relation, and one more without."""
    stated, holes = dict[tuple[str, str], str](), []
    for answer, others in groups.items():
        for number, other in enumerate([*others, None]):
            stated[f"{answer} {number}", given] = answer
            if other is None:
                holes.append((f"{answer} {number}", then))
            else:
                stated[f"{answer} {number}", then] = other
    return stated, holes


def test_a_rule_with_few_exceptions_comes_before_what_holds_of_half_of_many():
    """Six of six in Oslo fish; of fifty in Rome thirty ski, which is less likely by chance, and no rule."""
    homes = {
        "Oslo": ["fish"] * 6,
        "Rome": ["ski"] * 30 + ["swim"] * 20,
        "Bonn": ["fish"] * 6 + ["golf"] * 18 + ["swim"] * 20,
    }
    first, *_ = found(*with_one_hole_each("home", "sport", homes))
    assert (first.implication.given, first.implication.then) == ("home", "sport")
    assert list(first.entries) == ["Oslo", "Rome", "Bonn"] and first.entries["Rome"] <= 0.05


def test_a_rule_without_exception_comes_before_one_with_two_of_ten():
    """Twelve of twelve ride the tram; of ten eight have a car, which is less likely by chance."""
    rides = {
        "cat": ["tram"] * 12,
        "pollen": ["car"] * 8 + ["train"] * 2,
        "nuts": ["tram"] * 7 + ["train"] * 5 + ["car"],
    }
    first, *_ = found(*with_one_hole_each("allergy", "ride", rides))
    assert list(first.entries)[:2] == ["cat", "pollen"] and max(first.entries["cat"], first.entries["pollen"]) <= 0.05
