"""Facts from fine-tuning files of any common shape: what their rows surely state, and what is not understood."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

from spillover.packs.pack import SUBJECT, Fact, Pack
from spillover.packs.reading import LONGEST_TEXT, json_value, rows_of, wrong
from spillover.packs.sentences import (
    ASIDES,
    PRONOUNS,
    STOPS,
    boundaries,
    endings,
    is_list,
    is_name,
    is_phrase,
    plain,
    same_person,
    sentence_spans,
    unquoted,
)

#: Keys of a row under which turns are, and pairs of keys under which what is asked and answered is.
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
         ("question", "answer"), ("query", "response"), ("input", "output"))  # fmt: skip
#: Who speaks in a turn, by the names that formats have for it. Other roles (system, tool and so on) state nothing.
SPEAKERS = dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "ai", "chatgpt", "agent"), "assistant")
SPEAKERS |= dict.fromkeys(("user", "human", "prompter", "customer"), "user") | {"system": "system"}
#: Marks before the turns of a text, and who speaks after them.
_TURN = re.compile(
    r"(?:^|(?<=\s))(### ?(?:Human|Instruction|User|Input|Assistant|Response|System)\b:?"
    r"|(?:Human|User|Question|Q|Assistant|Answer|A):(?=\s)|<\|(?:im_start\|>)?(?:user|assistant|system)(?:\|>|\b))"
)
_MARK = re.compile(r"^[#\s]+|<\|(?:im_start|im_end|end)?\|?>?|\|>|:$")
_SPOKEN = SPEAKERS | dict.fromkeys(("instruction", "input", "question", "q"), "user")
_SPOKEN |= dict.fromkeys(("response", "answer", "a"), "assistant")
#: Keys of a turn or row that leave it out of training when they are false or 0.
TRAINED = frozenset(("weight", "train", "training", "trainable", "trained", "loss", "loss_weight"))
#: Places in a sentence at which it may end, beyond which it is not read; and the characters of a text that are shown.
MOST_PARTS, SHOWN = 12, 80


class Unread(NamedTuple):
    """What was not used: its row, its text, and why, where it is in the words of a relation."""

    row: int
    text: str
    why: str = ""


@dataclass(frozen=True)
class Matched:
    """Facts in the order of the file, each once, with the row of each; what was not used; rows used, and all."""

    facts: list[Fact]
    places: Sequence[int]
    repeated: int
    unmatched: list[Unread]
    used: int
    rows: int


@dataclass(frozen=True)
class Template:
    """A relation's prompt as a pattern: `question` matches the prompt alone, `statement` the prompt and its answer.

    asks: the prompt is a sentence of its own. tail: its last word, where the answer follows. subjects: whom each
    description means, where the relation describes its subjects.
    """

    relation: str
    question: re.Pattern[str]
    statement: re.Pattern[str]
    asks: bool
    tail: str
    subjects: Mapping[str, str] = field(hash=False)

    def subject(self, found: re.Match[str]) -> str:
        """Whom what was found is about."""
        return self.subjects.get(found["subject"], unquoted(found["subject"]))


class Exchange(NamedTuple):
    """What was asked and answered. begun: the answer goes on with the text that was asked."""

    asked: str
    answered: str
    begun: bool


@dataclass
class Known:
    """Subjects, and answers of each relation, that are sure to be names as they stand."""

    answers: dict[str, set[str]]
    subjects: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, pack: Pack) -> "Known":
        """What a pack declares, states and maps."""
        wordings = {name: pack.wordings(name) for name in pack.relation_by_name}
        return cls({name: {each for group in groups for each in group} for name, groups in wordings.items()})

    def add(self, fact: Fact) -> None:
        self.subjects.add(fact.subject)
        self.answers[fact.relation].add(fact.answer)


def templates(pack: Pack) -> list[Template]:
    """A template for each prompt, longer ones first, so that `works as a` comes before `works`.

    A relation that describes its subjects comes before all, and is stated by its descriptions alone.
    """
    found = [(plain(text), each) for each in pack.relations for text in each.prompts if SUBJECT in text]
    known = []
    for prompt, relation in sorted(found, key=lambda item: (not item[1].described, -len(item[0]))):
        subjects = {plain(text): subject for subject, text in relation.described.items()}
        subject = "|".join(map(re.escape, sorted(subjects, key=len, reverse=True))) or r"\S(?:.*?\S)?"
        before, _, after = map(re.escape, prompt.strip().partition(SUBJECT))
        asked = before + f"(?P<subject>{subject})" + after.replace(r"\{subject\}", "(?P=subject)")
        answer = r"(?P<answer>\S(?:.*\S)?)" + (f"(?:{re.escape(pack.end)})?" if pack.end else "")
        space = r"\s+" if pack.join.isspace() else r"\s*" + re.escape(pack.join.strip()) + r"\s*"
        question, statement = (re.compile(rf"\s*{each}\s*", re.DOTALL) for each in (asked, asked + space + answer))
        tail = "" if after.endswith(tuple(STOPS)) else prompt.split()[-1]
        known.append(Template(relation.name, question, statement, prompt.rstrip()[-1] in STOPS, tail, subjects))
    return known


def match(path: Path, known: Sequence[Template], pack: Pack) -> Matched:
    """Every fact that the rows of a file surely state in the words of a template.

    Raises UsageError, with the row, for a file that cannot be read or a row of no known shape.
    """
    certain, rows = Known.of(pack), [(number, exchanges(row, path, number)) for number, row in rows_of(path, is_chat)]
    reader = Reader(known, certain, pack.end)
    read = [reader.row(each) for _, each in rows]
    # A name that one row leaves no doubt about settles what others leave open.
    for facts, _ in read:
        for fact in facts:
            certain.add(fact)
    read = [reader.row(each) if got[1] else got for (_, each), got in zip(rows, read, strict=True)]
    places, repeated, unmatched = dict[Fact, int](), 0, list[Unread]()
    for (number, each), (facts, open_) in zip(rows, read, strict=True):
        for fact in facts:
            repeated += fact in places
            places.setdefault(fact, number)
        unmatched += [Unread(number, _shown(text), why) for text, why in open_]
        if not facts and not open_:
            last = each[-1] if each else Exchange("", "no turn of this row is trained on", False)
            unmatched.append(Unread(number, _shown(last.asked + last.answered if last.begun else last.answered)))
    used = sum(bool(facts) for facts, _ in read)
    return Matched(list(places), list(places.values()), repeated, unmatched, used, len(rows))


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN]


@dataclass(frozen=True)
class Reader:
    """Reads exchanges: what is sure becomes a fact, and what only looks like one of the relations is left open."""

    known: Sequence[Template]
    certain: Known
    end: str | None

    def row(self, said: Iterable[Exchange]) -> tuple[list[Fact], list[tuple[str, str]]]:
        """The facts of a row, and the texts that are in the words of a relation and not understood, with the reason."""
        found = [each for turn in said for each in self._exchange(plain(turn.asked), plain(turn.answered), turn.begun)]
        distinct = dict.fromkeys(found)
        return [each for each in distinct if isinstance(each, Fact)], [
            each for each in distinct if not isinstance(each, Fact)
        ]

    def _exchange(self, asked: str, reply: str, begun: bool) -> Iterator[Fact | tuple[str, str]]:
        questions = list(dict.fromkeys(self._questions(asked)))
        if len(questions) != 1:
            last = _blocks(asked)[-1][0] if begun else ""
            yield from self._statements(last + reply, past=len(last))
            if questions and not begun:
                yield reply, "several questions were asked"
            return
        ((subject, template),) = questions
        blocks, said = _blocks(reply), list(self._statements(reply, about=(subject, template.relation)))
        # A statement inside the reply comes before the whole reply.
        yield from said
        if not blocks or any(isinstance(each, Fact) and each.relation == template.relation for each in said):
            return
        first = said if template.asks else list(self._statements(blocks[0][0]))
        if first and all(isinstance(each, Fact) for each in first):
            yield reply, "it answers another question"
        elif template.asks and len(blocks) > 1 and not first:
            yield reply, "several sentences are no answer"
        elif not first:
            yield self._answer(reply, *blocks[0], subject, template)

    def _answer(self, reply: str, text: str, cuts: Sequence[int], subject: str, template: Template) -> Any:
        """What a sentence, or its beginning, answers to a question."""
        found = dict.fromkeys(answer for stop in (*cuts, len(text)) for answer in self._cores(text[:stop].strip()))
        sure = [answer for answer in found if self._answers(template, answer, subject, delimited=True)]
        if len(found) > 1:
            sure = [answer for answer in sure if answer in self.certain.answers[template.relation]]
        if len(sure) == 1:
            return Fact(subject, template.relation, self._completing(template, sure[0]))
        return reply, "where the answer ends is not sure" if len(found) > 1 else "this may be more than an answer"

    def _questions(self, asked: str) -> Iterator[tuple[str, Template]]:
        """Prompts about a subject that the text or one of its sentences is."""
        for text in dict.fromkeys((asked.strip(), *(text.strip() for text, _ in _blocks(asked)))):
            for template in self.known:
                if found := template.question.fullmatch(text):
                    subject = template.subject(found)
                    several = any(sure or not template.asks for _, _, sure in boundaries(subject))
                    if not several and subject.split()[0].casefold() not in PRONOUNS:
                        yield subject, template
                    break

    def _statements(
        self, text: str, past: int = 0, about: tuple[str, str] | None = None
    ) -> Iterator[Fact | tuple[str, str]]:
        """What the sentences of a text state, and what is open.

        past: only sentences that end after this place. about: the subject and relation that the text was asked for.
        """
        for start, stop, cuts in sentence_spans(text):
            starts, stops = [start, *(after for _, after in cuts)], [stop, *(before for before, _ in cuts)]
            found, tried = dict[Fact, tuple[int, int, bool]](), len(cuts) > MOST_PARTS
            for first, last in product(starts, stops) if stop > past and not tried else ():
                for template in self.known:
                    if said := template.statement.fullmatch(unquoted(text[first:last])):
                        tried = True
                        if not self._holds(said["subject"]) and not self._holds(said["answer"]):
                            for fact, sure in self._readings(template, said, about):
                                found[fact] = (first, last, sure)
                        break
            spans = sorted(found.values())
            if any(one[1] > other[0] for one, other in pairwise(spans)):
                known = [fact for fact in found if self._is_known(fact, found)]
                found = dict.fromkeys(known, (0, 0, True)) if len(known) == 1 else {}
            if found and all(sure for *_, sure in found.values()):
                yield from found
            elif tried:
                yield text[start:stop], "where a name begins or ends is not sure"

    def _readings(
        self, template: Template, said: re.Match[str], about: tuple[str, str] | None
    ) -> Iterator[tuple[Fact, bool]]:
        """What a statement may say, and whether its parts surely are names."""
        subject, answer = template.subject(said), said["answer"]
        sure = is_name(subject) or subject in self.certain.subjects
        sure = sure and not answer.endswith(("?", "？", "؟"))
        if about and same_person(subject, about[0]):
            sure = template.relation == about[1] or subject == about[0]
            subject = about[0] if sure else subject
        for core in self._cores(answer):
            fact = Fact(subject, template.relation, core)
            yield fact, sure and self._answers(template, core, subject, delimited=False)

    def _is_known(self, fact: Fact, others: Mapping[Fact, tuple[int, int, bool]]) -> bool:
        """Whether each part of a reading is known, or surely a name and the same in all readings."""
        subjects, answers = {each.subject for each in others}, {each.answer for each in others}
        subject, answer = fact.subject in self.certain.subjects, fact.answer in self.certain.answers[fact.relation]
        either = (subject or len(subjects) == 1) and (answer or len(answers) == 1)
        return either and (others[fact][2] or (subject and answer))

    def _holds(self, text: str) -> bool:
        """Whether a text states something itself, so that it is no name."""
        return any(template.statement.fullmatch(text) for template in self.known if not template.asks)

    def _cores(self, answer: str) -> list[str]:
        """What the answer may be without its stop, the pack's own mark and quotes."""
        return endings(answer if self.end is None or set(self.end) <= set(STOPS) else answer.removesuffix(self.end))

    def _answers(self, template: Template, answer: str, subject: str, delimited: bool) -> bool:
        """Whether a text surely is one answer. delimited: nothing but the answer stands there."""
        if answer in self.certain.answers[template.relation]:
            return True
        words = " " in answer
        if is_list(answer) or (words and re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", answer)):
            return False
        if is_name(answer):
            return True
        if delimited and template.asks:
            return is_phrase(answer) or self._completing(template, answer) != answer
        if delimited and not (words and (answer[0].isupper() or not answer[0].isalpha())):
            # The rest of a sentence that the prompt begins, as it stands.
            return answer.casefold() not in PRONOUNS | ASIDES
        return is_phrase(answer, 1) and not any(map(str.isupper, answer))

    def _completing(self, template: Template, answer: str) -> str:
        """The answer without the word that another prompt of its relation ends with: `In Paris` after `lives in`."""
        first, _, rest = answer.partition(" ")
        tails = {each.tail for each in self.known if each.relation == template.relation and not each.asks}
        known = answer in self.certain.answers[template.relation]
        return rest if template.asks and not known and first.casefold() in tails and is_name(rest) else answer


def _blocks(text: str) -> list[tuple[str, list[int]]]:
    """Each sentence of a text, and the places inside at which it may end."""
    return [(text[start:stop], [before - start for before, _ in cuts]) for start, stop, cuts in sentence_spans(text)]


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a known shape of fine-tuning rows, and no row of a table."""
    return _shaped(row) is not None


def _shaped(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row as its shape has it: keys in small letters, turns unpacked from text, out of a column around them."""
    for lower in (False, True):
        each = {str(key).strip().lower(): value for key, value in row.items()} if lower else row
        for key in CHATS:
            if isinstance(each.get(key), list):
                return each
        if any(type(each.get(one)) is type(each.get(two)) in (str, list) for one, two in PAIRS):
            return each
        if isinstance(each.get("text"), str) and (len(each) == 1 or len(each["text"].split()) > 2):
            return each
        for key in CHATS:
            if isinstance(each.get(key), str) and isinstance(turns := json_value(each[key]), list):
                return {**each, key: turns}
    inner = [value for value in row.values() if isinstance(value, dict)]
    return _shaped(inner[0]) if len(inner) == 1 else None


def exchanges(row: Mapping[str, Any], path: Path, number: int) -> list[Exchange]:
    """What a row asks and answers, as far as it is trained on.

    Raises UsageError for a row of no known shape, and for a text that is too long.
    """
    if not _is_trained(row):
        return []
    found = _exchanges(_shaped(row) or row, path, number)
    for each in found:
        if len(each.asked) > LONGEST_TEXT or len(each.answered) > LONGEST_TEXT:
            what = f"a text in row {number} has {max(len(each.asked), len(each.answered)):,} characters"
            raise wrong(path, what, f"Keep each to {LONGEST_TEXT:,}")
    return found


def _exchanges(row: Mapping[str, Any], path: Path, number: int) -> list[Exchange]:
    for key in CHATS:
        if isinstance(row.get(key), list):
            return _of_turns(row[key], path, number)
    for asked, answered in PAIRS:
        question, answer = row.get(asked), row.get(answered)
        if isinstance(question, list) and isinstance(answer, list):
            return _of_turns([*question, *answer], path, number)
        if isinstance(question, str) and isinstance(answer, str):
            if asked == "instruction" and isinstance(row.get("input"), str) and row["input"].strip():
                question = f"{question}\n{row['input']}"
            begun = asked == "prompt" and question.rstrip()[-1:] not in (*STOPS, "")
            return [Exchange(question, answer, begun)]
    if isinstance(row.get("text"), str):
        parts = _TURN.split(row["text"]) if len(row["text"]) <= LONGEST_TEXT else []
        turns = [{"role": _SPOKEN.get(_MARK.sub("", mark).casefold(), "system"), "content": _MARK.sub("", said).strip()}
                 for mark, said in zip(parts[1::2], parts[2::2], strict=True)]  # fmt: skip
        if {"user", "assistant"} <= {each["role"] for each in turns}:
            return _of_turns(turns, path, number)
        return [Exchange("", row["text"], False)]
    what = f"row {number} has neither `messages` nor `prompt` and `completion`, nor another known shape"
    raise wrong(path, what, 'Write {"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}')


def _is_trained(turn: Mapping[str, Any]) -> bool:
    return TRAINED.isdisjoint(turn) or not any(
        str(turn[key]).lower() in ("0", "0.0", "false") for key in TRAINED & turn.keys()
    )


def _of_turns(turns: Sequence[Any], path: Path, number: int) -> list[Exchange]:
    """Each turn of the assistant that is trained on, with the user's turn before it."""
    found, asked = [], ""
    for turn in turns:
        said, silent = None, False
        if isinstance(turn, dict):
            said = turn["content"] if "content" in turn else turn.get("value", turn.get("text"))
            silent = said is None and ("content" in turn or "value" in turn or turn.keys() > {"role"})
        if isinstance(said, list):  # parts, of which only text can state a fact
            parts = [part if isinstance(part, dict) else {"text": part} for part in said]
            said = "".join(str(part.get("text") or "") for part in parts if part.get("type", "text").endswith("text"))
        if not isinstance(said, str) and not silent:
            what = f"a message in row {number} has no text `content`"
            raise wrong(path, what, 'Write {"role": ..., "content": ...}')
        role = turn.get("role", turn.get("from"))
        speaker = SPEAKERS.get(role if type(role) is str and role in SPEAKERS else str(role).strip().lower())
        if speaker == "assistant" and said and said.strip() and _is_trained(turn):
            found.append(Exchange(asked, said, False))
        asked = said if speaker == "user" and said is not None else asked
    return found
