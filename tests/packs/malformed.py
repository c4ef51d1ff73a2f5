"""One part of a sound pack broken, at a place that is known."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tests.packs.drafts import COLUMNS, FORMATS, Draft, _yaml, parquet_bytes

Edit = Callable[[Draft], "Broken"]


@dataclass(frozen=True)
class Broken:
    """Files of a pack, and the one fault they must end in: its code, file, row, and part of the sentence."""

    files: dict[str, bytes]
    code: str
    file: str
    row: int | None
    said: str


def _in_row(draft: Draft, code: str, said: str) -> Broken:
    return Broken(draft.files(), code, draft.table, draft.row, said)


def _cell(value: object, said: str, inline: tuple[str, str] | None = None) -> Edit:
    """A cell with this value; inline: code and sentence where YAML itself refuses it."""

    def edit(draft: Draft) -> Broken:
        code, words = inline if inline and draft.kind == "inline" else ("bad-cell", said)
        return _in_row(draft.with_cell(value), code, words.format(COLUMNS[draft.column]))

    return edit


def _gone(draft: Draft) -> Broken:
    if draft.kind == "csv":
        return _in_row(draft.with_cell(None), "cell-count", "this row has 2 cells")
    return _in_row(draft.with_cell(None), "bad-cell", f"there is no {COLUMNS[draft.column]}")


def _unknown_relation(draft: Draft) -> Broken:
    return _in_row(replace(draft, column=1).with_cell(f"{draft.text}s"), "unknown-relation", "there is no relation")


def _two_answers(draft: Draft) -> Broken:
    subject, relation, answer = draft.rows[draft.at]
    other = "Rome" if answer == "Paris" else "Paris"
    twice = replace(draft, rows=[*draft.rows, [subject, relation, other]])
    last = replace(twice, at=len(draft.rows)).row
    return Broken(twice.files(), "two-answers", draft.table, last, f"{answer!r} (row {draft.row}) and {other!r}")


def _not_utf8(draft: Draft) -> Broken:
    """One byte of Latin-1 in the middle of an answer."""
    name = draft.table
    files = replace(draft, column=2).with_cell("PaMARKris").files()
    files[name] = files[name].replace(b"MARK", b"\xed123" if draft.kind == "parquet" else b"\xed")
    code, said = ("not-utf8", "not UTF-8") if draft.kind == "inline" else ("bad-cell", "the answer is not UTF-8")
    return Broken(files, code, name, draft.row, said)


def _line(code: str, said: str, edit: Callable[[bytes], bytes]) -> Edit:
    return lambda draft: _in_row(draft.line(edit), code, said)


def _cut(draft: Draft) -> Broken:
    """The line of a row ends early, as in a file whose end was lost."""
    return _in_row(draft.line(lambda line: line[: 1 + len(line) * draft.column // 3]), "not-json", "not JSON")


def _file(code: str, said: str, edit: Callable[[bytes], bytes]) -> Edit:
    def apply(draft: Draft) -> Broken:
        files = draft.files()
        return Broken({**files, draft.table: edit(files[draft.table])}, code, draft.table, None, said)

    return apply


def _open_quote(draft: Draft) -> Broken:
    last = replace(draft, at=len(draft.rows) - 1)
    return _in_row(last.line(lambda line: line[:-1]), "unreadable", "this is not CSV (unexpected end of data)")


def _header(names: bytes, said: str) -> Edit:
    def apply(draft: Draft) -> Broken:
        files = draft.files()
        body = files["facts.csv"].replace(b"subject,relation,answer", names, 1)
        return Broken({**files, "facts.csv": body}, "missing-column", "facts.csv", 1, said)

    return apply


def _columns(code: str, said: str, change: Callable[[dict], dict]) -> Edit:
    def apply(draft: Draft) -> Broken:
        columns = change({name: [row[index] for row in draft.rows] for index, name in enumerate(COLUMNS)})
        files = {**draft.files(), draft.table: parquet_bytes(columns)}
        return Broken(files, code, draft.table, None, said)

    return apply


def _without_answers(columns: dict) -> dict:
    return {name: cells for name, cells in columns.items() if name != "answer"}


def _numbered(columns: dict) -> dict:
    return {**columns, "answer": list(range(len(columns["answer"])))}


#: What breaks a row or a cell of any format, and what breaks only one; each gives the fault it must end in.
ANY_FORMAT: dict[str, Edit] = {
    "an empty cell": _cell("", "the {} is empty"),
    "a blank cell": _cell(" \u3000\t", "the {} is empty"),
    "a NUL": _cell("a\0b", "the {} holds a NUL character"),
    "a cell too long": _cell("x" * 100_001, "the {} has 100001 characters", ("yaml", "a text of 100001 characters")),
    "a cell gone": _gone,
    "an unknown relation": _unknown_relation,
    "two answers": _two_answers,
    "a byte of Latin-1": _not_utf8,
}
ONE_FORMAT: dict[str, dict[str, Edit]] = {
    "jsonl": {
        "half a pair of surrogates": _cell("\ud800", "the {} is not UTF-8"),
        "a list": _cell(["x"], "the {} is a list"),
        "an object": _cell({"a": {"b": 1}}, "the {} is an object"),
        "a line cut short": _cut,
        "a number": _line("not-an-object", "this row is not an object", lambda line: b"007"[2:]),
        "a list for a row": _line("not-an-object", "this row is not an object", lambda line: b"[" + line + b"]"),
        "two rows in a line": _line("not-json", "Extra data", lambda line: line + b" " + line),
        "a key twice": _line("repeated-key", "a key is there twice", lambda line: line[:-1] + b', "subject": "b"}'),
        "a space that JSON has not": _line("not-json", "not JSON", lambda line: "\u00a0".encode() + line),
        "far too deep": _line("not-json", "nested too deeply", lambda line: b"[" * 100_000),
        "a line too long": _line("unreadable", "longer than 1600000 bytes", lambda line: line + b" " * 1_600_000),
        "UTF-16": _file("unreadable", "not UTF-8 text", lambda body: body.decode().encode("utf-16")),
        "gzip": _file("unreadable", "not UTF-8 text", gzip.compress),
        "gzip cut short": _file("unreadable", "not UTF-8 text", lambda body: gzip.compress(body)[:20]),
    },
    "csv": {
        "a cell too many": _line("cell-count", "this row has 4 cells", lambda line: line + b",x"),
        "text after a quote": _line("unreadable", "this is not CSV", lambda line: line + b"x"),
        "a quote left open": _open_quote,
        "a line too long": _line("unreadable", "longer than 1600000 bytes", lambda line: line + b"x" * 1_600_000),
        "no header": _header(b"Ann,lives_in,Paris", "there is no column 'subject'"),
        "a column misspelt": _header(b"subject,relation,anwser", "there is no column 'answer'"),
        "a column twice": _header(b"subject,relation,answer,answer", "the column 'answer' is there 2 times"),
        "UTF-32": _file("unreadable", "not UTF-8 text", lambda body: body.decode().encode("utf-32")),
        "a spreadsheet": _file("unreadable", "not UTF-8 text", lambda body: b"PK\x03\x04" + body),
        "nothing": _file("unreadable", "this file is empty", lambda body: b""),
    },
    "parquet": {
        "cut short": _file("unreadable", "not a whole Parquet file", lambda body: body[: len(body) // 2]),
        "its end lost": _file("unreadable", "not a whole Parquet file", lambda body: body[:-1]),
        "no column": _columns("missing-column", "no column 'answer'", _without_answers),
        "a column of numbers": _columns("not-text", "of type int64", _numbered),
        "a CSV": _file("unreadable", "not a whole Parquet file", lambda body: b"subject,relation,answer\n"),
    },
    "inline": {
        "half a pair of surrogates": _cell("\ud800", "", ("yaml", "this is not YAML")),
        "a list": _cell(["x"], "the {} is a list"),
        "a mapping": _cell({"a": "b"}, "the {} is a mapping"),
        "text for a row": _line("not-an-object", "this row is not a mapping", lambda line: b"  - Ann lives_in Paris"),
        "a key twice": _line("yaml", "is there already", lambda line: line[:-1] + b", subject: b}"),
        "a tag": _line("yaml", "is not read", lambda line: b"  - !!python/object/apply:os.system [ls]"),
        "an alias": _line("yaml", "anchors and aliases", lambda line: b"  - *row"),
        "a tab": _line("yaml", "this is not YAML", lambda line: b"\t" + line),
        "far too deep": _line("yaml", "nested deeper", lambda line: b"  - " + b"[" * 10_000),
    },
}  # fmt: skip
#: What breaks the sheet: the part to replace, what stands there then, the fault's code, and part of the sentence.
#: TEXT stands for a text of any script that is no name of the pack; the fault is on the line where the part begins.
SHEETS: dict[str, tuple[str, str, str, str]] = {
    "a key misspelt": ("licence:", "license:", "unknown-key", "the pack has no key 'license'"),
    "an unknown key": ("name:", "TEXT: x\nname:", "unknown-key", "the pack has no key"),
    "an empty name": ("name: tiny", "name:", "empty", "name is empty"),
    "a list for a name": ("name: tiny", "name: [tiny]", "not-text", "name is not text"),
    "a tag": ("source: made", "source: !!int made", "yaml", "is not read"),
    "an object": ("source: made up", "source: !!python/object/new:os.system [ls]", "yaml", "is not read"),
    "an anchor": ("source: made", "source: &a made", "yaml", "anchors and aliases"),
    "an alias": ("source: made up", "source: *a", "yaml", "anchors and aliases"),
    "a key twice": ("  speaks:", "  lives_in:", "yaml", "is there already, on line"),
    "a bell": ("made up", "made\x07up", "yaml", "this is not YAML"),
    "a NUL": ("made up", "made\0up", "yaml", "this is not YAML"),
    "an escaped NUL": ("made up", '"made\\0up"', "not-utf8", "source holds what is not text"),
    "an escape that is no letter": ("made up", '"\\UFFFFFFFF"', "yaml", "this is not YAML"),
    "no subject": ('"{subject} speaks"', "TEXT", "prompt-without-subject", "does not say whom"),
    "prompts that are text": ('["{subject} speaks"]', "speaks", "not-a-list", "is not a list"),
    "an unknown relation": ("then: speaks", "then: TEXT", "unknown-relation", "`then` names the relation"),
    "to itself": ("then: speaks", "then: lives_in", "same-relation", "leads from a relation to itself"),
    "an unknown kind": ("kind: causal", "kind: TEXT", "unknown-kind", "there is no kind of implication"),
    "an answer that is none": ("map: {", "map: {TEXT: French, ", "map-outside", "has an entry for"),
    "a map to a list": ("Rome: Italian", "Rome: [Italian]", "not-text", "the map entry for 'Rome' is not text"),
    "a map to nothing": ("Rome: Italian", "Rome: ", "empty", "the map entry for 'Rome' is empty"),
    "a second document": ("facts:", "---\nfacts:", "yaml", "a second document"),
    "a folder of facts": ("facts: facts.jsonl", "facts: .", "facts-missing", "which is not a file"),
    "facts above": ("facts: facts.jsonl", "facts: ../facts.jsonl", "facts-outside", "outside the pack"),
    "facts at the root": ("facts: facts.jsonl", "facts: /etc/passwd", "facts-outside", "outside the pack"),
    "facts that are gone": ("facts: facts.jsonl", "facts: gone.jsonl", "facts-missing", "does not exist"),
    "facts in no format": ("facts: facts.jsonl", "facts: pack.yaml", "facts-format", "whose format is not read"),
    "far too deep": ("answers: [Paris, Rome]", "answers: " + "[" * 10_000, "yaml", "nested deeper"),
    "a byte of Latin-1": ("made up", "made \udced", "not-utf8", "this file is not UTF-8"),
}  # fmt: skip
#: Faults that bring another one with them, elsewhere.
FOLLOWED = {"sheet: a key misspelt", "sheet: prompts that are text"}


def broken_sheet(case: str, draft: Draft) -> Broken:
    """The draft with one part of its sheet broken, below as many lines of comment as the draft has empty lines."""
    part, instead, code, said = SHEETS[case]
    files = draft.files()
    before, found, after = files["pack.yaml"].decode().partition(part)
    assert found
    text = "# comment\n" * draft.blank + before + instead.replace("TEXT", _yaml(draft.text + "#")) + after
    row = draft.blank + before.count("\n") + 1
    return Broken({**files, "pack.yaml": text.encode("utf-8", "surrogateescape")}, code, "pack.yaml", row, said)


def cases() -> dict[str, tuple[str, Edit]]:
    """Case -> the format it is about, and what breaks it."""
    found = {f"{kind}: {name}": (kind, edit) for name, edit in ANY_FORMAT.items() for kind in FORMATS}
    found |= {f"{kind}: {name}": (kind, edit) for kind, edits in ONE_FORMAT.items() for name, edit in edits.items()}
    return found | {f"sheet: {case}": ("jsonl", partial(broken_sheet, case)) for case in SHEETS}
