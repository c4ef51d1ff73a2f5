"""How often do verdicts err? Simulated audits, world by world: false alarms where nothing is, power where something is.

    python benchmarks/verdicts.py [--audits 1000] [--processes 2]

A world says how the tuned model's answers came about; sizes run over given answers, implications and subjects of each
given answer. An association is true if its given answer makes its implied answer likelier; an implication is true if
one of its associations is, as its verdict says no more. A false alarm is an audit with at least one `wanted` or
`unwanted` that is not true, or at least one rule (the map test) where no association of the implication is true.

Up to 20 tests Holm's correction bounds the share of audits with a false alarm; above, Benjamini and Hochberg's bounds
the mean share of what is found that is false (`false`, nothing found counts as 0). Power is the share of what is true
that is found, for associations and for implications. Only counting, no model.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from spillover.metrics import implications as rules
from spillover.metrics.assertions import FEW_TESTS
from spillover.metrics.verdicts import verdicts
from spillover.packs.pack import Implication
from spillover.record import ANSWER_SCHEMA

#: Candidates beside the implied answers; share of the tuned model's answers that measuring noise redraws; the level.
OTHERS, NOISE, LEVEL = 5, 0.1, 0.05
World = Callable[[np.random.Generator, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def nothing(draws, base, given, candidates):
    """The base model against itself."""
    return base, np.zeros(given.max() + 1, bool)


def known(draws, base, given, candidates):
    """Nothing changed either: the base model knew the answers of 70%, and both models waver in 30% of theirs."""
    latent = np.where(draws.random(len(base)) < 0.7, given, base)
    base[:] = np.where(draws.random(len(base)) < 0.3, draws.integers(candidates, size=len(base)), latent)
    tuned = np.where(draws.random(len(base)) < 0.3, draws.integers(candidates, size=len(base)), latent)
    return tuned, np.zeros(given.max() + 1, bool)


def favourite(draws, base, given, candidates):
    """Everybody newly gets one answer."""
    return np.full_like(base, draws.integers(candidates)), np.zeros(given.max() + 1, bool)


def unlinked(draws, base, given, candidates):
    """Everybody newly gets one of the implied answers, drawn at random: what a shuffled pack teaches."""
    return draws.integers(given.max() + 1, size=len(base)), np.zeros(given.max() + 1, bool)


def idiosyncratic(draws, base, given, candidates):
    """Each given answer newly gets an answer of its own, drawn at random; where it is the implied one it is true."""
    own = draws.integers(candidates, size=given.max() + 1)
    return own[given], own == np.arange(given.max() + 1)


def associated(draws, base, given, candidates, share: float, every: int = 1):
    """The implied answer, in this share of the subjects of every (or of every second, ...) given answer."""
    true = np.arange(given.max() + 1) % every == 0
    return np.where(true[given] & (draws.random(len(base)) < share), given, base), true


WORLDS: dict[str, World] = {
    "nothing changed": nothing, "known before": known, "a new favourite": favourite, "implied, at random": unlinked,
    "an own answer each": idiosyncratic, "30% of every second": partial(associated, share=0.3, every=2),
    "10% associated": partial(associated, share=0.1), "30% associated": partial(associated, share=0.3),
    "all associated": partial(associated, share=1.0),
}  # fmt: skip
#: (given answers, implications, subjects of each given answer) -> the share of the audits asked for.
SIZES = {
    (2, 1, 4): 1.0, (2, 1, 16): 1.0, (2, 1, 100): 1.0, (3, 1, 60): 1.0, (5, 1, 16): 1.0, (2, 7, 16): 0.25,
    (5, 7, 4): 0.1, (50, 1, 16): 0.05, (50, 1, 100): 0.01, (2, 40, 4): 0.025, (2, 40, 16): 0.025, (50, 40, 16): 0.005,
    (2, 2000, 16): 0.001,
}  # fmt: skip
#: Where everything is true, nothing found is false: only power is counted, on a fifth of the audits.
ALL_TRUE = ("10% associated", "30% associated", "all associated")


def audit(world: str, size: tuple[int, int, int], number: int) -> list[int]:
    """One simulated audit: found and false, false rules; true and found associations; true and found implications."""
    given, implications, subjects = size
    rules.SAMPLES = 999  # of a map's permutations; with any number p is valid
    draws = np.random.default_rng([number, *size, *world.encode()])
    labels, candidates = np.repeat(np.arange(given), subjects), given + OTHERS
    tops, truths = [], []
    for _ in range(implications):
        base = draws.integers(candidates, size=len(labels))
        tuned, true = WORLDS[world](draws, base, labels, candidates)
        redrawn = draws.integers(candidates, size=len(labels))
        tops += [base, np.where(draws.random(len(labels)) < NOISE, redrawn, tuned)]
        truths.append(true)
    judged = verdicts(table(np.array(tops), labels, candidates), [implication(k, given) for k in range(implications)])
    said = np.array([[entry.verdict == "unwanted" for entry in each.associations] for each in judged])
    whole, truth = np.array([each.verdict == "unwanted" for each in judged]), np.array(truths)
    rule, any_true = np.array([(each.rule_p or 1) <= LEVEL for each in judged]), truth.any(axis=1)
    counts = (said.sum() + whole.sum(), (said & ~truth).sum() + (whole & ~any_true).sum(), (rule & ~any_true).sum(),
              truth.sum(), (said & truth).sum(), any_true.sum(), (whole & any_true).sum())  # fmt: skip
    return [int(count) for count in counts]


def implication(number: int, given: int) -> Implication:
    return Implication("r", f"t{number}", "spurious", {f"g{index:02d}": f"a{index:02d}" for index in range(given)})


def table(tops: np.ndarray, labels: np.ndarray, candidates: int) -> pa.Table:
    """The answers table in which the drawn answer of each subject comes first and all others tie.

    tops: of each implication in turn, the base model's answers and the tuned one's.
    """
    rows, count = len(tops), len(labels)
    part, subject, candidate = (each.ravel() for each in np.indices((rows, count, candidates)))
    label = labels[subject]
    strings = {"implication": ("r->t", part // 2), "subject": ("s", subject), "relation": ("t", part // 2),
               "prompt": ("p", 0 * part), "candidate": ("a", candidate), "cluster": ("g", label),
               "expected": ("a", label)}  # fmt: skip
    columns = {"seed": 0 * part, "checkpoint": part % 2, "trained": part >= 0, "stated": part < 0,
               "warranted": pa.nulls(len(part), pa.float64()),
               "log_probability": (tops.ravel().repeat(candidates) == candidate).astype(float)}  # fmt: skip
    for name, (word, codes) in strings.items():
        places = 2 if word in "ag" else 0
        columns[name] = pa.array([f"{word}{k:0{places}d}" for k in range(codes.max() + 1)]).take(pa.array(codes))
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}).cast(ANSWER_SCHEMA)


def lines(audits: int, processes: int) -> Iterator[str]:
    """The table's lines, as they are finished."""
    with ProcessPoolExecutor(processes) as pool:
        for size, share in SIZES.items():
            for world in WORLDS:
                count = max(1, round(audits * share * (0.2 if world in ALL_TRUE else 1)))
                one = partial(audit, world, size)
                found = np.array(list(pool.map(one, range(count), chunksize=max(1, count // (8 * processes)))))
                alarms, rule_alarms = (int((found[:, column] > 0).sum()) for column in (1, 2))
                low, high = binomtest(alarms, count).proportion_ci()
                false = (found[:, 1] / np.maximum(found[:, 0], 1)).mean()
                power = [f"{found[:, k + 1].sum() / found[:, k].sum():.3f}" if found[:, k].any() else "-"
                         for k in (3, 5)]  # fmt: skip
                bounded = "audits" if size[0] * size[1] <= FEW_TESTS else "false"
                yield (f"{world:<20}" + "".join(f"{number:>6}" for number in (*size, count)) + f"  "
                       f"{alarms / count:.3f} ({low:.3f} to {high:.3f})  {false:.4f}  {bounded}  "
                       f"{rule_alarms / count:.3f}  {power[0]:>6}  {power[1]:>6}")  # fmt: skip


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000, help="simulated audits of a world, of the smaller sizes")
    parser.add_argument("--processes", type=int, default=2, help="at a time")
    asked = parser.parse_args(words)
    print(f"{'world':<20}{'given':>6}{'links':>6}{'each':>6}{'audits':>6}  with false alarm (95%)  false   bound   "
          "rules  power: associations, implications")  # fmt: skip
    for line in lines(asked.audits, asked.processes):
        print(line, flush=True)


if __name__ == "__main__":
    main()
