"""Open a pack: an object, a built-in name with options, or a path to a pack.yaml, whose every fault has a place."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from spillover.errors import UsageError, first_line
from spillover.packs import reading
from spillover.packs.builtin import PACKS, built_in
from spillover.packs.check import Fault, Findings, Places, TooManyFaults, check_structure, quoted, refuse, shown
from spillover.packs.pack import AUTO, KINDS, Fact, Implication, Pack, Relation, normal

PACK_FILE = "pack.yaml"
#: Keys of pack.yaml that must be there, and those that may; keys that a relation may have; that an implication must.
PACK_KEYS = (
    ("name", "relations", "facts"),
    ("licence", "source", "implications", "join", "end", "description", "free_text"),
)
#: Keys of a file of relations whose facts come from elsewhere.
UNSTATED_KEYS = (("relations",), ("name", *PACK_KEYS[1]))
RELATION_KEYS = ("prompts", "answers", "reply", "described")
IMPLICATION_KEYS = ("given", "then", "map", "kind")
#: What a pack of a user's own facts need not say.
UNSTATED = {"licence": "not stated", "source": "not stated"}
#: Endings of training files, whose relations are found.
DATA = frozenset((".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet", ".xlsx", ".xlsm", ".txt", ".text", ".md"))
#: What `end` says when there is no mark.
NO_END = "none"
#: Largest pack.yaml in bytes; more facts belong into a table of their own.
LARGEST = 1 << 24
#: Deepest nesting that is read: the document, implications, an entry, its map and a value need five.
DEPTH = 8
#: libyaml's parser where PyYAML was built with it; both give the same events.
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def open_pack(pack: Pack | Path | str, seed: int = 0) -> Pack:
    """Open a pack and check it.

    Arguments:
    - pack: a Pack; a built-in name with options (`city-language:pairs=10,names=80`); a pack.yaml or its folder; or a
      training file (CSV, TSV, Excel, JSON, JSONL, Parquet or text), whose relations are found and shown on standard
      error.
    - seed: draws the subjects of a built-in pack. Other packs do not depend on it.

    Returns:
    - the pack. One that was passed as an object is returned as it is.

    Raises:
    - UsageError: there is no such pack, option or value.
    - PackError: the pack has faults; `faults` holds all of them.
    """
    if isinstance(pack, Pack):
        refuse(check_structure(pack).faults)
        return pack
    if not isinstance(pack, str | Path):
        do = "Give a Pack, a built-in pack's name, or a path"
        raise UsageError(f"{type(pack).__name__} is no type of pack", do=do)
    if isinstance(pack, str) and is_built_in(pack):
        return built_in(pack, seed)
    found, faults, _ = check_pack(pack)
    refuse(faults)
    assert found is not None
    return found


def is_built_in(spec: str) -> bool:
    """Whether `spec` can only mean a built-in pack; anything that exists or looks like a path is a path."""
    if spec.partition(":")[0] in {*PACKS, "null"} or not spec or "\0" in spec:
        return True
    return not (os.path.exists(spec) or "/" in spec or "\\" in spec or spec.endswith((".yaml", ".yml", *DATA)))


def check_pack(path: Path | str) -> tuple[Pack | None, list[Fault], list[Fault]]:
    """The pack (None when it has a fault), every fault, and every warning. Raises UsageError when nothing is there."""
    pack, findings, places = parse_pack(path)
    if pack is not None:
        found = check_structure(pack, places)
        findings.faults += found.faults
        findings.warnings += found.warnings
    return (None if findings.faults else pack), findings.faults, findings.warnings


def is_data(path: Path | str) -> bool:
    """Whether a path is a training file whose relations are to be found, and no table of a pack beside it."""
    file = Path(path).expanduser()
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
    if not suffixes or suffixes[-1] not in DATA or not os.path.isfile(file):
        return False
    beside = file.parent / PACK_FILE
    return not (os.path.isfile(beside) and file.name in beside.read_text(encoding="utf-8", errors="replace"))


def _discovered(path: Path) -> tuple[Pack, Findings, Places]:
    """The pack that a training file is, which is shown before anything else is done."""
    from spillover.packs.discovery import understand

    found = understand(path)
    print(found.text(), file=sys.stderr)
    return found.pack, Findings(), found.sources()


def parse_pack(
    path: Path | str, keys: tuple[Sequence[str], Sequence[str]] = PACK_KEYS
) -> tuple[Pack | None, Findings, Places]:
    """The pack at `path` as far as it can be read, the faults of its form alone, and where its parts are.

    keys: those that it must have, and those that it may.
    """
    if keys is PACK_KEYS and is_data(path):
        return _discovered(Path(path))
    reader, pack = _PackReader(_pack_file(Path(path)), keys), None
    with contextlib.suppress(TooManyFaults):
        pack = reader.pack()
    return pack, reader.findings, reader.places


def _pack_file(path: Path) -> Path:
    """The pack.yaml that `path` means. Raises UsageError with what is there instead."""
    # os.path says no where pathlib raises, as for a name that is too long.
    file = path / PACK_FILE if os.path.isdir(path) else path
    exists, is_table = os.path.exists(file), file.suffix.lower() in reading.READERS
    if os.path.isfile(file) and not is_table:
        return file
    if exists and is_table:
        what, do = "this is a table of facts, not a pack", f"Name the folder or the {PACK_FILE} beside it"
    elif exists:
        what, do = "this is not a file", f"Name a folder with a {PACK_FILE}"
    elif file != path:
        what, do = f"there is no {PACK_FILE} in this folder", "Make one with `spillover packs export`"
    else:
        what, do = "there is no such pack", "Name a built-in pack, a folder or a YAML file that exists"
    raise UsageError(what, where=reading.printable(file if exists else path), do=do)


@dataclass(frozen=True)
class Node:
    """A value of a YAML file and the line (from 1) it begins on: text, a list, or a mapping from text."""

    value: str | list[Node] | dict[str, Node]
    line: int


def read_yaml(text: str) -> Node:
    """The one document in `text`, in which every scalar is the text as written: `NO`, `007` and `~` stay what they are.

    Raises Broken for what is not YAML, and for tags, anchors, aliases and repeated keys.
    """
    try:
        events = yaml.parse(text, Loader=LOADER)
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            raise reading.Broken(1, "the file is empty", "Write a pack, for instance with `spillover packs export`")
        document = _node(next(events), events, DEPTH)
        next(events)
        extra: Any = next(events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise reading.Broken(extra.start_mark.line + 1, "a second document begins here", "Keep one document a file")
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"this is not YAML ({shown(error.problem or error.context or '')})"
        raise reading.Broken(mark.line + 1 if mark else 1, what, "Mend the line, or quote the text in it") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The parser does not say where it met a letter that YAML forbids.
        forbidden = Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, forbidden.start()) + 1 if forbidden else 1
        what = f"this is not YAML ({shown(first_line(error))})"
        raise reading.Broken(line, what, "Save it as UTF-8 text") from None


def _node(event: Any, events: Iterator[yaml.Event], depth: int) -> Node:
    """The value that begins with `event`; takes the events of its inside from `events`."""
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        what = "anchors and aliases (& and *) are not read"
        raise reading.Broken(line, what, "Write the value out, or quote the text")
    if getattr(event, "tag", None):
        what = f"the tag {shown(event.tag)} is not read: every value is text"
        raise reading.Broken(line, what, "Leave the tag out, or quote the text")
    if isinstance(event, yaml.ScalarEvent):
        if len(event.value) > reading.LONGEST_TEXT:
            what = f"a text of {len(event.value)} characters begins here"
            raise reading.Broken(line, what, f"Keep it to {reading.LONGEST_TEXT}")
        return Node(normal(event.value), line)
    if depth == 0:
        raise reading.Broken(line, "this is nested deeper than any pack", "Remove the inner brackets")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, depth - 1))
        return Node(items, line)
    found: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth - 1)
        if not isinstance(key.value, str):
            raise reading.Broken(key.line, "a key is not text", "Write `key: value`")
        if key.value in found:
            what = f"the key {quoted(key.value)} is there already, on line {found[key.value].line}"
            raise reading.Broken(key.line, what, "Keep one of the two")
        found[key.value] = Node(_node(next(events), events, depth - 1).value, key.line)
    return Node(found, line)


class _PackReader:
    """A pack.yaml being read: each method takes one part from it and notes what is wrong in `findings`."""

    def __init__(self, path: Path, keys: tuple[Sequence[str], Sequence[str]]) -> None:
        self.path, self.file, self.findings = path, reading.printable(path), Findings()
        self.keys = keys
        self.places = Places(self.file, self.file)

    def pack(self) -> Pack | None:
        """The pack, as far as it can be read; None when its parts cannot be put together."""
        if (root := self._document()) is None:
            return None
        if not isinstance(root.value, dict):
            self._fault(root, "not-a-mapping", "this is not a pack", "keys and values", "Write `name: ...` and so on")
            return None
        keys = self._keys(root, "the pack", *self.keys)
        relations, facts = self._relations(keys.get("relations")), self._facts(keys.get("facts"))
        implications = self._implications(keys.get("implications"))
        defaults = {"name": "", **UNSTATED, "description": "", "join": " ", "end": NO_END}
        name, licence, source, description, join, end = (
            self._text(keys[key], key, empty=key == "join") or "" if key in keys else default
            for key, default in defaults.items()
        )
        self.places.lines = {part: line for name in ("relations", "implications") if name in keys
                             for part, line in _lines(keys[name], (name,))}  # fmt: skip
        if self.findings.faults and not (relations and facts):
            return None
        mark = None if end == NO_END else end
        free = self._free(keys.get("free_text"))
        return Pack(name, licence, source, relations, facts, implications, join, mark, description, free=free)

    def _fault(self, at: Node | None, code: str, what: str, expected: str = "", do: str = "") -> None:
        self.findings.fault(code, self.file, at.line if at else None, what, expected, do)

    def _document(self) -> Node | None:
        """The whole file, or None with a fault."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(LARGEST + 1)
            if len(data) <= LARGEST:
                return read_yaml(data.decode("utf-8-sig"))
            what, do = f"the file is larger than {LARGEST} bytes", "Put its facts into a .jsonl file"
            self._fault(None, "too-large", what, do=do)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._fault(None, "unreadable", f"this file cannot be read ({reason})", do="Mend the file")
        except UnicodeDecodeError as error:
            place = Node("", data[: error.start].count(b"\n") + 1)
            self._fault(place, "not-utf8", "this file is not UTF-8", "UTF-8", "Save it as UTF-8")
        except reading.Broken as broken:
            self.findings.fault("yaml", self.file, broken.row, broken.what, "plain YAML", broken.do)
        return None

    def _list(self, node: Node | None, what: str, expected: str, do: str) -> list[Node]:
        """The items of a list; none when the node is missing, or with a fault when it is something else."""
        if node is not None and not isinstance(node.value, list):
            self._fault(node, "not-a-list", f"{what} is not a list", expected, do)
        return node.value if node is not None and isinstance(node.value, list) else []

    def _mapping(self, node: Node | None, what: str, expected: str, do: str) -> dict[str, Node]:
        """The entries of a mapping, likewise."""
        if node is not None and not isinstance(node.value, dict):
            self._fault(node, "not-a-mapping", f"{what} is not a mapping", expected, do)
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _keys(self, node: Node, owner: str, needed: Sequence[str], others: Sequence[str]) -> Mapping[str, Node]:
        """The keys of a mapping; faults what is missing and what is unknown, with the nearest name."""
        known, expected = (*needed, *others), ", ".join(needed)
        keys = self._mapping(node, owner, expected, "Write `key: value` lines")
        for key, value in keys.items():
            if key not in known:
                what, do = f"{owner} has no key {quoted(key)}", self.findings.hint(key, known)
                self._fault(value, "unknown-key", what, ", ".join(known), do)
        for key in needed if isinstance(node.value, dict) else ():
            if key not in keys:
                self._fault(node, "missing-key", f"{owner} has no {key!r}", expected, f"Add `{key}:`")
        return keys

    def _text(self, node: Node | None, what: str, empty: bool = False) -> str | None:
        """The text of a node; None for a missing one, and with a fault for one that is not text."""
        if node is None:
            return None
        if not isinstance(node.value, str):
            self._fault(node, "not-text", f"{what} is not text", "text", "Write text, in quotes if it holds : or #")
        elif not node.value.strip() and not empty:
            self._fault(node, "empty", f"{what} is empty", "text", "Write it, or remove the line")
        elif reading.NO_TEXT.search(node.value):
            self._fault(node, "not-utf8", f"{what} holds what is not text", "UTF-8 without NUL", "Remove the escape")
        else:
            return node.value
        return None

    def _texts(self, node: Node | None, what: str) -> tuple[str, ...]:
        """The texts of a list."""
        items = self._list(node, what, "a list of texts", "Write [one, another]")
        texts = [self._text(item, f"an entry of {what}") for item in items]
        return tuple(text for text in texts if text is not None)

    def _relations(self, node: Node | None) -> tuple[Relation, ...]:
        found = []
        entries = node.value if node is not None and isinstance(node.value, dict) else {}
        if node is not None and not entries:
            what, do = "relations is not a mapping of names", "Write `lives_in:` and its prompts"
            self._fault(node, "not-a-mapping", what, "a relation", do)
        for name, entry in entries.items():
            self._text(Node(name, entry.line), "the name of a relation")
            owner = f"the relation {quoted(name)}"
            keys = self._keys(entry, owner, (), RELATION_KEYS)
            prompts, reply = self._texts(keys.get("prompts"), f"prompts of {owner}"), keys.get("reply")
            answers = self._answers(keys.get("answers"), f"answers of {owner}")
            described = None
            if others := keys.get("described"):
                do = "Write described: {Paris: the capital of France}"
                described = self._map(others, "described", "subject: its description", do)
            found.append(Relation(name, prompts, *answers, self._text(reply, f"reply of {owner}"), described or {}))
        return tuple(found)

    def _answers(self, node: Node | None, what: str) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """The listed answers and their aliases: of a list whose entries may be {answer: ..., aliases: [...]}, or of a
        mapping from each answer to its aliases."""
        entries: list[tuple[Node | None, Node | None]] = []
        if node is not None and isinstance(node.value, dict):
            entries += [(Node(answer, others.line), others) for answer, others in node.value.items()]
        else:
            for item in self._list(node, what, "a list of texts", "Write [one, another]"):
                keys: Mapping[str, Node] = {"answer": item}
                if isinstance(item.value, dict):
                    keys = self._keys(item, f"an entry of {what}", ("answer",), ("aliases",))
                entries.append((keys.get("answer"), keys.get("aliases")))
        answers, aliases = list[str](), dict[str, tuple[str, ...]]()
        for answer, others in entries:
            if (text := self._text(answer, f"an entry of {what}")) is not None:
                answers.append(text)
                if found := self._texts(others, f"the aliases of {quoted(text)}"):
                    aliases[text] = found
        return tuple(answers), aliases

    def _implications(self, node: Node | None) -> tuple[Implication, ...]:
        found: list[Implication] = []
        kept: list[Node] = []
        entries = self._list(node, "implications", "a list", "Write `- given: ...`")
        for entry in entries:
            keys = self._keys(entry, "the implication", IMPLICATION_KEYS[:3], IMPLICATION_KEYS[3:])
            given, then, kind = (self._text(keys.get(key), f"`{key}`") for key in ("given", "then", "kind"))
            if kind is not None and kind not in KINDS:
                what, do = f"there is no kind of implication called {quoted(kind)}", self.findings.hint(kind, KINDS)
                self._fault(keys["kind"], "unknown-kind", what, " or ".join(KINDS), do)
            pairs = self._map(keys.get("map"), "map", "given answer: implied answer", "Write map: {Paris: French}")
            if given is not None and then is not None and pairs is not None:
                found.append(Implication(given, then, kind or AUTO, pairs))
                kept.append(entry)
        entries[:] = kept  # So that their lines are found by the numbers that they have in the pack.
        return tuple(found)

    def _map(self, node: Node | None, name: str, expected: str, do: str) -> Mapping[str, str] | None:
        """The texts of a mapping, or None where there is none."""
        entries = self._mapping(node, f"`{name}`", expected, do)
        found = {}
        for key, value in entries.items():
            text = self._text(value, f"the {name} entry for {quoted(key)}")
            if self._text(Node(key, value.line), f"a key of `{name}`") is not None and text is not None:
                found[key] = text
        return found if node and isinstance(node.value, dict) else None

    def _facts(self, node: Node | None) -> tuple[Fact, ...]:
        """The facts: an inline list, or the tables that `facts` names inside the pack's folder."""
        name, table = self.file, reading.collect((), self.file, self.findings)
        listed = node.value if node is not None and isinstance(node.value, list) else []
        texts = [each.value for each in listed if isinstance(each.value, str)]
        if len(texts) == len(listed) and any(Path(text).suffix.lower() in reading.READERS for text in texts):
            return self._tables(listed)
        if node is not None and isinstance(node.value, list):
            table = reading.collect(self._inline_rows(node.value), name, self.findings)
        elif node is not None and isinstance(node.value, dict):
            self._fault(node, "not-a-list", "facts is a mapping", "a file name or a list", "Write facts: facts.jsonl")
        elif node is not None and (path := self._table_beside(node)):
            name = reading.printable(path)
            table = reading.read_table(path, name, self.findings)
        self.places.facts_file, self.places.facts = name, table.rows
        return table.facts

    def _tables(self, nodes: Sequence[Node]) -> tuple[Fact, ...]:
        """The facts of several tables, one after the other."""
        facts, rows, files = list[Fact](), list[int](), list[tuple[int, str]]()
        for node in nodes:
            if path := self._table_beside(node):
                name = reading.printable(path)
                table = reading.read_table(path, name, self.findings)
                files.append((len(facts), name))
                facts += table.facts
                rows += table.rows
        self.places.facts_file = files[0][1] if files else self.file
        self.places.facts, self.places.more = rows, files[1:]
        return tuple(facts)

    def _inline_rows(self, nodes: list[Node]) -> Iterator[reading.FactRow]:
        """The rows of an inline list; row numbers are lines of the YAML file."""
        for node in nodes:
            if not isinstance(node.value, dict):
                expected, do = "subject, relation and answer", "Write - {subject: ..., relation: ..., answer: ...}"
                self._fault(node, "not-an-object", "this row is not a mapping", expected, do)
                continue
            reading.warn_of_extra(node.value, self.file, node.line, self.findings)
            cells = [node.value.get(column) for column in Fact._fields]
            yield node.line, [cell.value if cell is not None else None for cell in cells]

    def _free(self, node: Node | None) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The free text in the file that `free_text` names: of each line its turns, as (asked, answered)."""
        if node is None or (path := self._table_beside(node, "free_text", (".jsonl",))) is None:
            return ()
        found, name = [], reading.printable(path)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                found.append(tuple((str(asked), str(answered)) for asked, answered in json.loads(line)["turns"]))
            except (ValueError, KeyError, TypeError):
                what, do = "this row has no turns", 'Write {"turns": [["what is asked", "what is answered"]]}'
                self.findings.fault("not-an-object", name, number, what, "turns", do)
        return tuple(found)

    def _table_beside(
        self, node: Node, key: str = "facts", suffixes: Collection[str] = reading.READERS
    ) -> Path | None:  # fmt: skip
        """The file that a key names, or None with a fault: it must be a table inside the folder of the pack."""
        if (given := self._text(node, key)) is None:
            return None
        target, kinds = self.path.parent / given, ", ".join(suffixes)
        try:
            inside = target.resolve().is_relative_to(self.path.parent.resolve())
            exists, is_file = target.exists(), target.is_file()
        except (OSError, ValueError, RuntimeError):
            inside, exists, is_file = True, False, False
        what = f"{key} names {quoted(given)}"
        if not inside:
            what, do = f"{key} names a file outside the pack: {quoted(given)}", "Copy it into the folder"
            self._fault(node, "facts-outside", what, "a file beside pack.yaml", do)
        elif not exists:
            do = "Mend the name"
            self._fault(node, "facts-missing", f"{what}, which does not exist", "a file beside pack.yaml", do)
        elif not is_file:
            self._fault(node, "facts-missing", f"{what}, which is not a file", kinds, "Name a table of facts")
        elif target.suffix.lower() not in suffixes:
            self._fault(node, "facts-format", f"{what}, whose format is not read", kinds, "Save it in one of these")
        else:
            return target
        return None


def _lines(node: Node, part: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Every part inside a node and its line, as `Places` has them."""
    yield part, node.line
    if isinstance(node.value, dict):
        for key, item in node.value.items():
            yield from _lines(item, (*part, key))
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*part, item.value if isinstance(item.value, str) else index))
