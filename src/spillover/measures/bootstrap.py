"""Intervals over what really varies: the (seed, pair) cluster, not the subject."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from spillover.measures.ranking import RankTable
from spillover.record import Metric

RESAMPLES = 4000
FEW = 10


def clusters_of(table: RankTable) -> Shaped[np.ndarray, "row"]:
    """A label a row: its seed and its pair."""
    return np.array(
        [f"{seed}\t{cluster}" for seed, cluster in zip(table.seed, table.cluster, strict=True)], dtype=object
    )


def interval(
    values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], seed: int = 0
) -> tuple[float, float, int]:
    """95% bootstrap interval of the mean over whole clusters, and their number.

    Clusters are drawn with replacement; a draw's mean weighs every row alike. One cluster gives its mean twice.
    """
    codes = np.unique(clusters.astype(str), return_inverse=True)[1]
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes).astype(float)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high), len(sums)


def mean_metric(
    values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], unit: str, seed: int = 0
) -> Metric | None:
    """The mean with its cluster interval; None when there is no row. Below ten clusters the note says so."""
    if len(values) == 0:
        return None
    low, high, number = interval(values, clusters, seed)
    note = "few clusters" if number < FEW else None
    return Metric(float(values.mean()), low, high, len(values), number, unit, note)
