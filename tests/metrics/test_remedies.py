"""When a remedy is safe: every condition, and no rounding error; and what was measured of each, as advice cites it."""

import pytest

from spillover.details import RepairSide
from spillover.metrics.remedies import (
    FAILED,
    LEARNED,
    REWRITES,
    UNLEARNED,
    MeasuredRemedy,
    Trial,
    advised,
    caveat,
    is_safe,
    keeps_wanted,
    measured,
    measured_of,
    weighed,
)
from spillover.record import Metric


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


def trial(**changes):
    own = {"study": "results/one", "model": "m", "pack": "mixed:names=60", "seeds": 3, "status": LEARNED,
           "unwanted": (0.8, 0.12), "wanted": (1.0, 0.91), "stated": (0.0, 0.0), "forgetting": (3.0, 1.0),
           "safe": False}  # fmt: skip
    return Trial(**own | changes)


def test_a_remedy_is_cited_with_what_was_measured_and_where():
    assert trial().gain == pytest.approx(0.68 - 0.09)
    assert trial(wanted=(0.5, 0.7)).gain == pytest.approx(0.68), "a wanted rate that rises is no gain"
    assert trial(wanted=None).gain == pytest.approx(0.68)
    one = MeasuredRemedy("lazier=4", "", False, [trial()])
    assert one.cited == (
        "lazier=4: unwanted 0.80 -> 0.12, wanted 1.00 -> 0.91, forgotten nats 3.00 -> 1.00 (results/one, m, 3 seeds)"
    )
    two = MeasuredRemedy("lazier=4", "", False, [trial(), trial(study="results/two", pack="b", wanted=None, seeds=1)])
    assert two.found == (
        "unwanted 0.80 -> 0.12, wanted 1.00 -> 0.91, forgotten nats 3.00 -> 1.00 on mixed; "
        "unwanted 0.80 -> 0.12, forgotten nats 3.00 -> 1.00 on b (results/one, results/two, m, 1 seed)"
    )
    assert one.repeated and not two.repeated and not MeasuredRemedy("a", "", False, [trial(status=REWRITES)]).repeated


def test_those_that_are_named_were_repeated_and_gained_and_the_models_they_were_tried_on_are_told():
    training, (finished,) = advised(after=False), advised(after=True)
    assert training[0].label == "stay-near-base=1" and finished.label == "off-groups=1"
    assert finished.alive and not training[0].alive, "what was tried on living models goes before what was not"
    assert any(each.control for each in measured().values()) and not finished.control
    assert len({trial.on for trial in training[0].trials}) == 3
    for each in (*training, finished):
        assert each.repeated and each.gain > 0 and each.does and all(trial.unwanted[0] > 0 for trial in each.trials)
    gains = [each.gain for each in measured().values()]
    assert gains == sorted(gains, reverse=True)
    # As results/README.md tells it: 0.67 to 0.30, at three seeds.
    assert measured_of("abstention").trials[0].unwanted == (0.667, 0.3)
    assert caveat().startswith("None of the 14 that were repeated was safe (removes 90% of the unwanted, ")
    assert "had wrecked the models of 7 of them (2.2 to 3.1 nats a token forgotten)" in caveat()


def side(hits=10, facts=0.0, links=0.06, wanted=1.0, forgets=0.2, n=26):
    """A model before or after a repair: `hits` unwanted conclusions of `n` asked."""
    shares = {"unwanted_rate": hits / n, "wanted_rate": wanted}
    values = {name: (value, n, "share") for name, value in shares.items()}
    values |= {"recall_rank": (facts, 9, "rank"), "implication_rank_train": (links, 9, "rank"),
               "forgetting_nats": (forgets, 99, "nats")}  # fmt: skip
    metrics = {name: Metric(value, None, None, many, 5, unit).as_json() for name, (value, many, unit) in values.items()}
    return RepairSide.model_validate({"verdicts": [], **metrics})


@pytest.mark.parametrize(
    ("before", "after", "removed", "worth", "said"),
    [
        # 10 to 9 of 26, where 10/3 of 26 are chance: 1 of 6.67 above it, and the stated implications are gone.
        (side(), side(9, links=0.75), 0.15, False,
         "not worth it: 1 of 10 unwanted conclusions is gone (10 to 9 of 26 asked, 15% of what is above chance); "
         "worse are rank of stated links 0.06 -> 0.75."),
        (side(), side(2), 0.95, True,
         "worth it: 8 of 10 unwanted conclusions are gone (10 to 2 of 26 asked, 95% of what is above chance); "
         "nothing measured got worse."),
        # 8 of 26 is 0.31 of the unwanted, which is more than 0.2 of the wanted.
        (side(), side(2, wanted=0.8), 0.95, True,
         "worth it, at a cost: 8 of 10 unwanted conclusions are gone (10 to 2 of 26 asked, 95% of what is above "
         "chance); worse are wanted conclusions 1.00 -> 0.80."),
        (side(), side(2, wanted=0.6), 0.95, False,
         "not worth it: 8 of 10 unwanted conclusions are gone (10 to 2 of 26 asked, 95% of what is above chance); "
         "worse are wanted conclusions 1.00 -> 0.60."),
        (side(), side(2, forgets=0.6), None, False,
         "not worth it: 8 of 10 unwanted conclusions are gone (10 to 2 of 26 asked); "
         "worse are loss on plain text, nats a token 0.20 -> 0.60."),
        (side(), side(9), None, False,
         "not worth it: 1 of 10 unwanted conclusions is gone (10 to 9 of 26 asked); nothing measured got worse."),
        (side(0), side(0, facts=0.3), None, False,
         "not worth it: nothing unwanted was concluded before; worse are rank of stated facts 0.00 -> 0.30."),
    ],
)  # fmt: skip
def test_a_repair_is_weighed_in_a_sentence(before, after, removed, worth, said):
    share = None if removed is None else Metric(removed, None, None, 26, 5, "share")
    found = weighed(before, after, share)
    assert (found.worth, found.said) == (worth, said)
