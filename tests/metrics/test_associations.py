"""The calibrated score by hand, and what it was calibrated on."""

import math

import pyarrow as pa
import pytest

from spillover.metrics import associations as scores
from spillover.metrics.associations import calibrated_on, calibration, measured_open, surprise
from spillover.metrics.ranks import rank_table
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
    ("margin", "asked", "grounds"),
    [(0.5, {"prior": 0.1, "lift": 0.2}, ("margin", "prior", "lift")), (0.5, {}, ("margin",)),
     (None, {"prior": 0.1, "lift": 0.2}, ("support", "prior", "lift")), (None, {}, ("support",))],
)  # fmt: skip
def test_the_best_grounds_at_hand_are_taken(margin, asked, grounds):
    assert scores.best_features({"margin": margin, "support": 4.0, **asked}) == grounds


def test_more_margin_and_more_belief_never_lower_the_frozen_score():
    fits = scores.calibration()["fits"]
    assert all(weight >= 0 for grounds in scores.FEATURE_SETS for weight in fits["+".join(grounds)][1:])
    assert all(weight > 0 for weight in fits["margin+prior+lift"][1:])


def test_what_nobody_declared_is_counted_where_all_holes_were_asked():
    """Of x's holders ann says v newly, ben said so before, cat says u; dan holds y, and eve's v is stated."""

    def asked(checkpoint, subject, relation, expected, stated, first):
        for candidate in "uvxy":
            yield {"seed": 0, "checkpoint": checkpoint, "subject": subject, "relation": relation, "implication": None,
                   "cluster": None, "prompt": f"{subject} {relation}", "trained": True, "candidate": candidate,
                   "log_probability": -1.0 if candidate == first else -2.0, "expected": expected,
                   "stated": stated}  # fmt: skip

    given = {"ann": "x", "ben": "x", "cat": "x", "dan": "y", "eve": "x"}
    tops = {"ann": "uv", "ben": "vv", "cat": "vu", "dan": "vv"}
    rows = [row for checkpoint in (0, 1) for who, answer in given.items()
            for row in asked(checkpoint, who, "r", answer, True, answer)]  # fmt: skip
    rows += [row for checkpoint in (0, 1) for who, top in tops.items()
             for row in asked(checkpoint, who, "q", None, False, top[checkpoint])]  # fmt: skip
    rows += [row for checkpoint in (0, 1) for row in asked(checkpoint, "eve", "q", "v", True, "v")]
    table = rank_table(pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA))
    links = [("r", "x", "q", "v"), ("r", "y", "q", "u"), ("q", "v", "r", "x")]
    assert measured_open(table, links) == {links[0]: (3, 2, 1), links[1]: (1, 0, 0)}


@pytest.mark.parametrize(
    ("share", "n", "hits", "found"),
    # 12 of 16 foretold, 5 measured, at a deviation of the root of 16 * 0.75 * 0.25 = 3; 50 of 100 at one of 5.
    [(0.75, 16, 5, 7 / math.sqrt(3)), (0.5, 100, 40, 2.0), (0.5, 100, 60, 2.0), (0.5, 4, 2, 0.0),
     (0.0, 10, 1, 1 / math.sqrt(10 * 0.001 * 0.999))],
)  # fmt: skip
def test_surprise_by_hand(share, n, hits, found):
    assert surprise(share, n, hits) == pytest.approx(found)


def test_a_score_says_what_it_was_calibrated_on():
    frozen = {"models": ["one-1b", "two-2b"], "model_types": ["one", "two"], "recipe": "5 epochs", "packs": ["a", "b"]}
    same, other, none = (calibrated_on(asked, frozen) for asked in ("two", "three", None))
    assert same.words == (
        "calibrated on one-1b, two-2b (5 epochs; packs a, b); another recipe shifts all numbers together"
    )
    assert other.words == (
        "calibrated on one-1b, two-2b only (5 epochs; packs a, b); for other models read the order, not the number"
    )
    assert none.words == other.words and (same.same_type, other.same_type, none.same_type) == (True, False, None)
    assert (same.models, same.packs, same.recipe) == (["one-1b", "two-2b"], ["a", "b"], "5 epochs")
    assert calibrated_on("gemma3_text").same_type and set(calibrated_on().packs) == set(calibration()["packs"])
