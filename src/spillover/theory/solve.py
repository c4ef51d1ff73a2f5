"""Solve a pack or a symbolic task, or certify a matrix: the two entry points of the exact theory.

Source: docs/theory.md, all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from spillover.errors import UsageError
from spillover.packs.pack import Fact, Pack
from spillover.theory.certificate import (
    UNDETERMINED,
    Answer,
    Certificate,
    answers_of,
    certificate,
    checked_matrix,
    combination,
    force_of,
    lower_bound,
)
from spillover.theory.closed_form import FACT, IMPLICATION, ClosedForm, EqualClasses, closed_form
from spillover.theory.feasibility import Infeasible, infeasibility
from spillover.theory.norms import Norm, norm_called
from spillover.theory.ranges import RangeSolver, Start
from spillover.theory.splitting import Optimum, minimise
from spillover.theory.table import Table, table_of


@dataclass(frozen=True, eq=False)
class Solution:
    """The matrix of least norm that states a pack, how sure that is, and what it answers to every question.

    status: optimal, infeasible or iterations; verdict says it as a sentence. objective: the nuclear norm, or the
    squared Frobenius norm, of a feasible matrix; None if none was met. gap: (objective - lower_bound) / objective.
    rows: of an infeasible pack, those that cannot be stated together. table, matrix, multipliers: the compressed
    problem's names, scaled matrix (answer, column) and dual (cell, answer); exact: a symbolic task's solution instead.
    """

    norm: str
    status: str
    verdict: str
    objective: float | None
    lower_bound: float | None
    gap: float | None
    seconds: float
    signatures: int
    iterations: int = 0
    questions: tuple[Answer, ...] = ()
    rows: tuple[Fact, ...] = ()
    table: Table | None = None
    matrix: Float[np.ndarray, "answer column"] | None = None
    multipliers: Float[np.ndarray, "cell answer"] | None = None
    proof: Infeasible | None = None
    exact: ClosedForm | None = None

    def weights(self) -> Float[np.ndarray, "answer column"]:
        """W itself: a row an answer, a column a subject, then a column a relation. Raises UsageError without one."""
        if self.exact is not None:
            return self.exact.matrix.dense()
        if self.table is None or self.matrix is None:
            raise UsageError("there is no matrix, because " + self.verdict, where="solve", do="Mend the pack first")
        return self.table.expand(self.matrix)

    def as_json(self, ranges: bool = False) -> dict[str, Any]:
        """The keys that `solve --json` prints."""
        names = ("norm", "objective", "lower_bound", "gap", "status", "verdict", "seconds", "signatures", "iterations")
        found = {name: getattr(self, name) for name in names}
        found["questions"] = [as_entry(answer, ranges) for answer in self.questions]
        if self.status == "infeasible":
            found["rows"] = [row._asdict() for row in self.rows]
        return found


def as_entry(answer: Answer, ranges: bool = False) -> dict[str, Any]:
    """A question as JSON names it; the range only when it was asked for."""
    found = asdict(answer)
    if not ranges:
        del found["margin_low"], found["margin_high"]
    return found


def solve(
    pack: Pack | EqualClasses,
    norm: str = "nuclear",
    *,
    gap: float = 1e-4,
    ranges: bool = False,
    max_iterations: int = 20_000,
) -> Solution:
    """The max-margin solution of a pack, certified to a relative gap; a symbolic task's is exact.

    norm: nuclear (what the factorised model prefers) or frobenius (the merged one). ranges: also how far every
    question's margin may move among matrices that are no worse than the one reported. Raises UsageError for a norm,
    gap or limit that makes no sense, and for a pack that states nothing.
    """
    chosen = norm_called(norm)
    if not 1e-10 <= gap < 1:
        raise UsageError(f"a gap of {gap:g} cannot be certified", where="gap", do="Give one from 1e-10 to below 1")
    if max_iterations < 1:
        raise UsageError(f"{max_iterations} iterations solve nothing", where="max-iterations", do="Give at least 1")
    began = time.perf_counter()
    if isinstance(pack, EqualClasses):
        return _exactly(pack, norm, began)
    table = filled_table(pack)
    proof = infeasibility(table)
    if proof is not None:
        return _infeasible(table, chosen, proof, began)
    # The Frobenius margins follow from the gap, and a hundredth of it costs next to nothing.
    target = gap * 1e-2 if chosen.power == 2 else gap
    optimum = minimise(table.problem, chosen, max(target, 1e-12), max_iterations)
    solution = _solved(table, chosen, optimum, gap, began)
    if ranges and optimum.matrix is not None:
        solution = replace(solution, questions=_with_ranges(table, chosen, optimum, solution.questions))
    return replace(solution, seconds=time.perf_counter() - began)


def filled_table(pack: Pack) -> Table:
    """The table of a pack. Raises UsageError when the pack states nothing."""
    if not pack.facts:
        raise UsageError("this pack states nothing, so there is nothing to solve", where=pack.name, do="Add facts")
    return table_of(pack)


def _infeasible(table: Table, norm: Norm, proof: Infeasible, began: float) -> Solution:
    return Solution(
        norm.name,
        "infeasible",
        proof.verdict,
        *(None, None, None),
        seconds=time.perf_counter() - began,
        signatures=len(table.representative),
        rows=proof.rows,
        table=table,
        proof=proof,
    )


def _solved(table: Table, norm: Norm, optimum: Optimum, gap: float, began: float) -> Solution:
    """The solution, certified afresh: the iteration's own bounds are not taken on trust."""
    lower = lower_bound(table.problem, norm, optimum.multipliers)
    unfinished = Solution(
        norm.name,
        "iterations",
        f"Stopped at the limit of {optimum.iterations} iterations, before any matrix stated the whole pack.",
        *(None, lower**norm.power, 1.0),
        seconds=time.perf_counter() - began,
        signatures=len(table.representative),
        iterations=optimum.iterations,
        table=table,
        matrix=optimum.matrix,
        multipliers=optimum.multipliers,
    )
    if optimum.matrix is None:
        return unfinished
    found = certificate(table.problem, norm, optimum.matrix, lower)
    tie = resolution(norm, found.objective, found.gap)
    solution = replace(
        unfinished,
        verdict=f"Stopped at the limit of {optimum.iterations} iterations, proven to be within {found.gap:.2g} only.",
        objective=found.objective,
        lower_bound=found.lower_bound,
        gap=found.gap,
        questions=tuple(answers_of(table, table.problem, optimum.matrix, found.margin, tie)),
    )
    if found.gap > gap:
        return solution
    verdict = f"Optimal: proven to be within {found.gap:.2g} of the least possible."
    return replace(solution, status="optimal", verdict=verdict)


