"""YAML in which every scalar is the text that was written: `NO`, `007`, `on`, `1.0` and `~` stay what they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.reader import Reader

from spillover.packs.check import quoted, shown
from spillover.packs.pack import normal

#: Deeper than any pack goes (the document, implications, an entry, its map, a value).
DEPTH = 8
#: Longest text that is read, in characters: of a cell, a prompt, a name.
LONGEST_TEXT = 100_000
#: Most values, keys and brackets in a file; two seconds or three to read.
MOST_EVENTS = 1_000_000
#: libyaml's parser where PyYAML was built with it; both give the same events.
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True)
class Node:
    """A value and the line (from 1) it begins on: text, a list of nodes, or a mapping from text to node."""

    value: str | list[Node] | dict[str, Node]
    line: int


class YamlRefused(Exception):
    """Why a text is not read: what is wrong at `line`, and what to do."""

    def __init__(self, line: int, what: str, do: str) -> None:
        super().__init__(what)
        self.line, self.what, self.do = line, what, do


def read_yaml(text: str) -> Node:
    """The one document in `text`, without type resolution, tags, anchors or aliases. Raises YamlRefused."""
    try:
        events = _counted(yaml.parse(text, Loader=LOADER))
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            raise YamlRefused(1, "the file is empty", "Write a pack, for instance with `spillover packs export`")
        document = _node(next(events), events, DEPTH)
        next(events)
        if not isinstance(extra := next(events), yaml.StreamEndEvent):
            raise YamlRefused(_line(extra), "a second document begins here", "Keep one document a file")
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


def _counted(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    """The events, as many as are read in seconds. Raises YamlRefused at the first one beyond."""
    yield from itertools.islice(events, MOST_EVENTS)
    for event in events:
        what = f"there are more than {MOST_EVENTS} values, keys and brackets up to here"
        raise YamlRefused(_line(event), what, "Put the facts into a .jsonl file beside this one")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _node(event: Any, events: Iterator[yaml.Event], depth: int) -> Node:
    """The value that begins with `event`; takes the events of its inside from `events`."""
    line = _line(event)
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise YamlRefused(line, "anchors and aliases (& and *) are not read", "Write the value out, or quote the text")
    if getattr(event, "tag", None):
        raise YamlRefused(
            line, f"the tag {shown(event.tag)} is not read: every value is text", "Leave the tag out, or quote the text"
        )
    if isinstance(event, yaml.ScalarEvent):
        if len(event.value) > LONGEST_TEXT:
            what, do = f"a text of {len(event.value)} characters begins here", f"Keep it to {LONGEST_TEXT}"
            raise YamlRefused(line, what, do)
        return Node(normal(event.value), line)
    if depth == 0:
        raise YamlRefused(line, "this is nested deeper than any pack", "Remove the inner brackets")
    if isinstance(event, yaml.SequenceStartEvent):
        return Node(list(_items(events, depth - 1)), line)
    return Node(_mapping(events, depth - 1), line)


def _items(events: Iterator[yaml.Event], depth: int) -> Iterator[Node]:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        yield _node(event, events, depth)


def _mapping(events: Iterator[yaml.Event], depth: int) -> dict[str, Node]:
    found: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth)
        if not isinstance(key.value, str):
            raise YamlRefused(key.line, "a key is not text", "Write `key: value`")
        if key.value in found:
            first = found[key.value].line
            raise YamlRefused(
                key.line, f"the key {quoted(key.value)} is there already, on line {first}", "Keep one of the two"
            )
        found[key.value] = Node(_node(next(events), events, depth).value, key.line)
    return found
