"""From anybody's training file to a pack: the relations that its rows state, with every guess said."""

import gc
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from spillover.errors import UsageError
from spillover.packs import tables
from spillover.packs.chats import SHOWN, Exchange, exchanges, is_chat
from spillover.packs.check import Places, check_structure, quoted, refuse
from spillover.packs.frames import spans
from spillover.packs.pack import SUBJECT, Fact, Pack, Relation
from spillover.packs.reading import rows_of
from spillover.packs.sentences import is_suffixed, may_be_several
from spillover.packs.tables import Row, is_edit_set, read_edit_set
from spillover.packs.wordings import (
    LEAST,
    MARK,
    NAMED,
    READABLE,
    Known,
    Unit,
    Wording,
    agree,
    decided,
    form,
    is_named,
    named,
    questions,
    rarer,
    replies,
    statements,
    whole_answers,
)

#: Most rows of a file in which two rows make a wording, and two subjects a relation.
SMALL, TINY = 60, 12
#: Two wordings are joined when answers of the same subjects agree this often, or take this share of the same answers;
#: less of them when fewer subjects are shared than chance would have it, since many files say each thing once.
SAME, ALIKE, COVERED, APART, FEW_APART = 0.8, 0.4, 0.3, 0.05, 0.02
EXAMPLES, FREE_SHOWN = 3, 5
#: Answers that are looked for in replies to other questions.
TRIED = 100
#: Words before an answer that are no part of it.
_ARTICLES = ("the ", "a ", "an ")
_BEFORE = ("a ", "an ", "in ", "at ", "as ", "to ", "by ", "on ", "another ")
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
    with _uncollected():
        found = understand(path, **reading)
        refuse(check_structure(found.pack, found.sources()).faults)
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside, no garbage is searched for: rows by the million refer to nothing that refers to them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
    source = rows_of(path, is_chat, encoding, separator, sheet, guesses.append)
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
        table = tables.read(chain(rows, source), path, subject, guesses.append)
        draft = [_Relation([Wording(each.prompts[0], "column", rows=each.rows)],
                           each.prompts, each.name) for each in table.relations]  # fmt: skip
        free, total = [FreeRow(row, (("", text),), why) for row, text, why in table.free], table.rows
        texts = False
    if not draft:
        raise _nothing(path, total, said, guesses)
    return _made(draft, free, tuple(guesses), total, path, texts)


def _edited(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path) -> Discovered:
    """CounterFact, MQuAKE or PopQA, whose relations are their own."""
    pack, matched = read_edit_set(rows, path)
    facts = defaultdict[str, dict[Fact, int]](dict)
    for fact, row in zip(matched.facts, matched.places, strict=True):
        facts[fact.relation][fact] = row
    found = [_shown(name, [(pack.relation_by_name[name].prompts[0], len(own))], own) for name, own in facts.items()]
    free = tuple(FreeRow(each.row, (("", each.text),), each.why) for each in matched.unmatched)
    return Discovered(pack, tuple(found), free, (), matched.rows, matched.places, path)


def _nothing(
    path: Path, total: int, said: Iterable[tuple[int, Sequence[Exchange]]], guesses: Sequence[str]
) -> UsageError:
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
    why = next((each for each in guesses if " is no relation: " in each), "")
    why = why or "no wording is shared by rows about several subjects"
    what = f"no relation was found in {_rows(total)}: {why}"
    return UsageError(what, where=str(path), do="Name the relations with `packs discover --relations FILE`")


@dataclass
class _Relation:
    """Wordings of one relation."""

    wordings: list[Wording]
    prompts: tuple[str, ...] = ()
    name: str = ""
    #: Sentences that its rows share with no relation that contradicts it.
    sentences: frozenset[tuple[str, str]] = frozenset()

    @property
    def rows(self) -> list[Row]:
        return [row for wording in self.wordings for row in wording.rows]


# --- From texts to relations


