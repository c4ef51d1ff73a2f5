"""A pack that is written and read again is the same pack."""

import json
import unicodedata
from dataclasses import replace

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spillover.errors import RunError, UsageError
from spillover.packs.builtin import PACKS
from spillover.packs.check import check_structure
from spillover.packs.open import check_pack, open_pack
from spillover.packs.pack import KINDS, Fact, Implication, Pack, Relation, pack_hash
from spillover.packs.write import FREE_FILE, pack_yaml, scalar, write_pack


@pytest.mark.parametrize("name", [*PACKS, "null", "mixed:pairs=20,bridge=0"])
def test_a_built_in_pack_goes_round(tmp_path, name):
    pack = open_pack(name, 3)
    assert write_pack(pack, tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert check_pack(tmp_path / "new" / "folder") == (pack, [], [])
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["facts.jsonl", "pack.yaml"]


def test_same_pack_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_pack(open_pack("mixed", 1), tmp_path / folder)
    for file in ("pack.yaml", "facts.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_other_yaml_readers_read_the_same_texts():
    pack = open_pack("mixed")
    read = yaml.safe_load(pack_yaml(pack))
    assert list(read) == [
        "name",
        "licence",
        "source",
        "description",
        "relations",
        "implications",
        "facts",
        "join",
        "end",
    ]
    assert read["relations"]["lives_in"]["prompts"] == list(pack.relations[0].prompts)
    assert read["implications"][1]["map"] == dict(pack.implications[1].map)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
TEXT = (
    (
        TEXT
        | st.sampled_from(
            ["NO", "007", "~", "none", "a: b", "#", "- a", "é", "\u2028", "\x85", "\ufeff", "🙂", '"', "\\", " x "]
        )
    )
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(str.strip)
)


@st.composite
def parts(draw):
    """What a sound pack of any text is made of, for `pack_of`: plain lists, since building draws on nothing."""
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    answers = {name: draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)) for name in names}
    prompts = {name: [draw(TEXT) + "{subject}" + draw(TEXT) for _ in range(draw(st.integers(1, 2)))] for name in names}
    subjects = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    rows = st.tuples(st.sampled_from(subjects), st.sampled_from(names))
    pairs = draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=2))
    implications = {
        f"{first}->{then}": (
            first,
            then,
            draw(st.sampled_from(KINDS)),
            {draw(st.sampled_from(answers[first])): draw(TEXT)},
        )
        for first, then in sorted(pairs)
        if first != then
    }
    return {
        "heads": [draw(TEXT) for _ in range(3)] + [draw(st.just("") | TEXT)],
        "relations": [(name, prompts[name], answers[name], draw(st.none() | TEXT)) for name in names],
        "facts": [
            (subject, name, draw(st.sampled_from(answers[name])))
            for subject, name in draw(st.lists(rows, min_size=1, max_size=8, unique=True))
        ],
        "implications": list(implications.values()),
        "join": draw(st.sampled_from([" ", "", ": ", "\n", "NO", "\u3000"])),
        "end": draw(st.none() | TEXT.filter(lambda text: text != "none")),
    }


def pack_of(heads, relations, facts, implications, join, end):
    name, licence, source, description = heads
    return Pack(
        name=name,
        licence=licence,
        source=source,
        description=description,
        relations=tuple(
            Relation(name, tuple(prompts), tuple(answers), reply=reply) for name, prompts, answers, reply in relations
        ),
        facts=tuple(Fact(*row) for row in facts),
        implications=tuple(Implication(*each) for each in implications),
        join=join,
        end=end,
    )


@settings(max_examples=200, deadline=None)
@given(parts())
def test_any_sound_pack_goes_round(tmp_path_factory, parts):
    folder, pack = tmp_path_factory.mktemp("pack"), pack_of(**parts)
    assume(not check_structure(pack).faults)  # Rows that contradict a map.
    write_pack(pack, folder)
    assert open_pack(folder) == pack


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_scalar_is_one_line_and_means_its_text_to_any_yaml_reader(text):
    assert "\n" not in scalar(text)
    assert yaml.safe_load(f"a: {scalar(text)}") == {"a": text}


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError) as caught:
        write_pack(open_pack("mixed"), tmp_path)
    assert (
        str(caught.value) == f"{tmp_path}: this folder holds something already. Name a folder that does not exist yet."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(RunError, match="this is a file, not a folder"):
        write_pack(open_pack("mixed"), tmp_path / "mine.txt")
    with pytest.raises(RunError, match="could not be written"):
        write_pack(open_pack("mixed"), tmp_path / "mine.txt" / "below")


def test_the_end_mark_none_is_refused(tmp_path):
    pack = Pack("tiny", "x", "y", (Relation("r", ("{subject}",)),), (Fact("a", "r", "b"),), end="none")
    with pytest.raises(UsageError, match="it means that there is none"):
        write_pack(pack, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_facts_are_one_json_object_a_line(tmp_path):
    pack = open_pack("mixed")
    lines = (write_pack(pack, tmp_path / "new") / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [tuple(fact) for fact in pack.facts]


def test_free_text_goes_round_and_changes_nothing_of_a_pack_without(tmp_path):
    pack = Pack("p", "CC0-1.0", "made up", (Relation("r", ("{subject} is",)),), (Fact("S", "r", "red"),))
    free = replace(pack, free=((("Name a bird.", "A robin.\nOr two."),), (("", "It rained."), ("Why?", "Who knows."))))
    for each, named in ((pack, False), (free, True)):
        write_pack(each, tmp_path / str(named))
        assert check_pack(tmp_path / str(named)) == (each, [], [])
        assert ("free_text: free-text.jsonl" in pack_yaml(each)) == named
        assert (tmp_path / str(named) / FREE_FILE).exists() == named
    assert pack_hash(pack) != pack_hash(free) and "free texts" not in pack.counts()
    (tmp_path / "True" / FREE_FILE).write_text('{"turns": [["", "a"]]}\n["no", "row"]\n')
    ((fault,), _) = check_pack(tmp_path / "True")[1:]
    assert (fault.row, fault.what) == (2, "this row has no turns")


def test_a_pack_with_aliases_goes_round(tmp_path):
    relation = Relation("r", ("{subject} is",), ("NO", "a: b"), {"a: b": ("007", 'x "y"')})
    pack = Pack("p", "CC0-1.0", "made up", (relation,), (Fact("S", "r", "007"),))
    write_pack(pack, tmp_path / "new")
    assert check_pack(tmp_path / "new") == (pack, [], [])
    assert yaml.safe_load(pack_yaml(pack))["relations"]["r"]["answers"] == [
        "NO",
        {"answer": "a: b", "aliases": ["007", 'x "y"']},
    ]
