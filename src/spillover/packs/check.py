"""Is a pack sound? Every fault and warning as a sentence with its place; some need a tokenizer."""

import contextlib
import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
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
#: How alike a mapped answer and a stated one are when one may be a slip of the other (difflib's ratio).
ALIKE = 0.75
#: How programs write an empty cell.
EMPTY = frozenset(("nan", "NaN", "NaT", "None", "null", "NULL", "N/A", "#N/A", "<NA>"))
#: Scripts, by the names of their letters, that are written without spaces.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "FULLWIDTH", "IDEOGRAPHIC")
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
    """Where the parts of a pack are: its files, a row for each fact, and lines of the pack file.

    more: where facts are in several files, the number of the first fact of each after the first, and the file.
    lines: the keys that lead to a part -> its line; a text of a list is its own key, anything else there its number.
    """

    pack_file: str
    facts_file: str
    facts: Sequence[int] = ()
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)
    more: Sequence[tuple[int, str]] = ()

    def file(self, index: int) -> str:
        """The file of a fact."""
        return next((name for first, name in reversed(self.more) if first <= index), self.facts_file)

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
    meant = partial(pack.meant, relation.name)
    for answer in chain.from_iterable(pack.wordings(relation.name)):
        tokens, kept = _split(pack, prompt, answer, encode)
        if not kept:
            continue  # That is a fault of the prompt; where the answer begins is unknown.
        if not tokens:
            what = f"the answer {quoted(answer)} of {name} has no token of its own"
            yield Fault("no-token", pack.name, None, what, "at least one token", "Use another answer")
        elif meant(other := by_tokens.setdefault(tokens, answer)) != meant(answer):
            what = f"the answers {quoted(other)} and {quoted(answer)} of {name} have the same tokens"
            expected = "answers that the model can tell apart"
            yield Fault("same-tokens", pack.name, None, what, expected, "Rename one of them")
    # Without an end mark, a score of the shorter answer would count for both.
    for tokens, answer in by_tokens.items() if pack.end is None else ():
        for length in range(1, len(tokens)):
            if (shorter := by_tokens.get(tokens[:length])) is not None and meant(shorter) != meant(answer):
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
            for answer in chain.from_iterable(pack.wordings(relation.name)):
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
        taken = {relation.name: {*relation.answers, *relation.aliases} for relation in self.pack.relations}
        for _, name, answer in self.pack.meant_facts:
            if name in taken:
                taken[name].add(answer)
        for index, implication in enumerate(self.pack.implications):
            self.implication(index, implication, taken)
            self.contradictions(index, implication)
        self.names()
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
            self.descriptions(relation)
            owners = {answer: answer for answer in (*relation.answers, *relation.aliases)}
            for answer, wording in ((answer, each) for answer, group in relation.aliases.items() for each in group):
                if (other := owners.setdefault(wording, answer)) != answer:
                    what = f"the alias {quoted(wording)} of {quoted(answer)} is {quoted(other)} already, in {name}"
                    self.fault(
                        "alias-taken", (*part, "answers"), what, "one answer for each wording", "Keep one of them"
                    )
            for prompt in relation.prompts:
                if prompt[-1:].isspace() and self.pack.join[:1].isspace():
                    what = f"the prompt {quoted(prompt)} of {name} ends with a space, and `join` begins with one"
                    do = "Take it from the prompt, or its answers stand behind two spaces"
                    self.warn("two-spaces", (*part, "prompts", prompt), what, do)
            for prompt, count in Counter(relation.prompts).items():
                if count > 1:
                    what = f"the prompt {quoted(prompt)} of {name} is there {count} times"
                    self.warn("duplicate-prompt", (*part, "prompts", prompt), what, "Keep one of them")

    def descriptions(self, relation: Relation) -> None:
        """Subjects that a relation describes and nothing is stated of, and descriptions that fit two."""
        known, whose, name = set(self.pack.subjects), dict[str, str](), quoted(relation.name)
        for subject, text in relation.described.items():
            part = ("relations", relation.name, "described", subject)
            if subject not in known:
                what = f"{name} describes {quoted(subject)}, of whom nothing is stated"
                self.warn("described-unknown", part, what, self.findings.hint(subject, known))
            if (other := whose.setdefault(text, subject)) != subject:
                what = f"{name} describes {quoted(other)} and {quoted(subject)} alike"
                self.warn("described-alike", part, what, "Describe each so that it cannot be the other")

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
        pack, places = self.pack, self.places
        known = set(pack.relation_by_name)
        if not pack.facts:
            do = "State something about a subject"
            self.findings.fault("no-facts", places.facts_file, None, "there is no fact", "at least one row", do)
        if len(pack.stated) == len(pack.facts) and known.issuperset(relation for _, relation in pack.stated):
            return  # Every row states something else of a known relation.
        seen: dict[tuple[str, str], int] = {}
        for index, fact in enumerate(pack.facts):
            at, file = places.fact(index), places.file(index)
            if fact.relation not in known:
                what, do = f"there is no relation {quoted(fact.relation)}", self.findings.hint(fact.relation, known)
                self.findings.fault("unknown-relation", file, at, what, "a relation of the pack", do)
            first = seen.setdefault((fact.subject, fact.relation), index)
            if first == index:
                continue
            stated, row = pack.facts[first].answer, f"row {places.fact(first)}"
            row += f" of {places.file(first)}" if places.file(first) != file else ""
            if pack.meant(fact.relation, stated) == pack.meant(fact.relation, fact.answer):
                what, do = f"this row is there already: {row}", "Remove it, or it counts twice in training"
                self.findings.warn("duplicate-row", file, at, what, do=do)
            else:
                answers = f"{quoted(stated)} ({row}) and {quoted(fact.answer)}"
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
        for key in implication.map:
            if (answer := self.pack.meant(implication.given, key)) != key:
                what = (
                    f"the map of {name} has entries for {quoted(key)} and {quoted(answer)}, which are the same answer"
                )
                self.fault("map-twice", (*part, "map", key), what, "one entry", "Keep one of the two")
        answers, stated = taken.get(implication.given, set()), taken.get(implication.then, set())
        for key, value in implication.map.items() if len(stated) <= MOST_HINTS else ():
            for other in difflib.get_close_matches(value, sorted(stated), 1, ALIKE) if value not in stated else ():
                what = f"the map of {name} leads to {quoted(value)}, which nobody states; {quoted(other)} is stated"
                do = "Write them alike, if they are the same answer"
                self.warn("map-unstated", (*part, "map", key), what, do)
        for key in implication.map if implication.given in taken else ():
            if key not in answers:
                entry = f"the map of {name} has an entry for {quoted(key)}"
                what = f"{entry}, which is no answer of {quoted(implication.given)}"
                near = self.findings.hint(key, answers)
                do = f"{near} Or list it under `answers`" if near else "State it, or list it under `answers`"
                self.fault("map-outside", (*part, "map", key), what, "an answer that is stated or listed", do)

    def contradictions(self, index: int, rule: Implication) -> None:
        """Map entries that the bridging subjects contradict: a fault where each row says another answer than the map's.

        Rows that all differ and only say what the map has for other answers are a shuffle, as the null packs have
        it: that is a warning, and none where every answer is stated equally often.
        """
        said: dict[str | None, Counter[str | None]] = {}
        for each in self.pack.stated_implications(rule):
            said.setdefault(each.given_answer, Counter())[each.expected] += 1
        total = sum(said.values(), Counter[str | None]())
        balanced = len(said) > 1 and len(set(total.values())) == 1
        for key, value in rule.map.items() if rule.given != rule.then else ():
            counts = said.get(key, Counter())
            (most, times), *_ = counts.most_common(1) or [(value, 0)]
            if most == value or counts[value] * 2 >= counts.total():
                continue
            shuffled = times == 1 and {*counts} <= {*rule.map.values()}
            if (counts[value] and times * 2 <= counts.total()) or (shuffled and balanced):
                continue
            others = ", ".join(f"{quoted(answer or '')} ({count})" for answer, count in counts.most_common(3))
            what = f"the map of {quoted(rule.name)} says {quoted(value)} for {quoted(key)}, and the rows state {others}"
            part, do = ("implications", index, "map", key), "Mend the map, or the rows"
            if counts[value] or shuffled:
                self.warn("map-contradicted", part, what, do)
            else:
                self.fault("map-contradicted", part, what, "what is stated of the subjects that have it", do)

    def names(self) -> None:
        """What a slip has made of names: spaces, case, line breaks, empty cells, an answer with its subject."""
        first: dict[str, int] = {}
        groups: dict[str, list[str]] = {}
        for index, fact in enumerate(self.pack.facts):
            for text, what in ((fact.subject, "subject"), (fact.answer, "answer")):
                if text not in first and (slip := _slip(text)):
                    self._warn_row(index, "odd-name", f"the {what} {quoted(text)} {slip[0]}", slip[1])
                if what == "subject" and text not in first:
                    groups.setdefault("".join(text.casefold().split()), []).append(text)
                first.setdefault(text, index)
            if fact.subject in fact.answer and re.search(rf"(?<!\w){re.escape(fact.subject)}(?!\w)", fact.answer):
                what = f"the answer {quoted(fact.answer)} holds its subject {quoted(fact.subject)}"
                self._warn_row(index, "subject-in-answer", what, "State the answer alone, if this is a whole sentence")
        for one, other in ((group[0], each) for group in groups.values() for each in group[1:]):
            row = self.places.fact(first[one])
            what = f"the subject {quoted(other)} differs from {quoted(one)} (row {row}) only in case or spaces"
            self._warn_row(first[other], "similar-subjects", what, "Write them alike, if they are the same")
        for relation in self.pack.relations if self.pack.join.endswith(" ") else ():
            ends = [
                each.replace(SUBJECT, self.pack.facts[0].subject if self.pack.facts else "")
                for each in relation.prompts
            ]
            stated = (fact.answer for fact in self.pack.facts if fact.relation == relation.name)
            if any(map(_unspaced, (end[-1:] for end in ends))) and any(_unspaced(each[:1]) for each in stated):
                what = f"a space stands between prompts and answers of {quoted(relation.name)}, whose script has none"
                self.warn("space-in-script", ("relations", relation.name), what, 'Write join: ""')

    def _warn_row(self, index: int, code: str, what: str, do: str) -> None:
        self.findings.warn(code, self.places.file(index), self.places.fact(index), what, do=do)

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
        # Without implications there may be very many questions, and none of them is looked at.
        asked = {question.implication for question in self.pack.questions} if self.pack.implications else set()
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


def _slip(text: str) -> tuple[str, str] | None:
    """What is odd about a name, and what to do."""
    if len(text.splitlines()) > 1:
        return "holds a line break", "Write it on one line"
    if text != text.strip():
        return "begins or ends with a space", "Remove it, unless it is part of the name"
    return ("is how an empty cell is written", "Mend it, if it was meant to be empty") if text in EMPTY else None


def _unspaced(letter: str) -> bool:
    return unicodedata.name(letter or " ", "").startswith(UNSPACED)
