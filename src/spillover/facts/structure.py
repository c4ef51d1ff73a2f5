"""Is a pack sound? Every fault and warning that needs no model, in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from spillover.facts.check import Findings, Places, TooManyFaults, quoted, shown
from spillover.facts.pack import Implication, Pack, Relation, tally

SUBJECT = "{subject}"
#: Share of subjects that may share a word with another before a warning says so.
SHARED_WORDS = 0.2


def check_structure(pack: Pack, places: Places | None = None) -> Findings:
    """Every fault and warning that needs no model. places: where the parts stand; by default only the pack's name."""
    findings = Findings()
    with contextlib.suppress(TooManyFaults):
        _check_all(pack, places or Places(pack.name, pack.name), findings)
    return findings


def _check_all(pack: Pack, places: Places, findings: Findings) -> None:
    for relation in pack.relations:
        _check_relation(relation, places, findings)
    _check_names(pack, places, findings)
    _check_facts(pack, places, findings)
    taken = _answers_taken(pack)
    for index, implication in enumerate(pack.implications):
        _check_implication(pack, index, implication, taken, places, findings)
    if not findings.faults:
        _check_answers(pack, places, findings)
        _check_questions(pack, places, findings)
        _check_words(pack, places, findings)


def _answers_taken(pack: Pack) -> dict[str, set[str]]:
    """Relation -> the answers that are stated or listed."""
    taken = {relation.name: set(relation.answers) for relation in pack.relations}
    for _, relation, answer in pack.facts:
        if relation in taken:
            taken[relation].add(answer)
    return taken


def _check_names(pack: Pack, places: Places, findings: Findings) -> None:
    """Names that must be unique: of relations, and of implications."""
    for name, count in tally(relation.name for relation in pack.relations).items():
        if count > 1:
            what = f"the relation {quoted(name)} is there {count} times"
            findings.fault(
                "duplicate-relation", places.pack_file, places.relations.get(name), what, "one", "Keep one of them"
            )
    last = {implication.name: index for index, implication in enumerate(pack.implications)}
    for name, count in tally(implication.name for implication in pack.implications).items():
        if count > 1:
            what, do = f"the implication {shown(name)} is there {count} times", "Put their maps together in one"
            findings.fault("duplicate-implication", places.pack_file, places.implication(last[name]), what, "one", do)


def _check_relation(relation: Relation, places: Places, findings: Findings) -> None:
    line = places.relations.get(relation.name)
    if not relation.prompts:
        what = f"the relation {quoted(relation.name)} has no prompt"
        findings.fault("no-prompt", places.pack_file, line, what, "at least one", f'Write prompts: ["{SUBJECT} ..."]')
    for prompt in relation.prompts:
        if SUBJECT not in prompt:
            what = f"the prompt {quoted(prompt)} of {quoted(relation.name)} does not say whom it asks about"
            do = f"Write {SUBJECT} where the name goes"
            at = places.prompt(relation.name, prompt)
            findings.fault("prompt-without-subject", places.pack_file, at, what, f"{SUBJECT} in it", do)
    for prompt, count in tally(relation.prompts).items():
        if count > 1:
            what = f"the prompt {quoted(prompt)} of {quoted(relation.name)} is there {count} times"
            at = places.prompt(relation.name, prompt)
            findings.warn("duplicate-prompt", places.pack_file, at, what, do="Keep one of them")


def _check_facts(pack: Pack, places: Places, findings: Findings) -> None:
    """Unknown relations, two answers for one (subject, relation), and exact duplicates."""
    known, file = set(pack.relation_by_name), places.facts_file
    seen: dict[tuple[str, str], int] = {}
    hints: dict[str, str] = {}
    if not pack.facts:
        findings.fault(
            "no-facts", file, None, "there is no fact", "at least one row", "State something about a subject"
        )
    if len(pack.stated) == len(pack.facts) and known.issuperset(relation for _, relation in pack.stated):
        return  # Every row states something else of a known relation.
    for index, fact in enumerate(pack.facts):
        if fact.relation not in known:
            what = f"there is no relation {quoted(fact.relation)}"
            if (do := hints.get(fact.relation)) is None:
                do = hints[fact.relation] = findings.hint(fact.relation, known)
            findings.fault("unknown-relation", file, places.fact(index), what, "a relation of the pack", do)
        first = seen.setdefault((fact.subject, fact.relation), index)
        if first != index:
            stated, row = pack.facts[first].answer, places.fact(first)
            if stated != fact.answer:
                answers = f"{quoted(stated)} (row {row}) and {quoted(fact.answer)}"
                what = f"{quoted(fact.subject)} has two answers to {quoted(fact.relation)}: {answers}"
                findings.fault("two-answers", file, places.fact(index), what, "one answer", "Keep one of the two rows")
            else:
                what = f"this row is there already: row {row}"
                findings.warn(
                    "duplicate-row", file, places.fact(index), what, do="Remove it, or it counts twice in training"
                )


