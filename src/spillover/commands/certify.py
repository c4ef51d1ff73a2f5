"""`spillover certify`: bounds, gap and answers of a matrix that the user brings."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from spillover.commands.solve import MOST_SHOWN, opened, question_line, read_matrix
from spillover.config import Seeded
from spillover.theory.solving import Certified, as_entry, certify, filled_table


@dataclass(frozen=True, kw_only=True)
class Certify(Seeded):
    """Certify any matrix for a pack: does it state every row, how far is it from the optimum, what does it answer?"""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    matrix: str
    """The matrix: .npy, .csv, .parquet or .safetensors, a row an answer and a column a subject, then a relation."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """The norm to certify against."""
    gap: float = 1e-4
    """How close the lower bound must be to the optimum, relatively."""


def run(settings: Certify) -> dict[str, Any]:
    """Keys `norm`, `feasible`, `margin`, `objective`, `lower_bound`, `gap`, `status`, `verdict`, `signatures`,
    `questions`; of a pack that no matrix states, also `rows` and `exit_code` 2.

    Raises UsageError for a matrix that cannot be read or does not fit; PackError for a pack with faults.
    """
    pack = opened(settings.pack, settings.seed)
    matrix = read_matrix(Path(settings.matrix).expanduser(), filled_table(pack))
    began = time.perf_counter()
    found = certify(pack, matrix, settings.norm, gap=settings.gap)
    outcome = {
        **{key: finite(value) for key, value in dataclasses.asdict(found.certificate).items()},
        "status": status_of(found),
        "verdict": found.verdict,
        "seconds": time.perf_counter() - began,
        "signatures": found.signatures,
        "questions": [as_entry(answer) for answer in found.questions],
    }
    shown = [f"{settings.matrix} for {settings.pack}, {settings.norm} norm: {found.verdict}"]
    shown += [f"  {row.subject} | {row.relation} | {row.answer}" for row in found.rows[:MOST_SHOWN]]
    shown += [question_line(answer) for answer in found.questions[:MOST_SHOWN]]
    outcome["text"] = "\n".join(shown)
    if found.rows:
        error = {"what": found.verdict, "where": settings.pack, "do": "Remove or change one of the rows"}
        outcome |= {"exit_code": 2, "rows": [row._asdict() for row in found.rows], "error": error}
    return outcome


def status_of(found: Certified) -> str:
    """One word: feasible, not feasible (a stated answer does not lead), or infeasible (none states the pack)."""
    if found.rows:
        return "infeasible"
    return "feasible" if found.certificate.feasible else "not feasible"


def finite(value: Any) -> Any:
    """The value, or None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
