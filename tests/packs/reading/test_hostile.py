"""Packs made to do harm, typed as a command: read as text, or refused within seconds and little memory, and said."""

import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spillover.packs import check
from spillover.packs.open import read_pack
from tests.packs.packs_on_disk import FACTS, HEAD, PACK, RELATIONS, jsonl, write
from tests.packs.reading.drafts import parquet_bytes
from tests.packs.reading.test_malformed import typed

HEADER = "subject,relation,answer\n"
LONG = "x" * 10_000_000
#: A sheet whose facts, in any format, may say what they like: it has no implication that they could leave unmet.
SHEET = HEAD + RELATIONS + "facts: facts.%s\n"


def checked(folder):
    """Exit code, faults and warnings as (row, what); a check takes seconds at most."""
    began = time.process_time()
    code, out, err = typed("check", folder, "--json")
    assert err == "" and time.process_time() - began < 10
    told = json.loads(out)
    assert all(each["what"].isprintable() and len(each["what"]) < 1000 for each in told["faults"] + told["warnings"])
    return code, *([(each["row"], each["what"]) for each in told[kind]] for kind in ("faults", "warnings"))


@pytest.mark.parametrize(
    ("kind", "table", "row", "what"),
    [
        ("jsonl", jsonl([*FACTS, ("Ann", "lives_in", LONG)]), 4, "the line is longer than 1600000 bytes"),
        ("csv", f"{HEADER}Ann,lives_in,Paris\nBob,lives_in,{LONG}\n", 3, "the line is longer than 1600000 bytes"),
        ("csv", f'{HEADER}"A\nB",lives_in,"{LONG}"\n', 2, "the line is longer than 1600000 bytes"),
        ("csv", HEADER + 'Ann,lives_in,"' + "x\n" * 5_000_000, 2, "field larger than field limit"),
        ("parquet", {"subject": ["A", "B"], "answer": ["P", LONG]}, 2, "the answer has 10000000 characters"),
        ("yaml", HEAD.replace("made up", LONG), 3, "a text of 10000000 characters begins here"),
    ],
    ids=["jsonl", "csv", "csv in lines", "csv left open", "parquet", "yaml"],
)
def test_a_cell_of_ten_megabytes(tmp_path, kind, table, row, what):
    if kind == "parquet":
        table = parquet_bytes({"relation": ["lives_in"] * 2, **table})
    folder = write(tmp_path, table) if kind == "yaml" else write(tmp_path, SHEET % kind, table, f"facts.{kind}")
    code, ((at, said), *_), _ = checked(folder)
    assert (code, at) == (1, row) and what in said


def test_a_line_of_a_million_characters_is_read(tmp_path):
    padded = jsonl(FACTS).replace(": ", ":" + " " * 400_000, 1)
    assert read_pack(write(tmp_path, table=padded)) == read_pack(write(tmp_path))


