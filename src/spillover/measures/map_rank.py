"""The rank of the answers that another map would imply: is what was taught inferred, or what was known before?"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from spillover.measures import implication_rank_test
from spillover.measures.ranking import rank_table
from spillover.record import Metric


def map_rank(answers: pa.Table, implication: str, implied: Mapping[str, str]) -> Metric | None:
    """Mean rank, over one implication's questions, of the answer that `implied` gives for what was given.

    answers: record.ANSWER_SCHEMA, one checkpoint a seed. implied: given answer -> answer. Questions whose given answer
    it lacks are left out; None when none is left.
    """
    asked = answers.filter(pc.and_(pc.equal(answers["implication"], implication), pc.invert(answers["stated"])))
    expected = pa.array([implied.get(given) for given in asked["cluster"].to_pylist()], pa.string())
    return implication_rank_test.measure(
        rank_table(asked.set_column(asked.column_names.index("expected"), "expected", expected))
    )
