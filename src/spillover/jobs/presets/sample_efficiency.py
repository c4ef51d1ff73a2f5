"""How few bridging subjects are enough: the margin of what nobody stated, against m_train and m_test."""

from __future__ import annotations

import dataclasses

import numpy as np

from spillover.jobs.presets import UNITS, Findings, Scope, schedule, trajectory
from spillover.jobs.presets.two_models import EXACT, KINDS
from spillover.measures.over_seeds import over_seeds
from spillover.theory import symbolic
from spillover.theory.closed_form import EqualClasses, closed_form
from spillover.theory.comparison import Probe
from spillover.theory.learning.models import Model
from spillover.theory.learning.training import Recipe, train
from spillover.theory.solving import solve
from spillover.theory.symbolic import Task

SHOWN = ("margin_ratio_test", "cosine_to_nuclear", "cosine_to_frobenius", "nuclear_over_margin")


def run(scope: Scope) -> Findings:
    """Train both models on every m_train and m_test at once, beside the exact margin min(1, sqrt(m_train / m_test)).

    The exact arm of two-models: equal attention, no noise, normalised gradient descent, no decay, a small start.
    """
    classes = symbolic.parse(scope.symbolic or ("n=4" if scope.quick else "n=8")).classes
    train_sizes, test_sizes = ((1, 2, 4), (1, 4)) if scope.quick else ((1, 2, 3, 4, 6), (1, 3, 6))
    sizes = [(train, test) for test in test_sizes for train in train_sizes]
    tasks = _tasks(classes, sizes)
    seeds, steps = scope.seeds_or(5), scope.steps_or(2000, 600)
    recipe = Recipe(**EXACT, steps=steps, device=scope.device)
    rows, metrics = [], {}
    for kind in KINDS:
        scope.progress(f"{kind}: {len(sizes)} sizes, {len(seeds)} seeds, {steps} steps")
        width = scope.head_dimension if kind == "factorised" else None
        pairs = [(task, seed) for task in tasks for seed in seeds]
        models = [
            Model(parameters=kind, key_query="fixed", scale=0.1, head_dimension=width, seed=seed) for _, seed in pairs
        ]
        each, points = [task for task, _ in pairs], schedule(steps, 12)
        trained = train(each, models, recipe, measure=Probe(), schedule=points, keeper=scope.keeper)
        labels = [{"model": kind, "m_train": t.train, "m_test": t.test, "seed": seed} for t, seed in pairs]
        rows += trajectory(trained, labels)
        final = trained.history[-1]
        for index, (train_size, test_size) in enumerate(sizes):
            mine = slice(index * len(seeds), (index + 1) * len(seeds))
            name = f"{kind} train={train_size} test={test_size}"
            metrics[name] = {key: over_seeds(final[key][mine], UNITS[key]) for key in SHOWN}
    details = {
        "classes": classes,
        "sizes": [_exactly(classes, train, test) for train, test in sizes],
        "task": dataclasses.asdict(tasks[0]),
        "arms": {"exact": EXACT},
    }
    return Findings(metrics, details, rows)


def _exactly(classes: int, train: int, test: int) -> dict[str, float]:
    """The exact unstated margin, and what the general solver finds when it is given the rows alone."""
    task = EqualClasses(classes, train, test)
    solution = solve(task.pack(), "nuclear", gap=1e-6)
    solved = min(answer.ocr_margin for answer in solution.questions if answer.ocr_margin is not None)
    return {
        "m_train": train,
        "m_test": test,
        "exact": closed_form(task, "nuclear").margin,
        "solved": float(solved),
        "gap": float(solution.gap if solution.gap is not None else np.nan),
    }


def _tasks(classes: int, sizes: list[tuple[int, int]]) -> list[Task]:
    """One task a size, all over the vocabulary of the largest."""
    plain = [Task(classes, train, test, noise_tokens=0, noise_places=0) for train, test in sizes]
    largest = max(task.vocabulary for task in plain)
    return [dataclasses.replace(task, vocabulary=largest) for task in plain]
