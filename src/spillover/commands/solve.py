"""`spillover solve`: the exact solution of a pack or a symbolic task, with its certificate."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from tyro.conf import Positional, arg

from spillover.config import Flag, Seeded, refuse_idle
from spillover.details import SolveDetails
from spillover.errors import PackError, UsageError
from spillover.packs.open import open_pack, parse_pack
from spillover.packs.pack import Pack
from spillover.record import write_atomically, write_table
from spillover.runs import identity_of, open_run
from spillover.theory.solving import Certified, Solution, solve
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import table_of

#: The column of a named matrix that holds the names of its rows.
ROW_NAMES = "answer"
#: Largest number of entries of a matrix that is written.
MOST_ENTRIES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Solve(Seeded):
    """Solve the one-layer model exactly for a pack: its answer to every question, with a certificate of optimality."""

    pack: Annotated[Positional[str], arg(metavar="[PACK]")] = ""
    """A built-in pack with its options, a pack folder, a pack.yaml, or a training file; or leave it out and give
    --symbolic."""
    symbolic: str = ""
    """The symbolic task instead of a pack, by its closed form: n=20,train=1,test=3."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """What is minimised: nuclear is what training the factorised model prefers, frobenius the merged one."""
    depth: int = 2
    """Matrices whose product is solved for: 2 is the attention model, 3 or more an embedding-MLP (with --symbolic)."""
    gap: float = 1e-4
    """How close to the least possible objective the solution must be proven to be, relatively."""
    ranges: Flag = False
    """Also compute the least and greatest margin of every question over all matrices that are no worse."""
    max_iterations: int = 20_000
    """The most iterations; then the solution is given with how far it may be from the optimum."""
    out: str = ""
    """Folder for record.json and, if it is not too large, the matrix: matrix.npy and, with names, matrix.parquet."""


def run(settings: Solve) -> dict[str, Any]:
    """Solve a pack or a symbolic task; `exit_code` is 2 when it is infeasible, as a pack is that contradicts itself."""
    if bool(settings.pack) == bool(settings.symbolic):
        what = "a pack and a symbolic task cannot be solved at once" if settings.pack else "there is nothing to solve"
        raise UsageError(what, where="spillover solve", do="Give a pack, or --symbolic n=20,train=1,test=3")
    if settings.symbolic:
        idle = ("seed", "gap", "max_iterations")
        refuse_idle(settings, idle, "does nothing with --symbolic, which is solved in closed form", "Leave it out")
    task = EqualClasses.parse(settings.symbolic) if settings.symbolic else opened(settings.pack, settings.seed)
    with (
        open_run(settings.out, "solve", identity_of(settings), silent=True) as opened_run,
        opened_run.recording(settings, ("spillover", "numpy", "scipy"), seed=settings.seed) as record,
    ):
        solution = solve(
            task, settings.norm, depth=settings.depth, gap=settings.gap, ranges=settings.ranges,
            max_iterations=settings.max_iterations,
        )  # fmt: skip
        # An exact number, whose interval is the certified one.
        bounds = {"value": solution.objective, "low": solution.lower_bound, "high": solution.objective}
        record.metrics = {"objective": {**bounds, "n": 1, "clusters": 1, "unit": _size(settings)}}
        found = {key: value for key, value in solution.as_json(ranges=True).items() if key != "seconds"}
        record.details = SolveDetails.model_validate(found)
        if opened_run.folder is not None and solution.objective is not None:
            _write_matrix(opened_run.folder, task, solution)
    outcome = solution.as_json(settings.ranges)
    if opened_run.folder is not None:
        outcome = {"run": str(opened_run.folder), "metrics": dict(record.metrics), **outcome}
    name = settings.symbolic or settings.pack
    return outcome | {"text": "\n".join(_lines(name, solution, settings))} | refusal(solution, name)


def opened(spec: str, seed: int) -> Pack:
    """The pack, even if it contradicts itself: its contradictions are then the answer. Raises PackError otherwise."""
    try:
        return open_pack(spec, seed)
    except PackError as error:
        if {getattr(fault, "code", "") for fault in error.faults} == {"two-answers"} and (pack := parse_pack(spec)[0]):
            return pack
        raise


def refusal(found: Solution | Certified, where: str) -> dict[str, Any]:
    """What an outcome says besides of a pack that no matrix states; nothing of others."""
    error = {"what": found.verdict, "where": where, "do": "Remove or change one of the rows"}
    return {"exit_code": 2, "error": error} if found.rows else {}


def _write_matrix(folder: Path, task: Pack | EqualClasses, solution: Solution) -> None:
    """Write matrix.npy and, when no two columns share a name, matrix.parquet with names; nothing of a huge matrix."""
    table = solution.table or table_of(task.pack() if isinstance(task, EqualClasses) else task)
    columns = [*table.subjects, *table.relations]
    if len(table.answers) * len(columns) > MOST_ENTRIES:
        return
    matrix, body = solution.weights(), io.BytesIO()
    np.save(body, matrix, allow_pickle=False)
    write_atomically(folder / "matrix.npy", body.getvalue())
    if len({*columns, ROW_NAMES}) == len(columns) + 1:
        named = dict(zip(columns, matrix.T, strict=True))
        write_table(folder / "matrix.parquet", pa.table({ROW_NAMES: pa.array(table.answers), **named}))


def _size(settings: Solve) -> str:
    """What is minimised, in words."""
    return f"{settings.norm} norm" if settings.depth == 2 else f"sum of singular values to 2/{settings.depth}"


def _lines(name: str, solution: Solution, settings: Solve) -> list[str]:
    """What a person reads: the verdict, the bounds, and the first questions or the rows that cannot be stated."""
    found = [f"{name}, {_size(settings)}: {solution.verdict}"]
    if solution.objective is not None and solution.gap is not None:
        label = "size" if settings.depth != 2 else "norm" if solution.norm == "nuclear" else "squared norm"
        found.append(f"  {label} {solution.objective:.6f}, at least {solution.lower_bound:.6f}; gap {solution.gap:.2g}")
        found.append(f"  {solution.signatures} kinds of subject, {solution.seconds:.2f} s")
    return found + solution.lines(settings.ranges, ": --json lists all")
