"""A comparison of remedies as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spillover.jobs.mitigate_page import PAGE
from spillover.record import Record

_COLUMNS = (("unwanted_rate", "unwanted"), ("wanted_rate", "wanted"), ("removed", "removed"),
            ("forgetting_nats", "forgets"))  # fmt: skip


def tell(folder: Path, record: Record) -> str:
    """The frontier as a table, then the advice and where everything is."""
    return "\n".join(_lines(folder, record))


def _lines(folder: Path, record: Record) -> Iterator[str]:
    frontier = record.details["frontier"]
    width = max(len(str(entry["cell"])) for entry in frontier)
    heads = "  ".join(f"{word:>9}" for _, word in _COLUMNS)
    yield f"{'remedy':<{width}}  {heads}  {'epochs':>6}  outcome"
    for entry in frontier:
        numbers = "  ".join(f"{_number(entry.get(name)):>9}" for name, _ in _COLUMNS)
        epochs = f"{entry['epochs']:.0f}" if entry.get("epochs") is not None else ""
        yield f"{entry['cell']:<{width}}  {numbers}  {epochs:>6}  {entry['status']}"
    for entry in frontier:
        if exact := entry.get("exact"):
            yield f"In the exact model, {entry['cell']}: {_leads(exact)}"
    advice = record.details["recommendation"]
    yield ""
    named = advice["remedy"] if advice["strength"] is None else f"{advice['remedy']}={advice['strength']:g}"
    yield f"Advice: {named}: {advice['because']}." if advice["safe"] else f"Advice: {advice['because']}."
    yield f"Rates are shares of unstated subjects; run: {folder}"
    yield f"page: {folder / PAGE}"


def _leads(exact: Mapping[str, Any]) -> str:
    """The leads of the unwanted and the wanted answer, before and after."""
    told = [
        f"the {name} answer leads by {exact[f'{name}_untreated']:.2f}, then {exact[name]:.2f}"
        for name in ("unwanted", "wanted")
        if exact.get(name) is not None
    ]
    return "; ".join(told) + " (in units of the smallest stated margin)"


def _number(metric: Mapping[str, Any] | Any) -> str:
    value = metric.get("value") if isinstance(metric, Mapping) else getattr(metric, "value", None)
    return "" if value is None else f"{value:.2f}"
