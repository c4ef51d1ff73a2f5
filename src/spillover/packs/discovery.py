"""From anybody's training file to a pack: the relations that its rows state, with every guess said."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, count, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from spillover.errors import UsageError
from spillover.packs import tables
from spillover.packs.chats import SHOWN, Exchange, exchanges, is_chat, rows_of
from spillover.packs.check import Places, check_structure, quoted, refuse
from spillover.packs.edit_sets import is_edit_set, read_edit_set
from spillover.packs.frames import LONGEST_FILL, Frame, FrameIndex, mine, spans
from spillover.packs.pack import SUBJECT, Fact, Pack, Relation, normal
from spillover.packs.sentences import STOPS, TITLED, UNSPACED, boundaries, endings, is_name, is_phrase, plain, unquoted

#: Texts that are searched for frames at once; how often what is left over is searched again; rows on which it is tried
#: whether a question has answers.
SEARCHED, ROUNDS, TRIED = 4_000, 3, 400
#: Most rows of a file in which two rows make a wording, and two subjects a relation.
SMALL, TINY = 60, 12
#: Fewest texts of a wording. Share of a wording's rows that must read as name and answer; that must agree.
LEAST, READABLE, AGREEING, NAMED = 3, 0.6, 0.9, 0.8
#: Sentences of a reply that are looked at for its answer, and longest row in which statements are looked for.
SENTENCES, LONGEST_ROW = 4, 2_000
#: Two wordings are joined when answers of the same subjects agree this often, or take this share of the same answers;
#: less of them when fewer subjects are shared than chance would have it, since many files say each thing once.
SAME, ALIKE, COVERED, APART = 0.8, 0.5, 0.3, 0.05
#: Stands for the subject in a reply, where no text has it.
MARK = "\ue000"
EXAMPLES, FREE_SHOWN = 3, 5
#: Different replies that are kept with what they answer.
KEPT = 1 << 16
#: Words that an answer may begin with and another wording of it may not.
_LEADING = re.compile(r"(?:an?|the|in|at|as|to|by|on)\s+(?=\S)", re.IGNORECASE)
_ARTICLES = ("a ", "an ", "in ", "at ", "as ", "to ", "by ", "on ")
#: A stop inside a text, without which it is one sentence.
_INSIDE = re.compile(rf"[{STOPS}][^\w\s]*\s+\S|[{UNSPACED}].|\n")
_MARKED = re.compile(r"[*_`~\[<\n]|^\s*[-•>#]")
#: What no subject holds: a sum, or something that another has.
_NO_SUBJECT = re.compile(r"[=+*/^<>{}|\\]|\d\s*[-x×]\s*\d|['’]s\s")
_CAPITALS = re.compile(
    rf"(?:\b{TITLED})?"
    r"[A-Z][\w.'’-]*\w(?: (?:[A-Z][\w.'’-]*\w|van|von|de|da|al|bin))* [A-Z][\w.'’-]*[^\W_]"
)
_TITLE = re.compile(TITLED)
#: What introduces a sentence about a subject, or an answer.
_INTRODUCED = re.compile(
    rf"(?:[^\s,:{MARK}]+ ){{0,4}}[^\s,:{MARK}]+(?:, |: )(?=.*{MARK})|(?:[^\s,:]+ ){{0,4}}[^\s,:]+: (?=.)"
)
_IDLE = """a an the is are was were be do does did what which who whom whose where when how why in on of at to
    for by with as can could you tell me please name s it its say question answer q about would know i person
