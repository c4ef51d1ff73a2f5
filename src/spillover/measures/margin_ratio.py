"""How clearly the unstated is answered, in units of how clearly the stated is: what the one-layer theory predicts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from spillover.measures.bootstrap import FEW, RESAMPLES
from spillover.record import Metric


def margin_ratio(answers: pa.Table, implication: str | None = None) -> Metric | None:
    """Mean margin of the unstated implications over that of the stated ones, with its cluster interval.

    answers: record.ANSWER_SCHEMA, one checkpoint a seed. implication: only this one. A row's margin is the expected
    answer's log-probability minus that of the best other candidate, on the trained prompt. Clusters are (seed, pair); a
    draw divides the two means of what it drew.
    None where no implication is stated, or none is unstated.
    """
    kept = pc.and_(answers["trained"], pc.is_valid(answers["implication"]))
    if implication is not None:
        kept = pc.and_(kept, pc.equal(answers["implication"], implication))
    margins = _margins(answers.filter(kept))
    clusters = sorted({key for key, *_ in margins})
    # A column a cluster: summed margins and counts, of the unstated and then of the stated.
    totals = np.zeros((4, len(clusters)))
    place = {key: index for index, key in enumerate(clusters)}
    for key, stated, margin in margins:
        totals[2 * stated, place[key]] += margin
        totals[2 * stated + 1, place[key]] += 1
    asked, told = totals[1].sum(), totals[3].sum()
    if not asked or not told:
        return None
    drawn = np.random.default_rng(0).integers(len(clusters), size=(RESAMPLES, len(clusters)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _ratio(totals[:, drawn].sum(axis=2))
    low, high = np.quantile(ratios[np.isfinite(ratios)], [0.025, 0.975])
    note = "few clusters" if len(clusters) < FEW else None
    value = float(_ratio(totals.sum(axis=1, keepdims=True))[0])
    return Metric(value, float(low), float(high), int(asked), len(clusters), "stated margins", note)


def _ratio(sums: Float[np.ndarray, "4 draw"]) -> Float[np.ndarray, "draw"]:
    return (sums[0] / sums[1]) / (sums[2] / sums[3])


def _margins(answers: pa.Table) -> list[tuple[tuple[int, str], bool, float]]:
    """((seed, pair), whether it was stated, margin) of every row that has an expected answer."""
    names = ("seed", "subject", "implication", "cluster", "expected", "candidate", "log_probability", "stated")
    scores: dict[tuple[int, str, str], dict[str, float]] = {}
    about: dict[tuple[int, str, str], tuple[tuple[int, str], bool, str]] = {}
    for row in answers.select(names).to_pylist():
        if row["expected"] is not None:
            key = (row["seed"], row["subject"], row["implication"])
            scores.setdefault(key, {})[row["candidate"]] = row["log_probability"]
            about[key] = ((row["seed"], str(row["cluster"])), row["stated"], row["expected"])
    found = []
    for key, (cluster, stated, expected) in about.items():
        others = [score for candidate, score in scores[key].items() if candidate != expected]
        if expected in scores[key] and others:
            found.append((cluster, stated, scores[key][expected] - max(others)))
    return found
