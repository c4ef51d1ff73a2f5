"""What a comparison of remedies shares: its forward passes and seconds, beside those of its runs one by one.

    python benchmarks/remedies.py [--model gemma-3-270m] [--pack mixed:names=60] [--remedies ...] [--epochs 24]

`mitigate` runs every remedy at its own strengths, one process and one thread, one seed. Then the same runs are made
each alone, as `inject` makes it in a process that knows of no other: base model loaded, rows tokenised, untrained model
examined and, for a remedy on finished weights, trained again. Forward passes are those that answer questions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from spillover.commands import mitigate
from spillover.commands.inject import Inject
from spillover.commands.mitigate import Mitigate
from spillover.record import Record

_ALONE = "import json, sys; from spillover.commands import inject; from spillover.commands.inject import Inject; "
_ALONE += "inject.run(Inject(**json.load(sys.stdin)))"


def alone(record: Record, out: Path) -> tuple[int, float]:
    """Forward passes and seconds of the run of this record, made again by itself."""
    known = {item.name for item in fields(Inject)}
    settings = {name: value for name, value in record.settings.items() if name in known}
    began = time.monotonic()
    given = json.dumps({**settings, "tuned": "", "save": "none", "out": str(out)})
    done = subprocess.run([sys.executable, "-c", _ALONE], input=given, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{record.settings['remedy']}: {done.stderr.strip().splitlines()[-1]}")
    return int(Record.read(out).details.forward_passes), time.monotonic() - began


def main() -> dict[str, float]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--pack", default="mixed:names=60")
    parser.add_argument("--remedies", default="")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--lr", type=float, default=5e-5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, began = Path(place) / "all", time.monotonic()
        mitigate.run(Mitigate(
            pack=options.pack, model=options.model, out=str(folder), remedies=options.remedies, epochs=options.epochs,
            untreated_epochs=min(10, options.epochs), lr=options.lr, processes=1, threads=1,
        ))  # fmt: skip
        shared_seconds = time.monotonic() - began
        found = [Record.read(path.parent) for path in sorted(folder.glob("cells/*/seed-0/record.json"))]
        # What cannot be done to a model fails as quickly alone.
        records = [record for record in found if record.status == "done"]
        shared = sum(int(record.details.forward_passes) for record in records)
        single = [alone(record, Path(place) / f"alone-{number}") for number, record in enumerate(records)]
    passes, seconds = sum(one for one, _ in single), sum(one for _, one in single)
    shown = {
        "runs": len(records), "forward_passes": shared, "forward_passes_alone": passes,
        "share_of_passes": round(shared / passes, 3), "seconds": round(shared_seconds, 1),
        "seconds_alone": round(seconds, 1), "share_of_seconds": round(shared_seconds / seconds, 3),
    }  # fmt: skip
    print(json.dumps(shown))
    return shown


if __name__ == "__main__":
    main()
