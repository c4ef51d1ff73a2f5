"""Draw docs/architecture.svg: the rooms of the house, and which of them imports which, read from the source.

Run `python tools/make_architecture.py` when imports between rooms have changed; a test says when.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PICTURE = ROOT / "src" / "spillover", ROOT / "docs" / "architecture.svg"
BASE, INTERFACE = "errors, config, details, record", "import spillover"
#: Rooms from top to bottom, which import only rooms further down: column, and what each holds in a few words.
ROWS: tuple[dict[str, tuple[float, str]], ...] = (
    {"cli": (1, "parse, call, print"), INTERFACE: (3, "the Python interface")},
    {"commands": (2, "a file a verb")},
    {"runs": (0, "claim, resume, finish"), "interp": (1, "look inside a model"), "interventions": (2, "remedies"),
     "theory": (3, "one layer, solved"), "results": (4, "what Python returns")},
    {"lm": (1.5, "load, score, train"), "report": (4, "records to one page")},
    {"metrics": (4, "numbers, intervals")},
    {"packs": (3, "facts and questions")},
    {BASE: (1.5, "sentences, options, files")},
)  # fmt: skip
#: Files that are no room.
OUTSIDE = {"__main__"}
WIDTH, BOX, HEIGHT, GAP, TOP = 880, 160, 62, 44, 16
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .name { font-weight: 600; font-size: 15px }
  .holds { fill: #59636e }
  rect { fill: #f6f8fa; stroke: #818b98; rx: 6px }
  path { fill: none; stroke: #818b98; stroke-width: 1.5 }
  #head { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .holds { fill: #9198a1 }
    rect { fill: #151b23; stroke: #656c76 }
    path { stroke: #656c76 }
    #head { fill: #656c76 }
  }
"""


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module by the parts of its name after `spillover`."""
    if not parts or parts[0] == "__init__":
        return INTERFACE
    return BASE if parts[0] in BASE.split(", ") else parts[0]


def imports() -> set[tuple[str, str]]:
    """Every (room, room that it imports), wherever in a file the import stands."""
    found = set()
    rooms = {room for row in ROWS for room in row}
    for path in SOURCE.rglob("*.py"):
        importer = room_of(path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                package, *parts = name.split(".")
                # The version alone is no use of the interface.
                if package == "spillover" and parts and parts != ["__version__"]:
                    imported = room_of(tuple(parts))
                    if importer not in OUTSIDE and imported not in {importer, *OUTSIDE}:
                        assert {importer, imported} <= rooms, f"give {importer} and {imported} a place in ROWS"
                        found.add((importer, imported))
    return found


def drawn(edges: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The imports without those that follow from others, so that the picture stays legible."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            here = waiting.pop()
            new = {imported for importer, imported in edges if importer == here} - found
            found |= new
            waiting += new
        return found

    below = {room: reach(room) for row in ROWS for room in row}
    return sorted(
        (importer, imported)
        for importer, imported in edges
        if not any(imported in below[other] for name, other in edges if name == importer and other != imported)
    )


def picture() -> str:
    """The SVG, in colours for light and dark pages."""
    place, boxes = {}, []
    for number, row in enumerate(ROWS):
        y = TOP + number * (HEIGHT + GAP)
        for room, (column, holds) in row.items():
            x = WIDTH * (column + 0.5) / 5
            place[room], width = (x, y), BOX if room != BASE else 260
            boxes.append(
                f'<rect x="{x - width / 2:g}" y="{y}" width="{width}" height="{HEIGHT}"/>'
                f'<text class="name" x="{x:g}" y="{y + 26}">{escape(room)}</text>'
                f'<text class="holds" x="{x:g}" y="{y + 46}">{escape(holds)}</text>'
            )
    arrows = []
    for importer, imported in drawn(imports()):
        (x, y), (to_x, to_y) = place[importer], place[imported]
        start, end = y + HEIGHT, to_y - 6
        half = (start + end) / 2
        arrows.append(
            f'<path d="M{x:g} {start} C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {end}" marker-end="url(#arrow)">'
            f"<title>{escape(importer)} imports {escape(imported)}</title></path>"
        )
    height = TOP * 2 + len(ROWS) * HEIGHT + (len(ROWS) - 1) * GAP
    marker = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path id="head" d="M0 0L8 4L0 8z" stroke="none"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>The rooms of Spillover: an arrow leads to a room that is imported</title>",
            f"<style>{STYLE}</style>",
            marker,
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
