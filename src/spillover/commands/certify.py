"""`spillover certify`: bounds, gap and answers of a matrix that the user brings."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tyro.conf import Positional, arg

from spillover.commands.solve import ROW_NAMES, opened, refusal
from spillover.config import Seeded
from spillover.errors import UsageError, first_line, nearest
from spillover.theory.solving import certify, filled_table
from spillover.theory.table import FactTable

#: A table whose columns have names: the rows' names under ROW_NAMES, and numbers.
Columns = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Certify(Seeded):
    """Certify any matrix for a pack: is it feasible, how far is it from the optimum, and what does it answer?"""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, a pack.yaml, or a training file."""
    matrix: str
    """The matrix: .npy, .csv, .parquet or .safetensors, a row an answer and a column a subject, then a relation."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """The norm to certify against."""
    gap: float = 1e-4
    """How close the lower bound must be to the optimum, relatively."""


def run(settings: Certify) -> dict[str, Any]:
    """Bounds, status and answers of a matrix; of a pack that no matrix states, also `rows` and `exit_code` 2."""
    pack = opened(settings.pack, settings.seed)
    matrix = read_matrix(Path(settings.matrix).expanduser(), filled_table(pack))
    began = time.perf_counter()
    found = certify(pack, matrix, settings.norm, gap=settings.gap)
    # JSON has no infinite numbers.
    bounds = {name: None if value == np.inf else value for name, value in asdict(found.certificate).items()}
    status = "infeasible" if found.rows else "feasible" if found.certificate.feasible else "not feasible"
    title = f"{settings.matrix} for {settings.pack}, {settings.norm} norm: {found.verdict}"
    outcome = bounds | {"status": status, "verdict": found.verdict, "seconds": time.perf_counter() - began}
    outcome |= found.as_json() | {"text": "\n".join([title, *found.lines(rest=": --json lists all")])}
    return outcome | refusal(found, settings.pack)


def read_matrix(path: Path, table: FactTable) -> np.ndarray:
    """The numbers in `path`; of a CSV or Parquet file with a column `answer` by their names, of others by position."""
    if path.suffix.lower() not in READERS:
        what = f"a matrix cannot be read from {path.name!r}"
        raise UsageError(what, where=str(path), do=nearest(path.suffix, READERS))
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), do="Name a matrix that exists")
    try:
        found = READERS[path.suffix.lower()](path)
    except (OSError, ValueError, TypeError, EOFError, pa.ArrowException) as error:
        what = f"no matrix can be read here ({first_line(error)})"
        raise UsageError(what, where=str(path), do="Write the file again") from None
    return _in_order(found, table, str(path)) if isinstance(found, dict) else found


def _npy(path: Path) -> np.ndarray:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("several arrays")
    return found


def _csv(path: Path) -> np.ndarray | Columns:
    rows = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) if row]
    if len(lengths := {len(row) for row in rows}) > 1:
        raise ValueError(f"its rows have from {min(lengths)} to {max(lengths)} fields")
    return _tabular(rows)


def _parquet(path: Path) -> np.ndarray | Columns:
    found = pq.read_table(path)
    names = [found.column_names] if ROW_NAMES in found.column_names else []
    return _tabular([*names, *zip(*(column.to_pylist() for column in found.columns), strict=True)])


def _tabular(rows: Sequence[Sequence[Any]]) -> np.ndarray | Columns:
    """Rows of numbers as a matrix; columns by their names if the first row holds names."""
    if not rows:
        raise ValueError("the file is empty")
    if ROW_NAMES not in rows[0]:
        return np.array([[float(field) for field in row] for row in rows])
    if len(set(rows[0])) != len(rows[0]):
        raise ValueError("two columns have the same name")
    return {name: [row[index] for row in rows[1:]] for index, name in enumerate(rows[0])}


def _safetensors(path: Path) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors, not one")
    return next(iter(tensors.values()))


#: File endings -> how to read one.
READERS: dict[str, Callable[[Path], np.ndarray | Columns]] = {
    ".npy": _npy, ".csv": _csv, ".parquet": _parquet, ".safetensors": _safetensors,
}  # fmt: skip


def _in_order(columns: Columns, table: FactTable, where: str) -> np.ndarray:
    """A named table as a matrix in the order of the pack. Raises UsageError when names or numbers do not fit."""
    answers, wanted = [str(name) for name in columns[ROW_NAMES]], [*table.subjects, *table.relations]
    named = [name for name in columns if name != ROW_NAMES]
    for what, given, needed in (("row", answers, list(table.answers)), ("column", named, wanted)):
        odd = sorted(set(needed) ^ set(given))
        if odd or len(given) != len(needed):
            missing = f"a {what} is missing" + (f": {odd[0]!r}" if odd else "")
            problem = f"the pack has no {what} {odd[0]!r}" if odd and odd[0] in given else missing
            raise UsageError(problem, where=where, do="Name every answer once, and every subject and relation")
    order = {name: index for index, name in enumerate(answers)}
    rows = [order[name] for name in table.answers]
    try:
        return np.array([[float(columns[name][row]) for name in wanted] for row in rows])
    except (TypeError, ValueError) as error:
        raise UsageError(f"not all entries are numbers ({error})", where=where, do="Write the file again") from None
