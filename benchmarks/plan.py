"""What `sweep --plan` estimates of a run's time on a cpu_device, against the runs of Gemma-3-270M that are kept.

    python benchmarks/plan.py [--studies paper-270m,prediction-270m,remedies-60,remedies-60x3] [--fit] [--each]

Nothing is run: every kept record holds the settings of its run and the seconds that it took, two at once on two cores,
beside whatever else the machine did then. A run that ended early is estimated for the passes that it made. Of runs that
differ in their seed alone the fastest was the least disturbed, so ratios are given for both. The speeds
that the plan uses were fitted to the fastest runs of paper-270m (`--fit` does it again); other studies are the test.
Runs whose remedy adds a term to the loss compute what is not estimated, and are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from spillover.commands.inject import Inject
from spillover.commands.sweep import Cell
from spillover.commands.sweep_plan import Estimator
from spillover.lm.forecast import Device, cpu_device

ROOT = Path(__file__).resolve().parents[1]
STUDIES = "paper-270m,prediction-270m,remedies-60,remedies-60x3"
ADDS_TO_LOSS = ("stay-near-base", "known-facts", "output-value-penalty")
FITTED = "paper-270m"
BYTES = 1e12


@dataclass(frozen=True)
class Run:
    """A kept run. cell: study and folder of all its seeds. settings: as they were, with the passes that it made."""

    cell: str
    settings: Inject
    seconds: float

    def estimated(self, estimator: Estimator) -> float:
        """Seconds."""
        return estimator.estimate(Cell(self.cell, {}, (0,), self.settings)).seconds.total


def kept(study: str) -> Iterable[Run]:
    """The runs of a kept study that were trained, and whose remedy adds nothing to the loss."""
    known = {item.name for item in dataclasses.fields(Inject)}
    for path in sorted((ROOT / "results" / study).glob("cells/*/seed-*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        epochs = pq.read_table(path.parent / "trajectory.parquet", columns=["epoch"])["epoch"].to_pylist()
        own = {key: value for key, value in record["settings"].items() if key in known}
        settings = Inject(**{**own, "micro_batch": 0, "epochs": max(1, round(max(epochs)))})
        if not settings.tuned and not record["resumed"] and not any(name in settings.remedy for name in ADDS_TO_LOSS):
            yield Run(f"{study} {path.parts[-3]}", settings, record["seconds"])


def summarised(name: str, ratios: Sequence[float]) -> dict[str, object]:
    """Print and give the median and the range of ratios."""
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    found = {"runs": len(ratios), "median": middle, "quartiles": [low, high], "range": [min(ratios), max(ratios)]}
    shown = json.dumps(found, default=float, indent=None)
    print(f"{name}: {json.dumps(json.loads(shown, parse_float=lambda text: round(float(text), 2)))}", flush=True)
    return found


def fastest(runs: Sequence[Run], ratios: Sequence[float]) -> list[float]:
    """Of each cell, the ratio of the seed that was the least disturbed."""
    best: dict[str, float] = {}
    for run, ratio in zip(runs, ratios, strict=True):
        best[run.cell] = max(ratio, best.get(run.cell, 0.0))
    return list(best.values())


def fitted(runs: Sequence[Run]) -> dict[str, float]:
    """Operations and bytes a second, and seconds of every run, that fit the fastest runs best, relatively."""
    from scipy.optimize import nnls

    slow = 1e-9
    # What each part would take at one operation, and at one byte, a second.
    parts = {
        name: [Estimator(device, BYTES, 1).estimate(Cell(run.cell, {}, (0,), run.settings)).seconds for run in runs]
        for name, device in (("computing", Device("", BYTES, slow, slow, 1e30, 0.0, 0.0, True)),
                             ("moving", Device("", BYTES, 1e30, 1e30, slow, 0.0, 0.0, True)))
    }  # fmt: skip
    computing = [each.training + each.asking + each.reading for each in parts["computing"]]
    matrix = np.array([[a, b.updating, 1] for a, b in zip(computing, parts["moving"], strict=True)])
    matrix[:, :2] *= slow
    best: dict[str, int] = {}
    for place, run in enumerate(runs):
        slowness = run.seconds / matrix[place, 0]
        if run.cell not in best or slowness < runs[best[run.cell]].seconds / matrix[best[run.cell], 0]:
            best[run.cell] = place
    chosen = list(best.values())
    scaled = matrix[chosen] / np.array([runs[place].seconds for place in chosen])[:, None]
    found, _ = nnls(scaled / scaled.max(0), np.ones(len(chosen)))
    each = found / scaled.max(0)
    return {"operations_a_second": 1 / each[0], "bytes_a_second": 1 / each[1], "seconds_beside": each[2]}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", default=STUDIES)
    parser.add_argument("--fit", action="store_true", help="fit the speeds anew instead of using the plan's")
    parser.add_argument("--each", action="store_true", help="a line a run, too")
    options = parser.parse_args()
    estimator, every, least = Estimator(cpu_device(BYTES), BYTES, 1), [], []
    for study in options.studies.split(","):
        runs = list(kept(study))
        if options.fit and study == FITTED:
            print(json.dumps(fitted(runs)), flush=True)
        ratios = [run.estimated(estimator) / run.seconds for run in runs]
        for run, ratio in zip(runs, ratios, strict=True) if options.each else ():
            print(f"  {ratio:.2f}  {run.seconds:.0f} s  {run.cell} seed {run.settings.seed}")
        summarised(f"{study}, all runs", ratios)
        summarised(f"{study}, fastest seed of each cell", fastest(runs, ratios))
        every, least = every + ratios, least + fastest(runs, ratios)
    summarised("all runs", every)
    summarised("fastest seed of each cell", least)


if __name__ == "__main__":
    main()
