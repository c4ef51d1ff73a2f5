"""Does the contrast outlive the paper's model? Factorised against merged in deeper and richer networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from spillover.jobs.presets import UNITS, Findings, Scope, schedule
from spillover.jobs.presets.two_models import KINDS
from spillover.measures.over_seeds import over_seeds
from spillover.theory.learning.networks import Architecture, train_networks
from spillover.theory.learning.training import Recipe

#: What differs from one linear layer with one head and one-hot tokens.
VARIANTS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "softmax attention": {"attention": "softmax"},
    "four heads": {"heads": 4},
    "two layers": {"layers": 2},
    "two layers, residual": {"layers": 2, "residual": True},
    "two layers, residual, softmax": {"layers": 2, "residual": True, "attention": "softmax"},
    "residual, MLP": {"residual": True, "hidden": 64},
    "learned embeddings": {"embedding": 32},
    "learned embeddings, small start": {"embedding": 32, "scale": 0.3},
    "two layers, four heads, all of it": {
        "layers": 2, "heads": 4, "residual": True, "attention": "softmax", "hidden": 64, "embedding": 32
    },
}  # fmt: skip
RECIPE: dict[str, Any] = {"optimiser": "adamw", "rate": 2e-3, "weight_decay": 0.0, "batch": 0}
SHOWN = ("train_loss", "implication_loss_test", "implication_accuracy_test")


def run(scope: Scope) -> Findings:
    """Train every variant, factorised and merged, on all stated rows at once without noise."""
    task = scope.task(quick="n=4,train=1,test=3", full="n=8,train=1,test=3", noise_tokens=0, noise_places=0)
    seeds, steps = scope.seeds_or(5), scope.steps_or(2000, 300)
    recipe = Recipe(**RECIPE, steps=steps, device=scope.device)
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    contrast: dict[str, Any] = {}
    for variant, fields in VARIANTS.items():
        scope.progress(f"{variant}: {len(seeds)} seeds, {steps} steps, factorised and merged")
        accuracy = {}
        for kind in KINDS:
            shape = Architecture(parameters=kind, **fields)
            points = schedule(steps, 20)
            _, history = train_networks(shape, task, seeds, recipe, schedule=points, keeper=scope.keeper)
            rows += [
                {
                    "variant": variant,
                    "model": kind,
                    "seed": seed,
                    "step": moment["step"],
                    **{k: moment[k][i] for k in UNITS if k in moment},
                }
                for moment in history
                for i, seed in enumerate(seeds)
            ]
            accuracy[kind] = history[-1]["implication_accuracy_test"]
            metrics[f"{variant} / {kind}"] = {key: over_seeds(history[-1][key], UNITS[key]) for key in SHOWN}
        difference = np.subtract(accuracy["factorised"], accuracy["merged"]).tolist()
        contrast[variant] = over_seeds(difference, "accuracy of the factorised network minus the merged one's")
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "contrast": contrast,
        "order": list(VARIANTS),
        "variants": {name: dataclasses.asdict(Architecture(**fields)) for name, fields in VARIANTS.items()},
        "arms": {"all": RECIPE},
    }
    return Findings(metrics, details, rows)
