"""The one model of all pages: a `Page` of sections, each a list of blocks, which one template renders.

A builder reads records and returns a `Page`; `Page.html()` is the whole self-contained file. What goes in is text,
which is always escaped and cleaned of control characters (never call `plain` for it), or Markup made by `bdi` or
`Markup("<em>{}</em>").format(text)`, which escapes too. Any entry of `sections`, `blocks` or `figures` may be None, so
that what has nothing to show needs no branch.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import chain
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from spillover.record import Metric
from spillover.report import words
from spillover.report.drawing import Drawing, find_plot, plain
from spillover.report.load import spoken
from spillover.report.provenance import Download, Terms, of_drawing, table_link
from spillover.report.words import number

#: Figures with more rows than this have no table of their numbers in the page.
_TABLED = 150


@dataclass(frozen=True)
class Paragraph:
    """style: "" for plain, or lead, small, say, verdict, next, notice."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading (h3) inside a section."""

    text: str


@dataclass(frozen=True)
class Bar:
    """One bar of a card: its share from 0 to 1, and the text at its end. tone: pale or full."""

    label: str
    share: float
    text: str
    tone: str = "full"


@dataclass(frozen=True)
class Card:
    """One finding at a glance. tone: wanted, unwanted, open or "". tag: a word in the corner. value: a large number.

    say: a large sentence. bars: with `bars_lead` above them, and `tick`, the place of a mark on all and what it means.
    """

    heading: str
    texts: Sequence[Paragraph | Details | None] = ()
    tone: str = ""
    tag: str = ""
    value: str = ""
    say: str = ""
    bars: Sequence[Bar] = ()
    bars_lead: str = ""
    tick: tuple[float, str] | None = None


@dataclass(frozen=True)
class Cards:
    """Cards side by side; facts: narrow ones."""

    cards: Sequence[Card]
    facts: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption, its downloads and its numbers as text. wide: takes a line of the page for itself."""

    drawing: Drawing
    caption: str
    downloads: list[Download]
    numbers: list[list[str]]
    wide: bool = False
    heading: str = ""


@dataclass(frozen=True)
class FigureGrid:
    """Figures in as many columns as the screen has room for; false without any."""

    figures: Sequence[Figure | None]

    def __bool__(self) -> bool:
        return any(self.figures)


@dataclass(frozen=True)
class TableCell:
    """A cell: its text (or a block), small print below it (a line each), and how many columns and rows it spans.

    style: CSS classes, such as num, words, key, hit.
    """

    text: str | Details
    small: str | Sequence[str] = ()
    style: str = ""
    columns: int = 1
    rows: int = 1


Cell = str | TableCell


@dataclass(frozen=True)
class DataTable:
    """A table. head: header rows. groups: (heading or "", rows of cells). label: its name for screen readers.

    style: study, examples, summary, ... box: "tall" or "long" for a box of limited height whose header stays in sight.
    row_heads: whether the first cell of each row is its header.
    """

    caption: str
    head: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, Sequence[Sequence[Cell]]]]
    style: str = "study"
    label: str = ""
    box: str = ""
    row_heads: bool = True

    @property
    def width(self) -> int:
        """Columns of the table."""
        row = self.head[0] if self.head else self.groups[0][1][0]
        return sum(1 if isinstance(cell, str) else cell.columns for cell in row)


#: A row of a table by column: name, small print below it, cells by column.
Row = tuple[str, str, Mapping[str, Cell]]


def table_of(caption: str, corner: str, rows: Sequence[Row], above: Sequence[tuple[str, int]] = ()) -> DataTable:
    """A table with a column for everything that any row has.

    caption: its name in templates/wording.toml. above: text over several columns, and how many.
    """
    columns = list(dict.fromkeys(column for _, _, cells in rows for column in cells))
    heads: list[list[Cell]] = [["", *(TableCell(text, columns=count) for text, count in above)]] if above else []
    body = []
    for name, small, cells in rows:
        # A name may be broken behind its colon.
        head = Markup("<bdi>{}{}<wbr>{}</bdi>").format(*name.partition(":"))
        body.append([TableCell(head, small), *(cells.get(column, "–") for column in columns)])
    return DataTable(wording(caption), [*heads, [corner, *columns]], [("", body)])


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
        return [(c, value_text(c, v), part_share(v)) for c, v in zip(self.columns, row.values, strict=True)]

    def evidence(self, row: Association) -> list[list[str]]:
        """The rows of its evidence as text."""
        return [[value_text(c, v) for c, v in zip(self.asked, each, strict=True)] for each in row.evidence[: self.each]]

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


def value_text(column: Column, value: Value) -> str:
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


def part_share(value: Value) -> float | None:
    """How much of the whole a `part` is, from 0 to 1."""
    return round(value[0] / value[1], 3) if isinstance(value, tuple) and value[1] else None


@dataclass(frozen=True)
class Glossary:
    """Terms and what they mean. label: names it where it stands beside other blocks."""

    terms: Sequence[tuple[str, str]]
    label: str = ""


@dataclass(frozen=True)
class Beside:
    """A figure on the left, blocks on the right (below it on a narrow screen)."""

    left: Figure
    right: Sequence[Block | None]


@dataclass(frozen=True)
class Details:
    """Blocks that open on a click."""

    summary: str
    blocks: Sequence[Block | None]
    style: str = ""


@dataclass(frozen=True)
class Steps:
    """(What to do, the command for it or ""), numbered if ordered."""

    steps: Sequence[tuple[str, str]]
    ordered: bool = True


#: What a section shows, in its order.
Block = (
    str | Paragraph | Heading | Cards | Figure | FigureGrid | DataTable | Glossary | Beside | Details | Steps | Listing
)


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading. id: its anchor; that of the findings is "found".

    hidden: the heading is only for screen readers. aside: it explains and does not report. first: it is part of the
    first screen; every other section opens at a click on its heading. A section without blocks is false, and not shown.
    """

    id: str
    heading: str
    blocks: Sequence[Block | None]
    lead: str = ""
    hidden: bool = False
    aside: bool = False
    first: bool = False

    def __bool__(self) -> bool:
        return any(self.blocks)


