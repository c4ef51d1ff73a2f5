"""Calibrates the score of `predict`: fits measured spillover to margin, prior and support, and freezes the result.

    python tools/calibrate.py results/paper-270m    # grounds and measured rates of a study's runs, then the fits
    python tools/calibrate.py                       # the fits again, from docs/results/calibration.parquet

The study's runs on other learning rates, or with the embeddings trained, are left out. A test repeats the second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from spillover.metrics.associations import FEATURE_SETS, feature_matrix, fit, measured_rates
from spillover.record import ANSWERS, Record, write_atomically, write_table

ROOT = Path(__file__).resolve().parents[1]
MODEL = "gemma-3-270m"
KEPT, FROZEN = ROOT / "docs/results/calibration.parquet", ROOT / "src/spillover/metrics/calibration.json"


def rows_of(study: Path) -> list[dict[str, Any]]:
    """One row a run and association: what predict says of it, and the rate that was measured."""
    import spillover as so
    from spillover.lm.load import load_model

    found: list[dict[str, Any]] = []
    model = load_model(MODEL)
    for folder in sorted(path.parent for path in (study / "cells").glob("[!.]*/seed-*/record.json")):
        if "_" in folder.parent.name:
            continue
        record = Record.read(folder)
        spec = str(record.settings["pack"])
        measured = measured_rates(pq.read_table(folder / ANSWERS))
        for each in so.predict(spec, model, seed=record.seed, evidence=0).associations:
            key = (each.then, each.given_answer)
            if each.kind is not None and key in measured:
                rate, subjects = measured[key]
                grounds = {name: getattr(each, name) for name in ("support", "opposed", "exposed", "margin", "prior")}
                names = {"cell": folder.parent.name, "pack": spec, "seed": record.seed, "kind": each.kind}
                ends = {"given_answer": each.given_answer, "then_answer": each.then_answer}
                found.append({**names, **ends, **grounds, "rate": rate, "subjects": subjects})
    return found


def family(pack: str) -> str:
    """Packs of one family share their answers: one is left out at a time."""
    return pack.split(":")[0]


def frozen(table: pa.Table) -> dict[str, Any]:
    """The fits, and how well each does on families of packs that it has not seen."""
    columns = {name: np.asarray(table[name].to_pylist(), dtype=np.float64) for name in ("margin", "prior", "support")}
    rates = table["rate"].to_numpy()
    families = np.array([family(name) for name in table["pack"].to_pylist()])
    fits, unseen = {}, {}
    for grounds in FEATURE_SETS:
        name = "+".join(grounds)
        fits[name] = fit(grounds, columns, rates)
        guessed = np.zeros(len(rates))
        for left_out in np.unique(families):
            rest, out = families != left_out, families == left_out
            weights = fit(grounds, {key: values[rest] for key, values in columns.items()}, rates[rest])
            score = feature_matrix(grounds, {key: values[out] for key, values in columns.items()}) @ np.asarray(weights)
            guessed[out] = 1 / (1 + np.exp(-score))
        unseen[name] = {
            "mean_squared_error": round(float(np.mean((guessed - rates) ** 2)), 4),
            "rank_correlation": round(float(spearmanr(guessed, rates)[0]), 3),
        }
    return {
        "models": [MODEL],
        "model_types": ["gemma3_text"],
        "recipe": "embeddings frozen, AdamW at 5e-5, 10 epochs",
        "rows": len(rates),
        "packs": sorted(set(families.tolist())),
        "fits": fits,
        "each_family_left_out": unseen,
    }


if __name__ == "__main__":
    if sys.argv[1:]:
        write_table(KEPT, pa.Table.from_pylist(rows_of(Path(sys.argv[1]))))
    outcome = frozen(pq.read_table(KEPT))
    write_atomically(FROZEN, (json.dumps(outcome, indent=1) + "\n").encode())
    print(json.dumps(outcome, indent=1))
