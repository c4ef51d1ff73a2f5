"""Faults and warnings: those that need no model, and those that only tokens show."""

import re
from dataclasses import replace

import pytest

from spillover.errors import PackError
from spillover.packs.builtin import PACKS
from spillover.packs.check import Fault, Findings, Places, check_structure, quoted, refuse, token_faults
from spillover.packs.open import open_pack
from spillover.packs.pack import KINDS, Fact, Implication, Pack, Relation
from tests.packs.packs_on_disk import FACTS, HEAD, PACK, RELATIONS, WIDE, faults_of, jsonl, warnings_of, write


@pytest.mark.parametrize("name", [*PACKS, "null", "mixed:null,pairs=20,names=100", "city-language:pairs=38,names=380"])
def test_built_in_packs_have_neither_fault_nor_warning(name):
    found = check_structure(open_pack(name))
    assert (found.faults, found.warnings) == ([], [])


def test_kinds_are_those_of_the_contract():
    assert KINDS == ("causal", "counterfactual", "spurious", "auto")


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
    assert len(open_pack(tmp_path).facts) == 4


def test_answers_that_differ_only_in_case_or_spaces(tmp_path):
    rows = [
        *FACTS,
        ("Cy Fox", "lives_in", "new york"),
        ("Di Gray", "lives_in", "New  York "),
        ("Ed Hill", "lives_in", "York"),
    ]
    assert warnings_of(write(tmp_path, table=jsonl(rows))) == [
        "facts.jsonl, row 5: the answer 'New  York ' begins or ends with a space. "
        "Remove it, unless it is part of the name.",
        "pack.yaml, row 5: answers of 'lives_in' differ only in case or spaces: 'New  York ', 'new york'. "
        "Write them alike, if they are the same answer.",
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


WORDS = re.compile(r" ?[^\s]+|\s+")


def words(text):
    """A token a word with the space before it: ` Paris` is one token."""
    return [hash(word) for word in WORDS.findall(text)]


def letters(text):
    return [ord(letter) for letter in text]


def folded(text):
    """A tokenizer that does not know case."""
    return letters(text.lower())


def merging(text):
    """A tokenizer whose longest token `in Paris` reaches over the end of the prompt."""
    return [hash(part) for part in re.split(r"(in Paris)|( )", text) if part]


def pack_of(*answers, end=None, join=" ", prompts=("{subject} lives in",)):
    facts = tuple(Fact(f"S{index}", "lives_in", answer) for index, answer in enumerate(answers))
    return Pack("tiny", "CC0-1.0", "made up", (Relation("lives_in", prompts),), facts, join=join, end=end)


def sentences(pack, encode):
    return [str(fault) for fault in token_faults(pack, encode)]


def test_a_sound_pack_has_none():
    assert sentences(pack_of("Paris", "Rome", "Oslo"), words) == []
    assert sentences(pack_of("Paris", "Rome", "Oslo"), letters) == []


@pytest.mark.parametrize("name", WIDE.values())
def test_built_in_answers_can_be_told_apart_by_any_tokens(name):
    """By letters and by words: no answer begins another, and no prompt runs into its answer."""
    assert sentences(open_pack(name), letters) == sentences(open_pack(name), words) == []


def test_token_identical_answers():
    assert sentences(pack_of("Paris", "PARIS", "Rome"), folded) == [
        "tiny: the answers 'PARIS' and 'Paris' of 'lives_in' have the same tokens; "
        "expected answers that the model can tell apart. Rename one of them."
    ]


def test_a_prefix_matters_only_without_an_end_mark():
    assert sentences(pack_of("Java", "JavaScript"), letters) == [
        "tiny: the tokens of 'Java' begin those of 'JavaScript', both answers of 'lives_in'; "
        'expected answers of which none begins another. Rename one of them, or set `end` to a mark such as ".".'
    ]
    assert sentences(pack_of("Java", "JavaScript", end="."), letters) == []
    assert sentences(pack_of("Java", "JavaScript"), words) == [], "one token each"


def test_mapped_and_declared_answers_count_as_candidates():
    relations = (
        Relation("lives_in", ("{subject} lives in",), ("New York",)),
        Relation("speaks", ("{subject} speaks",)),
    )
    implications = (Implication("lives_in", "speaks", "causal", {"New": "Old", "Rome": "Old Norse"}),)
    pack = replace(pack_of("New", "Rome"), relations=relations, implications=implications)
    found = [re.findall("tokens of '(.*?)' begin those of '(.*?)'", sentence)[0] for sentence in sentences(pack, words)]
    assert found == [("New", "New York"), ("Old", "Old Norse")]


def test_a_prompt_whose_tokens_change():
    assert sentences(pack_of("Paris", "Rome"), merging) == [
        "tiny: the tokens of the prompt 'S0 lives in' change when ' Paris' is appended; "
        "expected the prompt's own tokens first. End the prompt with a whole word, and let `join` begin the answer."
    ]


def test_a_prompt_that_ends_in_a_space():
    pack = pack_of("Paris", join="", prompts=("{subject} lives in", "{subject} is in "))
    found = sentences(pack, words)
    assert [re.findall("prompt '(.*?)'", sentence)[0] for sentence in found] == ["S0 lives in", "S0 is in "]


def test_a_row_whose_subject_alone_makes_the_tokens_change():
    """Every stated row is tried, not only the first subject: here the subject ends the prompt."""

    def glue(text):
        return [hash(part) for part in re.split(r"(-x Oslo)| ", text) if part]

    pack = pack_of("Rome", "Oslo", prompts=("the home of {subject}",))
    pack = replace(pack, facts=(pack.facts[0], Fact("Lee-x", "lives_in", "Oslo")))
    (fault,) = token_faults(pack, glue)
    assert (fault.code, fault.row) == ("prompt-tokens-change", 2)
    assert fault.what.startswith("the tokens of the prompt 'the home of Lee-x' change")


def test_an_answer_without_a_token():
    (first, *_) = token_faults(pack_of("\u200b", "Rome"), lambda text: letters(text.replace(" \u200b", "")))
    assert (first.code, first.what) == ("no-token", "the answer '\\u200b' of 'lives_in' has no token of its own")


def test_a_large_pack_is_sampled():
    facts = tuple(Fact(f"S{index}", "lives_in", "Paris") for index in range(100_000))
    calls = []
    token_faults(replace(pack_of("Paris"), facts=facts), lambda text: calls.append(text) or letters(text))
    assert 20_000 < len(calls) < 70_000


def test_refuse_tells_the_first_and_carries_all():
    faults = [Fault("a", "p.yaml", 3, "this is wrong", "that", "Do so"), Fault("b", "p.yaml", None, "also")]
    with pytest.raises(PackError) as caught:
        refuse(faults)
    assert str(caught.value) == "p.yaml, row 3: this is wrong; expected that. Do so (1 more: see `spillover check`)."
    assert caught.value.faults == tuple(faults)
    refuse([])


def test_a_fault_as_text_and_as_json():
    fault = Fault("a", "p.yaml", 3, "this is wrong", "that", "Do so")
    assert str(fault) == "p.yaml, row 3: this is wrong; expected that. Do so."
    assert str(Fault("b", "p.yaml", None, "it is wrong")) == "p.yaml: it is wrong."
    assert fault.as_json() == {
        "code": "a",
        "file": "p.yaml",
        "row": 3,
        "what": "this is wrong",
        "expected": "that",
        "do": "Do so",
    }


def test_quoted_and_hint_stay_short_and_printable():
    assert quoted("a\ud800\nb") == r"'a\ud800\nb'"
    assert len(quoted("x" * 10_000)) == 82
    hint = Findings().hint
    assert hint("Pariss", ["Paris", "Rome"]) == "Did you mean 'Paris'?"
    assert hint("x" * 1000, ["Paris"]) == hint("Paris", [str(i) for i in range(1000)]) == hint("a", ["\ud800"]) == ""


def test_the_texts_of_one_prompt_are_counted_once():
    pack = pack_of("Paris", "Paris North", "Rome", "Paris")
    (fault,) = token_faults(pack, merging)
    assert "(4 texts)" in fault.what, "S0 with both as candidates, S1 with its row, S3 with its row"


RULE = "implications:\n  - {given: lives_in, then: speaks, kind: spurious, map: {%s}}\nfacts: facts.jsonl\n"


def rows(*said):
    """Rows of subjects with the answers of both relations; a None is not stated."""
    return [(f"S{number} T{number}", name, answer) for number, pair in enumerate(said)
            for name, answer in zip(("lives_in", "speaks"), pair, strict=True) if answer]  # fmt: skip


def of_map(tmp_path, text, *said):
    """The sentences of faults and warnings about a map."""
    write(tmp_path, HEAD + RELATIONS + RULE % text, jsonl(rows(*said)))
    return (
        [each for each in sentences_of(tmp_path) if "the map of" in each] for sentences_of in (faults_of, warnings_of)
    )


def test_a_map_that_every_row_contradicts_is_a_fault_and_the_near_answer_is_named(tmp_path):
    said = [("Lyon", "orange"), ("Lyon", "orange"), ("Turin", "teal"), ("Turin", None)]
    faults, warnings = of_map(tmp_path, "Lyon: organge, Turin: teal", *said)
    assert faults == [
        "pack.yaml, row 10: the map of 'lives_in->speaks' says 'organge' for 'Lyon', and the rows state 'orange' (2); "
        "expected what is stated of the subjects that have it. Mend the map, or the rows."
    ]
    assert warnings == [
        "pack.yaml, row 10: the map of 'lives_in->speaks' leads to 'organge', which nobody states; 'orange' is stated. "
        "Write them alike, if they are the same answer."
    ]


@pytest.mark.parametrize(
    ("text", "said", "faults", "warnings"),
    [
        ("Lyon: red, Turin: teal", [("Lyon", "grey"), ("Turin", "teal")], 1, 0),
        ("Lyon: red, Turin: teal", [("Lyon", "teal"), ("Lyon", "teal"), ("Turin", "teal")], 1, 0),
        ("Lyon: red, Turin: teal", [("Lyon", "grey"), ("Lyon", "mauve"), ("Turin", "teal")], 1, 0),
        ("Lyon: red, Turin: teal", [("Lyon", "red"), ("Lyon", "grey"), ("Lyon", "grey"), ("Turin", "teal")], 0, 1),
        ("Lyon: red, Turin: teal", [("Lyon", "red"), ("Lyon", "grey"), ("Turin", "teal")], 0, 0),
        ("Lyon: red, Turin: teal", [("Lyon", "teal"), ("Turin", "red")], 0, 0),
        ("Lyon: red, Turin: teal", [("Lyon", "teal"), ("Turin", "red"), ("Turin", "red")], 1, 1),
        ("Lyon: red, Turin: teal", [("Lyon", None), ("Turin", None)], 0, 0),
        ("Lyon: Teal, Turin: teal", [("Lyon", None), ("Turin", "teal")], 0, 1),
    ],
)  # fmt: skip
def test_where_rows_and_map_disagree(tmp_path, text, said, faults, warnings):
    assert [len(found) for found in of_map(tmp_path, text, *said)] == [faults, warnings]


@pytest.mark.parametrize(
    "name", ["null:bridge=1", "null:pairs=2,bridge=1", "null:pairs=20,bridge=3", "mixed:null,bridge=2"]
)
def test_null_packs_of_any_size_have_no_fault(name):
    for seed in range(3):
        found = check_structure(open_pack(name, seed))
        assert (found.faults, found.warnings) == ([], [])


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        (
            ("Bob  day", "speaks", "French"),
            "the subject 'Bob  day' differs from 'Bob Day' (row 3) only in case or spaces",
        ),
        (("Cy Fox ", "speaks", "French"), "the subject 'Cy Fox ' begins or ends with a space"),
        (("Cy Fox", "speaks", " Greek"), "the answer ' Greek' begins or ends with a space"),
        (("Cy\nFox", "speaks", "French"), "the subject 'Cy\\\\nFox' holds a line break"),
        (("Cy Fox", "speaks", "Gr\r\neek"), "the answer 'Gr\\\\r\\\\neek' holds a line break"),
        (("NaN", "speaks", "French"), "the subject 'NaN' is how an empty cell is written"),
        (("Cy Fox", "speaks", "Cy Fox speaks Greek"), "the answer 'Cy Fox speaks Greek' holds its subject 'Cy Fox'"),
    ],
)
def test_names_that_a_slip_has_made(tmp_path, fact, sentence):
    (found,) = (each for each in warnings_of(write(tmp_path, table=jsonl([*FACTS, fact]))) if ", row 4" in each)
    assert found.startswith(f"facts.jsonl, row 4: {sentence}".replace("\\\\", "\\"))


