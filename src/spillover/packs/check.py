"""Is a pack sound? Every fault and warning as a sentence with its place; some need a tokenizer."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.errors import PackError, nearest
from spillover.packs.pack import SUBJECT, Implication, Pack, Relation

Encode = Callable[[str], Sequence[int]]
#: Most (row, prompt) texts that are tokenised; in a larger pack, evenly spaced rows are.
MOST_TEXTS = 30_000
#: Most faults that are listed; then the check ends, and says so. Warnings beyond as many are left out.
MOST_FAULTS = 100_000
#: Most names that are compared with the known ones for a hint.
MOST_HINTS = 1_000
#: Share of subjects that may share a word with another before a warning says so.
SHARED_WORDS = 0.2


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

    @property
    def sentence(self) -> str:
        """What is wrong and what was expected."""
        return f"{self.what}; expected {self.expected}" if self.expected else self.what

    def __str__(self) -> str:
        return str(PackError(self.sentence, where=self.where, do=self.do))

    def as_json(self) -> dict[str, Any]:
        return vars(self).copy()


class TooManyFaults(Exception):
    """A check has found as many faults as it lists; the last one says that the rest was not checked."""


@dataclass
class Findings:
    """What a check found so far."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    hints: int = 0
    extra_columns: set[str] = field(default_factory=set)

    def fault(self, code: str, file: str, row: int | None, what: str, expected: str = "", do: str = "") -> None:
        """Note a fault. Raises TooManyFaults after the last one that is listed."""
        self.faults.append(Fault(code, file, row, what, expected, do))
        if len(self.faults) == MOST_FAULTS:
            what, do = f"there are {MOST_FAULTS} faults up to here, and the rest is not checked", "Mend these first"
            self.faults.append(Fault("too-many-faults", file, row, what, do=do))
            raise TooManyFaults

    def warn(self, code: str, file: str, row: int | None, what: str, expected: str = "", do: str = "") -> None:
        if len(self.warnings) < MOST_FAULTS:
            self.warnings.append(Fault(code, file, row, what, expected, do))

    def hint(self, name: str, known: Iterable[str]) -> str:
        """The nearest known name as a sentence; none among many, long or unprintable names, nor after MOST_HINTS."""
        self.hints += 1
        if self.hints > MOST_HINTS:
            return ""
        names = [each for each in known if len(each) <= 80 and each.isprintable()]
        return nearest(name, names) if 0 < len(names) <= 100 and len(name) <= 80 else ""


@dataclass
class Places:
    """Where the parts of a pack are: two files, a row for each fact, and lines of the pack file.

    lines: the keys that lead to a part -> its line; a text of a list is its own key, anything else there its number.
    """

    pack_file: str
    facts_file: str
    facts: Sequence[int] = ()
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)

    def fact(self, index: int) -> int:
        return self.facts[index] if self.facts else index + 1

    def line(self, *part: str | int) -> int | None:
        """The line of a part, or of the nearest one around it."""
        while len(part) > 1 and part not in self.lines:
            part = part[:-1]
        return self.lines.get(part)


