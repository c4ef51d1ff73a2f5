"""A large pack read, checked and compressed to signatures, beside a bare read of its table: seconds and memory.

    python benchmarks/large_packs.py                           # a million rows in JSONL, CSV and Parquet (on Linux)
    python benchmarks/large_packs.py --rows 100000 --repeats 1 # a quick look

Of every subject three relations are stated, of one in five a fourth, which an implication asks of the others; names
and answers are in eight scripts. Every side is a fresh process that imports what it needs before the clock starts. The
bare reads make neither texts nor checks of it (pyarrow, on one thread, a table in its own memory), or a list of rows
without any check (the standard library, and pyarrow's `to_pylist` for Parquet): each a lower bound, not a peer. Peak
memory is the whole process's, imports included.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

COLUMNS = ("subject", "relation", "answer")
FORMATS = ("jsonl", "csv", "parquet")
SYLLABLES = ["ka", "mi", "zu", "ör", "thé", "Бор", "سلم", "שׁל", "नम", "東", "たけ", "가", "λό", "ลา"]
ANSWERS = 50
SHEET = """name: large
licence: none
source: drawn
relations:
  lives_in: {{prompts: ["{{subject}} lives in"]}}
  born_in: {{prompts: ["{{subject}} was born in"]}}
  works_as: {{prompts: ["{{subject}} works as"]}}
  speaks: {{prompts: ["{{subject}} speaks"]}}
implications:
  - given: lives_in
    then: speaks
    kind: causal
    map: {{{entries}}}
facts: facts.{kind}
"""


def name(number: int) -> str:
    """A different name for every number: its digits to the base of the syllables, and a number after a space."""
    text, count = "", len(SYLLABLES)
    for _ in range(3):
        number, digit = divmod(number, count)
        text += SYLLABLES[digit]
    return f"{text} {number}"


def answer(relation: str, number: int) -> str:
    return f"{SYLLABLES[number % len(SYLLABLES)]}{relation[0]}{number}"


def rows(count: int) -> Iterator[tuple[str, str, str]]:
    """The first `count` stated rows: 3.2 a subject."""
    made = 0
    for subject in range(count):
        town = subject % ANSWERS
        stated = [("lives_in", town), ("born_in", subject * 7 // 3 % ANSWERS), ("works_as", subject // 5 % ANSWERS)]
        for relation, which in stated + [("speaks", town)] * (subject % 5 == 0):
            if made == count:
                return
            made += 1
            yield name(subject), relation, answer(relation, which)


def write(folder: Path, count: int) -> None:
    """A pack a format, each in a folder of its own."""
    entries = ", ".join(f"{answer('lives_in', town)}: {answer('speaks', town)}" for town in range(ANSWERS))
    for kind in FORMATS:
        (folder / kind).mkdir()
        (folder / kind / "pack.yaml").write_text(SHEET.format(kind=kind, entries=entries), encoding="utf-8")
    with (folder / "jsonl" / "facts.jsonl").open("w", encoding="utf-8") as stream:
        for row in rows(count):
            stream.write(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) + "\n")
    with (folder / "csv" / "facts.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows(count)])
    columns = dict(zip(COLUMNS, zip(*rows(count), strict=True), strict=True))
    pq.write_table(pa.table(columns), folder / "parquet" / "facts.parquet")


def ours(pack: Path, kind: str) -> Callable[[], int]:
    """Everything that `spillover check` looks at, and the table of signatures; gives how many there are."""
    from spillover.packs.open import check_pack
    from spillover.theory.table import table_of

    def run() -> int:
        found, faults, _ = check_pack(pack)
        assert found is not None, faults[0]
        return len(table_of(found).representative)

    return run


def bare_columns(pack: Path, kind: str) -> Callable[[], int]:
    """pyarrow's own reader, on one thread."""
    path = pack / f"facts.{kind}"
    readers: dict[str, Callable[[], pa.Table]] = {
        "jsonl": lambda: pyarrow.json.read_json(path, pyarrow.json.ReadOptions(use_threads=False)),
        "csv": lambda: pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=False)),
        "parquet": lambda: pq.read_table(path, use_threads=False),
    }
    return lambda: readers[kind]().num_rows


def bare_rows(pack: Path, kind: str) -> Callable[[], int]:
    """A list of rows, as a few lines of Python make one."""
    path = pack / f"facts.{kind}"

    def run() -> int:
        if kind == "parquet":
            return len(pq.read_table(path, use_threads=False).to_pylist())
        with path.open(encoding="utf-8", newline="") as stream:
            found: list[Any] = list(csv.reader(stream)) if kind == "csv" else [json.loads(line) for line in stream]
        return len(found)

    return run


SIDES = {"ours": ours, "pyarrow, bare": bare_columns, "rows, bare": bare_rows}
OURS, *BARE = SIDES


def measure(side: str, pack: Path, kind: str) -> None:
    """Print seconds on the clock, seconds of processor time, and the peak of this process's memory in MB."""
    run = SIDES[side](pack, kind)
    began, processor = time.perf_counter(), time.process_time()
    assert run() > 0
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    print(json.dumps([seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]))


def compare(folder: Path, count: int, repeats: int) -> None:
    """Print each side's medians, and how many times as long ours takes with the least and greatest over repeats."""
    print(f"{count:,} rows read, checked and compressed; medians of {repeats}")
    print(f"  {'format':<8} {'side':<14} {'seconds':>8} {'processor':>10} {'peak MB':>8}  ours takes as long")
    for kind in FORMATS:
        runs: dict[str, list[list[float]]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                words = [sys.executable, __file__, "--side", side, "--pack", str(folder / kind), "--kind", kind]
                done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
                runs[side].append(json.loads(done.stdout))
        for side in SIDES:
            seconds, processor, peak = (statistics.median(column) for column in zip(*runs[side], strict=True))
            ratios = [own[0] / other[0] for own, other in zip(runs[OURS], runs[side], strict=True)]
            shown = f"  {statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"
            shown = shown if side != OURS else ""
            print(f"  {kind:<8} {side:<14} {seconds:>8.2f} {processor:>10.2f} {peak:>8.0f}{shown}", flush=True)


def main() -> None:
    """Compare all sides, or, in a process of its own, measure one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    for option in ("--side", "--pack", "--kind"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure(options.side, Path(options.pack), options.kind)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        compare(Path(folder), options.rows, options.repeats)


if __name__ == "__main__":
    main()
