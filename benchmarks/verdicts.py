"""How often do verdicts err? Simulated audits, world by world: false alarms where nothing is, power where something is.

    python benchmarks/verdicts.py [--audits 1000]

A world says how the tuned model's answers came about; sizes run over given answers, implications and subjects of each
given answer. A false alarm is an audit with at least one `wanted` or `unwanted`, of an implication or an association,
that is not true of the world; power is the share of true associations that are found. Only counting, no model.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from spillover.metrics.verdicts import verdicts
from spillover.packs.pack import Implication
from spillover.record import ANSWER_SCHEMA

#: Candidates beside the implied answers; share of the base model's answers that measuring noise changes.
OTHERS, NOISE = 5, 0.1
World = Callable[[np.random.Generator, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def nothing(draws: np.random.Generator, base: np.ndarray, given: np.ndarray, candidates: int):
    """The base model against itself, with noise."""
    return base, np.zeros(given.max() + 1, bool)


def favourite(draws, base, given, candidates):
    """Everybody newly gets one answer."""
    return np.full_like(base, draws.integers(candidates)), np.zeros(given.max() + 1, bool)


def idiosyncratic(draws, base, given, candidates):
    """Each given answer newly gets an answer of its own, drawn at random; where it is the implied one it is true."""
    own = draws.integers(candidates, size=given.max() + 1)
    return own[given], own == np.arange(given.max() + 1)


def associated(share: float) -> World:
    """The implied answer, in this share of the subjects of every given answer."""

    def world(draws, base, given, candidates):
        return np.where(draws.random(len(base)) < share, given, base), np.ones(given.max() + 1, bool)

    world.__doc__ = f"The implied answer in {share:.0%} of the subjects."
    return world


WORLDS: dict[str, World] = {
    "nothing changed": nothing, "a new favourite": favourite, "an own answer each": idiosyncratic,
    "10% associated": associated(0.1), "30% associated": associated(0.3), "all associated": associated(1.0),
}  # fmt: skip
#: (given answers, implications, subjects of each given answer).
SIZES = [
    (2, 1, 4),
    (2, 1, 16),
    (3, 1, 16),
    (5, 1, 16),
    (5, 7, 16),
    (6, 40, 16),
    (10, 1, 100),
    (50, 1, 16),
    (50, 40, 16),
]


def audit(draws: np.random.Generator, world: World, given: int, implications: int, subjects: int):
    """(whether anything untrue was found, true associations, those found) of one simulated audit."""
    rows, truths = [], []
    labels = np.repeat(np.arange(given), subjects)
    candidates = given + OTHERS
    for number in range(implications):
        base = draws.integers(candidates, size=len(labels))
        tuned, true = world(draws, base, labels, candidates)
        noisy = draws.random(len(labels)) < NOISE
        tuned = np.where(noisy, draws.integers(candidates, size=len(labels)), tuned)
        truths.append(true)
        for checkpoint, tops in ((0, base), (1, tuned)):
            rows.append((f"r->t{number}", checkpoint, labels, tops))
    judged = verdicts(table(rows, candidates), [implication(number, given) for number in range(implications)])
    wrong = found = 0
    for each, true in zip(judged, truths, strict=True):
        own = {entry.given: entry.verdict == "unwanted" for entry in each.associations}
        hits = np.array([own[f"g{index:02d}"] for index in range(given)])
        found += int((hits & true).sum())
        wrong += int((hits & ~true).any() or (each.verdict == "unwanted" and not true.any()))
    return wrong > 0, sum(int(true.sum()) for true in truths), found


def implication(number: int, given: int) -> Implication:
    return Implication("r", f"t{number}", "spurious", {f"g{index:02d}": f"a{index:02d}" for index in range(given)})


def table(rows, candidates: int) -> pa.Table:
    """The answers table in which the drawn answer of each subject comes first and all others tie."""
    columns = {name: [] for name in ANSWER_SCHEMA.names}
    names = np.array([f"a{index:02d}" for index in range(candidates)])
    for key, checkpoint, labels, tops in rows:
        count = len(labels) * candidates
        score = np.zeros((len(labels), candidates))
        score[np.arange(len(labels)), tops] = 1.0
        values = {
            "seed": np.zeros(count, int), "checkpoint": np.full(count, checkpoint), "implication": [key] * count,
            "subject": np.repeat([f"s{index}" for index in range(len(labels))], candidates),
            "relation": [key.partition("->")[2]] * count, "prompt": ["p"] * count, "trained": [True] * count,
            "stated": [False] * count, "candidate": np.tile(names, len(labels)), "log_probability": score.ravel(),
            "cluster": np.repeat([f"g{index:02d}" for index in labels], candidates),
            "expected": np.repeat(names[labels], candidates),
        }  # fmt: skip
        for name in columns:
            columns[name].append(np.asarray(values[name]))
    arrays = [pa.array(np.concatenate(columns[item.name]), item.type) for item in ANSWER_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=ANSWER_SCHEMA)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000, help="simulated audits of a world of one implication")
    audits = parser.parse_args(words).audits
    print(f"{'world':<20} {'given':>5} {'links':>5} {'subjects':>8} {'audits':>6}  false alarms (95%)    power")
    for name, world in WORLDS.items():
        for given, implications, subjects in SIZES:
            draws, count = np.random.default_rng(0), max(20, audits // implications)
            results = [audit(draws, world, given, implications, subjects) for _ in range(count)]
            alarms, true, found = (sum(column) for column in zip(*results, strict=True))
            low, high = binomtest(alarms, count).proportion_ci()
            power = f"{found / true:.3f}" if true else "-"
            print(f"{name:<20} {given:>5} {implications:>5} {subjects:>8} {count:>6}  "
                  f"{alarms / count:.3f} ({low:.3f} to {high:.3f})  {power:>7}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