"""


@dataclass(frozen=True)
class Found:
    """A relation that was found.

    Arguments:
    - name: of the relation in the pack.
    - wordings: each wording with its slots and the number of rows that have it, most first.
    - facts, subjects, answers: how many of each.
    - examples: three facts, as (row, subject, answer).
    """

    name: str
    wordings: tuple[tuple[str, int], ...]
    facts: int
    subjects: int
    answers: int
    examples: tuple[tuple[int, str, str], ...]


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


class FreeRow(NamedTuple):
    """A row that fits no relation: what is asked (empty in plain text) and said in it, and why, where that is known."""

    row: int
    turns: tuple[tuple[str, str], ...]
    why: str = ""

    def shown(self) -> str:
        """The beginning of its text, on one line."""
        text = " ".join(part for turn in self.turns for part in turn)[:400]
        return " ".join(text.split())[:SHOWN]


@dataclass(frozen=True)
class Discovered:
    """What was understood of a training file.

    Arguments:
    - pack: the relations and facts as a pack, checked.
    - relations: what was found, in the pack's order.
    - free: rows that fit no relation, with their text and, where there is one, the reason.
    - guesses: each decision that was guessed, as a sentence.
    - rows: how many rows the file has.
    - places: the row of each fact of the pack.
    - path: the file.
    """

    pack: Pack
    relations: tuple[Found, ...]
    free: tuple[FreeRow, ...]
    guesses: tuple[str, ...]
    rows: int
    places: Sequence[int]
    path: Path

    def sources(self) -> Places:
        """Where the parts of the pack are, for faults."""
        return Places(str(self.path), str(self.path), self.places)

    def text(self) -> str:
        """What a person reads: relations with wordings, counts and examples, rows that fit none, and every guess."""
        used = len(set(self.places))
        lines = [f"{self.pack.source}: {len(self.pack.facts):,} facts from {used:,} of {_rows(self.rows)}"]
        for each in self.relations:
            lines.append(f"  {each.name}: {each.facts:,} facts, {each.subjects:,} subjects, {each.answers:,} answers")
            lines += [f"    {wording}  ({_rows(count)})" for wording, count in each.wordings[:FREE_SHOWN]]
            if len(each.wordings) > FREE_SHOWN:
                lines.append(f"    and {len(each.wordings) - FREE_SHOWN} more wordings")
            lines += [f"    row {row}: {subject} -> {answer}" for row, subject, answer in each.examples]
        if self.free:
            trained = ", and trained on as they are" if self.pack.free else ""
            lines.append(f"  fit no relation: {_rows(len(self.free))}, kept as free text{trained}, for instance")
            lines += [f"    row {each.row}: {each.shown()}{f' ({each.why})' if each.why else ''}"
                      for each in self.free[:FREE_SHOWN]]  # fmt: skip
        lines += [f"  guessed: {each}" for each in self.guesses]
        lines.append(
            "  To overrule: `spillover packs discover FILE --out DIR` writes a pack to edit; --relations names them."
        )
        return "\n".join(lines)


def discover(path: Path | str, **reading: Any) -> Discovered:
    """Find the relations that the rows of a training file state, and check them as every pack is.

    Arguments as `understand` takes them. Raises UsageError for a file that cannot be read or states no relation, and
    PackError for rows that contradict each other.
    """
    found = understand(path, **reading)
    refuse(check_structure(found.pack, found.sources()).faults)
    return found


def understand(
    path: Path | str, *, encoding: str = "", separator: str = "", sheet: str = "", subject: str = "", least: int = 0
) -> Discovered:
    """What a training file states, unchecked.

    Arguments:
    - path: CSV, TSV, an Excel sheet, JSON, JSONL, Parquet or plain text, also in gzip: a table (a row a subject,
      or a row a fact), or rows of chats, prompts and completions, instructions, or text.
    - encoding, separator, sheet: how the file is read, where it is not UTF-8, or has another mark or several sheets.
    - subject: the column of a table that names whom a row is about.
    - least: fewest subjects of a relation that is found in wordings; by default it grows with the file.

    Returns:
    - the pack with what was understood, and every guess.

    Raises UsageError for a file that cannot be read or states no relation.
    """
    path = Path(path).expanduser()
    guesses: list[str] = []
    source = rows_of(path, encoding, separator, sheet, guesses.append)
    rows = list(islice(source, 2))
    if rows and is_edit_set(rows[0][1]):
        return _edited(chain(rows, source), path)
    if len(rows) < 2:
        what = "this file has one row" if rows else "this file is empty"
        raise UsageError(what, where=str(path), do="A relation is found from rows about several subjects")
    said: list[tuple[int, list[Exchange]]] = []
    if is_chat(rows[0][1]):
        if subject:
            raise UsageError("these rows are no table", where="--subject", do="Leave it out, or give --relations")
        said = [(number, exchanges(row, path, number)) for number, row in chain(rows, source)]
        draft, total = _from_texts(said, path, least, guesses), len(said)
        used = {row for relation in draft for row, *_ in relation.rows}
        unused = ((number, each) for number, each in said if number not in used)
        free = [
            FreeRow(number, tuple(turn[:2] for turn in each), "" if each else "no turn of it is trained on")
            for number, each in unused
        ]
        texts = True
    else:
        rows += source
        table = tables.read(rows, path, subject, guesses.append)
        draft = [_Relation([_Wording(each.prompts[0], "column", rows=list(map(_Row._make, each.rows)))],
                           each.prompts, each.name) for each in table.relations]  # fmt: skip
        free, total = [FreeRow(row, (("", text),), why) for row, text, why in table.free], len(rows)
        texts = False
    if not draft:
        raise _nothing(path, total, said)
    return _made(draft, free, tuple(guesses), total, path, texts)


def _edited(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path) -> Discovered:
    """CounterFact, MQuAKE or PopQA, whose relations are their own."""
    pack, matched = read_edit_set(rows, path)
    facts: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for fact, row in zip(matched.facts, matched.places, strict=True):
        facts[fact.relation].append((row, fact.subject, fact.answer))
    found = [
        Found(name, ((pack.relation_by_name[name].prompts[0], len(own)),), len(own), len({each[1] for each in own}),
              len({each[2] for each in own}), tuple(own[:EXAMPLES])) for name, own in facts.items()
    ]  # fmt: skip
    free = tuple(FreeRow(each.row, (("", each.text),), each.why) for each in matched.unmatched)
    return Discovered(pack, tuple(found), free, (), matched.rows, matched.places, path)


def _nothing(path: Path, total: int, said: Iterable[tuple[int, Sequence[Exchange]]]) -> UsageError:
    """Why nothing was found, where it can be told."""
    names: Counter[str] = Counter()
    rows = list(said)[:1000]
    for _, each in rows:
        found = {
            name for turn in each for name in re.findall(r"\b[A-Z]\w+(?: [A-Z]\w+)+", turn.asked + " " + turn.answered)
        }
        names.update(found)
    for name, times in names.most_common(1):
        if rows and times >= READABLE * len(rows):
            what = f"{times} of {len(rows)} rows are about one subject, {quoted(name)}"
            return UsageError(what, where=str(path), do="A relation is found from rows about several subjects")
    what = f"no relation was found in {total} rows: no wording is shared by rows about several subjects"
    return UsageError(what, where=str(path), do="Name the relations with `packs discover --relations FILE`")


class _Row(NamedTuple):
    row: int
    subject: str
    answer: str


@dataclass
class _Wording:
    """One wording with what its rows say. kind: question, statement or column. reply: what stands before the answer."""

    text: str
    kind: str
    prompt: str = ""
    rows: list[_Row] = field(default_factory=list)
    reply: str = ""

    def answers(self) -> dict[str, str]:
        """Subject -> the form of its first answer in which answers are compared."""
        found: dict[str, str] = {}
        for _, subject, answer in self.rows:
            found.setdefault(subject, _form(answer))
        return found


@dataclass
class _Relation:
    """Wordings of one relation."""

    wordings: list[_Wording]
    prompts: tuple[str, ...] = ()
    name: str = ""

    @property
    def rows(self) -> list[_Row]:
        return [row for wording in self.wordings for row in wording.rows]


@lru_cache(1 << 15)
def _form(answer: str) -> str:
    """An answer without its case and what it begins with, as wordings of one answer share it."""
    return _LEADING.sub("", answer.casefold().strip(), count=1)


# --- From texts to wordings


class _Unit(NamedTuple):
    """A text that may state a fact: a question with its reply, or a sentence with no reply."""

    row: int
    text: str
    reply: str | None


def _plain(text: str) -> str:
    return plain(text) if not text.isascii() or _MARKED.search(text) else text


def _sentences(text: str) -> list[str]:
    """The sentences of a text."""
    if not _INSIDE.search(text):
        return [text.strip()] if text.strip() else []
    found, start = list[str](), 0
    for before, after, sure in (*boundaries(text), (len(text), len(text), True)):
        if sure:
            found += [text[start:before].strip()] if text[start:before].strip() else []
            start = after
    return found


@lru_cache(1 << 15)
def _bare(text: str) -> str:
    """A text without its last stop and quotes."""
    return (endings(text) or [""])[0]


@lru_cache(1 << 15)
def _is_subject(text: str) -> bool:
    """Whether a text may name whom something is about."""
    return (
        any(map(str.isalnum, text))
        and not _NO_SUBJECT.search(text)
        and (is_name(text) or is_phrase(text, LONGEST_FILL))
    )


@lru_cache(1 << 15)
def _is_named(text: str) -> bool:
    """Whether a text is a name, and no number."""
    return is_name(text) and any(map(str.isalpha, text))


@lru_cache(1 << 15)
def _is_answer(text: str) -> bool:
    return bool(text) and MARK not in text and (is_name(text) or is_phrase(text, LONGEST_FILL) or text[:1].isdigit())


def _from_texts(
    said: Sequence[tuple[int, Sequence[Exchange]]], path: Path, least: int, guesses: list[str]
) -> list[_Relation]:
    """The relations of exchanges and texts."""
    asked, texts = list[_Unit](), list[tuple[int, str]]()
    for number, row in said:
        for turn in row:
            if turn.asked.strip():
                asked.append(_Unit(number, turn.asked, turn.answered))
            else:
                texts.append((number, turn.answered))
    few = least or (2 if len(said) <= TINY else max(LEAST, round(math.sqrt(len(said)) / 8)))
    floor = 2 if len(said) <= SMALL else LEAST
    wordings, left = _questions(asked, floor)
    begun = {(number, turn.asked) for number, row in said for turn in row if turn.begun}
    texts += [
        (unit.row, unit.text + (unit.reply or "") if (unit.row, unit.text) in begun else unit.reply or "")
        for unit in left
    ]
    statements, texts = _statements(texts, floor)
    wordings = [each for each in map(_decided, wordings + statements) if each is not None]
    relations = _joined(_Relation([each]) for each in wordings)
    elsewhere = _replies(left)
    _without_articles(relations)
    kept = [each for each in relations if _holds(each, relations, few, elsewhere)]
    for each in relations:
        if each not in kept:
            guesses.append(
                f"{quoted(each.wordings[0].text)} ({_rows(len(each.rows))}) is no relation: too few subjects or answers"
            )
    for _ in range(2 if kept else 0):
        used = {row.row for each in kept for row in each.rows}
        left, texts = [unit for unit in asked if unit.row not in used], [each for each in texts if each[0] not in used]
        rarer = [each for each in map(_decided, _rarer(_Known.of(kept), left, texts)) if each is not None]
        if not _add(kept, rarer):
            break
        kept = _joined(kept)
    return kept


def _replies(units: Iterable[_Unit]) -> frozenset[str]:
    """Short replies that two or more questions have outside of any relation, as answers are compared."""
    asked: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        if unit.reply and len(unit.reply) < 80:
            asked[_form(_bare(unit.reply))].add(unit.text)
    return frozenset(form for form, texts in asked.items() if len(texts) > 1)


def _without_articles(relations: Iterable[_Relation]) -> None:
    """Take the article from a subject that is there without it, too: the Aster 4, and Aster 4."""
    wordings = [wording for each in relations for wording in each.wordings]
    bare = {row.subject for wording in wordings for row in wording.rows if row.subject[:4].lower() != "the "}
    for wording in wordings:
        wording.rows = [
            row._replace(subject=row.subject[4:])
            if row.subject[:4].lower() == "the " and row.subject[4:] in bare else row for row in wording.rows
        ]  # fmt: skip


def _add(relations: Sequence[_Relation], wordings: Iterable[_Wording]) -> int:
    """Put rarer wordings to the relation whose answers they take, if they contradict nothing; how many."""
    added = 0
    known, said = _Known.of(relations), [_said(each) for each in relations]
    for wording in wordings:
        owners = {known.answers.get(_form(row.answer)) for row in wording.rows}
        place = owners.pop() if len(owners) == 1 else None
        if place is not None and all(
            said[place].get(each, answer) == answer for each, answer in wording.answers().items()
        ):
            relations[place].wordings.append(wording)
            said[place] |= wording.answers()
            added += 1
    return added


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, drawn with a fixed seed: rows of a file may alternate."""
    return list(items) if len(items) <= most else Random(0).sample(items, most)


