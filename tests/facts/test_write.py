"""A pack that is written and read again is the same pack."""

import json
import unicodedata

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.catalog import PACKS
from spillover.errors import RunError, UsageError
from spillover.facts.files import check_pack, read_pack
from spillover.facts.open import open_pack
from spillover.facts.pack import Fact, Implication, Pack, Relation
from spillover.facts.structure import KINDS
from spillover.facts.write import pack_yaml, scalar, write_pack


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
def packs(draw):
    """Sound packs of any text: relations, facts without contradiction, implications over what is declared."""
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    answers = {name: draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)) for name in names}
    prompts = {
        name: tuple(draw(TEXT) + "{subject}" + draw(TEXT) for _ in range(draw(st.integers(1, 2)))) for name in names
    }
    subjects = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    facts = draw(
        st.lists(st.tuples(st.sampled_from(subjects), st.sampled_from(names)), min_size=1, max_size=8, unique=True)
    )
    implications = [
        Implication(
            given_name, then, draw(st.sampled_from(KINDS)), {draw(st.sampled_from(answers[given_name])): draw(TEXT)}
        )
        for given_name, then in draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=2))
        if given_name != then
    ]
    unique = {implication.name: implication for implication in implications}
    return Pack(
        name=draw(TEXT),
        licence=draw(TEXT),
        source=draw(TEXT),
        description=draw(st.just("") | TEXT),
        relations=tuple(Relation(name, prompts[name], tuple(answers[name])) for name in names),
        facts=tuple(Fact(subject, name, draw(st.sampled_from(answers[name]))) for subject, name in facts),
        implications=tuple(unique.values()),
        join=draw(st.sampled_from([" ", "", ": ", "\n", "NO", "\u3000"])),
        end=draw(st.none() | TEXT.filter(lambda text: text != "none")),
    )


@settings(max_examples=200, deadline=None)
@given(packs())
def test_any_sound_pack_goes_round(tmp_path_factory, pack):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(pack, folder)
    assert read_pack(folder) == pack


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
