"""A ranked list of associations (given = answer -> then = answer) whose columns are data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from markupsafe import Markup

from spillover.report.drawing import plain
from spillover.report.provenance import Download, table_link
from spillover.report.story import spoken
from spillover.report.words import number

#: How a column is shown and sorted. `part`: so many of so many, shaded by the share; `choice`: a text to filter by.
Kind = Literal["text", "choice", "count", "change", "number", "share", "part"]
Value = str | int | float | tuple[float, int] | None
#: Associations that the page holds at most, evidence that it holds in all and for one, and rows it shows unscripted.
MOST_ROWS, MOST_EVIDENCE, MOST_EACH, LEAST_EACH, SHOWN = 5_000, 12_000, 20, 3, 25
#: Longest text of a cell; the downloads hold it whole.
LONGEST = 90


@dataclass(frozen=True)
class Column:
    """One column: `words` stand over it, `about` says in a sentence what it counts."""

    key: str
    words: str
    kind: Kind
    about: str = ""


@dataclass(frozen=True)
class Association:
    """given = given_answer -> then = then_answer, with a value for each column of its list. wanted: whether it is.

    notes, evidence: what it rests on, as sentences and as rows in the order of the pack.
    """

    given: str
    given_answer: str
    then: str
    then_answer: str
    wanted: bool
    values: tuple[Value, ...]
    notes: tuple[str, ...] = ()
    evidence: Sequence[Sequence[Value]] = ()

    @property
    def link(self) -> tuple[str, str, str, str]:
        """The four parts as the page writes them."""
        given, then = (plain(spoken(relation), LONGEST) for relation in (self.given, self.then))
        return given, plain(self.given_answer, LONGEST), then, plain(self.then_answer, LONGEST)


@dataclass(frozen=True)
class Listing:
    """Associations, the one to look at first on top; `asked` are the columns of their evidence.

    evidence_words: what the evidence is, on the line that opens it. sorted_by: the column behind the order, which
    `caption` says in words.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Association]
    sorted_by: str
    asked: tuple[Column, ...] = ()
    evidence_words: str = "Evidence"
    caption: str = ""

    @cached_property
    def held(self) -> list[Association]:
        """What the page holds; the rest is in the download only."""
        return list(self.rows[:MOST_ROWS])

    @property
    def first(self) -> list[Association]:
        """What the page shows where no script runs."""
        return self.held[:SHOWN]

    @property
    def each(self) -> int:
        """Rows of evidence that the page holds of one association."""
        return max(LEAST_EACH, min(MOST_EACH, MOST_EVIDENCE // max(1, len(self.held))))

    def shown(self, row: Association) -> list[tuple[Column, str, float | None]]:
        """A row's cells as text, each with the share that shades it."""
        return [(c, text(c, v), share(v)) for c, v in zip(self.columns, row.values, strict=True)]

    def evidence(self, row: Association) -> list[list[str]]:
        """The rows of its evidence as text."""
        return [[text(c, v) for c, v in zip(self.asked, each, strict=True)] for each in row.evidence[: self.each]]

    def opens(self, row: Association) -> str:
        """The words on the line that opens the evidence."""
        count = len(row.evidence)
        some = f"{self.each} of {count:,}" if count > self.each else f"{count}"
        return f"{self.evidence_words} ({some})" if count else self.evidence_words

    @property
    def data(self) -> Markup:
        """Everything that the page's script needs, safe between script tags."""
        body = {
            "columns": [[c.key, c.words, c.kind] for c in self.columns],
            "asked": [[c.words, c.kind] for c in self.asked],
            "sorted": self.sorted_by,
            "rows": [self._row(row) for row in self.held],
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        # It can end no script and open no comment.
        return Markup(text.translate({ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}))

    def _row(self, row: Association) -> list[Any]:
        link = [*row.link, int(row.wanted)]
        values = [rounded(c, v) for c, v in zip(self.columns, row.values, strict=True)]
        if not row.notes:
            return [link, values]
        rows = [[rounded(c, v) for c, v in zip(self.asked, each, strict=True)] for each in row.evidence[: self.each]]
        return [link, values, self.opens(row), [plain(note) for note in row.notes], rows]

    def download(self, name: str, words: str) -> Download:
        """Every association with unrounded numbers, as CSV."""
        head = ["given", "given_answer", "then", "then_answer"]
        for column in self.columns:
            head += [column.key, f"{column.key}_of"] if column.kind == "part" else [column.key]
        rows = (
            [row.given, row.given_answer, row.then, row.then_answer,
             *chain.from_iterable(value if isinstance(value, tuple) else (value,) for value in row.values)]
            for row in self.rows
        )  # fmt: skip
        return table_link(name, words, head, rows)


def rounded(column: Column, value: Value) -> Any:
    """A value with as many digits as are shown, so that what is sorted is what is seen."""
    if isinstance(value, tuple):
        return [rounded(column, value[0]), value[1]]
    if value is None or isinstance(value, str):
        return value and plain(value, LONGEST)
    if column.kind == "number":
        return round(value, 2)
    found = round(100 * value, 0 if value >= 0.1 else 1) if column.kind == "share" else round(value, 1)
    return int(found) if found == int(found) else found


def text(column: Column, value: Value) -> str:
    """A value as a reader sees it; the page's script writes the same."""
    found = rounded(column, value)
    if found is None or isinstance(found, str):
        return "–" if found is None else found
    if isinstance(found, list):
        return f"{found[0]:,} of {found[1]:,}"
    if column.kind == "share":
        return f"{found}%"
    sign = "+" if column.kind == "change" and found > 0 else ""
    return sign + (number(found) if column.kind == "number" else f"{found:,}".replace("-", "−"))


def share(value: Value) -> float | None:
    """How much of the whole a `part` is, from 0 to 1."""
    return round(value[0] / value[1], 3) if isinstance(value, tuple) and value[1] else None