def _check_implication(
    pack: Pack,
    index: int,
    implication: Implication,
    taken: Mapping[str, set[str]],
    places: Places,
    findings: Findings,
) -> None:
    """Unknown relations, and map entries that no row can meet."""
    file, line, known = places.pack_file, places.implication(index), pack.relation_by_name
    for side, name in (("given", implication.given), ("then", implication.then)):
        if name not in known:
            what = f"`{side}` names the relation {quoted(name)}, which does not exist"
            at, do = places.part(index, side), findings.hint(name, known)
            findings.fault("unknown-relation", file, at, what, "a relation of the pack", do)
    if implication.given == implication.then:
        what = f"the implication {quoted(implication.name)} leads from a relation to itself"
        at = places.part(index, "then")
        findings.fault("same-relation", file, at, what, "two relations", "Name another relation under `then`")
    if not implication.map:
        findings.fault(
            "empty-map",
            file,
            line,
            f"the map of {quoted(implication.name)} is empty",
            "an entry",
            "Write map: {Paris: French}",
        )
    if implication.given in known:
        _check_keys(index, implication, taken[implication.given], places, findings)


def _check_keys(index: int, implication: Implication, taken: set[str], places: Places, findings: Findings) -> None:
    name, given = quoted(implication.name), quoted(implication.given)
    for key in implication.map:
        if key not in taken:
            what = f"the map of {name} has an entry for {quoted(key)}, which is no answer of {given}"
            near = findings.hint(key, taken)
            do = f"{near} Or list it under `answers`" if near else "State it, or list it under `answers`"
            at = places.part(index, "map", key)
            findings.fault("map-outside", places.pack_file, at, what, "an answer that is stated or listed", do)


def _check_answers(pack: Pack, places: Places, findings: Findings) -> None:
    """Answers of one relation that only case or spaces tell apart."""
    for relation, answers in pack.candidates.items():
        groups: dict[str, list[str]] = {}
        for answer in answers:
            groups.setdefault("".join(answer.casefold().split()), []).append(answer)
        for group in groups.values():
            if len(group) > 1:
                what = f"answers of {quoted(relation)} differ only in case or spaces: {', '.join(map(quoted, group))}"
                do = "Write them alike, if they are the same answer"
                findings.warn("similar-answers", places.pack_file, places.relations.get(relation), what, do=do)


def _check_questions(pack: Pack, places: Places, findings: Findings) -> None:
    asked = tally(question.implication or "" for question in pack.questions)
    for index, implication in enumerate(pack.implications):
        if implication.name not in asked:
            what = f"the implication {quoted(implication.name)} has no question: nobody's `then` is left to infer"
            do = "State its `given` of subjects whose `then` is not stated"
            findings.warn("no-question", places.pack_file, places.implication(index), what, do=do)


def _check_words(pack: Pack, places: Places, findings: Findings) -> None:
    """Subjects that share a word with another: a model may take one for the other."""
    first: dict[str, int] = {}
    shares = bytearray(len(pack.subjects))
    for index, subject in enumerate(pack.subjects):
        for word in subject.split():
            if (other := first.setdefault(word, index)) != index:
                shares[index] = shares[other] = 1
    if (sharing := sum(shares)) > SHARED_WORDS * len(shares):
        what = f"{sharing} of {len(shares)} subjects share a word with another"
        do = "Give them names that share no word, or a model may answer for the wrong one"
        findings.warn("shared-words", places.facts_file, None, what, f"at most {SHARED_WORDS:.0%}", do)
