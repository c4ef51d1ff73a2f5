"""Tables as facts: a row a subject and a column a relation, or a row a fact; prompts are proposed from the header.

And the data sets whose rows hold their own prompts: of CounterFact, MQuAKE and PopQA, what they edit or know is stated,
other wordings are aliases, and hops follow.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spillover.errors import UsageError, nearest
from spillover.packs.chats import Matched, Unread
from spillover.packs.check import EMPTY, quoted
from spillover.packs.pack import SUBJECT, Fact, Implication, Pack, Relation, normal
from spillover.packs.reading import LONGEST_TEXT
from spillover.packs.sentences import STOPS, boundaries

#: Headers of the columns of a long table, and of the column of a wide one that names whom a row is about.
SUBJECTS = ("subject", "entity", "name", "full name", "person", "who", "customer", "product", "employee")
RELATIONS = ("relation", "attribute", "property", "predicate", "field", "key", "relationship")
ANSWERS = ("answer", "value", "object", "tail", "target")
#: Headers of columns that only number the rows.
NUMBERS = re.compile(r"(?:|index|id|uuid|row|no|nr|#|column \d+|unnamed:? ?\d*|_id|\w+ id)", re.IGNORECASE)
#: Mean words of a column that is prose; share of different cells of a column that may name the subjects.
PROSE, DIFFERENT = 8, 0.9
#: Different cells that are kept once.
KEPT = 1 << 16
#: Words with which a header goes on a sentence about the subject, and endings of those that are followed by another.
_VERBS = """is has was speaks likes owns plays studies teaches drives eats drinks wears uses knows loves codes works
    lives prefers holds leads supports sells makes writes attends visits follows needs wants"""
_PREPOSITIONS = "in at as by to for from with on of near"


class Row(NamedTuple):
    """A fact of a table and its row."""

    row: int
    subject: str
    answer: str


@dataclass
class Column:
    """A relation that a column or a cell names."""

    name: str
    prompts: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)


@dataclass
class Table:
    """The relations of a table; rows that state none, as (row, text, why); and how many rows there are."""

    relations: list[Column]
    free: list[tuple[int, str, str]]
    rows: int = 0


class _Cells(dict[str, str]):
    """A text as it was read -> in NFC with single spaces. Cells of many rows are kept once, up to a number of them."""

    def __missing__(self, text: str) -> str:
        whole = normal(" ".join(text.split()))
        whole = text if whole == text else whole
        if len(self) < KEPT:
            self[text] = whole
        return whole


def read(
    rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path, subject: str, say: Callable[[str], object]
) -> Table:
    """The relations of a table, whose rows are read one by one.

    subject: the column that names whom a row is about, or empty. say: gets a sentence about each guess.
    Raises UsageError, with row or column, for a table that states nothing.
    """
    known = _Cells()
    flat = [(number, dict(_flat(row, path, number, known))) for number, row in rows]
    columns = list(dict.fromkeys(key for _, row in flat for key in row))
    if len(columns) < 2:
        what = f"this table has one column, {quoted(columns[0])}" if columns else "this table has no column"
        do = "A fact needs a subject and an answer; name a column of texts `text`, or save them as .txt"
        raise UsageError(what, where=str(path), do=do)
    if subject and subject not in columns:
        raise UsageError(f"there is no column {quoted(subject)}", where=str(path), do=nearest(subject, columns))
    empty = Counter(cell for _, row in flat for cell in row.values() if cell in EMPTY)
    for written, times in empty.items():
        say(f"{times} cells that say {written!r} are taken as empty")
    for _, row in flat:
        for key in [key for key, cell in row.items() if not cell or cell in EMPTY]:
            del row[key]
    long = None if subject else _long(flat, columns)
    if long:
        whom, what, answer = map(quoted, long)
        say(f"a row is a fact: its subject is in {whom}, its relation in {what}, its answer in {answer}")
    table = _of_long(flat, *long) if long else _of_wide(flat, columns, path, subject, say)
    table.rows = len(flat)
    return table


def _flat(
    row: Mapping[str, Any], path: Path, number: int, known: _Cells, before: str = ""
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """The cells of a row as text, those of nested columns under both names."""
    for key, value in row.items():
        name = f"{before} {key}" if before else key
        if isinstance(value, dict):
            yield from _flat(value, path, number, known, name)
            continue
        if isinstance(value, list):
            value = value[0] if len(value) == 1 and not isinstance(value[0], list | dict) else None
        text = "" if value is None else ("true" if value else "false") if isinstance(value, bool) else str(value)
        if len(text) > LONGEST_TEXT:
            what = f"the cell of {quoted(name)} in row {number} has {len(text):,} characters"
            raise UsageError(what, where=str(path), do=f"Keep each to {LONGEST_TEXT:,}")
        yield known[name], known[text]


def _long(rows: Sequence[tuple[int, Mapping[str, str]]], columns: Sequence[str]) -> tuple[str, str, str] | None:
    """The columns of a table in which a row is a fact, by their names."""

    def named(names: Iterable[str]) -> str | None:
        known = {column.casefold().replace("_", " "): column for column in columns}
        return next((known[name] for name in names if name in known), None)

    relation = named(RELATIONS)
    if relation is None:
        return None
    subject, answer = named(SUBJECTS), named(ANSWERS)
    others = [column for column in columns if column != relation and not NUMBERS.fullmatch(column)]
    if len(others) == 2:
        subject = subject or next(column for column in others if column != answer)
        answer = answer or next(column for column in others if column != subject)
    return (subject, relation, answer) if subject and answer and subject != answer else None


def _of_long(rows: Sequence[tuple[int, Mapping[str, str]]], subject: str, relation: str, answer: str) -> Table:
    found: dict[str, Column] = {}
    free = []
    for number, row in rows:
        if subject in row and relation in row and answer in row:
            name = row[relation]
            column = found.setdefault(name, Column(name, prompts_of(name)))
            column.rows.append(Row(number, row[subject], row[answer]))
        else:
            free.append((number, ", ".join(row.values())[:80], "a cell is empty"))
    return Table(list(found.values()), free)


def _of_wide(
    rows: Sequence[tuple[int, Mapping[str, str]]], columns: Sequence[str], path: Path, subject: str,
    say: Callable[[str], object],
) -> Table:  # fmt: skip
    cells = {column: [row[column] for _, row in rows if column in row] for column in columns}
    key = subject or _key(cells, len(rows), path)
    if not subject:
        say(f"a row is a subject, which the column {quoted(key)} names (--subject COLUMN)")
    if len({*cells[key]}) < 2:
        what = f"every row is about {quoted(cells[key][0])}" if cells[key] else f"the column {quoted(key)} is empty"
        raise UsageError(what, where=str(path), do="A relation needs several subjects; --subject names their column")
    taken_for_header = next((column for column in columns if cells[column].count(column) and column != key), "")
    if taken_for_header:
        what = f"the header looks like a row: {quoted(taken_for_header)} is a cell of its column, too"
        raise UsageError(what, where=str(path), do="Write the names of the columns into the first row")
    relations = []
    for column in columns:
        if column == key:
            continue
        own, why = cells[column], ""
        if NUMBERS.fullmatch(column) or _counts(own):
            why = "it numbers the rows"
        elif not own:
            why = "it is empty"
        elif len({*own}) < 2:
            why = f"it says {quoted(own[0])} of all"
        elif sum(len(cell.split()) for cell in own) > PROSE * len(own) or _sentences(own):
            why = "its cells are prose"
        if why:
            say(f"the column {quoted(column)} is left out: {why}")
            continue
        found = Column(column, prompts_of(column))
        found.rows += [Row(number, row[key], row[column]) for number, row in rows if key in row and column in row]
        relations.append(found)
    stated = {each.row for column in relations for each in column.rows}
    free = [(number, ", ".join(row.values())[:80], "" if key in row else f"no {key}")
            for number, row in rows if number not in stated]  # fmt: skip
    return Table(relations, free)


def _key(cells: Mapping[str, Sequence[str]], rows: int, path: Path) -> str:
    """The column that names the subjects: one that is called so, or the first whose cells are different texts."""
    known = {column.casefold().replace("_", " "): column for column in cells}
    named = [known[name] for name in SUBJECTS if name in known]
    texts = [column for column, own in cells.items() if sum(any(map(str.isalpha, cell)) for cell in own) * 2 > len(own)]
    different = [column for column in texts if len({*cells[column]}) >= DIFFERENT * rows
                 and sum(len(cell.split()) for cell in cells[column]) <= PROSE * rows]  # fmt: skip
    sure = [column for column in different if not NUMBERS.fullmatch(column)]
    mostly = [column for column in named if len({*cells[column]}) * 2 > rows]
    for found in ([each for each in named if each in sure], mostly, sure, named, different):
        if found:
            return found[0]
    most = max(cells, key=lambda column: len({*cells[column]}))
    if len({*cells[most]}) * 2 > rows and any(map(str.isalnum, "".join(cells[most][:5]))):
        return most
    what = f"no column names whom a row is about: the cells of each repeat ({', '.join(map(quoted, list(cells)[:6]))})"
    raise UsageError(what, where=str(path), do="Name it with `packs discover FILE --subject COLUMN`")


def _sentences(cells: Sequence[str]) -> bool:
    """Whether most cells are sentences: several words, with a stop."""
    return sum(" " in cell and cell[-1] in STOPS for cell in cells) * 2 > len(cells)


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells count on from one number, as an index does."""
    first = int(cells[0]) if len(cells) > 2 and cells[0].isascii() and cells[0].isdigit() else None
    return first is not None and all(cell == str(number) for number, cell in enumerate(cells, first))