def resolution(norm: Norm, objective: float, gap: float) -> float:
    """Margins up to this are ties. Frobenius: |W - W*|^2 <= objective - optimum, and a margin is 2-Lipschitz in W."""
    return max(1e-9, 2 * np.sqrt(objective * gap)) if norm.power == 2 else max(1e-6, gap)


def _with_ranges(table: Table, norm: Norm, optimum: Optimum, answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """The answers with the range of each margin; equal questions of equal subjects are computed once."""
    assert optimum.matrix is not None
    unit = norm.dual_size(combination(table.problem, force_of(table.problem, optimum.multipliers)))
    start = Start(optimum.matrix, optimum.multipliers / unit)
    solver = RangeSolver(table.problem, norm, optimum.upper, optimum.lower, start)
    return _ranged(table, answers, lambda question, answer, among: solver.margin_range(question, answer, among), start)


def _ranged(
    table: Table, answers: tuple[Answer, ...], margin_range: Callable[..., tuple[float, float]], start: Start
) -> tuple[Answer, ...]:
    subject = {name: index for index, name in enumerate(table.subjects)}
    relation = {name: index for index, name in enumerate(table.relations)}
    known: dict[tuple[int, int], tuple[float, float]] = {}
    found = []
    for answer in answers:
        key = (int(table.signature[subject[answer.subject]]), relation[answer.relation])
        among = table.candidates[key[1]]
        if answer.margin is not None and key not in known:
            scores = table.problem.scores(start.matrix, np.array([key[0]]), np.array([key[1]]))[0]
            known[key] = margin_range(key, int(np.where(among, scores, -np.inf).argmax()), among)
        found.append(ranged(answer, *known[key]) if key in known else answer)
    return tuple(found)


def ranged(answer: Answer, low: float, high: float) -> Answer:
    """The answer with its range; a range that holds both signs leaves it undetermined."""
    predicted = answer.predicted if low > 0 else UNDETERMINED
    return replace(answer, margin_low=low, margin_high=high, predicted=predicted)


def _exactly(task: EqualClasses, norm: str, began: float) -> Solution:
    """A symbolic task by its closed form, one question a class; the optimum is unique, so a range is a point."""
    exact = closed_form(task, norm)
    margin, signatures = exact.margin, task.classes * ((task.train > 0) + (task.test > 0))
    questions = tuple(
        Answer(
            subject=f"s{i}.{task.train}",
            relation=IMPLICATION,
            predicted=f"c{i}" if margin > 0 else UNDETERMINED,
            margin=margin,
            expected=f"c{i}",
            ocr_margin=margin,
            count=task.test,
            margin_low=margin,
            margin_high=margin,
        )
        for i in (task.names if task.test else [])
    )
    gap = max(0.0, 1 - exact.lower_bound / exact.objective)
    verdict = f"Optimal: the closed form, whose multipliers prove it to within {gap:.2g} (rounding)."
    bounds = (exact.objective, min(exact.lower_bound, exact.objective), gap)
    seconds = time.perf_counter() - began
    return Solution(norm, "optimal", verdict, *bounds, seconds, signatures, questions=questions, exact=exact)


@dataclass(frozen=True, eq=False)
class Certified:
    """A certificate for a given matrix, with what it answers to every question. rows: of a pack that nothing states."""

    certificate: Certificate
    questions: tuple[Answer, ...]
    signatures: int
    verdict: str
    rows: tuple[Fact, ...] = ()


def certify(
    pack: Pack,
    matrix: Float[np.ndarray, "answer column"],
    norm: str = "nuclear",
    *,
    gap: float = 1e-4,
    multipliers: Float[np.ndarray, "cell answer"] | None = None,
) -> Certified:
    """Is this matrix feasible, how far is it from the optimum at most, and what does it answer?

    matrix: W, a row an answer and a column a subject, then a relation, in the order of `table_of(pack)`; anything
    finite of that shape. multipliers: a dual of the compressed problem; by default the solver finds one to `gap`.
    Raises UsageError for a wrong shape or numbers that are not finite.
    """
    chosen, table = norm_called(norm), filled_table(pack)
    full = table.full_problem
    given = checked_matrix(table, np.asarray(matrix))
    proof = infeasibility(table)
    if proof is not None:
        margin = float(full.margins(given).min())
        empty = Certificate(norm, margin, False, np.inf, np.inf, 1.0)
        return Certified(empty, (), len(table.representative), proof.verdict, proof.rows)
    if multipliers is None:
        multipliers = minimise(table.problem, chosen, gap).multipliers
    found = certificate(full, chosen, given, lower_bound(table.problem, chosen, multipliers))
    answers = tuple(answers_of(table, full, given, found.margin if found.feasible else 1.0))
    return Certified(found, answers, len(table.representative), found.verdict)


__all__ = ["FACT", "IMPLICATION", "Certified", "EqualClasses", "Solution", "certify", "solve"]
