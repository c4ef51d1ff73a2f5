"""The frozen score is what the kept numbers give, and the packs of its test are what their file makes."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import optimize

from spillover.metrics.associations import feature_matrix
from spillover.packs.open import open_pack
from spillover.record import ANSWER_SCHEMA

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.prediction import make_packs  # noqa: E402
from tools import calibrate  # noqa: E402


@pytest.fixture(scope="module")
def kept():
    return pq.read_table(calibrate.KEPT)


def close(found, expected):
    """Whether two JSON values are equal, numbers to a few thousandths."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(close(found[key], value) for key, value in expected.items())
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == (pytest.approx(expected, abs=3e-3) if isinstance(expected, float) else expected)


@pytest.mark.slow
def test_what_is_frozen_is_what_the_kept_numbers_give(kept):
    for path, again in zip((calibrate.FROZEN, calibrate.HELD_OUT), calibrate.frozen(kept), strict=True):
        assert close(json.loads(path.read_text(encoding="utf-8")), again), "run python tools/calibrate.py"


def test_nothing_judges_the_score_that_it_was_fitted_on(kept):
    rows = kept.to_pylist()
    fitted = {
        (row["study"], row["model"]) for row in rows if row["study"] == "families" and row["model"] in calibrate.FITTED
    }
    third, never = calibrate.judged_rows(rows)
    assert {row["model"] for row in third} == {calibrate.THIRD} and calibrate.THIRD not in {
        model for _, model in fitted
    }
    packs = {calibrate.family(row["pack"]) for row in rows if row["study"] == "families"}
    assert len(packs) >= 5 and not packs & {calibrate.family(row["pack"]) for row in never}
    assert not packs & {plan.name for plan in make_packs.PLANS}


def test_the_packs_are_those_that_their_file_makes():
    made = make_packs.texts()
    assert {path.name for path in make_packs.FOLDER.glob("*.yaml")} == set(made)
    for name, text in made.items():
        assert (make_packs.FOLDER / name).read_text(encoding="utf-8") == text, "run make_packs.py"
        assert open_pack(make_packs.FOLDER / name).questions


def test_the_figures_of_a_tiny_test_by_hand(monkeypatch):
    """Three pairs, each with its own rate; ours orders them rightly, the support wrongly."""
    monkeypatch.setattr(calibrate, "RESAMPLES", 300)
    rows = [
        {
            "pack": "p",
            "given_answer": name,
            "rate": rate,
            "support": support,
            "margin": margin,
            "prior": 0.5,
            "lift": 0.0,
        }
        for name, rate, support, margin in (("a", 0.1, 9, -1.0), ("b", 0.5, 4, 0.0), ("c", 0.9, 1, 1.0))
    ]
    fits = {"margin+prior+lift": [0.0, 1.0, 1.0, 1.0], **{name: [0.0, 1.0] for name in calibrate.FEATURES}}
    found = calibrate.figures(rows, fits)
    assert found["margin+prior+lift"]["rank_correlation"][0] == 1 and found["support"]["rank_correlation"][0] == -1
    assert found["support"]["rank_correlation_ours_better_by"][0] == 2


def test_the_fit_is_the_least_of_its_loss():
    generator = np.random.default_rng(0)
    columns = {"margin": generator.uniform(-1, 1, 60), "prior": generator.uniform(0, 1, 60)}
    rates = np.round(
        np.clip(0.4 + 0.2 * columns["margin"] + 0.2 * columns["prior"] + generator.normal(0, 0.1, 60), 0, 1), 2
    )
    found = calibrate.fit(("margin", "prior"), columns, rates)
    matrix = feature_matrix(("margin", "prior"), columns)

    def loss(weights):
        chance = 1 / (1 + np.exp(-matrix @ weights))
        likelihood = rates * np.log(chance) + (1 - rates) * np.log(1 - chance)
        return -likelihood.mean() + calibrate.RIDGE * (weights[1:] ** 2).sum()

    peer = optimize.minimize(loss, np.ones(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x
    np.testing.assert_allclose(found, peer, atol=2e-3)


def test_what_would_lower_a_rate_says_nothing():
    margin = np.linspace(-1, 1, 20)
    constant, weight = calibrate.fit(("margin",), {"margin": margin}, 0.5 - 0.3 * margin)
    assert (round(constant, 3), weight) == (0, 0)


def answers(rows):
    """(checkpoint, subject, given answer, expected, candidate -> log-probability) as an answers table."""
    found = []
    for checkpoint, subject, cluster, expected, candidates in rows:
        for candidate, value in candidates.items():
            found.append({"seed": 0, "checkpoint": checkpoint, "subject": subject, "relation": "q",
                          "implication": "r->q", "cluster": cluster, "prompt": "?", "trained": True,
                          "candidate": candidate, "log_probability": value, "expected": expected,
                          "stated": False})  # fmt: skip
    return pa.Table.from_pylist(found, schema=ANSWER_SCHEMA)


def test_rates_are_counted_at_the_last_checkpoint_and_a_tie_is_no_answer():
    table = answers([
        (0, "ann", "x", "u", {"u": -1.0, "v": -2.0}), (0, "ben", "x", "u", {"u": -1.0, "v": -2.0}),
        (3, "ann", "x", "u", {"u": -1.0, "v": -2.0}), (3, "ben", "x", "u", {"u": -3.0, "v": -2.0}),
        (3, "cat", "x", "u", {"u": -2.0, "v": -2.0}), (3, "dan", "y", "v", {"u": -4.0, "v": -2.0}),
    ])  # fmt: skip
    assert calibrate.measured_rates(table) == {("q", "x"): (pytest.approx(1 / 3), 3), ("q", "y"): (1.0, 1)}
