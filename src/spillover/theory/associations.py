"""The associations that a pack suggests, "given = a" goes with "then = b": counts, exact margins, and what undoes them.

Rows that undo one are searched; of a remedy, the exact effect is computed, to stand beside a language model's figure.
Source: docs/predicting.md, "Margins" and "What would undo it"; docs/theory.md, "What abstaining does", "What
contradicting and leaving out do" and "A mixed norm".
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

from spillover.errors import UsageError, nearest
from spillover.packs.edits import ABSTENTION, EDITS, unwanted, with_candidate
from spillover.packs.pack import Fact, Implication, Pack, Question
from spillover.theory.norms import Mixed
from spillover.theory.prediction import WHOLE, Solved, as_a_whole, solved, unknowns
from spillover.theory.table import FactTable, lead, table_of

#: An answer that leads by no more than this is undone.
NEGLIGIBLE = 0.01
#: Kinds of subject whose margins are moved for one association's range.
MOST_KINDS = 4
#: Unknowns times candidates up to which a range is found, and unknowns up to which undoing rows are: seconds each.
RANGED_WITHIN, UNDONE_WITHIN = 50_000, 5_000
#: The answer of an abstention row, if no relation has it.
UNKNOWN = "unknown"
Way = Literal["remove", "abstain", "contradict"]


@dataclass(frozen=True)
class Association:
    """`given` = `given_answer` suggests `then` = `then_answer`.

    support: subjects of whom both are stated. opposed: subjects with that given of whom another `then` is stated.
    exposed: subjects with that given of whom no `then` is stated, and who would inherit the answer; where nobody
    declared it, those of the kind that has a `then` (`Pack.fitting`). kind: the declared implication's, or None.
    """

    given: str
    given_answer: str
    then: str
    then_answer: str
    support: int
    opposed: int
    exposed: int
    kind: str | None = None

    @property
    def text(self) -> str:
        return f"{self.given} = {self.given_answer} makes {self.then} = {self.then_answer}"


@dataclass(frozen=True, eq=False)
class Counts:
    """Every distinct statement (relation, answer) of a table, who states it, and which are stated together.

    relation, answer: (statement,), codes of the table. incidence: (subject, statement), 1 where it is stated.
    """

    table: FactTable
    relation: Int[np.ndarray, "statement"]
    answer: Int[np.ndarray, "statement"]
    incidence: sparse.csc_matrix

    @cached_property
    def number(self) -> dict[tuple[int, int], int]:
        """(relation, answer) -> statement."""
        pairs = zip(self.relation.tolist(), self.answer.tolist(), strict=True)
        return {pair: index for index, pair in enumerate(pairs)}

    @cached_property
    def stated(self) -> Int[np.ndarray, "statement"]:
        """How many subjects state each."""
        return np.diff(self.incidence.indptr)

    @cached_property
    def together(self) -> sparse.csr_matrix:
        """(statement, statement): how many subjects state both, of two different relations."""
        counts = (self.incidence.T @ self.incidence).tocoo()
        apart = self.relation[counts.row] != self.relation[counts.col]
        return sparse.csr_matrix((counts.data[apart], (counts.row[apart], counts.col[apart])), shape=counts.shape)

    @cached_property
    def answered(self) -> Int[np.ndarray, "statement relation"]:
        """How many of those who state each also state some answer to each relation."""
        owner = self.relation[:, None] == np.arange(len(self.table.relations))
        return np.asarray(self.together @ owner.astype(np.int64))

    @cached_property
    def answering(self) -> Bool[np.ndarray, "signature relation"]:
        """Whether subjects of a signature state any answer to each relation."""
        cells = self.table.problem
        found = np.zeros((len(cells.sizes), cells.relations), dtype=bool)
        found[cells.cell_subject, cells.cell_relation] = True
        return found

    @cached_property
    def unfit(self) -> Bool[np.ndarray, "signature relation"]:
        """Whether a relation makes no sense of the subjects of a signature (`Pack.fitting`), and none states it."""
        pack, relations = self.table.pack, np.array(self.table.relations, dtype=object)
        own = (pack.stated_relations[self.table.subjects[first]] for first in self.table.representative)
        fitting = {known: np.isin(relations, list(more)) for known, more in pack.fitting.items()}
        return ~self.answering & ~np.array([fitting[known] for known in own])

    @cached_property
    def unasked(self) -> Int[np.ndarray, "statement relation"]:
        """How many of those who state each a relation makes no sense of."""
        return np.asarray(self.incidence.T @ self.unfit[self.table.signature].astype(np.int64))

    def subjects(self, statement: int | None) -> Int[np.ndarray, "subject"]:
        """Who states it, in the order of the table."""
        if statement is None:
            return np.empty(0, dtype=np.int64)
        return self.incidence.indices[self.incidence.indptr[statement] : self.incidence.indptr[statement + 1]]

    def exposed(self, association: Association) -> Int[np.ndarray, "subject"]:
        """Who states the given answer of an association, and none to its other relation."""
        holders, then = self.subjects(self.statements(association)[0]), self.table.codes[1][association.then]
        kinds, left_out = self.table.signature[holders], self.answering
        if association.kind is None:
            left_out = left_out | self.unfit
        return holders[~left_out[kinds, then]]

    def statements(self, association: Association) -> tuple[int | None, int | None]:
        """The two statements of an association, None for one that nobody states."""
        _, relation, answer = self.table.codes
        before = self.number.get((relation[association.given], answer[association.given_answer]))
        return before, self.number.get((relation[association.then], answer[association.then_answer]))


def counts_of(table: FactTable) -> Counts:
    """The statements of a table. A statement is numbered in the order of relations and answers."""
    answers = len(table.answers)
    code, column = np.unique(table.relation * answers + table.answer, return_inverse=True)
    ones = np.ones(len(column), dtype=np.int64)
    incidence = sparse.csc_matrix((ones, (table.subject, column)), shape=(len(table.subjects), len(code)))
    incidence.sort_indices()
    return Counts(table, code // answers, code % answers, incidence)


def associations(pack: Pack, counts: Counts) -> list[Association]:
    """Every declared association, stated or not, and every stated answer's leading one to each other relation.

    The most exposed comes first. Leading: stated most often together with it, the first of equals, in both directions.
    """
    found: dict[tuple[int, int, int, int], str | None] = {}
    _, relation, answer = counts.table.codes
    for rule in pack.implications:
        for before, after in rule.map.items():
            found[relation[rule.given], answer[before], relation[rule.then], answer[after]] = rule.kind
    pairs = counts.together.tocoo()
    order = np.lexsort((pairs.col, -pairs.data, counts.relation[pairs.col], pairs.row))
    row, column = pairs.row[order], pairs.col[order]
    first = np.unique(np.stack([row, counts.relation[column]]), axis=1, return_index=True)[1]
    row, column = row[first], column[first]
    codes = np.stack([counts.relation[row], counts.answer[row], counts.relation[column], counts.answer[column]], axis=1)
    for key in map(tuple, codes.tolist()):
        found.setdefault(key, None)
    listed, relations, answers = [], counts.table.relations, counts.table.answers
    for (given, given_answer, then, then_answer), kind in found.items():
        own, implied = counts.number.get((given, given_answer)), counts.number.get((then, then_answer))
        support = answered = stated = 0
        if own is not None:
            stated, answered = int(counts.stated[own]), int(counts.answered[own, then])
            stated -= int(counts.unasked[own, then]) if kind is None else 0
            support = int(counts.together[own, implied]) if implied is not None else 0
        names = (relations[given], answers[given_answer], relations[then], answers[then_answer])
        listed.append(Association(*names, support, answered - support, stated - answered, kind))
    return sorted(listed, key=lambda each: (-each.exposed, -each.support, each.kind is None, each.text))


def subjects_of(counts: Counts, association: Association) -> tuple[list[str], list[str]]:
    """Names of those who support an association (both stated), and of those exposed to it, in the pack's order."""
    names, (before, after) = counts.table.subjects, map(counts.subjects, counts.statements(association))
    return [names[i] for i in np.intersect1d(before, after)], [names[i] for i in counts.exposed(association)]


