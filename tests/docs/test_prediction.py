"""The frozen score is what the kept numbers give, and the packs of its test are what their file makes."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spillover.packs.open import open_pack

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.prediction import compare, make_packs  # noqa: E402
from tools import calibrate  # noqa: E402


def test_the_frozen_score_is_what_the_kept_numbers_give():
    kept = json.loads(calibrate.FROZEN.read_text(encoding="utf-8"))
    again = calibrate.frozen(pq.read_table(calibrate.KEPT))
    assert {**again, "fits": None, "each_family_left_out": None} == {**kept, "fits": None, "each_family_left_out": None}
    for name, weights in kept["fits"].items():
        assert again["fits"][name] == pytest.approx(weights, abs=2e-3), "run python tools/calibrate.py"
        assert again["each_family_left_out"][name] == pytest.approx(kept["each_family_left_out"][name], abs=2e-3)


def test_the_kept_numbers_hold_no_pack_of_the_test():
    calibrated = {calibrate.family(name) for name in pq.read_table(calibrate.KEPT)["pack"].to_pylist()}
    assert not calibrated & {plan.name for plan in make_packs.PLANS} and len(calibrated) >= 5


def test_the_packs_are_those_that_their_file_makes():
    made = make_packs.texts()
    assert {path.name for path in make_packs.FOLDER.glob("*.yaml")} == set(made)
    for name, text in made.items():
        assert (make_packs.FOLDER / name).read_text(encoding="utf-8") == text, "run make_packs.py"
        assert open_pack(make_packs.FOLDER / name).questions


@pytest.mark.slow
def test_the_frozen_figures_of_the_test_are_what_the_kept_numbers_give():
    kept = json.loads(compare.FROZEN.read_text(encoding="utf-8"))
    again = compare.frozen(pq.read_table(compare.KEPT))
    assert {**again, "figures": None} == {**kept, "figures": None}
    for name, own in kept["figures"].items():
        for figure, values in own.items():
            assert again["figures"][name][figure] == pytest.approx(values, abs=2e-3), "run compare.py"


@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_figures_of_a_tiny_test_by_hand(monkeypatch):
    """Three pairs, each with its own rate; ours orders them rightly, the support wrongly."""
    monkeypatch.setattr(compare, "RESAMPLES", 300)
    rows = [
        {"pack": "p", "given_answer": name, "rate": rate, "support": support, "margin": margin, "prior": 0.5}
        for name, rate, support, margin in (("a", 0.1, 9, -1.0), ("b", 0.5, 4, 0.0), ("c", 0.9, 1, 1.0))
    ]
    found = compare.figures(rows)
    assert found["margin+prior"]["rank_correlation"][0] == 1 and found["support"]["rank_correlation"][0] == -1
    assert found["support"]["rank_correlation_ours_better_by"][0] == 2
