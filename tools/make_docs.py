"""Writes docs/verbs: a page a verb, from the text under the fields of the settings and a hand-written introduction.

Run it after adding a verb or an option: `python tools/make_docs.py`. A test compares the pages with what it gives.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from spillover import commands

ROOT = Path(__file__).resolve().parents[1]
VERBS = ROOT / "docs" / "verbs"
INTRODUCTIONS = VERBS / "_intro"
MADE = "<!-- Made by tools/make_docs.py from src/spillover/commands and docs/verbs/_intro. Do not edit. -->"
CODES = """## Exit codes

| code | means |
|---|---|
| 0 | done |
| 1 | a gate failed: `check` found faults, `audit` an unwanted implication, or a cell of a `sweep` failed |
| 2 | a mistake: one sentence on standard error says what was wrong, where, and what to do |
| 130 | interrupted; what was seen until then is kept, and the same command may be given again |

With `--json`, standard output holds one JSON object and nothing else; on failure
`{"error": {"what", "where", "do"}}`."""


def texts(owner: type) -> dict[str, str]:
    """Field name -> the text under the field, of a class."""
    tree = ast.parse(Path(sys.modules[owner.__module__].__file__ or "").read_text(encoding="utf-8"))
    node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner.__name__)
    pairs = zip(node.body, node.body[1:], strict=False)
    return {field.target.id: said.value.value for field, said in pairs
            if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr)}  # fmt: skip


def help_of(settings_class: type, name: str) -> str:
    """The text under a field, looked up in the class and then in those it is made from."""
    for each in settings_class.__mro__:
        if each is not object and name in (known := texts(each)):
            return known[name]
    raise KeyError(f"{settings_class.__name__}.{name} has no text under it")


def kind_of(hint: Any) -> str:
    """A type in a reader's words: the choices, or what sort of value."""
    if get_origin(hint) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) in (Union, type(int | None)):
        return " or ".join(kind_of(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return f"{kind_of(get_args(hint)[0])}, one or more"
    return {bool: "yes or no", int: "whole number", float: "number", str: "text"}[hint]


def row(settings_class: type, field: dataclasses.Field[Any], hint: Any) -> str:
    """One line of the table: how it is written, what it takes, its default and its text."""
    option = "--" + field.name.replace("_", "-")
    if "Positional" in str(field.type):
        shown = field.name.upper()
    elif field.default is True:
        shown = f"{option}, --no-{option[2:]}"
    else:
        shown = option
    if field.default is dataclasses.MISSING:
        default = "required"
    else:
        default = {"None": "", "": "", "False": "no", "True": "yes"}.get(str(field.default), f"`{field.default}`")
    kind = "" if hint is bool else kind_of(hint)
    return f"| `{shown}` | {kind} | {default} | {help_of(settings_class, field.name)} |"


def page(verb: str) -> str:
    """The page of one verb."""
    settings_class = commands.settings_class(verb)
    hints = get_type_hints(settings_class)
    introduction = INTRODUCTIONS / f"{verb}.md"
    parts = [MADE, f"# spillover {verb}", (settings_class.__doc__ or "").strip()]
    parts += [introduction.read_text(encoding="utf-8").strip()] if introduction.exists() else []
    fields = sorted(dataclasses.fields(settings_class), key=lambda field: "Positional" not in str(field.type))
    lines = ["| option | takes | default | |", "|---|---|---|---|"]
    lines += [row(settings_class, field, hints[field.name]) for field in fields]
    parts += ["## Options", "\n".join(lines)]
    return "\n\n".join([*parts, CODES]) + "\n"


def overview() -> str:
    """The list of all verbs."""
    lines = [MADE, "", "# Verbs", "", "| command | gives |", "|---|---|"]
    lines += [f"| [`spillover {verb}`]({verb}.md) | {text} |" for verb, text in commands.verbs().items()]
    return "\n".join([*lines, "", CODES]) + "\n"


def pages() -> dict[str, str]:
    """File name in docs/verbs -> what it holds."""
    return {"index.md": overview(), **{f"{verb}.md": page(verb) for verb in commands.verbs()}}


if __name__ == "__main__":
    for name, body in pages().items():
        (VERBS / name).write_text(body, encoding="utf-8")
