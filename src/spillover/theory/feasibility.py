"""Can one matrix state every row of a table? If not, a ray of multipliers that proves it, and the rows it rests on.

Source: docs/theory.md, "Infeasible packs". Only rivals that the same subject states elsewhere can stand in the way.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse

from spillover.packs.pack import Fact
from spillover.theory.certificate import force_of
from spillover.theory.table import FactTable, Problem

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