@dataclass(frozen=True)
class Page:
    """A page. title: the finding in a sentence. name: the title of the window. kicker: what kind of page this is.

    made: label and groups of terms of each run (`provenance`). reason, lede: under the title.
    """

    title: str
    name: str
    kicker: str
    sections: Sequence[Section | None]
    downloads: Sequence[Download]
    made: Sequence[tuple[str, Sequence[tuple[str, Terms]]]] = ()
    lede: str = ""
    reason: str = ""
    notices: Sequence[str] = ()
    footer: str = ""
    brief: bool = False

    def html(self, brief: bool = False) -> str:
        """The page as one file; it allows no script but its own, by their SHA-256.

        Arguments:
        - brief: only the first screen: what was found, examples, what to do, and what it does not say.
        """
        if brief:
            first = [section for section in self.sections if section and section.first]
            return dataclasses.replace(self, sections=first, made=(), downloads=(), brief=True).html()
        blocks = [block for section in self.sections if section for block in section.blocks]
        scripts = [_source("list.js")] if any(isinstance(block, Listing) for block in blocks) else []
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
        return _environment().get_template("page.html").render(
            page=self, ids=[section.id for section in self.sections if section], css=Markup(_source("page.css")),
            scripts=list(map(Markup, scripts)), allowed=Markup(" ".join(f"'sha256-{digest}'" for digest in digests)),
        )  # fmt: skip


def bdi(text: str) -> Markup:
    """A name from elsewhere, whose direction of writing does not change that of the text around it."""
    return Markup("<bdi>{}</bdi>").format(plain(text))


def num(text: object, key: bool = False) -> TableCell:
    """A cell with a number, to the right; key: one to look at first."""
    return TableCell(str(text), style="num key" if key else "num")


def metric_cell(metric: Metric | None, *more: str, style: str = "") -> TableCell:
    """A metric over its interval, and more small print; a dash when there is none."""
    if metric is None:
        return TableCell("–", style=style)
    return TableCell(words.number(metric.value), [words.interval(metric), *more], style)


def figure(
    plot: str, what: object, name: str, caption: str, wide: bool = False, heading: str = "", **options: Any
) -> Figure | None:
    """Draw a registered plot; None when it has nothing to show. `name` is unique in the page."""
    drawing = find_plot(plot).draw(what, name, **options)
    if drawing is None:
        return None
    numbers = [[_shown(row.get(key)) for key in drawing.columns] for row in drawing.rows]
    return Figure(drawing, caption, of_drawing(drawing), numbers if len(numbers) <= _TABLED else [], wide, heading)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return words.number(value, 3) if isinstance(value, float) else "–" if value is None else plain(value)


def wording(name: str) -> Markup:
    """The explanation of this name in templates/wording.toml."""
    return _joined(wordings()["texts"][name])


def terms(*names: str, label: str = "") -> Glossary:
    """The glossaries of these names in templates/wording.toml, one after another."""
    found = [(term, _joined(text)) for name in names for term, text in wordings()["terms"][name].items()]
    return Glossary(found, label)


def columns(name: str) -> tuple[Column, ...]:
    """The columns of a list, from templates/wording.toml."""
    found: dict[str, Any] = wordings()["columns"][name]
    return tuple(Column(key, words, kind, _joined(" ".join(about))) for key, (words, kind, *about) in found.items())


def next_paragraph(text: str) -> Paragraph:
    """What to do next, at the end of a card."""
    return Paragraph(Markup("<strong>Next:</strong> {}").format(text), "next")


def points(texts: Sequence[str]) -> Steps:
    """A list without numbers."""
    return Steps([(text, "") for text in texts], ordered=False)


def limits_section(texts: Sequence[str]) -> Section:
    """What a page does not say, for its first screen."""
    return Section("limits", "What this does not say", [points(texts)], first=True)


def list_section(listing: Listing | None, lead: str, note: str = "") -> Section:
    """The list of associations, with a note below it."""
    below = Paragraph(note, "small") if note else None
    return Section("associations", "Association by association", [listing, below], lead)


@cache
def wordings() -> dict[str, Any]:
    """All of templates/wording.toml."""
    return tomllib.loads(_source("wording.toml"))


def _joined(text: str) -> Markup:
    return Markup(" ".join(text.split()))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, finalize=lambda each: plain(each) if type(each) is str else each,
    )  # fmt: skip


def _source(name: str) -> str:
    return files("spillover.report").joinpath("templates", name).read_text(encoding="utf-8")
