"""The experiments of `lab`, one file each: a function from what was asked for to what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spillover.measures.over_seeds import over_seeds
from spillover.theory import symbolic
from spillover.theory.learning.standing import Keeper
from spillover.theory.learning.training import Trained
from spillover.theory.symbolic import Task

#: What each measured number is, in words.
UNITS = {
    "train_loss": "nats a stated row, over all tokens",
    "implication_loss_test": "nats an unstated implication, over all tokens",
    "implication_loss_among": "nats an unstated implication, among the implication answers",
    "implication_accuracy_test": "share of unstated implications answered as the class would",
    "cosine_to_nuclear": "cosine",
    "cosine_to_frobenius": "cosine",
    "nuclear_over_margin": "nuclear norm at a smallest stated margin of 1",
    "frobenius_over_margin": "Frobenius norm at a smallest stated margin of 1",
    "margin_ratio_test": "smallest unstated margin in units of the smallest stated margin",
}


@dataclass(frozen=True)
class Scope:
    """What the user asked of an experiment. seeds: None for the preset's own. steps: 0 for the preset's own.

    keeper: is given to every training, so that an experiment that was cut short goes on.
    """

    seeds: tuple[int, ...] | None = None
    steps: int = 0
    quick: bool = False
    symbolic: str = ""
    head_dimension: int | None = None
    device: str = "cpu"
    progress: Callable[[str], None] = lambda message: None
    keeper: Keeper | None = None

    def task(self, *, quick: str = "n=6,train=1,test=3", full: str = "n=20,train=1,test=3", **fields: int) -> Task:
        """The task: the user's, or the preset's for this size of run."""
        return symbolic.parse(self.symbolic or (quick if self.quick else full), **fields)

    def seeds_or(self, count: int) -> tuple[int, ...]:
        """The user's seeds, or 0 .. count - 1."""
        return tuple(range(count)) if self.seeds is None else self.seeds

    def steps_or(self, full: int, quick: int) -> int:
        """The user's steps, or the preset's for this size of run."""
        return self.steps or (quick if self.quick else full)


@dataclass(frozen=True)
class Findings:
    """What an experiment found. metrics: named metrics, nested. details: what the page needs beside them, as JSON.

    trajectory: one row a model and measured step. matrices: what the page draws as heat maps, by name.
    """

    metrics: Mapping[str, Any]
    details: Mapping[str, Any]
    trajectory: Sequence[Mapping[str, Any]]
    matrices: Mapping[str, np.ndarray] = field(default_factory=dict)


def schedule(steps: int, points: int = 40) -> list[int]:
    """Steps to measure at: the first, the last, and between them evenly on a logarithmic scale."""
    return sorted({0, steps, *np.unique(np.geomspace(1, max(steps, 1), points).round().astype(int)).tolist()})


def trajectory(trained: Trained, labels: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The history of an ensemble as rows, one a measured step and model; `labels` name each model."""
    rows = []
    for moment in trained.history:
        names = [name for name in moment if name != "step"]
        for index, label in enumerate(labels):
            rows.append({**label, "step": moment["step"], **{name: moment[name][index] for name in names}})
    return rows


def last(trained: Trained, names: Sequence[str]) -> dict[str, Any]:
    """Metrics over all models of an ensemble (its seeds) at the last measured step."""
    return {name: over_seeds(trained.history[-1][name], UNITS[name]) for name in names}
