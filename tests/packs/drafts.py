"""Sound packs in four formats with texts of any script, before they are broken."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

COLUMNS = ("subject", "relation", "answer")
#: Every answer is listed, so that a row that is not read leaves no entry of the map without an answer.
SHEET = """name: tiny
licence: CC0-1.0
source: made up
relations:
  lives_in:
    prompts: ["{subject} lives in"]
    answers: [Paris, Rome]
  speaks:
    prompts: ["{subject} speaks"]
implications:
  - given: lives_in
    then: speaks
    kind: causal
    map: {Paris: French, Rome: Italian}
facts: %s
"""
FORMATS = ("jsonl", "csv", "parquet", "inline")
#: The line that the first row of an inline list stands on.
FIRST_INLINE = SHEET.count("\n") + 1
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(str.strip)


@dataclass(frozen=True)
class Draft:
    """A pack before it is written. at: the row to break; column: the cell; blank: empty lines before that row."""

    kind: str
    rows: list[list]
    at: int
    column: int = 0
    blank: int = 0
    text: str = "x"
    edits: dict[int, Callable[[bytes], bytes]] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return "pack.yaml" if self.kind == "inline" else f"facts.{self.kind}"

    @property
    def row(self) -> int:
        """The number under which a user finds the row to break."""
        if self.kind in ("jsonl", "csv"):
            return self.at + 1 + self.blank + (self.kind == "csv")
        return self.at + (1 if self.kind == "parquet" else FIRST_INLINE)

    def with_cell(self, value: object) -> "Draft":
        rows = [list(row) for row in self.rows]
        rows[self.at][self.column] = value
        return replace(self, rows=rows)

    def line(self, edit: Callable[[bytes], bytes]) -> "Draft":
        """The pack whose line of the row to break is changed after it was written."""
        return replace(self, edits={**self.edits, self.at: edit})

    def files(self) -> dict[str, bytes]:
        written = WRITERS[self.kind](self)
        if self.kind == "inline":
            return {"pack.yaml": (SHEET % "").replace("facts: \n", "facts:\n").encode() + written}
        return {"pack.yaml": (SHEET % self.table).encode(), self.table: written}


def _jsonl(draft: Draft) -> bytes:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in draft.rows]
    return _joined(draft, [json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") for row in rows])


def _csv(draft: Draft) -> bytes:
    lines = []
    for row in draft.rows:
        stream = io.StringIO()
        csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="").writerow(
            [cell for cell in row if cell is not None]
        )
        lines.append(stream.getvalue().encode())
    return b"subject,relation,answer\n" + _joined(draft, lines)


def _parquet(draft: Draft) -> bytes:
    columns = {name: [row[index] for row in draft.rows] for index, name in enumerate(COLUMNS)}
    return parquet_bytes({name: pa.array(cells, pa.string()) for name, cells in columns.items()})


def parquet_bytes(columns: dict) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _inline(draft: Draft) -> bytes:
    lines = []
    for row in draft.rows:
        cells = [f"{name}: {_yaml(cell)}" for name, cell in zip(COLUMNS, row, strict=True) if cell is not None]
        lines.append(("  - {" + ", ".join(cells) + "}").encode())
    return _joined(replace(draft, blank=0), lines)


def _yaml(cell: str | list | dict) -> str:
    if not isinstance(cell, str):
        return "[a]" if isinstance(cell, list) else "{a: b}"
    return '"' + "".join(each if each.isascii() and each.isalnum() else f"\\U{ord(each):08X}" for each in cell) + '"'


def _joined(draft: Draft, lines: list[bytes]) -> bytes:
    lines = [draft.edits.get(index, bytes)(line) for index, line in enumerate(lines)]
    return b"".join(
        b"\n" * (draft.blank if index == draft.at else 0) + line + b"\n" for index, line in enumerate(lines)
    )


WRITERS: dict[str, Callable[[Draft], bytes]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
    "inline": _inline,
}


@st.composite
def drafts(draw: st.DrawFn, kind: str) -> Draft:
    """A sound pack of two to six subjects, each with a text of any script before its number, and a place in it."""
    heads = draw(st.lists(ANY_TEXT, min_size=2, max_size=6))
    rows = [
        [f"{head}{index}", "lives_in", draw(st.sampled_from(["Paris", "Rome"]))] for index, head in enumerate(heads)
    ]
    at, column, blank = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return Draft(kind, rows, at, column, blank, draw(ANY_TEXT))


def facts_of(draft: Draft) -> list[tuple[str, ...]]:
    """What a reader must make of a sound draft: the same texts in NFC, and nothing else changed."""
    return [tuple(unicodedata.normalize("NFC", cell) for cell in row) for row in draft.rows]
