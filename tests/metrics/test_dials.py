"""Which dial turns a conclusion: by hand on two families of which one forgets as the other, at ten times the rate."""

import pytest

from spillover.metrics.dials import Turn, gap, order, third_family, third_family_guess


def turns(shares=(0.2, 0.4, 0.8), seeds=(0, 1, 2), families=(("a", 1e-5), ("b", 1e-4))):
    """Shares at three rates, each twice the one before; forgetting and distance follow the share in every family."""
    return [
        Turn(family, "x", seed, share, {"learning rate": rate * 2**step, "forgetting": lost, "distance moved": 0.01})
        for family, rate in families
        for step, (share, lost) in enumerate(zip(shares, (0.1, 0.3, 1.0), strict=True))
        for seed in seeds
    ]  # fmt: skip


def test_forgetting_foretells_the_other_family_and_the_rate_does_not():
    found = turns()
    assert third_family(found, "forgetting").value == pytest.approx(0, abs=1e-12)
    # Every rate of a is below b's least (share 0.2), and the other way round (0.8): a is off by 0, 0.2 and 0.6, b by
    # 0.6, 0.4 and 0.
    assert third_family(found, "learning rate").value == pytest.approx(0.3)
    # The mean share is 7/15: (4/15 + 1/15 + 5/15) / 3.
    assert third_family_guess(found).value == pytest.approx(2 / 9)
    # Where a dial never moves, it says what a guess says.
    assert third_family(found, "distance moved").value == pytest.approx(2 / 9)
    apart = gap(found, "learning rate", "forgetting")
    assert apart.value == pytest.approx(0.3) and apart.low == pytest.approx(0.3) and apart.clusters == 3
    assert "few" in apart.note


def test_a_falling_share_is_no_dial_and_goes_against_it():
    found = turns((0.8, 0.4, 0.2))
    assert order(found, "forgetting").value == pytest.approx(-1)
    # The best rising curve through what falls is flat.
    assert third_family(found, "forgetting").value == pytest.approx((5 + 1 + 4) / 45)


def test_between_two_values_the_curve_is_read_on_a_logarithm():
    a = [Turn("a", "x", 0, share, {"forgetting": at}) for share, at in ((0.0, 0.01), (1.0, 1.0))]
    b = [Turn("b", "x", 0, 0.5, {"forgetting": 0.1})]
    # 0.1 lies half way from 0.01 to 1, so b is foretold as it is; a by b's one point is off by a half.
    assert third_family(a + b, "forgetting").value == pytest.approx((0.0 + 0.5) / 2)
    # A loss that fell forgot nothing: it stands where the curve begins.
    fell = [Turn("b", "x", 0, 0.0, {"forgetting": -0.3})]
    assert third_family(a + fell, "forgetting").value == pytest.approx((0.0 + 0.5) / 2)


def test_one_family_foretells_none_and_two_points_have_no_order():
    assert third_family(turns(families=(("a", 1e-5),)), "forgetting") is None
    two = [turn for turn in turns() if turn.share != 0.4]
    assert order(two, "forgetting") is None and order([], "forgetting") is None
