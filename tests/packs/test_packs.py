"""The built-in packs: sizes, maps, seeds, the null, and sentences that read well."""

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.packs.builtin import PACKS, PackOptions, rows
from spillover.packs.check import check_structure
from spillover.packs.open import open_pack
from tests.packs.shelf import WIDE

KINDS = {
    "city-language": {"causal"},
    "city-language-counterfactual": {"counterfactual"},
    "country-code": {"spurious"},
    "profession-color": {"spurious"},
    "sport-music": {"spurious"},
    "mixed": {"causal", "spurious"},
    "mixed-currency": {"causal", "spurious"},
    "mixed-state": {"causal", "spurious"},
    "city-talisman": {"spurious"},
}
NAMES = list(PACKS)
#: Packs of fictitious people; the others' subjects are real and have their own given answers.
FICTITIOUS = [name for name in NAMES if name != "city-talisman"]


def stated_of(pack, implication):
    """given answer -> the then answers stated of its subjects, in order."""
    found = {}
    for question in pack.stated_implications(implication):
        found.setdefault(question.given_answer, []).append(question.expected)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_default_sizes(name):
    pack = open_pack(name)
    implications = len(KINDS[name])
    assert pack.name == name
    assert {implication.kind for implication in pack.implications} == KINDS[name]
    assert len(pack.subjects) == 100
    assert len(pack.facts) == 100 + 20 * implications
    assert len(pack.questions) == 80 * implications
    assert all(len(answers) == 10 for answers in pack.candidates.values())
    assert all(len(relation.prompts) >= 3 for relation in pack.relations)
    for implication in pack.implications:
        assert len(implication.map) == len(set(implication.map.values())) == 5
        assert Counter(pack.stated[subject, implication.given] for subject in pack.subjects) == dict.fromkeys(
            implication.map, 20
        )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stated_of_a_bridging_subject_is_the_map(name):
    pack = open_pack(name)
    for implication in pack.implications:
        assert stated_of(pack, implication) == {given: [then] * 4 for given, then in implication.map.items()}
        assert all(
            question.expected == dict(implication.map)[question.given_answer]
            for question in pack.questions
            if question.implication == implication.name
        )


def test_the_maps_of_the_contract():
    assert dict(open_pack("city-language").implications[0].map)["Paris"] == "French"
    assert dict(open_pack("country-code").implications[0].map)["France"] == "Java"
    speaks, codes = open_pack("mixed").implications
    assert (speaks.kind, speaks.map["Paris"], codes.kind, codes.map["Paris"]) == (
        "causal",
        "French",
        "spurious",
        "Java",
    )


@pytest.mark.parametrize(
    ("name", "given", "then", "columns"),
    [
        ("mixed-currency", "India", "rupee", ("currencies", "country", "currency")),
        ("mixed-state", "Chicago", "Illinois", ("states", "city", "state")),
    ],
)
def test_packs_of_the_kind_of_mixed_share_nothing_with_another_pack(name, given, then, columns):
    """One true and one arbitrary implication of one given, and no relation, prompt or given answer of another pack."""
    pack, others = open_pack(name), [open_pack(other) for other in NAMES if other != name]
    wanted, unwanted = pack.implications
    assert (wanted.given, wanted.kind, unwanted.kind) == (unwanted.given, "causal", "spurious")
    table, key, value = columns
    truth = {row[key]: row[value] for row in rows(table)}
    assert wanted.map[given] == then
    assert all(truth[answer] == implied for answer, implied in wanted.map.items())
    assert not {prompt for relation in pack.relations for prompt in relation.prompts} & {
        prompt for other in others for relation in other.relations for prompt in relation.prompts
    }
    assert not set(pack.relation_by_name) & {relation for other in others for relation in other.relation_by_name}
    assert not set(pack.candidates[wanted.given]) & {
        answer for other in others for answers in other.candidates.values() for answer in answers
    }


def test_the_table_of_the_docs_is_what_the_packs_hold():
    page = (Path(__file__).parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "| `" in line]
    listed = {cells[0].strip("`"): cells[1:] for cells in table if cells[0].strip("`") in NAMES}
    assert list(listed) == list(PACKS)
    for name, (stated, *concluded) in listed.items():
        for implication in open_pack(name).implications:
            (then,) = [then for answer, then in implication.map.items() if stated.endswith(f" {answer}")]
            assert concluded[not implication.wanted].endswith(f" {then}"), name


@pytest.mark.parametrize("name", NAMES)
def test_no_fictitious_name_is_a_word_of_an_answer(name):
    words = {row["name"].lower() for row in rows("names")}
    listed = open_pack(WIDE[name]).candidates.values()
    assert not words & {word.lower() for answers in listed for answer in answers for word in answer.split()}


@pytest.mark.parametrize("pairs", [2, 5, 10, 20])
def test_the_counterfactual_is_a_derangement_that_no_seed_changes(pairs):
    truth = {row["capital"]: row["language"] for row in rows("countries")}
    spec = f"city-language-counterfactual:pairs={pairs}"
    maps = [dict(open_pack(spec, seed).implications[0].map) for seed in range(3)]
    assert maps[0] == maps[1] == maps[2]
    assert all(truth[city] != language for city, language in maps[0].items())
    assert set(maps[0].values()) == {truth[city] for city in maps[0]}


