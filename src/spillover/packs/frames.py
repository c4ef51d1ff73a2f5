"""Frames: wordings that many texts share, with a place for what varies, as log-template miners look for.

A miner of logs (Drain, LogCluster) takes words that are frequent for the template. Here an answer may be frequent and a
name has several words, so each text takes the frame and fills that cost least: what is written once and used by many
texts is cheap for each. This is hard EM on the size of the lexicon of frames and fills (minimum description length).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import NamedTuple

from spillover.packs.sentences import TITLED, is_counted, is_name, is_number, is_phrase, names_only

#: What is a token: a possessive ending, a word with its title and the sign that ends it (A+, C#), a letter of a script
#: without spaces, a number with its marks (£1,240), or a mark.
_LETTER = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(
    rf"['’]s(?!\w)|[{_LETTER}]|[$£€¥₹]?\d+(?:[.,:/]\d+)+(?!\w)|[$£€¥₹](?=\d)[^\W{_LETTER}]+"
    rf"|(?:\b{TITLED})?[^\W{_LETTER}]+(?:[-.'’](?!s(?!\w))[^\W{_LETTER}]+)*"
    r"(?:[+#-]+(?![\w+#-]))?|[^\w\s]"
)
#: Tokens of the longest text, fill and middle (between two slots) that are looked at; middles that are tried of a text.
LONGEST, LONGEST_FILL, LONGEST_MIDDLE, MIDDLES = 40, 8, 16, 6
#: What a frame and a fill cost beside their tokens, and what a token of each kind of fill costs, and what it
#: costs to stand beside the subject.
_FRAME, _FILL, _NAME, _PHRASE, _OTHER, _BESIDE = 3.0, 2.0, 0.5, 1.0, 2.5, 1.0
_ROUNDS = 6
#: Words of a name after a slot, and before one, where something else stands before them.
_BEGINS = re.compile(r"^(?: (?:&|[A-Z\d][\w.'’-]*))+(?=\W)|^(?: (?:&|[A-Z\d][\w.'’-]*))+$")
_ENDS = re.compile(r"(?:(?<=\S )|^)(?:[A-Z][\w.'’-]* )+$")
#: The unit after a number (12 months); articles and possessives that may stand before a name.
_UNIT, _ARTICLES = re.compile(r" ([a-z]{2,})(?![\w'’])"), ("the ", "a ", "an ", "my ", "our ", "your ")
_CAPITALS = re.compile(r"[A-Z][\w.'’-]*(?: [A-Z\d&][\w.'’-]*)+")
#: A word in small letters, without which capitals say nothing.
_SMALL = re.compile(r"(?<!\w)[^\W\d_A-Z]")


class Frame(NamedTuple):
    """The fixed parts of a wording: before, between and after its one or two slots, spaces and all."""

    parts: tuple[str, ...]

    @property
    def words(self) -> int:
        return sum(len(_TOKEN.findall(part)) for part in self.parts)

    def fills(self, text: str) -> tuple[str, ...] | None:
        """What stands in the slots, or None where the text is not worded so. Of several middles the first counts."""
        before, *middle, after = self.parts
        if len(text) <= len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
            return None
        inside = text[len(before) : len(text) - len(after)]
        if middle:
            first, found, second = inside.partition(middle[0])
            return (first, second) if found and first.strip() and second.strip() else None
        return (inside,) if inside.strip() else None


def spans(text: str) -> Iterator[str]:
    """Every run of tokens that may be a fill, longest first."""
    tokens = [found.span() for found in _TOKEN.finditer(text)]
    for length in range(min(LONGEST_FILL, len(tokens)), 0, -1):
        for first in range(len(tokens) - length + 1):
            yield text[tokens[first][0] : tokens[first + length - 1][1]]


@lru_cache(1 << 16)
def _weight(fill: str) -> float:
    """What a token of a fill costs: names are likely fills, and what holds function words is not."""
    if is_name(fill):
        return _NAME
    phrase = (is_phrase(fill, LONGEST_FILL) and " of " not in fill) or is_counted(fill)
    return _PHRASE if phrase else _OTHER


def _one_slot(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for first in range(len(spans)):
        start = spans[first][0]
        for last in range(first, min(first + LONGEST_FILL, len(spans))):
            stop = spans[last][1]
            yield (text[:start], text[stop:]), (text[start:stop],)


def _middles(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    for first in range(1, len(spans) - 1):
        for last in range(first, min(first + LONGEST_MIDDLE, len(spans) - 1)):
            yield first, last, text[spans[first - 1][1] : spans[last + 1][0]]


def _beside(
    texts: Sequence[str], split: Sequence[Sequence[tuple[int, int]]], middles: dict[int, list[tuple[int, int, str]]]
) -> dict[str, int]:
    """How many different tokens stand on that side of each middle which has fewer (accessor variety, Feng 2004).

    Where a slot begins, what comes next varies; inside a fixed wording it does not.
    """
    left, right = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for index, known in middles.items():
        for first, last, middle in known:
            for side, place in ((left, first - 1), (right, last + 1)):
                side[middle].add(texts[index][slice(*split[index][place])])
    return {middle: min(len(left[middle]), len(right[middle])) for middle in left}


def _two_slots(
    text: str, spans: Sequence[tuple[int, int]], middles: Iterable[tuple[int, int, str]]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for first, last, middle in middles:
        left, right = spans[first - 1][1], spans[last + 1][0]
        for start, _ in spans[max(0, first - LONGEST_FILL) : first]:
            for _, stop in spans[last + 1 : last + 1 + LONGEST_FILL]:
                yield (text[:start], middle, text[stop:]), (text[start:left], text[right:stop])


def mine(texts: Sequence[str], slots: int, least: int, bare: bool = False, marked: str = "") -> list[tuple[Frame, int]]:
    """Frames of these texts, with how many texts take each, most first.

    Arguments:
    - slots: 1 or 2.
    - least: texts that a frame needs, with at least two different fills in each slot.
    - bare: whether a text may be nothing but its fill.
    - marked: what no fill may hold.
    """
    split = [[found.span() for found in _TOKEN.finditer(text)] for text in texts]
    kept = [index for index, spans in enumerate(split) if slots <= len(spans) <= LONGEST]
    middles: dict[int, list[tuple[int, int, str]]] = {}
    if slots == 2:
        counts = Counter(middle for index in kept for middle in {m for *_, m in _middles(texts[index], split[index])})
        worded = {middle for middle, count in counts.items() if count >= least and not _idle(middle)}
        for index in kept:
            middles[index] = [each for each in _middles(texts[index], split[index]) if each[2] in worded]
        beside = _beside(texts, split, middles)
        for index, known in middles.items():
            known = [each for each in known if beside[each[2]] > 1]
            known.sort(key=lambda each: -(2 + each[1] - each[0]) * math.log2(beside[each[2]]))
            middles[index] = known[:MIDDLES]

    counted = marked or slots == 2

    def ways(index: int) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        text, spans = texts[index], split[index]
        for parts, fills in _one_slot(text, spans) if slots == 1 else _two_slots(text, spans, middles[index]):
            if not bare and not any(map(str.strip, parts)):
                continue
            for fill, after in zip(fills, parts[1:], strict=True):
                if fill[-1] in "?!" or (marked and marked in fill) or (counted and _lacks_unit(fill, after)):
                    break
            else:
                yield parts, fills

    # Counted by hash, so that the many parts that only one text has are never kept.
    often = Counter(hash(parts) for index in kept for parts, _ in ways(index))
    fills_of: dict[tuple[str, ...], list[set[str]]] = defaultdict(lambda: [set() for _ in range(slots)])
    choices: list[list[tuple[tuple[str, ...], tuple[str, ...]]]] = []
    for index in kept:
        choices.append([way for way in ways(index) if often[hash(way[0])] >= least])
        for parts, fills in choices[-1]:
            for known_fills, fill in zip(fills_of[parts], fills, strict=True):
                known_fills.add(fill.casefold())
    usable = {parts for parts, found in fills_of.items() if min(map(len, found)) >= 2}
    choices = [found for each in choices if (found := [way for way in each if way[0] in usable])]
    taken = Counter[Frame]()
    for frame, count in _cheapest(choices, least, marked):
        taken[_with_articles(frame, often)] += count
    return [each for each in taken.most_common() if bare or any(part.strip() for part in each[0].parts)]


def _idle(middle: str) -> bool:
    """Whether what stands between two slots is no wording: a name, or an article alone."""
    return names_only(middle) or f"{middle.strip().lower()} " in _ARTICLES


def _lacks_unit(fill: str, after: str) -> bool:
    """Whether a fill is a number that is parted from what it counts."""
    if " " in fill or after[:1] != " " or not is_number(fill):
        return False
    return (unit := _UNIT.match(after)) is not None and is_phrase(unit[1])


def _with_articles(frame: Frame, often: Mapping[int, int]) -> Frame:
    """The frame with the article that all its fills begin with, which is wording and no part of them.

    often: of the hash of each frame, how many texts may be read so.
    """
    parts = frame.parts
    for place in range(len(parts) - 1):
        for article in _ARTICLES:
            more = (*parts[:place], parts[place] + article, *parts[place + 1 :])
            if parts[place][-1:] in (" ", "") and 0 < often.get(hash(more), 0) == often.get(hash(parts)):
                parts = more
                break
    return Frame(parts)


def _cheapest(
    choices: Sequence[Sequence[tuple[tuple[str, ...], tuple[str, ...]]]], least: int, marked: str
) -> list[tuple[Frame, int]]:
    """Which frames the texts take when each takes the way that costs it least. choices: the ways of each text.

    What stands right after the subject, where that is marked, is more likely its verb than an answer, unless a name.
    """
    frames = Counter(parts for ways in choices for parts in {parts for parts, _ in ways})
    # "Oak" and "oak" are one fill.
    bare = {fill: fill.casefold() for ways in choices for _, found in ways for fill in found}
    price = {fill: _FILL + _weight(fill) * len(_TOKEN.findall(fill)) for fill in bare}
    fills = Counter(fill for ways in choices for fill in {bare[fill] for _, found in ways for fill in found})
    size = {parts: _FRAME + Frame(parts).words for parts in frames}
    beside = {parts for parts in frames if marked and parts[0].rstrip().endswith(marked)}
    extra = [
        [_BESIDE if parts in beside and _weight(found[0]) > _NAME else 0.0 for parts, found in ways] for ways in choices
    ]
    for turn in range(_ROUNDS):
        taken_frames, taken_fills = Counter[tuple[str, ...]](), Counter[str]()
        each = {fill: cost / (fills[bare[fill]] or 0.5) for fill, cost in price.items()}
        for ways, more in zip(choices, extra, strict=True):
            best, least_cost = None, math.inf
            for (parts, found), cost in zip(ways, more, strict=True):
                if not (users := frames[parts]):
                    continue
                cost += size[parts] / users
                for fill in found:
                    cost += each[fill]
                if cost < least_cost:
                    best, least_cost = (parts, found), cost
            if best:
                taken_frames[best[0]] += 1
                taken_fills.update(map(bare.__getitem__, best[1]))
        fills = taken_fills
        names = {fill for fill in taken_fills if " " in fill} if turn >= 2 else set()
        frames = Counter({
            parts: count for parts, count in taken_frames.items()
            if turn < 2 or (count >= least and not (names and _names_somebody(parts, names)))
        })  # fmt: skip
    return [(Frame(parts), count) for parts, count in _widened(frames).most_common()]


def _names_somebody(parts: Iterable[str], fills: Set[str]) -> bool:
    """Whether a fixed part holds a name of several words that fills a slot elsewhere: the {} of Debra Holt is {}."""
    capitals = (found[0] for part in parts for found in _CAPITALS.finditer(part))
    return any(span.casefold() in fills for each in capitals for span in spans(each) if " " in span)


def _widened(frames: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    """The frames without words that belong to a name, since values may share a first or a last one.

    Ann Smith, Bo Smith and Ann Birch take least as Ann, Bo, and a frame for Smith and one for Birch. Capitals beside a
    slot are part of what fills it, unless everything is in capitals; those that open a text only where others do, too.
    """
    while True:
        ways = {parts: list(_wider(parts)) for parts in frames}
        opening = defaultdict[tuple[str, ...], set[str]](set)
        for wider, name, opens in (way for own in ways.values() for way in own):
            opening[wider] |= {name} if opens else set()
        found = Counter[tuple[str, ...]]()
        for parts, count in frames.items():
            wide = (
                wider
                for wider, name, opens in ways[parts]
                if (wider in frames and not opens) or (names_only(name) and (not opens or len(opening[wider]) > 1))
            )
            found[next(wide, parts)] += count
        if found.keys() == frames.keys():
            return found
        frames = found


def _wider(parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """Frames whose fills begin or end with the capitals that stand beside a slot, these, and whether they open it."""
    for place, part in enumerate(parts):
        for pattern in (_BEGINS,) * (place > 0) + (_ENDS,) * (place + 1 < len(parts)):
            kept = pattern.sub("", part)
            whole, opens = (*parts[:place], kept, *parts[place + 1 :]), not kept and place == 0
            # Something stands between two slots; what opens a question may be its verb.
            apart = not opens if len(parts) == 2 else place != 1 or kept.strip()
            if kept != part and apart and _SMALL.search(" ".join(whole)):
                name = part[: len(part) - len(kept)] if pattern is _BEGINS else part[len(kept) :]
                yield whole, name.strip(), opens


class FrameIndex:
    """Frames by their beginnings, so that the frame of a text is found fast among many; the longest wording first."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._by_beginning: dict[str, list[Frame]] = defaultdict(list)
        for frame in sorted(frames, key=lambda each: -sum(map(len, each.parts))):
            self._by_beginning[frame.parts[0]].append(frame)
        self._lengths = sorted({len(each) for each in self._by_beginning}, reverse=True)
        self._endings = tuple({frame.parts[-1] for own in self._by_beginning.values() for frame in own})

    def ends(self, text: str) -> bool:
        """Whether some frame ends as the text does."""
        return text.endswith(self._endings)

    def match(self, text: str) -> Iterator[tuple[Frame, tuple[str, ...]]]:
        """Every frame that the text has with its fills, those with a long beginning first."""
        for length in self._lengths:
            for frame in self._by_beginning.get(text[:length], ()):
                if fills := frame.fills(text):
                    yield frame, fills