def quoted(text: str) -> str:
    """The text in quotes, with what cannot be printed escaped; a long one cut short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def shown(text: str) -> str:
    """The text as `quoted` has it, without the quotes."""
    return quoted(text)[1:-1]


def refuse(faults: Iterable[Fault]) -> None:
    """Raise PackError with every fault, if there is one; the message is the first and how many more there are."""
    faults = tuple(faults)
    if faults:
        more = f" ({len(faults) - 1} more: see `spillover check`)" if faults[1:] else ""
        raise PackError(faults[0].sentence, where=faults[0].where, do=faults[0].do + more, faults=faults)


def token_faults(pack: Pack, encode: Encode) -> list[Fault]:
    """Candidates with equal tokens or (without an end mark) one that begins another; and prompts that answers change.

    encode: text -> token numbers as the model will see them, with its opening mark if it has one and no closing one.
    A prompt is tried with every candidate of its relation for the first subject, and with every stated row.
    """
    found = [fault for relation in pack.relations for fault in _candidate_faults(pack, relation, encode)]
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
    prompt, name = pack.prompt(relation.name, pack.subjects[0]), quoted(relation.name)
    by_tokens: dict[tuple[int, ...], str] = {}
    for answer in pack.candidates[relation.name]:
        tokens, kept = _split(pack, prompt, answer, encode)
        if not kept:
            continue  # That is a fault of the prompt; where the answer begins is unknown.
        if not tokens:
            what = f"the answer {quoted(answer)} of {name} has no token of its own"
            yield Fault("no-token", pack.name, None, what, "at least one token", "Use another answer")
        elif (other := by_tokens.setdefault(tokens, answer)) != answer:
            what = f"the answers {quoted(other)} and {quoted(answer)} of {name} have the same tokens"
            expected = "answers that the model can tell apart"
            yield Fault("same-tokens", pack.name, None, what, expected, "Rename one of them")
    # Without an end mark, a score of the shorter answer would count for both.
    for tokens, answer in by_tokens.items() if pack.end is None else ():
        for length in range(1, len(tokens)):
            if (shorter := by_tokens.get(tokens[:length])) is not None:
                what = f"the tokens of {quoted(shorter)} begin those of {quoted(answer)}, both answers of {name}"
                do = 'Rename one of them, or set `end` to a mark such as "."'
                yield Fault("token-prefix", pack.name, None, what, "answers of which none begins another", do)


def _prompt_faults(pack: Pack, encode: Encode) -> Iterator[Fault]:
    """One fault for each prompt whose tokens change, with the first text it was seen on and how often."""
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


def check_structure(pack: Pack, places: Places | None = None) -> Findings:
    """Every fault and warning that needs no model. places: where the parts are; by default only the pack's name."""
    check = _StructureCheck(pack, places or Places(pack.name, pack.name), Findings())
    with contextlib.suppress(TooManyFaults):
        check.run()
    return check.findings


