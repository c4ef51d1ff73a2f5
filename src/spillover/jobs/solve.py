"""`spillover solve`: the exact solution of a pack or a symbolic task, with its certificate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from spillover.errors import PackError, UsageError
from spillover.facts.check import Findings
from spillover.facts.files import find_pack_file
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.facts.reading.sheet import Sheet
from spillover.jobs.matrix_file import names_of_columns, write_matrix
from spillover.jobs.output import claim_folder
from spillover.record import Record, commit, hardware, identity, versions
from spillover.settings import Solve
from spillover.theory.certificate import Answer
from spillover.theory.closed_form import EqualClasses
from spillover.theory.solving import Solution, solve
from spillover.theory.table import table_of

#: Questions and rows that the text shows; `--json` gives all.
MOST_SHOWN = 12
#: Largest number of entries of a matrix that is written.
MOST_ENTRIES = 20_000_000


def run(settings: Solve) -> dict[str, Any]:
    """The keys of CONTRACT's `solve --json`, a text for a person, and `exit_code` 2 when the pack is infeasible.

    Raises UsageError unless exactly one of a pack and a symbolic task is given; PackError for a pack with faults,
    except that a pack whose only faults are contradictions is answered with the proof that it is infeasible.
    """
    if bool(settings.pack) == bool(settings.symbolic):
        what = "a pack and a symbolic task cannot be solved at once" if settings.pack else "there is nothing to solve"
        raise UsageError(what, where="spillover solve", do="Give a pack, or --symbolic n=20,train=1,test=3")
    task = EqualClasses.parse(settings.symbolic) if settings.symbolic else opened(settings.pack, settings.seed)
    resolved = dataclasses.asdict(settings)
    own = identity({key: value for key, value in resolved.items() if key not in ("out", "json")})
    folder = Path(settings.out).expanduser() if settings.out else None
    if folder is not None:
        claim_folder(folder, "solve", own)
    solution = solve(
        task, settings.norm, gap=settings.gap, ranges=settings.ranges, max_iterations=settings.max_iterations
    )
    outcome = solution.as_json(settings.ranges)
    if folder is not None:
        written(folder, task, solution, Record("solve", resolved, settings.seed, identity=own))
        outcome = {"run": str(folder), "metrics": metrics_of(solution), **outcome}
    name = settings.symbolic or settings.pack
    outcome["text"] = "\n".join(lines(name, solution, settings.ranges))
    if solution.status == "infeasible":
        do = "Remove or change one of the rows"
        outcome |= {"exit_code": 2, "error": {"what": solution.verdict, "where": name, "do": do}}
    return outcome


def opened(spec: str, seed: int) -> Pack:
    """The pack, even if it contradicts itself: its contradictions are then the answer. Raises PackError otherwise."""
    try:
        return open_pack(spec, seed)
    except PackError as error:
        if {getattr(fault, "code", "") for fault in error.faults} != {"two-answers"}:
            raise
        pack = Sheet(find_pack_file(Path(spec)), Findings()).pack()
        if pack is None:
            raise
        return pack


def metrics_of(solution: Solution) -> dict[str, Any]:
    """The numbers of a solution as metrics: exact ones, whose interval is the certified one."""
    bounds = {"value": solution.objective, "low": solution.lower_bound, "high": solution.objective}
    return {"objective": {**bounds, "n": 1, "clusters": 1, "unit": f"{solution.norm} norm"}}


def written(folder: Path, task: Pack | EqualClasses, solution: Solution, record: Record) -> None:
    """The record of this solution in `folder`, and its matrix when there is one of a size worth writing."""
    record.status = "done"
    record.versions, record.commit, record.hardware = versions(("spillover", "numpy", "scipy")), commit(), hardware()
    record.metrics, record.seconds = metrics_of(solution), solution.seconds
    record.details = {key: value for key, value in solution.as_json(ranges=True).items() if key != "seconds"}
    if solution.objective is not None:
        pack = task.pack() if isinstance(task, EqualClasses) else task
        table = solution.table or table_of(pack)
        if len(table.answers) * (len(table.subjects) + len(table.relations)) <= MOST_ENTRIES:
            write_matrix(folder, solution.weights(), table.answers, names_of_columns(table))
    record.write(folder)


def lines(name: str, solution: Solution, ranges: bool) -> list[str]:
    """What a person reads: the verdict, the bounds, and the first questions or the rows that cannot be stated."""
    found = [f"{name}, {solution.norm} norm: {solution.verdict}"]
    if solution.objective is not None and solution.gap is not None:
        label = "norm" if solution.norm == "nuclear" else "squared norm"
        found.append(f"  {label} {solution.objective:.6f}, at least {solution.lower_bound:.6f}; gap {solution.gap:.2g}")
        found.append(f"  {solution.signatures} kinds of subject, {solution.seconds:.2f} s")
    found += [f"  {row.subject} | {row.relation} | {row.answer}" for row in solution.rows[:MOST_SHOWN]]
    found += [question_line(answer, ranges) for answer in solution.questions[:MOST_SHOWN]]
    more = max(len(solution.rows), len(solution.questions)) - MOST_SHOWN
    return [*found, f"  and {more} more: --json lists all"] if more > 0 else found


def question_line(answer: Answer, ranges: bool = False) -> str:
    """One question as a line: who, what, the answer, its lead, and what was expected."""
    margin = "nothing to compare with" if answer.margin is None else f"leads by {answer.margin:.4f}"
    if ranges and answer.margin_low is not None:
        margin += f" (from {answer.margin_low:.4f} to {answer.margin_high:.4f})"
    expected = "" if answer.expected is None else f"; expected {answer.expected}"
    many = f" and {answer.count - 1} like it" if answer.count > 1 else ""
    return f"  {answer.subject}{many} | {answer.relation}: {answer.predicted}, {margin}{expected}"
