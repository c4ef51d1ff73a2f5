"""Solve a pack or a symbolic task, or certify a matrix: the two entry points of the exact theory.

Source: docs/theory.md, all of it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from spillover.errors import UsageError
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Pack
from spillover.theory.certificate import (
    UNDETERMINED,
    Answer,
    Certificate,
    Multipliers,
    answers_of,
    certificate,
    checked_matrix,
    lower_bound,
)
from spillover.theory.closed_form import ClosedForm, closed_form
from spillover.theory.feasibility import infeasibility
from spillover.theory.norms import Norm, norm_called
from spillover.theory.ranges import RangeSolver
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import IMPLICATION, EqualClasses
from spillover.theory.table import FactTable, Weights, table_of

#: Questions that a printed solution lists.
MOST_DESCRIBED = 20


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Verdict:
    """What is said of a pack: a sentence, kinds of subject, answers to its questions, and rows that are to blame."""

    norm: str
    verdict: str
    signatures: int
    questions: tuple[Answer, ...] = ()
    rows: tuple[Fact, ...] = ()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ({self.norm} norm): {self.verdict}", *self.lines(MOST_DESCRIBED)]
        more = len(self.questions) - MOST_DESCRIBED
        return "\n".join([*lines, f"  and {more:,} more questions"] if more > 0 else lines)

    def lines(self, most: int, ranges: bool = False) -> list[str]:
        """Up to `most` rows to blame, and answers: who, what, the answer, its lead, and what was expected."""
        found = ["  " + " | ".join(row) for row in self.rows[:most]]
        for each in self.questions[:most]:
            margin = "nothing to compare with" if each.margin is None else f"leads by {each.margin:.4f}"
            if ranges and each.margin_low is not None:
                margin += f" (from {each.margin_low:.4f} to {each.margin_high:.4f})"
            expected = "" if each.expected is None else f"; expected {each.expected}"
            many = f" and {each.count - 1} like it" if each.count > 1 else ""
            found.append(f"  {each.subject}{many} | {each.relation}: {each.predicted}, {margin}{expected}")
        return found

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Solution(_Verdict):
    """The matrix of least norm that states a pack, how sure that is, and what it answers to every question.

    status: optimal, infeasible or iterations; verdict says it as a sentence. objective: the nuclear norm, or the
    squared Frobenius norm, of a feasible matrix; None if none was met. gap: (objective - lower_bound) / objective.
    rows: of an infeasible pack, those that cannot be stated together. table, matrix, multipliers: the compressed
    problem's names, scaled matrix (answer, column) and dual (cell, answer); exact: a symbolic task's solution instead.
    """

    status: str
    objective: float | None = None
    lower_bound: float | None = None
    gap: float | None = None
    seconds: float = 0.0
    iterations: int = 0
    table: FactTable | None = None
    matrix: Weights | None = None
    multipliers: Multipliers | None = None
    exact: ClosedForm | None = None

    def weights(self) -> Weights:
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
    return {name: value for name, value in asdict(answer).items() if ranges or not name.startswith("margin_")}


def solve(
    pack: Pack | EqualClasses | str | Path,
    norm: str = "nuclear",
    *,
    gap: float = 1e-4,
    ranges: bool = False,
    max_iterations: int = 20_000,
) -> Solution:
    """The max-margin solution of a pack, certified to a relative gap; a symbolic task's is exact.

    Arguments:
    - pack: a pack, its name or path, or a symbolic task.
    - norm: nuclear (what the factorised model prefers) or frobenius (the merged one).
    - gap: stop when (objective - lower bound) / objective is proven to be at most this.
    - ranges: also how far every question's margin may move among matrices that are no worse than the one reported.
    - max_iterations: of the splitting method.

    Returns: a Solution: status, objective, bounds, and an Answer for every question.

    Raises: UsageError for a norm, gap or limit that makes no sense, and for a pack that states nothing; PackError for a
    pack that cannot be opened.
    """
    chosen = norm_called(norm)
    if not 1e-10 <= gap < 1:
        raise UsageError(f"a gap of {gap:g} cannot be certified", where="gap", do="Give one from 1e-10 to below 1")
    if max_iterations < 1:
        raise UsageError(f"{max_iterations} iterations solve nothing", where="max-iterations", do="Give at least 1")
    began = time.perf_counter()
    if isinstance(pack, EqualClasses):
        solution = _exactly(pack, norm)
    else:
        solution = _numerically(filled_table(pack), chosen, gap, ranges, max_iterations)
    return replace(solution, seconds=time.perf_counter() - began)


def filled_table(pack: Pack | str | Path) -> FactTable:
    """The table of a pack, its name or path. Raises UsageError when the pack states nothing."""
    opened = pack if isinstance(pack, Pack) else open_pack(pack)
    if not opened.facts:
        raise UsageError("this pack states nothing, so there is nothing to solve", where=opened.name, do="Add facts")
    return table_of(opened)


def _exactly(task: EqualClasses, norm: str) -> Solution:
    """A symbolic task by its closed form, one question a class; the optimum is unique, so a range is a point."""
    exact = closed_form(task, norm)
    margin, gap = exact.margin, max(0.0, 1 - exact.lower_bound / exact.objective)
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
    return Solution(
        norm=norm,
        status="optimal",
        verdict=f"Optimal: the closed form, whose multipliers prove it to within {gap:.2g} (rounding).",
        signatures=task.classes * ((task.train > 0) + (task.test > 0)),
        objective=exact.objective,
        lower_bound=min(exact.lower_bound, exact.objective),
        gap=gap,
        questions=questions,
        exact=exact,
    )


def _numerically(table: FactTable, norm: Norm, gap: float, ranges: bool, max_iterations: int) -> Solution:
    """A table by the splitting method, certified afresh: the iteration's own bounds are not taken on trust."""
    solution = Solution(
        norm=norm.name, status="infeasible", verdict="", signatures=len(table.representative), table=table
    )
    if (proof := infeasibility(table)) is not None:
        return replace(solution, verdict=proof.verdict, rows=proof.rows)
    # The Frobenius margins follow from the gap, and a hundredth of it costs next to nothing.
    target = gap * 1e-2 if norm.power == 2 else gap
    optimum = minimise(table.problem, norm, max(target, 1e-12), max_iterations)
    lower = lower_bound(table.problem, norm, optimum.multipliers)
    limit = f"Stopped at the limit of {optimum.iterations} iterations"
    solution = replace(
        solution,
        status="iterations",
        verdict=f"{limit}, before any matrix stated the whole pack.",
        lower_bound=lower**norm.power,
        gap=1.0,
        iterations=optimum.iterations,
        matrix=optimum.matrix,
        multipliers=optimum.multipliers,
    )
    if optimum.matrix is None:
        return solution
    found = certificate(table.problem, norm, optimum.matrix, lower)
    # Margins up to this are ties. Frobenius: |W - W*|^2 <= objective - optimum, and a margin is 2-Lipschitz in W.
    tie = max(1e-9, 2 * np.sqrt(found.objective * found.gap)) if norm.power == 2 else max(1e-6, found.gap)
    answers = answers_of(table, table.problem, optimum.matrix, found.margin, tie)
    verdict = f"{limit}, proven to be within {found.gap:.2g} only."
    if proven := found.gap <= gap:
        verdict = f"Optimal: proven to be within {found.gap:.2g} of the least possible."
    return replace(
        solution,
        status="optimal" if proven else "iterations",
        verdict=verdict,
        objective=found.objective,
        lower_bound=found.lower_bound,
        gap=found.gap,
        questions=tuple(_with_ranges(table, RangeSolver(table.problem, norm, optimum), answers) if ranges else answers),
    )


