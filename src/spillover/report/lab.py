"""The page of a `lab` experiment: what it found in a sentence, its figures, and how it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover import catalog
from spillover.metrics.intervals import over_seeds
from spillover.record import TRAJECTORY, Record, read_table
from spillover.report.downloads import Download, csv_text, link
from spillover.report.drawing import plain
from spillover.report.lab_plots import Line, Point
from spillover.report.page import Figure, figure, render
from spillover.report.provenance import duration

MATRICES = "matrices.parquet"


@dataclass(frozen=True)
class LabRun:
    """One experiment: its record, one row a model and measured step, and its matrices by name."""

    record: Record
    trajectory: pa.Table
    matrices: dict[str, np.ndarray]

    @property
    def preset(self) -> str:
        return self.record.command.removeprefix("lab ")

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The trajectory's columns; a missing number is NaN, a missing text None."""
        return {name: self.trajectory[name].to_numpy(zero_copy_only=False) for name in self.trajectory.column_names}

    @property
    def seeds(self) -> list[int]:
        return sorted(set(self.columns["seed"].tolist()))

    def metric(self, group: str, name: str) -> dict[str, Any]:
        """A metric of the record by its group (factorised, d_h=4, ...) and name."""
        found: dict[str, Any] = self.record.metrics[group][name]
        return found

    def mask(self, **where: Any) -> np.ndarray:
        """Rows of the trajectory whose columns equal the values given."""
        mask = np.ones(self.trajectory.num_rows, dtype=bool)
        for name, value in where.items():
            mask &= self.columns[name] == value
        return mask

    def points(self, x: str, y: str, **where: Any) -> tuple[Point, ...]:
        """Mean and interval of column y over the seeds at every value of column x; gaps where a seed has no number."""
        mask = self.mask(**where)
        places, values = self.columns[x][mask].astype(float), self.columns[y][mask].astype(float)
        return points_of(places, values)

    def line(self, label: str, style: int, x: str, y: str, **where: Any) -> Line:
        """`points` as a line of a chart."""
        return Line(label, self.points(x, y, **where), style)

    def last(self, **where: Any) -> np.ndarray:
        """Rows at each model's last step."""
        mask = self.mask(**where)
        return mask & (self.columns["step"] == self.columns["step"][mask].max())


def points_of(places: np.ndarray, values: np.ndarray) -> tuple[Point, ...]:
    """One point a place where every value is a number."""
    found = []
    for place in np.unique(places):
        here = values[places == place]
        metric = over_seeds(here.tolist(), "")
        if metric.value is not None and metric.low is not None and metric.high is not None:
            found.append(Point(float(place), metric.value, metric.low, metric.high, metric.n))
    return tuple(found)


def exact_points(places: Sequence[float], values: Sequence[float]) -> tuple[Point, ...]:
    """Points without any uncertainty."""
    return tuple(Point(float(x), float(y), float(y), float(y), 1) for x, y in zip(places, values, strict=True))


def load_lab(folder: Path) -> LabRun:
    """Read an experiment's folder. Raises RunError when a file is missing or damaged."""
    table = read_table(folder / MATRICES)
    names = table["name"].to_numpy(zero_copy_only=False)
    row, column, value = (table[key].to_numpy() for key in ("row", "column", "value"))
    matrices = {}
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        matrix = np.zeros((row[mine].max() + 1, column[mine].max() + 1))
        matrix[row[mine], column[mine]] = value[mine]
        matrices[str(name)] = matrix
    return LabRun(Record.read(folder), read_table(folder / TRAJECTORY), matrices)


@dataclass(frozen=True)
class Shown:
    """A figure to draw: a plot of the catalogue, what goes in, and a caption that says how to read it."""

    plot: str
    name: str
    what: Any
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph for a newcomer, and figures."""

    heading: str
    lead: str
    figures: Sequence[Shown]


@dataclass(frozen=True)
class PageContent:
    """What a page tells. title: the finding as one sentence. facts: (what, number, how to read it) in a glance.

    notes: what the numbers do not show, or what was found and not expected.
    """

    title: str
    facts: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    terms: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default_factory=tuple)


#: Terms that every page explains.
TERMS = (
    (
        "The task",
        "Every class has two answers, b and c. Some subjects are told both (“bridges”), the others only b. "
        "Asked for the c of the others, which nobody stated, does a model answer as their class would?",
    ),
    (
        "Factorised and merged",
        "One layer of attention reads with a matrix W. The factorised model trains W as a product of two, as real "
        "models do; the merged one trains W itself. Both can express the same.",
    ),
    (
        "Two exact solutions",
        "Of all matrices that state every row with the same margin, one is least in the nuclear norm (the sum of the "
        "singular values), one in the Frobenius norm (the root of the summed squares). The first concludes c, "
        "the second does not.",
    ),
)


def build_lab_page(run: LabRun) -> str:
    """The page of an experiment; the same run gives the same bytes."""
    told: PageContent = catalog.pick(catalog.LAB_PAGES, run.preset, "preset")(run)
    return render(
        "lab.html",
        title=told.title,
        told=told,
        terms=[*TERMS, *told.terms],
        sections=[(section, _figures(section)) for section in told.sections],
        preset=run.preset,
        groups=_made(run),
        downloads=_downloads(run),
    )


def _figures(section: Section) -> list[Figure]:
    drawn = [figure(item.plot, item.what, item.name, item.caption, item.wide) for item in section.figures]
    return [each for each in drawn if each is not None]


def _made(run: LabRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """How it was made, as groups of terms and values."""
    record = run.record
    arms = record.details.get("arms") or {}
    groups = [
        (
            "Run",
            [
                ("command", record.command),
                ("seeds", ", ".join(map(str, run.seeds))),
                ("wall time", duration(record.seconds)),
                ("identity", record.identity),
            ],
        ),
        ("Task", [(key.replace("_", " "), str(value)) for key, value in (record.details.get("task") or {}).items()]),
        *((f"Arm: {name}", _terms(settings)) for name, settings in arms.items()),
        ("Settings", _terms(record.settings)),
        ("Versions", [*_terms(record.versions), ("commit", record.commit or "")]),
        ("Hardware", _terms(record.hardware)),
        ("Hashes", _terms(record.hashes)),
    ]
    kept = [(name, [(plain(t), plain(v)) for t, v in terms if v not in ("", "None")]) for name, terms in groups]
    return [(name, terms) for name, terms in kept if terms]


def _terms(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key).replace("_", " "), str(value)) for key, value in values.items()]


def _downloads(run: LabRun) -> list[Download]:
    """The record and the trajectory, inside the page."""
    body = json.dumps(dataclasses.asdict(run.record), indent=1, sort_keys=True, default=dict)
    names = run.trajectory.column_names
    rows = zip(*(run.trajectory[name].to_pylist() for name in names), strict=True)
    return [
        link("record.json", "Metrics and settings (JSON)", body.encode(), "application/json"),
        link("trajectory.csv", "Every measured step (CSV)", csv_text(names, rows).encode(), "text/csv;charset=utf-8"),
    ]
