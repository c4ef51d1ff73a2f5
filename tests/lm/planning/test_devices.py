"""Devices by name and by description."""

import pytest

from spillover.errors import UsageError
from spillover.lm.plan import COMPUTING, CONTEXT, MOVING, device


def test_by_name_and_changed():
    card = device("a100-80")
    assert card.memory == pytest.approx(84.9e9 - CONTEXT) and card.bfloat16 == pytest.approx(312e12 * COMPUTING)
    part = device("a100-80", memory=20.0, bandwidth=1000.0)
    assert part.memory == 20e9 - CONTEXT and part.bandwidth == 1e12 * MOVING and part.bfloat16 == card.bfloat16
    here = device("cpu", room=5)
    assert here.processor and here.memory == 5 and device("cpu", memory=8.0, room=5).memory == 8e9


def test_described():
    own = device("", memory=100.0, tflops=200.0, bandwidth=3000.0)
    assert (own.memory, own.float32, own.bandwidth) == (100e9 - CONTEXT, 200e12 * COMPUTING, 3e12 * MOVING)
    assert not own.processor and not own.measured


def test_unknown_or_half_described():
    with pytest.raises(UsageError, match=r"no device called 'h100'\. Did you mean 'h100-80'"):
        device("h100")
    with pytest.raises(UsageError, match="this describes no whole device"):
        device("", memory=80.0)
