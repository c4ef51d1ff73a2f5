"""The measured spillover of every association of a run: the share of its unstated subjects that answer so."""

from __future__ import annotations

import pyarrow as pa

from spillover.measures.ranking import answers_at_end, questions, rank_table


def measured_rates(answers: pa.Table) -> dict[tuple[str, str], tuple[float, int]]:
    """(implied relation, given answer) -> share of questions whose top answer is the expected one, and their number.

    answers: record.ANSWER_SCHEMA of one run; its last checkpoint counts, in the trained words. A tie at the top is
    no such answer.
    """
    asked = questions(rank_table(answers_at_end(answers)))
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for key in dict.fromkeys(zip(asked.relation.tolist(), asked.cluster.tolist(), strict=True)):
        own = asked.only(relation=key[0], cluster=key[1])
        found[key] = (float((own.rank == 0).mean()), len(own))
    return found
