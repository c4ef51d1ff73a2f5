"""How many columns the factorised model needs before it deduces: d_h from 3 to 128, the paper's recipe."""

from __future__ import annotations

import dataclasses

import numpy as np

from spillover.jobs.presets import Findings, Scope, schedule, trajectory
from spillover.jobs.presets.two_models import PAPER, UNITS, exact_facts
from spillover.measures.over_seeds import over_seeds
from spillover.theory.comparison import Probe
from spillover.theory.learning.models import Model
from spillover.theory.learning.training import Recipe, train

RANKS = (3, 4, 8, 16, 32, 64, 128)
SHOWN = ("train_loss", "implication_loss_test", "implication_accuracy_test")


def run(scope: Scope) -> Findings:
    """Train every rank and seed side by side, and the merged model beside them."""
    task = scope.task()
    ranks = (scope.head_dimension,) if scope.head_dimension else tuple(r for r in RANKS if r <= task.vocabulary)
    seeds, steps = scope.seeds_or(5), scope.steps_or(20000, 600)
    recipe = Recipe(**PAPER, steps=steps, device=scope.device)
    rows, metrics = [], {}
    # Narrow and wide models apart: a batch is as wide as its widest model.
    for group in ([r for r in ranks if r <= 16], [r for r in ranks if r > 16], [None]):
        models = [
            Model(parameters="factorised" if rank else "merged", head_dimension=rank, seed=seed)
            for rank in group
            for seed in seeds
        ]
        if not models:
            continue
        names = [f"d_h={model.head_dimension}" if model.head_dimension else "merged" for model in models]
        scope.progress(f"{', '.join(dict.fromkeys(names))}: {steps} steps, {len(models)} models")
        probe, points = Probe(matrices=False), schedule(steps)
        trained = train(task, models, recipe, measure=probe, schedule=points, keeper=scope.keeper)
        labels = [
            {"model": model.parameters, "head_dimension": model.head_dimension, "seed": model.seed} for model in models
        ]
        rows += trajectory(trained, labels)
        final = trained.history[-1]
        for name in dict.fromkeys(names):
            mine = [index for index, other in enumerate(names) if other == name]
            metrics[name] = {key: over_seeds([final[key][i] for i in mine], UNITS[key]) for key in SHOWN}
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "ranks": list(ranks),
        "exact": exact_facts(task),
        "arms": {"paper": PAPER},
    }
    return Findings(metrics, details, rows)
