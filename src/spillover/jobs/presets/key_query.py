"""Theorem 3: the merged model stays at log n even when its key-query matrix is trained; and the factorised one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from spillover.jobs.presets import UNITS, Findings, Scope, schedule, trajectory
from spillover.jobs.presets.two_models import KINDS, PAPER
from spillover.measures.over_seeds import over_seeds
from spillover.theory.comparison import Probe
from spillover.theory.learning.models import Model
from spillover.theory.learning.training import Recipe, Trained, train

#: Arms: the start, whether gradients are exact (all rows, expected noise) or sampled, and the recipe.
EXACT = {"optimiser": "gradient-descent", "rate": 1.0, "batch": 0, "precision": "float64"}
ARMS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "symmetric": ("symmetric", EXACT),
    "symmetric-perturbed": ("symmetric-perturbed", EXACT),
    "random": ("gaussian", PAPER),
}
SHOWN = ("train_loss", "implication_loss_test", "implication_loss_among", "implication_accuracy_test")


def run(scope: Scope) -> Findings:
    """Train both models from each kind of start, key-query trained, and follow the loss on unstated implications.

    A symmetric start gives all subjects of a split, all b and all c equal random weights: no class stands out, and
    exact gradients keep it so. `lowest` is the least mean loss over all steps measured, and how it lies to log n.
    """
    noisy = scope.task()
    seeds = scope.seeds_or(10)
    rows, metrics, below = [], {}, {}
    for arm, (start, fields) in ARMS.items():
        steps = scope.steps_or(3000, 500)
        recipe = Recipe(**fields, steps=steps, device=scope.device)
        task = dataclasses.replace(noisy, noise_places=0) if recipe.batch == 0 else noisy
        for kind in KINDS:
            scope.progress(f"{kind}, {arm} start: {len(seeds)} seeds, {steps} steps")
            width = scope.head_dimension if kind == "factorised" else None
            models = [Model(parameters=kind, start=start, head_dimension=width, seed=seed) for seed in seeds]
            probe, points = Probe(matrices=False), schedule(steps)
            trained = train(task, models, recipe, measure=probe, schedule=points, keeper=scope.keeper)
            rows += trajectory(trained, [{"arm": arm, "model": kind, "seed": seed} for seed in seeds])
            name = f"{kind} {arm}"
            metrics[name] = {key: over_seeds(trained.history[-1][key], UNITS[key]) for key in SHOWN}
            below[name] = _lowest(trained, float(np.log(noisy.classes)))
    details = {
        "task": dataclasses.asdict(noisy),
        "log_n": float(np.log(noisy.classes)),
        "lowest": below,
        "arms": {arm: {"start": start, **fields} for arm, (start, fields) in ARMS.items()},
    }
    return Findings(metrics, details, rows)


def _lowest(trained: Trained, bound: float) -> dict[str, float]:
    """The lowest loss on unstated implications at any measured step, of any seed and of the mean over seeds.

    standard_errors_below: how far the lowest mean lies below the bound, in standard errors over the seeds (negative
    when it lies above).
    """
    loss = np.array([moment["implication_loss_test"] for moment in trained.history])
    means = loss.mean(1)
    at = int(means.argmin())
    error = float(loss[at].std(ddof=1) / np.sqrt(loss.shape[1])) if loss.shape[1] > 1 else float("nan")
    gap = bound - float(means[at])
    return {
        "loss_of_a_seed": float(loss.min()),
        "mean_loss": float(means[at]),
        "standard_error": error,
        "standard_errors_below": gap / error if error > 0 else float("nan"),
        "step": float(trained.history[at]["step"]),
    }
