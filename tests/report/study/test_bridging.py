"""Bridging names are counted from the answers, and theory is the exact one-layer margin."""

import dataclasses
import math

import pytest

from spillover.record import Metric
from spillover.report.study_data import bridge_points, by_set, parting


def cells_of(study, *slugs):
    return [cell for cell in study.cells if cell.slug in slugs]


def test_names_a_pair_are_counted_from_the_answers(study):
    points = bridge_points(cells_of(study, "bridge=0", "bridge=1", "city-language"))
    assert [(p.label, p.stated, p.unstated) for p in points] == [("city-language", k, 8) for k in (0, 1, 2)]
    assert [p.theory for p in points] == pytest.approx([0, math.sqrt(1 / 8), 0.5])
    assert points[0].ratio is None and points[1].ratio is not None
    # Right answers lead by 1.5 nats, stated ones too; one of eight names a pair is wrong, by 1.5 for each place.
    assert points[2].ratio.value == pytest.approx((7 * 1.5 - 1.5 * 4.4) / (8 * 1.5))


def test_as_many_bridging_names_as_others_is_the_whole_margin(study):
    (point,) = bridge_points(cells_of(study, "city-language"))
    assert dataclasses.replace(point, stated=9).theory == 1.0


def test_where_they_part_is_said_from_the_numbers(study):
    (point,) = bridge_points(cells_of(study, "city-language"))

    def at(stated, rank, high, ratio):
        return dataclasses.replace(
            point,
            stated=stated,
            unstated=20 - stated,
            rank=Metric(rank, 0.0, high, 40, 15, "rank"),
            ratio=Metric(ratio, ratio - 0.05, ratio + 0.05, 40, 15, "stated margins"),
        )

    text = " ".join(parting([at(1, 2.1, 2.4, 0.0), at(2, 1.0, 1.5, 0.33), at(4, 0.05, 0.2, 0.9)]))
    assert "from 2 bridging names a pair on, and the mean rank is 0.1 or less from 4 on" in text
    assert "lies above the theory’s: city-language at 4 (0.90, 0.85 to 0.95; theory 0.50)." in text
    assert "lies below the theory’s: city-language at 1" in text
    assert "cannot be told from the theory’s: city-language at 2" in text
    none = parting([at(1, 2.1, 2.4, 0.0)])
    assert "not clear of the yardstick even at the most" in none[1]


def test_sets_keep_their_order(study):
    points = bridge_points(cells_of(study, "counterfactual", "city-language"))
    assert list(by_set(points)) == ["city-language", "city-language-counterfactual"]