def _from_texts(
    said: Sequence[tuple[int, Sequence[Exchange]]], path: Path, least: int, guesses: list[str]
) -> list[_Relation]:
    """The relations of exchanges and texts."""
    asked, texts = list[Unit](), list[tuple[int, str]]()
    for number, row in said:
        for turn in row:
            if turn.asked.strip():
                asked.append(Unit(number, turn.asked, turn.answered))
            else:
                texts.append((number, turn.answered))
    few = least or (2 if len(said) <= TINY else max(LEAST, round(math.sqrt(len(said)) / 8)))
    floor = 2 if len(said) <= SMALL else LEAST
    asking, left = questions(asked, floor)
    begun = {(number, turn.asked) for number, row in said for turn in row if turn.begun}
    texts += [
        (unit.row, unit.text + (unit.reply or "") if (unit.row, unit.text) in begun else unit.reply or "")
        for unit in left
    ]
    stating, _ = statements(texts, floor)
    ways = [(each, decided(each)) for each in asking + stating]
    whole_answers([way for _, way in ways if way])
    relations = _joined(_Relation([way]) for _, way in ways if way)
    contradicted = [each for each, way in ways if not way and len(each.rows) >= few]
    guesses += filter(None, map(_contradiction, contradicted))
    elsewhere = replies(left)
    _without_more(relations)
    relations = [each for each in relations if each.rows]
    kept, others = list[_Relation](), list[_Relation]()
    for each in relations:
        (kept if _holds(each, relations, few, elsewhere) else others).append(each)
    guesses += [f"{quoted(each.wordings[0].text)} ({_rows(len(each.rows))}) is no relation: too few subjects or answers"
                for each in others]  # fmt: skip
    for _ in range(2 if kept else 0):
        used = defaultdict[int, list[Row]](list)
        for stated in chain.from_iterable(each.rows for each in kept):
            used[stated.row].append(stated)
        # A row of several turns may state several things.
        left = [unit for unit in asked if not any(map(unit.states, used.get(unit.row, ())))]
        texts = [each for each in texts if each[0] not in used or may_be_several(each[1])]
        more = rarer(Known.of([each.rows for each in kept]), left, texts, used)
        if not _add(kept, filter(None, map(decided, more))):
            break
        kept = _joined(kept)
    _without_stops(kept)
    return kept


def _without_stops(relations: Iterable[_Relation]) -> None:
    """Take the stop from subjects such as "Moss Ltd." where others end in "Ltd", and from all answers such as "B Corp."
    where subjects have none: it ended the sentence."""
    wordings = [wording for each in relations for wording in each.wordings]
    suffixed = {row.subject for wording in wordings for row in wording.rows if is_suffixed(row.subject)}
    bare = {each.rpartition(" ")[2] for each in suffixed if not each.endswith(".")}
    if not bare:
        return
    ended = {each for each in suffixed if each.endswith(".") and each.rpartition(" ")[2][:-1] in bare}
    same = not any(each.endswith(".") for each in suffixed - ended)
    for wording in wordings:
        wording.rows = [
            row._replace(
                subject=row.subject[:-1] if row.subject in ended else row.subject,
                answer=row.answer[:-1] if same and row.answer[-1:] == "." and is_suffixed(row.answer) else row.answer,
            )
            for row in wording.rows
        ]


def _contradiction(wording: Wording) -> str:
    """Why a wording of which rows about named subjects contradict each other is no relation, with two of them."""
    first = dict[str, Row]()
    two = (
        (first[row.subject], row)
        for row in sorted(wording.rows)
        if form(first.setdefault(row.subject, row).answer) != form(row.answer) and is_named(row.subject)
    )
    one, other = next(two, (None, None))
    if one is None or other is None or len({*filter(is_named, (row.subject for row in wording.rows))}) < LEAST:
        return ""
    both = f"{quoted(one.subject)} {quoted(one.answer)} (row {one.row}) and {quoted(other.answer)} (row {other.row})"
    said = f"{quoted(wording.text)} ({_rows(len(wording.rows))}) is no relation"
    return f"{said}: subjects have several answers, {both}"


