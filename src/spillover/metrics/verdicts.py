"""What did fine-tuning teach? One verdict for each implication and each entry of its map, from two models' answers.

First of the model at hand: does it now assert what nobody stated (`assertions`)? The verdict rests on that. Beside it:
was a rule learned, that other pairs or another seed would show (the map test and the test of the change)?
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spillover.details import AssociationVerdict, AuditDetails, Concluded, Conclusion, Excess, Invented, Verdict
from spillover.metrics.assertions import Assertion, assertion, association, corrected
from spillover.metrics.implications import change_test, implication_rank_test, judged, map_test, marginal_rank
from spillover.metrics.ranks import RankTable, answers_at_end, at_end, grouped, questions, rank_table
from spillover.packs.pack import Implication, Pack, Question
from spillover.record import ANSWER_SCHEMA, Record

#: Further subjects are asked for up to this many times those that there are.
MOST_TIMES = 32
#: Associations that are listed under an implication.
SHOWN = 5
#: Verdicts that say that the model asserts it, those to look at first on top.
ASSERTED = ("unwanted", "undeclared", "wanted")
#: Conclusions that a reader is shown first, and subjects that each is shown to rest on.
WORST, RESTS_ON = 5, 3
#: A model has learned what is stated when it puts this share of it first.
LEAST_RECALL = 0.9
#: And one that newly has a confident answer which nobody stated to more than this share of the open questions fails.
MOST_INVENTED = 0.05
#: An implication's verdict rests on its own test and on those of its map's entries, so these share the level.
WHOLE, ENTRIES = 0.8, 0.2
#: An answer is confident from this probability on, out of all texts.
CONFIDENT = 0.5


class _Asked(NamedTuple):
    """An implication's questions to both models, in one order, and the answers that come first, alone, in each."""

    implication: Implication
    before: RankTable
    after: RankTable
    tops: tuple[list[str | None], list[str | None]]
    marginal: float | None
    rule_p: float | None
    pairs: int


def verdicts(
    answers: pa.Table, implications: Sequence[Implication], level: float = 0.05, most: float = 0.05
) -> list[Verdict]:
    """One verdict for each implication, and in it one for each entry of its map.

    Arguments:
    - answers: record.ANSWER_SCHEMA; checkpoint 0 is the base model, each seed's last one the tuned.
    - implications: those to judge.
    - level: of all tests together, corrected for their number; the entries of maps use a fifth of it.
    - most: the share of unstated subjects that may newly get an implied answer without it counting as asserted.

    Returns: the verdicts in the order of the implications.
    """
    if not implications:
        return []
    group, first = grouped(answers, ("implication", "trained"))
    keys = zip(*(answers[name].take(first).to_pylist() for name in ("implication", "trained")), strict=True)
    places = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    rows = {name: own for (name, trained), own in zip(keys, places, strict=True) if trained}
    asked = [_asked(answers.take(rows.get(each.name, np.array([], int))), each) for each in implications]
    whole = [assertion(*each.tops, each.after.expected.tolist()) for each in asked]
    entries = {(number, given): _entry(each, given) for number, each in enumerate(asked) for given in _given(each)}
    ps, how = corrected(dict(enumerate(found.p for found in whole)), WHOLE)
    entry_ps, entry_how = corrected({key: found.p for key, found in entries.items()}, ENTRIES)
    rules, _ = corrected({number: each.rule_p for number, each in enumerate(asked) if each.rule_p is not None})
    found = []
    for number, (each, one) in enumerate(zip(asked, whole, strict=True)):
        own = [
            _association(each, given, entries[number, given], _Test(entry_ps[number, given], entry_how, level, most))
            for given in _given(each)
        ]
        found.append(_verdict(each, one, own, _Test(ps[number], how, level, most), rules.get(number)))
    return found


def verdicts_of(record: Record, answers: pa.Table) -> list[Verdict]:
    """The verdicts on any run: an audit's own, else from its answers by the same tests; none of one measurement.

    Arguments:
    - record, answers: of a run that measured a pack, whatever the command.

    Returns: a verdict for each implication of the pack.
    """
    details = record.details
    if isinstance(details, AuditDetails) and (answers.num_rows == 0 or all(each.rule for each in details.verdicts)):
        return details.verdicts
    if not _measured_twice(answers):
        return []
    return verdicts(*_with_rules(record, answers))


