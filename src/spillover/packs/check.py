"""Is a pack sound? Every fault and warning as a sentence with its place; some need a tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.errors import PackError, nearest
from spillover.packs.pack import Implication, Pack, Relation, tally

Encode = Callable[[str], Sequence[int]]
#: Most (row, prompt) texts that are tokenised; of a larger pack, evenly spaced rows are.
MOST_TEXTS = 30_000
#: Most faults that are told; then the check ends, and says so. As many warnings are told, and then no more.
MOST_FAULTS = 100_000
#: Most names that are compared with the known ones for a hint; nobody mistypes more.
MOST_HINTS = 1_000


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, or a warning.

    row: a line of pack.yaml or JSONL, a row of CSV (its header is row 1) or of Parquet (from 1); None means the file.
    """

    code: str
    file: str
    row: int | None
    what: str
    expected: str = ""
    do: str = ""

    @property
    def where(self) -> str:
        return self.file if self.row is None else f"{self.file}, row {self.row}"

    def __str__(self) -> str:
        expected = f"expected {self.expected}" if self.expected else ""
        return str(PackError("; ".join(part for part in (self.what, expected) if part), where=self.where, do=self.do))

    def as_json(self) -> dict[str, Any]:
        return vars(self).copy()


class TooManyFaults(Exception):
    """A check has found as many faults as it tells; the last of them says that the rest was not checked."""


@dataclass
class Findings:
    """What a check found so far."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    hints: int = 0

    def fault(self, code: str, file: str, row: int | None, what: str, expected: str = "", do: str = "") -> None:
        """Note a fault. Raises TooManyFaults after the last one that is told."""
        self.faults.append(Fault(code, file, row, what, expected, do))
        if len(self.faults) == MOST_FAULTS:
            what, do = f"there are {MOST_FAULTS} faults up to here, and the rest is not checked", "Mend these first"
            self.faults.append(Fault("too-many-faults", file, row, what, do=do))
            raise TooManyFaults

    def hint(self, name: str, known: Iterable[str]) -> str:
        """The nearest known name as a sentence, as often as a person can have mistyped one."""
        self.hints += 1
        return hint(name, known) if self.hints <= MOST_HINTS else ""

    def warn(self, code: str, file: str, row: int | None, what: str, expected: str = "", do: str = "") -> None:
        if len(self.warnings) < MOST_FAULTS:
            self.warnings.append(Fault(code, file, row, what, expected, do))
        elif len(self.warnings) == MOST_FAULTS:
            what = f"there are more than {MOST_FAULTS} warnings, and from here on none is told"
            self.warnings.append(Fault("too-many-warnings", file, row, what, do="Mend these first"))


@dataclass(frozen=True)
class Places:
    """Where the parts of a pack were read: two files, a line for each relation and implication, a row for each fact.

    parts: a line for ("prompt", relation, prompt), ("given" or "then", implication) and ("map", implication, key).
    """

    pack_file: str
    facts_file: str
    relations: Mapping[str, int] = field(default_factory=dict)
    implications: Sequence[int] = ()
    facts: Sequence[int] = ()
    parts: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def fact(self, index: int) -> int:
        return self.facts[index] if self.facts else index + 1

    def implication(self, index: int) -> int | None:
        return self.implications[index] if self.implications else None

    def prompt(self, relation: str, prompt: str) -> int | None:
        return self.parts.get(("prompt", relation, prompt), self.relations.get(relation))

    def part(self, index: int, *part: str) -> int | None:
        """The line of an implication's given, then or map entry."""
        return self.parts.get((part[0], str(index), *part[1:]), self.implication(index))


def quoted(text: str) -> str:
    """The text in quotes, with what cannot be printed escaped; a long one cut short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def shown(text: str) -> str:
    """The text as `quoted` has it, without the quotes."""
    return quoted(text)[1:-1]


def hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a sentence; of many, long or unprintable names there is none."""
    names = [each for each in known if len(each) <= 80 and each.isprintable()]
    return nearest(name, names) if 0 < len(names) <= 100 and len(name) <= 80 else ""


def refuse(faults: Iterable[Fault]) -> None:
    """Raise PackError with every fault, if there is one; the message tells the first and how many more there are."""
    faults = tuple(faults)
    if faults:
        first, more = faults[0], len(faults) - 1
        what = first.what + (f"; expected {first.expected}" if first.expected else "")
        do = first.do + (f" ({more} more: see `spillover check`)" if more else "")
        raise PackError(what, where=first.where, do=do, faults=faults)


