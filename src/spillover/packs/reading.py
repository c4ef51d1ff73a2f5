"""Read files: a table of facts (JSONL, CSV or Parquet) as text, with the place of every fault; and rows of any kind."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.errors import UsageError, first_line, nearest
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


# --- Files of rows of any kind: what they hold, whatever they are called

#: A header and a line of dashes under it, with bars between its columns.
_MARKDOWN = re.compile(r"\s*[^\n]*\|[^\n]*\n\s*\|?\s*:?-{3,}:?\s*(\|\s*:?-{3,}:?\s*)*\|?\s*(\n|\Z)")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")
_MARKUP = re.compile(r"<(?:!doctype|html|table|\?xml|!--)", re.IGNORECASE)
#: What a file may be, in words; rows of Parquet that are unpacked at once.
KINDS, UNPACKED = "CSV, TSV, Excel, JSON, JSONL, Parquet and text", 1 << 14
#: The ending of a file's name -> what it is called; what is not read -> what to do.
KIND_OF = {".csv": "CSV", ".tsv": "TSV", ".xlsx": "a workbook", ".xlsm": "a workbook", ".parquet": "Parquet"}
VALUE = "one JSON value"
KIND_OF |= dict.fromkeys((".txt", ".md", ".text"), "text") | {".jsonl": "JSON lines", ".ndjson": "JSON lines"}
KIND_OF[".json"] = VALUE
UNREAD = {"a table of Markdown": "Save it as CSV", "HTML or XML": "Save its table as CSV, or its text as .txt"}
#: How files begin that are no text, and what they are.
BINARY = {
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file",
    b"\x1f\x8b": "gzip",
}
_PLAIN_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def wrong(path: Path | str, what: str, do: str) -> UsageError:
    """An error about a file of rows."""
    return UsageError(what, where=str(path)[:200], do=do)


def rows_of(
    path: Path,
    is_row: Callable[[Mapping[str, Any]], bool],
    encoding: str = "",
    separator: str = "",
    sheet: str = "",
    say: Callable[[str], object] = str,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers: JSON lines, a JSON array, CSV, TSV, Excel, Parquet or text, also in gzip.

    Arguments:
    - is_row: whether a JSON object that is a whole file is a row, and holds no list of rows.
    - encoding, separator, sheet: how to read it; guessed where empty.
    - say: gets a sentence about each guess.

    Raises UsageError for a file that cannot be read, and for a row that is no object.
    """
    kind = next((KIND_OF[each] for each in map(str.lower, reversed(path.suffixes)) if each in KIND_OF), "")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        if data[:4] == b"PAR1":
            _say_kind(say, kind, "Parquet")
            batches = pq.ParquetFile(io.BytesIO(data)).iter_batches(batch_size=UNPACKED)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
            return
    except (OSError, ValueError, EOFError, zlib.error, pa.ArrowException) as error:
        raise _unreadable(path, error, "Name a file of rows, whole and unpacked") from None
    if data[:4] == b"PK\x03\x04" and (kind == "a workbook" or b"xl/workbook" in data):
        _say_kind(say, kind, "a workbook")
        yield from _excel(data, path, sheet, say)
        return
    if sheet:
        raise UsageError("only a workbook has sheets", where="--sheet", do="Leave it out")
    text = _decoded(data, path, encoding)
    del data
    if (seems := _kind(text, kind)) in UNREAD:
        raise wrong(path, f"this is {seems}", UNREAD[seems])
    _say_kind(say, kind, seems)
    if seems in ("CSV", "TSV"):
        yield from _separated(text, path, "TSV" in (kind, seems), separator, say)
        return
    if separator:
        raise UsageError("only CSV has a separator", where="--separator", do="Leave it out, or name the file .csv")
    if seems == "text":
        # A line that does not end a sentence goes on in the next.
        number = 1
        for line in re.sub(r"(?<=[^\s.!?…:])\r?\n(?=[^\W\d_A-Z])", "\v", text).replace("\r\n", "\n").split("\n"):
            if line.strip():
                yield number, {"text": line.replace("\v", " ").strip()}
            number += 1 + line.count("\v")
        return
    for number, row in _json_rows(text, is_row):
        if not isinstance(row, dict):
            do = "Write one object a line (JSONL), or name a file of text .txt"
            raise wrong(path, f"row {number} is no JSON object", do)
        yield number, row


