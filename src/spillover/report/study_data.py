"""A study's folder as its page reads it: its cells, the groups they stand in, and every metric in one long table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from spillover.details import CellState, InjectDetails, SweepDetails
from spillover.record import RECORD, Metric, Record
from spillover.report.drawing import limits
from spillover.report.load import LoadedRun, Story, load_run, seed_folders, stories

CELLS = "cells"
TRUTHS = {True: "true", False: "not true"}
#: seed is null for what is pooled over seeds; implication for what is pooled over implications; group holds every
#: group's name that the cell stands in; options is JSON. A cell without any metric has one row that says its status.
STUDY_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("cell", "group"), pa.string()),
        "seed": pa.int64(),
        **dict.fromkeys(("options", "status", "implication", "metric"), pa.string()),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
        **dict.fromkeys(("n", "clusters"), pa.int64()),
        "unit": pa.string(),
    }
)


@dataclass(frozen=True)
class LoadedCell:
    """One point of a study. options: those that the study sets. record: of all its seeds together, if it is done.

    run: the record with its answers, when the verb is inject. by_seed: seed -> the metrics of its own run. moved:
    seed -> the norm of its weights' change over that of their start.
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
    moved: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def story(self) -> Story | None:
        """The first implication of the cell's run; None when it has no run, or no implication was asked about."""
        found = stories(self.run, self.run.pack_name) if self.run else []
        return next((story for story in found if story.key is not None and len(story.after)), None)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its metrics over all seeds, as the record holds them."""
        return self.run.metrics if self.run else self.record.metrics if self.record else {}

    def setting(self, name: str) -> str:
        """What the study says of an option; otherwise, what the run was made with."""
        return str(self.options.get(name) or (self.record.settings.get(name) if self.record else None) or "")


@dataclass(frozen=True)
class LoadedGroup:
    """Cells that a study shows together. plot: the name of their figure, or None."""

    name: str
    text: str
    plot: str | None
    cells: Sequence[LoadedCell]


@dataclass(frozen=True)
class LoadedStudy:
    """A study: what it is about, its cells in order, and the groups they stand in."""

    name: str
    title: str
    text: str
    cells: Sequence[LoadedCell]
    groups: Sequence[LoadedGroup]

    @property
    def done(self) -> list[LoadedCell]:
        return [cell for cell in self.cells if cell.status == "done"]

    @property
    def progress(self) -> str:
        return f"{len(self.done)} of {len(self.cells)} cells"

    def cells_of(self, plot: str | None) -> list[LoadedCell]:
        """Every cell of the groups that ask for this plot, once."""
        return list({cell.slug: cell for group in self.groups if group.plot == plot for cell in group.cells}.values())


def load_study(folder: str | Path) -> LoadedStudy:
    """Read a study's folder. Raises RunError when it holds no study, or when a cell said to be done cannot be read."""
    folder = Path(folder)
    record = Record.read(folder)
    details = record.details_of(SweepDetails, folder / RECORD)
    study, cells = details.study, {each.cell: _cell(folder / CELLS / each.cell, each) for each in details.cells}
    groups = [LoadedGroup(each.name, each.text, each.plot, [cells[slug] for slug in each.cells if slug in cells])
              for each in study.groups]  # fmt: skip
    return LoadedStudy(study.name, study.title or study.name, study.text, list(cells.values()), groups)


def _cell(folder: Path, state: CellState) -> LoadedCell:
    record, run, by_seed, seeds, moved, status = None, None, {}, state.seeds, {}, state.status
    if status not in ("done", "failed") and state.verb == "inject" and (some := seed_folders(folder)):
        # A study that was cut short or goes on: what is there of a cell counts.
        status, seeds = "done", [int(path.name.removeprefix("seed-")) for path in some]
    if status == "done":
        run = load_run(folder) if state.verb == "inject" else None
        own = {seed: folder / f"seed-{seed}" for seed in seeds}
        records = {seed: Record.read(path) for seed, path in own.items() if (path / RECORD).exists()}
        by_seed = {seed: each.metrics for seed, each in records.items()}
        # A verb that does not pool its seeds leaves no record over them.
        record = run.record if run else None if by_seed else Record.read(folder)
        if record and not by_seed and len(seeds) == 1:
            by_seed, records = {seeds[0]: record.metrics}, {seeds[0]: record}
        details = {seed: each.details for seed, each in records.items()}
        moved = {
            seed: each.moved["everything"]
            for seed, each in details.items()
            if isinstance(each, InjectDetails) and each.moved
        }
    return LoadedCell(
        state.cell, state.verb, state.options, seeds, status, state.error, state.seconds, record, run, by_seed,
        moved,
    )  # fmt: skip


def study_table(study: LoadedStudy) -> pa.Table:
    """One row a (cell, seed or null, implication or null, metric), as STUDY_SCHEMA; the unmeasured is left out.

    Of runs of `inject`, `newly` is the share of unstated subjects that newly get the implied answer, over all seeds.
    """
    rows: list[dict[str, Any]] = []
    for cell in study.cells:
        groups = [group.name for group in study.groups if any(each.slug == cell.slug for each in group.cells)]
        options = json.dumps(dict(cell.options), sort_keys=True, ensure_ascii=False, default=str)
        head = {"cell": cell.slug, "group": "; ".join(groups), "options": options, "status": cell.status}
        found = [
            {**head, "seed": seed, "implication": implication, "metric": name, **numbers}
            for seed, metrics in [(None, cell.metrics), *cell.by_seed.items()]
            for implication, name, numbers in flat(metrics)
        ]
        for each in cell.run.verdicts.values() if cell.run else ():
            if each.n and each.newly is not None:
                share = {"value": each.newly / each.n, "low": each.newly_low, "high": each.newly_high, "n": each.n}
                found.append({**head, "implication": each.implication, "metric": "newly", "unit": "share", **share})
        rows += found or [head]
    return pa.Table.from_pylist(rows, schema=STUDY_SCHEMA)


def flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """(implication or None, name, numbers) of every metric with a value.

    The exact map test is `map_test_p`; metrics that a record keeps under a heading are `heading.name`.
    """
    for name, metric in metrics.items():
        found = metric.as_json() if hasattr(metric, "as_json") else metric
        if not isinstance(found, Mapping):
            continue
        if name == "implications":
            for implication, own in found.items():
                yield from ((implication, key, numbers) for _, key, numbers in flat(own))
        elif "permutations" in found:
            yield None, f"{name}_p", {"value": float(found["p"]), "clusters": found.get("pairs"), "unit": "p"}
        elif "value" not in found:
            yield from ((implication, f"{name}.{key}", numbers) for implication, key, numbers in flat(found))
        elif found["value"] is not None:
            yield None, name, {key: found.get(key) for key in ("value", "low", "high", "n", "clusters", "unit")}


def numbers_of(metric: Metric | None) -> dict[str, Any]:
    """A mean rank as a row of numbers below a figure."""
    ends = ("low", "high", "clusters")
    return {"mean_rank": getattr(metric, "value", None), **{end: getattr(metric, end, None) for end in ends}}


def side_of(metric: Metric | None, value: float | None) -> int | None:
    """Where a value lies: in the metric's interval (0), below (-1) or above it (1); None where one is missing."""
    ends = limits(metric)
    return None if ends is None or value is None else int(value > ends[1]) - int(value < ends[0])