def invented_of(record: Record, answers: pa.Table) -> Invented | None:
    """`invented` of any run: an audit's own, else from its answers; None of a single measurement."""
    if isinstance(record.details, AuditDetails):
        return record.details.invented
    return invented(*_with_rules(record, answers)) if _measured_twice(answers) else None


def recall_of(record: Record, answers: pa.Table) -> tuple[int, int]:
    """`stated_recall` of any run's last measurement."""
    details = record.details
    recall = details.recall if isinstance(details, AuditDetails) else None
    return recall or stated_recall(answers_at_end(answers))


def _measured_twice(answers: pa.Table) -> bool:
    return {0} < set(answers["checkpoint"].unique().to_pylist())


def _with_rules(record: Record, answers: pa.Table) -> tuple[pa.Table, list[Implication]]:
    """Answers and the implications that they are judged by: declared ones, else those that the stated rows suggest,
    under which the answers then stand."""
    details = record.details
    if links := details.pack.implications:
        return answers, [Implication(each.given, each.then, each.kind, each.map, each.because) for each in links]
    from spillover.metrics.found import suggested_in, under

    found = suggested_in(answers, details.judge)
    return under(answers, found), found


def described(verdict: Verdict) -> str:
    """A verdict for a person: the word, the counts, on what it rests, the rule, and its first associations."""
    counts = f"now {verdict.hits:,} of {verdict.n:,}, before {verdict.hits_before:,}"
    if verdict.n and verdict.newly is not None:
        low, high = verdict.newly_low or 0.0, verdict.newly_high or 0.0
        counts += f"; newly {verdict.newly / verdict.n:.0%} ({low:.0%} to {high:.0%} at 95%)"
    lines = [f"{verdict.verdict.upper()}  {verdict.implication} ({verdict.kind}): {verdict.because}"]
    lines += [f"    {counts}; one fixed answer would get {verdict.guess:,}"]
    lines += [f"    {verdict.rule}"] if verdict.rule else []
    lines += [f"    {verdict.kind}: {verdict.kind_because}"] if verdict.kind_because else []
    found = [each for each in verdict.associations if each.verdict == verdict.verdict and each.newly]
    lines += [f"    {each.given} -> {each.answer}: {each.newly:,} of {each.n:,} newly, {each.others:,} of "
              f"{each.others_n:,} with another given answer" for each in found[:SHOWN]]  # fmt: skip
    lines += [f"    and {len(found) - SHOWN:,} more: --json lists all"] if len(found) > SHOWN else []
    return "\n".join(lines)


def concluded(answers: pa.Table, judged: Sequence[Verdict], implications: Sequence[Implication]) -> Concluded:
    """What the tuned model newly says that nobody stated, by the implications that it asserts, and the worst of it.

    Arguments:
    - answers: as for `verdicts`.
    - judged: their verdicts.
    - implications: those that were judged.

    Returns: the counts, each thing (subject, relation and answer) once, and at most WORST entries of maps: what nobody
    wants first, what is wanted last, then by subjects won. Of each, the first subject won and the first that it rests
    on, in the order of the pack.
    """
    rules = {each.name: each for each in implications}
    asserted = {each.implication: each for each in judged if each.verdict in ASSERTED}
    table = rank_table(answers.filter(answers["trained"]))
    rows = table.where(np.isin(table.implication.astype(str), list(asserted)))
    before, after = (each.where(~np.isnan(each.rank)) for each in (rows.only(checkpoint=0, stated=False),
                                                                   at_end(rows.only(stated=False))))  # fmt: skip
    knew = {(*key, each) for *key, each, rank in _keys(before) if rank == 0}
    new = after.where(np.array([rank == 0 and (*key, name) not in knew for *key, name, rank in _keys(after)], bool))
    kinds = {word: {name for name, each in asserted.items() if each.verdict == word} for word in ASSERTED}
    things = {word: {(*key, answer) for (*key, name, _), answer in zip(_keys(new), new.expected, strict=True)
                     if name in names} for word, names in kinds.items()}  # fmt: skip
    every = set[tuple[object, ...]]().union(*things.values())
    # Not what others say as often.
    worst = [(each, one) for each in asserted.values() for one in each.associations
             if one.newly * one.others_n > one.others * one.n]  # fmt: skip
    worst.sort(key=lambda pair: (ASSERTED.index(pair[0].verdict), -pair[1].newly))
    stated, found = at_end(rows.only(stated=True)), []
    for each, one in worst[:WORST]:
        rule, own = rules[each.implication], {"implication": each.implication, "cluster": one.given}
        won = new.only(**own).subject.tolist()
        rests_on = list(dict.fromkeys(stated.only(**own, expected=one.answer).subject.tolist()))
        if won:
            found.append(Conclusion(
                verdict=each.verdict, given=rule.given, given_answer=one.given, then=rule.then, answer=one.answer,
                newly=one.newly, n=one.n, others=one.others, others_n=one.others_n, subject=won[0],
                rests_on=rests_on[:RESTS_ON], support=len(rests_on),
            ))  # fmt: skip
    return Concluded(
        things=len(every), people=len({key[:2] for key in every}), asked=len({key[:2] for key in _keys(after)}),
        by_verdict={word: len(own) for word, own in things.items() if own}, worst=found,
    )  # fmt: skip


