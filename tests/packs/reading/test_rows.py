"""Tables of facts: what is read, and a place and a sentence for what cannot be."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spillover.packs.check import Findings
from spillover.packs.pack import Fact
from spillover.packs.reading import LONGEST_LINE, LONGEST_TEXT, read_table

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
