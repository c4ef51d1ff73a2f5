"""What fine-tuning cost elsewhere: the rise of the mean loss on plain text."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from spillover.measures.bootstrap import FEW, RESAMPLES
from spillover.record import Metric


def measure(
    before: Float[np.ndarray, "passage"], after: Float[np.ndarray, "passage"], tokens: Float[np.ndarray, "passage"]
) -> Metric | None:
    """Rise of the mean loss a token (nats), from summed losses of the same passages; the passage is the cluster."""
    if len(tokens) == 0:
        return None
    rise = after - before
    drawn = np.random.default_rng(0).integers(len(tokens), size=(RESAMPLES, len(tokens)))
    means = rise[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)
    low, high = (float(value) for value in np.quantile(means, [0.025, 0.975]))
    note = "few clusters" if len(tokens) < FEW else None
    return Metric(float(rise.sum() / tokens.sum()), low, high, int(tokens.sum()), len(tokens), "nats", note)
