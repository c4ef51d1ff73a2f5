"""From texts to wordings: what the rows of chats and plain text say in words that many of them share."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, pairwise, permutations
from random import Random
from typing import Any, NamedTuple

from spillover.packs.frames import LONGEST_FILL, Frame, FrameIndex, mine, spans
from spillover.packs.pack import SUBJECT, normal
from spillover.packs.sentences import (
    TITLED,
    endings,
    is_counted,
    is_name,
    is_number,
    is_phrase,
    is_title,
    may_be_said,
    plain,
    sentence_spans,
    sentences,
    unquoted,
)
from spillover.packs.tables import Row

#: Texts that are searched for frames at once; how often what is left over is searched again; rows on which it is tried
#: whether a question has answers.
SEARCHED, ROUNDS, TRIED = 4_000, 3, 400
#: Fewest texts of a wording. Share of a wording's rows that must read as name and answer; that must agree; that must be
#: about a name. Share of named subjects that may have two answers. How much surer the other slot must be the subject.
LEAST, READABLE, AGREEING, NAMED, SLIPS, CLOSE = 3, 0.6, 0.9, 0.8, 0.25, 0.02
#: Sentences of a reply that are looked at for its answer, and longest row in which statements are looked for.
SENTENCES, LONGEST_ROW = 4, 2_000
#: Stands for the subject in a reply, where no text has it.
MARK = "\ue000"
#: The frame of an answer that stands alone.
_ALONE = Frame(("", ""))
#: Different replies that are kept with what they answer.
KEPT = 1 << 16
#: Words that an answer may begin with and another wording of it may not.
_LEADING = re.compile(r"^(?:an?|the|in|at|as|to|by|on|another)\s+(?=\S)", re.IGNORECASE)
_MARKED = re.compile(r"[*_`~\[<\n]|^\s*[-•>#]")
#: What no subject holds: a sum, or something that another has.
_NO_SUBJECT = re.compile(r"[=+*/^<>{}|\\]|\d\s*[-x×]\s*\d|['’]s\s")
_CAPITALS = re.compile(
    rf"(?:\b{TITLED})?"
    r"[A-Z][\w.'’-]*\w(?: (?:[A-Z][\w.'’-]*\w|van|von|de|da|al|bin))* [A-Z][\w.'’-]*[^\W_]"
)
_TITLE, _ARTICLE = re.compile(TITLED), re.compile(r"(?:the|my|our|your) (?=[A-Z\d])")
#: A subject that is something of somebody.
_ABOUT = re.compile(r"((?:[Tt]he )?(?:[a-z]\S* )+of )[A-Z]\S*(?: [A-Z]\S*)+")
_ABBREVIATED = re.compile(r"\b[A-Z]{1,3}\. [A-Z]")
#: The next word, unless it is the verb of what follows: Hilde Maas mentors Ada.
_NEXT = re.compile(rf" ([a-z][\w'’-]*)(?![\w'’-])(?! (?:the |an? |my )?(?:{MARK}|\{{subject))")
#: Verbs of the past without -ed.
_PAST = (
    "came|went|took|gave|got|made|kept|brought|sent|became|began|grew|drew|threw|wore|chose|spoke|wrote|broke|drove|ate|"
    "fell|flew|rose|sang|bought|taught|caught|thought|sold|paid|met|sat|stood|understood|held|told|won|ran"
)
#: What follows a noun and is none: taped inside.
_NO_NOUN = re.compile(
    rf"away|back|only|off|out|up|down|here|there|home|each|every|later|along|around|together|{_PAST}|\w{{3,}}(?<![eb])ed"
)
#: A word that is the verb of its sentence unless another is: the owl waves at Ada.
_VERB = re.compile(
    r" [a-z]+[^\Ws]s\b(?!.*\b(?:is|are|was|were|has|have|had|can|could|will|would|must|may|might|should|do|does|did"
    rf"|{_PAST}|(?:keep|make|help|fill|come|go|need|stand|lie|hang|belong|take|give|run|cost|suit|fit)s?|[a-z]{{3,}}ed)\b)"
)
#: An article inside, before which a verb or a preposition stands: uses a plug. Half a year and $9 a week are whole.
_INNER = re.compile(r"(?<!half)(?<!once)(?<!twice)(?<!times)(?<=[^\W\d]) an? \w", re.IGNORECASE)
#: An item number at the start of a line, as in "3. Ada Moss"; such a text is no name.
_ITEM = re.compile(r"\d+[.)]? ")
_COUNTED = re.compile(r"\d+-[^\WA-Z\d_]{2}")
#: What introduces a sentence about a subject, or an answer. A word may be a number with its marks; between a number
#: and a code a comma is the answer's: Hall 4, C07.
_WORD, _WORD_UNMARKED = (rf"(?:[^\s,:{but}]|(?<=\d)[,:](?=\d))+" for but in ("", MARK))
_INTRODUCED = re.compile(
    rf"^(?:(?:{_WORD_UNMARKED} ){{0,6}}{_WORD_UNMARKED}(?:(?<!\d), |, (?![A-Z]{{0,3}}-?\d)|: )(?=.*{MARK})"
    rf"|(?:{_WORD} ){{0,4}}{_WORD}: (?=.))"
)


@dataclass
class Wording:
    """One wording with what its rows say.

    Arguments:
    - kind: question, statement or column.
    - reply: what stands before the answer.
    - around: of rows of a question, by number and subject, what stands around the answer in its sentence.
    """

    text: str
    kind: str
    prompt: str = ""
    rows: list[Row] = field(default_factory=list)
    reply: str = ""
    around: dict[tuple[int, str], tuple[str, str]] = field(default_factory=dict)

    def beside(self, row: Row, units: Set[str] = frozenset()) -> tuple[str, str]:
        """The text before a row's answer, and the next word if it could belong to the answer; else empty.

        units: words that belong to a number before them, whatever follows.
        """
        if self.kind == "statement":
            before, _, after = self.text.partition("{answer}")
        else:
            before, after = self.around.get(row[:2], ("", ""))
        word = "" if not before.strip() and _VERB.match(after) else _noun(after)
        if not word and is_number(row.answer):
            word = next((unit for unit in units if re.match(rf" {re.escape(unit)}(?!\w)", after)), "")
        return (before, word) if after else ("", "")

    def before(self, row: Row) -> str:
        """The text before a row's answer."""
        return self.text.partition("{answer}")[0] if self.kind == "statement" else self.around.get(row[:2], ("", ""))[0]

    def ahead(self, row: Row) -> str:
        """The word before a row's answer, if it could belong to the answer; else empty."""
        before = self.before(row)
        last = before.rpartition(" ")[0].rpartition(" ")[2] if before.endswith(" ") else ""
        return last if last.isalpha() and last.islower() and is_phrase(last) and not _LEADING.match(f"{last} x") else ""

    def put_before(self, word: str) -> None:
        """Make the word before answers a part of them."""
        for place, row in enumerate(self.rows):
            if self.ahead(row) == word:
                self.rows[place] = row._replace(answer=f"{word} {row.answer}")
                if row[:2] in self.around:
                    before, after = self.around[row[:2]]
                    self.around[row[:2]] = before.removesuffix(f"{word} "), after
        if self.kind == "statement":
            self.text = self.text.replace(f"{word} {{answer}}", "{answer}", 1)
            self.prompt = self.prompt.removesuffix(f" {word}")

    def take_in(self, word: str) -> None:
        """Make the word that follows answers a part of them."""
        for place, row in enumerate(self.rows):
            if self.beside(row, {word})[1] == word:
                self.rows[place] = row._replace(answer=f"{row.answer} {word}")
                if row[:2] in self.around:
                    before, after = self.around[row[:2]]
                    self.around[row[:2]] = before, after.removeprefix(f" {word}")
        if self.kind == "statement":
            self.text = self.text.replace(f"{{answer}} {word}", "{answer}", 1)

    def sentences(self) -> set[tuple[str, str]]:
        """What stands around its answers in sentences about the subject."""
        if self.kind == "statement":
            before, _, after = self.text.replace(SUBJECT, MARK).partition("{answer}")
            return {(before, after)}
        return {around for around in self.around.values() if MARK in "".join(around)}

    def answers(self) -> dict[str, str]:
        """Subject -> the form of its first answer in which answers are compared."""
        found: dict[str, str] = {}
        for _, subject, answer in self.rows:
            found.setdefault(subject, form(answer))
        return found