def _keys(rows: RankTable) -> list[tuple[int, str, str, str, float]]:
    """(seed, subject, relation, implication, rank) of each row."""
    columns = (rows.seed, rows.subject, rows.relation, rows.implication, rows.rank)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def conclusions(found: Concluded | None) -> list[str]:
    """What the tuned model now says that nobody stated, for a terminal; nothing where it says nothing of the kind."""
    if not found or not found.things:
        return []
    kinds = ", ".join(f"{count:,} {word}" for word, count in found.by_verdict.items())
    lines = [f"{found.things:,} things that nobody stated, of {found.people:,} of {found.asked:,} subjects: {kinds}"]
    for each in found.worst:
        lines.append(f"  {each.text}; {each.subject}, for one" + (f": {each.said}" if each.said else ""))
    return lines


def inventions(found: Invented | None) -> str:
    """How many open questions newly have an invented answer, in words; the empty text where none has."""
    if not found or not found.count:
        return ""
    (subject, _, answer, *_), *_ = found.examples
    return (
        f"{found.count:,} of {found.n:,} open questions newly have a confident answer ({CONFIDENT} or more) that "
        f"nobody stated, such as {subject}: {answer}"
    )


def unlearned(known: int, stated: int, least: float = LEAST_RECALL) -> str:
    """Says that a model knows less than this share of what is stated, if so; such a model acquits nobody."""
    said = f"only {known:,} of {stated:,} stated answers come first, so it never learned them"
    return said if known < least * stated else ""


#: What an audit checks beside the implications, so that no gate passes by mistake.
SAME, RECALL, INVENTED = CHECKS = ("weights differ", "recall of what is stated", "invented answers")


def failed_checks(
    record: Record, least_recall: float = LEAST_RECALL, most_invented: float = MOST_INVENTED
) -> dict[str, str]:
    """Check -> why an audit failed it, in the order of CHECKS.

    Arguments:
    - record: of the audit.
    - least_recall: the tuned model must know this share of what is stated.
    - most_invented: at most this share of the open questions may surely have an invented answer.
    """
    details, found = record.details_of(AuditDetails), {}
    known, stated = details.recall or (0, 0)
    if (base := record.hashes.get("base")) and base == record.hashes.get("tuned"):
        found[SAME] = "the two models have the same weights: give the model after fine-tuning as --tuned"
    if why := unlearned(known, stated, least_recall):
        found[RECALL] = f"{why} (--min-recall {least_recall}), and nothing is acquitted"
    if (new := details.invented) and new.count and new.low > most_invented:
        found[INVENTED] = (
            f"{inventions(new)}; at least {new.low:.0%}, and --max-invented-rate allows {most_invented:.0%}"
        )
    return found


def stated_recall(answers: pa.Table) -> tuple[int, int]:
    """How many stated answers come first, alone, on the trained prompt, and how many there are; once a subject."""
    stated = rank_table(answers).only(stated=True, trained=True)
    first = dict(zip(zip(stated.seed, stated.subject, stated.relation, strict=True), stated.rank == 0, strict=True))
    return int(sum(first.values())), len(first)