def test_a_small_parquet_file_that_unpacks_to_a_hundred_gigabytes(tmp_path, monkeypatch):
    """One text of 20 MB, of which every row of 5,000 is a copy."""
    monkeypatch.setattr(check, "MOST_FAULTS", 100)
    count = 5_000
    many = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([LONG * 2]))
    table = pa.table({"subject": [f"s{i}" for i in range(count)], "relation": ["lives_in"] * count, "answer": many})
    write(tmp_path, SHEET % "parquet")
    pq.write_table(table, tmp_path / "facts.parquet", compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert (tmp_path / "facts.parquet").stat().st_size < 1_000_000
    code, faults, _ = checked(tmp_path)
    assert (code, faults[0]) == (1, (1, "the answer has 20000000 characters"))
    assert faults[-1] == (100, "there are 100 faults up to here, and the rest is not checked")


def test_an_alias_bomb(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    code, faults, _ = checked(write(tmp_path, PACK + bomb))
    assert (code, faults) == (1, [(15, "anchors and aliases (& and *) are not read")])


@pytest.mark.parametrize(
    ("name", "cells", "first"),
    [
        ("swapped columns", "lives_in,Name {},Paris\n", "there is no relation 'Name 0'"),
        ("two answers", "Ann,lives_in,P{}\n", "'Ann' has two answers to 'lives_in': 'P-1' (row 2) and 'P0'"),
        ("no answer", "Name {},lives_in\n", "this row has 2 cells"),
    ],
)
def test_a_fault_in_every_row_ends_after_as_many_as_are_told(tmp_path, monkeypatch, name, cells, first):
    monkeypatch.setattr(check, "MOST_FAULTS", 500)
    table = HEADER + "Ann,lives_in,P-1\n" + "".join(cells.format(index) for index in range(2_000))
    code, faults, _ = checked(write(tmp_path, SHEET % "csv", table, "facts.csv"))
    assert (code, len(faults), faults[0]) == (1, 501, (3, first))
    assert faults[-1] == (502, "there are 500 faults up to here, and the rest is not checked")


def test_a_warning_for_every_row_ends_too_and_the_pack_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "MOST_FAULTS", 300)
    folder = write(tmp_path, SHEET % "csv", HEADER + "Ann,lives_in,Paris\n" * 1_000, "facts.csv")
    code, faults, warnings = checked(folder)
    assert (code, faults, len(warnings)) == (0, [], 300)
    assert len(read_pack(folder).facts) == 1_000


def test_a_formula_is_text(tmp_path):
    folder = write(tmp_path, SHEET % "csv", HEADER + "=1+1,lives_in,@SUM(A1)\n", "facts.csv")
    assert checked(folder) == (0, [], [])
    assert read_pack(folder).facts == (("=1+1", "lives_in", "@SUM(A1)"),)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_scripts_from_right_to_left_and_marks_are_kept_in_nfc(tmp_path, kind):
    """Hebrew and Arabic with vowels, a Hindi conjunct, Korean and Vietnamese in parts, marks of direction."""
    texts = {
        "ש\u05c1\u05b8לו\u05b9ם": "ש\u05b8\u05c1לו\u05b9ם",  # the vowel's class is lower than the dot's
        "م\u0651\u064eد": "م\u064e\u0651د",
        "क्\u200dष": "क्\u200dष",
        "\u1112\u1161\u11ab": "\ud55c",
        "Tie\u0302\u0301ng": "Ti\u1ebfng",
        "\u202babc\u202c": "\u202babc\u202c",
    }
    facts = [(text, "lives_in", "Paris") for text in texts]
    bodies = {
        "jsonl": jsonl(facts),
        "csv": HEADER + "".join(",".join(row) + "\n" for row in facts),
        "parquet": parquet_bytes(dict(zip(("subject", "relation", "answer"), zip(*facts, strict=True), strict=True))),
    }
    folder = write(tmp_path, SHEET % kind, bodies[kind], f"facts.{kind}")
    assert checked(folder)[:2] == (0, [])
    assert [fact.subject for fact in read_pack(folder).facts] == list(texts.values())


def test_a_name_that_moves_the_cursor_is_shown_escaped(tmp_path):
    """Escape sequences of a terminal, in every name that a sentence quotes."""
    name = '"\\e[2J\\n"'
    implication = f"  - {{given: lives_in, then: {name}, kind: causal, map: {{Paris: a}}}}\n"
    body = SHEET % "jsonl" + "implications:\n" + implication * 2
    code, out, _ = typed("check", write(tmp_path, body + f"{name}: x\n"))
    assert code == 1 and all(line.isprintable() for line in out.splitlines())
    assert "the implication lives_in->\\x1b[2J\\n is there 2 times" in out


def test_a_folder_whose_name_is_not_utf8(capsys, tmp_path):
    """Such names exist on Linux; the terminal and the JSON show them escaped."""
    from spillover.cli import main

    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    write(type(tmp_path)(folder))
    assert main(["check", folder]) == 0
    assert "caf\\udce9: no faults" in capsys.readouterr().out
    assert main(["check", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pack"] == "tiny"
    assert main(["check", folder + "/gone"]) == 2
    assert "caf\\udce9" in capsys.readouterr().err
