"""An experiment's folder as its page reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover.measures.over_seeds import over_seeds
from spillover.record import TRAJECTORY, Record, read_table
from spillover.report.plots.lab_curves import Line, Point

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
