"""When a remedy is safe: every condition, and no rounding error."""

import pytest

from spillover.metrics.remedies import FAILED, LEARNED, REWRITES, UNLEARNED, is_safe, keeps_wanted


@pytest.mark.parametrize(
    ("status", "removed", "change", "taken", "safe"),
    [
        (LEARNED, 0.9, -0.05, False, True),
        (LEARNED, 1.2, None, False, True),
        (LEARNED, 0.89, 0.0, False, False),
        (LEARNED, None, 0.0, False, False),
        (LEARNED, 1.0, -0.06, False, False),
        (LEARNED, 1.0, 0.0, True, False),
        (UNLEARNED, 1.0, 0.0, False, False),
        (REWRITES, 1.0, 0.0, False, False),
        (f"{FAILED}: no room", 1.0, 0.0, False, False),
    ],
)
def test_every_condition_counts(status, removed, change, taken, safe):
    assert is_safe(status, removed, change, taken) == safe


def test_the_last_digits_of_a_difference_decide_nothing():
    assert 0.85 - 0.9 < -0.05, "as floats"
    assert keeps_wanted(0.85 - 0.9)
