"""Faults and warnings that need no model: in packs from files, and in packs made in Python."""

from dataclasses import replace

import pytest

from spillover.packs.builtin import PACKS
from spillover.packs.check import Places, check_structure
from spillover.packs.open import open_pack, read_pack
from spillover.packs.pack import KINDS, Fact, Relation
from tests.packs.packs_on_disk import FACTS, PACK, faults_of, jsonl, warnings_of, write


@pytest.mark.parametrize("name", [*PACKS, "null", "mixed:null,pairs=20,names=100", "city-language:pairs=38,names=380"])
def test_built_in_packs_have_neither_fault_nor_warning(name):
    found = check_structure(open_pack(name))
    assert (found.faults, found.warnings) == ([], [])


def test_kinds_are_those_of_the_contract():
    assert KINDS == ("causal", "counterfactual", "spurious")


def test_two_answers_name_both_rows(tmp_path):
    assert faults_of(write(tmp_path, table=jsonl([*FACTS, ("Ann Lee", "lives_in", "Rome")]))) == [
        "facts.jsonl, row 4: 'Ann Lee' has two answers to 'lives_in': 'Paris' (row 1) and 'Rome'; expected one answer. "
        "Keep one of the two rows."
    ]


def test_a_composed_and_a_decomposed_name_are_one_subject(tmp_path):
    table = "subject,relation,answer\nJosé,lives_in,Paris\nJose\u0301,lives_in,Rome\n"
    (sentence,) = faults_of(write(tmp_path, PACK.replace("jsonl", "csv"), table, "facts.csv"))
    assert sentence.startswith("facts.csv, row 3: 'José' has two answers to 'lives_in': 'Paris' (row 2) and 'Rome'")


def test_an_unknown_relation_in_the_facts(tmp_path):
    assert faults_of(write(tmp_path, table=jsonl([*FACTS, ("Cy Fox", "speak", "French")]))) == [
        "facts.jsonl, row 4: there is no relation 'speak'; expected a relation of the pack. Did you mean 'speaks'?"
    ]


def test_no_fact(tmp_path):
    sentences = faults_of(write(tmp_path, table=""))
    assert sentences[0] == "facts.jsonl: there is no fact; expected at least one row. State something about a subject."


def test_an_exact_duplicate_is_a_warning_and_stays_in_the_pack(tmp_path):
    assert warnings_of(write(tmp_path, table=jsonl([*FACTS, FACTS[0]]))) == [
        "facts.jsonl, row 4: this row is there already: row 1. Remove it, or it counts twice in training."
    ]
    assert len(read_pack(tmp_path).facts) == 4


def test_answers_that_differ_only_in_case_or_spaces(tmp_path):
    rows = [
        *FACTS,
        ("Cy Fox", "lives_in", "new york"),
        ("Di Gray", "lives_in", "New  York "),
        ("Ed Hill", "lives_in", "York"),
    ]
    assert warnings_of(write(tmp_path, table=jsonl(rows))) == [
        "pack.yaml, row 5: answers of 'lives_in' differ only in case or spaces: 'New  York ', 'new york'. "
        "Write them alike, if they are the same answer."
    ]


def test_an_implication_without_a_question(tmp_path):
    assert warnings_of(write(tmp_path, table=jsonl([*FACTS, ("Bob Day", "speaks", "Italian")]))) == [
        "pack.yaml, row 10: the implication 'lives_in->speaks' has no question: nobody's `then` is left to infer. "
        "State its `given` of subjects whose `then` is not stated."
    ]


def test_a_prompt_that_is_there_twice(tmp_path):
    pack = PACK.replace('["{subject} speaks"]', '["{subject} speaks", "{subject} speaks"]')
    assert warnings_of(write(tmp_path, pack)) == [
        "pack.yaml, row 8: the prompt '{subject} speaks' of 'speaks' is there 2 times. Keep one of them."
    ]


@pytest.mark.parametrize(("sharing", "told"), [(0, False), (2, False), (3, True), (10, True)])
def test_names_that_share_words(sharing, told):
    """Of ten subjects, `sharing` are called Lee; more than two are more than a fifth."""
    subjects = [f"Given{i} {'Lee' if i < sharing else f'Family{i}'}" for i in range(10)]
    pack = replace(open_pack("null"), facts=tuple(Fact(subject, "works_as", "lawyer") for subject in subjects))
    found = [str(warning) for warning in check_structure(pack).warnings if warning.code == "shared-words"]
    expected = f"profession-color:null: {sharing} of 10 subjects share a word with another; expected at most 20%. "
    assert found == (
        [expected + "Give them names that share no word, or a model may answer for the wrong one."] if told else []
    )


def test_a_word_twice_in_one_name_is_not_shared():
    pack = replace(
        open_pack("null"), facts=(Fact("Boutros Boutros", "works_as", "lawyer"), Fact("Ann", "works_as", "pilot"))
    )
    assert not [warning for warning in check_structure(pack).warnings if warning.code == "shared-words"]


def test_a_pack_made_in_python_is_checked_too():
    pack = open_pack("city-language")
    twice = replace(pack, relations=(*pack.relations, Relation("speaks", ())))
    codes = [fault.code for fault in check_structure(twice).faults]
    assert codes == ["no-prompt", "duplicate-relation"]


def test_places_default_to_the_row_of_the_pack():
    pack = replace(open_pack("city-language"), facts=(*open_pack("city-language").facts, Fact("X", "y", "z")))
    assert [(fault.file, fault.row) for fault in check_structure(pack).faults] == [("city-language", 121)]
    assert check_structure(pack, Places("a", "b")).faults[0].where == "b, row 121"


def test_very_many_faults_take_no_time_and_stay_short():
    """Thousands of rows of unknown relations, and long answers, are still told in short sentences."""
    pack = open_pack("city-language")
    rows = tuple(Fact(f"s{i}", f"r{i % 1000}" + "x" * 1000, "y" * 1000) for i in range(5_000))
    faults = check_structure(replace(pack, facts=rows)).faults
    assert len([fault for fault in faults if fault.code == "unknown-relation"]) == 5_000
    assert max(len(str(fault)) for fault in faults) < 400