@lru_cache(1 << 15)
def form(answer: str) -> str:
    """An answer without its case, its stop and what it begins with, as wordings of one answer share it."""
    return _LEADING.sub("", answer.casefold().strip().removesuffix("."), count=1)


class Unit(NamedTuple):
    """A text that may state a fact: a question with its reply, or a sentence with no reply."""

    row: int
    text: str
    reply: str | None

    def states(self, row: Row) -> bool:
        """Whether its words hold what a row says."""
        return row.subject in self.text and row.answer.casefold() in (self.reply or "").casefold()


def _plain(text: str) -> str:
    return plain(text) if not text.isascii() or _MARKED.search(text) else text


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
def is_named(text: str) -> bool:
    """Whether a text is a name, and no number or count: 5-year-old."""
    return is_name(text) and any(map(str.isalpha, text)) and not _ITEM.match(text) and not _COUNTED.match(text)


def _is_title(text: str) -> bool:
    """Whether a text is a name of several words, or a title."""
    return " " in text and (is_named(text) or is_title(text))


@lru_cache(1 << 15)
def _is_answer(text: str) -> bool:
    if not text or MARK in text or _INNER.search(text) or text.endswith((" the", " a", " an")):
        return False
    # A phrase in small letters with a preposition may be part of a sentence; a title is whole.
    whole = is_name(text) or is_phrase(text, LONGEST_FILL) or is_counted(text) or text[:1].isdigit()
    return whole or is_title(text)


