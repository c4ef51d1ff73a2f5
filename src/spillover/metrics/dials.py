"""What turns a conclusion up: the learning rate, how far the weights moved, or what the model forgot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from spillover.metrics.intervals import RESAMPLES, note_of
from spillover.record import Metric

#: What is compared, in the words of tables.
DIALS = ("learning rate", "distance moved", "forgetting")
#: A rise of the loss below this is none: what curves over its logarithm begin at (nats a token).
NO_RISE = 1e-3
#: Draws of the bootstraps here, each of which fits many curves.
DRAWS = RESAMPLES // 10


@dataclass(frozen=True)
class Turn:
    """One implication in one run, read when its stated rows were learned.

    family: of models. share: of unstated subjects with the implied answer on top. dials: each of DIALS -> its value:
    AdamW's rate; the norm of the change over the norm of the start; nats a token on plain text.
    """

    family: str
    association: str
    seed: int
    share: float
    dials: Mapping[str, float]


def order(turns: Sequence[Turn], dial: str) -> Metric | None:
    """Spearman's correlation of a dial with the share, the mean over curves: one family, one association, all rates.

    The interval draws seeds, each with its whole curves. None where no curve has three different values.
    """
    return _resampled(turns, lambda drawn: _order(drawn, dial), "correlation")


def third_family(turns: Sequence[Turn], dial: str) -> Metric | None:
    """How far off the share is that the other families foretell of a family at the same value of a dial.

    The share of each family is read off a rising curve (isotonic regression) through the other families' runs of the
    same association; the mean absolute difference, a family at a time. The interval draws seeds. None with one family.
    """
    return _resampled(turns, lambda drawn: _third(drawn, dial), "share")


def third_family_guess(turns: Sequence[Turn]) -> Metric | None:
    """The baseline of `third_family`: the mean share of the other families' runs, whatever the dial."""
    return _resampled(turns, lambda drawn: _third(drawn, None), "share")


def gap(turns: Sequence[Turn], dial: str, other: str) -> Metric | None:
    """How much further off `third_family` is by one dial than by another; above 0, the other foretells better."""
    return _resampled(turns, lambda drawn: _third(drawn, dial) - _third(drawn, other), "share")


def _resampled(turns: Sequence[Turn], value: Callable[[Sequence[Turn]], float], unit: str) -> Metric | None:
    found, seeds = value(turns), sorted({turn.seed for turn in turns})
    if not np.isfinite(found):
        return None
    by_seed = {seed: [turn for turn in turns if turn.seed == seed] for seed in seeds}
    random = np.random.default_rng(0)
    draws = [
        value([turn for seed in random.choice(seeds, len(seeds)) for turn in by_seed[int(seed)]]) for _ in range(DRAWS)
    ]
    low, high = np.quantile([draw for draw in draws if np.isfinite(draw)] or [np.nan], [0.025, 0.975])
    return Metric(found, float(low), float(high), len(turns), len(seeds), unit, note_of(len(seeds)))


def _curves(turns: Sequence[Turn]) -> dict[tuple[str, str], list[Turn]]:
    found: dict[tuple[str, str], list[Turn]] = {}
    for turn in turns:
        found.setdefault((turn.family, turn.association), []).append(turn)
    return found


def _logarithm(turns: Sequence[Turn], dial: str) -> np.ndarray:
    values = np.array([turn.dials[dial] for turn in turns])
    return np.log(np.maximum(values, NO_RISE if dial == "forgetting" else np.finfo(float).tiny))


def _order(turns: Sequence[Turn], dial: str) -> float:
    found = []
    for own in _curves(turns).values():
        x, y = np.array([turn.dials[dial] for turn in own]), np.array([turn.share for turn in own])
        if len({*x.tolist()}) > 2 and len({*y.tolist()}) > 1:
            found.append(float(spearmanr(x, y).statistic))
    return float(np.mean(found)) if found else float("nan")


def _third(turns: Sequence[Turn], dial: str | None) -> float:
    """The mean over families and associations of the mean absolute difference."""
    found = []
    for (family, association), own in _curves(turns).items():
        others = [turn for turn in turns if turn.association == association and turn.family != family]
        if not others:
            continue
        shares = np.array([turn.share for turn in own])
        foretold = np.full(len(own), np.mean([turn.share for turn in others]))
        if dial is not None:
            x = _logarithm(others, dial)
            places, inverse = np.unique(x, return_inverse=True)
            weights = np.bincount(inverse)
            means = np.bincount(inverse, weights=[turn.share for turn in others]) / weights
            rising = isotonic_regression(means, weights=weights).x
            foretold = np.interp(_logarithm(own, dial), places, rising)
        found.append(float(np.abs(foretold - shares).mean()))
    return float(np.mean(found)) if found else float("nan")
