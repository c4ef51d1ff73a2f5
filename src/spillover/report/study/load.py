"""A study's folder as its page reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from spillover.errors import RunError
from spillover.measures import study_table as measures
from spillover.measures.study_table import CellNumbers
from spillover.record import RECORD, Record
from spillover.report.load import LoadedRun, load_run
from spillover.report.story import Story, stories

CELLS = "cells"


@dataclass(frozen=True)
class Cell:
    """One point of a study. options: those that the study sets. record: of all its seeds together, if it is done.

    run: the record with its answers, when the verb is inject. by_seed: seed -> the metrics of its own run.
    """

    slug: str
    verb: str
    options: Mapping[str, Any]
    seeds: Sequence[int]
    status: str
    error: str | None = None
    seconds: float = 0.0
    record: Record | None = None
    run: LoadedRun | None = None
    by_seed: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def story(self) -> Story | None:
        """The first implication of the cell's run; None when it has no run, or no implication was asked about."""
        told = stories(self.run, self.run.pack_name) if self.run else []
        return next((story for story in told if story.key is not None and len(story.after)), None)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its metrics over all seeds, as the record holds them."""
        return self.run.metrics if self.run else self.record.metrics if self.record else {}


@dataclass(frozen=True)
class Group:
    """Cells that a study shows together. plot: the name of their figure in catalog.PLOTS, or None."""

    name: str
    text: str
    plot: str | None
    cells: Sequence[Cell]


@dataclass(frozen=True)
class LoadedStudy:
    """A study: its record, what it is about, its cells in order, and the groups they stand in."""

    record: Record
    name: str
    title: str
    text: str
    cells: Sequence[Cell]
    groups: Sequence[Group]

    @property
    def done(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.status == "done"]

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for group in self.groups:
            for slug in dict.fromkeys(cell.slug for cell in group.cells):
                found.setdefault(slug, []).append(group.name)
        return found

    def groups_of(self, cell: Cell) -> list[str]:
        """Names of the groups that a cell stands in."""
        return self._groups.get(cell.slug, [])


def load_study(folder: str | Path) -> LoadedStudy:
    """Read a study's folder. Raises RunError when it holds no study, or when a cell said to be done cannot be read."""
    folder = Path(folder)
    record = Record.read(folder)
    try:
        about = record.details["study"]
        cells = {item["cell"]: _cell(folder, item) for item in record.details["cells"]}
        groups = [
            Group(item["name"], item.get("text") or "", item.get("plot"), [cells[slug] for slug in item["cells"]])
            for item in about["groups"]
        ]
        name = str(about["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"this record is not that of a study ({type(error).__name__}: {error})",
            where=str(folder / RECORD),
            do="Name a folder that `sweep` wrote",
        ) from None
    title, text = str(about.get("title") or name), str(about.get("text") or "")
    return LoadedStudy(record, name, title, text, list(cells.values()), groups)


def _cell(folder: Path, item: Mapping[str, Any]) -> Cell:
    slug, status, seeds = str(item["cell"]), str(item["status"]), [int(seed) for seed in item.get("seeds") or [0]]
    record, run, by_seed = None, None, {}
    if status == "done":
        own = folder / CELLS / slug
        run = load_run(own) if item["verb"] == "inject" else None
        by_seed = {
            seed: Record.read(path).metrics
            for seed in seeds
            if (path := own / f"seed-{seed}").joinpath(RECORD).exists()
        }
        # A verb that does not pool its seeds leaves no record over them.
        record = run.record if run else None if by_seed else Record.read(own)
        if not by_seed and record is not None and len(seeds) == 1:
            by_seed = {seeds[0]: record.metrics}
    return Cell(
        slug=slug,
        verb=str(item["verb"]),
        options=dict(item.get("options") or {}),
        seeds=seeds,
        status=status,
        error=item.get("error"),
        seconds=float(item.get("seconds") or 0.0),
        record=record,
        run=run,
        by_seed=by_seed,
    )


def study_table(study: LoadedStudy) -> pa.Table:
    """Every metric of every cell, of all seeds together and of each, as measures.study_table.STUDY_SCHEMA."""
    return measures.study_table(
        [
            CellNumbers(
                cell=cell.slug,
                groups=study.groups_of(cell),
                options=cell.options,
                status=cell.status,
                metrics=_by_seed(cell),
            )
            for cell in study.cells
        ]
    )


def _by_seed(cell: Cell) -> dict[int | None, Mapping[str, Any]]:
    """The metrics of all seeds together under None, and of each under its number."""
    found: dict[int | None, Mapping[str, Any]] = {None: cell.metrics} if cell.metrics else {}
    return found | dict(cell.by_seed)