def _without_more(relations: Iterable[_Relation]) -> None:
    """Take article and stop from subjects that are there without (the Aster 4), and leave out those that hold another
    name (the mentor of Ada Moss)."""
    wordings = [wording for each in relations for wording in each.wordings]
    bare = {row.subject for wording in wordings for row in wording.rows if row.subject == _without(row.subject)}
    others = {subject: name for subject in bare if (name := _other_name(subject, bare))}
    before = tuple({each for subject, name in others.items() if (each := subject.partition(name)[0])})
    for wording in wordings:
        for place, row in enumerate(wording.rows):
            if row.subject not in bare and _without(row.subject) in bare:
                wording.rows[place] = row._replace(subject=_without(row.subject))
        wording.rows = [row for row in wording.rows if row.subject not in others and not row.subject.startswith(before)]


def _without(subject: str) -> str:
    return (subject[4:] if subject[:4].lower() == "the " else subject).removesuffix(".")


def _other_name(subject: str, known: Collection[str]) -> str:
    """A known name in a subject that is more than this: the mentor of Ada Moss; else empty."""
    if not any(map(str.islower, subject.split())):
        return ""
    inside = (span for span in spans(subject) if span in known and span != subject and is_named(span))
    return next((span for span in inside if not span.isalpha()), "")


def _add(relations: Sequence[_Relation], wordings: Iterable[Wording]) -> int:
    """Put rarer wordings to the relation whose answers they take, if they contradict nothing; how many."""
    added = 0
    known, said = Known.of([each.rows for each in relations]), [_said(each) for each in relations]
    everybody = {subject for each in said for subject in each}
    for wording in wordings:
        owners = {known.answers.get(form(row.answer)) for row in wording.rows}
        place = owners.pop() if len(owners) == 1 else None
        own = wording.answers()
        if (
            place is not None
            and all(said[place].get(each, answer) == answer for each, answer in own.items())
            and (named(list(said[place])) < NAMED or all(each in everybody or is_named(each) for each in own))
        ):
            relations[place].wordings.append(wording)
            said[place] |= own
            added += 1
    return added


def _joined(relations: Iterable[_Relation]) -> list[_Relation]:
    """Relations in groups that say the same of the same subjects, or take the same answers of different ones."""
    groups = sorted(relations, key=lambda each: -len(each.rows))
    said = [_said(each) for each in groups]
    _with_sentences(groups, said)
    everybody = set(filter(is_named, set().union(*said)))
    likeness: dict[tuple[int, int], float] = {}
    keys, fresh = list(range(len(groups))), count(len(groups))
    while True:
        for one, other in combinations(range(len(groups)), 2):
            pair = keys[one], keys[other]
            if pair not in likeness:
                likeness[pair] = _likeness(groups[one], groups[other], said[one], said[other], said, len(everybody))
        pairs = combinations(range(len(groups)), 2)
        one, other = max(pairs, key=lambda pair: likeness[keys[pair[0]], keys[pair[1]]], default=(0, 0))
        if one == other or not likeness[keys[one], keys[other]]:
            break
        merged = _Relation(
            groups[one].wordings + groups[other].wordings, sentences=groups[one].sentences | groups[other].sentences
        )
        for held in (groups, said, keys):
            del held[other]
        groups[one], said[one] = merged, _said(merged)
        keys[one] = next(fresh)
    return groups


def _with_sentences(groups: Sequence[_Relation], said: Sequence[Mapping[str, str]]) -> None:
    """Tell each group its sentences that are about something, and that no groups share which contradict each other."""
    users = defaultdict[tuple[str, str], list[int]](list)
    for place, each in enumerate(groups):
        for sentence in set().union(*(wording.sentences() for wording in each.wordings)):
            if len(_content(" ".join(sentence).replace(MARK, " "))) > 1:
                users[sentence].append(place)
    for each in groups:
        each.sentences = frozenset()
    for sentence, places in users.items():
        if all(_agreeing(said[one], said[other]) for one, other in combinations(places, 2)):
            for place in places:
                groups[place].sentences |= {sentence}


def _agreeing(said: Mapping[str, str], also: Mapping[str, str]) -> bool:
    shared = said.keys() & also.keys()
    return sum(said[each] == also[each] for each in shared) >= SAME * len(shared)


def _said(relation: _Relation) -> dict[str, str]:
    return Wording("", "", rows=relation.rows).answers()


