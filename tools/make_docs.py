"""Writes docs/verbs: a page a verb, from the text under the fields of the settings and a hand-written introduction.

Run it after adding a verb or an option: `python tools/make_docs.py`. A test compares the pages with what it gives.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from spillover import commands
from spillover.commands.options import OWN, Option, options

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


SHELL = """## In your shell

`spillover VERB --help` shows the options that most people need, `spillover VERB --help-all` all of them. Every verb
ends with the next step, on standard error. Long work says how far it is and how long it will still take: a bar on a
terminal, a line every half minute elsewhere (`TQDM_DISABLE=1` turns both off).

To complete verbs and options with the tab key, put one of these lines into `~/.bashrc` or `~/.zshrc`:

<!-- not run: these are lines of a shell's own configuration; tests/test_cli.py tries what they load in bash -->
```bash
source <(spillover completion bash)
source <(spillover completion zsh)
```"""


def row(option: Option) -> str:
    """One line of the table: how it is written, its text, what it takes and its default."""
    plain = option.default in ("", "yes", "no", "required")
    default = option.default if plain else f"`{option.default}`"
    takes = " or ".join(f"`{part}`" for part in option.takes.split("|")) if option.takes else ""
    return f"| `{option.shown}` | {option.text} | {takes} | {default} |"


def page(verb: str) -> str:
    """The page of one verb."""
    settings_class = commands.settings_class(verb)
    introduction = INTRODUCTIONS / f"{verb}.md"
    parts = [MADE, f"# spillover {verb}", (settings_class.__doc__ or "").strip()]
    parts += [introduction.read_text(encoding="utf-8").strip()] if introduction.exists() else []
    parts.append("## Options")
    for title, own in groupby(options(verb), key=lambda option: option.group):
        lines = ["| option | | takes | default |", "|---|---|---|---|", *map(row, own)]
        parts += ([f"### {title}"] if title != OWN else []) + ["\n".join(lines)]
    return "\n\n".join([*parts, CODES]) + "\n"


def overview() -> str:
    """The list of all verbs."""
    lines = [MADE, "", "# Verbs", "", "| command | gives |", "|---|---|"]
    lines += [f"| [`spillover {verb}`]({verb}.md) | {text} |" for verb, text in commands.verbs().items()]
    return "\n".join([*lines, "", SHELL, "", CODES]) + "\n"


def pages() -> dict[str, str]:
    """File name in docs/verbs -> what it holds."""
    return {"index.md": overview(), **{f"{verb}.md": page(verb) for verb in commands.verbs()}}


if __name__ == "__main__":
    for name, body in pages().items():
        (VERBS / name).write_text(body, encoding="utf-8")
