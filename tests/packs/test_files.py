"""A pack folder: what is read, and the sentence for everything about its form that is wrong."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import PackError, SpilloverError, UsageError
from spillover.packs.check import Fault
from spillover.packs.open import check_pack, read_pack
from spillover.packs.pack import Fact, Implication, Pack, Relation
from tests.packs.packs_on_disk import FACTS, HEAD, IMPLICATIONS, PACK, RELATIONS, faults_of, jsonl, write

TINY = Pack(
    name="tiny",
    licence="CC0-1.0",
    source="made up",
    relations=(Relation("lives_in", ("{subject} lives in",)), Relation("speaks", ("{subject} speaks",))),
    facts=tuple(Fact(*row) for row in FACTS),
    implications=(Implication("lives_in", "speaks", "causal", {"Paris": "French", "Rome": "Italian"}),),
)
INLINE = "facts:\n" + "".join(f"  - {{subject: {s}, relation: {r}, answer: {a}}}\n" for s, r, a in FACTS)


def test_the_pack_that_was_written_is_the_pack_that_is_read(tmp_path):
    assert read_pack(write(tmp_path)) == TINY
    assert check_pack(tmp_path) == (TINY, [], [])
    assert [question.expected for question in TINY.questions] == ["Italian"]


@pytest.mark.parametrize("name", ["facts.csv", "facts.parquet", "deep/facts.jsonl", "FACTS.JSONL"])
def test_every_format_and_place_of_the_facts(tmp_path, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "deep").mkdir()
    write(tmp_path, PACK.replace("facts.jsonl", name), name=name if name.lower().endswith("jsonl") else "unused.jsonl")
    columns = dict(zip(Fact._fields, map(list, zip(*FACTS, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "facts.parquet")
    rows = [",".join(row) for row in [Fact._fields, *FACTS]]
    (tmp_path / "facts.csv").write_text("\n".join(rows))
    assert read_pack(tmp_path) == TINY


def test_a_single_file_with_inline_facts(tmp_path):
    path = tmp_path / "anything.yaml"
    path.write_text(HEAD + RELATIONS + IMPLICATIONS + INLINE)
    assert read_pack(path) == TINY


def test_every_scalar_is_text_and_optional_keys_are_optional(tmp_path):
    body = """name: 007
licence: NO
source: 1.0
description: on
join: ""
end: 2024-01-01
relations:
  on:
    prompts: ["{subject} ="]
    answers: [NO, 007, ~, 1.0, Cafe\u0301]
facts:
  - {subject: 1, relation: on, answer: yes}