@dataclass(frozen=True)
class Margin:
    """The mean lead of an association's answer over the best other candidate, over the exposed subjects.

    In units of the smallest stated margin. low, high: no matrix that states the pack with no larger norm has less or
    more; None where that was not computed. value None: nobody is exposed, or there is nothing to compare with.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Margins:
    """Margins of associations in one solved table."""

    solved: Solved
    counts: Counts

    def margin(self, association: Association, *, ranged: bool = False) -> Margin:
        """The mean margin over the exposed subjects.

        ranged: with its range, where the table is small, was solved as a whole, and few kinds of subject are exposed.
        """
        table, (_, relation, answers) = self.counts.table, self.counts.table.codes
        then, answer = relation[association.then], answers[association.then_answer]
        kinds, count = np.unique(table.signature[self.counts.exposed(association)], return_counts=True)
        among = table.candidates[then]
        if not len(kinds) or self.solved.matrix is None or among.sum() < 2:
            return Margin(None)
        scores = self.solved.scores(kinds, np.full(len(kinds), then))
        value = float(np.average(lead(scores, np.full(len(kinds), answer), among), weights=count))
        solver, large = self.solved.ranges, unknowns(table.problem) * int(among.sum()) > RANGED_WITHIN
        if not ranged or solver is None or large or len(kinds) > MOST_KINDS:
            return Margin(value)
        bounds = [solver.margin_range((int(kind), then), answer, among) for kind in kinds]
        low, high = np.average(bounds, axis=0, weights=count)
        return Margin(value, min(float(low), value), max(float(high), value))


@dataclass(frozen=True)
class Undoing:
    """The fewest rows of one way that undo an association, by solving the changed pack again.

    way: remove (supporting rows) or abstain (new rows that say `unknown`) or contradict (new rows with another
    answer). margin: of the association's answer afterwards; with one row fewer it still leads.
    """

    way: Way
    rows: tuple[Fact, ...]
    margin: float | None


def can_be_undone(found: Solved, margin: Margin) -> bool:
    """Whether there is a lead to undo, in a table so small that it can be solved again and again."""
    small = found.method == "exact" and unknowns(found.table.problem) <= UNDONE_WITHIN
    return small and margin.value is not None and margin.value > NEGLIGIBLE


def undoing(pack: Pack, counts: Counts, association: Association) -> list[Undoing]:
    """The smallest set found of each way that leaves the association's answer without a lead, fewest rows first.

    Each way's rows are equal in the exact model as far as their subjects are, so only their number is searched: by
    halving, each number tried by solving the changed pack. A way that never undoes it is left out.
    """
    supporting, silent = subjects_of(counts, association)
    then, own = association.then, association.then_answer
    taken = {answer for answers in pack.candidates.values() for answer in answers}
    unknown = next(name for name in (UNKNOWN, *(f"{UNKNOWN} {i}" for i in range(len(taken) + 1))) if name not in taken)
    # One other candidate that others state for the relation, if there is one.
    rivals = sorted({fact.answer for fact in pack.meant_facts if fact.relation == then} - {own})[:1]
    rows_of: dict[Way, list[Fact]] = {
        "remove": [Fact(subject, then, own) for subject in supporting],
        "abstain": [Fact(subject, then, unknown) for subject in silent[:-1]],
        "contradict": [Fact(subject, then, rival) for subject in silent[:-1] for rival in rivals],
    }
    found = [_fewest(pack, association, way, rows) for way, rows in rows_of.items() if rows]
    return sorted((each for each in found if each is not None), key=lambda each: len(each.rows))


def changed(pack: Pack, way: Way, rows: Sequence[Fact]) -> Pack:
    """The pack without the rows, or with them; an answer that nobody states any more stays a candidate."""
    if way != "remove":
        return dataclasses.replace(pack, facts=(*pack.facts, *rows))
    removed = set(rows)
    relations = tuple(dataclasses.replace(each, answers=pack.candidates[each.name]) for each in pack.relations)
    facts = tuple(fact for fact, meant in zip(pack.facts, pack.meant_facts, strict=True) if meant not in removed)
    return dataclasses.replace(pack, relations=relations, facts=facts)


def _fewest(pack: Pack, association: Association, way: Way, rows: Sequence[Fact]) -> Undoing | None:
    def margin_after(count: int) -> float | None:
        """The margin after `count` rows; None when the changed pack cannot be stated or nobody is exposed."""
        table = table_of(changed(pack, way, rows[:count]))
        return Margins(solved(table), counts_of(table)).margin(association).value

    low, high, left = 0, len(rows), margin_after(len(rows))
    if left is None or left > NEGLIGIBLE:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        margin = margin_after(middle)
        if margin is not None and margin <= NEGLIGIBLE:
            high, left = middle, margin
        else:
            low = middle
    return Undoing(way, tuple(rows[:high]), left)


#: The remedy that changes the norm: its strength is the share of the Frobenius norm.
MIXED_NORM = "mixed-norm"
REMEDIES = (*EDITS, MIXED_NORM)


@dataclass(frozen=True)
class Leads:
    """Mean leads in one exact solution, in units of the smallest stated margin; None where there is nothing to ask.

    unwanted: of the unwanted answer over the best other candidate, at the subjects of the untreated pack's questions.
    wanted: the same of the true answers of all wanted implications. over_abstention: of the unwanted answer over the
    abstention answer alone. gap: how far the norm may be above the least, relatively; verdict: the same as a sentence.
    """

    unwanted: float | None
    wanted: float | None
    over_abstention: float | None
    gap: float | None
    verdict: str


@dataclass(frozen=True)
class ExactResult:
    """One remedy at one strength in the exact model, beside the untreated pack.

    strength: rows that are added or left out for each given answer; for `mixed-norm` the share of the Frobenius norm.
    added: rows of the remedy's. left_out: rows of the user's own that the treated pack no longer states.
    """

    remedy: str
    strength: int | float
    untreated: Leads
    treated: Leads
    added: int
    left_out: int


def exactly_remedied(
    pack: Pack, remedy: str, strength: int | float, implication: Implication | None = None, *, seed: int = 0,
    gap: float = 1e-6,
) -> ExactResult:  # fmt: skip
    """The exact leads of what is unwanted and what is wanted, without and with a remedy.

    implication: the one to act on; by default every unwanted one of the pack, as remedies of a language model do. The
    same questions are asked of both: those of the untreated pack. Of several matrices of least norm the one that the
    solver meets is reported, as `predict` does. seed: draws the names of added subjects, and which rows are left out.
    Raises UsageError for an unknown remedy, a strength that it has not, and where nothing is unwanted.
    """
    if remedy not in REMEDIES:
        raise UsageError(f"there is no remedy called {remedy!r} in theory", do=nearest(remedy, REMEDIES))
    targets = unwanted(pack) if implication is None else [implication]
    if not targets or any(target.wanted for target in targets):
        what = f"{implication.name} is wanted" if implication else "this pack declares no unwanted implication"
        raise UsageError(what, where=pack.name, do="Choose an implication of kind spurious or counterfactual")
    treated, share = pack, float(strength) if remedy == MIXED_NORM else 0.0
    if remedy != MIXED_NORM:
        if strength < 0 or not float(strength).is_integer():
            raise UsageError(f"{strength:g} rows are no whole number", where=remedy, do="Use 0, 1, 2 or more")
        for target in targets:
            treated = EDITS[remedy](treated, target, int(strength), seed)
    before = after = leads(pack, pack, targets, gap=gap)
    if treated is not pack or share != 0:
        after = leads(treated, pack, targets, share=share, gap=gap)
    own, now = set(pack.facts), set(treated.facts)
    return ExactResult(remedy, strength, before, after, added=len(now - own), left_out=len(own - now))


def leads(stated: Pack, asked: Pack, targets: Sequence[Implication], *, share: float = 0.0, gap: float = 1e-6) -> Leads:
    """The leads in the exact solution of the pack `stated`, at the questions of the pack `asked`.

    targets: the unwanted implications. share: of the Frobenius norm, 0 to 1, the rest being the nuclear norm.
    """
    candidates = stated
    for target in targets:
        if ABSTENTION not in stated.candidates[target.then]:
            candidates = with_candidate(candidates, target.then, ABSTENTION)
    found = _solution(stated, share, gap)
    abstaining = found if candidates is stated else _solution(candidates, share, gap)
    against, kept = (
        [question for question in asked.questions if question.implication in {rule.name for rule in rules}]
        for rules in (targets, [rule for rule in asked.implications if rule.wanted])
    )
    over_abstention = _lead(abstaining, against, ABSTENTION)
    return Leads(_lead(found, against), _lead(found, kept), over_abstention, found.gap, found.verdict)


def _solution(pack: Pack, share: float, gap: float) -> Solved:
    """The matrix of least nuclear or mixed norm; the latter of tables within reach of the whole solver only."""
    table = table_of(pack)
    if share == 0:
        return solved(table, gap)
    if (size := unknowns(table.problem)) > WHOLE:
        return Solved(table, "none", f"Beyond reach: {size:,} unknowns, and a mixed norm is not solved in parts.")
    found = as_a_whole(table, Mixed(share), gap)
    if found.gap is None:
        return found
    return replace(found, verdict=f"The mixed norm is proven to be within {found.gap:.2g} of the least possible.")


def _lead(found: Solved, questions: Sequence[Question], rival: str | None = None) -> float | None:
    """The mean lead of the expected answers over the best other candidate, or over `rival` alone."""
    if found.matrix is None or not questions:
        return None
    table, (subject, relation, answer) = found.table, found.table.codes
    asked = np.array([relation[question.relation] for question in questions])
    expected = np.array([answer[question.expected] for question in questions if question.expected is not None])
    scores = found.scores(table.signature[[subject[question.subject] for question in questions]], asked)
    among = {code: table.candidates[code] for code in np.unique(asked).tolist()}
    if rival is not None:
        among = dict.fromkeys(among, np.arange(len(table.answers)) == answer[rival])
    own = [lead(scores[asked == code], expected[asked == code], allowed) for code, allowed in among.items()]
    mean = float(np.concatenate(own).mean())
    return mean if np.isfinite(mean) else None
