"""Calibrates the score of `predict` on runs of models that stay alive, judges it on what it never saw, freezes both.

    python tools/calibrate.py results/families results/prediction   # features and measured rates of the studies' runs
    python tools/calibrate.py                                       # again, from docs/results/calibration.parquet

Fitted on the study `families` in the models of FITTED. Judged on its third model, and on packs that were in nothing
(`spillover sweep benchmarks/prediction/alive.yaml --out results/prediction`), beside rivals with one feature and a fit
of their own. One row an association and run. Intervals are 95% bootstraps over pairs of a pack, since seeds of one pair
share its rows; how much better the score is than a rival is taken within a draw. A test repeats the second command.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import optimize
from scipy.stats import rankdata

from spillover.metrics.associations import FEATURE_SETS, FeatureColumns, feature_matrix, rate
from spillover.metrics.implications import LEARNED
from spillover.metrics.ranks import answers_at_end, questions, rank_table
from spillover.metrics.remedies import ALIVE
from spillover.record import ANSWERS, Record, write_atomically, write_table

ROOT = Path(__file__).resolve().parents[1]
FITTED = {"smollm2-135m": "llama", "gemma-3-270m": "gemma3_text"}
THIRD, FAMILIES = "qwen2.5-coder-0.5b", "families"
KEPT, FROZEN = ROOT / "docs/results/calibration.parquet", ROOT / "src/spillover/metrics/calibration.json"
#: What every prediction says of how predictions did, frozen in the package.
HELD_OUT = ROOT / "src/spillover/metrics/held_out.json"
FEATURES, OURS, RESAMPLES = ("margin", "prior", "lift", "support"), FEATURE_SETS[0], 4000
#: Weight of the squares of the coefficients beside the mean loss of a row.
RIDGE = 1e-3
STATED = ("recall_rank", "implication_rank_train")
Rows = Sequence[dict[str, Any]]
Fits = dict[str, list[float]]


def rows_of(study: Path) -> list[dict[str, Any]]:
    """One row a run and declared association: its features in that model before training, and the measured rate."""
    import spillover as so
    from spillover.lm.load import load_model

    found, known, models = [], dict[tuple[str, str], Any](), dict[str, Any]()
    for folder in sorted(path.parent for path in (study / "cells").glob("[!.]*/seed-*/record.json")):
        record = Record.read(folder)
        if record.status != "done" or not healthy(record):
            continue
        name, spec = str(record.settings["model"]), str(record.settings["pack"])
        models.setdefault(name, None)
        if (name, spec) not in known:
            models[name] = models[name] or load_model(name)
            known[name, spec] = so.predict(spec, models[name], evidence=0, threads=1).associations
        measured = measured_rates(pq.read_table(folder / ANSWERS))
        for each in known[name, spec]:
            key = (each.then, each.given_answer)
            if each.kind is not None and key in measured:
                share, subjects = measured[key]
                names = {"study": study.name, "model": name, "pack": spec.removesuffix(".yaml").rpartition("/")[2]}
                ends = {"given_answer": each.given_answer, "then_answer": each.then_answer, "then": each.then}
                features = {feature: getattr(each, feature) for feature in (*FEATURES, "exposed", "opposed")}
                found.append({**names, "seed": record.seed, "kind": each.kind, **ends, **features,
                              "rate": share, "subjects": subjects})  # fmt: skip
    return found


def measured_rates(answers: pa.Table) -> dict[tuple[str, str], tuple[float, int]]:
    """(implied relation, given answer) -> share of questions whose top answer is the expected one, and their number.

    answers: record.ANSWER_SCHEMA of one run; its last checkpoint counts, on the trained prompt, and no tie at the top.
    """
    asked = questions(rank_table(answers_at_end(answers)))
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for key in dict.fromkeys(zip(asked.relation.tolist(), asked.cluster.tolist(), strict=True)):
        own = asked.only(relation=key[0], cluster=key[1])
        found[key] = (float((own.rank == 0).mean()), len(own))
    return found


def healthy(record: Record) -> bool:
    """Whether a run learned what was stated, and forgot at most half a nat a token."""
    ranks = [record.metrics[name]["value"] for name in STATED if record.metrics.get(name)]
    return max(ranks) <= LEARNED and record.metrics["forgetting_nats"]["value"] <= ALIVE


def family(pack: str) -> str:
    """Packs of one family share their answers: one is left out at a time."""
    return pack.split(":")[0]


def guesses(names: tuple[str, ...], rows: Rows, fits: Fits) -> np.ndarray:
    """The predicted rate of each row."""
    return np.array([rate(names, {name: float(row[name]) for name in names}, fits) for row in rows])


def fit(names: tuple[str, ...], columns: FeatureColumns, rates: np.ndarray) -> list[float]:
    """Coefficients of the logistic model of measured rates, one row for each association and run, weighted alike.

    No feature may lower a rate: one that would gets 0, and says nothing.
    """
    matrix = feature_matrix(names, columns)

    def loss(weights: np.ndarray) -> float:
        score = matrix @ weights
        return float(np.mean(np.logaddexp(0, score) - rates * score) + RIDGE * weights[1:] @ weights[1:])

    bounds = [(None, None), *[(0, None)] * len(names)]
    found = optimize.minimize(loss, np.zeros(matrix.shape[1]), method="L-BFGS-B", bounds=bounds,
                              options={"gtol": 1e-9, "ftol": 1e-13})  # fmt: skip
    return [round(float(value), 4) for value in found.x]


def fitted(rows: Rows) -> Fits:
    """Coefficients by joined names of features."""
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in FEATURES}
    rates = np.array([row["rate"] for row in rows])
    return {"+".join(names): fit(names, columns, rates) for names in FEATURE_SETS}


def figures(rows: Rows, fits: Fits) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Features -> figure -> value, low, high; of rivals also how much better the score is."""
    measured = np.array([row["rate"] for row in rows])
    pair = np.unique([f"{row['pack']}\t{row['given_answer']}" for row in rows], return_inverse=True)[1]
    members = [np.flatnonzero(pair == number) for number in range(pair.max() + 1)]
    generator = np.random.default_rng(0)
    draws = [np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
             for _ in range(RESAMPLES)]  # fmt: skip
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    first: dict[str, tuple[float, np.ndarray]] = {}
    for names in (OURS, *((name,) for name in FEATURES)):
        guess = guesses(names, rows, fits)
        found["+".join(names)] = own = {}
        for name, figure, sign in (("rank_correlation", _correlation, 1), ("mean_squared_error", _error, -1)):
            whole, values = figure(guess, measured), np.array([figure(guess[draw], measured[draw]) for draw in draws])
            ours, of_draws = first.setdefault(name, (whole, values))
            better = sign * (ours - whole), *np.quantile(sign * (of_draws - values), [0.025, 0.975])
            own[name] = (whole, *np.quantile(values, [0.025, 0.975]))
            own[f"{name}_ours_better_by"] = better
    return found


