"""Tables of facts: what is read, and a place and a sentence for what cannot be."""

import contextlib
import io
import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.cli import main
from spillover.errors import PackError
from spillover.packs import check
from spillover.packs.check import Findings
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact
from spillover.packs.reading import LONGEST_LINE, LONGEST_TEXT, read_table
from tests.packs.drafts import FORMATS, drafts, facts_of, parquet_bytes
from tests.packs.malformed import FOLLOWED, cases
from tests.packs.packs_on_disk import FACTS, HEAD, PACK, RELATIONS, jsonl, write

ANN = ("Ann", "lives_in", "Paris")
GOOD = '{"subject": "Ann", "relation": "lives_in", "answer": "Paris"}\n'


def read(path, body):
    """Facts, row numbers, faults and warnings (row, what) of a file with this body."""
    path.write_bytes(body.encode("utf-8") if isinstance(body, str) else body)
    findings = Findings()
    table = read_table(path, path.name, findings)
    told = [[(each.row, each.what) for each in found] for found in (findings.faults, findings.warnings)]
    return [tuple(fact) for fact in table.facts], list(table.rows), *told


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


def test_three_formats_give_the_same_facts(tmp_path):
    rows = [
        ("Ann", "code", "007"),
        ("Bób", "on", "NO"),
        ("مدينة", "~", "1.0"),
        ('a "b", c', "x\ny", "null"),
        ("🙂", "2024-01-31", "é"),
    ]
    lines = "".join(json.dumps(dict(zip(Fact._fields, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    quoted = "subject,relation,answer\n" + "".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows
    )
    columns = dict(zip(Fact._fields, zip(*rows, strict=True), strict=True))
    assert read(tmp_path / "a.jsonl", lines) == (rows, [1, 2, 3, 4, 5], [], [])
    assert read(tmp_path / "a.csv", quoted) == (rows, [2, 3, 4, 5, 6], [], [])
    assert read(tmp_path / "a.parquet", parquet(tmp_path / "a.parquet", **columns)) == (rows, [1, 2, 3, 4, 5], [], [])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path, mark):
    assert read(tmp_path / "a.csv", mark + b"subject,relation,answer\r\nAnn,lives_in,Paris\r\n")[0] == [ANN]
    assert read(tmp_path / "a.jsonl", mark + GOOD.encode().replace(b"\n", b"\r\n"))[0] == [ANN]


def test_json_scalars_are_the_text_as_written(tmp_path):
    line = '{"subject": 1.0, "relation": true, "answer": -0}\n{"subject": 1e400, "relation": false, "answer": NaN}\n'
    assert read(tmp_path / "a.jsonl", line)[0] == [("1.0", "true", "-0"), ("1e400", "false", "NaN")]


def test_a_number_of_ten_thousand_digits_is_text(tmp_path):
    digits = "9" * 10_000
    assert read(tmp_path / "a.jsonl", GOOD.replace('"Paris"', digits))[0] == [("Ann", "lives_in", digits)]


def test_cells_are_nfc(tmp_path):
    facts, *_ = read(tmp_path / "a.csv", "subject,relation,answer\nAnn,lives_in,Cafe\u0301\n")
    assert facts == [("Ann", "lives_in", "Caf\u00e9")]


def test_columns_in_any_order_and_one_that_is_not_read(tmp_path):
    facts, rows, faults, warnings = read(
        tmp_path / "a.csv", "answer,split,subject,relation\nParis,train,Ann,lives_in\n"
    )
    assert (facts, rows, faults) == ([ANN], [2], [])
    assert warnings == [(1, "the column 'split' is not read")]
    extra = GOOD.replace("}", ', "split": "a"}') * 3
    assert read(tmp_path / "a.jsonl", extra)[2:] == ([], [(1, "the column 'split' is not read")])


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("", []),
        ("\n  \n", []),
        ('{"subject": "Ann"', [(1, "this line is not JSON (Expecting ',' delimiter at column 18)")]),
        ("[]", [(1, "this row is not an object")]),
        ('[["subject", "Ann"]]', [(1, "this row is not an object")]),
        ("7", [(1, "this row is not an object")]),
        ('{"subject": "Ann", "relation": "lives_in"}', [(1, "there is no answer")]),
        ("{}", [(1, "there is no subject"), (1, "there is no relation"), (1, "there is no answer")]),
        (GOOD.replace('"Paris"', "null"), [(1, "there is no answer")]),
        (GOOD.replace('"Paris"', '""'), [(1, "the answer is empty")]),
        (GOOD.replace('"Paris"', '" \\u00a0"'), [(1, "the answer is empty")]),
        (GOOD.replace('"Paris"', '["Paris"]'), [(1, "the answer is a list")]),
        (GOOD.replace('"Paris"', '{"a": 1}'), [(1, "the answer is an object")]),
        (GOOD.replace("Paris", "a\\u0000b"), [(1, "the answer holds a NUL character")]),
        (GOOD.replace("Paris", "\\ud800"), [(1, "the answer is not UTF-8")]),
        (GOOD.encode().replace(b"Paris", b"Par\xeds"), [(1, "the answer is not UTF-8")]),
        (GOOD.replace('"subject": "Ann"', '"subject": "Ann", "subject": "Bob"'), [(1, "a key is there twice")]),
        (GOOD.replace("Paris", "x" * (LONGEST_TEXT + 1)), [(1, f"the answer has {LONGEST_TEXT + 1} characters")]),
        ("[" * 200_000, [(1, "this line is not JSON (nested too deeply)")]),
        (b"\xff\xfe{\x00}\x00", [(None, "this file is not UTF-8 text")]),
        ("x" * (LONGEST_LINE + 1), [(1, f"the line is longer than {LONGEST_LINE} bytes")]),
    ],
)
def test_jsonl_faults(tmp_path, body, faults):
    assert read(tmp_path / "a.jsonl", body)[:3] == ([], [], faults)