def _with_ranges(table: FactTable, solver: RangeSolver, answers: list[Answer]) -> list[Answer]:
    """The answers with the range of each margin; a range that holds both signs leaves its answer undetermined.

    Equal questions of equal subjects are computed once.
    """

    @cache
    def margin_range(signature: int, relation: int) -> tuple[float, float]:
        among = table.candidates[relation]
        scores = table.problem.scores_at(solver.matrix, signature, relation)
        return solver.margin_range((signature, relation), int(np.where(among, scores, -np.inf).argmax()), among)

    found = []
    for answer in answers:
        if answer.margin is not None:
            signature = int(table.signature[table.codes[0][answer.subject]])
            low, high = margin_range(signature, table.codes[1][answer.relation])
            predicted = answer.predicted if low > 0 else UNDETERMINED
            answer = replace(answer, margin_low=low, margin_high=high, predicted=predicted)
        found.append(answer)
    return found


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Certified(_Verdict):
    """A certificate for a given matrix, with what it answers to every question.

    signatures: kinds of subject. verdict: a sentence. rows: of a pack that no matrix states, those to blame.
    """

    certificate: Certificate


def certify(
    pack: Pack | str | Path,
    matrix: Weights,
    norm: str = "nuclear",
    *,
    gap: float = 1e-4,
    multipliers: Multipliers | None = None,
) -> Certified:
    """Is this matrix feasible, how far is it from the optimum at most, and what does it answer?

    Arguments:
    - pack: a pack, its name or path.
    - matrix: W, (answer, subject then relation), in the order of `table_of(pack)`; any finite numbers.
    - norm: nuclear or frobenius.
    - gap: to which the solver finds a dual.
    - multipliers: (cell, answer), a dual of the compressed problem to use instead of the solver's.

    Returns: a Certified, with the Certificate and an Answer for every question.

    Raises: UsageError for a wrong shape or numbers that are not finite; PackError for a pack that cannot be opened.
    """
    chosen, table = norm_called(norm), filled_table(pack)
    full, kinds = table.full_problem, len(table.representative)
    given = checked_matrix(table, np.asarray(matrix))
    if (proof := infeasibility(table)) is not None:
        nothing = Certificate(norm, float(full.margins(given).min()), False, np.inf, np.inf, 1.0)
        return Certified(norm=norm, verdict=proof.verdict, signatures=kinds, rows=proof.rows, certificate=nothing)
    if multipliers is None:
        multipliers = minimise(table.problem, chosen, gap).multipliers
    found = certificate(full, chosen, given, lower_bound(table.problem, chosen, multipliers))
    answers = tuple(answers_of(table, full, given, found.margin if found.feasible else 1.0))
    return Certified(norm=norm, verdict=found.verdict, signatures=kinds, questions=answers, certificate=found)
