"""What `predict` said of packs that its calibration never saw, beside what fine-tuning then did.

    spillover sweep benchmarks/prediction/study.yaml --out results/prediction-270m
    python benchmarks/prediction/compare.py results/prediction-270m   # predicts, and keeps both in docs/results
    python benchmarks/prediction/compare.py                           # the figures again, from what is kept

One row an association and run. Rank correlation (Spearman) and mean squared error of the predicted rate, each beside
rivals with the same calibration: support alone, prior alone, margin alone. Intervals are 95% bootstraps over pairs of a
pack, since seeds of one pair share its rows; the difference to each rival is taken within a draw.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import rankdata

from spillover.metrics.associations import FEATURE_SETS, calibration, measured_rates, rate
from spillover.record import ANSWERS, Record, write_atomically, write_table

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs/results/prediction-270m.parquet"
#: What every prediction says of how predictions did, frozen in the package.
FROZEN = ROOT / "src/spillover/metrics/held_out.json"
RESAMPLES = 4000
OURS = ("margin", "prior")
RIVALS = (("support",), ("prior",), ("margin",))
assert all(grounds in FEATURE_SETS for grounds in (OURS, *RIVALS))


def rows_of(study: Path) -> list[dict[str, Any]]:
    """One row a run and declared association: its grounds, and the measured rate."""
    import spillover as so
    from spillover.lm.load import load_model

    model = load_model("gemma-3-270m")
    found: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for folder in sorted(path.parent for path in (study / "cells").glob("[!.]*/seed-*/record.json")):
        record = Record.read(folder)
        spec = str(record.settings["pack"])
        if spec not in known:
            known[spec] = so.predict(spec, model, evidence=0, threads=1).associations
        measured = measured_rates(pq.read_table(folder / ANSWERS))
        for each in known[spec]:
            key = (each.then, each.given_answer)
            if each.kind is not None and key in measured:
                share, subjects = measured[key]
                names = {"pack": Path(spec).stem, "seed": record.seed, "kind": each.kind, "then": each.then}
                ends = {"given_answer": each.given_answer, "then_answer": each.then_answer}
                grounds = {name: getattr(each, name) for name in ("support", "exposed", "margin", "prior")}
                found.append({**names, **ends, **grounds, "rate": share, "subjects": subjects})
    return found


def held_out(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of packs as they were made; those with one association undone are looked at apart."""
    return [row for row in table.to_pylist() if not row["pack"].startswith("pet-drink-")]


def figures(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Grounds -> figure -> value, low, high; of rivals also how much worse they are than ours."""
    measured = np.array([row["rate"] for row in rows])
    guesses = {grounds: np.array([_guess(grounds, row) for row in rows]) for grounds in (OURS, *RIVALS)}
    pair = np.unique([f"{row['pack']}\t{row['given_answer']}" for row in rows], return_inverse=True)[1]
    members = [np.flatnonzero(pair == number) for number in range(pair.max() + 1)]
    generator = np.random.default_rng(0)
    draws = [np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
             for _ in range(RESAMPLES)]  # fmt: skip
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    ours_of: dict[str, np.ndarray] = {}
    for grounds, guess in guesses.items():
        found["+".join(grounds)] = own = {}
        for name, figure, sign in (("rank_correlation", _correlation, 1), ("mean_squared_error", _error, -1)):
            values = np.array([figure(guess[draw], measured[draw]) for draw in draws])
            # The first grounds are ours.
            ours = values if grounds == OURS else ours_of[name]
            ours_of[name] = ours
            whole = figure(guess, measured)
            own[name] = (whole, *np.quantile(values, [0.025, 0.975]))
            better = sign * (figure(guesses[OURS], measured) - whole)
            own[f"{name}_ours_better_by"] = (better, *np.quantile(sign * (ours - values), [0.025, 0.975]))
    return found


def _guess(grounds: tuple[str, ...], row: dict[str, Any]) -> float:
    return rate(grounds, {name: float(row[name]) for name in grounds})


def _correlation(guess: np.ndarray, measured: np.ndarray) -> float:
    # Spearman's; scipy's own function also makes a p value, which takes most of its time.
    return float(np.corrcoef(rankdata(guess), rankdata(measured))[0, 1])


def _error(guess: np.ndarray, measured: np.ndarray) -> float:
    return float(np.mean((guess - measured) ** 2))


def by_score(rows: list[dict[str, Any]], edges: tuple[float, ...] = (0, 0.2, 0.4, 0.6, 0.8, 1)) -> list[str]:
    """Calibration: of the associations with a predicted rate in each band, the mean prediction and the mean rate."""
    guess = np.array([_guess(OURS, row) for row in rows])
    measured = np.array([row["rate"] for row in rows])
    lines = []
    for low, high in itertools.pairwise(edges):
        own = (guess >= low) & (guess < high if high < 1 else guess <= 1)
        if own.any():
            lines.append(f"  predicted {low:.1f} to {high:.1f}: {own.sum():3d} associations and runs, "
                         f"predicted {guess[own].mean():.2f}, measured {measured[own].mean():.2f}")  # fmt: skip
    return lines


def undone(table: pa.Table) -> list[str]:
    """What became of the association whose rows were changed: in the exact model, and in the language model."""
    lines = []
    for row in sorted({(row["pack"], round(row["margin"], 3), row["support"], row["exposed"])
                       for row in table.to_pylist() if row["given_answer"] == "rabbit"}):  # fmt: skip
        rates = [
            each["rate"] for each in table.to_pylist() if each["pack"] == row[0] and each["given_answer"] == "rabbit"
        ]
        shown = ", ".join(f"{rate:.2f}" for rate in rates)
        lines.append(f"  {row[0]}: margin {row[1]}, {row[2]} stated, {row[3]} exposed; measured rate {shown}")
    return lines


def frozen(table: pa.Table) -> dict[str, Any]:
    """The figures as the package keeps them, rounded."""
    rows = held_out(table)
    found = {
        name: {figure: [round(float(part), 3) for part in value] for figure, value in own.items()}
        for name, own in figures(rows).items()
    }
    pairs = len({(row["pack"], row["given_answer"]) for row in rows})
    packs = len({row["pack"] for row in rows})
    return {"rows": len(rows), "packs": packs, "pairs": pairs, "figures": found}


def main() -> None:
    if sys.argv[1:]:
        write_table(KEPT, pa.Table.from_pylist(rows_of(Path(sys.argv[1]))))
    table = pq.read_table(KEPT)
    rows, kept = held_out(table), frozen(table)
    write_atomically(FROZEN, (json.dumps(kept, indent=1) + "\n").encode())
    calibrated = calibration()["rows"]
    print(f"{kept['rows']} associations and runs, {kept['pairs']} pairs, calibrated on {calibrated} others")
    for name, own in kept["figures"].items():
        print(name)
        for figure, (value, low, high) in own.items():
            if not (name == "+".join(OURS) and "better" in figure):
                print(f"  {figure}: {value:.3f} ({low:.3f} to {high:.3f})")
    print("calibration of ours", *by_score(rows), sep="\n")
    print("one association undone", *undone(table), sep="\n")


if __name__ == "__main__":
    main()