def test_every_faulty_row_is_told_and_the_others_are_read(tmp_path):
    facts, rows, faults, _ = read(tmp_path / "a.jsonl", GOOD + "oops\n\n" + GOOD.replace("Ann", "Bob") + "[]\n")
    assert (facts, rows) == ([ANN, ("Bob", "lives_in", "Paris")], [1, 4])
    assert [row for row, _ in faults] == [2, 5]


HEADER = "subject,relation,answer\n"


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("", [(None, "this file is empty")]),
        (HEADER, []),
        (HEADER + "Ann,lives_in\n", [(2, "this row has 2 cells")]),
        (HEADER + "Ann,lives_in,Paris,France\n", [(2, "this row has 4 cells")]),
        (HEADER + "Ann,lives_in,\n", [(2, "the answer is empty")]),
        (HEADER + 'Ann,lives_in,"Par', [(2, "this is not CSV (unexpected end of data), and the rest is not read")]),
        (
            HEADER + 'Ann,lives_in,"Par"is\n',
            [(2, "this is not CSV (',' expected after '\"'), and the rest is not read")],
        ),
        (HEADER + "Ann,lives_in,a\0b\n", [(2, "the answer holds a NUL character")]),
        (HEADER.encode() + b"Ann,lives_in,Par\xeds\n", [(2, "the answer is not UTF-8")]),
        ("subject,relation\nAnn,lives_in\n", [(1, "there is no column 'answer'")]),
        ("subject,relation,answer,answer\na,b,c,d\n", [(1, "the column 'answer' is there 2 times")]),
        ("Ann,lives_in,Paris\n", [(1, f"there is no column '{column}'") for column in Fact._fields]),
    ],
)
def test_csv_faults(tmp_path, body, faults):
    assert read(tmp_path / "a.csv", body)[:3] == ([], [], faults)


def test_a_misspelt_column_is_named(tmp_path):
    findings = Findings()
    (tmp_path / "a.csv").write_text("subject,relation,anwser\nAnn,lives_in,Paris\n")
    read_table(tmp_path / "a.csv", "a.csv", findings)
    assert [str(fault) for fault in findings.faults] == [
        "a.csv, row 1: there is no column 'answer'; expected subject, relation, answer. Did you mean 'anwser'?"
    ]


