"""Two models with the same power, one of which concludes what nobody told it: factorised against merged."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from spillover.jobs.presets import UNITS, Findings, Scope, last, schedule, trajectory
from spillover.measures.over_seeds import over_seeds
from spillover.theory.comparison import Probe, cosine, effective_matrices, exact_matrix, margins, norms
from spillover.theory.learning.models import Model
from spillover.theory.learning.training import Recipe, Trained, train
from spillover.theory.symbolic import Task

KINDS = ("factorised", "merged")
#: Each model's own norm: the one that Theorem 1 says its training minimises.
OWN_NORM = {"factorised": "nuclear_over_margin", "merged": "frobenius_over_margin"}
PAPER: dict[str, Any] = {"optimiser": "adamw", "rate": 5e-3, "weight_decay": 0.03, "batch": 252}
EXACT: dict[str, Any] = {"optimiser": "normalised-gradient-descent", "rate": 0.1, "weight_decay": 0.0, "batch": 0}


def run(scope: Scope) -> Findings:
    """Train both models twice: as the paper does, for the losses, and exactly, for the direction of the matrix.

    The paper's arm: AdamW, noise, key-query trained. The exact arm: fixed equal attention, no noise, all rows at every
    step, normalised gradient descent, no decay, a small start. Adam's own geometry is another (docs/theory.md), so the
    cosines and margins come from the exact arm alone.
    """
    noisy = scope.task()
    silent = dataclasses.replace(noisy, noise_places=0)
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    matrices: dict[str, np.ndarray] = {}
    details: dict[str, Any] = {"task": dataclasses.asdict(noisy), "log_n": float(np.log(noisy.classes))}
    for kind in KINDS:
        scope.progress(f"{kind}: the paper's recipe")
        paper = _train(scope, noisy, kind, "paper")
        scope.progress(f"{kind}: exact gradients")
        exact = _train(scope, silent, kind, "exact")
        for arm, trained in (("paper", paper), ("exact", exact)):
            labels = [{"arm": arm, "model": kind, "seed": model.seed} for model in trained.ensemble.models]
            rows += trajectory(trained, labels)
        metrics[kind] = last(paper, ("train_loss", "implication_loss_test", "implication_accuracy_test"))
        metrics[kind] |= last(exact, ("cosine_to_nuclear", "cosine_to_frobenius", "margin_ratio_test"))
        metrics[kind]["norm_over_margin"] = last(exact, (OWN_NORM[kind],))[OWN_NORM[kind]]
        details[kind] = _beside(paper, exact)
        matrices[kind] = effective_matrices(exact.ensemble)[0] / exact.history[-1]["smallest_margin"][0]
    for norm in ("nuclear", "frobenius"):
        matrices[norm] = exact_matrix(silent, norm)
    details["exact"] = exact_facts(silent)
    details["arms"] = {"paper": PAPER, "exact": EXACT}
    return Findings(metrics, details, rows, matrices)


def _train(scope: Scope, task: Task, kind: str, arm: str) -> Trained:
    paper = arm == "paper"
    models = [
        Model(
            parameters=kind,
            key_query="trained" if paper else "fixed",
            scale=1.0 if paper else 0.1,
            head_dimension=scope.head_dimension if kind == "factorised" else None,
            seed=seed,
        )
        for seed in scope.seeds_or(5)
    ]
    steps = scope.steps_or(5000, 600) if paper else scope.steps_or(4000, 1000)
    recipe = Recipe(**(PAPER if paper else EXACT), steps=steps, device=scope.device)
    return train(task, models, recipe, measure=Probe(), schedule=schedule(steps), keeper=scope.keeper)


def _beside(paper: Trained, exact: Trained) -> dict[str, Any]:
    """Numbers for the page that are no headline: both norms, and what the paper's recipe does to the direction."""
    names = ("nuclear_over_margin", "frobenius_over_margin")
    difference = np.subtract(exact.history[-1]["cosine_to_nuclear"], exact.history[-1]["cosine_to_frobenius"])
    return {
        "cosine_difference": over_seeds(difference.tolist(), "cosine to nuclear minus cosine to Frobenius"),
        **last(exact, names),
        "paper_arm": last(paper, ("cosine_to_nuclear", "cosine_to_frobenius")),
        "train_loss_exact_arm": over_seeds(exact.history[-1]["train_loss"], UNITS["train_loss"]),
    }


def exact_facts(task: Task) -> dict[str, Any]:
    """The two exact solutions in numbers: norms, smallest unstated margin, and their cosine with each other."""
    nuclear, frobenius = (exact_matrix(task, norm) for norm in ("nuclear", "frobenius"))

    def margin(matrix: np.ndarray) -> float | None:
        return float(margins(task, matrix, task.questions, same_relation=True).min()) if task.test else None

    return {
        "nuclear": {"norm": norms(nuclear)[0], "margin_ratio_test": margin(nuclear)},
        "frobenius": {"norm": norms(frobenius)[1], "margin_ratio_test": margin(frobenius)},
        "cosine": cosine(nuclear, frobenius),
    }
