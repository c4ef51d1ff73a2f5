"""Read a table of facts (JSONL, CSV or Parquet, or an inline list) as text, with the place of every fault."""

from __future__ import annotations

import csv
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.packs.check import Fault, Findings, quoted, shown
from spillover.packs.pack import Fact, normal
from spillover.packs.yaml_text import LONGEST_TEXT, Node

COLUMNS = Fact._fields

Cells = Sequence[Any]
#: Row number and its three cells, as the reader of a format yields them; a cell that is not there is None.
Row = tuple[int, Cells]

#: What a spreadsheet calculates instead of showing it; a sign before a number is no formula.
FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d\s.,:/()%+-]*\Z)")
#: What no text holds: NUL, and the surrogates that stand for bytes that are not UTF-8.
NO_TEXT = re.compile("[\0\ud800-\udfff]")
EXPECTED = {"is empty": "text", "holds a NUL character": "text without NUL", "is not UTF-8": "UTF-8"}


class Table(NamedTuple):
    """The facts of a table and the row number of each."""

    facts: tuple[Fact, ...]
    rows: array[int]


class Broken(Exception):
    """The rest of a table cannot be read: where, why, and what to do."""

    def __init__(self, row: int | None, what: str, do: str) -> None:
        super().__init__(what)
        self.row, self.what, self.do = row, what, do


class Unusable(Exception):
    """A cell that is not text, or text that no fact may hold."""


class Kept(dict[Any, str]):
    """A cell as it was read -> its text in NFC, so that equal texts are kept once; raises Unusable for what is none."""

    def __missing__(self, cell: Any) -> str:
        if isinstance(cell, bool):
            return "true" if cell else "false"  # As JSON writes them.
        if type(cell) is not str or unfit(cell):
            raise Unusable
        text = self[cell] = normal(cell)
        return text


def collect(rows: Iterator[Row], name: str, findings: Findings) -> Table:
    """The rows whose three cells are text; faults and warnings go to `findings` under the file's `name`."""
    facts, numbers, kept = [], array("q"), Kept()
    try:
        for number, cells in rows:
            subject, relation, answer = cells
            try:
                fact = Fact(kept[subject], kept[relation], kept[answer])
            except (Unusable, TypeError):  # A list has no hash.
                _cell_faults(number, cells, name, findings)
                continue
            facts.append(fact)
            numbers.append(number)
    except Broken as broken:
        findings.fault("unreadable", name, broken.row, broken.what, "a whole table in UTF-8", broken.do)
    table = Table(tuple(facts), numbers)
    _tell_formulas(table, {text for text in kept.values() if FORMULA.match(text)}, name, findings)
    return table


def unfit(cell: str) -> str | None:
    """Why a text cannot be a cell, or None."""
    if len(cell) > LONGEST_TEXT:
        return f"has {len(cell)} characters"
    if not cell or cell.isspace():
        return "is empty"
    if found := NO_TEXT.search(cell):
        return "holds a NUL character" if found[0] == "\0" else "is not UTF-8"
    return None


def _cell_faults(number: int, cells: Cells, name: str, findings: Findings) -> None:
    """A fault for each cell of a row that is missing, not text, or text that cannot be used."""
    for column, cell in zip(COLUMNS, cells, strict=True):
        if cell is None:
            what, expected = f"there is no {column}", "subject, relation and answer in every row"
            do = f"Add the {column}"
        elif isinstance(cell, (list, tuple, dict)):
            kind = {list: "a list", tuple: "an object", dict: "a mapping"}[type(cell)]
            what, expected, do = f"the {column} is {kind}", "text", "Write text in its place"
        elif isinstance(cell, str) and (why := unfit(cell)):
            expected = EXPECTED.get(why, f"at most {LONGEST_TEXT}")
            what, do = f"the {column} {why}", f"Mend the {column}, or remove the row"
        else:
            continue
        findings.fault("bad-cell", name, number, what, expected, do)


def _tell_formulas(table: Table, formulas: set[str], name: str, findings: Findings) -> None:
    """One warning a column with cells that a spreadsheet would calculate: how many there are, and the first."""
    if not formulas:
        return
    for column, texts in zip(COLUMNS, zip(*table.facts, strict=True), strict=True):
        found = [index for index, text in enumerate(texts) if text in formulas]
        if found:
            first, others = texts[found[0]], f", as {len(found) - 1} more do" if found[1:] else ""
            what = f"the {column} {quoted(first)} begins like a formula{others}; it is read as text"
            do = "Mend it, if a spreadsheet wrote it; let none open the file, if it is meant so"
            findings.warn("formula", name, table.rows[found[0]], what, do=do)


