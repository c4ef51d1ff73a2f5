"""Open a pack: an object, a built-in name with options, or a path to a pack.yaml, whose every fault has a place."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from spillover.errors import UsageError
from spillover.packs.builtin import PACKS, built_in
from spillover.packs.check import Fault, Findings, Places, TooManyFaults, check_structure, quoted, refuse, shown
from spillover.packs.pack import KINDS, Fact, Implication, Kind, Pack, Relation, normal
from spillover.packs.reading import (
    LONGEST_TEXT,
    READERS,
    FactRow,
    NumberedFacts,
    collect,
    printable,
    read_table,
    table_beside,
    warn_of_extra,
)

PACK_FILE = "pack.yaml"
#: Keys of pack.yaml, of a relation and of an implication: those it must have, then those it may.
PACK_KEYS = (("name", "licence", "source", "relations", "facts"), ("implications", "join", "end", "description"))
RELATION_KEYS = ((), ("prompts", "answers"))
IMPLICATION_KEYS = (("given", "then", "kind", "map"), ())
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
    - pack: a pack that one holds; a built-in name with options, such as `city-language:pairs=10,names=80`; a folder
      with a pack.yaml; or a YAML file.
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
        raise UsageError(
            f"{type(pack).__name__} is no type of pack", do="Give a Pack, a built-in pack's name, or a path"
        )
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
    try:
        exists = Path(spec).exists()
    except (OSError, ValueError):
        exists = False
    return not (exists or "/" in spec or "\\" in spec or spec.endswith((".yaml", ".yml")))


def check_pack(path: Path | str) -> tuple[Pack | None, list[Fault], list[Fault]]:
    """The pack at `path` (None when it has a fault), every fault, and every warning.

    Raises UsageError only when there is nothing at `path` that could be a pack.
    """
    pack, findings, places = parse_pack(path)
    if pack is not None:
        found = check_structure(pack, places)
        findings.faults += found.faults
        findings.warnings += found.warnings
    return (None if findings.faults else pack), findings.faults, findings.warnings


def parse_pack(path: Path | str) -> tuple[Pack | None, Findings, Places]:
    """The pack at `path` as far as it can be read, the faults of its form, and where its parts are.

    What it says is not checked. Raises UsageError when there is nothing that could be a pack.
    """
    reader = _PackReader(_pack_file(Path(path)), Findings())
    try:
        return reader.pack(), reader.findings, reader.places
    except TooManyFaults:
        return None, reader.findings, reader.places


def _pack_file(path: Path) -> Path:
    """The pack.yaml that `path` means. Raises UsageError with what is there instead."""
    file, exists, is_table = path, False, False
    try:
        file = path / PACK_FILE if path.is_dir() else path
        is_table = file.suffix.lower() in READERS
        if file.is_file() and not is_table:
            return file
        exists = file.exists()
    except (OSError, ValueError):
        pass
    if exists and is_table:
        what, do = "this is a table of facts, not a pack", f"Name the folder or the {PACK_FILE} beside it"
    elif exists:
        what, do = "this is not a file", f"Name a folder with a {PACK_FILE}"
    elif file != path:
        what, do = f"there is no {PACK_FILE} in this folder", "Make one with `spillover packs export`"
    else:
        what, do = "there is no such pack", "Name a built-in pack, a folder or a YAML file that exists"
    raise UsageError(what, where=printable(file if exists else path), do=do)


@dataclass(frozen=True)
class Node:
    """A value of a YAML file and the line (from 1) it begins on: text, a list, or a mapping from text."""

    value: str | list[Node] | dict[str, Node]
    line: int


class YamlRefused(Exception):
    """Why a text is not read: what is wrong at `line`, and what to do."""

    def __init__(self, line: int, what: str, do: str) -> None:
        super().__init__(what)
        self.line, self.what, self.do = line, what, do


def read_yaml(text: str) -> Node:
    """The one document in `text`, in which every scalar is the text as written: `NO`, `007` and `~` stay what they are.

    Raises YamlRefused for what is not YAML, and for tags, anchors, aliases and repeated keys.
    """
    try:
        events = yaml.parse(text, Loader=LOADER)
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            raise YamlRefused(1, "the file is empty", "Write a pack, for instance with `spillover packs export`")
        document = _node(next(events), events, DEPTH)
        next(events)
        extra: Any = next(events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise YamlRefused(extra.start_mark.line + 1, "a second document begins here", "Keep one document a file")
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"this is not YAML ({shown(error.problem or error.context or '')})"
        raise YamlRefused(mark.line + 1 if mark else 1, what, "Mend the line, or quote the text in it") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The parser does not say where it met a letter that YAML forbids.
        forbidden = Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, forbidden.start()) + 1 if forbidden else 1
        what = f"this is not YAML ({shown(str(error).splitlines()[0])})"
        raise YamlRefused(line, what, "Save it as UTF-8 text") from None


def _node(event: Any, events: Iterator[yaml.Event], depth: int) -> Node:
    """The value that begins with `event`; takes the events of its inside from `events`."""
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise YamlRefused(line, "anchors and aliases (& and *) are not read", "Write the value out, or quote the text")
    if getattr(event, "tag", None):
        what = f"the tag {shown(event.tag)} is not read: every value is text"
        raise YamlRefused(line, what, "Leave the tag out, or quote the text")
    if isinstance(event, yaml.ScalarEvent):
        if len(event.value) > LONGEST_TEXT:
            what = f"a text of {len(event.value)} characters begins here"
            raise YamlRefused(line, what, f"Keep it to {LONGEST_TEXT}")
        return Node(normal(event.value), line)
    if depth == 0:
        raise YamlRefused(line, "this is nested deeper than any pack", "Remove the inner brackets")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, depth - 1))
        return Node(items, line)
    found: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth - 1)
        if not isinstance(key.value, str):
            raise YamlRefused(key.line, "a key is not text", "Write `key: value`")
        if key.value in found:
            what = f"the key {quoted(key.value)} is there already, on line {found[key.value].line}"
            raise YamlRefused(key.line, what, "Keep one of the two")
        found[key.value] = Node(_node(next(events), events, depth - 1).value, key.line)
    return Node(found, line)


class _PackReader:
    """A pack.yaml being read: each method takes one part from it and notes what is wrong in `findings`."""

    def __init__(self, path: Path, findings: Findings) -> None:
        self.path, self.file, self.findings = path, printable(path), findings
        self.places = Places(self.file, self.file)

    def pack(self) -> Pack | None:
        """The pack, as far as it can be read; None when its parts cannot be put together."""
        root = self._document()
        if root is None:
            return None
        if not isinstance(root.value, dict):
            self._fault(root, "not-a-mapping", "this is not a pack", "keys and values", "Write `name: ...` and so on")
            return None
        keys = self._keys(root, "the pack", PACK_KEYS)
        relations, facts = self._relations(keys.get("relations")), self._facts(keys.get("facts"))
        implications = self._implications(keys.get("implications"))
        texts = {"name": "", "licence": "", "source": "", "description": "", "join": " ", "end": NO_END}
        for key in texts:
            if key in keys and (text := self._text(keys[key], key, empty=key == "join")) is not None:
                texts[key] = text
        if self.findings.faults and not (relations and facts):
            return None
        return Pack(
            name=texts["name"],
            licence=texts["licence"],
            source=texts["source"],
            description=texts["description"],
            relations=relations,
            facts=facts,
            implications=implications,
            join=texts["join"],
            end=None if texts["end"] == NO_END else texts["end"],
        )

    def _fault(self, at: Node | None, code: str, what: str, expected: str = "", do: str = "") -> None:
        self.findings.fault(code, self.file, at.line if at else None, what, expected, do)

    def _document(self) -> Node | None:
        """The whole file, or None with a fault."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(LARGEST + 1)
            if len(data) > LARGEST:
                what = f"the file is larger than {LARGEST} bytes"
                self._fault(None, "too-large", what, do="Put its facts into a .jsonl file")
                return None
            return read_yaml(data.decode("utf-8-sig"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._fault(None, "unreadable", f"this file cannot be read ({reason})", do="Mend the file")
        except UnicodeDecodeError as error:
            place = Node("", data[: error.start].count(b"\n") + 1)
            self._fault(place, "not-utf8", "this file is not UTF-8", "UTF-8", "Save it as UTF-8")
        except YamlRefused as refused:
            self._fault(Node("", refused.line), "yaml", refused.what, "plain YAML", refused.do)
        return None

    def _keys(self, node: Node, owner: str, allowed: tuple[tuple[str, ...], tuple[str, ...]]) -> Mapping[str, Node]:
        """The keys of a mapping; faults what is missing and what is unknown, with the nearest name."""
        needed, known = allowed[0], allowed[0] + allowed[1]
        if not isinstance(node.value, dict):
            what = f"{owner} is not a mapping"
            self._fault(node, "not-a-mapping", what, ", ".join(needed), "Write `key: value` lines")
            return {}
        for key, value in node.value.items():
            if key not in known:
                what, do = f"{owner} has no key {quoted(key)}", self.findings.hint(key, known)
                self._fault(value, "unknown-key", what, ", ".join(known), do)
        for key in needed:
            if key not in node.value:
                self._fault(node, "missing-key", f"{owner} has no {key!r}", ", ".join(needed), f"Add `{key}:`")
        return node.value

    def _text(self, node: Node, what: str, empty: bool = False) -> str | None:
        """The text of a node, or None with a fault."""
        if not isinstance(node.value, str):
            do = "Write text, in quotes if it holds : or #"
            self._fault(node, "not-text", f"{what} is not text", "text", do)
        elif not node.value.strip() and not empty:
            self._fault(node, "empty", f"{what} is empty", "text", "Write it, or remove the line")
        elif "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
            self._fault(node, "not-utf8", f"{what} holds what is not text", "UTF-8 without NUL", "Remove the escape")
        else:
            return node.value
        return None

    def _texts(self, node: Node | None, what: str) -> tuple[str, ...]:
        """The texts of a list; faults for what is none."""
        if node is None:
            return ()
        if not isinstance(node.value, list):
            self._fault(node, "not-a-list", f"{what} is not a list", "a list of texts", "Write [one, another]")
            return ()
        texts = [self._text(item, f"an entry of {what}") for item in node.value]
        return tuple(text for text in texts if text is not None)

    def _relations(self, node: Node | None) -> tuple[Relation, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, dict) or not node.value:
            what, do = "relations is not a mapping of names", "Write `lives_in:` and its prompts"
            self._fault(node, "not-a-mapping", what, "a relation", do)
            return ()
        found = []
        for name, entry in node.value.items():
            self._text(Node(name, entry.line), "the name of a relation")
            owner = f"the relation {quoted(name)}"
            keys = self._keys(entry, owner, RELATION_KEYS)
            prompts = self._texts(keys.get("prompts"), f"prompts of {owner}")
            found.append(Relation(name, prompts, self._texts(keys.get("answers"), f"answers of {owner}")))
            self.places.relations[name] = entry.line
            self._place(keys.get("prompts"), "prompt", name)
        return tuple(found)

    def _implications(self, node: Node | None) -> tuple[Implication, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, list):
            self._fault(node, "not-a-list", "implications is not a list", "a list", "Write `- given: ...`")
            return ()
        found: list[Implication] = []
        for entry in node.value:
            keys = self._keys(entry, "the implication", IMPLICATION_KEYS)
            given, then = (self._text(keys[key], f"`{key}`") if key in keys else None for key in ("given", "then"))
            kind, pairs = self._kind(keys.get("kind")), self._map(keys.get("map"))
            if given is not None and then is not None and pairs is not None:
                index = str(len(found))
                self.places.parts.update(((key, index), keys[key].line) for key in ("given", "then"))
                self._place(keys["map"], "map", index)
                found.append(Implication(given, then, kind, pairs))
                self.places.implications.append(entry.line)
        return tuple(found)

    def _place(self, node: Node | None, *part: str) -> None:
        """Note the line of each text of a list, or of each key of a mapping."""
        inside = node.value if node is not None else []
        if isinstance(inside, dict):
            self.places.parts.update(((*part, key), value.line) for key, value in inside.items())
        elif isinstance(inside, list):
            self.places.parts.update(((*part, str(item.value)), item.line) for item in inside)

    def _kind(self, node: Node | None) -> Kind:
        """The kind of an implication; one that is missing or unknown is a fault, and any stands in for it."""
        text = self._text(node, "`kind`") if node is not None else None
        if text is not None and text not in KINDS:
            what, do = f"there is no kind of implication called {quoted(text)}", self.findings.hint(text, KINDS)
            self._fault(node, "unknown-kind", what, " or ".join(KINDS), do)
        return next((kind for kind in KINDS if kind == text), KINDS[0])

    def _map(self, node: Node | None) -> Mapping[str, str] | None:
        """Given answer -> implied answer, or None with a fault."""
        if node is None:
            return None
        if not isinstance(node.value, dict):
            expected, do = "given answer: implied answer", "Write map: {Paris: French}"
            self._fault(node, "not-a-mapping", "`map` is not a mapping", expected, do)
            return None
        found = {}
        for key, value in node.value.items():
            text = self._text(value, f"the map entry for {quoted(key)}")
            if self._text(Node(key, node.line), "a key of `map`") is not None and text is not None:
                found[key] = text
        return found

    def _facts(self, node: Node | None) -> tuple[Fact, ...]:
        """The facts: an inline list, or the table that `facts` names inside the pack's folder."""
        name, table = self.file, NumberedFacts((), array("q"))
        if node is not None and isinstance(node.value, list):
            table = collect(self._inline_rows(node.value), name, self.findings)
        elif node is not None and isinstance(node.value, dict):
            self._fault(node, "not-a-list", "facts is a mapping", "a file name or a list", "Write facts: facts.jsonl")
        elif node is not None and (given := self._text(node, "facts")) is not None:
            target, fault = table_beside(self.path, given)
            if fault is not None:
                self._fault(node, fault.code, fault.what, fault.expected, fault.do)
            if target is not None:
                name = printable(target)
                table = read_table(target, name, self.findings)
        self.places.facts_file, self.places.facts = name, table.rows
        return table.facts

    def _inline_rows(self, nodes: list[Node]) -> Iterator[FactRow]:
        """The rows of an inline list; row numbers are lines of the YAML file."""
        extra: set[str] = set()
        for node in nodes:
            if not isinstance(node.value, dict):
                expected, do = "subject, relation and answer", "Write - {subject: ..., relation: ..., answer: ...}"
                self._fault(node, "not-an-object", "this row is not a mapping", expected, do)
                continue
            warn_of_extra(node.value, extra, self.file, node.line, self.findings)
            cells = [node.value.get(column) for column in Fact._fields]
            yield node.line, [cell.value if cell is not None else None for cell in cells]
