"""A study's plan on a device, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.jobs.studies import Cell
from spillover.jobs.sweep_plan import Foretold, StudyPlan


def tell(plan: StudyPlan, cells: Sequence[Cell]) -> list[str]:
    """A line a cell, what would hold those that do not fit, and the totals."""
    rows: list[tuple[str, ...]] = [("cell", "runs", "memory", "rows at once", "a run", "all its runs", "kept on disk")]
    rows += [_row(cell, plan.cells[cell.name]) for cell in cells]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  " + "  ".join([f"{row[0]:<{widths[0]}}", *(f"{text:>{width}}" for text, width in
             zip(row[1:], widths[1:], strict=True))]) for row in rows]  # fmt: skip
    return [_where(plan), *table, *_lacking(plan, cells), *_totals(plan)]


def _where(plan: StudyPlan) -> str:
    device, many = plan.device, f"{plan.devices} x " if plan.devices > 1 else ""
    at_once = f", {plan.at_once} runs at once" if plan.at_once > 1 else ""
    known = "measured with a model of 270M parameters" if device.measured else "from its data sheet, not measured"
    return f"On {many}{device.name} ({size(device.memory)} for runs{at_once}; speed {known}):"


def _row(cell: Cell, own: Foretold) -> tuple[str, ...]:
    most, count = "up to " if own.most else "", len(cell.seeds)
    memory = size(own.forecast.needed) + ("" if own.fits else " *")
    kept = count * (own.saved + own.tables * (1 + (count > 1)))
    return (cell.name, str(count), memory, str(own.forecast.micro_batch), most + lasting(own.seconds.total),
            most + lasting(count * own.seconds.total), size(kept))  # fmt: skip


def _lacking(plan: StudyPlan, cells: Sequence[Cell]) -> list[str]:
    """A line for all cells that need the same."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        if not (own := plan.cells[cell.name]).fits:
            found.setdefault(tuple(own.fitting), []).append(cell)
    lines = []
    for fitting, some in found.items():
        models = ", ".join(dict.fromkeys(cell.settings.model for cell in some))
        needed = max(plan.cells[cell.name].forecast.needed for cell in some)
        room = size(plan.cells[some[0].name].room)
        would = f"; these would hold it: {'; '.join(fitting)}" if fitting else "; no device that is known here holds it"
        lines.append(f"  * does not fit: {models} needs {size(needed)} of {room}{would}.")
    return lines


def _totals(plan: StudyPlan) -> list[str]:
    totals = plan.totals
    if not totals.runs:
        return ["Nothing fits."]
    lacking = f" (without {totals.lacking} cells that do not fit)" if totals.lacking else ""
    places = plan.devices * plan.at_once
    work = "" if places == 1 else f", {lasting(totals.work)} of all places together"
    lines = [f"Time: {lasting(totals.wall)} for {totals.runs} runs{lacking}{work}; models are read at 1 GB a second."]
    running = f", up to {size(totals.running)} more for checkpoints while runs are under way" if totals.running else ""
    lines.append(f"Disk: {size(totals.kept)} kept{running}; the models' own files take {size(totals.models)}.")
    if not plan.device.measured:
        lines.append("A card is taken to reach 40% of its peak in products, and 70% in moving weights: a rough guess.")
    return lines


def size(count: float) -> str:
    """Bytes in the unit that leaves at least one."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def lasting(seconds: float) -> str:
    """Seconds in the unit that leaves at least one."""
    for unit, each in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= each:
            return f"{seconds / each:.1f} {unit}"
    return f"{seconds:.0f} s"