#: Longest line of a table, in bytes: three longest cells of four bytes each, and what surrounds them.
LONGEST_LINE = 16 * LONGEST_TEXT
#: Rows of Parquet that are unpacked at once, and the most bytes that a column of a row group may take unpacked.
BATCH, LARGEST_COLUMN = 1 << 19, 1 << 29
#: How files begin that are not text, whatever their names end in.
NOT_TEXT = {
    b"\xff\xfe\0\0": ("UTF-32", "Save it as UTF-8"),
    b"\0\0\xfe\xff": ("UTF-32", "Save it as UTF-8"),
    b"\xff\xfe": ("UTF-16", "Save it as UTF-8"),
    b"\xfe\xff": ("UTF-16", "Save it as UTF-8"),
    b"\x1f\x8b": ("compressed with gzip", "Unpack it"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Unpack it"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "Unpack it, or save the sheet as CSV"),
    b"PAR1": ("a Parquet file", "Let its name end in .parquet"),
}


def read_table(path: Path, name: str, findings: Findings) -> Table:
    """The facts in the file at `path`; faults and warnings go to `findings` under the file's `name`."""
    return collect(READERS[path.suffix.lower()](path, name, findings), name, findings)


def _check_columns(present: Sequence[str], name: str, row: int | None, findings: Findings) -> bool:
    """Fault what is missing or there twice, warn of what is not read; whether the table can be read at all."""
    missing = [column for column in COLUMNS if present.count(column) != 1]
    for column in missing:
        times = present.count(column)
        what = f"the column {column!r} is there {times} times" if times else f"there is no column {column!r}"
        other = [each for each in present if each not in COLUMNS]
        do = findings.hint(column, other) if other and not times else ""
        findings.fault("missing-column", name, row, what, ", ".join(COLUMNS), do or f"Have one column {column!r}")
    if not missing:
        for column in dict.fromkeys(each for each in present if each not in COLUMNS):
            _warn_extra(column, name, row, findings)
    return not missing


def _warn_extra(column: str, name: str, row: int | None, findings: Findings) -> None:
    what = f"the column {quoted(column)} is not read"
    findings.warn("extra-column", name, row, what, ", ".join(COLUMNS), "Remove it, if it was meant to count")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers; bytes that are not UTF-8 become surrogates, which no cell may hold."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            for mark, (kind, do) in NOT_TEXT.items():
                if head.startswith(mark):
                    raise Broken(None, f"this file is {kind}", do)
            stream.seek(3 if head[:3] == b"\xef\xbb\xbf" else 0)
            number = 0
            while line := stream.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise Broken(
                        number, f"the line is longer than {LONGEST_LINE} bytes", "Begin a new line after every row"
                    )
                yield number, line.decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Broken(
            None, f"this file cannot be read ({(error.strerror or str(error)).lower()})", "Mend the file"
        ) from None


#: What JSON allows around a value.
SPACES = " \t\r\n"
DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)


def _jsonl(path: Path, name: str, findings: Findings) -> Iterator[Row]:
    """One JSON object a line. Numbers keep the text they were written with; blank lines are passed over."""
    extra: set[str] = set()
    for number, line in _lines(path):
        if not (line := line.strip(SPACES)):
            continue
        try:
            pairs, length = DECODER.raw_decode(line)
            if length < len(line):
                raise json.JSONDecodeError("Extra data", line, length)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = "nested too deeply"
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg} at column {error.colno}"
            what, do = f"this line is not JSON ({reason})", "Mend the line; the file may have been cut short"
            findings.fault("not-json", name, number, what, "one JSON object a line", do)
            continue
        if type(pairs) is not tuple:
            findings.fault(
                "not-an-object", name, number, "this row is not an object", '{"subject": ...}', "Write an object"
            )
            continue
        cells = dict(pairs)
        if len(cells) != len(pairs):
            findings.fault("repeated-key", name, number, "a key is there twice", "each key once", "Keep one of the two")
            continue
        row = list(map(cells.get, COLUMNS))
        if len(cells) > len(COLUMNS) or None in row:
            _warn_of_keys(cells, extra, name, number, findings)
        yield number, row


def _warn_of_keys(keys: Iterable[str], told: set[str], name: str, number: int, findings: Findings) -> None:
    """Warn of each key that is not read, once a table."""
    for key in keys:
        if key not in COLUMNS and key not in told:
            told.add(key)
            _warn_extra(key, name, number, findings)


