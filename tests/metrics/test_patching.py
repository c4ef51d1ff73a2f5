"""Rates, ranks, cosines and errors of patched models, counted by hand."""

import numpy as np
import pyarrow as pa
import pytest

from spillover.metrics.patching import alignment, alignments, patched_metrics, ranks_of, where_rows
from spillover.record import ANSWER_SCHEMA, WHERE_SCHEMA


def test_cosine_and_error_by_hand():
    found = alignment(np.array([3.0, 4.0]), np.array([4.0, 3.0]), np.array(["a", "b"]))
    assert found["cosine"].value == pytest.approx(24 / 25)
    assert found["relative_error"].value == pytest.approx(np.sqrt(2) / 5)
    assert found["cosine"].low == pytest.approx(24 / 25) and found["cosine"].high == pytest.approx(1)
    assert (found["cosine"].n, found["cosine"].clusters, found["cosine"].note) == (2, 2, "few clusters")


def test_no_change_has_no_direction():
    assert alignment(np.zeros(2), np.ones(2), np.array(["a", "b"])) == {"cosine": None, "relative_error": None}


def rows(checkpoint, scores, stated, implication):
    for candidate, score in zip("xyz", scores, strict=True):
        yield (
            0,
            checkpoint,
            "Ann",
            "speaks",
            implication,
            "Paris",
            "{subject} speaks",
            True,
            candidate,
            score,
            "x",
            stated,
            None,
        )


def test_groups_and_what_lies_between_candidates():
    """The expansion moves every candidate of a question by one nat too many, which is nothing between them."""
    models = ([0.0, 0.0, 0.0], [2.0, 1.0, -3.0], [3.0, 2.0, -2.0])
    table = [row for checkpoint, scores in enumerate(models) for row in rows(checkpoint, scores, False, "a->b")]
    table += [row for checkpoint, scores in enumerate(models) for row in rows(checkpoint, scores, True, None)]
    columns = list(zip(*table, strict=True))
    answers = pa.table([pa.array(c, f.type) for c, f in zip(columns, ANSWER_SCHEMA, strict=True)], schema=ANSWER_SCHEMA)
    found = alignments(answers, ["a->b"], [])
    assert set(found) == {"recall", "unwanted"}
    for group in found.values():
        assert group["cosine"].value == pytest.approx((6 + 2 + 6) / np.sqrt((9 + 4 + 4) * (4 + 1 + 9)))
        assert group["relative_error"].value == pytest.approx(np.sqrt(3 / 14))
        assert group["cosine_between"].value == pytest.approx(1)
        assert group["relative_error_between"].value == pytest.approx(0, abs=1e-9)


ROWS = {
    "subject": ["A", "B", "A", "A", "B", "C", "A"],
    "relation": ["lives", "lives", "speaks", "speaks", "speaks", "codes", "codes"],
    "implication": [None, None, "l->s", "l->s", "l->s", "l->c", "l->c"],
    "cluster": ["Paris", "Rome", "Paris", "Paris", "Rome", "Paris", "Rome"],
    "stated": [True, True, True, False, False, False, False],
    "expected": ["x", "y", "f", "f", "g", "j", "k"],
    "top": ["x", "z", "f", "f", "f", "k", "k"],
    "rank": [0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0],
}


def where_table():
    same = {"seed": [0] * 7, "part": ["mlp"] * 7, "kind": ["component"] * 7, "left_out": [True] * 7}
    columns = ROWS | same
    return pa.table({name: columns[name] for name in WHERE_SCHEMA.names}, schema=WHERE_SCHEMA)


def test_rates_and_ranks_by_hand():
    found = patched_metrics(ranks_of(where_table()), ["l->c"], ["l->s"])
    values = {name: metric and metric.value for name, metric in found.items()}
    assert values == {
        "recall_rate": 0.5, "recall_rank": 1.0, "links_rate": 1.0, "links_rank": 0.0, "wanted_rate": 0.5,
        "wanted_rank": 0.5, "wanted_free": 0.5, "unwanted_rate": 0.5, "unwanted_rank": 1.5, "unwanted_free": 0.5,
    }  # fmt: skip
    assert patched_metrics(ranks_of(where_table()), [], ["l->s"])["unwanted_rate"] is None


def test_rows_of_a_part_are_those_that_its_ranks_came_from():
    assert where_rows(ranks_of(where_table()), "mlp", "component", True) == where_table()