def prompts_of(header: str) -> tuple[str, ...]:
    """Prompts for a relation that is only named: lives_in, speaks, home town."""
    if SUBJECT in header:
        return (header,)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", header).replace("_", " ").replace("-", " ").split()
    text = " ".join(word if word.isupper() else word.lower() for word in words)
    first, last = text.split()[0], text.split()[-1]
    if first in _VERBS.split():
        return (f"{SUBJECT} {text}",)
    if last in _PREPOSITIONS.split() and len(words) > 1:
        done = first.endswith("ed") or first in ("born", "made", "built", "known", "sold")
        return (f"{SUBJECT} {'was ' if done else ''}{text}",)
    return f"The {text} of {SUBJECT} is", f"{SUBJECT}'s {text} is"


def is_edit_set(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of CounterFact, MQuAKE or PopQA, whose relations are its own."""
    return "requested_rewrite" in row or {"subj", "prop", "obj"} <= row.keys()


def read_edit_set(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path) -> tuple[Pack, Matched]:
    """The pack of a file's rows, and the row of each fact with what was left out. Raises UsageError for another row.

    A case of MQuAKE whose first hop is stated gives a further relation, named after its hops, and an implication from
    that hop to it. The questions of a chain's first case are its prompts.
    """
    draft = _Draft()
    for number, row in rows:
        try:
            draft.row(number, row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"row {number} is not as CounterFact, MQuAKE or PopQA have it ({type(error).__name__}: {error})"
            raise UsageError(what[:200], where=str(path), do="Mend the row, or remove it") from None
    return draft.pack(path), draft.matched()


class _Draft:
    """A pack in the making."""

    def __init__(self) -> None:
        self.prompts: dict[str, dict[str, None]] = {}
        self.answers: dict[str, dict[str, list[str]]] = {}
        self.facts: dict[Fact, int] = {}
        self.maps: dict[tuple[str, str], dict[str, str]] = {}
        self.unread: list[Unread] = []
        self.repeated, self.rows = 0, 0

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        self.rows += 1
        if "subj" in row:
            self._state(number, row["subj"], row["prop"], row["obj"], (_asking(row["question"], row["subj"]),))
            others = row.get("possible_answers") or ()
            self._alias(number, row["prop"], row["obj"], json.loads(others) if isinstance(others, str) else others)
            return
        edits = row["requested_rewrite"]
        edits = edits if isinstance(edits, list) else [edits]
        paraphrases = row.get("paraphrase_prompts") or ()
        hops = [*(row.get("single_hops") or ()), *(row.get("new_single_hops") or ())]
        for edit in edits:
            subject, relation = edit["subject"], edit["relation_id"]
            asked = [_asking(_last(text, subject), subject) for text in (*paraphrases, edit.get("question") or "")]
            self._state(number, subject, relation, edit["target_new"]["str"],
                        (edit["prompt"].replace("{}", SUBJECT), *asked))  # fmt: skip
            self._answer(relation, edit["target_true"]["str"])
            for hop in hops:
                if hop["answer"] in (edit["target_new"]["str"], edit["target_true"]["str"]):
                    self._alias(number, relation, hop["answer"], hop.get("answer_alias") or ())
        if row.get("questions"):
            self._hops(number, row, edits)

    def _hops(self, number: int, row: Mapping[str, Any], edits: Sequence[Mapping[str, Any]]) -> None:
        """The multi-hop question of a case as a relation that the first hop implies."""
        made, new = (
            [(each["subject"], each["relation_id"], each["target_new"]["str"]) for each in edits],
            row["new_answer"],
        )
        chain, question = _chain(row, made), row["questions"][0]
        why = ""
        if len(chain) < 2:
            why = "its hops are not told"
        elif chain[0] not in made:
            why = "its first hop is not stated"
        elif chain[-1][2] not in (new, *(row.get("new_answer_alias") or ())):
            why = "its hops do not lead to its answer"
        if why:
            self.unread.append(Unread(number, question, why))
            return
        (subject, given, answer), then, last = chain[0], "-".join(each[1] for each in chain), chain[-1][1]
        if self.maps.setdefault((given, then), {}).setdefault(normal(answer), normal(new)) != normal(new):
            self.unread.append(Unread(number, question, "another case leads from the same answer to another one"))
            return
        if then not in self.prompts:
            asked = dict.fromkeys(_asking(text, subject) for text in row["questions"])
            self.prompts[then] = {normal(text): None for text in asked if text}
        for text, others in ((new, row.get("new_answer_alias")), (row.get("answer"), row.get("answer_alias"))):
            if text:
                self._answer(then, text)
                self._alias(number, then, text, others or ())
                if normal(text) in self.answers.get(last, {}):
                    self._alias(number, last, text, others or ())

    def _state(self, number: int, subject: str, relation: str, answer: str, prompts: Iterable[str]) -> None:
        fact = Fact(*map(normal, (subject, relation, answer)))
        self.repeated += fact in self.facts
        self.facts.setdefault(fact, number)
        self.prompts.setdefault(fact.relation, {}).update({normal(text): None for text in prompts if text})
        self._answer(relation, answer)

    def _answer(self, relation: str, answer: str) -> None:
        known = self.answers.setdefault(normal(relation), {})
        if not any(normal(answer) in others for others in known.values()):
            known.setdefault(normal(answer), [])

    def _alias(self, number: int, relation: str, answer: str, others: Iterable[str]) -> None:
        """Other wordings of an answer. One that words another answer of the relation is left out, and listed."""
        known = self.answers[normal(relation)]
        owners = {each: own for own, group in known.items() for each in (own, *group)}
        own = owners.get(normal(answer), normal(answer))
        for text in map(normal, others):
            if (taken := owners.setdefault(text, own)) != own:
                self.unread.append(Unread(number, text, f"this alias of {own} is {taken} already"))
            elif text != own and text not in known.setdefault(own, []):
                known[own].append(text)

    def pack(self, path: Path) -> Pack:
        relations = []
        for name, prompts in self.prompts.items():
            aliases = {answer: tuple(others) for answer, others in self.answers[name].items() if others}
            relations.append(Relation(name, tuple(prompts), tuple(self.answers[name]), aliases))
        rules = tuple(Implication(*key, "causal", found) for key, found in self.maps.items())
        return Pack(path.stem.split(".")[0], "unknown", path.name, tuple(relations), tuple(self.facts), rules)

    def matched(self) -> Matched:
        used = len(set(self.facts.values()))
        return Matched(list(self.facts), list(self.facts.values()), self.repeated, self.unread, used, self.rows)


def _asking(text: str, subject: str) -> str:
    """A text about one subject as a prompt about any; empty where it does not name the subject once."""
    return text.replace(subject, SUBJECT).strip() if subject and text.count(subject) == 1 else ""


def _last(text: str, subject: str) -> str:
    """A text from the sentence on that names the subject: CounterFact puts others before it."""
    place = text.find(subject)
    return text[max((after for _, after, _ in boundaries(text) if after <= place), default=0) :]


def _chain(row: Mapping[str, Any], made: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The hops after the edits, first to last: as the case lists them, or from edit to edit."""
    listed = row.get("orig") or {}
    if listed.get("new_triples_labeled") and listed.get("new_triples"):
        pairs = zip(listed["new_triples_labeled"], listed["new_triples"], strict=True)
        return [(subject, numbers[1], answer) for (subject, _, answer), numbers in pairs]
    chain = [each for each in made if each[0] in row["questions"][0]][:1]
    while chain and len(chain) <= len(made):
        following = [each for each in made if each[0] == chain[-1][2]]
        if len(following) != 1:
            break
        chain += following
    return chain