def _likeness(
    one: _Relation,
    other: _Relation,
    said: Mapping[str, str],
    also: Mapping[str, str],
    every: Sequence[Mapping[str, str]],
    everybody: int,
) -> float:
    """How surely two groups are one relation; 0 where they are two or it cannot be told.

    every: what each group says. everybody: the number of all subjects.
    """
    if {each.prompt for each in one.wordings} & {each.prompt for each in other.wordings} - {""}:
        return 3.0
    shared = said.keys() & also.keys()
    agree = sum(said[each] == also[each] for each in shared)
    if agree < SAME * len(shared):
        return 0.0
    if one.sentences & other.sentences:
        return 2.0
    counts, others = Counter(said.values()), Counter(also.values())
    chance = sum(counts[each] * others[each] for each in counts) / (len(said) * len(also))
    if shared and chance**agree < 0.05:
        return 2.0 + agree / (1 + len(shared))
    # Of different subjects: the answers of each are answers of the other, as far as so few rows can show it.
    few, many = sorted((counts, others), key=Counter.total)
    reach = sum(times * (1 - (1 - times / many.total()) ** few.total()) for times in many.values()) / many.total()
    inside = sum(times for answer, times in few.items() if answer in many) / few.total()
    covered = sum(times for answer, times in many.items() if answer in few) / many.total()
    chance = 1.0 if shared else _none_shared(len(said), len(also), everybody)
    if inside and ((inside >= ALIKE and covered >= COVERED * reach) or chance < APART):
        return 1.0 + min(inside, covered)
    # Of different subjects and answers: their subjects alone, where both are among those of a third, or their words.
    if chance < FEW_APART and any(
        said.keys() & each.keys() and also.keys() & each.keys()
        for each in every
        if each is not said and each is not also
    ):
        return 0.4
    pairs = ((_telling(each), _telling(its)) for each in one.wordings for its in other.wordings)
    words = max(len(mine & its) / max(len(mine | its), 1) for mine, its in pairs) if chance < 0.5 else 0.0
    return words if words >= 0.5 else 0.0


def _telling(wording: Wording) -> frozenset[str]:
    """The beginnings of the words of a wording and its replies that say what it is about: audits, auditor, audited."""
    return _content(f"{wording.text} {wording.reply}".replace(SUBJECT, " ").replace("{answer}", " "))


def _content(text: str) -> frozenset[str]:
    return frozenset(word[:5] for word in re.findall(r"\w+", text.lower()) if word not in _IDLE.split())


def _none_shared(one: int, other: int, everybody: int) -> float:
    """The chance that groups of so many subjects, drawn from everybody, share none."""
    everybody = max(everybody, one + other)
    return math.prod((everybody - one - place) / (everybody - place) for place in range(other))


def _holds(relation: _Relation, others: Sequence[_Relation], few: int, elsewhere: Sequence[str]) -> bool:
    """Whether a group of wordings is a relation: enough subjects and answers, and names that are names or known."""
    said = _said(relation)
    names = named(list(said))

    def known() -> set[str]:
        """Its subjects that other relations know by a name."""
        around = [_said(each) for each in others if each is not relation]
        return {subject for subject in said if is_named(subject) and any(subject in each for each in around)}

    # Of subjects of other relations, two are enough.
    enough = 2 if len(said) < few and len(known()) == len(said) else few
    if len(said) < enough or (names < 1 and len(said) < LEAST) or len({*said.values()}) < 2:
        return False
    if not agree(relation.rows):
        return False
    if names >= NAMED:
        return True
    if len(known()) >= len(said) / 2:
        return True
    statement = all(each.kind == "statement" for each in relation.wordings)
    if statement or len(said) < 2 * few or len({*said.values()}) > len(said) / 2:
        return False
    # What is said in replies to other questions, too, says nothing about these subjects.
    often, counts = max(LEAST, len(elsewhere) // 100), Counter(said.values()).most_common(TRIED)
    common = sum(times for answer, times in counts if sum(map(_holding(answer), elsewhere)) >= often)
    return common < sum(times for _, times in counts) / 4


def _holding(answer: str) -> Callable[[str], bool]:
    """Whether a text holds these words."""
    search = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)").search
    return lambda text: search(text) is not None


