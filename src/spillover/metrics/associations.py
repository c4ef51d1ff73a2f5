"""How many unstated subjects answer as an association says: measured, and predicted by a frozen calibration."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from spillover.details import CalibratedOn
from spillover.metrics.ranks import RankTable, at_end
from spillover.packs.pack import AUTO, AUTO_UNWANTED, AUTO_WANTED, UNCLEAR


class MeasuredCount(NamedTuple):
    """Of n unstated subjects: how many have the answer of an association on top, and how many of those are new."""

    n: int
    hits: int
    newly: int


def measured_open(ranks: RankTable, links: Iterable[tuple[str, str, str, str]]) -> dict[tuple[str, ...], MeasuredCount]:
    """What became of associations that no implication declares, where a run asked all holes of its table.

    ranks: of one run; who has a given answer is read from the stated rows that it asked. links: (given, given answer,
    then, then answer); those of whom nobody was asked are left out.
    """
    rows = ranks.only(trained=True)
    stated, holes = rows.only(stated=True), rows.only(stated=False, implication=None)
    holders: dict[tuple[str, str], set[tuple[int, str]]] = {}
    for relation, answer, *who in zip(stated.relation, stated.expected, stated.seed, stated.subject, strict=True):
        holders.setdefault((relation, answer), set()).add((who[0], who[1]))
    before, after = (
        dict(zip(zip(each.relation, each.seed, each.subject, strict=True), each.top, strict=True))
        for each in (holes.only(checkpoint=0), at_end(holes))
    )
    found: dict[tuple[str, ...], MeasuredCount] = {}
    for given, given_answer, then, answer in links:
        asked = [key for who in holders.get((given, given_answer), ()) if (key := (then, *who)) in after]
        hits = [key for key in asked if after[key] == answer]
        if asked:
            newly = sum(before.get(key) != answer for key in hits)
            found[given, given_answer, then, answer] = MeasuredCount(len(asked), len(hits), newly)
    return found


#: `expected_KEY` of a prediction -> the kinds of association that it sums.
EXPECTED = {"wanted": ("causal", AUTO_WANTED), "unwanted": ("counterfactual", "spurious", AUTO_UNWANTED),
            "undeclared": (None, AUTO, UNCLEAR)}  # fmt: skip
#: Shares of belief are clipped to at least this and at most one minus this.
LEAST = 1e-3
#: The sets of features that a fit may use, best first: those of the score, then its rivals.
FEATURE_SETS = (
    ("margin", "prior", "lift"),
    ("support", "prior", "lift"),
    ("margin",),
    ("support",),
    ("prior",),
    ("lift",),
)
FeatureColumns = Mapping[str, Float[np.ndarray, "row"]]
_TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "margin": lambda values: values,
    "lift": lambda values: values,
    "support": lambda values: np.log1p(values),
    "prior": lambda values: logit(np.clip(values, LEAST, 1 - LEAST)),
}


def calibration() -> dict[str, Any]:
    """The frozen fits, and on what they rest."""
    return _shipped("calibration.json")


def calibrated_on(asked: str | None = None, frozen: Mapping[str, Any] | None = None) -> CalibratedOn:
    """On which models and packs the score was calibrated, and whether its number may be read for another model.

    asked: the architecture of the model that was asked, as its configuration's `model_type` says it; None without one.
    frozen: a calibration; the shipped one by default.
    """
    kept = calibration() if frozen is None else frozen
    models, packs, same = kept["models"], kept["packs"], None if asked is None else asked in kept["model_types"]
    end = "another recipe shifts all numbers together" if same else "for other models read the order, not the number"
    words = f"calibrated on {', '.join(models)}{'' if same else ' only'} ({kept['recipe']}; packs {', '.join(packs)})"
    return CalibratedOn(models=models, packs=packs, recipe=kept["recipe"], same_type=same, words=f"{words}; {end}")


def surprise(share: float, n: int, hits: int) -> float:
    """How far a measured count lies from the foretold one, in standard deviations of a binomial count; never below 0.

    share: foretold, of n subjects; the deviation takes it as LEAST away from 0 and 1 at least. Subjects with one given
    answer share a belief, so this orders associations and tests nothing.
    """
    kept = min(max(share, LEAST), 1 - LEAST)
    return abs(hits - n * share) / math.sqrt(n * kept * (1 - kept))


def held_out() -> dict[str, Any]:
    """How the score did on packs that its calibration never saw; `benchmarks/prediction/compare.py` wrote it.

    figures: features -> figure -> value and 95% interval; for rivals also by how much the frozen score is better.
    """
    return _shipped("held_out.json")


@cache
def _shipped(name: str) -> dict[str, Any]:
    return dict(json.loads(resources.files("spillover.metrics").joinpath(name).read_text("utf-8")))


def rate(
    names: tuple[str, ...], values: Mapping[str, float | None], fits: Mapping[str, list[float]] | None = None
) -> float:
    """The expected share of unstated subjects whose top answer is the association's.

    names: the features to use, one of FEATURE_SETS. values: margin (of the exact model), support (a count), prior (a
    share of belief). fits: coefficients by joined names; the frozen ones by default.
    """
    weights = (calibration()["fits"] if fits is None else fits)["+".join(names)]
    row = feature_matrix(names, {name: np.array([values[name]]) for name in names})[0]
    return float(expit(row @ np.asarray(weights)))


def best_features(values: Mapping[str, float | None]) -> tuple[str, ...]:
    """The best set of features of which all are at hand; the support always is."""
    return next(names for names in FEATURE_SETS if all(values.get(name) is not None for name in names))


def feature_matrix(names: tuple[str, ...], columns: FeatureColumns) -> Float[np.ndarray, "row feature"]:
    """A constant, then each feature as the logistic model takes it: a prior by its log-odds, a count by its log."""
    taken = [_TRANSFORMS[name](np.asarray(columns[name], dtype=np.float64)) for name in names]
    return np.column_stack([np.ones(len(taken[0])), *taken])