@dataclass
class _StructureCheck:
    """A check under way: each method looks at one kind of mistake and notes it in `findings`."""

    pack: Pack
    places: Places
    findings: Findings

    def run(self) -> None:
        self.relations()
        self.unique_names()
        self.facts()
        taken = {relation.name: set(relation.answers) for relation in self.pack.relations}
        for _, name, answer in self.pack.facts:
            if name in taken:
                taken[name].add(answer)
        for index, implication in enumerate(self.pack.implications):
            self.implication(index, implication, taken)
        if not self.findings.faults:
            self.similar_answers()
            self.questions()
            self.shared_words()

    def fault(self, code: str, part: Sequence[str | int], what: str, expected: str, do: str) -> None:
        self.findings.fault(code, self.places.pack_file, self.places.line(*part), what, expected, do)

    def warn(self, code: str, part: Sequence[str | int], what: str, do: str) -> None:
        self.findings.warn(code, self.places.pack_file, self.places.line(*part), what, do=do)

    def relations(self) -> None:
        """Prompts that are missing, ask about nobody, or are there twice."""
        for relation in self.pack.relations:
            part, name = ("relations", relation.name), quoted(relation.name)
            if not relation.prompts:
                what, do = f"the relation {name} has no prompt", f'Write prompts: ["{SUBJECT} ..."]'
                self.fault("no-prompt", part, what, "at least one", do)
            for prompt in relation.prompts:
                if SUBJECT not in prompt:
                    what = f"the prompt {quoted(prompt)} of {name} does not say whom it asks about"
                    do = f"Write {SUBJECT} where the name goes"
                    self.fault("prompt-without-subject", (*part, "prompts", prompt), what, f"{SUBJECT} in it", do)
            for prompt, count in Counter(relation.prompts).items():
                if count > 1:
                    what = f"the prompt {quoted(prompt)} of {name} is there {count} times"
                    self.warn("duplicate-prompt", (*part, "prompts", prompt), what, "Keep one of them")

    def unique_names(self) -> None:
        """Names that must be unique: of relations, and of implications."""
        for name, count in Counter(relation.name for relation in self.pack.relations).items():
            if count > 1:
                what = f"the relation {quoted(name)} is there {count} times"
                self.fault("duplicate-relation", ("relations", name), what, "one", "Keep one of them")
        last = {implication.name: index for index, implication in enumerate(self.pack.implications)}
        for name, count in Counter(implication.name for implication in self.pack.implications).items():
            if count > 1:
                what, do = f"the implication {shown(name)} is there {count} times", "Put their maps together in one"
                self.fault("duplicate-implication", ("implications", last[name]), what, "one", do)

    def facts(self) -> None:
        """Unknown relations, two answers for one (subject, relation), and exact duplicates."""
        pack, places, file = self.pack, self.places, self.places.facts_file
        known = set(pack.relation_by_name)
        if not pack.facts:
            do = "State something about a subject"
            self.findings.fault("no-facts", file, None, "there is no fact", "at least one row", do)
        if len(pack.stated) == len(pack.facts) and known.issuperset(relation for _, relation in pack.stated):
            return  # Every row states something else of a known relation.
        seen: dict[tuple[str, str], int] = {}
        for index, fact in enumerate(pack.facts):
            at = places.fact(index)
            if fact.relation not in known:
                what, do = f"there is no relation {quoted(fact.relation)}", self.findings.hint(fact.relation, known)
                self.findings.fault("unknown-relation", file, at, what, "a relation of the pack", do)
            first = seen.setdefault((fact.subject, fact.relation), index)
            if first == index:
                continue
            stated, row = pack.facts[first].answer, places.fact(first)
            if stated == fact.answer:
                what, do = f"this row is there already: row {row}", "Remove it, or it counts twice in training"
                self.findings.warn("duplicate-row", file, at, what, do=do)
            else:
                answers = f"{quoted(stated)} (row {row}) and {quoted(fact.answer)}"
                what = f"{quoted(fact.subject)} has two answers to {quoted(fact.relation)}: {answers}"
                self.findings.fault("two-answers", file, at, what, "one answer", "Keep one of the two rows")

    def implication(self, index: int, implication: Implication, taken: dict[str, set[str]]) -> None:
        """Unknown relations, and map entries that no row can meet. taken: relation -> answers stated or listed."""
        part, known, name = ("implications", index), self.pack.relation_by_name, quoted(implication.name)
        for side, relation in (("given", implication.given), ("then", implication.then)):
            if relation not in known:
                what = f"`{side}` names the relation {quoted(relation)}, which does not exist"
                do = self.findings.hint(relation, known)
                self.fault("unknown-relation", (*part, side), what, "a relation of the pack", do)
        if implication.given == implication.then:
            what, do = f"the implication {name} leads from a relation to itself", "Name another relation under `then`"
            self.fault("same-relation", (*part, "then"), what, "two relations", do)
        if not implication.map:
            self.fault("empty-map", part, f"the map of {name} is empty", "an entry", "Write map: {Paris: French}")
        answers = taken.get(implication.given, set())
        for key in implication.map if implication.given in taken else ():
            if key not in answers:
                entry = f"the map of {name} has an entry for {quoted(key)}"
                what = f"{entry}, which is no answer of {quoted(implication.given)}"
                near = self.findings.hint(key, answers)
                do = f"{near} Or list it under `answers`" if near else "State it, or list it under `answers`"
                self.fault("map-outside", (*part, "map", key), what, "an answer that is stated or listed", do)

    def similar_answers(self) -> None:
        """Answers of one relation that only case or spaces tell apart."""
        for relation, answers in self.pack.candidates.items():
            groups: dict[str, list[str]] = {}
            for answer in answers:
                groups.setdefault("".join(answer.casefold().split()), []).append(answer)
            for listed in (", ".join(map(quoted, group)) for group in groups.values() if len(group) > 1):
                what = f"answers of {quoted(relation)} differ only in case or spaces: {listed}"
                do = "Write them alike, if they are the same answer"
                self.warn("similar-answers", ("relations", relation), what, do)

    def questions(self) -> None:
        """Implications that nothing is asked about."""
        asked = {question.implication for question in self.pack.questions}
        for index, implication in enumerate(self.pack.implications):
            if implication.name not in asked:
                what = f"the implication {quoted(implication.name)} has no question: nobody's `then` is left to infer"
                do = "State its `given` of subjects whose `then` is not stated"
                self.warn("no-question", ("implications", index), what, do)

    def shared_words(self) -> None:
        """Subjects that share a word with another: a model may take one for the other."""
        subjects = self.pack.subjects
        owners = Counter(word for subject in subjects for word in set(subject.split()))
        sharing = sum(any(owners[word] > 1 for word in subject.split()) for subject in subjects)
        if sharing > SHARED_WORDS * len(subjects):
            what = f"{sharing} of {len(subjects)} subjects share a word with another"
            do = "Give them names that share no word, or a model may answer for the wrong one"
            self.findings.warn("shared-words", self.places.facts_file, None, what, f"at most {SHARED_WORDS:.0%}", do)
