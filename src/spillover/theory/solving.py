"""Solve a pack or a symbolic task, or certify a matrix: the two entry points of the exact theory.

Source: docs/theory.md, all of it.
"""

import time
from dataclasses import asdict, dataclass, replace
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
    infeasibility,
    lower_bound,
)
from spillover.theory.closed_form import ClosedForm, DeepForm, closed_form, deep_form
from spillover.theory.norms import Norm, norm_called
from spillover.theory.splitting import RangeSolver, minimise
from spillover.theory.symbolic import IMPLICATION, EqualClasses
from spillover.theory.table import FactTable, Weights, table_of

#: Rows and questions that are printed.
MOST_SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Verdict:
    """What is said of a pack: a sentence, kinds of subject, answers to its questions, and rows that are to blame."""

    norm: str
    verdict: str
    signatures: int
    questions: tuple[Answer, ...] = ()
    rows: tuple[Fact, ...] = ()

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__} ({self.norm} norm): {self.verdict}", *self.lines()])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def lines(self, ranges: bool = True, rest: str = "") -> list[str]:
        """The first rows to blame, and questions: who, what, the answer, its lead, and what was expected.

        rest: what to say of those that are left out, after their number.
        """
        found = [f"  {row.subject} | {row.relation} | {row.answer}" for row in self.rows[:MOST_SHOWN]]
        for each in self.questions[:MOST_SHOWN]:
            margin = "nothing to compare with" if each.margin is None else f"leads by {each.margin:.4f}"
            if ranges and each.margin_low is not None:
                margin += f" (from {each.margin_low:.4f} to {each.margin_high:.4f})"
            expected = "" if each.expected is None else f"; expected {each.expected}"
            many = f" and {each.count - 1} like it" if each.count > 1 else ""
            found.append(f"  {each.subject}{many} | {each.relation}: {each.predicted}, {margin}{expected}")
        more = max(len(self.rows), len(self.questions)) - MOST_SHOWN
        return [*found, f"  and {more} more{rest}"] if more > 0 else found

    def as_json(self, ranges: bool = False) -> dict[str, Any]:
        """The keys that `--json` prints; the range of a margin only when it was asked for, rows only to blame."""
        questions = [
            {name: value for name, value in asdict(answer).items() if ranges or not name.startswith("margin_")}
            for answer in self.questions
        ]
        rows = {"rows": [row._asdict() for row in self.rows]} if self.rows else {}
        return {"signatures": self.signatures, "questions": questions, **rows}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Solution(_Verdict):
    """The matrix of least norm that states a pack, how sure that is, and what it answers to every question.

    status: optimal, infeasible, iterations, or symmetric (least among matrices that treat all classes alike); verdict
    says it as a sentence. objective: the nuclear norm, the squared Frobenius norm, or the sum of singular values to 2 /
    depth, of a feasible matrix; None if none was met. gap: (objective - lower_bound) / objective.
    table, matrix, multipliers: names, scaled matrix and dual of the compressed problem; exact: for symbolic tasks.
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
    exact: ClosedForm | DeepForm | None = None

    def weights(self) -> Weights:
        """W itself: a row an answer, a column a subject, then a column a relation. Raises UsageError without one."""
        if self.exact is not None:
            return self.exact.matrix.dense()
        if self.table is None or self.matrix is None:
            raise UsageError("there is no matrix, because " + self.verdict, where="solve", do="Mend the pack first")
        return self.table.expand(self.matrix)

    def as_json(self, ranges: bool = False) -> dict[str, Any]:
        names = ("norm", "objective", "lower_bound", "gap", "status", "verdict", "seconds", "signatures", "iterations")
        return {name: getattr(self, name) for name in names} | super().as_json(ranges)


def solve(
    pack: Pack | EqualClasses | str | Path,
    norm: str = "nuclear",
    *,
    depth: int = 2,
    gap: float = 1e-4,
    ranges: bool = False,
    max_iterations: int = 20_000,
) -> Solution:
    """The max-margin solution of a pack, certified to a relative gap; a symbolic task's is exact.

    Arguments:
    - pack: a pack, its name or path, or a symbolic task.
    - norm: nuclear (what the factorised model prefers) or frobenius (the merged one).
    - depth: matrices whose product is solved for: 2 is the attention model, 3 or more a linear embedding-MLP, which has
      a closed form for symbolic tasks.
    - gap: stop when (objective - lower bound) / objective is proven to be at most this.
    - ranges: also how far every question's margin may move among matrices no worse than the one reported.
    - max_iterations: of the splitting method.

    Returns: a Solution: status, objective, bounds, and an Answer for every question.

    Raises: UsageError for a norm, depth, gap or limit that makes no sense, or an empty pack; PackError for one with
    faults.
    """
    chosen = norm_called(norm)
    if depth != 2 and (norm != "nuclear" or not isinstance(pack, EqualClasses)):
        what = f"a depth of {depth} is solved for the symbolic task and the nuclear norm alone"
        raise UsageError(what, where="depth", do="Give --symbolic n=20,train=1,test=3, or leave it out")
    if not 1e-10 <= gap < 1:
        raise UsageError(f"a gap of {gap:g} cannot be certified", where="gap", do="Give one from 1e-10 to below 1")
    if max_iterations < 1:
        raise UsageError(f"{max_iterations} iterations solve nothing", where="max-iterations", do="Give at least 1")
    began = time.perf_counter()
    if isinstance(pack, EqualClasses):
        solution = _exactly(pack, norm, depth)
    else:
        solution = _numerically(filled_table(pack), chosen, gap, ranges, max_iterations)
    return replace(solution, seconds=time.perf_counter() - began)


def filled_table(pack: Pack | str | Path) -> FactTable:
    """The table of a pack, its name or path. Raises UsageError when the pack states nothing."""
    opened = pack if isinstance(pack, Pack) else open_pack(pack)
    if not opened.facts:
        raise UsageError("this pack states nothing, so there is nothing to solve", where=opened.name, do="Add facts")
    return table_of(opened)


def _exactly(task: EqualClasses, norm: str, depth: int) -> Solution:
    """A symbolic task by its closed form, one question a class; an optimum of depth 2 is unique: a range is a point."""
    exact = closed_form(task, norm) if depth == 2 else deep_form(task, depth)
    known = ("margin", "ocr_margin", "margin_low", "margin_high") if depth == 2 else ("margin", "ocr_margin")
    margin, gap = exact.margin, max(0.0, 1 - exact.lower_bound / exact.objective)
    questions = tuple(
        Answer(
            subject=f"s{i}.{task.train}",
            relation=IMPLICATION,
            predicted=f"c{i}" if margin > 0 else UNDETERMINED,
            expected=f"c{i}",
            count=task.test,
            **dict.fromkeys(known, margin),
        )
        for i in (task.names if task.test else [])
    )
    verdict = f"Optimal: the closed form, whose multipliers prove it to within {gap:.2g} (rounding)."
    if depth != 2:
        alike = f"Of matrices that treat all classes alike, proven to be within {gap:.2g} of the least"
        verdict = f"{alike} sum of singular values to the power {2 / depth:.2g}; others may be smaller."
    return Solution(
        norm=norm,
        status="optimal" if depth == 2 else "symmetric",
        verdict=verdict,
        signatures=task.classes * ((task.train > 0) + (task.test > 0)),
        objective=exact.objective,
        lower_bound=min(exact.lower_bound, exact.objective),
        gap=gap,
        questions=questions,
        exact=exact,
    )


def _numerically(table: FactTable, norm: Norm, gap: float, ranges: bool, max_iterations: int) -> Solution:
    """A table by the splitting method; what it found is certified afresh, and not taken on trust."""
    solution = Solution(
        norm=norm.name, status="infeasible", verdict="", signatures=len(table.representative), table=table
    )
    if (proof := infeasibility(table)) is not None:
        return replace(solution, verdict=proof.verdict, rows=proof.rows)
    # The Frobenius margins follow from the gap, and a hundredth of it costs next to nothing.
    optimum = minimise(table.problem, norm, max(gap * 1e-2 if norm.power == 2 else gap, 1e-12), max_iterations)
    matrix, dual, iterations = optimum.matrix, optimum.multipliers, optimum.iterations
    solution = replace(solution, status="iterations", matrix=matrix, multipliers=dual, iterations=iterations)
    limit = f"Stopped at the limit of {iterations} iterations"
    if matrix is None:
        verdict = f"{limit}, before any matrix stated the whole pack."
        return replace(solution, verdict=verdict, lower_bound=optimum.lower**norm.power, gap=1.0)
    found = certificate(table.problem, norm, matrix, lower_bound(table.problem, norm, dual))
    # Margins up to this are ties. Frobenius: |W - W*|^2 <= objective - optimum, and a margin is 2-Lipschitz in W.
    tie = max(1e-9, 2 * np.sqrt(found.objective * found.gap)) if norm.power == 2 else max(1e-6, found.gap)
    margin_range = RangeSolver(table.problem, norm, optimum).margin_range if ranges else None
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
        questions=answers_of(table, table.problem, matrix, found.margin, tie, margin_range),
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Certified(_Verdict):
    """A certificate for a given matrix, with what it answers to every question."""

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
    answers = answers_of(table, full, given, found.margin if found.feasible else 1.0)
    return Certified(norm=norm, verdict=found.verdict, signatures=kinds, questions=answers, certificate=found)
