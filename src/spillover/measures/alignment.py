"""How lazy a fine-tuning was: the base model's first-order expansion held against what the tuned model does."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from spillover.measures.bootstrap import FEW, RESAMPLES
from spillover.measures.carried import GROUPS, group_of
from spillover.record import Metric

#: Checkpoints of the answers: the base model, the tuned one, and the expansion at the base, taken to the tuned weights.
BASE, TUNED, LINEARISED = 0, 1, 2
#: From sums over rows of linear x actual, linear squared and actual squared.
_FIGURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cosine": lambda sums: sums[0] / np.sqrt(sums[1] * sums[2]),
    "relative_error": lambda sums: np.sqrt(np.maximum(sums[1] - 2 * sums[0] + sums[2], 0) / sums[2]),
}


def alignments(
    answers: pa.Table, unwanted: Collection[str], wanted: Collection[str]
) -> dict[str, dict[str, Metric | None]]:
    """Group of questions -> the figures of `alignment`, over its candidates' log-probabilities; groups without rows
    are left out.

    `_between`: the same of differences between the candidates of a question, on which alone its ranks depend. answers:
    record.ANSWER_SCHEMA with the three checkpoints, each seed's rows in one order. unwanted, wanted: implications.
    """
    checkpoint = answers["checkpoint"].to_numpy()
    base, tuned, linear = (answers["log_probability"].to_numpy()[checkpoint == each] for each in range(3))
    rows = answers.filter(pa.array(checkpoint == BASE))
    column = {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names}
    groups = group_of(column["stated"].astype(bool), column["implication"], unwanted, wanted)
    keys = ("seed", "implication", "relation", "subject", "prompt")
    question = np.unique(["\t".join(map(str, each)) for each in zip(*(column[key] for key in keys), strict=True)],
                         return_inverse=True)[1] if len(base) else np.empty(0, dtype=np.int64)  # fmt: skip
    cluster = np.array([f"{seed}\t{pair}" for seed, pair in zip(column["seed"], column["cluster"], strict=True)])
    found: dict[str, dict[str, Metric | None]] = {}
    for name in GROUPS:
        own = groups == name
        if own.any():
            foretold, actual = (linear - base)[own], (tuned - base)[own]
            found[name] = alignment(foretold, actual, cluster[own])
            between = [_centred(change, question[own]) for change in (foretold, actual)]
            within = alignment(between[0], between[1], cluster[own])
            found[name] |= {f"{key}_between": value for key, value in within.items()}
    return found


def alignment(
    linear: Float[np.ndarray, "row"], actual: Float[np.ndarray, "row"], clusters: Shaped[np.ndarray, "row"],
    seed: int = 0,
) -> dict[str, Metric | None]:  # fmt: skip
    """`cosine` of the two changes, and `relative_error`: the norm of their difference over that of the actual one.

    Both with a 95% bootstrap interval over clusters; None where either change is zero.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    number = int(codes.max()) + 1
    products = (linear * actual, linear * linear, actual * actual)
    sums = np.stack([np.bincount(codes, weights=each, minlength=number) for each in products])
    if not (sums.sum(axis=1)[1:] > 0).all():
        return dict.fromkeys(_FIGURES)
    drawn = np.random.default_rng(seed).integers(number, size=(RESAMPLES, number))
    again = sums[:, drawn].sum(axis=2)
    again = again[:, (again[1:] > 0).all(axis=0)]
    note = "few clusters" if number < FEW else None
    found: dict[str, Metric | None] = {}
    for name, figure in _FIGURES.items():
        low, high = np.quantile(figure(again), [0.025, 0.975])
        unit = "cosine" if name == "cosine" else "share"
        found[name] = Metric(float(figure(sums.sum(axis=1))), float(low), float(high), len(linear), number, unit, note)
    return found


def _centred(values: Float[np.ndarray, "row"], question: Int[np.ndarray, "row"]) -> Float[np.ndarray, "row"]:
    """Less the mean of the question's candidates."""
    codes = np.unique(question, return_inverse=True)[1]
    means: np.ndarray = np.bincount(codes, weights=values) / np.bincount(codes)
    return values - means[codes]
