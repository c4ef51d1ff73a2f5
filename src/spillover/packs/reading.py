"""Read a table of facts (JSONL, CSV or Parquet) as text, with the place of every fault."""

from __future__ import annotations

import csv
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.errors import first_line
from spillover.packs.check import Findings, quoted, shown
from spillover.packs.pack import Fact, normal

COLUMNS = Fact._fields
#: Longest text that is read, in characters: a cell, a prompt, a name.
LONGEST_TEXT = 100_000
#: Longest line of a table, in bytes: three longest cells of four bytes each, and what surrounds them.
LONGEST_LINE = 16 * LONGEST_TEXT
#: How many rows of Parquet are unpacked at once.
BATCH = 1 << 19
#: What may stand between the cells of CSV; where an old line end without a line feed is.
SEPARATORS, CARRIAGE = ",;\t|", re.compile(r"(?<=\r)(?!\n)")
#: What JSON allows around a value.
SPACES = " \t\r\n"
DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)
#: NUL, and the surrogates that stand for bytes that are not UTF-8: no text holds them.
NO_TEXT = re.compile("[\0\ud800-\udfff]")
#: How UTF-8 text never begins, as UTF-16, compressed files and spreadsheets do.
NOT_UTF8 = re.compile(rb".{0,3}[\0-\x08\x0e-\x1f\xf5-\xff]", re.DOTALL)

#: Row number and its three cells, as the reader of a format yields them; a cell that is not there is None.
FactRow = tuple[int, Sequence[Any]]


class NumberedFacts(NamedTuple):
    """The facts of a table and the row number of each."""

    facts: tuple[Fact, ...]
    rows: array[int]


class Broken(Exception):
    """The rest of a file cannot be read: at which row, why, and what to do."""

    def __init__(self, row: int | None, what: str, do: str) -> None:
        super().__init__(what)
        self.row, self.what, self.do = row, what, do


class _Texts(dict[Any, str]):
    """A cell as it was read -> its text in NFC, so that equal texts are kept once. Raises TypeError for other cells."""

    def __missing__(self, cell: Any) -> str:
        if isinstance(cell, bool):
            return "true" if cell else "false"  # As JSON writes them.
        if type(cell) is not str or _unfit(cell):
            raise TypeError
        text = self[cell] = normal(cell)
        return text


def read_table(path: Path, name: str, findings: Findings) -> NumberedFacts:
    """The facts in the file at `path`; faults and warnings go to `findings` under the file's `name`."""
    return collect(READERS[path.suffix.lower()](path, name, findings), name, findings)


def collect(rows: Iterable[FactRow], name: str, findings: Findings) -> NumberedFacts:
    """The rows whose three cells are text; faults go to `findings` under the file's `name`."""
    facts, numbers, texts = [], array("q"), _Texts()
    try:
        for number, cells in rows:
            subject, relation, answer = cells
            try:
                fact = Fact(texts[subject], texts[relation], texts[answer])
            except TypeError:  # Of a list, too, which has no hash.
                _cell_faults(number, cells, name, findings)
                continue
            facts.append(fact)
            numbers.append(number)
    except Broken as broken:
        findings.fault("unreadable", name, broken.row, broken.what, "a whole table in UTF-8", broken.do)
    return NumberedFacts(tuple(facts), numbers)


def _unfit(cell: str) -> tuple[str, str] | None:
    """Why a text cannot be a cell and what is expected, or None."""
    if len(cell) > LONGEST_TEXT:
        return f"has {len(cell)} characters", f"at most {LONGEST_TEXT}"
    if not cell or cell.isspace():
        return "is empty", "text"
    if found := NO_TEXT.search(cell):
        return ("holds a NUL character", "text without NUL") if found[0] == "\0" else ("is not UTF-8", "UTF-8")
    return None


def _cell_faults(number: int, cells: Sequence[Any], name: str, findings: Findings) -> None:
    """A fault for each cell of a row that is missing, not text, or text that cannot be used."""
    kinds: dict[type, str] = {list: "a list", tuple: "an object", dict: "a mapping"}
    for column, cell in zip(COLUMNS, cells, strict=True):
        if cell is None:
            what, expected = f"there is no {column}", "subject, relation and answer in every row"
            findings.fault("bad-cell", name, number, what, expected, f"Add the {column}")
        elif type(cell) in kinds:
            what = f"the {column} is {kinds[type(cell)]}"
            findings.fault("bad-cell", name, number, what, "text", "Write text in its place")
        elif isinstance(cell, str) and (unfit := _unfit(cell)):
            do = "Save the file as UTF-8" if unfit[1] == "UTF-8" else f"Mend the {column}, or remove the row"
            what = f"the {column} {unfit[0]}"
            findings.fault("bad-cell", name, number, what, unfit[1], do)


def _check_columns(present: Sequence[str], name: str, row: int | None, findings: Findings) -> bool:
    """Fault what is missing or there twice, warn of what is not read; whether the table can be read at all."""
    missing = [column for column in COLUMNS if present.count(column) != 1]
    other = [each for each in present if each not in COLUMNS]
    for column in missing:
        times = present.count(column)
        what = f"the column {column!r} is there {times} times" if times else f"there is no column {column!r}"
        do = findings.hint(column, other) if other and not times else ""
        findings.fault("missing-column", name, row, what, ", ".join(COLUMNS), do or f"Have one column {column!r}")
    if not missing:
        warn_of_extra(present, name, row, findings)
    return not missing


