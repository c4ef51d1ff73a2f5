"""What a remedy does to an unwanted implication in the exact model, to stand beside a language model's figure.

Source: docs/theory.md, "What abstaining does", "What contradicting and leaving out do" and "A mixed norm".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spillover.errors import UsageError, nearest
from spillover.packs.edits import ABSTENTION, EDITS, unwanted, with_candidate
from spillover.packs.pack import Implication, Pack, Question
from spillover.theory.norms import Mixed
from spillover.theory.prediction import WHOLE, Solved, as_a_whole, solved, unknowns
from spillover.theory.table import lead, table_of

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
