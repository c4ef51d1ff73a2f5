"""Cosine and error of an expansion, counted by hand."""

import numpy as np
import pyarrow as pa
import pytest

from spillover.metrics.patching import alignment, alignments
from spillover.record import ANSWER_SCHEMA


def test_by_hand():
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