def warn_of_extra(keys: Iterable[str], name: str, row: int | None, findings: Findings) -> None:
    """Warn of each column that is not read, once a pack."""
    for key in keys:
        if key not in COLUMNS and key not in findings.extra_columns:
            findings.extra_columns.add(key)
            what, do = f"the column {quoted(key)} is not read", "Remove it, if it was meant to count"
            findings.warn("extra-column", name, row, what, ", ".join(COLUMNS), do)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers; bytes that are not UTF-8 become surrogates, which no cell may hold."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            if NOT_UTF8.match(head):
                do = "Save it as UTF-8 text; unpack an archive, and save a spreadsheet as CSV"
                raise Broken(None, "this file is not UTF-8 text", do)
            stream.seek(3 if head[:3] == b"\xef\xbb\xbf" else 0)
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    what = f"the line is longer than {LONGEST_LINE} bytes"
                    raise Broken(number, what, "Begin a new line after every row")
                yield number, line.decode("utf-8", "surrogateescape")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Broken(None, f"this file cannot be read ({reason})", "Mend the file") from None


def _jsonl(path: Path, name: str, findings: Findings) -> Iterator[FactRow]:
    """One JSON object a line. Numbers keep the text they were written with; blank lines are passed over."""
    for number, line in _lines(path):
        if not (line := line.strip(SPACES)):
            continue
        try:
            pairs = DECODER.decode(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = "nested too deeply"
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg} at column {error.colno}"
            what, do = f"this line is not JSON ({reason})", "Mend the line; the file may have been cut short"
            findings.fault("not-json", name, number, what, "one JSON object a line", do)
            continue
        if type(pairs) is not tuple:
            what, expected = "this row is not an object", '{"subject": ...}'
            findings.fault("not-an-object", name, number, what, expected, "Write an object")
        elif len(cells := dict(pairs)) != len(pairs):
            findings.fault("repeated-key", name, number, "a key is there twice", "each key once", "Keep one of the two")
        else:
            row = list(map(cells.get, COLUMNS))
            if len(cells) > len(COLUMNS) or None in row:
                warn_of_extra(cells, name, number, findings)
            yield number, row


def _csv(path: Path, name: str, findings: Findings) -> Iterator[FactRow]:
    """Comma-separated values with a header; row numbers count records, the header being row 1.

    Semicolons, tabs or bars separate, too, where that makes the header one; Excel may name the mark before it.
    """
    number = above = 0
    lines = (part for _, line in _lines(path) for part in CARRIAGE.split(line) if part)
    try:
        first = next(lines, "")
        if first[:4].lower() == "sep=":
            above, first = 1, next(lines, "")

        def columns(mark: str) -> tuple[int, int]:
            cells = next(csv.reader([first], delimiter=mark), [])
            return len({*cells} & {*COLUMNS}), len(cells)

        separator = max(SEPARATORS, key=columns)
        reader = csv.reader(chain([first] if first else [], lines), delimiter=separator, strict=True)
        header = next(reader, None)
        if header is None:
            raise Broken(None, "this file is empty", "Write a header and a row a fact")
        number = above + 1
        if not _check_columns(header, name, number, findings):
            return
        order = [header.index(column) for column in COLUMNS]
        for number, record in enumerate(reader, start=above + 2):
            if len(record) == len(header):
                yield number, [record[index] for index in order]
            elif record:
                what = f"this row has {len(record)} cells"
                mark = "a comma" if separator == "," else f"the separator {separator!r}"
                do = f"Quote cells that hold {mark}; the file may have been cut short"
                findings.fault("cell-count", name, number, what, f"{len(header)}, as the header has", do)
    except Broken as broken:
        # What was read are lines, of which a record may take several.
        raise Broken(broken.row and number + 1, broken.what, broken.do) from None
    except csv.Error as error:
        raise Broken(number + 1, f"this is not CSV ({error}), and the rest is not read", "Mend the quotes") from None


def _parquet(path: Path, name: str, findings: Findings) -> Iterator[FactRow]:
    """A Parquet table whose three columns are text; row numbers count from 1.

    Each different text of a batch is unpacked once, however often it stands there, so that a small file stays small.
    """
    try:
        schema = pq.read_schema(path)
        if not _check_columns(schema.names, name, None, findings) or not _text_columns(schema, name, findings):
            return
        with pq.ParquetFile(path, read_dictionary=list(COLUMNS)) as file:
            batches = file.iter_batches(batch_size=BATCH, columns=list(COLUMNS))
            rows = (zip(*(_texts(batch.column(column)) for column in COLUMNS), strict=True) for batch in batches)
            yield from enumerate(chain.from_iterable(rows), start=1)
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"this is not a whole Parquet file ({shown(first_line(error))})"
        raise Broken(None, what, "Write the file again") from None


def _text_columns(schema: pa.Schema, name: str, findings: Findings) -> bool:
    """Whether the three columns are text; a number or a date would not be the text that was written."""
    sound = True
    for column in COLUMNS:
        kind = schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            sound, what = False, f"the column {column!r} is of type {shown(str(kind))}"
            findings.fault("not-text", name, None, what, "text", "Save the column as strings, so that 007 stays 007")
    return sound


def _texts(column: pa.Array) -> list[str | None]:
    """The texts of a column; bytes that are not UTF-8 become surrogates, which no cell may hold."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    try:
        texts = coded.dictionary.to_pylist()
    except UnicodeDecodeError:
        cells = coded.dictionary.cast(pa.large_binary()).to_pylist()
        texts = [cell.decode("utf-8", "surrogateescape") for cell in cells]
    return [None if code is None else texts[code] for code in coded.indices.to_pylist()]


READERS: dict[str, Callable[[Path, str, Findings], Iterator[FactRow]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


def printable(path: Path | str) -> str:
    """The path as text that any terminal and any JSON file takes."""
    return str(path).encode("utf-8", "backslashreplace").decode()
