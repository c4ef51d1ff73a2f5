"""95% intervals over what varies: (seed, pair) clusters, or seeds."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from spillover.metrics.ranks import RankTable
from spillover.record import Metric

#: Draws of a bootstrap, and the number of clusters below which no verdict rests on an interval.
RESAMPLES, FEW = 4000, 10
Sums = Float[np.ndarray, "column cluster"]
Ratio = Callable[[np.ndarray], np.ndarray]


def clusters_of(table: RankTable) -> Shaped[np.ndarray, "row"]:
    """A label a row: its seed and its pair."""
    pairs = zip(table.seed, table.cluster, strict=True)
    return np.array([f"{seed}\t{cluster}" for seed, cluster in pairs], dtype=object)


def cluster_sums(clusters: Shaped[np.ndarray, "row"], *columns: Shaped[np.ndarray, "row"]) -> Sums:
    """Each column summed over the rows of each cluster."""
    codes = np.unique(clusters.astype(str), return_inverse=True)[1]
    return np.stack([np.bincount(codes, weights=column) for column in columns]).astype(float)


def _draws(sums: Sums, ratio: Ratio) -> Float[np.ndarray, "draw"]:
    """A ratio of summed columns over RESAMPLES draws of whole clusters, with replacement."""
    drawn = np.random.default_rng(0).integers(sums.shape[1], size=(RESAMPLES, sums.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return ratio(np.stack([column[drawn].sum(axis=1) for column in sums]))


def ratio_interval(sums: Sums, ratio: Ratio) -> tuple[float, float]:
    """95% bootstrap interval, over whole clusters, of a figure made of `cluster_sums`.

    ratio: from summed columns to the figure; draws in which it is not finite are left out.
    """
    ratios = _draws(sums, ratio)
    low, high = np.quantile(ratios[np.isfinite(ratios)], [0.025, 0.975])
    return float(low), float(high)


def ratio_metric(sums: Sums, ratio: Ratio, rows: int, unit: str) -> Metric:
    """A figure made of `cluster_sums` of this many rows, with its `ratio_interval`."""
    clusters, (low, high) = sums.shape[1], ratio_interval(sums, ratio)
    return Metric(float(ratio(sums.sum(axis=1))), low, high, rows, clusters, unit, note_of(clusters))


def quotient(sums: np.ndarray) -> np.ndarray:
    """The first column over the second: a mean, from summed values and their number."""
    return np.asarray(sums[0] / sums[1])


def interval(values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"]) -> tuple[float, float, int]:
    """95% bootstrap interval of the mean over whole clusters, and their number.

    Clusters are drawn with replacement; a draw's mean weighs every row alike. One cluster gives its mean twice.
    """
    sums = cluster_sums(clusters, values, np.ones(len(values)))
    return *ratio_interval(sums, quotient), sums.shape[1]


def standard_error(values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"]) -> float | None:
    """The standard deviation of the mean's bootstrap over whole clusters; None with fewer than two clusters."""
    sums = cluster_sums(clusters, values, np.ones(len(values)))
    return float(_draws(sums, quotient).std(ddof=1)) if sums.shape[1] > 1 else None


def mean_metric(values: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"], unit: str) -> Metric | None:
    """The mean with its cluster interval; None when there is no row. Below ten clusters the note says so."""
    if len(values) == 0:
        return None
    low, high, number = interval(values, clusters)
    return Metric(float(values.mean()), low, high, len(values), number, unit, note_of(number))


def mean_of(table: RankTable, values: Shaped[np.ndarray, "row"], unit: str) -> Metric | None:
    """`mean_metric` of a number or truth value for each row of a table, over the table's clusters."""
    return mean_metric(values.astype(float), clusters_of(table), unit)


def note_of(clusters: int) -> str | None:
    """The note of a metric over this many clusters."""
    return "few clusters" if clusters < FEW else None


def over_seeds(values: Sequence[float], unit: str) -> Metric:
    """Mean of one number for each seed, with its bootstrap interval over the seeds.

    A value that does not exist (NaN or infinite) leaves the metric without a number; its note says for how many seeds.
    """
    numbers = np.asarray(values, dtype=np.float64)
    count, missing = len(numbers), int((~np.isfinite(numbers)).sum())
    found = None if missing else mean_metric(numbers, np.arange(count), unit)
    return found or Metric(None, None, None, count, count, unit, f"undefined for {missing} of {count} seeds")