def token_faults(pack: Pack, encode: Encode) -> list[Fault]:
    """Candidates that are token-identical, or (without an end mark) one the beginning of another; and prompts whose
    tokens change when an answer is appended.

    encode: text -> token numbers as the model will see them, with its opening mark if it has one and no closing one.
    A prompt is tried with every candidate of its relation for the first subject, and with every stated row.
    """
    found: list[Fault] = []
    for relation in pack.relations:
        found += _candidate_faults(pack, relation, encode)
    return found + list(_prompt_faults(pack, encode))


def _answer_text(pack: Pack, answer: str) -> str:
    return pack.join + answer + (pack.end or "")


def _split(pack: Pack, prompt: str, answer: str, encode: Encode) -> tuple[tuple[int, ...], bool]:
    """The tokens of the answer after the prompt, and whether the prompt kept its own tokens."""
    before, whole = tuple(encode(prompt)), tuple(encode(prompt + _answer_text(pack, answer)))
    return whole[len(before) :], whole[: len(before)] == before


def _candidate_faults(pack: Pack, relation: Relation, encode: Encode) -> Iterator[Fault]:
    """Answers of one relation that a score cannot tell apart, on its first prompt and subject."""
    if not pack.subjects or not relation.prompts:
        return
    prompt = pack.prompt(relation.name, pack.subjects[0])
    by_tokens: dict[tuple[int, ...], str] = {}
    for answer in pack.candidates[relation.name]:
        tokens, kept = _split(pack, prompt, answer, encode)
        if not kept:
            continue  # That is a fault of the prompt; where the answer begins is not to be told.
        if not tokens:
            what = f"the answer {quoted(answer)} of {quoted(relation.name)} has no token of its own"
            yield Fault("no-token", pack.name, None, what, "at least one token", "Use another answer")
        elif (other := by_tokens.setdefault(tokens, answer)) != answer:
            what = f"the answers {quoted(other)} and {quoted(answer)} of {quoted(relation.name)} have the same tokens"
            yield Fault(
                "same-tokens", pack.name, None, what, "answers that the model can tell apart", "Rename one of them"
            )
    if pack.end is None:
        yield from _prefix_faults(pack, relation, by_tokens)


def _prefix_faults(pack: Pack, relation: Relation, by_tokens: dict[tuple[int, ...], str]) -> Iterator[Fault]:
    """Answers whose tokens begin another's: a score of the shorter one would count for both."""
    for tokens, answer in by_tokens.items():
        for length in range(1, len(tokens)):
            if (shorter := by_tokens.get(tokens[:length])) is not None:
                which = f"{quoted(shorter)} begin those of {quoted(answer)}"
                what = f"the tokens of {which}, both answers of {quoted(relation.name)}"
                do = 'Rename one of them, or set `end` to a mark such as "."'
                yield Fault("token-prefix", pack.name, None, what, "answers of which none begins another", do)


def _prompt_faults(pack: Pack, encode: Encode) -> Iterator[Fault]:
    """One fault a prompt whose tokens change, with the first text it was seen on and how often."""
    changed: dict[tuple[str, int], dict[tuple[str, str], int | None]] = {}
    for subject, relation, answer, index, row in _texts(pack):
        if not _split(pack, pack.prompt(relation, subject, index), answer, encode)[1]:
            changed.setdefault((relation, index), {}).setdefault((subject, answer), row)
    for (relation, index), places in changed.items():
        (subject, answer), row = next(iter(places.items()))
        prompt = pack.prompt(relation, subject, index)
        what = f"the tokens of the prompt {quoted(prompt)} change when {quoted(_answer_text(pack, answer))} is appended"
        times = f" ({len(places)} texts)" if len(places) > 1 else ""
        do = "End the prompt with a whole word, and let `join` begin the answer"
        yield Fault("prompt-tokens-change", pack.name, row, what + times, "the prompt's own tokens first", do)


def _texts(pack: Pack) -> Iterator[tuple[str, str, str, int, int | None]]:
    """(subject, relation, answer, prompt index, row of facts or None) of every text to try."""
    for relation in pack.relations:
        for index in range(len(relation.prompts)):
            for answer in pack.candidates[relation.name]:
                yield pack.subjects[0], relation.name, answer, index, None
    prompts = max(len(relation.prompts) for relation in pack.relations)
    stride = -(-len(pack.facts) * prompts // MOST_TEXTS) or 1
    for row in range(0, len(pack.facts), stride):
        subject, name, answer = pack.facts[row]
        for index in range(len(pack.relation_by_name[name].prompts)):
            yield subject, name, answer, index, row + 1


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
