"""What mkdocs needs to make a site of docs/: pages that lie elsewhere, and a page of the example programs."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from spillover import commands

ROOT = Path(__file__).resolve().parents[1]
#: Pages outside docs/ that the site has -> where.
OUTSIDE = {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "SECURITY.md")}
OUTSIDE["results/README.md"] = "kept-runs.md"
EXAMPLES = ROOT / "examples"
#: A link as Markdown writes it, to no address and no heading of its own page.
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?!https?:|#|mailto:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def examples() -> str:
    """The programs of examples/, one section each, by what their docstring says they answer."""
    parts = ["# Programs", "Each runs as it is, with the package installed."]
    for path in sorted(EXAMPLES.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        question = (ast.get_docstring(ast.parse(text)) or "").split(" Usage:")[0].splitlines()[0]
        parts += [f"## {question.rstrip('.')}", f"`examples/{path.name}`", f"```python\n{text.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def on_config(config: Any) -> Any:
    """List every verb."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    listed = next(part["Verbs"] for part in reference if "Verbs" in part)
    listed += [{verb: f"verbs/{verb}.md"} for verb in commands.verbs() if {verb: f"verbs/{verb}.md"} not in listed]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/."""
    for source, path in OUTSIDE.items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "examples.md", content=examples()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to where the site has the page; a link to anything else in the repository becomes plain words."""
    own = page.file.src_uri
    sources = {path: source for source, path in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(own, f"docs/{own}"))

    def led(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["path"]))
        if target.split("/")[0] == "examples":
            target = "docs/examples.md"
        if target not in OUTSIDE and not target.startswith("docs/"):
            return link["text"]
        path = posixpath.relpath(OUTSIDE.get(target, target.removeprefix("docs/")), posixpath.dirname(own) or ".")
        return f"[{link['text']}]({path}{link['anchor'] or ''})"

    # What is code stays as it is.
    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("`") else LINK.sub(led, part) for part in parts)
