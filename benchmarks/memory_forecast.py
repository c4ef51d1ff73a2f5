"""What `inject` says beforehand that it will need of memory, against the most that its process then held.

    python benchmarks/memory_forecast.py [--model gemma-3-270m] [--threads 1] [--only frozen,lora]

Every case is the command itself in a process of its own; there is no peer. The claim: each ratio is within 20%.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from spillover.record import Record

PACK, LARGER = "city-language:pairs=2,names=8,bridge=1", "city-language:pairs=4,names=24,bridge=2"
CASES: dict[str, tuple[str, list[str]]] = {
    "frozen": (PACK, []),
    "everything": (PACK, ["--no-freeze-embeddings"]),
    "lora": (PACK, ["--lora", "8"]),
    "micro-batch": (PACK, ["--micro-batch", "1"]),
    "batch": (LARGER, ["--batch", "32"]),
    "bfloat16": (PACK, ["--dtype", "bfloat16"]),
}


def measured(model: str, threads: int, case: str, folder: Path) -> dict[str, float]:
    """Foretold and measured gigabytes of one case."""
    pack, options = CASES[case]
    command = [sys.executable, "-m", "spillover", "inject", pack, "--model", model, "--out", str(folder)]
    command += ["--epochs", "2", "--threads", str(threads), "--device", "cpu", *options]
    quiet = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr.strip().splitlines()[-1]}")
    memory = Record.read(folder).details.memory
    foretold, peak = memory.forecast["peak"], memory.peak
    parts = {name: size for name, size in memory.forecast.items() if name not in ("needed", "peak", "traced")}
    print(case, json.dumps({name: round(size / 1e9, 3) for name, size in parts.items()}), file=sys.stderr)
    return {"foretold": foretold / 1e9, "measured": peak / 1e9, "ratio": foretold / peak}


def main() -> dict[str, dict[str, float]]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(CASES))
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for case in options.only.split(","):
            found[case] = measured(options.model, options.threads, case, Path(place) / case)
            print(case, json.dumps({name: round(value, 3) for name, value in found[case].items()}), flush=True)
    worst = max(found.values(), key=lambda one: abs(one["ratio"] - 1))["ratio"]
    print(json.dumps({"worst_ratio": round(worst, 3), "within_20_percent": 1 / 1.2 <= worst <= 1.2}))
    return found


if __name__ == "__main__":
    main()
