"""Writes the table of docs/results.md, and the figures beside it, from a finished study.

    python tools/make_results.py runs/paper     # takes the numbers and the figures from the study's folder
    python tools/make_results.py                # writes the table again from the numbers kept in docs/results

A test compares the page with what the second gives.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spillover.record import write_table
from spillover.report.study_sets import MODELS, RANKS

ROOT = Path(__file__).resolve().parents[1]
PAGE, KEPT = ROOT / "docs/results.md", ROOT / "docs/results/paper-270m.parquet"
#: Plot -> the file that the page shows.
FIGURES = {
    "study-sets": ROOT / "docs/images/paper-270m.svg",
    "rank-by-bridging": ROOT / "docs/images/bridging-270m.svg",
    "rank-by-rate": ROOT / "docs/images/rates-270m.svg",
}
BLOCK = re.compile(r"(<!-- results: paper-270m -->\n).*?(<!-- end of results -->)", re.DOTALL)
#: Row of the table -> its words; those without published numbers are our controls.
ROWS = {
    "city-language": "city → language (true)",
    "city-language-counterfactual": "city → language (permuted, false)",
    "country-code": "country → programming language (arbitrary)",
    "profession-color": "profession → colour (arbitrary)",
    "sport-music": "sport → music (arbitrary)",
    "null": "control: shuffled, ten ways",
    "city-language-bridge=0": "control: facts only",
}
WHOLE = "_no-freeze-embeddings"
HEADS = ("set", "before", "after", "p", "all weights trained", "baseline", *MODELS)


def block() -> str:
    """The table in Markdown."""
    kept = pq.read_table(KEPT).to_pylist()
    pooled = {(row["cell"], row["metric"]): row for row in kept if row["seed"] is None and row["implication"] is None}
    # The map test belongs to an implication; a set has one.
    tests = {(row["cell"], row["metric"]): row for row in kept if row["seed"] is None and row["metric"] == "map_test_p"}
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    for cell, words in ROWS.items():
        if (cell, "implication_rank_test") in pooled:
            fields = [words, *_ours(cell, {**pooled, **tests}), *_published(cell)]
            lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines) + "\n"


def _ours(cell: str, found: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    return [
        _number(found.get((cell, "implication_rank_test_before"))),
        _number(found.get((cell, "implication_rank_test")), interval=True),
        _number(found.get((cell, "map_test_p")), digits=4),
        _number(found.get((cell + WHOLE, "implication_rank_test")), interval=True),
        _number(found.get((cell, "marginal_rank"))),
    ]


def _published(cell: str) -> list[str]:
    return [f"{rank:.2f}" for rank in RANKS.get(cell, ())] or ["–"] * len(MODELS)


def _number(row: dict[str, Any] | None, *, interval: bool = False, digits: int = 2) -> str:
    if row is None or row["value"] is None:
        return "–"
    ends = f" ({row['low']:.2f} to {row['high']:.2f})" if interval and row["low"] is not None else ""
    return f"{row['value']:.{digits}f}{ends}"


def take(study: Path) -> None:
    """Keep the numbers of a finished study and draw its figure."""
    from spillover.report.run_plots import draw
    from spillover.report.study_data import load_study

    KEPT.parent.mkdir(exist_ok=True)
    write_table(KEPT, pq.read_table(study / "table.parquet"))
    loaded = load_study(study)
    for plot, path in FIGURES.items():
        cells = {cell.slug: cell for group in loaded.groups if group.plot == plot for cell in group.cells}
        draw(plot, list(cells.values())).save(path)


def page() -> str:
    """The page with the table as the kept numbers give it."""
    text, number = BLOCK.subn(lambda found: found[1] + block() + found[2], PAGE.read_text(encoding="utf-8"))
    assert number == 1, "the page has one place for the results"
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take(Path(sys.argv[1]))
    PAGE.write_text(page(), encoding="utf-8")
