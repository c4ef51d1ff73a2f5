"""The three cells of a row as texts: which they may be, and a sentence for each that cannot be used."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spillover.facts.check import Findings, quoted
from spillover.facts.pack import Fact
from spillover.facts.reading.yaml_text import LONGEST_TEXT, normal

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