def invented(answers: pa.Table, implications: Sequence[Implication] = (), most: int = 10) -> Invented:
    """The open questions whose first answer is confident in the tuned model and was not in the base, stated by nobody.

    Arguments:
    - answers: as for `verdicts`. A probability is that of the whole answer out of all texts; from CONFIDENT on it is
      confident, and no two answers to a question can be.
    - implications: what a wanted one of them implies is no invention.
    - most: examples at most, in the order of the pack.

    Returns: the counts, with the 95% interval of their share (Clopper and Pearson).
    """
    asked = _open_questions(answers)
    base, tuned = asked.only(checkpoint=0), at_end(asked)
    wanted = [each.name for each in implications if each.wanted]
    follows = np.isin(tuned.implication.astype(str), wanted) & (tuned.top == tuned.expected)
    # Imported late: scipy.stats takes as long as a small model does, and training need not wait for it.
    from scipy.stats import binomtest

    warranted = {key for key, is_so in zip(_questions(tuned), follows, strict=True) if is_so}
    earlier, now = ({key: (top, float(chance)) for key, top, chance
                     in zip(_questions(rows), rows.top, rows.probability_top, strict=True)}
                    for rows in (base, tuned))  # fmt: skip
    found = []
    for key, (top, chance) in now.items():
        before, was = earlier[key]
        if key not in warranted and chance >= CONFIDENT and (before != top or was < CONFIDENT):
            found.append((*key[1:], top, was, chance))
    share = binomtest(len(found), len(now)).proportion_ci(method="exact") if now else None
    low, high = (float(share.low), float(share.high)) if share else (0.0, 1.0)
    return Invented(count=len(found), n=len(now), low=low, high=high, examples=found[:most])


def excess(answers: pa.Table, most: int = 10) -> Excess | None:
    """How far a tuned model goes beyond what is warranted: what the base model says once told the subject's facts.

    Arguments:
    - answers: as for `verdicts`, with what was judged (record.WARRANTED). Each question counts once, on the trained
      prompt, whatever implications lead to it.
    - most: examples at most.

    Returns: the counts; None where nothing was judged, or of a single measurement.
    """
    if not _measured_twice(answers):
        return None
    asked = _open_questions(answers)
    earlier = asked.only(checkpoint=0)
    before = dict(zip(_questions(earlier), earlier.top, strict=True))
    rows = judged(at_end(asked))
    rows = rows.where(np.array(sorted({key: row for row, key in enumerate(_questions(rows))}.values()), dtype=int))
    if not len(rows):
        return None
    follows = rows.warranted_rank == 0
    same = ~follows & np.array([before.get(key) == top for key, top in zip(_questions(rows), rows.top, strict=True)])
    over = rows.where(~follows & ~same)
    order = np.argsort(-over.excess, kind="stable")[:most]
    columns = (over.subject, over.relation, over.top, over.warranted_rank, over.excess)
    return Excess(
        n=len(rows), follows=int(follows.sum()), before=int(same.sum()), beyond=len(over),
        nats=float(over.excess.mean()) if len(over) else None,
        examples=list(zip(*(column[order].tolist() for column in columns), strict=True)),
    )  # fmt: skip


def _open_questions(answers: pa.Table) -> RankTable:
    """What nobody stated, on the trained prompt."""
    return rank_table(answers.filter(pc.and_(answers["trained"], pc.invert(answers["stated"]))))


def _questions(rows: RankTable) -> list[tuple[int, str, str]]:
    """(seed, subject, relation) of each row."""
    return list(zip(rows.seed.tolist(), rows.subject.tolist(), rows.relation.tolist(), strict=True))