def test_two_spaces_and_a_space_in_a_script_that_has_none():
    found = check_structure(pack_of("Paris", "Rome", prompts=("{subject} lives in ",))).warnings
    assert [each.code for each in found] == ["two-spaces"]
    assert not check_structure(pack_of("Paris", prompts=("{subject} lives in ",), join="")).warnings
    han = pack_of("巴黎", "罗马", prompts=("{subject}住在",))
    assert [each.code for each in check_structure(han).warnings] == ["space-in-script"]
    assert not check_structure(replace(han, join="")).warnings
    assert not check_structure(pack_of("巴黎", prompts=("{subject} lives in",))).warnings


YORK = Relation("lives_in", ("{subject} lives in",), ("New York",), {"New York": ("NYC", "New York City")})


def test_aliases_are_one_answer():
    pack = replace(pack_of("NYC", "Rome"), relations=(YORK,))
    pack = replace(pack, facts=(*pack.facts, Fact("S0", "lives_in", "New York City")))
    assert pack.candidates["lives_in"] == ("New York", "Rome")
    assert pack.stated["S0", "lives_in"] == "New York" and pack.facts[0].answer == "NYC"
    found = check_structure(pack)
    assert not found.faults and [each.code for each in found.warnings] == ["duplicate-row"]
    assert sentences(pack, letters) == [], "one wording may begin another of the same answer"
    clash = replace(pack, facts=(*pack.facts, Fact("S3", "lives_in", "NYC Center")))
    assert sentences(clash, letters)[0].startswith("tiny: the tokens of 'NYC' begin those of 'NYC Center'")


def test_an_alias_that_is_another_answer_is_a_fault():
    for answers, aliases in ((("New York", "NYC"), {"New York": ("NYC",)}), (("A",), {"A": ("C",), "B": ("C",)})):
        pack = replace(pack_of("Rome"), relations=(replace(YORK, answers=answers, aliases=aliases),))
        assert [fault.code for fault in check_structure(pack).faults] == ["alias-taken"]


def test_a_map_may_use_aliases_but_not_twice():
    speaks, rule = (
        Relation("speaks", ("{subject} speaks",)),
        Implication("lives_in", "speaks", "causal", {"NYC": "English"}),
    )
    pack = replace(pack_of("New York City", "New York"), relations=(YORK, speaks), implications=(rule,))
    assert [question[:3] for question in pack.questions] == [("S0", "speaks", "English"), ("S1", "speaks", "English")]
    both = replace(rule, map={"NYC": "English", "New York": "Dutch"})
    assert [fault.code for fault in check_structure(replace(pack, implications=(both,))).faults][:1] == ["map-twice"]