def _kind(text: str, named: str) -> str:
    """What a file seems to be, whatever it is called. named: what its name says, which counts where both may be."""
    from spillover.packs.sentences import STOPS

    start = text[:LONGEST_TEXT].lstrip()
    first = start.partition("\n")[0].strip()
    if first[:1] in ("{", "["):
        if "JSON" in named and first[0] == "{" and "\n" not in start.strip():
            return named
        whole = first[0] == "[" or json_value(first) is None
        if "JSON" in named or json_value(text if whole else first) is not None:
            return VALUE if whole else "JSON lines"
    if _MARKDOWN.match(text):
        return "a table of Markdown"
    if _MARKUP.match(start):
        return "HTML or XML"
    lines = [line for line in start.splitlines()[:20] if line.strip()]
    ends = [line.rstrip()[-1] in STOPS for line in lines]
    if named in ("CSV", "TSV"):
        return "text" if len(ends) > 1 and all(ends) and lines[0].count(" ") > 1 else named
    for mark in SEPARATORS if len(lines) > 2 and not any(ends) else "":
        try:
            widths = {len(cells) for cells in csv.reader(lines[:-1], delimiter=mark, strict=True)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths != {1}:
            return "TSV" if mark == "\t" else "CSV"
    return named if "JSON" in named else "text"


def _say_kind(say: Callable[[str], object], named: str, seems: str) -> None:
    """Say what a file is taken for where its name says something else."""
    if seems != named:
        say(f"by its name this file is {named or 'of no kind that is known'}; it holds {seems}, and is read so")


def _excel(data: bytes, path: Path, sheet: str, say: Callable[[str], object]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a sheet of a workbook, as they show there; row 1 is the header."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        do = "Install it with pip install 'spillover[excel]', or save the sheet as CSV"
        raise wrong(path, "reading a workbook needs openpyxl", do) from None
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except Exception as error:  # Whatever the library meets in a broken archive.
        raise wrong(path, f"this workbook cannot be read ({first_line(error)})", "Save it again, or as CSV") from None
    if sheet and sheet not in book.sheetnames:
        raise wrong(path, f"there is no sheet {sheet!r}", nearest(sheet, book.sheetnames))
    chosen = book[sheet] if sheet else book.worksheets[0]
    if len(book.sheetnames) > 1 and not sheet:
        others = ", ".join(each for each in book.sheetnames if each != chosen.title)
        say(f"the sheet {chosen.title!r} is read, the first; there are also {others} (--sheet)")
    cells = ([_cell(cell) for cell in row] for row in chosen.iter_rows(values_only=True))
    yield from _with_header(cells, path, "a cell")


def _cell(value: Any) -> str:
    """A cell of a workbook as text: a day without its midnight, a number without an empty fraction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).removesuffix(" 00:00:00")


def _separated(
    text: str, path: Path, tabs: bool, separator: str, say: Callable[[str], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of CSV or TSV; the header is row 1."""
    if text[:4].lower() == "sep=":  # As Excel names it.
        separator, text = separator or text[4:5], text.partition("\n")[2]
    head = text[: text.find("\n", 4096) + 1 or None].splitlines()[:20]
    usual = "\t" if tabs else ","

    def columns(mark: str) -> int:
        return len(next(csv.reader(head[:1], delimiter=mark), []))

    mark = separator or max(usual + SEPARATORS, key=columns)
    if len(mark) != 1:
        raise UsageError(f"{separator!r} is no separator", where="--separator", do="Give one character, such as ';'")
    if separator and columns(mark) == 1:
        what = f"no {mark!r} parts the header {head[0][:80]!r}" if head else "this file is empty"
        raise wrong(path, what, "Leave --separator out, or give the mark that parts the columns")
    if columns(mark) == 1:
        for other in ":^~#!_&*/\\- ":
            counts = {line.count(other) for line in head if line.strip()}
            if len(head) > 1 and len(counts) == 1 and counts != {0}:
                what = (
                    f"no comma, semicolon, tab or bar parts the columns; each row holds {other!r} {counts.pop()} times"
                )
                raise wrong(path, what, f"If it parts the columns, use `packs discover --separator {other!r}`")
    elif mark != usual and not separator:
        say(f"columns are parted by {mark!r}, not by {usual!r} (--separator)")
    try:
        yield from _with_header(
            csv.reader(chain.from_iterable(map(CARRIAGE.split, _text_lines(text))), delimiter=mark, strict=True),
            path,
            f"a cell with {mark!r}",
        )
    except csv.Error as error:
        what, do = f"this file is not CSV ({error})", "Mend the quotes"
        if "field limit" in str(error):
            what, do = f"a cell has more than {csv.field_size_limit():,} characters", "Mend the quotes, or shorten it"
        raise wrong(path, what, do) from None


def _with_header(records: Iterable[Sequence[str]], path: Path, quoted: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records by the names of their columns."""
    header: list[str] = []
    for number, record in enumerate(records, start=1):
        if not any(map(str.strip, record)):
            continue
        if not header:
            header = [cell.strip() or f"column {place}" for place, cell in enumerate(record, start=1)]
            for name in header:
                if header.count(name) > 1:
                    what = f"the column {name!r} is there {header.count(name)} times"
                    raise wrong(f"{path}, row {number}", what, "Give each column a name of its own")
            continue
        if record[0].strip() == header[0] and [cell.strip() for cell in record] == header:
            raise wrong(f"{path}, row {number}", "the header is there again", "Remove this row")
        if len(record) != len(header):
            what = f"this row has {len(record)} cells, and the header {len(header)}"
            raise wrong(f"{path}, row {number}", what, f"Quote {quoted}, and write empty cells out")
        yield number, dict(zip(header, record, strict=True))


def _json_rows(text: str, is_row: Callable[[Mapping[str, Any]], bool]) -> Iterator[tuple[int, Any]]:
    """The rows of a JSON array, or of an object that holds one, else one a line; None for what is not JSON."""
    whole = json_value(text)
    if isinstance(whole, dict) and not is_row(whole):
        whole = next((each for each in whole.values() if isinstance(each, list)), whole)
    if isinstance(whole, list | dict):
        yield from enumerate(whole if isinstance(whole, list) else [whole], start=1)
        return
    for number, line in enumerate(_text_lines(text), start=1):
        if line.strip():
            yield number, json_value(line)


def _text_lines(text: str) -> Iterator[str]:
    """The lines of a text with their ends, without a second copy of it."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start) + 1 or len(text)
        yield text[start:stop]
        start = stop


def json_value(text: str) -> Any:
    """What JSON says, numbers as they are written; None for what is not JSON."""
    try:
        return _PLAIN_DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def read_text(path: Path, do: str) -> str:
    """The text of a file. Raises UsageError when it cannot be read."""
    try:
        return _decoded(path.read_bytes(), path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, do) from None


def _unreadable(path: Path, error: Exception, do: str) -> UsageError:
    return wrong(path, f"this file cannot be read: {(getattr(error, 'strerror', None) or str(error)).lower()}", do)


def _decoded(data: bytes, path: Path, encoding: str = "") -> str:
    if not data.strip():
        raise wrong(path, "this file is empty", "Name a file of rows")
    try:
        if encoding:
            return data.decode(encoding).removeprefix("\ufeff")
        if wide := _utf16(data):
            do = f"Save it as UTF-8, or use `packs discover --encoding {wide}`"
            raise wrong(path, f"this file is {wide[:6].upper()}", do)
        if kind := next((kind for begin, kind in BINARY.items() if data.startswith(begin)), ""):
            raise wrong(path, f"this file is {kind}, and no text", f"Unpack it, or save it as one of {KINDS}")
        if b"\0" in data[:4096]:
            raise wrong(path, "this file is not text", f"Name one of {KINDS}")
        return data.decode("utf-8-sig")
    except LookupError:
        do = "Give latin-1, for instance"
        raise UsageError(f"there is no encoding {encoding!r}", where="--encoding", do=do) from None
    except UnicodeDecodeError as error:
        what, do = f"this file is not {encoding}", "Give another --encoding"
        if not encoding and _CONTROL.search(data[:4096]):
            raise wrong(path, "this file is not text", f"Name one of {KINDS}") from None
        if not encoding:
            what, do = "this file is not UTF-8", "Save it as UTF-8; if Latin-1, use `packs discover --encoding latin-1`"
        raise wrong(path, f"{what} (row {data[: error.start].count(10) + 1})", do) from None


def _utf16(data: bytes) -> str:
    """The kind of UTF-16 that a file is, with its mark or, of plain letters, without."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-32" if data[:4] == b"\xff\xfe\0\0" else "utf-16"
    even, odd = data[:200:2], data[1:200:2]
    return (
        "utf-16-le" if all(even) and odd and not any(odd) else "utf-16-be" if odd and all(odd) and not any(even) else ""
    )