def _csv(path: Path, name: str, findings: Findings) -> Iterator[Row]:
    """Comma-separated values with a header; row numbers count records, the header being row 1."""
    number = 0
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise Broken(None, "this file is empty", "Write a header and a row a fact")
        number = 1
        if not _check_columns(header, name, 1, findings):
            return
        order = [header.index(column) for column in COLUMNS]
        for number, record in enumerate(reader, start=2):
            if len(record) == len(header):
                yield number, [record[index] for index in order]
            elif record:
                what = f"this row has {len(record)} cells"
                do = "Quote cells that hold a comma; the file may have been cut short"
                findings.fault("cell-count", name, number, what, f"{len(header)}, as the header has", do)
    except Broken as broken:
        # What was read are lines, of which a record may take several.
        raise Broken(broken.row and number + 1, broken.what, broken.do) from None
    except csv.Error as error:
        raise Broken(number + 1, f"this is not CSV ({error}), and the rest is not read", "Mend the quotes") from None


def _parquet(path: Path, name: str, findings: Findings) -> Iterator[Row]:
    """A Parquet table whose three columns are text; row numbers count from 1.

    Each different text of a batch is unpacked once, however often it stands there, so that a small file stays small.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if not _check_columns(schema.names, name, None, findings) or not _text_columns(schema, name, findings):
                return
            _refuse_large_groups(file.metadata)
        with pq.ParquetFile(path, read_dictionary=list(COLUMNS)) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=list(COLUMNS)):
                for cells in zip(*(_texts(batch.column(column)) for column in COLUMNS), strict=True):
                    number += 1
                    yield number, cells
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Broken(None, f"this is not a whole Parquet file ({shown(reason)})", "Write the file again") from None


def _refuse_large_groups(metadata: pq.FileMetaData) -> None:
    """Raise Broken at the first row group of which a column would take too much memory."""
    row = 1
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in COLUMNS and column.total_uncompressed_size > LARGEST_COLUMN:
                size = f"{column.total_uncompressed_size} bytes, unpacked"
                what = f"a row group begins here whose column {column.path_in_schema!r} has {size}"
                raise Broken(row, what, f"Write the file in row groups of less than {LARGEST_COLUMN} bytes a column")
        row += group.num_rows


def _text_columns(schema: pa.Schema, name: str, findings: Findings) -> bool:
    """Whether the three columns are text; a number or a date would not be the text that was written."""
    sound = True
    for column in COLUMNS:
        kind = schema.field(column).type
        if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            sound = False
            what = f"the column {column!r} is of type {shown(str(kind))}"
            findings.fault("not-text", name, None, what, "text", "Save the column as strings, so that 007 stays 007")
    return sound


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _texts(column: pa.Array) -> list[str | None]:
    """The texts of a column; bytes that are not UTF-8 become surrogates, which no cell may hold."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    try:
        texts = coded.dictionary.to_pylist()
    except UnicodeDecodeError:
        cells = coded.dictionary.cast(pa.large_binary()).to_pylist()
        texts = [cell.decode("utf-8", "surrogateescape") for cell in cells]
    return [None if code is None else texts[code] for code in coded.indices.to_pylist()]


def inline_rows(nodes: Sequence[Node], name: str, findings: Findings) -> Iterator[Row]:
    """The rows of an inline list; row numbers are lines of the YAML file."""
    extra: set[str] = set()
    for node in nodes:
        if not isinstance(node.value, dict):
            what, do = "this row is not a mapping", "Write - {subject: ..., relation: ..., answer: ...}"
            findings.fault("not-an-object", name, node.line, what, "subject, relation and answer", do)
            continue
        _warn_of_keys(node.value, extra, name, node.line, findings)
        cells = [node.value.get(column) for column in COLUMNS]
        yield node.line, [cell.value if cell is not None else None for cell in cells]


READERS: dict[str, Callable[[Path, str, Findings], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


def printable(path: Path | str) -> str:
    """The path as text that any terminal and any JSON file takes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def table_beside(pack_file: Path, given: str) -> tuple[Path | None, Fault | None]:
    """The file that `facts` names, or a fault: it must be a table inside the folder of `pack_file`."""
    target, kinds = pack_file.parent / given, ", ".join(READERS)
    try:
        inside = target.resolve().is_relative_to(pack_file.parent.resolve())
        exists, is_file = target.exists(), target.is_file()
    except (OSError, ValueError, RuntimeError):
        inside, exists, is_file = True, False, False

    def fault(code: str, what: str, expected: str, do: str) -> tuple[None, Fault]:
        return None, Fault(code, str(pack_file), None, f"facts names {what}", expected, do)

    if not inside:
        what = f"a file outside the pack: {quoted(given)}"
        return fault("facts-outside", what, "a file beside pack.yaml", "Copy it into the folder")
    if not exists:
        what = f"{quoted(given)}, which does not exist"
        return fault("facts-missing", what, "a file beside pack.yaml", "Mend the name")
    if not is_file:
        return fault("facts-missing", f"{quoted(given)}, which is not a file", kinds, "Name a table of facts")
    if target.suffix.lower() not in READERS:
        what = f"{quoted(given)}, whose format is not read"
        return fault("facts-format", what, kinds, "Save it in one of these")
    return target, None