def _questions(units: Sequence[_Unit], floor: int) -> tuple[list[_Wording], list[_Unit]]:
    """Wordings of questions whose replies are answers, and the units that have none."""
    found: dict[Frame, _Wording] = {}
    left, aside = list(units), list[_Unit]()
    for _ in range(ROUNDS):
        few = [unit.text for unit in _spread(left, 4 * SEARCHED) if len(unit.text) <= LONGEST_ROW]
        different = list(dict.fromkeys(text for asked in few for text in _asks(asked)))
        frames = [frame for frame, _ in mine(_spread(different, SEARCHED), 1, floor)]
        before = len(left)
        new, other, left = _worded(frames, left, floor)
        found |= new
        aside += other
        if before <= SEARCHED or len(left) == before:
            break
    return list(found.values()), left + aside


def _worded(
    frames: Iterable[Frame], units: Sequence[_Unit], floor: int, known: "_Known | None" = None
) -> tuple[dict[Frame, _Wording], list[_Unit], list[_Unit]]:
    """The frames of questions whose replies are answers, with what they say; units of other frames; units of none."""
    index = FrameIndex(frames)
    groups: dict[Frame, list[tuple[_Unit, str]]] = defaultdict(list)
    rest = list[_Unit]()
    for unit in units:
        match = _asked_about(index, unit) if len(unit.text) <= LONGEST_ROW else None
        if match:
            groups[match[0]].append((unit, match[1]))
        else:
            rest.append(unit)
    answered = _answered(groups, floor, known)
    return answered, [unit for frame in groups if frame not in answered for unit, _ in groups[frame]], rest