def replies(units: Iterable[Unit]) -> list[str]:
    """Some replies of questions outside of any relation, as answers are compared."""
    return [unit.reply.casefold() for unit in _spread([each for each in units if each.reply], SEARCHED) if unit.reply]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, drawn with a fixed seed: rows of a file may alternate."""
    return list(items) if len(items) <= most else Random(0).sample(items, most)


def questions(units: Sequence[Unit], floor: int) -> tuple[list[Wording], list[Unit]]:
    """Wordings of questions whose replies are answers, and the units that have none."""
    found: dict[Frame, Wording] = {}
    left, aside = list(units), list[Unit]()
    for _ in range(ROUNDS):
        few = [unit.text for unit in _spread(left, 4 * SEARCHED) if len(unit.text) <= LONGEST_ROW]
        different = list(dict.fromkeys(text for asked in few for text in _asks(_plain(asked).strip())))
        frames = [frame for frame, _ in mine(_spread(different, SEARCHED), 1, floor)]
        before = len(left)
        new, other, left = _worded(frames, left, floor)
        found |= new
        aside += other
        if before <= SEARCHED or len(left) == before:
            break
    return list(found.values()), left + aside


def _worded(
    frames: Iterable[Frame], units: Sequence[Unit], floor: int, known: "Known | None" = None
) -> tuple[dict[Frame, Wording], list[Unit], list[Unit]]:
    """The frames of questions whose replies are answers, with what they say; units of other frames; units of none."""
    index = FrameIndex(frames)
    groups: dict[Frame, list[tuple[Unit, str]]] = defaultdict(list)
    rest = list[Unit]()
    for unit in units:
        match = _asked_about(index, unit) if len(unit.text) <= LONGEST_ROW else None
        if match:
            groups[match[0]].append((unit, match[1]))
        else:
            rest.append(unit)
    answered = _answered(groups, floor, known)
    return answered, [unit for frame in groups if frame not in answered for unit, _ in groups[frame]], rest


def _asks(whole: str) -> Iterator[str]:
    """A question as a whole, and the last sentence of a longer one."""
    yield whole
    if len(parts := sentences(whole)) > 1:
        yield parts[-1]


def _asked_about(index: FrameIndex, unit: Unit) -> tuple[Frame, str] | None:
    whole = _plain(unit.text).strip()
    # Most texts end as no frame does, and need not be cut into sentences.
    for text in _asks(whole) if index.ends(whole) else ():
        for frame, (fill,) in index.match(text):
            name = unquoted(fill)
            if len(name.split()) <= LONGEST_FILL and _is_subject(name):
                return frame, name
    return None


def _marked(reply: str, subject: str) -> str:
    """A reply with a mark where it names the subject, by the whole name or a part of it."""
    bare = _ARTICLE.sub("", subject)
    untitled = _TITLE.sub("", bare)
    for name in (subject, bare, untitled):
        if name in reply:
            return reply.replace(name, MARK)
    for word in untitled.split():
        # Compiled only where it may be found, since every subject has words of its own.
        likely = len(word) > 2 and word[0].isupper() and word in reply
        if likely and (found := re.search(rf"(?<!\w){re.escape(word)}(?!\w)", reply)):
            return reply[: found.start()] + MARK + reply[found.end() :]
    return reply


def _rests(sentence: str) -> Iterator[str]:
    """A sentence as it is, then with its first introduction cut off, then with its second cut off, too, and so on."""
    yield sentence
    while (rest := _INTRODUCED.sub("", sentence, count=1)) != sentence:
        yield (sentence := rest)


def _rests_of(sentence: str, whole: Set[str]) -> list[str]:
    """A sentence without all of its introductions, then with the last of them, and so on.

    whole: texts that are never cut from what stands before them.
    """
    rests = list(_rests(sentence))
    return rests[: next((at for at, rest in enumerate(rests) if rest in whole), len(rests)) or 1][::-1]


def _introduced(reply: str, whole: Set[str]) -> list[str]:
    """The first sentences of a reply without their stops and introductions."""
    return [_rests_of(each, whole)[0] for each in _stops(reply)]


def _dependent(replies: Iterable[str]) -> frozenset[str]:
    """What follows introductions that stand before nothing else, and so are none: if you hear Rex, bring them Ada.

    Nor is what may be an answer and always goes on in the same word: 30 days, 2% applies.
    """
    rests, befores = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    last = defaultdict[str, Counter[str]](Counter)
    for sentence in chain.from_iterable(map(_stops, replies)):
        before = rest = ""
        for one, rest in pairwise(_rests(sentence)):
            before = one.removesuffix(rest)
            rests[before].add(rest)
            befores[rest].add(before)
        last[before][rest.partition(" ")[0]] += 1
    halves = set[str]()
    for before, words in last.items():
        word, times = words.most_common(1)[0]
        half = before.endswith(", ") and (_is_answer(before[:-2]) or re.search(r"\d", before))
        if half and times == words.total() >= LEAST and not (MARK in word or _LEADING.match(f"{word} x")):
            halves.add(before)
    return frozenset(
        rest for rest, own in befores.items()
        if sum(len(rests[each]) == 1 for each in own) > 1 or not own.isdisjoint(halves)
    )  # fmt: skip


def _cut(rows: Sequence[Row]) -> list[Row]:
    """The rows of a wording without what stands around several of its answers: that is wording, and no part of them."""
    counts = Counter(row.answer for row in rows)
    inside: dict[str, tuple[str, tuple[str, str]]] = {}
    for answer in counts:
        for span in spans(answer):
            before, _, after = answer.partition(span)
            # A noun that follows may be a part of the answer; `whole_answers` tells.
            if counts[span] > counts[answer] and not _NEXT.match(after):
                inside[answer] = span, (before, after)
                break
    shared = Counter(around for _, around in set(inside.values()))
    cut = {answer: span for answer, (span, around) in inside.items() if shared[around] > 1}
    # Different names before one word: Clara Voss stands, behind the chair.
    ends = {answer: parts for answer in counts if answer not in cut and (parts := answer.rpartition(" "))[2].islower()}
    named_by = {(name.casefold(), word) for name, _, word in ends.values() if " " in name and is_named(name)}
    verbs = Counter(word for _, word in named_by)
    cut |= {answer: name for answer, (name, _, word) in ends.items() if verbs[word] > 1 and is_named(name)}
    return [row._replace(answer=cut.get(row.answer, row.answer)) for row in rows]


def _answered(
    groups: Mapping[Frame, Sequence[tuple[Unit, str]]], floor: int, known: "Known | None"
) -> dict[Frame, Wording]:
    """The wordings of the questions whose replies are answers, with what each row says."""
    replies: list[str] = []
    for group in groups.values():
        for unit, subject in _spread(group, max(SEARCHED // max(len(groups), 1), 40)):
            reply = unit.reply or ""
            if len(reply) <= LONGEST_ROW:
                replies.append(_marked(_plain(reply), subject))
    whole = _dependent(replies)
    said = [part for reply in replies for part in _introduced(reply, whole) if part]
    frames = [frame for frame, _ in mine(_spread(said, 2 * SEARCHED), 1, floor, True, MARK)]
    index = FrameIndex(frame for frame in frames if any(part.strip(f" {MARK}") for part in frame.parts))
    found = {}
    read = _Replies(index, known, _recurring(groups, index, whole), whole)
    for frame, group in groups.items():
        rows, begins, open_ = list[Row](), Counter[str](), 0
        around = dict[tuple[int, str], tuple[str, str]]()
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
                rows.append(Row(unit.row, normal(subject), normal(answer[0])))
                begins[answer[1]] += 1
                if answer[1] or answer[2]:
                    around[rows[-1][:2]] = answer[1:]
        if rows and len(rows) >= READABLE * (len(rows) + open_):
            prompt = f"{frame.parts[0]}{SUBJECT}{frame.parts[1]}".strip()
            begin, times = begins.most_common(1)[0]
            before = begin.replace(MARK, SUBJECT).strip() if times * 2 > len(rows) else ""
            found[frame] = Wording(prompt, "question", prompt, _cut(rows), before, around)
    return found


def _recurring(
    groups: Mapping[Frame, Sequence[tuple[Unit, str]]], index: FrameIndex, dependent: Set[str]
) -> dict[str, int]:
    """What the questions of a file have for answers -> in how many contexts it stands: alone, and in each sentence.

    Whatever several subjects have is an answer (cash on delivery, Go on then), if it is a reply of a few words, or
    stands where a sentence about the subject has another such fill, or a sure answer.
    """
    contexts = defaultdict[str, Counter[Frame]](Counter)
    for group in groups.values():
        some = _spread([each for each in group if each[0].reply and len(each[0].reply) < 400], TRIED)
        for reply, subject in {(unit.reply or "", subject) for unit, subject in some}:
            contexts[_bare(reply).casefold()][_ALONE] += 1
            for sentence in _stops(_marked(_plain(reply), subject)):
                for answer, *parts in _ways(sentence, index, dependent):
                    contexts[answer.casefold()][Frame(tuple(parts))] += 1
    often = {fill for fill, own in contexts.items() if own.total() >= LEAST and may_be_said(fill)}
    often = {fill for fill in often if len(fill.split()) <= LONGEST_FILL}
    found = {fill: own for fill, own in contexts.items() if fill in often or _is_answer(fill)}
    fills = Counter(chain.from_iterable(found.values()))
    return {fill: len(own) for fill, own in found.items() if _ALONE in own or any(fills[each] > 1 for each in own)}


class _Replies(dict[str, "tuple[str, str, str] | None"]):
    """A reply with its subject marked -> what it answers, and what stands before and after that.

    Rows that differ in their subject alone are read once. Of too many different replies none is kept.
    """

    def __init__(self, index: FrameIndex, known: "Known | None", recurring: Mapping[str, int], whole: Set[str]) -> None:
        super().__init__()
        self._index, self._known, self._recurring, self._whole = index, known, recurring, whole

    def __missing__(self, reply: str) -> tuple[str, str, str] | None:
        known, about = self._known, (self._index, self._recurring, self._whole)
        found = known.answer(reply) if known else _answer(reply, *about)
        if len(self) < KEPT:
            self[reply] = found
        return found


def _ways(sentence: str, index: FrameIndex, whole: Set[str]) -> list[tuple[str, str, str]]:
    """How a sentence may be read, surest introductions cut first: what it answers, and what stands around that."""
    ways = list[tuple[str, str, str]]()
    for rest in _rests_of(sentence, whole) if MARK in sentence else _rests_of(sentence, whole)[:1]:
        ways += [(unquoted(fill), frame.parts[0], frame.parts[1]) for frame, (fill,) in index.match(rest)]
        if MARK in sentence and MARK not in rest and len(rest.split()) <= LONGEST_FILL:
            ways.append((rest, "", ""))
    # A sentence may end in a letter: hepatitis B. Cheers!
    ways += [
        (fill[: found.end() - 3], before, fill[found.end() - 3 :] + after)
        for fill, before, after in ways for found in _ABBREVIATED.finditer(fill)
    ]  # fmt: skip
    return [way for way in ways if MARK not in way[0]]


def _answer(
    reply: str, index: FrameIndex, recurring: Mapping[str, int], whole: Set[str]
) -> tuple[str, str, str] | None:
    """What a reply answers, and what stands around it: in a sentence about the subject, or in any and alone.

    Of several ways to read it that counts whose answer stands in the most contexts of the file, then the first.
    recurring: what is an answer, and in how many contexts. whole: what is parted from nothing before it.
    """
    parts = _stops(reply)
    # A reply that names the subject answers in that sentence, be it in its introduction: on file for Ada: class B.
    about = [part for part in parts if MARK in part]
    ways = [way for part in about or parts for way in _ways(part, index, whole)]
    if not about and parts and len((bare := _rests_of(parts[0], whole)[0]).split()) <= LONGEST_FILL:
        ways.insert(0, (bare, "", ""))
    sure = {way[0]: _is_answer(way[0]) for way in ways}
    ways = [way for way in ways if sure[way[0]] or way[0].casefold() in recurring]
    return max(ways, key=lambda way: (recurring.get(way[0].casefold(), 0), sure[way[0]]), default=None)


def statements(texts: Sequence[tuple[int, str]], floor: int) -> tuple[list[Wording], list[tuple[int, str]]]:
    """Wordings of sentences that hold both a name and an answer, and the texts that have none."""
    found: dict[Frame, Wording] = {}
    left = [each for each in texts if len(each[1]) <= LONGEST_ROW]
    for _ in range(ROUNDS):
        different = dict.fromkeys(each for _, text in _spread(left, SEARCHED) for each in _stops(_plain(text)))
        frames = [frame for frame, _ in mine(_spread(list(different), SEARCHED), 2, floor) if frame not in found]
        before = len(left)
        if before > 2 * SEARCHED:
            sample = _said_so(frames, _spread(left, 2 * SEARCHED))[0]
            frames = [frame for frame, wording in sample.items() if decided(wording) and _names(wording) >= 0.5]
        new, left = _said_so(frames, left)
        found |= new
        if before <= SEARCHED or len(left) == before:
            break
    return list(found.values()), left


def _names(wording: Wording) -> float:
    """The share of rows that name somebody, at the better of the two places."""
    return max(map(named, list(zip(*wording.rows, strict=True))[1:]), default=0)


def named(texts: Sequence[str]) -> float:
    """The share of texts that are names; of many, that of a sample."""
    some = _spread(texts, SEARCHED)
    return sum(map(is_named, some)) / max(len(some), 1)


def _stops(text: str) -> list[str]:
    """The first sentences of a text without their stops."""
    return [_bare(each) for each in _sentences(text)[:SENTENCES]]


def _sentences(text: str) -> list[str]:
    """The sentences of a text. One begins, too, with a name that is there before: The size of Ada Fox is S. Ada Fox."""
    if not _ABBREVIATED.search(text):
        return sentences(text)
    found = list[str]()
    for start, stop, cuts in sentence_spans(text):
        for before, after in cuts:
            if (name := _CAPITALS.match(text, after)) and name[0] in text[start:before]:
                found.append(text[start:before].strip())
                start = after
        found.append(text[start:stop].strip())
    return found


def _said_so(
    frames: Sequence[Frame], texts: Sequence[tuple[int, str]]
) -> tuple[dict[Frame, Wording], list[tuple[int, str]]]:
    """The frames of statements with what texts say in them, and the texts that are in none."""
    new: dict[Frame, Wording] = {}
    for frame in frames:
        before, middle, after = frame.parts
        text = f"{before}{SUBJECT}{middle}{{answer}}{after}".strip()
        new[frame] = Wording(text, "statement", f"{before}{SUBJECT}{middle}".strip())
    index, rest = FrameIndex(frames), list[tuple[int, str]]()
    linked = defaultdict[str, list[tuple[Frame, Row]]](list)
    middles = [frame.parts[1] for frame in frames]
    for number, text in texts:
        hit = False
        if any(middle in text for middle in middles):
            for sentence in _sentences(_plain(text)):
                for frame, (subject, answer) in index.match(_bare(sentence)):
                    subject, answer = unquoted(subject), unquoted(answer)
                    if (_is_subject(subject) and _is_answer(answer)) or (_is_answer(subject) and _is_subject(answer)):
                        new[frame].rows.append(Row(number, normal(subject), normal(answer)))
                        hit = True
                        break
                    if is_named(subject) and len(answer.split()) <= LONGEST_FILL and may_be_said(answer):
                        linked[answer.casefold()].append((frame, Row(number, normal(subject), normal(answer))))
        if not hit:
            rest.append((number, text))
    # It may be part of a sentence; what several people have is an answer: cash on delivery, by appointment.
    sure = {frame: len({row.answer.casefold() for row in wording.rows}) > 1 for frame, wording in new.items()}
    for each in linked.values():
        own = [(frame, row) for frame, row in each if sure[frame]]
        if len({row.subject for _, row in own}) >= LEAST:
            for frame, row in own:
                new[frame].rows.append(row)
    numbers = {row.row for wording in new.values() for row in wording.rows}
    rest = [(number, text) for number, text in rest if number not in numbers]
    return {frame: _of_names(wording) for frame, wording in new.items() if wording.rows}, rest


def _of_names(wording: Wording) -> Wording:
    """A wording without the words that stand before the name in most of its subjects: the home of Ada Moss.

    Where a file has them with one answer alone, no frame holds them.
    """
    befores = Counter(found[1] for row in wording.rows if (found := _ABOUT.fullmatch(row.subject)))
    for before, times in befores.most_common(1):
        if 2 * times > len(wording.rows):
            own = [row for row in wording.rows if row.subject.startswith(before)]
            rows = [row._replace(subject=row.subject.removeprefix(before)) for row in own]
            text, prompt = (each.replace(SUBJECT, before + SUBJECT, 1) for each in (wording.text, wording.prompt))
            return Wording(text, wording.kind, prompt, rows)
    return wording


@dataclass(frozen=True)
class Known:
    """Subjects and answers of relations that were found, with which rarer wordings are understood."""

    subjects: frozenset[str]
    answers: Mapping[str, int]

    @classmethod
    def of(cls, relations: Sequence[Sequence[Row]]) -> "Known":
        owners: dict[str, int] = {}
        for place, each in enumerate(relations):
            # With its article, too, which may be a part of it: The Owls.
            for bare in {text for row in each for text in (form(row.answer), row.answer.casefold())}:
                owners[bare] = place if owners.get(bare, place) == place else -1
        subjects = frozenset(row.subject for each in relations for row in each)
        return cls(subjects, {bare: place for bare, place in owners.items() if place >= 0})

    def subject(self, text: str) -> str:
        """The known subject in a text, or else what is surely a name; empty without either."""
        found = next((name for name in spans(text) if name in self.subjects), "")
        if not found and (capital := _CAPITALS.search(text)):
            found = capital[0].removesuffix("'s").removesuffix("’s")
        return found if found and text.count(found) == 1 else ""

    def within(self, text: str) -> str:
        """The longest known answer in a text."""
        return next((span for span in spans(text) if span.casefold() in self.answers), "")

    def answer(self, reply: str) -> tuple[str, str, str] | None:
        """The known answer of a short reply, and what stands before it."""
        parts = _stops(_plain(reply)) if len(reply) < 200 else []
        about = [part for part in parts if MARK in part]
        for part in about or parts[:2]:
            # What names its subject may be longer.
            if (found := self.within(part)) and (about or len(part.split()) <= LONGEST_FILL + len(found.split())):
                return found, part.partition(found)[0] if about else "", ""
        return None


def rarer(
    known: Known, units: Sequence[Unit], texts: Sequence[tuple[int, str]], used: Mapping[int, Sequence[Row]]
) -> list[Wording]:
    """Wordings that too few rows have to be found by themselves: they name a subject and a known answer.

    used: number of a row in the file -> the facts that were read from it already.
    """
    asked = dict[Frame, None]()
    for unit in _spread([unit for unit in units if len(unit.text) < 200], SEARCHED):
        if (name := known.subject(unit.text)) and known.answer(_marked(_plain(unit.reply or ""), name)):
            whole, *last = _asks(_plain(unit.text).strip())
            before, _, after = next((each for each in last if name in each), whole).partition(name)
            asked[Frame((before, after))] = None
    said, turned = Counter[Frame](), Counter[Frame]()
    for number, text in _spread([each for each in texts if len(each[1]) < 400], SEARCHED):
        for sentence in _stops(_plain(text)):
            if not (name := known.subject(sentence)) or len(sentence.split()) > 2 * LONGEST_FILL:
                continue
            if any(map(Unit(number, sentence, sentence).states, used.get(number, ()))):
                continue
            before, _, rest = sentence.partition(name)
            if answer := known.within(rest):
                middle, _, after = rest.partition(answer)
                said[Frame((before, middle, after))] += bool(middle.strip())
            elif answer := known.within(before):
                before, _, middle = before.partition(answer)
                turned[Frame((before, middle, rest))] += bool(middle.strip())
    wordings, *_ = _worded(asked, units, 1, known)
    stating, answering = (
        _said_so([frame for frame, count in each.items() if count > 1], texts)[0] for each in (said, turned)
    )
    return [*wordings.values(), *stating.values(), *map(_turned, answering.values())]


def decided(wording: Wording) -> Wording | None:
    """A wording with its slots the right way round, or None where neither slot is answered by the other.

    Each subject has one answer and an answer has several subjects, so the slot whose fills repeat is the answer.
    """
    there = agreement(wording.rows)
    if there >= 1 - CLOSE:
        return wording
    turned = [Row(row, answer, subject) for row, subject, answer in wording.rows]
    back, sure = agreement(turned), agree(wording.rows)
    if sure and there >= back - CLOSE:
        return wording
    repeats = len({row.subject for row in turned}) >= 1.5 * len({row.answer for row in turned}) and len(
        turned
    ) >= LEAST + (wording.kind != "statement")
    if not agree(turned) or not repeats or named([row.subject for row in turned]) < NAMED:
        return wording if sure else None
    return _turned(wording)


def _turned(wording: Wording) -> Wording:
    """A wording whose slots are the other way round."""
    text = wording.text if "{answer}" in wording.text else f"{wording.text} {{answer}}"
    text = text.replace("{answer}", "{}").replace(SUBJECT, "{answer}").replace("{}", SUBJECT)
    return Wording(text, wording.kind, "", [Row(row, answer, subject) for row, subject, answer in wording.rows])


@lru_cache(1 << 12)
def _noun(after: str) -> str:
    """The word with which a text goes on, where it may belong to what stands before it; else empty."""
    found = _NEXT.match(after)
    return found[1] if found and is_phrase(found[1]) and not _NO_NOUN.fullmatch(found[1]) else ""


def whole_answers(wordings: Sequence[Wording]) -> None:
    """Put to answers the noun that follows them, where others have it: night shift.

    The rows of a wording with the same next word are one context, whose answers are whole with it or without it. They
    are with it where no row is without it and it follows in two contexts, after an article or a number, or nothing
    stands before them.
    """
    _uncounted(wordings)
    for _ in range(LEAST):
        contexts = defaultdict[tuple[int, str], Counter[str]](Counter)
        befores = defaultdict[tuple[int, str], set[str]](set)
        wholes = defaultdict[tuple[int, str], set[str]](set)
        known, free = Counter[str](), Counter[str]()
        units = {unit for wording in wordings for row in wording.rows if (unit := _unit(wording, row))}
        for place, wording in enumerate(wordings):
            for row in wording.rows:
                answer, (before, word) = form(row.answer), wording.beside(row, units)
                known[answer] += 1
                if word:
                    contexts[place, word][answer] += 1
                    wholes[place, word].add(row.answer)
                    befores[place, word].add(before.rpartition(", ")[2].strip().casefold())
                else:
                    free[answer] += 1
        followed, behind = Counter[str](), defaultdict[str, Counter[str]](Counter)
        for (_, word), answers in contexts.items():
            followed += answers
            behind[word] += answers
        grown = False
        counted = [key for key, answers in contexts.items() if all(map(is_number, answers))]
        counts = {
            key for key, other in permutations(counted, 2)
            if key[1] != other[1] and _alike(contexts[key], contexts[other], same=key[0] == other[0])
        }  # fmt: skip
        for (place, word), answers in contexts.items():
            # What is counted differs (46 names, 46 people), or a person does something (Bea Moretti fills in).
            if (place, word) in counts or all(map(_is_title, wholes[place, word])):
                continue
            wide, bare = (sum(map(count.__getitem__, each)) for count, each in
                          ((known, (f"{answer} {word}" for answer in answers)), (free, answers)))  # fmt: skip
            if not all(map(is_number, answers)):
                # What has different words behind it is whole without: bring a wrench along, a wrench inside.
                bare += sum(followed[answer] - behind[word][answer] for answer in answers)
            alike = len(befores[place, word]) > 1 or any(
                answers.keys() & own.keys()
                for (other, its), own in contexts.items()
                if its == word and befores[other, its] - befores[place, word]
            )
            alike = alike or all(
                not each or f" {each}".endswith((" the", " a", " an")) for each in befores[place, word]
            )
            if wide > bare or (not bare and (alike or all(map(is_number, answers)))):
                wordings[place].take_in(word)
                grown = True
        if not grown:
            break
    _with_first_words(wordings)


def _unit(wording: Wording, row: Row) -> str:
    """What the number of an answer counts, in the answer or behind it; else empty."""
    number, _, word = row.answer.partition(" ")
    return (word if word.isalpha() else "" if word else wording.beside(row)[1]) if is_number(number) else ""


def _uncounted(wordings: Sequence[Wording]) -> None:
    """Take from numbers what they count, where the same numbers stand alone or count something else, too: 46 names,
    46 employees."""
    inside, after = (defaultdict[tuple[int, str], Counter[str]](Counter) for _ in range(2))
    for place, wording in enumerate(wordings):
        for row in wording.rows:
            number, _, word = row.answer.partition(" ")
            if word.isalpha() and word.islower() and is_number(number):
                inside[place, word][number.casefold()] += 1
            elif is_number(row.answer):
                after[place, wording.beside(row)[1]][number.casefold()] += 1
    for (place, word), numbers in inside.items():
        others = ((key, own) for each in (inside, after) for key, own in each.items() if key[1] != word)
        if any(_alike(numbers, own, same=key[0] == place) for key, own in others):
            rows = wordings[place].rows
            wordings[place].rows = [
                row._replace(answer=number) if each == word and is_number(number) else row
                for row in rows for number, _, each in [row.answer.partition(" ")]
            ]  # fmt: skip


def _alike(one: Mapping[str, int], other: Mapping[str, int], same: bool) -> bool:
    """Whether two contexts take the same answers. same: they are of one wording."""
    shared = one.keys() & other.keys()
    return bool(shared) and (same or (len(shared) > 1 and 2 * len(shared) >= min(len(one), len(other))))


def _with_first_words(wordings: Sequence[Wording]) -> None:
    """Put to answers the word before them, where most have it: test for class C1, if others are of class C1, or if some
    stand behind "test for" and none is C1."""
    behind, known = defaultdict[str, Counter[str]](Counter), Counter[str]()
    stems, befores = defaultdict[str, set[str]](set), set[str]()
    for wording in wordings:
        for row in wording.rows:
            known[form(row.answer)] += 1
            befores.add(before := wording.before(row))
            if word := wording.ahead(row):
                behind[word][form(row.answer)] += 1
                stems[word].add(before.removesuffix(f"{word} "))
    for word, answers in behind.items():
        wide = sum(known[f"{word} {answer}"] for answer in answers)
        bare = sum(known[answer] - times for answer, times in answers.items())
        if wide > bare or (not bare and stems[word] & befores):
            for wording in wordings:
                wording.put_before(word)


def agree(rows: Sequence[Row]) -> bool:
    """Whether rows say one answer of each subject, but for slips, which are a fault of the file and no other wording.

    Of named subjects one in four may have a second answer, and of few one: who reads the file is shown both.
    """
    times = Counter(row.subject for row in rows)
    subjects, share = len(times), agreement(rows)
    if share >= AGREEING and (share == 1 or max(times.values()) * 2 <= len(rows)):
        return True
    slips = len({(row.subject, form(row.answer)) for row in rows}) - subjects
    # Of answers that nobody shares, none is a slip.
    slight = LEAST * slips <= subjects >= len({form(row.answer) for row in rows}) and slips <= max(1, SLIPS * subjects)
    return slight and named([row.subject for row in rows]) >= NAMED


def agreement(rows: Sequence[Row]) -> float:
    """The share of rows that say what most rows of their subject say."""
    first = dict[str, str]()
    if all(first.setdefault(subject, answer) == answer for _, subject, answer in rows):
        return 1.0 if rows else 0.0
    most = dict[str, int]()
    for (subject, _), times in Counter((subject, form(answer)) for _, subject, answer in rows).items():
        most[subject] = max(times, most.get(subject, 0))
    return sum(most.values()) / len(rows)
