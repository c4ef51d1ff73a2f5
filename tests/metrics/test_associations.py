"""The calibrated score: by hand, against an independent optimum, and frozen as it was fitted."""

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize

from spillover.metrics import associations as scores
from spillover.metrics.associations import measured_rates
from spillover.record import ANSWER_SCHEMA


def test_a_rate_by_hand():
    fits = {"margin+prior": [0.5, 2.0, 0.5]}
    # A prior of 0.2 has log-odds log(1/4).
    expected = 1 / (1 + math.exp(-(0.5 + 2.0 * 0.5 + 0.5 * math.log(0.25))))
    found = scores.rate(("margin", "prior"), {"margin": 0.5, "prior": 0.2}, fits)
    assert found == pytest.approx(expected)
    # Beliefs beyond the least are taken as the least; a count enters by log(1 + count).
    assert scores.rate(("prior",), {"prior": 0.0}, {"prior": [0.0, 1.0]}) == pytest.approx(0.001)
    assert scores.rate(("support",), {"support": 3.0}, {"support": [0.0, 1.0]}) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("margin", "prior", "grounds"),
    [(0.5, 0.1, ("margin", "prior")), (0.5, None, ("margin",)), (None, 0.1, ("support", "prior")),
     (None, None, ("support",))],
)  # fmt: skip
def test_the_best_grounds_at_hand_are_taken(margin, prior, grounds):
    assert scores.best_features(margin, prior) == grounds and grounds in scores.FEATURE_SETS


def test_the_fit_is_the_least_of_its_loss():
    generator = np.random.default_rng(0)
    columns = {"margin": generator.uniform(-1, 1, 60), "prior": generator.uniform(0, 1, 60)}
    rates = np.round(generator.uniform(0, 1, 60), 2)
    found = scores.fit(("margin", "prior"), columns, rates)
    matrix = scores.feature_matrix(("margin", "prior"), columns)

    def loss(weights):
        chance = 1 / (1 + np.exp(-matrix @ weights))
        likelihood = rates * np.log(chance) + (1 - rates) * np.log(1 - chance)
        return -likelihood.mean() + scores.RIDGE * (weights[1:] ** 2).sum()

    peer = optimize.minimize(loss, np.ones(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x
    np.testing.assert_allclose(found, peer, atol=2e-3)


def test_more_margin_and_more_belief_never_lower_the_frozen_score():
    for grounds in scores.FEATURE_SETS:
        assert all(weight > 0 for weight in scores.calibration()["fits"]["+".join(grounds)][1:]), grounds


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
    assert measured_rates(table) == {("q", "x"): (pytest.approx(1 / 3), 3), ("q", "y"): (1.0, 1)}
