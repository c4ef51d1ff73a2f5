"""What a reader may take away: tables as CSV, figures as SVG and PDF, metrics as JSON, all inside the page as data."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.metrics.ranks import RankTable
from spillover.record import plain
from spillover.report.drawing import Drawing
from spillover.report.load import LoadedRun

#: A spreadsheet takes a cell that starts so for a formula and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Larger tables are packed.
_LARGE = 1_000_000


@dataclass(frozen=True)
class Download:
    """A link that holds its own file: `href` is a data address, `text` says what it is."""

    name: str
    text: str
    href: str


def cell(value: object) -> object:
    """A CSV cell that no spreadsheet will run: text that looks like a formula gets a leading apostrophe."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([cell(value) for value in row] for row in (columns, *rows))
    return stream.getvalue()


def _link(name: str, text: str, body: bytes, media_type: str) -> Download:
    return Download(name, text, f"data:{media_type};base64,{base64.b64encode(body).decode()}")


def table_link(name: str, text: str, table: str) -> Download:
    """A download of a CSV file, packed with gzip when large; `name` without its ending, `text` without its kind."""
    body = table.encode()
    if len(body) > _LARGE:
        return _link(f"{name}.csv.gz", f"{text} (CSV, gzip)", gzip.compress(body, mtime=0), "application/gzip")
    return _link(f"{name}.csv", f"{text} (CSV)", body, "text/csv;charset=utf-8")


def of_drawing(drawing: Drawing) -> list[Download]:
    """The figure as SVG and as PDF, and its numbers as CSV."""
    body = csv_text(drawing.columns, ([row.get(key) for key in drawing.columns] for row in drawing.rows))
    return [
        _link(f"{drawing.name}.svg", "SVG", drawing.file.encode(), "image/svg+xml"),
        _link(f"{drawing.name}.pdf", "PDF", drawing.pdf, "application/pdf"),
        _link(f"{drawing.name}.csv", "CSV", body.encode(), "text/csv;charset=utf-8"),
    ]


def of_metrics(runs: Sequence[tuple[str, LoadedRun]]) -> Download:
    """Every record, metrics included, as JSON."""
    records = [{"label": label, **vars(run.record)} for label, run in runs]
    body = json.dumps(records, indent=1, ensure_ascii=False, sort_keys=True, default=plain)
    return _link("spillover-metrics.json", "Metrics and settings (JSON)", body.encode(), "application/json")


def of_ranks(runs: Sequence[tuple[str, LoadedRun]]) -> Download:
    """One row a question, prompt and checkpoint of every run, as CSV; packed with gzip when large."""
    names = [item.name for item in dataclasses.fields(RankTable)]
    tables = ([label, *row] for label, run in runs
              for row in zip(*(getattr(run.ranks, name).tolist() for name in names), strict=True))  # fmt: skip
    return table_link("spillover-ranks", "Rank of every answer", csv_text(["run", *names], tables))
