"""The mean over seeds with a 95% bootstrap interval: for experiments whose only clusters are their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.record import Metric

#: Below this many clusters an interval is shown but carries no verdict.
FEW = 10


def over_seeds(values: Sequence[float], unit: str, *, resamples: int = 2000, seed: int = 0) -> Metric:
    """Mean of one number a seed, and the percentile interval of the mean under resampling of the seeds.

    A value that does not exist (NaN or infinite, such as a norm per margin while a row is answered wrongly) leaves the
    metric without a number and says for how many seeds. unit: in words. Few seeds are said in the note.
    """
    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    missing = int((~np.isfinite(numbers)).sum())
    if missing or not count:
        return Metric(None, None, None, count, count, unit, f"undefined for {missing} of {count} seeds")
    generator = np.random.default_rng(seed)
    means = numbers[generator.integers(count, size=(resamples, count))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    note = "few clusters" if count < FEW else None
    return Metric(float(numbers.mean()), float(low), float(high), count, count, unit, note)
