"""`spillover solve`: the exact solution of a pack or a symbolic task, with its certificate."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tyro.conf import Positional

from spillover.config import Flag, Seeded
from spillover.errors import PackError, UsageError, nearest
from spillover.packs.open import open_pack, parse_pack
from spillover.packs.pack import Pack
from spillover.record import Record, commit, hardware, identity, versions, write_atomically, write_table
from spillover.runs import claim_folder
from spillover.theory.certificate import Answer
from spillover.theory.solving import Solution, solve
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import FactTable, table_of


@dataclass(frozen=True, kw_only=True)
class Solve(Seeded):
    """Solve the one-layer model exactly for a pack: what it answers to questions nobody answered, with proof."""

    pack: Positional[str] = ""
    """A built-in pack with its options, a pack folder, or a pack.yaml; or leave it out and give --symbolic."""
    symbolic: str = ""
    """The symbolic task instead of a pack, by its closed form: n=20,train=1,test=3."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """What is minimised: nuclear is what training the factorised model prefers, frobenius the merged one."""
    gap: float = 1e-4
    """How close to the least possible objective the solution must be proven to be, relatively."""
    ranges: Flag = False
    """Also compute the least and greatest margin of every question over all matrices that are no worse."""
    max_iterations: int = 20_000
    """The most iterations; then the solution is given with how far it may be from the optimum."""
    out: str = ""
    """Folder for record.json and, if it is not too large, the matrix: matrix.npy and, with names, matrix.parquet."""


#: The column of a named table that holds the names of the rows.
ROW_NAMES = "answer"


def read_matrix(path: Path, table: FactTable) -> np.ndarray:
    """The numbers in `path`, rows and columns in the order of `table` where the file names them.

    A CSV or Parquet file with a column `answer` is taken by its names; all others by position.
    Raises UsageError for a file that is missing, of another kind, damaged, or without numbers.
    """
    if path.suffix.lower() not in READERS:
        raise UsageError(
            f"a matrix cannot be read from {path.name!r}", where=str(path), do=nearest(path.suffix, READERS)
        )
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), do="Name a matrix that exists")
    try:
        found = READERS[path.suffix.lower()](path)
    except (OSError, ValueError, TypeError, EOFError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"no matrix can be read here ({reason})", where=str(path), do="Write the file again") from None
    return _in_order(found, table, str(path)) if isinstance(found, dict) else found


def _npy(path: Path) -> np.ndarray:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("several arrays")
    return found


def _csv(path: Path) -> np.ndarray | dict[str, Sequence[Any]]:
    rows = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) if row]
    if not rows:
        raise ValueError("the file is empty")
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(f"its rows have from {min(lengths)} to {max(lengths)} fields")
    if ROW_NAMES in rows[0]:
        return _named(rows[0], list(zip(*rows[1:], strict=True)))
    return np.array([[float(field) for field in row] for row in rows])


def _parquet(path: Path) -> np.ndarray | dict[str, Sequence[Any]]:
    found = pq.read_table(path)
    columns = [column.to_pylist() for column in found.columns]
    if ROW_NAMES in found.column_names:
        return _named(found.column_names, columns)
    return np.array([[float(value) for value in column] for column in columns]).T


def _safetensors(path: Path) -> np.ndarray:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ValueError("the package safetensors is not installed") from None
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, not one")
    return next(iter(tensors.values()))


#: File endings -> how to read one.
READERS: dict[str, Callable[[Path], np.ndarray | dict[str, Sequence[Any]]]] = {
    ".npy": _npy,
    ".csv": _csv,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}


def _named(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    if len(set(names)) != len(names):
        raise ValueError("two columns have the same name")
    return dict(zip(names, columns or [()] * len(names), strict=True))


def _in_order(columns: dict[str, Sequence[Any]], table: FactTable, where: str) -> np.ndarray:
    """A named table as a matrix in the order of the pack. Raises UsageError when names or numbers do not fit."""
    answers, wanted = [str(name) for name in columns[ROW_NAMES]], names_of_columns(table)
    for what, given, needed in (
        ("row", answers, list(table.answers)),
        ("column", [name for name in columns if name != ROW_NAMES], wanted),
    ):
        odd = sorted(set(needed) ^ set(given))
        if odd or len(given) != len(needed):
            problem = f"the pack has no {what} {odd[0]!r}" if odd and odd[0] in given else f"a {what} is missing"
            problem += f": {odd[0]!r}" if odd and odd[0] not in given else ""
            raise UsageError(problem, where=where, do="Name every answer once, and every subject and relation")
    order = {name: index for index, name in enumerate(answers)}
    rows = [order[name] for name in table.answers]
    try:
        return np.array([[float(columns[name][row]) for name in wanted] for row in rows])
    except (TypeError, ValueError) as error:
        raise UsageError(f"not all entries are numbers ({error})", where=where, do="Write the file again") from None


def names_of_columns(table: FactTable) -> list[str]:
    """What the columns of a full matrix stand for: subjects, then relations."""
    return [*table.subjects, *table.relations]


def write_matrix(folder: Path, matrix: np.ndarray, answers: Sequence[str], columns: Sequence[str]) -> None:
    """Write matrix.npy and, when no two columns share a name, matrix.parquet with names."""
    body = io.BytesIO()
    np.save(body, matrix, allow_pickle=False)
    write_atomically(folder / "matrix.npy", body.getvalue())
    if len({*columns, ROW_NAMES}) == len(columns) + 1:
        named = {ROW_NAMES: pa.array(answers), **{name: pa.array(matrix[:, i]) for i, name in enumerate(columns)}}
        write_table(folder / "matrix.parquet", pa.table(named))


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
        pack, _, _ = parse_pack(spec)
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