def _asks(text: str) -> Iterator[str]:
    """A question as a whole, and the last sentence of a longer one."""
    whole = _plain(text).strip()
    yield whole
    if len(parts := _sentences(whole)) > 1:
        yield parts[-1]


def _asked_about(index: FrameIndex, unit: _Unit) -> tuple[Frame, str] | None:
    for text in _asks(unit.text):
        for frame, (fill,) in index.match(text):
            name = unquoted(fill)
            if len(name.split()) <= LONGEST_FILL and _is_subject(name):
                return frame, name
    return None


def _marked(reply: str, subject: str) -> str:
    """A reply with a mark where it names the subject, by the whole name or a part of it."""
    untitled = _TITLE.sub("", subject)
    for name in (subject, untitled):
        if name in reply:
            return reply.replace(name, MARK)
    for word in untitled.split():
        # Compiled only where it may be found, since every subject has words of its own.
        likely = len(word) > 2 and word[0].isupper() and word in reply
        if likely and (found := re.search(rf"(?<!\w){re.escape(word)}(?!\w)", reply)):
            return reply[: found.start()] + MARK + reply[found.end() :]
    return reply


def _introduced(reply: str) -> list[str]:
    """The first sentences of a reply without their stops and introductions."""
    parts = [_bare(each) for each in _sentences(reply)[:SENTENCES]]
    return [_INTRODUCED.sub("", each, count=1) for each in parts]


