"""One row a pack, both ways of training side by side, the paper's numbers, and the distance of the null."""

import pytest

from spillover.report.study_data import MODELS, RANKS, null_distance, sets_of, true_ranks
from tests.report.conftest import CITIES, SHIFTED


def test_one_row_a_pack(study):
    rows = sets_of(study.done)
    assert [(row.label, row.null, row.control) for row in rows][:5] == [
        ("city-language", False, False),
        ("city-language-counterfactual", False, False),
        ("profession-color:null", True, True),
        ("city-language:bridge=0", False, True),
        ("city-language:bridge=1", False, False),
    ]
    first = rows[0]
    assert (
        first.frozen.run.record.settings["freeze_embeddings"]
        and not first.whole.run.record.settings["freeze_embeddings"]
    )
    assert first.published == RANKS["city-language"] and rows[2].published == ()
    # The same pack at another rate is another row, under its cell's own name.
    assert [row.label for row in rows[5:]] == ["slow", "never"]


def test_the_paper_has_a_number_a_model():
    assert {len(ranks) for ranks in RANKS.values()} == {len(MODELS)} == {5}
    assert RANKS["country-code"] == (0.19, 0.15, 3.63, 1.48, 0.77)


def test_the_distance_of_the_null_is_in_cluster_standard_errors(study):
    (null,) = [row for row in sets_of(study.done) if row.null]
    found = null_distance(null)
    # Every question ranks by the alphabet: 1, 3, 4, 6 and 8 by pair, each pair three times.
    assert found.mean == pytest.approx(4.4)
    assert found.error == pytest.approx((5.84 / 15) ** 0.5, rel=0.03)
    assert found.distance == pytest.approx(2.4 / found.error) and not found.close


def test_one_seed_has_pairs_to_resample_and_nothing_has_none(study):
    (facts,) = [row for row in sets_of(study.done) if row.label.endswith("bridge=0")]
    assert null_distance(facts).error > 0
    assert sets_of([cell for cell in study.cells if not cell.run]) == []


def test_a_false_set_is_also_asked_for_the_truth(study):
    ((row, rank),) = true_ranks(sets_of(study.done[:5]))
    assert row.label == "city-language-counterfactual"
    # Six of eight names of a pair give the taught answer; in alphabetical order behind it stand the true ones.
    taught = dict(zip(("French", "Japanese", "Italian", "Norwegian", "Spanish"), (1, 4, 3, 6, 8), strict=True))
    own = sum(taught.values()) / 5
    # With the taught answer first, a true answer that stood before it moves down by one place.
    shift = dict(zip(CITIES.values(), SHIFTED.values(), strict=True))
    moved = sum(place + (taught[shift[true]] > place) for true, place in taught.items()) / 5
    assert rank.value == pytest.approx((6 * moved + 2 * own) / 8)
    assert true_ranks(sets_of(study.done[:1])) == []
