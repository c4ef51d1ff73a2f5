"""The law of the house: which room may import which."""

import ast
from pathlib import Path

import pytest

from spillover import catalog

SOURCE = Path(__file__).parent.parent / "src" / "spillover"
BASE = {"errors", "record", "catalog", "settings"}
MAY_IMPORT = {
    **{room: {"errors"} for room in BASE},
    "settings": {"errors", "settings"},
    "facts": BASE | {"facts"},
    "theory": BASE | {"facts", "theory"},
    "llm": BASE | {"facts", "llm"},
    "measures": BASE | {"facts", "measures"},
    "report": BASE | {"facts", "measures", "report"},
    "jobs": BASE | {"facts", "theory", "llm", "measures", "report", "jobs"},
    "cli": BASE | {"jobs"},
    "__main__": {"cli"},
}
NO_TORCH = {"measures", "report", "facts", *BASE, "cli"}
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_stays_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, "split the idea"


def test_rooms_are_not_overfull():
    shelves = {"packs", "remedies", "plots", "presets", "jobs", "measures"}
    for folder in {path.parent for path in MODULES}:
        if folder != SOURCE and folder.name not in shelves:
            files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(files) <= 9, f"{folder} holds {len(files)} files: split the idea"


@pytest.mark.parametrize(
    ("shelf", "folder", "function"),
    [
        (catalog.PACKS, "facts/packs", "build"),
        (catalog.MEASURES, "measures", "measure"),
        (catalog.PRESETS, "jobs/presets", "run"),
        ({verb: job for verb, (_, job) in catalog.VERBS.items()}, "jobs", "run"),
    ],
    ids=["packs", "measures", "presets", "verbs"],
)
def test_what_stands_on_a_shelf_is_in_the_catalogue(shelf, folder, function):
    """A file that defines the function is on offer; forgetting_nats alone is measured from losses, not ranks."""
    for path in sorted((SOURCE / folder).glob("*.py")):
        names = {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")}
        if function in names and path.stem != "forgetting_nats":
            reference = f"spillover.{folder.replace('/', '.')}.{path.stem}:{function}"
            assert reference in shelf.values(), f'add "{path.stem.replace("_", "-")}": "{reference}" to catalog.py'
    for reference in shelf.values():
        assert catalog.find(reference)