"""
    pack = read_pack(write(tmp_path, body))
    assert (pack.name, pack.licence, pack.source, pack.description) == ("007", "NO", "1.0", "on")
    assert (pack.join, pack.end, pack.implications) == ("", "2024-01-01", ())
    assert pack.relations == (Relation("on", ("{subject} =",), ("NO", "007", "~", "1.0", "Caf\u00e9")),)
    assert pack.facts == (Fact("1", "on", "yes"),)
    assert read_pack(write(tmp_path, PACK + "end: none\n")).end is None


def swap(old: str, new: str) -> str:
    """The sound pack with one part of it replaced."""
    assert old in PACK
    return PACK.replace(old, new)


#: Broken packs by name; tests/facts/faults.txt holds the sentences that each ends in.
BROKEN = {
    "a list": "[]\n",
    "nothing": "",
    "misspelt key": swap("licence", "license"),
    "key without value": swap("name: tiny", "name:"),
    "list for a text": swap("name: tiny", "name: [tiny]"),
    "text for a list": swap('prompts: ["{subject} speaks"]', "prompts: text"),
    "misspelt prompts": swap('prompts: ["{subject} speaks"]', "promts: []"),
    "no kind": swap("    kind: causal\n", ""),
    "list for a map": swap("map: {Paris: French, Rome: Italian}", "map: [Paris, French]"),
    "list in a map": swap("Paris: French", "Paris: [French]"),
    "empty map": swap("{Paris: French, Rome: Italian}", "{}"),
    "text for implications": swap(IMPLICATIONS, "implications: none\n"),
    "no relation": swap(RELATIONS, "relations: {}\n"),
    "tag": swap("name: tiny", "name: !!str tiny"),
    "alias": swap("name: tiny", "name: *tiny"),
    "repeated key": PACK + "name: again\n",
    "repeated relation": swap("  speaks:\n", "  lives_in:\n"),
    "facts gone": swap("facts: facts.jsonl", "facts: gone.jsonl"),
    "facts a folder": swap("facts: facts.jsonl", "facts: ."),
    "facts of no format": swap("facts: facts.jsonl", "facts: pack.yaml"),
    "facts above": swap("facts: facts.jsonl", "facts: ../other.jsonl"),
    "facts absolute": swap("facts: facts.jsonl", "facts: /etc/passwd"),
    "facts a mapping": swap("facts: facts.jsonl", "facts: {a: b}"),
    "facts empty": swap("facts: facts.jsonl", "facts: []"),
    "inline rows": swap("facts: facts.jsonl\n", INLINE + "  - [a, b, c]\n  - {subject: a}\n  - {subject: [a]}\n"),
    "UTF-16": PACK.encode("utf-16"),
    "Latin-1": swap("tiny", "t\xefny").encode("latin-1"),
    "unknown relation": swap("given: lives_in", "given: livesin"),
    "same relation": swap("then: speaks", "then: lives_in"),
    "unknown kind": swap("causal", "casual"),
    "map outside": swap("Paris: French", "Pariss: French"),
    "prompt without subject": swap("{subject} lives", "subject lives"),
    "two implications": swap("facts: facts", IMPLICATIONS.partition("\n")[2] + "facts: facts"),
}


def golden() -> dict[str, list[str]]:
    """Case -> sentences, from faults.txt."""
    text = (Path(__file__).parent / "faults.txt").read_text(encoding="utf-8")
    parts = (part.splitlines() for part in text.split("## ")[1:])
    return {lines[0]: [line for line in lines[1:] if line] for lines in parts}


@pytest.mark.parametrize("case", BROKEN)
def test_the_sentences_of_a_broken_pack(tmp_path, case):
    (tmp_path / "other.jsonl").write_text(jsonl(FACTS))
    assert faults_of(write(tmp_path / "p", BROKEN[case])) == golden()[case]


def test_every_broken_pack_has_its_sentences():
    assert list(golden()) == list(BROKEN)
    assert all(golden().values())


def test_a_link_out_of_the_pack_is_outside(tmp_path):
    (tmp_path / "other.jsonl").write_text(jsonl(FACTS))
    folder = write(tmp_path / "p")
    (folder / "facts.jsonl").unlink()
    (folder / "facts.jsonl").symlink_to(tmp_path / "other.jsonl")
    assert "outside the pack" in faults_of(folder)[0]
    (folder / "facts.jsonl").unlink()
    (folder / "facts.jsonl").symlink_to("facts.jsonl")
    assert "does not exist" in faults_of(folder)[0]


def test_all_faults_in_one_pass(tmp_path):
    pack = PACK.replace("licence: CC0-1.0\n", "").replace("causal", "casual").replace("Rome:", "Roma:")
    table = jsonl([*FACTS, ("Bob Day", "lives_in", "Paris"), ("Cy Fox", "livesin", "Rome")]) + "oops\n"
    codes = [(fault.code, fault.row) for fault in check_pack(write(tmp_path, pack, table))[1]]
    assert codes == [
        ("missing-key", 1),
        ("not-json", 6),
        ("unknown-kind", 11),
        ("two-answers", 4),
        ("unknown-relation", 5),
        ("map-outside", 12),
    ]


def test_read_pack_tells_the_first_fault_and_carries_all(tmp_path):
    with pytest.raises(PackError) as caught:
        read_pack(write(tmp_path, PACK.replace("causal", "casual").replace("licence: CC0-1.0\n", "")))
    assert len(caught.value.faults) == 2 and all(isinstance(fault, Fault) for fault in caught.value.faults)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "pack.yaml, row 1: the pack has no 'licence'; expected name, licence, source, relations, facts. "
        "Add `licence:` (1 more: see `spillover check`)."
    )


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("gone", "there is no such pack. Name a built-in pack, a folder or a YAML file that exists."),
        ("empty", "there is no pack.yaml in this folder. Make one with `spillover packs export`."),
        ("p/facts.jsonl", "this is a table of facts, not a pack. Name the folder or the pack.yaml beside it."),
        ("odd", "this is not a file. Name a folder with a pack.yaml."),
    ],
)
def test_what_is_no_pack(tmp_path, path, sentence):
    write(tmp_path / "p")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "pack.yaml").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        check_pack(tmp_path / path)
    assert str(caught.value).endswith(sentence)
    assert str(tmp_path) in caught.value.where


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pack.yaml")
    with pytest.raises(UsageError, match="this is not a file"):
        check_pack(tmp_path)
    os.mkfifo(tmp_path / "facts.jsonl")
    (tmp_path / "pack.yaml").unlink()
    (tmp_path / "pack.yaml").write_text(PACK)
    assert "which is not a file" in faults_of(tmp_path)[0]


def test_a_file_that_may_not_be_read_is_a_fault(tmp_path, monkeypatch):
    def refused(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path)
    monkeypatch.setattr(Path, "open", refused)
    (sentence,) = faults_of(tmp_path)
    assert sentence == "pack.yaml: this file cannot be read (permission denied). Mend the file."


SCRAPS = st.sampled_from(
    [
        PACK,
        HEAD,
        RELATIONS,
        IMPLICATIONS,
        INLINE,
        "facts: facts.jsonl\n",
        "facts:\n",
        "relations:\n",
        "- a\n",
        "  b: c\n",
        "\t",
        "&a ",
        "*a",
        "!x ",
        "{",
        "]",
        '"',
        "\0",
        "é",
        "---\n",
        "null",
        "~",
        "join: [1]\n",
        "end: {}\n",
        "    map: {}\n",
        "{subject}",
    ]
)
BYTES = st.one_of(st.lists(SCRAPS, max_size=8).map(lambda parts: "".join(parts).encode()), st.binary(max_size=60))


@settings(max_examples=300, deadline=None)
@given(BYTES, st.integers(0, 400), BYTES, st.sampled_from(["facts.jsonl", "facts.csv", "facts.parquet"]), st.booleans())
def test_no_bytes_end_in_a_traceback(tmp_path_factory, pack, cut, table, name, whole):
    """Malformed packs: faults, or a pack; from read_pack nothing but SpilloverError."""
    folder = tmp_path_factory.mktemp("pack")
    body = PACK.replace("facts.jsonl", name).encode()
    write(folder, body if whole else body[:cut] + pack, jsonl(FACTS).encode()[:cut] + table, name)
    found, faults, warnings = check_pack(folder)
    assert (found is None) == bool(faults)
    for each in (*faults, *warnings):
        assert each.what and str(each).encode() and (each.row is None or each.row >= 1)
        assert each.file.startswith(str(folder))
    try:
        assert read_pack(folder) == found
    except SpilloverError as error:
        assert error.faults == tuple(faults)
