"""Read a table of facts (JSONL, CSV or Parquet, or an inline list): three texts a row, and every row that is none."""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.facts.check import Findings, hint, quoted
from spillover.facts.pack import Fact
from spillover.facts.reading.yaml_text import Node, normal

COLUMNS = Fact._fields
#: Longest cell that is read, in characters.
LONGEST_CELL = 100_000
#: Longest line of a table, in bytes: three longest cells of four bytes each, and what surrounds them.
LONGEST_LINE = 16 * LONGEST_CELL

Cells = Sequence[Any]
#: Row number and its three cells, as the reader of a format yields them; a cell that is not there is None.
Row = tuple[int, Cells]


class Table(NamedTuple):
    """The facts of a table and the row number of each."""

    facts: tuple[Fact, ...]
    rows: array[int]


class Broken(Exception):
    """The rest of a table cannot be read: where, why, and what to do."""

    def __init__(self, row: int | None, what: str, do: str) -> None:
        super().__init__(what)
        self.row, self.what, self.do = row, what, do


def read_table(path: Path, name: str, findings: Findings) -> Table:
    """The facts in the file at `path`; faults and warnings go to `findings` under the file's `name`."""
    return collect(READERS[path.suffix.lower()](path, name, findings), name, findings)


def collect(rows: Iterator[Row], name: str, findings: Findings) -> Table:
    """The rows whose three cells are text, in NFC; equal texts are kept once in memory."""
    facts, numbers = [], array("q")
    kept: dict[str, str] = {}
    try:
        for number, cells in rows:
            texts = []
            for cell in cells:
                if type(cell) is not str:
                    break
                if (text := kept.get(cell)) is None:
                    if _unfit(cell):
                        break
                    text = kept[cell] = normal(cell)
                texts.append(text)
            if len(texts) == len(COLUMNS):
                facts.append(Fact(*texts))
                numbers.append(number)
            else:
                _cell_faults(number, cells, name, findings)
    except Broken as broken:
        findings.fault("unreadable", name, broken.row, broken.what, "a whole table in UTF-8", broken.do)
    return Table(tuple(facts), numbers)


def _unfit(cell: str) -> str | None:
    """Why a text cannot be a cell, or None."""
    if cell.isascii() and cell.isprintable() and not cell.isspace() and 0 < len(cell) <= LONGEST_CELL:
        return None
    if not cell or cell.isspace():
        return "is empty"
    if len(cell) > LONGEST_CELL:
        return f"has {len(cell)} characters"
    if "\0" in cell:
        return "holds a NUL character"
    if not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
        return "is not UTF-8"
    return None


EXPECTED = {"is empty": "text", "holds a NUL character": "text without NUL", "is not UTF-8": "UTF-8"}


def _cell_faults(number: int, cells: Cells, name: str, findings: Findings) -> None:
    """A fault for each cell of a row that is missing, not text, or text that cannot be used."""
    for column, cell in zip(COLUMNS, cells, strict=True):
        if cell is None:
            what, expected, do = (
                f"there is no {column}",
                "subject, relation and answer in every row",
                f"Add the {column}",
            )
        elif not isinstance(cell, str):
            kind = {"list": "a list", "tuple": "an object", "dict": "a mapping"}[type(cell).__name__]
            what, expected, do = f"the {column} is {kind}", "text", "Write text in its place"
        elif why := _unfit(cell):
            expected = EXPECTED.get(why, f"at most {LONGEST_CELL}")
            what, do = f"the {column} {why}", f"Mend the {column}, or remove the row"
        else:
            continue
        findings.fault("bad-cell", name, number, what, expected, do)


def _check_columns(present: Sequence[str], name: str, row: int | None, findings: Findings) -> bool:
    """Fault what is missing or there twice, warn of what is not read; whether the table can be read at all."""
    missing = [column for column in COLUMNS if present.count(column) != 1]
    for column in missing:
        times = present.count(column)
        what = f"the column {column!r} is there {times} times" if times else f"there is no column {column!r}"
        other = [each for each in present if each not in COLUMNS]
        do = hint(column, other) if other and not times else ""
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
            if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise Broken(None, "this file is UTF-16", "Save it as UTF-8")
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


DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)


def _jsonl(path: Path, name: str, findings: Findings) -> Iterator[Row]:
    """One JSON object a line. Numbers keep the text they were written with; blank lines are passed over."""
    extra: set[str] = set()
    for number, line in _lines(path):
        if not (line := line.strip()):
            continue
        try:
            pairs = DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
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
        if len(cells) > len(COLUMNS):
            for key in cells.keys() - {*COLUMNS, *extra}:
                extra.add(key)
                _warn_extra(key, name, number, findings)
        yield number, [_scalar(cells.get(column)) for column in COLUMNS]


def _scalar(value: Any) -> Any:
    """JSON's true and false as the text they are written with; everything else as it is."""
    return ("true" if value else "false") if isinstance(value, bool) else value


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
    except csv.Error as error:
        raise Broken(number + 1, f"this is not CSV ({error}), and the rest is not read", "Mend the quotes") from None


def _parquet(path: Path, name: str, findings: Findings) -> Iterator[Row]:
    """A Parquet table whose three columns are text; row numbers count from 1."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if not _check_columns(schema.names, name, None, findings) or not _text_columns(schema, name, findings):
                return
            number = 0
            for batch in file.iter_batches(batch_size=1 << 14, columns=list(COLUMNS)):
                for cells in zip(*(_texts(batch.column(column)) for column in COLUMNS), strict=True):
                    number += 1
                    yield number, cells
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Broken(None, f"this is not a whole Parquet file ({reason})", "Write the file again") from None


def _text_columns(schema: pa.Schema, name: str, findings: Findings) -> bool:
    """Whether the three columns are text; a number or a date would not be the text that was written."""
    sound = True
    for column in COLUMNS:
        kind = schema.field(column).type
        if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            sound = False
            what = f"the column {column!r} is of type {kind}"
            findings.fault("not-text", name, None, what, "text", "Save the column as strings, so that 007 stays 007")
    return sound


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _texts(column: pa.Array) -> list[str | None]:
    """The texts of a column; bytes that are not UTF-8 become surrogates, which no cell may hold."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        cells = plain.cast(pa.large_binary()).to_pylist()
        return [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in cells]


def inline_rows(nodes: Sequence[Node], name: str, findings: Findings) -> Iterator[Row]:
    """The rows of an inline list; row numbers are lines of the YAML file."""
    extra: set[str] = set()
    for node in nodes:
        if not isinstance(node.value, dict):
            what, do = "this row is not a mapping", "Write - {subject: ..., relation: ..., answer: ...}"
            findings.fault("not-an-object", name, node.line, what, "subject, relation and answer", do)
            continue
        for key in node.value.keys() - {*COLUMNS, *extra}:
            extra.add(key)
            _warn_extra(key, name, node.line, findings)
        cells = [node.value.get(column) for column in COLUMNS]
        yield node.line, [cell.value if cell is not None else None for cell in cells]


READERS: dict[str, Callable[[Path, str, Findings], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
