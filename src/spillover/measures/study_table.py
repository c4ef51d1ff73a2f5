"""Every metric of a study as one long table: what a reader with a data frame starts from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

#: seed is null for what is pooled over seeds; implication for what is pooled over implications; group holds every
#: group's name that the cell stands in; options is JSON. A cell without any metric has one row that says its status.
STUDY_SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("group", pa.string()),
        ("seed", pa.int64()),
        ("options", pa.string()),
        ("status", pa.string()),
        ("implication", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("clusters", pa.int64()),
        ("unit", pa.string()),
    ]
)


@dataclass(frozen=True)
class CellNumbers:
    """One cell of a study. metrics: seed (None: pooled over all) -> metrics as a record holds them."""

    cell: str
    groups: Sequence[str]
    options: Mapping[str, Any]
    status: str
    metrics: Mapping[int | None, Mapping[str, Any]] = field(default_factory=dict)


def study_table(cells: Sequence[CellNumbers]) -> pa.Table:
    """One row a (cell, seed or null, implication or null, metric), as STUDY_SCHEMA; the unmeasured is left out."""
    rows = [row for cell in cells for row in _rows_of(cell)]
    return pa.Table.from_pylist(rows, schema=STUDY_SCHEMA)


def _rows_of(cell: CellNumbers) -> list[dict[str, Any]]:
    head = {
        "cell": cell.cell,
        "group": "; ".join(cell.groups),
        "options": json.dumps(dict(cell.options), sort_keys=True, ensure_ascii=False, default=str),
        "status": cell.status,
    }
    found = [
        {**head, "seed": seed, "implication": implication, "metric": name, **numbers}
        for seed, metrics in cell.metrics.items()
        for implication, name, numbers in flat(metrics)
    ]
    return found or [head]


def flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """(implication or None, name, numbers) of every metric with a value.

    The exact map test is `map_test_p`; metrics that a record keeps under a heading are `heading.name`.
    """
    for name, metric in metrics.items():
        if name == "implications":
            for implication, own in (metric or {}).items():
                yield from ((implication, key, numbers) for _, key, numbers in flat(own))
            continue
        found = metric.as_json() if hasattr(metric, "as_json") else metric
        if not isinstance(found, Mapping):
            continue
        if "p" in found and "permutations" in found:
            yield None, f"{name}_p", {"value": float(found["p"]), "clusters": found.get("pairs"), "unit": "p"}
        elif "value" not in found:
            yield from ((implication, f"{name}.{key}", numbers) for implication, key, numbers in flat(found))
        elif found["value"] is not None:
            yield None, name, {key: found.get(key) for key in ("value", "low", "high", "n", "clusters", "unit")}