def _correlation(guess: np.ndarray, measured: np.ndarray) -> float:
    # Spearman's; scipy's own function also makes a p value, which takes most of its time. What says the same of all
    # orders nothing.
    if np.ptp(guess) == 0 or np.ptp(measured) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(guess), rankdata(measured))[0, 1])


def _error(guess: np.ndarray, measured: np.ndarray) -> float:
    return float(np.mean((guess - measured) ** 2))


def frozen(table: pa.Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """The calibration, and how it did on what it never saw, as the package keeps them."""
    every = table.to_pylist()
    families = [row for row in every if row["study"] == FAMILIES]
    rows = [row for row in families if row["model"] in FITTED]
    fits, names = fitted(rows), sorted({family(row["pack"]) for row in rows})
    measured, unseen = np.array([row["rate"] for row in rows]), {}
    for features in FEATURE_SETS:
        guess = np.zeros(len(rows))
        for name in names:
            own = np.array([family(row["pack"]) == name for row in rows])
            rest = fitted([row for row, out in zip(rows, own, strict=True) if not out])
            guess[own] = guesses(features, [row for row, out in zip(rows, own, strict=True) if out], rest)
        unseen["+".join(features)] = {
            "mean_squared_error": round(_error(guess, measured), 4),
            "rank_correlation": round(_correlation(guess, measured), 3),
        }
    calibration = {
        "models": list(FITTED),
        "model_types": list(FITTED.values()),
        "recipe": "embeddings frozen, AdamW at each model's own rate and passes",
        "rows": len(rows),
        "packs": names,
        "fits": fits,
        "each_family_left_out": unseen,
    }
    third, never = judged_rows(every)
    return calibration, {"third_model": judgement(third, fits), "never_seen": judgement(never, fits)}


def judged_rows(every: Rows) -> tuple[Rows, Rows]:
    """The rows of the third model, and those of packs that were never seen."""
    third = [row for row in every if row["study"] == FAMILIES and row["model"] == THIRD]
    return third, [row for row in every if row["study"] != FAMILIES]


def judgement(rows: Rows, fits: Fits) -> dict[str, Any]:
    """How the score and its rivals did on these rows; the empty one without any."""
    if not rows:
        return {}
    rounded = {
        name: {figure: [round(float(part), 3) for part in value] for figure, value in own.items()}
        for name, own in figures(rows, fits).items()
    }
    pairs = len({(row["pack"], row["given_answer"]) for row in rows})
    models = sorted({row["model"] for row in rows})
    return {
        "rows": len(rows),
        "packs": len({row["pack"] for row in rows}),
        "pairs": pairs,
        "models": models,
        "figures": rounded,
    }


def by_score(rows: Rows, fits: Fits, edges: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8, 1)) -> list[str]:
    """Of the associations with a predicted rate in each band, the mean prediction and the mean rate."""
    guess, measured = guesses(OURS, rows, fits), np.array([row["rate"] for row in rows])
    lines = []
    for low, high in itertools.pairwise(edges):
        own = (guess >= low) & (guess < high if high < 1 else guess <= 1)
        if own.any():
            lines.append(f"  predicted {low:.1f} to {high:.1f}: {own.sum():3d} associations and runs, "
                         f"predicted {guess[own].mean():.2f}, measured {measured[own].mean():.2f}")  # fmt: skip
    return lines


if __name__ == "__main__":
    if sys.argv[1:]:
        write_table(KEPT, pa.Table.from_pylist([row for study in sys.argv[1:] for row in rows_of(Path(study))]))
    kept = pq.read_table(KEPT)
    calibrated, judged = frozen(kept)
    for path, outcome in ((FROZEN, calibrated), (HELD_OUT, judged)):
        write_atomically(path, (json.dumps(outcome, indent=1) + "\n").encode())
        print(json.dumps(outcome, indent=1))
    for name, rows in zip(judged, judged_rows(kept.to_pylist()), strict=True):
        print(name, *(by_score(rows, calibrated["fits"]) if rows else ["none"]), sep="\n")
