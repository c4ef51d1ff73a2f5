"""Read pack.yaml, in which every scalar is the text that was written, and find every fault of its form."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from spillover.packs.check import Findings, Places, TooManyFaults, quoted
from spillover.packs.pack import KINDS, Implication, Kind, Pack, Relation
from spillover.packs.reading import Table, collect, inline_rows, printable, read_table, table_beside
from spillover.packs.yaml_text import Node, YamlRefused, read_yaml

#: Keys of pack.yaml, of a relation and of an implication: those it must have, then those it may.
PACK_KEYS = (("name", "licence", "source", "relations", "facts"), ("implications", "join", "end", "description"))
RELATION_KEYS = ((), ("prompts", "answers"))
IMPLICATION_KEYS = (("given", "then", "kind", "map"), ())
#: What `end` says when there is no mark.
NO_END = "none"
#: Largest pack.yaml in bytes; more rows than fit belong into a table of their own.
LARGEST = 1 << 24


class Sheet:
    """A pack.yaml being read: each method takes one part from it and notes what is wrong in `findings`."""

    def __init__(self, path: Path, findings: Findings) -> None:
        self.path, self.file, self.findings = path, printable(path), findings
        self.parts: dict[tuple[str, ...], int] = {}
        self.places = Places(self.file, self.file, parts=self.parts)

    def pack(self) -> Pack | None:
        """The pack, as far as it can be read; None when its parts cannot be put together."""
        try:
            return self._pack()
        except TooManyFaults:
            return None

    def _pack(self) -> Pack | None:
        root = self._document()
        if root is None or not isinstance(root.value, dict):
            if root is not None:
                self._fault(
                    "not-a-mapping", root.line, "this is not a pack", "keys and values", "Write `name: ...` and so on"
                )
            return None
        keys = self._keys(root, "the pack", PACK_KEYS)
        parts = self._relations(keys.get("relations")), self._table(keys.get("facts")).facts
        implications, texts = self._implications(keys.get("implications")), self._head(keys)
        if self.findings.faults and not all(parts):
            return None
        return Pack(
            name=texts.get("name", ""),
            licence=texts.get("licence", ""),
            source=texts.get("source", ""),
            description=texts.get("description", ""),
            relations=parts[0],
            facts=parts[1],
            implications=implications,
            join=texts.get("join", " "),
            end=None if texts.get("end", NO_END) == NO_END else texts["end"],
        )

    def _head(self, keys: Mapping[str, Node]) -> dict[str, str]:
        """The texts at the top of a pack; one that is missing has a fault already."""
        texts = {}
        for key in ("name", "licence", "source", "description", "join", "end"):
            if key in keys and (text := self._text(keys[key], key, empty=key == "join")) is not None:
                texts[key] = text
        return texts

    def _fault(self, code: str, line: int | None, what: str, expected: str = "", do: str = "") -> None:
        self.findings.fault(code, self.file, line, what, expected, do)

    def _document(self) -> Node | None:
        """The file as nodes; None, with a fault, when it is not UTF-8 or not YAML."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(LARGEST + 1)
            if len(data) > LARGEST:
                self._fault(
                    "too-large", None, f"the file is larger than {LARGEST} bytes", do="Put its facts into a .jsonl file"
                )
                return None
            text = data.decode("utf-8-sig")
        except OSError as error:
            self._fault(
                "unreadable",
                None,
                f"this file cannot be read ({(error.strerror or str(error)).lower()})",
                do="Mend the file",
            )
            return None
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            self._fault("not-utf8", line, "this file is not UTF-8", "UTF-8", "Save it as UTF-8")
            return None
        try:
            return read_yaml(text)
        except YamlRefused as refused:
            self._fault("yaml", refused.line, refused.what, "plain YAML", refused.do)
            return None

    def _keys(self, node: Node, owner: str, allowed: tuple[tuple[str, ...], tuple[str, ...]]) -> Mapping[str, Node]:
        """The keys of a mapping; faults what is missing and what is unknown, with the nearest name."""
        if not isinstance(node.value, dict):
            self._fault(
                "not-a-mapping",
                node.line,
                f"{owner} is not a mapping",
                ", ".join(allowed[0]),
                "Write `key: value` lines",
            )
            return {}
        known = allowed[0] + allowed[1]
        for key, value in node.value.items():
            if key not in known:
                self._fault(
                    "unknown-key",
                    value.line,
                    f"{owner} has no key {quoted(key)}",
                    ", ".join(known),
                    self.findings.hint(key, known),
                )
        for key in allowed[0]:
            if key not in node.value:
                self._fault("missing-key", node.line, f"{owner} has no {key!r}", ", ".join(allowed[0]), f"Add `{key}:`")
        return node.value

    def _text(self, node: Node, what: str, empty: bool = False) -> str | None:
        """The text of a node, or None with a fault."""
        if not isinstance(node.value, str):
            self._fault(
                "not-text", node.line, f"{what} is not text", "text", "Write text, in quotes if it holds : or #"
            )
        elif not node.value.strip() and not empty:
            self._fault("empty", node.line, f"{what} is empty", "text", "Write it, or remove the line")
        elif "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
            self._fault(
                "not-utf8", node.line, f"{what} holds what is not text", "UTF-8 without NUL", "Remove the escape"
            )
        else:
            return node.value
        return None

    def _texts(self, node: Node | None, what: str) -> tuple[str, ...]:
        """The texts of a list; faults for what is none."""
        if node is None:
            return ()
        if not isinstance(node.value, list):
            self._fault("not-a-list", node.line, f"{what} is not a list", "a list of texts", "Write [one, another]")
            return ()
        texts = [self._text(item, f"an entry of {what}") for item in node.value]
        return tuple(text for text in texts if text is not None)

    def _relations(self, node: Node | None) -> tuple[Relation, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, dict) or not node.value:
            self._fault(
                "not-a-mapping",
                node.line,
                "relations is not a mapping of names",
                "a relation",
                "Write `lives_in:` and its prompts",
            )
            return ()
        found = []
        for name, entry in node.value.items():
            self._text(Node(name, entry.line), "the name of a relation")
            owner = f"the relation {quoted(name)}"
            keys = self._keys(entry, owner, RELATION_KEYS)
            prompts = self._texts(keys.get("prompts"), f"prompts of {owner}")
            found.append(Relation(name, prompts, self._texts(keys.get("answers"), f"answers of {owner}")))
            self.parts.update((("prompt", name, text), line) for text, line in _lines_in(keys.get("prompts")))
        self.places = replace(self.places, relations={name: entry.line for name, entry in node.value.items()})
        return tuple(found)

    def _implications(self, node: Node | None) -> tuple[Implication, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, list):
            self._fault("not-a-list", node.line, "implications is not a list", "a list", "Write `- given: ...`")
            return ()
        found: list[Implication] = []
        lines: list[int] = []
        for entry in node.value:
            keys = self._keys(entry, "the implication", IMPLICATION_KEYS)
            given, then = (self._text(keys[key], f"`{key}`") if key in keys else None for key in ("given", "then"))
            kind, pairs = self._kind(keys.get("kind")), self._map(keys.get("map"))
            if given is not None and then is not None and pairs is not None:
                index = str(len(found))
                self.parts.update(((key, index), keys[key].line) for key in ("given", "then"))
                self.parts.update((("map", index, key), line) for key, line in _lines_in(keys["map"]))
                found.append(Implication(given, then, kind, pairs))
                lines.append(entry.line)
        self.places = replace(self.places, implications=lines)
        return tuple(found)

    def _kind(self, node: Node | None) -> Kind:
        """The kind of an implication; one that is missing or unknown is a fault, and any stands in for it."""
        text = self._text(node, "`kind`") if node is not None else None
        if node is not None and text is not None and text not in KINDS:
            what = f"there is no kind of implication called {quoted(text)}"
            self._fault("unknown-kind", node.line, what, " or ".join(KINDS), self.findings.hint(text, KINDS))
        return next((kind for kind in KINDS if kind == text), KINDS[0])

    def _map(self, node: Node | None) -> Mapping[str, str] | None:
        """Given answer -> implied answer, or None with a fault."""
        if node is None:
            return None
        if not isinstance(node.value, dict):
            self._fault(
                "not-a-mapping",
                node.line,
                "`map` is not a mapping",
                "given answer: implied answer",
                "Write map: {Paris: French}",
            )
            return None
        entries = {key: self._text(value, f"the map entry for {quoted(key)}") for key, value in node.value.items()}
        entries = {
            key: value
            for key, value in entries.items()
            if self._text(Node(key, node.line), "a key of `map`") is not None
        }
        return {key: value for key, value in entries.items() if value is not None}

    def _table(self, node: Node | None) -> Table:
        """The facts: an inline list, or the table that `facts` names inside the pack's folder."""
        empty = Table((), array("q"))
        if node is None:
            return empty
        name, table = self.file, empty
        if isinstance(node.value, list):
            table = collect(inline_rows(node.value, name, self.findings), name, self.findings)
        elif isinstance(node.value, dict):
            self._fault(
                "not-a-list", node.line, "facts is a mapping", "a file name or a list", "Write facts: facts.jsonl"
            )
        elif (given := self._text(node, "facts")) is not None and (target := self._beside(node, given)) is not None:
            name = printable(target)
            table = read_table(target, name, self.findings)
        self.places = replace(self.places, facts_file=name, facts=table.rows)
        return table

    def _beside(self, node: Node, given: str) -> Path | None:
        """The table that `facts` names, or None with a fault."""
        target, fault = table_beside(self.path, given)
        if fault is not None:
            self._fault(fault.code, node.line, fault.what, fault.expected, fault.do)
        return target


def _lines_in(node: Node | None) -> list[tuple[str, int]]:
    """The texts of a list, or the keys of a mapping, with the line of each."""
    inside = node.value if node is not None else []
    if isinstance(inside, dict):
        return [(key, value.line) for key, value in inside.items()]
    return [(item.value, item.line) for item in inside if isinstance(item, Node) and isinstance(item.value, str)]
