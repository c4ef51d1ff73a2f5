"""95% intervals over what varies: (seed, pair) clusters, or seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from spillover.metrics.ranks import RankTable
from spillover.record import Metric

#: Draws of a bootstrap, and the number of clusters below which no verdict rests on an interval.
RESAMPLES, FEW = 4000, 10


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
    means, number = _resampled(values, clusters, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high), number


def standard_error(
    values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], seed: int = 0
) -> float | None:
    """Cluster standard error of the mean: the standard deviation of its bootstrap over whole clusters.

    None with fewer than two clusters.
    """
    if len(values) == 0:
        return None
    means, number = _resampled(values, clusters, seed)
    return float(means.std(ddof=1)) if number > 1 else None


def _resampled(
    values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], seed: int
) -> tuple[Float[np.ndarray, "draw"], int]:
    """Means of RESAMPLES draws of whole clusters, and the number of clusters."""
    codes = np.unique(clusters.astype(str), return_inverse=True)[1]
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes).astype(float)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    return sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), len(sums)


def mean_metric(
    values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], unit: str, seed: int = 0
) -> Metric | None:
    """The mean with its cluster interval; None when there is no row. Below ten clusters the note says so."""
    if len(values) == 0:
        return None
    low, high, number = interval(values, clusters, seed)
    return Metric(float(values.mean()), low, high, len(values), number, unit, note_of(number))


def mean_of(table: RankTable, values: Shaped[np.ndarray, "row"], unit: str) -> Metric | None:
    """`mean_metric` of a number or truth value for each row of a table, over the table's clusters."""
    return mean_metric(values.astype(float), clusters_of(table), unit)


def note_of(clusters: int) -> str | None:
    """The note of a metric over this many clusters."""
    return "few clusters" if clusters < FEW else None


def ratio_interval(
    sums: Float[np.ndarray, "column cluster"], ratio: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> tuple[float, float]:
    """95% bootstrap interval, over whole clusters, of a figure that is made of sums over rows.

    sums: each cluster's sums of some columns. ratio: from summed columns to the figure; draws in which it is not
    finite are left out.
    """
    number = sums.shape[1]
    drawn = np.random.default_rng(seed).integers(number, size=(RESAMPLES, number))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = ratio(sums[:, drawn].sum(axis=2))
    low, high = np.quantile(ratios[np.isfinite(ratios)], [0.025, 0.975])
    return float(low), float(high)


def over_seeds(values: Sequence[float], unit: str, *, seed: int = 0) -> Metric:
    """Mean of one number for each seed, with the percentile interval of the mean under resampling of the seeds.

    A value that does not exist (NaN or infinite, such as a norm per margin while a row is answered wrongly) leaves the
    metric without a number; its note says for how many seeds. The note also says when there are few seeds.
    """
    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    missing = int((~np.isfinite(numbers)).sum())
    if missing or not count:
        return Metric(None, None, None, count, count, unit, f"undefined for {missing} of {count} seeds")
    low, high, clusters = interval(numbers, np.arange(count), seed)
    return Metric(float(numbers.mean()), low, high, count, clusters, unit, note_of(clusters))