def test_a_csv_row_number_counts_records_as_a_spreadsheet_does(tmp_path):
    body = HEADER + '"two\nlines",lives_in,Paris\nBob,lives_in\n'
    assert read(tmp_path / "a.csv", body)[1:3] == ([2], [(3, "this row has 2 cells")])


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
)
def test_parquet_text_of_any_kind_is_text(tmp_path, kind):
    body = parquet(
        tmp_path / "a.parquet",
        **{name: pa.array([cell]).cast(kind) for name, cell in zip(Fact._fields, ANN, strict=True)},
    )
    assert read(tmp_path / "a.parquet", body) == ([ANN], [1], [], [])


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([7], "int64"),
        ([1.0], "double"),
        ([True], "bool"),
        ([b"x"], "binary"),
        ([["x"]], "list"),
        ([{"a": "x"}], "struct"),
        ([None], "null"),
    ],
)
def test_a_parquet_column_that_is_not_text_is_refused(tmp_path, answers, kind):
    body = parquet(tmp_path / "a.parquet", subject=["Ann"], relation=["lives_in"], answer=answers)
    facts, _, ((row, what),), _ = read(tmp_path / "a.parquet", body)
    assert (facts, row) == ([], None)
    assert what.startswith(f"the column 'answer' is of type {kind}")


def test_parquet_rows_that_cannot_be_used(tmp_path):
    body = parquet(
        tmp_path / "a.parquet", subject=["Ann", "", "Bob"], relation=["lives_in"] * 3, answer=["Paris", "Rome", None]
    )
    assert read(tmp_path / "a.parquet", body)[:3] == (
        [ANN],
        [1],
        [(2, "the subject is empty"), (3, "there is no answer")],
    )


def test_parquet_text_that_is_not_utf8(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\5\0\0\0\x08\0\0\0"), pa.py_buffer(b"ParisR\xf3m")]
    )
    body = parquet(tmp_path / "a.parquet", subject=["Ann", "Bob"], relation=["lives_in"] * 2, answer=bad)
    assert read(tmp_path / "a.parquet", body)[:3] == ([ANN], [1], [(2, "the answer is not UTF-8")])


def test_a_parquet_file_cut_short_at_any_place_is_told(tmp_path):
    body = parquet(tmp_path / "a.parquet", subject=["Ann"] * 50, relation=["lives_in"] * 50, answer=["Paris"] * 50)
    for length in range(0, len(body), 97):
        facts, _, faults, _ = read(tmp_path / "b.parquet", body[:length])
        assert not facts and len(faults) == 1 and faults[0][1].startswith("this is not a whole Parquet file")


def test_parquet_columns_missing_and_extra(tmp_path):
    assert read(tmp_path / "a.parquet", parquet(tmp_path / "a.parquet", subject=["Ann"], relation=["x"]))[2] == [
        (None, "there is no column 'answer'")
    ]
    body = parquet(tmp_path / "a.parquet", subject=["Ann"], relation=["lives_in"], answer=["Paris"], note=[1])
    assert read(tmp_path / "a.parquet", body) == ([ANN], [1], [], [(None, "the column 'note' is not read")])


def test_equal_texts_are_one_object(tmp_path):
    findings = Findings()
    (tmp_path / "a.jsonl").write_text(GOOD * 3)
    table = read_table(tmp_path / "a.jsonl", "a.jsonl", findings)
    assert len({id(cell) for fact in table.facts for cell in fact}) == 3


