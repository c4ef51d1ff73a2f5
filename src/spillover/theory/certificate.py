"""A certificate for any matrix: is it feasible, how far is it from the optimum at most, and what does it answer?

And where no matrix states every row of a table, a ray of multipliers that proves it, with the rows it rests on. Source:
docs/theory.md, "Certificates" and "Infeasible packs". Nothing here trusts whoever made the matrix or the multipliers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, sparse

from spillover.errors import UsageError
from spillover.packs.pack import Fact
from spillover.theory.norms import Norm
from spillover.theory.table import FactTable, Problem, Weights, lead

#: How many holes are listed one by one; beyond, one entry stands for all subjects of a signature.
LISTED = 10_000
UNDETERMINED = "undetermined"
#: Questions whose scores are held at once.
BLOCK = 4096
Codes = Int[np.ndarray, "question"]
Multipliers = Float[np.ndarray, "cell answer"]
#: (subject column and relation, answer, candidates) -> the least and greatest margin of that answer.
MarginRange = Callable[[tuple[int, int], int, Bool[np.ndarray, "answer"]], tuple[float, float]]


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
            return f"Not feasible: the smallest stated margin is {self.margin:.6g}: some stated answer does not lead."
        return (
            f"Feasible, and within {self.gap:.3g} of the optimum: objective {self.objective:.6g} at smallest margin 1, "
            f"and no matrix that states everything has less than {self.lower_bound:.6g}."
        )


def certificate(problem: Problem, norm: Norm, matrix: Weights, lower: float) -> Certificate:
    """Certify a scaled matrix of `problem`, with a lower bound on the least norm (see `lower_bound`)."""
    margin = float(problem.margins(matrix).min(initial=np.inf))
    feasible = margin > 0
    objective = (norm.size(matrix) / margin) ** norm.power if feasible else np.inf
    bound = lower**norm.power
    gap = max(0.0, 1 - bound / objective) if objective > 0 and np.isfinite(objective) else float(not feasible)
    return Certificate(norm.name, margin, feasible, objective, min(bound, objective), gap)


def lower_bound(problem: Problem, norm: Norm, multipliers: Multipliers) -> float:
    """A number that the norm of no feasible matrix is below: sum(lambda) / |sum_k lambda_k A_k|, dual norm below.

    multipliers: lambda, one a cell and wrong answer; negative entries and those at the stated answer count as zero.
    """
    force = force_of(problem, multipliers)
    total = float(force[np.arange(problem.cells), problem.cell_answer].sum())
    return total / norm.dual_size(problem.gather @ force) if total > 0 else 0.0


def force_of(problem: Problem, multipliers: Multipliers) -> Multipliers:
    """Row k: sum over wrong answers a' of lambda_(k, a') (e_a* - e_a')."""
    rows, force = np.arange(problem.cells), -np.maximum(multipliers, 0)
    force[rows, problem.cell_answer] = 0
    force[rows, problem.cell_answer] = -force.sum(axis=1)
    return force


def answers_of(
    table: FactTable,
    problem: Problem,
    matrix: Weights,
    unit: float,
    resolution: float = 1e-9,
    margin_range: MarginRange | None = None,
) -> tuple[Answer, ...]:
    """What a matrix answers to every question of the table.

    problem: `table.problem` or `table.full_problem`, whichever the scaled matrix belongs to. unit: the smallest stated
    margin. resolution: margins up to this, in that unit, are ties. margin_range: how far a margin may move, if asked.
    """
    full = problem is table.full_problem
    subject, index, count = _asked(table, full)
    relation, expected = table.questions.relation[index], table.questions.expected[index]
    column = subject if full else table.signature[subject]
    predicted, leads = np.empty_like(index), np.empty((2, len(index)))
    for start in range(0, len(index), BLOCK):
        rows = slice(start, start + BLOCK)
        scores, among = problem.scores(matrix, column[rows], relation[rows]), table.candidates[relation[rows]]
        predicted[rows] = np.where(among, scores, -np.inf).argmax(axis=1)
        leads[:, rows] = [lead(scores, answer[rows], among) for answer in (predicted, expected)]
    leads[1, expected < 0] = np.inf
    found = []
    for i, (margin, expected_margin) in enumerate(zip(*(leads / unit).tolist(), strict=True)):
        known, low, high = np.isfinite(margin), None, None
        if known and margin_range is not None:
            # Equal questions of equal subjects follow each other.
            if i == 0 or index[i] != index[i - 1]:
                question = (int(column[i]), int(relation[i]))
                bounds = margin_range(question, int(predicted[i]), table.candidates[relation[i]])
            low, high = bounds
        undetermined = known and (margin <= resolution or (low is not None and low <= 0))
        found.append(
            Answer(
                subject=table.subjects[subject[i]],
                relation=table.relations[relation[i]],
                predicted=UNDETERMINED if undetermined else table.answers[predicted[i]],
                margin=margin if known else None,
                expected=table.answers[expected[i]] if expected[i] >= 0 else None,
                ocr_margin=expected_margin if np.isfinite(expected_margin) else None,
                count=int(count[i]),
                margin_low=low,
                margin_high=high,
            )
        )
    return tuple(found)


def _asked(table: FactTable, full: bool) -> tuple[Codes, Codes, Codes]:
    """(subject, question, count): every subject on its own, or one for its signature where there are too many."""
    questions, number = table.questions, np.arange(len(table.questions.count))
    if int(questions.count.sum()) > LISTED and not full:
        return table.representative[questions.signature], number, questions.count
    order = np.argsort(table.signature, kind="stable")
    of_signature = np.split(order, np.cumsum(np.bincount(table.signature))[:-1])
    subject = np.concatenate([np.empty(0, dtype=np.int64), *(of_signature[each] for each in questions.signature)])
    return subject, np.repeat(number, questions.count), np.ones_like(subject)


def checked_matrix(table: FactTable, matrix: np.ndarray) -> Float[np.ndarray, "answer column"]:
    """A user's matrix as float64. Raises UsageError when its shape does not fit the pack or a number is not finite."""
    answers, subjects, relations = len(table.answers), len(table.subjects), len(table.relations)
    if matrix.shape != (answers, subjects + relations):
        what = (
            f"the matrix has shape {' x '.join(map(str, matrix.shape)) or 'none'}, but this pack needs {answers} x "
            f"{subjects + relations}: its {answers} answers by its {subjects} subjects and {relations} relations"
        )
        do = "Give one row an answer and one column a subject, then one a relation"
    elif matrix.dtype.kind not in "fiu":
        what, do = f"the matrix holds {matrix.dtype}, not numbers", "Store it as float32 or float64"
    elif len(bad := np.argwhere(~np.isfinite(matrix))):
        what = f"{len(bad)} of its numbers are not finite, the first at row {bad[0, 0]}, column {bad[0, 1]}"
        do = "Give a matrix of finite numbers"
    else:
        return matrix.astype(np.float64)
    raise UsageError(what, where="matrix", do=do)


Constraints = Int[np.ndarray, "constraint"]


@dataclass(frozen=True, eq=False)
class Infeasible:
    """A proof that no matrix states every row: positive weights whose constraints add up to 0 >= 1.

    weights: (constraint,), summing to 1. residual: how far sum_k weight_k A_k is from zero. rows: the stated rows it
    uses; for a contradiction, every contradicting row.
    """

    weights: Float[np.ndarray, "constraint"]
    residual: float
    rows: tuple[Fact, ...]
    contradiction: bool

    @property
    def verdict(self) -> str:
        """The proof as a sentence."""
        why = "subject and relation add up, so these rows ask for a lead that is both positive and negative"
        if self.contradiction:
            why = "a subject has two answers to one relation"
        return f"Infeasible: no matrix states these {len(self.rows)} rows together, because {why}."


def infeasibility(table: FactTable) -> Infeasible | None:
    """The proof that a table cannot be stated, or None when it can."""
    problem = table.problem
    cells, rivals = _critical_constraints(problem)
    if (found := _ray(problem, cells, rivals)) is None:
        return None
    used, weights = found
    cells, rivals = cells[used], rivals[used]
    pair = table.subject * len(table.relations) + table.relation
    _, index, count = np.unique(pair, return_inverse=True, return_counts=True)
    contradicting = _facts(table, np.flatnonzero(count[index] > 1))
    # A compressed cell is a row of its signature's first subject, in the same order.
    rows = contradicting or _facts(table, np.flatnonzero(table.first)[np.unique(cells)])
    multipliers = np.zeros((problem.cells, problem.answers))
    np.add.at(multipliers, (cells, rivals), weights)
    residual = float(np.abs(problem.gather @ force_of(problem, multipliers)).max())
    return Infeasible(weights, residual, rows, bool(contradicting))


def _critical_constraints(problem: Problem) -> tuple[Constraints, Constraints]:
    """Cells and rivals of the constraints that could be in each other's way; all others can be met together.

    A rival that its subject never states falls to a large enough lead of all that the subject states; one that nobody
    states for the relation, to a low relation score; one whose subject needs it for nothing, to a low subject score.
    """
    order = np.argsort(problem.cell_subject, kind="stable")
    used = np.zeros((problem.relations, problem.answers), dtype=bool)
    used[problem.cell_relation, problem.cell_answer] = True
    pairs = [
        (int(cell), int(rival))
        for cells in np.split(order, np.cumsum(np.bincount(problem.cell_subject))[:-1])
        for rival in np.unique(problem.cell_answer[cells])
        for cell in cells
        if problem.cell_answer[cell] != rival and used[problem.cell_relation[cell], rival]
    ]
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    while len(found):
        # A constraint counts if another wants its rival high, both for the subject and for the relation.
        cells, rivals = found.T
        answers = problem.cell_answer[cells]
        subject, relation = (of[cells] * problem.answers for of in (problem.cell_subject, problem.cell_relation))
        kept = np.isin(subject + rivals, subject + answers) & np.isin(relation + rivals, relation + answers)
        if kept.all():
            break
        found = found[kept]
    return found[:, 0], found[:, 1]


def _ray(
    problem: Problem, cells: Constraints, rivals: Constraints
) -> tuple[Int[np.ndarray, "used"], Float[np.ndarray, "used"]] | None:
    """Non-negative weights of sum 1 with sum_k weight_k A_k = 0: a vertex, so that no smaller set of them does."""
    if not len(cells):
        return None
    subjects = problem.cell_subject[cells] * problem.answers
    relations = (len(problem.sizes) + problem.cell_relation[cells]) * problem.answers
    plus, minus = problem.cell_answer[cells], rivals
    entry = np.concatenate([subjects + plus, subjects + minus, relations + plus, relations + minus])
    entry = np.unique(entry, return_inverse=True)[1]
    count = len(cells)
    balance = sparse.csr_matrix((np.repeat([1.0, -1.0, 1.0, -1.0], count), (entry, np.tile(np.arange(count), 4))))
    system = sparse.vstack([balance, np.ones((1, count))])
    wanted = np.append(np.zeros(balance.shape[0]), 1)
    found = optimize.linprog(np.zeros(count), A_eq=system, b_eq=wanted, bounds=(0, None), method="highs-ds")
    if found.status == 2 or found.x is None:
        return None
    used = np.flatnonzero(found.x > 1e-9)
    # Projected on the exact null space of the constraints, to rounding error.
    dense, weights = balance[:, used].toarray(), found.x[used]
    weights = weights - np.linalg.lstsq(dense, dense @ weights, rcond=None)[0]
    return used, weights / weights.sum()


def _facts(table: FactTable, rows: Int[np.ndarray, "row"]) -> tuple[Fact, ...]:
    names = ((table.subjects, table.subject), (table.relations, table.relation), (table.answers, table.answer))
    return tuple(Fact(*(name[code[row]] for name, code in names)) for row in rows)
