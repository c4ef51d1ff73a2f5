"""One page an experiment: what it found in a sentence, its figures with what they mean, and how it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover import catalog
from spillover.report.downloads import Download, csv_text, link
from spillover.report.drawing import plain
from spillover.report.lab.run import LabRun
from spillover.report.tables.provenance import duration
from spillover.report.template import Figure, figure, render


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
class Told:
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
    told: Told = catalog.pick(catalog.LAB_PAGES, run.preset, "preset")(run)
    return render(
        "lab/lab.html",
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
