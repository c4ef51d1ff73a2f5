"""A certificate for any matrix: is it feasible, how far is it from the optimum at most, and what does it answer?

Source: docs/theory.md, "Certificates". Nothing here trusts whoever made the matrix or the multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spillover.errors import UsageError
from spillover.theory.norms import Norm
from spillover.theory.table import FactTable, Problem, lead

#: How many holes are listed one by one; beyond, one entry stands for all subjects of a signature.
LISTED = 10_000
UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Answer:
    """What a matrix answers to one question, or to the same question about `count` equal subjects.

    margin: score of `predicted` minus the best other candidate of the relation; ocr_margin: the same of `expected`,
    None without one. Both in units of the smallest stated margin; None where there is nothing to compare. predicted
    is `undetermined` where the margin is a tie, or where its range holds both signs.
    """

    subject: str
    relation: str
    predicted: str
    margin: float | None
    expected: str | None
    ocr_margin: float | None
    count: int
    margin_low: float | None = None
    margin_high: float | None = None


@dataclass(frozen=True)
class Certificate:
    """Bounds on the least objective, given a matrix W and the best multipliers known.

    margin: W's smallest stated margin. feasible: whether it is positive, so that a multiple of W states everything.
    objective: the norm (nuclear) or squared norm (frobenius) of W scaled to margin 1; infinite if not feasible.
    """

    norm: str
    margin: float
    feasible: bool
    objective: float
    lower_bound: float
    gap: float

    @property
    def verdict(self) -> str:
        if not self.feasible:
            return (
                f"Not feasible: the smallest stated margin is {self.margin:.6g}, so some stated answer does not lead."
            )
        return (
            f"Feasible, and within {self.gap:.3g} of the optimum: objective {self.objective:.6g} at smallest margin 1, "
            f"and no matrix that states everything has less than {self.lower_bound:.6g}."
        )


def certificate(problem: Problem, norm: Norm, matrix: Float[np.ndarray, "answer column"], lower: float) -> Certificate:
    """Certify a scaled matrix of `problem`, with a lower bound on the least norm (see `lower_bound`)."""
    margin = float(problem.margins(matrix).min(initial=np.inf))
    feasible = margin > 0
    objective = (norm.size(matrix) / margin) ** norm.power if feasible else np.inf
    bound = lower**norm.power
    gap = max(0.0, 1 - bound / objective) if objective > 0 and np.isfinite(objective) else float(not feasible)
    return Certificate(norm.name, margin, feasible, objective, min(bound, objective), gap)


def lower_bound(problem: Problem, norm: Norm, multipliers: Float[np.ndarray, "cell answer"]) -> float:
    """A number that the norm of no feasible matrix is below: sum(lambda) / |sum_k lambda_k A_k|, dual norm below.

    multipliers: lambda, one a cell and wrong answer; negative entries and those at the stated answer count as zero.
    """
    force = force_of(problem, multipliers)
    total = float(force[np.arange(problem.cells), problem.cell_answer].sum())
    return total / norm.dual_size(problem.gather @ force) if total > 0 else 0.0


def force_of(problem: Problem, multipliers: Float[np.ndarray, "cell answer"]) -> Float[np.ndarray, "cell answer"]:
    """Row k: sum over wrong answers a' of lambda_(k, a') (e_a* - e_a')."""
    rows = np.arange(problem.cells)
    force = -np.maximum(multipliers, 0)
    force[rows, problem.cell_answer] = 0
    force[rows, problem.cell_answer] = -force.sum(axis=1)
    return force


def answers_of(
    table: FactTable,
    problem: Problem,
    matrix: Float[np.ndarray, "answer column"],
    unit: float,
    resolution: float = 1e-9,
) -> list[Answer]:
    """What a matrix answers to every question of the table.

    problem: `table.problem` or `table.full_problem`, whichever the scaled matrix belongs to. unit: the smallest stated
    margin. resolution: margins up to this, in that unit, are ties.
    """
    full, found = problem is table.full_problem, []
    for subject, index, count in _asked(table, full):
        relation, expected = int(table.questions.relation[index]), int(table.questions.expected[index])
        scores = problem.scores_at(matrix, subject if full else int(table.signature[subject]), relation)[None]
        among = table.candidates[relation]
        predicted = int(np.where(among, scores[0], -np.inf).argmax())
        leads = [
            float(lead(scores, np.array([answer]), among)[0]) if answer >= 0 else np.inf
            for answer in (predicted, expected)
        ]
        margin, expected_margin = (each / unit if unit > 0 and np.isfinite(each / unit) else None for each in leads)
        found.append(
            Answer(
                subject=table.subjects[subject],
                relation=table.relations[relation],
                predicted=table.answers[predicted] if margin is None or margin > resolution else UNDETERMINED,
                margin=margin,
                expected=table.answers[expected] if expected >= 0 else None,
                ocr_margin=expected_margin,
                count=count,
            )
        )
    return found


def _asked(table: FactTable, full: bool) -> list[tuple[int, int, int]]:
    """(subject, question, count): every subject on its own, or one for its signature where there are too many."""
    questions = table.questions
    if int(questions.count.sum()) > LISTED and not full:
        first = table.representative[questions.signature]
        return [(int(first[i]), i, int(questions.count[i])) for i in range(len(questions.count))]
    order = np.argsort(table.signature, kind="stable")
    start = np.searchsorted(table.signature[order], np.arange(len(table.representative) + 1))
    return [
        (int(subject), index, 1)
        for index, signature in enumerate(questions.signature)
        for subject in order[start[signature] : start[signature + 1]]
    ]


def checked_matrix(table: FactTable, matrix: np.ndarray) -> Float[np.ndarray, "answer column"]:
    """A user's matrix as float64. Raises UsageError when its shape does not fit the pack or a number is not finite."""
    answers, subjects, relations = len(table.answers), len(table.subjects), len(table.relations)
    if matrix.shape != (answers, subjects + relations):
        what = (
            f"the matrix has shape {' x '.join(map(str, matrix.shape)) or 'none'}, but this pack needs {answers} x "
            f"{subjects + relations}: its {answers} answers by its {subjects} subjects and {relations} relations"
        )
        raise UsageError(
            what, where="matrix", do="Give one row an answer and one column a subject, then one a relation"
        )
    if matrix.dtype.kind not in "fiu":
        what = f"the matrix holds {matrix.dtype}, not numbers"
        raise UsageError(what, where="matrix", do="Store it as float32 or float64")
    found = matrix.astype(np.float64)
    if len(bad := np.argwhere(~np.isfinite(found))):
        what = f"{len(bad)} of its numbers are not finite, the first at row {bad[0, 0]}, column {bad[0, 1]}"
        raise UsageError(what, where="matrix", do="Give a matrix of finite numbers")
    return found
