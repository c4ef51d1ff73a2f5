"""The skeleton that every page shares: one template environment, and figures with their downloads and numbers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from spillover import catalog
from spillover.report import words
from spillover.report.downloads import Download, of_drawing
from spillover.report.drawing import Drawing, plain

#: Figures whose numbers are also a table in the page have at most so many rows.
_TABLED = 150


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption, its downloads and its numbers as text. wide: takes a line of the page for itself."""

    drawing: Drawing
    caption: str
    downloads: list[Download]
    table: list[list[str]]
    wide: bool = False

    @property
    def svg(self) -> Markup:
        """Our own drawing: its text was escaped when it was made."""
        return Markup(self.drawing.svg)


def figure(plot: str, what: object, name: str, caption: str, wide: bool = False, **options: Any) -> Figure | None:
    """Draw a plot of the catalogue; None when it has nothing to show. `name` is unique in the page."""
    drawing: Drawing | None = catalog.pick(catalog.PLOTS, plot, "plot")(what, name, **options)
    if drawing is None:
        return None
    table = [[_shown(row.get(key)) for key in drawing.columns] for row in drawing.rows]
    return Figure(drawing, caption, of_drawing(drawing), table if len(table) <= _TABLED else [], wide)


def _shown(value: object) -> str:
    """A number of a figure as text."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return words.number(value, 3) if isinstance(value, float) else "–" if value is None else plain(value)


def render(template: str, scripts: Sequence[str] = (), **values: object) -> str:
    """A page from a template of this room (`page.html`, `lab/lab.html`); all of them extend `base.html`.

    scripts: files of this room that run in the page; the page allows no other, by their SHA-256.
    """
    sources = [_source(name) for name in scripts]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in sources]
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(plain=plain, sentence=words.sentence)
    return environment.get_template(template).render(
        css=Markup(_source("page.css")), scripts=[Markup(text) for text in sources], allowed=Markup(" ".join(hashes)),
        **values,
    )  # fmt: skip


def _source(name: str) -> str:
    return files("spillover.report").joinpath("templates", name).read_text(encoding="utf-8")