CASES = cases()
#: Generated packs for each case.
EXAMPLES = 3
GENERATED = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def typed(*words):
    """Exit code, standard output and standard error of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return code, out.getvalue(), err.getvalue()


def written(folder, files):
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


def test_there_are_two_hundred_of_them():
    assert len(CASES) * EXAMPLES >= 200


@pytest.mark.parametrize("case", CASES)
@GENERATED
@given(data=st.data())
def test_a_broken_pack_is_refused_at_the_row_that_is_broken(tmp_path, case, data):
    kind, edit = CASES[case]
    broken = edit(data.draw(drafts(kind)))
    folder = written(tmp_path, broken.files)
    code, out, err = typed("check", folder, "--json")
    told = json.loads(out)
    assert (code, err, told["counts"]) == (1, "", {})
    faults = [(fault["code"], fault["file"], fault["row"]) for fault in told["faults"]]
    expected = (broken.code, str(folder / broken.file), broken.row)
    assert expected in faults
    assert case in FOLLOWED or {fault[1:] for fault in faults} == {expected[1:]}, "elsewhere nothing is wrong"
    what = next(fault["what"] for fault in told["faults"] if (fault["code"], fault["row"]) == expected[::2])
    assert broken.said in what and what.isprintable() and len(what) < 1000
    code, out, err = typed("check", folder)
    where = str(folder / broken.file) + ("" if broken.row is None else f", row {broken.row}")
    assert (code, err) == (1, "") and f"fault: {where}: {what}" in out
    assert all(line.isprintable() for line in out.splitlines())
    code, out, _ = typed("solve", folder, "--json")
    assert code == 2 and set(json.loads(out)["error"]) == {"what", "where", "do"}
    with pytest.raises(PackError) as caught:
        open_pack(folder)
    assert [fault.as_json() for fault in caught.value.faults] == told["faults"]


@pytest.mark.parametrize("kind", FORMATS)
@settings(GENERATED, max_examples=15)
@given(data=st.data())
def test_a_sound_pack_is_read_as_it_was_written(tmp_path, kind, data):
    draft = data.draw(drafts(kind))
    folder = written(tmp_path, draft.files())
    code, out, _ = typed("check", folder, "--json")
    assert code == 0 and json.loads(out)["counts"]["facts"] == len(draft.rows)
    assert [tuple(fact) for fact in open_pack(folder).facts] == facts_of(draft)


COLUMN_NAMES = "subject,relation,answer\n"
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
        ("csv", f"{COLUMN_NAMES}Ann,lives_in,Paris\nBob,lives_in,{LONG}\n", 3, "the line is longer than 1600000 bytes"),
        ("csv", f'{COLUMN_NAMES}"A\nB",lives_in,"{LONG}"\n', 2, "the line is longer than 1600000 bytes"),
        ("csv", COLUMN_NAMES + 'Ann,lives_in,"' + "x\n" * 5_000_000, 2, "field larger than field limit"),
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
    assert open_pack(write(tmp_path, table=padded)) == open_pack(write(tmp_path))


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
    table = COLUMN_NAMES + "Ann,lives_in,P-1\n" + "".join(cells.format(index) for index in range(2_000))
    code, faults, _ = checked(write(tmp_path, SHEET % "csv", table, "facts.csv"))
    assert (code, len(faults), faults[0]) == (1, 501, (3, first))
    assert faults[-1] == (502, "there are 500 faults up to here, and the rest is not checked")


def test_a_warning_for_every_row_ends_too_and_the_pack_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "MOST_FAULTS", 300)
    folder = write(tmp_path, SHEET % "csv", COLUMN_NAMES + "Ann,lives_in,Paris\n" * 1_000, "facts.csv")
    code, faults, warnings = checked(folder)
    assert (code, faults, len(warnings)) == (0, [], 300)
    assert len(open_pack(folder).facts) == 1_000


def test_a_formula_is_text(tmp_path):
    folder = write(tmp_path, SHEET % "csv", COLUMN_NAMES + "=1+1,lives_in,@SUM(A1)\n", "facts.csv")
    assert checked(folder) == (0, [], [])
    assert open_pack(folder).facts == (("=1+1", "lives_in", "@SUM(A1)"),)


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
        "csv": COLUMN_NAMES + "".join(",".join(row) + "\n" for row in facts),
        "parquet": parquet_bytes(dict(zip(("subject", "relation", "answer"), zip(*facts, strict=True), strict=True))),
    }
    folder = write(tmp_path, SHEET % kind, bodies[kind], f"facts.{kind}")
    assert checked(folder)[:2] == (0, [])
    assert [fact.subject for fact in open_pack(folder).facts] == list(texts.values())


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


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_read(tmp_path, mark):
    body = f"subject{mark}relation{mark}answer\nAnn{mark}lives_in{mark}Paris\nBob{mark}lives_in\n"
    facts, _, faults, _ = read(tmp_path / "a.csv", body)
    assert (facts, faults) == ([ANN], [(3, "this row has 2 cells")])
    assert read(tmp_path / "a.csv", f"subject{mark}relation{mark}anwser\n")[2] == [(1, "there is no column 'answer'")]


def test_a_separator_that_excel_names_is_no_header(tmp_path):
    body = "sep=;\r\nsubject;relation;answer\r\nAnn;lives_in;Paris\r\nBob;lives_in\r\n"
    assert read(tmp_path / "a.csv", body)[:3] == ([ANN], [3], [(4, "this row has 2 cells")])


def test_old_line_ends_are_read(tmp_path):
    body = 'subject,relation,answer\rAnn,lives_in,Paris\r"Bob\rDay",lives_in,Rome\r'
    assert read(tmp_path / "a.csv", body)[0] == [ANN, ("Bob\rDay", "lives_in", "Rome")]
