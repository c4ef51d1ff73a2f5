"""The frozen score is what the kept numbers give, and the packs of its test are what their file makes."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spillover.packs.open import open_pack

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
