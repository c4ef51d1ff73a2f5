"""The law of the house: which room may import which, and what a public docstring says."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import spillover
from spillover import theory

SOURCE = Path(__file__).parent.parent / "src" / "spillover"
BASE = {"errors", "config", "details", "record"}
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "packs": BASE | {"packs"},
    "runs": BASE | {"packs", "runs"},
    "theory": BASE | {"packs", "theory"},
    "lm": BASE | {"packs", "lm"},
    "metrics": BASE | {"packs", "metrics"},
    "report": BASE | {"packs", "metrics", "report"},
    "interventions": BASE | {"packs", "lm", "interventions"},
    "interp": BASE | {"packs", "lm", "interp"},
    "results": BASE | {"packs", "metrics", "report"},
    "commands": BASE | {
        "packs", "runs", "results", "theory", "lm", "metrics", "report", "interventions", "interp", "commands",
    },
    "cli": BASE | {"commands"},
    "__main__": {"cli"},
}  # fmt: skip
NO_TORCH = {"metrics", "report", "packs", "results", *BASE, "cli"}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imports_of(path: Path) -> set[str]:
    """Absolute names of every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_it_may(path):
    names = [name.split(".") for name in imports_of(path)]
    rooms = {parts[1] for parts in names if parts[0] == "spillover" and len(parts) > 1}
    assert rooms <= MAY_IMPORT[room_of(path)] | {"__version__"}
    if room_of(path) in NO_TORCH:
        assert not {parts[0] for parts in names} & {"torch", "transformers"}


def exported(room: ModuleType) -> list[str]:
    return list(getattr(room, "LIBRARY", None) or room.EXPORTS)


@pytest.mark.parametrize(
    ("room", "name"), [(room, name) for room in (spillover, theory) for name in exported(room)], ids=str
)
def test_what_users_import_says_what_it_takes_and_gives(room, name):
    found = getattr(room, name)
    text = inspect.getdoc(found) or ""
    assert "Arguments:" in text
    if inspect.isfunction(found):
        assert "Returns:" in text and "Raises:" in text
        missing = [each for each in inspect.signature(found).parameters if each not in text.partition("Arguments:")[2]]
        assert not missing