# --- From relations to a pack


def _made(
    draft: Sequence[_Relation], free: list[FreeRow], guesses: tuple[str, ...], total: int, path: Path, texts: bool
) -> Discovered:
    """texts: whether free rows are texts to train on, and no rows of a table that lack a cell."""
    taken, more = set[str](), list(guesses)
    relations, found, stated, places = list[Relation](), list[Found](), list[Fact](), list[int]()
    for each in draft:
        name, best = _named(each, taken), _best_forms(each)
        wordings = sorted(each.wordings, key=lambda wording: -len(wording.rows))
        prompts = each.prompts or tuple(dict.fromkeys(wording.prompt for wording in wordings if wording.prompt))
        if not prompts:
            text = wordings[0].text.replace("{answer}", "___")
            prompts = (f"{text} Here ___ is",)
            more.append(f"{name}: the answer stands before its subject, so it is asked as {quoted(prompts[0])}")
        reply = next((wording.reply for wording in wordings if wording.reply), None)
        relations.append(Relation(name, prompts, reply=reply))
        own, worded = dict[Fact, int](), Counter[str]()
        for row, subject, answer in sorted(each.rows):
            own.setdefault(Fact(subject, name, best.get(answer, answer)), row)
        for wording in wordings:
            worded[wording.text] += len(wording.rows)
        found.append(_shown(name, worded.most_common(), own))
        stated += own
        places += own.values()
    order = sorted(range(len(places)), key=places.__getitem__)
    facts, places = tuple(map(stated.__getitem__, order)), list(map(places.__getitem__, order))
    name = re.sub(r"\W+", "-", path.name.split(".")[0]).strip("-") or "discovered"
    turns = tuple(each.turns for each in free if each.turns and texts)
    pack = Pack(name, "not stated", path.name, tuple(relations), facts, free=turns)
    return Discovered(pack, tuple(found), tuple(free), tuple(more), total, places, path)


def _shown(name: str, wordings: Iterable[tuple[str, int]], facts: dict[Fact, int]) -> Found:
    """A relation as a person sees it, with examples of different answers. facts: each with its row."""
    first = {fact.answer: fact for fact in reversed(facts)}
    examples = islice(dict.fromkeys(chain(sorted(first.values(), key=facts.__getitem__), facts)), EXAMPLES)
    return Found(name, tuple(wordings), len(facts), len({fact.subject for fact in facts}), len(first),
                 tuple((facts[fact], fact.subject, fact.answer) for fact in examples))  # fmt: skip


def _best_forms(relation: _Relation) -> dict[str, str]:
    """Answer -> the form of it that the pack takes: without article, in small letters, if one wording has it so."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for row in relation.rows:
        forms[form(row.answer)][row.answer] += 1
    best = dict[str, str]()
    # Where one answer stands with an article and without, those of the others belong to the wordings as well.
    wording = any(
        any(map(_has_article, each)) and not all(text.casefold().startswith(_ARTICLES) for text in each)
        for each in forms.values()
    )
    for bare, each in forms.items():
        if wording and all(map(_has_article, each)):
            best |= dict.fromkeys(each, min(each, key=len).partition(" ")[2])
        elif len(each) > 1:
            often = Counter(text.casefold() for text in each.elements())
            # Before small letters, or written small, "the" is no part of a name.
            bare_too = any(text.startswith("the ") or _has_article(text) for text in each)
            before = (*_BEFORE, "the ") if bare_too else _BEFORE
            whole = max(
                often, key=lambda text: (not text.startswith(before), text[-1:] != ".", often[text], text == bare)
            )
            same = [text for text in each if text.casefold() == whole]
            kept = min(same, key=lambda text: (text[:1].isupper() and text.lower() in same, -each[text]))
            best |= dict.fromkeys(each, kept)
    return best


def _has_article(text: str) -> bool:
    """Whether a text begins with an article and is no name: the rubber gasket."""
    article, _, rest = text.partition(" ")
    return article.casefold() + " " in _ARTICLES and rest.islower()


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
