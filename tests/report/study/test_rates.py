"""Every seed is read when it has just learned what was stated."""

from dataclasses import replace

import pytest

from spillover.report.study_data import chosen_rates, rate_points, scientific, trend


def test_each_seed_at_its_own_first_learned_checkpoint(study):
    points = rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow", "never")])
    assert [point.rate for point in points] == [1e-5, 5e-5, 1e-4]
    slow, base, never = points
    # The stated rows are known from the second pass on; seed 0 ends there, where its questions are answered too.
    assert [(s.epoch, s.learned) for s in slow.seeds] == [(2, True)] * 3
    assert [s.rank for s in slow.seeds] == pytest.approx([4.4 / 8, 4.4, 4.4])
    assert (slow.epochs, slow.unlearned, slow.rank.clusters) == ("2", "", 15)
    # At the default rate the first pass is enough, long before the unstated is answered.
    assert (base.epochs, base.mean) == ("1", pytest.approx(4.4))
    assert (never.epochs, never.unlearned, never.learned) == ("4", " (3 of 3 seeds never learned)", False)
    assert (base.recall.value, base.stated.value) == (0, 0)


def test_the_trend_is_between_the_outer_rates(study):
    (sentence,) = trend(rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow")]))
    assert sentence.startswith("city-language: when the stated rows are learned, the mean rank goes from 3.12 at 1e−5")
    assert sentence.endswith("the intervals overlap.")
    assert trend([]) == []


@pytest.mark.parametrize(("rate", "text"), [(5e-5, "5e−5"), (2.5e-5, "2.5e−5"), (1e-4, "1e−4"), (1, "1e0")])
def test_rates_in_words(rate, text):
    assert scientific(rate) == text


def test_the_lowest_rate_that_taught_everything_everywhere_is_chosen(study):
    slow, base, never = rate_points([cell for cell in study.cells if cell.slug in ("city-language", "slow", "never")])
    (chosen,) = chosen_rates([slow, base, never])
    assert (chosen.model, chosen.rate) == ("gemma-3-270m", 1e-5)
    assert chosen.sentence.startswith("Rate for gemma-3-270m: 1e−5, the lowest at which every run learned what was")
    # On another set the lowest rate did not teach everything, so the next one is chosen; what was inferred has no say.
    other = replace(slow, pack="country-code", seeds=never.seeds)
    worse = replace(base, pack="country-code", rank=never.rank)
    (chosen,) = chosen_rates([slow, base, other, worse])
    assert chosen.rate == 5e-5
    # A rate that one set was not tried at is not chosen, and where none is left it is said.
    (chosen,) = chosen_rates([slow, base, other])
    assert chosen.rate is None and "none from 1e−5 to 5e−5 taught all" in chosen.sentence
    assert chosen_rates([slow]) == [], "one rate is no choice"


def test_several_models_are_told_apart(study):
    cells = [cell for cell in study.cells if cell.slug in ("city-language", "slow")]
    slow, base = rate_points(cells)
    assert slow.label == "city-language"
    renamed = [replace(slow, model="big"), replace(base, model="big"), slow, base]
    assert [chosen.model for chosen in chosen_rates(renamed)] == ["big", "gemma-3-270m"]