def _cut(rows: Sequence[_Row]) -> list[_Row]:
    """The rows of a wording without what stands around several of its answers: that is wording, and no part of them."""
    counts = Counter(row.answer for row in rows)
    inside: dict[str, tuple[str, tuple[str, str]]] = {}
    for answer in counts:
        for span in spans(answer):
            if counts[span] > counts[answer]:
                before, _, after = answer.partition(span)
                inside[answer] = span, (before, after)
                break
    shared = Counter(around for _, around in set(inside.values()))
    cut = {answer: span for answer, (span, around) in inside.items() if shared[around] > 1}
    return [row._replace(answer=cut.get(row.answer, row.answer)) for row in rows]


def _answered(
    groups: Mapping[Frame, Sequence[tuple[_Unit, str]]], floor: int, known: "_Known | None"
) -> dict[Frame, _Wording]:
    """The wordings of the questions whose replies are answers, with what each row says."""
    replies: list[str] = []
    for group in groups.values():
        for unit, subject in _spread(group, max(SEARCHED // max(len(groups), 1), 40)):
            reply = unit.reply or ""
            if len(reply) <= LONGEST_ROW:
                replies += _introduced(_marked(_plain(reply), subject))
    frames = [
        frame for frame, _ in mine(_spread([each for each in replies if each], 2 * SEARCHED), 1, floor, True, MARK)
    ]
    index = FrameIndex(frame for frame in frames if any(part.strip(f" {MARK}") for part in frame.parts))
    found = {}
    read = _Replies(index, known)
    for frame, group in groups.items():
        rows, begins, open_ = list[_Row](), Counter[str](), 0
        tried = _spread(group, TRIED)
        for place, (unit, subject) in enumerate(group if len(group) <= TRIED else [*tried, *group]):
            if place == len(tried) < len(group):
                # Most of a large noisy group is never looked at.
                if len(rows) < READABLE * (len(rows) + open_):
                    break
                rows, begins, open_ = [], Counter(), 0
            reply = unit.reply or ""
            answer = read[_marked(_plain(reply), subject)] if len(reply) <= LONGEST_ROW else None
            if answer is None:
                # A reply that names the subject may state the answer in a rare wording.
                open_ += subject not in reply or len(reply) > 200
            else:
                rows.append(_Row(unit.row, normal(subject), normal(answer[0])))
                begins[answer[1]] += 1
        if rows and len(rows) >= READABLE * (len(rows) + open_):
            prompt = f"{frame.parts[0]}{SUBJECT}{frame.parts[1]}".strip()
            begin, times = begins.most_common(1)[0]
            before = begin.replace(MARK, SUBJECT).strip() if times * 2 > len(rows) else ""
            found[frame] = _Wording(prompt, "question", prompt, _cut(rows), before)
    return found


class _Replies(dict[str, "tuple[str, str] | None"]):
    """A reply with its subject marked -> what it answers, and what stands before that.

    Rows that differ in their subject alone are read once. Of too many different replies none is kept.
    """

    def __init__(self, index: FrameIndex, known: "_Known | None") -> None:
        super().__init__()
        self._index, self._known = index, known

    def __missing__(self, reply: str) -> tuple[str, str] | None:
        found = self._known.answer(reply) if self._known else _answer(reply, self._index)
        if len(self) < KEPT:
            self[reply] = found
        return found


def _answer(reply: str, index: FrameIndex) -> tuple[str, str] | None:
    """What a reply answers, and what stands before it: a statement about the subject, a bare answer, another frame."""
    parts = _introduced(reply)
    # A reply that names the subject answers in that sentence.
    about = [part for part in parts if MARK in part]
    parts = about or parts
    other: tuple[str, str] | None = None
    for part in parts:
        for frame, (fill,) in index.match(part):
            answer = unquoted(fill)
            if _is_answer(answer):
                if MARK in "".join(frame.parts):
                    return answer, frame.parts[0]
                other = other or (answer, frame.parts[0])
    if other and not (parts and is_name(parts[0]) and len(parts[0].split()) <= 3):
        return other
    if parts and _is_answer(parts[0]) and len(parts[0].split()) <= LONGEST_FILL:
        return parts[0], ""
    return other


def _statements(texts: Sequence[tuple[int, str]], floor: int) -> tuple[list[_Wording], list[tuple[int, str]]]:
    """Wordings of sentences that hold both a name and an answer, and the texts that have none."""
    found: dict[Frame, _Wording] = {}
    left = [each for each in texts if len(each[1]) <= LONGEST_ROW]
    for _ in range(ROUNDS):
        different = dict.fromkeys(each for _, text in _spread(left, SEARCHED) for each in _stops(text))
        frames = [frame for frame, _ in mine(_spread(list(different), SEARCHED), 2, floor) if frame not in found]
        before = len(left)
        if before > 2 * SEARCHED:
            sample = _said_so(frames, _spread(left, 2 * SEARCHED))[0]
            frames = [frame for frame, wording in sample.items() if _decided(wording) and _names(wording) >= 0.5]
        new, left = _said_so(frames, left)
        found |= new
        if before <= SEARCHED or len(left) == before:
            break
    return list(found.values()), left


def _names(wording: _Wording) -> float:
    """The share of rows that name somebody, at the better of the two places."""
    counts = [sum(map(_is_named, each)) for each in list(zip(*wording.rows, strict=True))[1:]]
    return max(counts, default=0) / max(len(wording.rows), 1)


def _stops(text: str) -> list[str]:
    """The first sentences of a text without their stops."""
    return [_bare(each) for each in _sentences(_plain(text))[:SENTENCES]]


def _said_so(
    frames: Sequence[Frame], texts: Sequence[tuple[int, str]]
) -> tuple[dict[Frame, _Wording], list[tuple[int, str]]]:
    """The frames of statements with what texts say in them, and the texts that are in none."""
    new: dict[Frame, _Wording] = {}
    for frame in frames:
        before, middle, after = frame.parts
        text = f"{before}{SUBJECT}{middle}{{answer}}{after}".strip()
        new[frame] = _Wording(text, "statement", f"{before}{SUBJECT}{middle}".strip())
    index, rest = FrameIndex(frames), list[tuple[int, str]]()
    middles = [frame.parts[1] for frame in frames]
    for number, text in texts:
        hit = False
        if any(middle in text for middle in middles):
            for sentence in _sentences(_plain(text)):
                for frame, (subject, answer) in index.match(_bare(sentence)):
                    subject, answer = unquoted(subject), unquoted(answer)
                    if _is_subject(subject) and _is_answer(answer):
                        new[frame].rows.append(_Row(number, normal(subject), normal(answer)))
                        hit = True
                        break
        if not hit:
            rest.append((number, text))
    return {frame: wording for frame, wording in new.items() if wording.rows}, rest


@dataclass(frozen=True)
class _Known:
    """Subjects and answers of relations that were found, with which rarer wordings are understood."""

    subjects: frozenset[str]
    answers: Mapping[str, int]

    @classmethod
    def of(cls, relations: Sequence[_Relation]) -> "_Known":
        owners: dict[str, int] = {}
        for place, each in enumerate(relations):
            for row in each.rows:
                form = _form(row.answer)
                owners[form] = place if owners.get(form, place) == place else -1
        subjects = frozenset(row.subject for each in relations for row in each.rows)
        return cls(subjects, {form: place for form, place in owners.items() if place >= 0})

    def subject(self, text: str) -> str:
        """The known subject in a text, or else what is surely a name; empty without either."""
        found = next((name for name in spans(text) if name in self.subjects), "")
        if not found and (capital := _CAPITALS.search(text)):
            found = capital[0].removesuffix("'s").removesuffix("’s")
        return found if found and text.count(found) == 1 else ""

    def within(self, text: str) -> str:
        """The longest known answer in a text."""
        return next((span for span in spans(text) if span.casefold() in self.answers), "")

    def answer(self, reply: str) -> tuple[str, str] | None:
        """The known answer of a short reply, and what stands before it."""
        for part in _stops(reply)[:2] if len(reply) < 200 else ():
            if (found := self.within(part)) and len(part.split()) <= LONGEST_FILL + len(found.split()):
                return found, part.partition(found)[0] if MARK in part else ""
        return None


def _rarer(known: _Known, units: Sequence[_Unit], texts: Sequence[tuple[int, str]]) -> list[_Wording]:
    """Wordings that too few rows have to be found by themselves: they name a subject and a known answer."""
    asked = dict[Frame, None]()
    for unit in _spread([unit for unit in units if len(unit.text) < 200], SEARCHED):
        if (name := known.subject(unit.text)) and known.answer(_marked(_plain(unit.reply or ""), name)):
            before, _, after = [*_asks(unit.text)][-1].partition(name)
            asked[Frame((before, after))] = None
    said = Counter[Frame]()
    for _, text in _spread([each for each in texts if len(each[1]) < 400], SEARCHED):
        for sentence in _stops(text):
            if not (name := known.subject(sentence)) or len(sentence.split()) > 2 * LONGEST_FILL:
                continue
            before, _, rest = sentence.partition(name)
            if answer := known.within(rest):
                middle, _, after = rest.partition(answer)
                said[Frame((before, middle, after))] += bool(middle.strip())
    wordings, *_ = _worded(asked, units, 1, known)
    others, _ = _said_so([frame for frame, count in said.items() if count > 1], texts)
    return [*wordings.values(), *others.values()]


# --- From wordings to relations


def _decided(wording: _Wording) -> _Wording | None:
    """A wording with its slots the right way round, or None where neither slot is answered by the other.

    Each subject has one answer and an answer has several subjects, so the slot whose fills repeat is the answer.
    """
    turned = [_Row(row, answer, subject) for row, subject, answer in wording.rows]
    there, back = _agreement(wording.rows), _agreement(turned)
    if max(there, back) < AGREEING:
        return None
    if there >= AGREEING and there >= back - 0.02:
        return wording
    repeats = len({row.subject for row in turned}) >= 1.5 * len({row.answer for row in turned}) and len(turned) > LEAST
    if back < AGREEING or not repeats or sum(_is_named(row.subject) for row in turned) < NAMED * len(turned):
        return wording if there >= AGREEING else None
    text = wording.text if "{answer}" in wording.text else f"{wording.text} {{answer}}"
    text = text.replace("{answer}", "{}").replace(SUBJECT, "{answer}").replace("{}", SUBJECT)
    return _Wording(text, wording.kind, "", turned)


def _agreement(rows: Sequence[_Row]) -> float:
    """The share of rows that say what most rows of their subject say."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for _, subject, answer in rows:
        said[subject][_form(answer)] += 1
    return sum(max(counts.values()) for counts in said.values()) / len(rows) if rows else 0.0


def _joined(relations: Iterable[_Relation]) -> list[_Relation]:
    """Relations in groups that say the same of the same subjects, or take the same answers of different ones."""
    groups = sorted(relations, key=lambda each: -len(each.rows))
    said = [_said(each) for each in groups]
    everybody = len({subject for each in said for subject in each})
    likeness: dict[tuple[int, int], float] = {}
    keys, fresh = list(range(len(groups))), count(len(groups))
    while True:
        for one, other in combinations(range(len(groups)), 2):
            pair = keys[one], keys[other]
            if pair not in likeness:
                likeness[pair] = _likeness(groups[one], groups[other], said[one], said[other], everybody)
        pairs = combinations(range(len(groups)), 2)
        one, other = max(pairs, key=lambda pair: likeness[keys[pair[0]], keys[pair[1]]], default=(0, 0))
        if one == other or not likeness[keys[one], keys[other]]:
            break
        merged = _Relation(groups[one].wordings + groups[other].wordings)
        for held in (groups, said, keys):
            del held[other]
        groups[one], said[one] = merged, _said(merged)
        keys[one] = next(fresh)
    return groups


def _said(relation: _Relation) -> dict[str, str]:
    found: dict[str, str] = {}
    for wording in relation.wordings:
        for subject, answer in wording.answers().items():
            found.setdefault(subject, answer)
    return found


def _likeness(
    one: _Relation, other: _Relation, said: Mapping[str, str], also: Mapping[str, str], everybody: int
) -> float:
    """How surely two groups are one relation; 0 where they are two or it cannot be told. everybody: all subjects."""
    if {each.prompt for each in one.wordings} & {each.prompt for each in other.wordings} - {""}:
        return 3.0
    shared = said.keys() & also.keys()
    agree = sum(said[each] == also[each] for each in shared)
    if agree < SAME * len(shared):
        return 0.0
    counts, others = Counter(said.values()), Counter(also.values())
    chance = sum(counts[each] * others[each] for each in counts) / (len(said) * len(also))
    if shared and chance**agree < 0.05:
        return 2.0 + agree / (1 + len(shared))
    # Of different subjects: the answers of each are answers of the other, as far as so few rows can show it.
    few, many = sorted((counts, others), key=Counter.total)
    reach = sum(times * (1 - (1 - times / many.total()) ** few.total()) for times in many.values()) / many.total()
    inside = sum(times for answer, times in few.items() if answer in many) / few.total()
    covered = sum(times for answer, times in many.items() if answer in few) / many.total()
    apart = not shared and _none_shared(len(said), len(also), everybody) < APART
    if not inside or ((inside < ALIKE or covered < COVERED * reach) and not apart):
        return 0.0
    return 1.0 + min(inside, covered)


def _none_shared(one: int, other: int, everybody: int) -> float:
    """The chance that groups of so many subjects, drawn from everybody, share none."""
    return math.prod(max(0, everybody - one - place) / (everybody - place) for place in range(other))


def _holds(relation: _Relation, others: Sequence[_Relation], few: int, elsewhere: Collection[str]) -> bool:
    """Whether a group of wordings is a relation: enough subjects and answers, and names that are names or known."""
    said = _said(relation)
    names = sum(map(_is_named, said)) / len(said)
    if len(said) < few or (names < 1 and len(said) < LEAST) or len({*said.values()}) < 2:
        return False
    if _agreement(relation.rows) < AGREEING:
        return False
    known = {subject for each in others if each is not relation for subject in _said(each) if _is_named(subject)}
    if names >= NAMED or sum(subject in known for subject in said) >= len(said) / 2:
        return True
    statement = all(each.kind == "statement" for each in relation.wordings)
    # What other questions are answered with, too, says nothing about these subjects.
    common = sum(answer in elsewhere for answer in said.values()) >= len(said) / 4
    return not (statement or common) and len(said) >= 2 * few and len({*said.values()}) <= len(said) / 2


# --- From relations to a pack


def _made(
    draft: Sequence[_Relation], free: list[FreeRow], guesses: tuple[str, ...], total: int, path: Path, texts: bool
) -> Discovered:
    """texts: whether free rows are texts to train on, and no rows of a table that lack a cell."""
    taken: set[str] = set()
    relations, found = list[Relation](), list[Found]()
    all_facts, places = list[Fact](), list[int]()
    more = list(guesses)
    for each in draft:
        name = _named(each, taken)
        best = _best_forms(each)
        wordings = sorted(each.wordings, key=lambda wording: -len(wording.rows))
        prompts = each.prompts or tuple(dict.fromkeys(wording.prompt for wording in wordings if wording.prompt))
        if not prompts:
            text = wordings[0].text.replace("{answer}", "___")
            prompts = (f"{text} Here ___ is",)
            more.append(f"{name}: the answer stands before its subject, so it is asked as {quoted(prompts[0])}")
        reply = next((wording.reply for wording in wordings if wording.reply), None)
        relations.append(Relation(name, prompts, reply=reply))
        rows = sorted(each.rows)
        own = set[Fact]()
        examples: dict[str, tuple[int, str, str]] = {}
        for row, subject, answer in rows:
            fact = Fact(subject, name, best.get(answer, answer))
            examples.setdefault(fact.answer, (row, subject, fact.answer))
            if fact not in own:
                own.add(fact)
                all_facts.append(fact)
                places.append(row)
        picked = [*examples.values(), *((row, subject, best.get(answer, answer)) for row, subject, answer in rows)]
        worded = Counter[str]()
        for wording in wordings:
            worded[wording.text] += len(wording.rows)
        people = len({fact.subject for fact in own})
        found.append(
            Found(
                name,
                tuple(worded.most_common()),
                len(own),
                people,
                len(examples),
                tuple(dict.fromkeys(picked))[:EXAMPLES],
            )
        )
    order = sorted(range(len(places)), key=lambda index: places[index])
    all_facts, places = [all_facts[index] for index in order], [places[index] for index in order]
    name = re.sub(r"\W+", "-", path.name.split(".")[0]).strip("-") or "discovered"
    turns = tuple(each.turns for each in free if each.turns and texts)
    pack = Pack(name, "not stated", path.name, tuple(relations), tuple(all_facts), free=turns)
    return Discovered(pack, tuple(found), tuple(free), tuple(more), total, places, path)


def _best_forms(relation: _Relation) -> dict[str, str]:
    """Answer -> the form of it that the pack takes: without article, in small letters, if one wording has it so."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for row in relation.rows:
        forms[_form(row.answer)][row.answer] += 1
    best = dict[str, str]()
    for bare, each in forms.items():
        if len(each) > 1:
            often = Counter(text.casefold() for text in each.elements())
            whole = max(often, key=lambda text: (not text.startswith(_ARTICLES), often[text], text == bare))
            same = [text for text in each if text.casefold() == whole]
            kept = min(same, key=lambda text: (text[:1].isupper() and text.lower() in same, -each[text]))
            best |= dict.fromkeys(each, kept)
    return best


def _named(relation: _Relation, taken: set[str]) -> str:
    """A name for a relation from its wording: of a statement its middle, of a question its telling words."""
    text = relation.name
    if not text:
        statement = next(
            (each for each in relation.wordings if each.kind == "statement" or not each.prompt.endswith("?")), None
        )
        wording = statement or relation.wordings[0]
        words = re.findall(r"\w+", wording.text.replace(SUBJECT, " ").replace("{answer}", " ").lower())
        short = wording is statement and len(words) <= 3
        telling = words if short else [word for word in words if word not in _IDLE.split()]
        text = "_".join((telling or words)[:4])
    text = re.sub(r"\W+", "_", unicodedata.normalize("NFC", text)).strip("_") or "relation"
    name, number = text, 1
    while name in taken:
        number += 1
        name = f"{text}_{number}"
    taken.add(name)
    return name
