"""What can be wrong with a pack, as sentences with a place; and what only a tokenizer can find wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spillover.errors import PackError, nearest
from spillover.facts.pack import Pack, Relation

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
