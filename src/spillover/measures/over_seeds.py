"""The mean over seeds with a 95% bootstrap interval: for experiments whose only clusters are their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spillover.measures.bootstrap import FEW, interval
from spillover.record import Metric


def over_seeds(values: Sequence[float], unit: str, *, seed: int = 0) -> Metric:
    """Mean of one number a seed, and the percentile interval of the mean under resampling of the seeds.

    A value that does not exist (NaN or infinite, such as a norm per margin while a row is answered wrongly) leaves the
    metric without a number and says for how many seeds. unit: in words. Few seeds are said in the note.
    """
    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    missing = int((~np.isfinite(numbers)).sum())
    if missing or not count:
        return Metric(None, None, None, count, count, unit, f"undefined for {missing} of {count} seeds")
    low, high, clusters = interval(numbers, np.arange(count), seed)
    note = "few clusters" if clusters < FEW else None
    return Metric(float(numbers.mean()), low, high, count, clusters, unit, note)
