"""When a remedy is safe: every condition, and no rounding error; and what was measured of each, as advice cites it."""

import pyarrow as pa
import pytest

from spillover.details import RepairSide
from spillover.interventions.base import remedies
from spillover.metrics.remedies import (
    FAILED,
    LEARNED,
    REWRITES,
    UNLEARNED,
    MeasuredRemedy,
    Trial,
    advised,
    asked_again_said,
    caveat,
    effect,
    is_safe,
    keeps_wanted,
    measured,
    measured_of,
    nothing_to_remove,
    out_of_reach,
    remedy_result,
    still_there,
    weighed,
)
from spillover.packs.pack import Implication, Pack
from spillover.record import ANSWER_SCHEMA, Metric


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


def answered(hits, ways=()):
    """Answers of three pairs of eight subjects each, of whom `hits` of each pair get the implied answer and the others
    that of the next pair; and the same asked in other ways. ways: way -> its hits."""
    pairs = {"Paris": "Java", "Rome": "Lisp", "Tokyo": "Perl"}
    answers = [*pairs.values()]

    def table(count, prompt, **more):
        rows = []
        for place, (city, answer) in enumerate(pairs.items()):
            for number in range(8):
                top = answer if number < count else answers[(place + 1) % 3]
                for candidate in answers:
                    rows.append({
                        "seed": 0, "checkpoint": 1, "subject": f"{city} {number}", "relation": "codes_in",
                        "implication": "lives_in->codes_in", "cluster": city, "prompt": prompt,
                        "trained": prompt == "plain", "candidate": candidate,
                        "log_probability": 0.0 if candidate == top else -1.0, "expected": answer, "stated": False,
                        **more,
                    })  # fmt: skip
        return rows

    again = [row for way, count in dict(ways).items() for row in table(count, way, way=way)]
    schema = ANSWER_SCHEMA.append(pa.field("way", pa.string()))
    return pa.Table.from_pylist(table(hits, "plain"), ANSWER_SCHEMA), pa.Table.from_pylist(again, schema)


def result(hits, **ways):
    rule = Implication("lives_in", "codes_in", "spurious", {"Paris": "Java", "Rome": "Lisp", "Tokyo": "Perl"})
    table, again = answered(hits, ways)
    return remedy_result(table, Pack("p", "", "", (), (), (rule,)), again=again)


def test_what_is_removed_in_one_way_of_asking_and_not_in_another_has_only_moved():
    untreated = result(8, negated=8, keyword=8, free_text=2)
    treated = result(3, negated=7, keyword=3, free_text=1)
    found = effect(untreated, treated)
    # From 1 to 3 of 8, where a third is a guess; of 2 of 8 in free text nothing was to be removed.
    assert found["removed"].value == pytest.approx((1 - 3 / 8) / (1 - 1 / 3))
    assert found["removed_negated"].value == pytest.approx((1 / 8) / (2 / 3)) and found["removed_free_text"] is None
    assert "removed_irrelevant" not in found or found["removed_irrelevant"] is None
    assert treated.metrics["unwanted_rate_negated"].value == pytest.approx(7 / 8)
    measured = RepairSide.model_validate(
        {"verdicts": [], **{key: value and value.as_json() for key, value in found.items()}}
    )
    assert still_there(measured) == ["negated"]
    assert asked_again_said(measured) == (
        "removed when asked plainly (94%), still there when asked negated (19% removed)"
    )
    assert is_safe(LEARNED, 0.94, 0.0, False) and not is_safe(LEARNED, 0.94, 0.0, False, still_there(measured))


def test_where_a_guess_is_in_the_interval_there_is_nothing_to_remove():
    def rate(value, low):
        return Metric(value, low, 1.0, 40, 5, "share")

    assert nothing_to_remove(rate(0.22, 0.11), 0.2) and not nothing_to_remove(rate(0.42, 0.31), 0.2)
    assert nothing_to_remove(rate(0.1, None), 0.2) and not nothing_to_remove(None, 0.2)
    found = effect(result(2), result(8))
    assert found["removed"] is None


def test_remedies_are_out_of_reach_by_name():
    assert {"early-stopping", "spectral-clip"} <= set(out_of_reach()) <= set(remedies())
    assert not {"stay-near-base", "off-groups", "scale-back", "told-in-prompt"} & set(out_of_reach())


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
