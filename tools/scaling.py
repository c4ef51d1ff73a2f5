"""The arithmetic of docs/scaling.md: what a study of many cells takes, from cells that were measured.

    python tools/scaling.py                                    # writes the page's table anew
    python tools/scaling.py --seconds 20 --at-once 8           # of your machine, from one cell that you timed there

A test compares the page with what the first gives.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, STUDY = ROOT / "docs/scaling.md", ROOT / "results/paper-270m"
BLOCK = re.compile(r"(<!-- arithmetic -->\n).*?(<!-- end of arithmetic -->)", re.DOTALL)
COUNTS = (100, 1_000, 1_000_000)
#: What a study adds to its cells, measured (LOG, "Studies that scale out"): seconds to read and draw a finished cell,
#: bytes of its page and of its record a cell, and the share of time that writing the record may take.
DRAWN_SECONDS, PAGE_BYTES, RECORD_BYTES, RECORD_SHARE = 0.0041 + 0.0033, 25_000, 424, 0.02


@dataclass(frozen=True)
class Cost:
    """What one cell (one run of one seed) takes: seconds, and bytes that stay on the disk."""

    seconds: float
    size: float


def measured(study: Path = STUDY) -> tuple[Cost, float, float, int]:
    """The median run of the kept study with frozen embeddings at its common rate, its quartiles, and how many."""
    seconds, sizes = [], []
    for path in sorted(study.glob("cells/*/seed-*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["settings"]["freeze_embeddings"] and record["settings"]["lr"] == 5e-5:
            seconds.append(record["seconds"])
            sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
    low, middle, high = statistics.quantiles(seconds, n=4)
    return Cost(middle, statistics.median(sizes)), low, high, len(seconds)


def row(cost: Cost, cells: int, at_once: int) -> list[str]:
    """Cells, days of running, hours of drawing the page, and gigabytes of runs, page and record."""
    running = math.ceil(cells / at_once) * cost.seconds * (1 + RECORD_SHARE)
    sizes = (cells * cost.size, cells * PAGE_BYTES, cells * RECORD_BYTES)
    return [f"{cells:,}", f"{at_once:,}", duration(running), duration(cells * DRAWN_SECONDS), *map(amount, sizes)]


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves at least one."""
    for unit, size in (("years", 365.25 * 86_400), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def amount(size: float) -> str:
    """Bytes in the largest unit that leaves at least one."""
    for unit, bytes_each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.1f} {unit}"
    return f"{size:.0f} B"


def table(cost: Cost, at_once: tuple[int, ...], counts: tuple[int, ...] = COUNTS) -> str:
    """A Markdown table, a row a number of cells and of runs at the same time."""
    heads = ["cells", "at once", "running", "drawing the page", "runs on disk", "page", "record"]
    lines = [heads, ["---"] * len(heads), *(row(cost, cells, places) for cells in counts for places in at_once)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def block() -> str:
    """What stands between the marks on the page."""
    cost, low, high, count = measured()
    said = (
        "A run of Gemma-3-270M on a built-in pack (ten epochs, measured after each, embeddings frozen, one thread,\n"
        f"two runs at once on two cores) took {cost.seconds:.0f} seconds, half of them between {low:.0f} "
        f"and {high:.0f} ({count} runs of `results/paper-270m`), and\nleaves {amount(cost.size)} on the disk. So:\n"
    )
    return f"{said}\n{table(cost, (2, 64, 1_024))}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="seconds of one cell on your machine")
    parser.add_argument("--at-once", type=int, default=1, help="cells at the same time, on all machines together")
    parser.add_argument("--bytes", type=float, help="bytes of one finished cell; by default those measured here")
    options = parser.parse_args()
    if options.seconds is None:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(BLOCK.sub(lambda found: found[1] + block() + found[2], text), encoding="utf-8")
        return
    size = options.bytes or measured()[0].size
    print(table(Cost(options.seconds, size), (options.at_once,)))


if __name__ == "__main__":
    main()