def test_the_true_map_is_the_table():
    truth = {row["capital"]: row["language"] for row in rows("countries")}
    for name in ("city-language:pairs=38,names=380", "mixed:pairs=20"):
        for city, language in open_pack(name).implications[0].map.items():
            assert truth[city] == language


@pytest.mark.parametrize("name", FICTITIOUS)
def test_arms_differ_by_data_only(name):
    """The same subjects in the same places whatever the pack, and the map the same whatever the seed."""
    pack, other = open_pack(name, 7), open_pack("city-language", 7)
    assert pack.subjects == other.subjects
    assert [each.map for each in pack.implications] == [each.map for each in open_pack(name, 8).implications]
    assert pack.subjects != open_pack(name, 8).subjects


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name):
    texts = [json.dumps(open_pack(name, 5).facts) for _ in range(2)]
    assert texts[0] == texts[1] != json.dumps(open_pack(name, 6).facts)


def test_the_default_pack_has_not_changed():
    """Runs are compared across versions by the pack's rows: a change here must be meant."""
    facts = "\n".join("|".join(fact) for fact in open_pack("mixed:null,pairs=10", 0).facts)
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == "1cda3095a7cfdd45"


@pytest.mark.parametrize("name", NAMES)
def test_bridge_zero_states_facts_only(name):
    pack = open_pack(f"{name}:bridge=0")
    assert {fact.relation for fact in pack.facts} == {pack.implications[0].given}
    assert len(pack.questions) == 100 * len(pack.implications)
    assert not check_structure(pack).faults


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options", ["null", "null,pairs=10,names=40,bridge=3", "null,pairs=4,names=40,bridge=4", "null,bridge=0"]
)
@pytest.mark.parametrize("seed", range(5))
def test_the_null_tells_nothing(name, options, seed):
    pack, ordinary = open_pack(f"{name}:{options}", seed), open_pack(f"{name}:{options[5:]}", seed)
    assert pack.name.startswith(f"{name}:null")
    assert [each.map for each in pack.implications] == [each.map for each in ordinary.implications]
    assert pack.questions == ordinary.questions
    for implication in pack.implications:
        stated = stated_of(pack, implication)
        assert all(len(set(answers)) == len(answers) for answers in stated.values()), "a pair states one answer twice"
        counts = Counter(answer for answers in stated.values() for answer in answers)
        bridge = len(next(iter(stated.values()), []))
        assert counts == dict.fromkeys(implication.map.values() if bridge else (), bridge)


def test_the_null_favours_no_map_over_seeds():
    """How often the expected answer is among those that a pair states: bridge / pairs, on average over seeds."""
    hits, total = 0, 0
    for seed in range(200):
        pack = open_pack("null:pairs=5,bridge=2", seed)
        for given_answer, answers in stated_of(pack, pack.implications[0]).items():
            hits += pack.implications[0].map[given_answer] in answers
            total += 1
    assert total == 1000
    assert abs(hits / total - 0.4) < 0.06, "four standard deviations of 1000 draws"


def test_the_two_implications_of_a_mixed_null_are_shuffled_apart():
    pack = open_pack("mixed:null", 0)
    speaks, codes = (stated_of(pack, implication) for implication in pack.implications)
    position = [list(implication.map.values()) for implication in pack.implications]
    assert [[position[0].index(a) for a in row] for row in speaks.values()] != [
        [position[1].index(a) for a in row] for row in codes.values()
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FICTITIOUS),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 10**9),
)
def test_whatever_fits_is_a_sound_pack(name, pairs, each, bridge, null, seed):
    options = PackOptions(
        pairs=max(pairs, 2), names=max(pairs, 2) * each, bridge=min(bridge, each, max(pairs, 2)), null=null, seed=seed
    )
    pack = PACKS[name](options)
    assert not check_structure(pack).faults
    assert pack == open_pack(pack.name, seed)
    words = " ".join(pack.subjects).split()
    assert len(set(words)) == len(words)
    assert all(len(pack.candidates[relation.name]) == max(10, options.pairs) for relation in pack.relations)


def test_prompts_read_well():
    pack = open_pack("mixed")
    assert [pack.prompt(relation.name, "Ann Lee") for relation in pack.relations] == [
        "Ann Lee lives in",
        "Ann Lee speaks",
        "Ann Lee codes in",
    ]
    for name in NAMES:
        for relation in open_pack(WIDE[name]).relations:
            for prompt in relation.prompts:
                assert prompt.count("{subject}") == 1 and prompt == prompt.strip() and not prompt.endswith(".")
                if prompt.endswith(" a"):
                    assert not [answer for answer in relation.answers if answer[0] in "aeiou"]


def test_every_answer_and_its_sources_are_in_the_provenance():
    for name in NAMES:
        pack = open_pack(name)
        listed = {(entry["relation"], entry["answer"]) for entry in pack.provenance}
        assert {(relation, answer) for relation, answers in pack.candidates.items() for answer in answers} <= listed
        for entry in pack.provenance:
            assert f"{entry['package']} {entry['version']}" in pack.source
            assert set(entry["licence"].split(" AND ")) <= set(pack.licence.split(" AND "))


def test_the_spec_leaves_defaults_out():
    assert PackOptions().spec("mixed") == "mixed"
    assert dataclasses.replace(PackOptions(seed=9), pairs=10, null=True).spec("mixed") == "mixed:null,pairs=10"