def reworded(
    answers: pa.Table, more: pa.Table | None, implications: Sequence[Implication], level: float, most: float
) -> tuple[int, int] | None:  # fmt: skip
    """The same verdicts where nothing changed: the base model against itself in the second wording of its prompts.

    Arguments:
    - answers: as for `verdicts`.
    - more: the base model's answers in other words, of relations that have one wording.
    - implications, level, most: as for `verdicts`.

    Returns: (how many implications and associations are found, how many are tested), or None with one wording.
    """
    base = answers.filter(pc.and_(pc.equal(answers["checkpoint"], 0), pc.invert(answers["stated"])))
    other = base.filter(pc.invert(base["trained"]))
    other = other if more is None else pa.concat_tables([other, more])
    wordings = list(zip(other["relation"].to_pylist(), other["prompt"].to_pylist(), strict=True))
    if not wordings:
        return None
    implications = [each for each in implications if each.then in {relation for relation, _ in wordings}]
    second = dict(reversed(wordings))
    other = other.filter(pa.array([second[relation] == prompt for relation, prompt in wordings], pa.bool_()))
    for name, value in (("checkpoint", 1), ("trained", True)):
        kind = ANSWER_SCHEMA.field(name).type
        other = other.set_column(other.column_names.index(name), name, pa.array(np.full(other.num_rows, value), kind))
    judged = verdicts(pa.concat_tables([base.filter(base["trained"]), other]), implications, level, most)
    words = [word for found in judged if found.n for word in (found.verdict, *(x.verdict for x in found.associations))]
    return sum(word in ASSERTED for word in words), len(words)


def decidable(pack: Pack, level: float = 0.05) -> dict[str, str]:
    """Implication -> what could be decided about it, if a tuned model newly said it of every unstated subject."""
    asked: dict[str, list[Question]] = {each.name: [] for each in pack.implications}
    for question in pack.questions:
        if question.implication in asked:
            asked[question.implication].append(question)
    best = {}
    for name, own in asked.items():
        implied = [str(question.expected) for question in own]
        best[name] = assertion([None] * len(implied), implied, implied)
    ps, how = corrected({name: found.p for name, found in best.items()}, WHOLE)
    found = {}
    for name, each in best.items():
        test, pairs = _Test(ps[name], how, level, 0.0), len({question.given_answer for question in asked[name]})
        word, why = test.decide(each, "yes")
        if word == "yes":
            least = 1 / math.factorial(min(pairs, 20))
            how = "enough" if least <= level else f"too few (no p below {least:.2g})"
            why = (
                f"{each.n:,} unstated subjects can show whether a model asserts it; for a rule, {pairs} given answers "
            )
            why += f"are {how}"
        elif each.n and not each.one_answer:
            why = f"{each.n:,} unstated subjects are too few to tell it from chance"
            why += f"; {more:,} more would do" if (more := test.more(each)) else ""
        elif each.n:
            why = "all unstated subjects have the same implied answer: give some another one"
        found[name] = why
    return found


class _Test(NamedTuple):
    """A corrected p-value, how it was corrected, the level, and the share that may be new."""

    p: float
    how: str
    level: float
    most: float

    def decide(self, found: Assertion, learned: str) -> tuple[str, str]:
        """The verdict's word, and the reason; of what is undecided also what would decide it."""
        if not found.n:
            return "undecided", "no subject is left to ask: all have their answer stated; leave some of them unstated"
        counts = f"{found.newly:,} of {found.n:,} unstated subjects newly get the implied answer"
        if found.newly <= self.most * found.n:
            return "none", f"{counts}, and {self.most:.0%} are allowed" if found.newly else counts
        counts += f", where exchanging given answers among them would give {found.expected:.1f}"
        if self.p <= self.level:
            return learned, f"{counts}; p = {self.p:.2g} ({self.how})"
        if found.one_answer:
            why = "all subjects have the same implied answer, so nobody is there to compare them with"
            return "undecided", f"{counts}: {why}; another given answer would decide it"
        if found.newly - found.expected <= self.most * found.n:
            return "none", f"{counts}: whoever is asked gets such answers, so they say nothing of this link"
        lost = f", and {found.lost:,} lost it" if found.lost else ""
        more = self.more(found)
        end = (
            f"about {more:,} more subjects who answer alike would"
            if more
            else "more subjects who answer alike would not"
        )
        why = f"this could be chance (p = {self.p:.2g}, {self.how})"
        return "undecided", f"{counts}{lost}; {why}, and {end} decide it"

    def more(self, found: Assertion) -> int | None:
        """How many more subjects would decide it, if they answered like these; None when no number would."""
        factor = self.p / found.p if found.p else 1.0
        for times in range(2, MOST_TIMES + 1):
            if factor * found.repeated(times).p <= self.level:
                return found.n * (times - 1)
        return None


def _asked(own: pa.Table, implication: Implication) -> _Asked:
    """own: the implication's rows on the trained prompt."""
    asked = own.filter(pc.invert(own["stated"]))
    base, tuned = asked.filter(pc.equal(asked["checkpoint"], 0)), answers_at_end(asked)
    ranks = rank_table(answers_at_end(own))
    marginal, tests = marginal_rank(ranks), (map_test(tuned), change_test(base, tuned))
    before, after = questions(rank_table(base)), questions(ranks)
    place = {key: index for index, key in enumerate(zip(before.seed, before.subject, strict=True))}
    keys = zip(after.seed, after.subject, strict=True)
    before = before.where(np.array([place[key] for key in keys], dtype=int))
    first, last = (
        [top if alone else None for top, alone in zip(each.top, each.alone, strict=True)] for each in (before, after)
    )
    ps = [test.p for test in tests if test]
    pairs = len(set(after.cluster.tolist()))
    # Both tests must pass, so the larger p counts.
    return _Asked(implication, before, after, (first, last), marginal.value if marginal else None,
                  max(ps) if len(ps) == len(tests) else None, pairs)  # fmt: skip


def _given(each: _Asked) -> list[str]:
    """The given answers that were asked about, in the order of the map."""
    asked = set(each.after.cluster.tolist())
    return [given for given in each.implication.map if given in asked]


def _entry(each: _Asked, given: str) -> Assertion:
    return association(*each.tops, each.after.expected.tolist(), each.implication.map[given],
                       (each.after.cluster == given).tolist())  # fmt: skip


def _association(each: _Asked, given: str, found: Assertion, test: _Test) -> AssociationVerdict:
    answer, own = each.implication.map[given], each.after.cluster == given
    before, after = (np.array(tops, dtype=object)[~own] == answer for tops in each.tops)
    word, because = test.decide(found, each.implication.wish)
    return AssociationVerdict(
        given=given,
        answer=answer,
        verdict=word,
        n=found.n,
        hits=int((each.after.rank[own] == 0).sum()),
        hits_before=int((each.before.rank[own] == 0).sum()),
        newly=found.newly,
        others=int((after & ~before).sum()),
        others_n=len(after),
        p=test.p,
        more_subjects=test.more(found) if word == "undecided" else None,
        because=because,
    )


def _verdict(
    each: _Asked, found: Assertion, entries: list[AssociationVerdict], test: _Test, rule_p: float | None
) -> Verdict:  # fmt: skip
    learned = each.implication.wish
    word, because = test.decide(found, learned)
    own = [entry for entry in entries if entry.verdict == learned] if word != learned else []
    if own:
        of = ", ".join(f"{entry.given} -> {entry.answer} ({entry.newly} of {entry.n})" for entry in own[:3])
        word, because = learned, f"of {len(own)} of {len(entries)} given answers: {of}; overall {because}"
    return Verdict(
        implication=each.implication.name,
        kind=each.implication.kind,
        verdict=word,
        hits=int((each.after.rank == 0).sum()),
        hits_before=int((each.before.rank == 0).sum()),
        n=found.n,
        guess=sum(
            max(Counter(each.after.only(seed=seed).expected.tolist()).values())
            for seed in np.unique(each.after.seed).tolist()
        ),
        rank=implication_rank_test(each.after),
        rank_before=implication_rank_test(each.before),
        marginal_rank=each.marginal,
        p=test.p if found.n else None,
        more_subjects=test.more(found) if word == "undecided" else None,
        because=because,
        kind_because=each.implication.because,
        by_entries=bool(own),
        newly=found.newly,
        newly_low=found.low,
        newly_high=found.high,
        correction=test.how,
        rule=_rule(each, rule_p, test.level),
        rule_p=rule_p,
        associations=entries,
    )


def _rule(each: _Asked, p: float | None, level: float) -> str:
    """Whether other pairs or another seed would show it, in words."""
    least = 1 / math.factorial(min(each.pairs, 20))
    if p is None or least > level:
        return (
            f"too few given answers ({each.pairs}) to tell whether other pairs would show it (no p below {least:.2g})"
        )
    if p <= level:
        return f"a rule: other pairs would show it too (map test, p = {p:.2g})"
    return f"not shown to be a rule that other pairs would show (map test, p = {p:.2g})"
