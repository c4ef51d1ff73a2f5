"""Three dials from concluding to not concluding: the norm, the size of the start, rows that abstain or contradict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from spillover.facts.pack import Fact, Pack
from spillover.jobs.presets import UNITS, Findings, Scope
from spillover.measures.over_seeds import over_seeds
from spillover.theory.closed_form import IMPLICATION, EqualClasses
from spillover.theory.comparison import Probe
from spillover.theory.learning.models import Model
from spillover.theory.learning.training import Recipe, train
from spillover.theory.mixed_norm import Mixed, exact_margin
from spillover.theory.solvers.maximum_margin import minimise
from spillover.theory.solving import Solution, solve
from spillover.theory.table import table_of

SIZES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0)
FEW_SIZES = (0.1, 0.3, 1.0, 3.0)
#: Width of the model and its step size a stated row: the first with every size of start, the others with a few.
ARMS = ((128, 0.04), (128, 0.01), (32, 0.04), (512, 0.04))
RECIPE: dict[str, Any] = {"optimiser": "gradient-descent", "batch": 0, "weighting": "rows", "stop_loss": 0.01}
SHOWN = ("margin_ratio_test", "implication_loss_among")
SHARES = tuple(np.round(np.linspace(0, 1, 11), 2).tolist())
#: Of six subjects a class, one is a bridge; up to four others abstain or contradict.
CLASSES, SUBJECTS = 4, 6
UNKNOWN = "unknown"


def run(scope: Scope) -> Findings:
    """Turn each dial: train from small to large starts, solve between the norms, and add rows to the exact problem."""
    rows, metrics, details = _starts(scope)
    scope.progress("the mixed norm")
    details["mixed"] = _mixed(scope)
    scope.progress("abstaining and contradicting rows")
    details["abstaining"] = [_abstaining(count, norm) for norm in ("nuclear", "frobenius") for count in range(5)]
    details["contradicting"] = [
        _contradicting(bridges, count, norm)
        for norm in ("nuclear", "frobenius")
        for bridges in (1, 2)
        for count in range(4)
    ]
    return Findings(metrics, details, rows)


def _starts(scope: Scope) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Rich to lazy: gradient descent to a loss of 0.01 from starts of standard deviation sigma / sqrt(d_h).

    The function is centred at the start, attention is equal, there is no noise. A large start's slopes grow with its
    square, so its step size shrinks with it. The linearised model does not depend on sigma at that step size.
    """
    task = scope.task(noise_places=0)
    seeds, steps = scope.seeds_or(5), scope.steps_or(8000, 3000)
    arms = ARMS[:2] if scope.quick else ARMS
    if scope.head_dimension:
        arms = ((scope.head_dimension, 0.04), (scope.head_dimension, 0.01))
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    jobs = [("factorised", *arm, FEW_SIZES if index or scope.quick else SIZES) for index, arm in enumerate(arms)]
    for kind, width, rate, sizes in [*jobs, ("linearised", *arms[0], (1.0,))]:
        scope.progress(f"{kind}, d_h={width}, step size {rate:g}: {len(sizes)} sizes, {len(seeds)} seeds")
        pairs = [(size, seed) for size in sizes for seed in seeds]
        models = [
            Model(kind, "linear", "fixed", width, "gaussian-width", size, centred=True, seed=seed)
            for size, seed in pairs
        ]
        recipe = Recipe(**RECIPE, rate=rate * len(task.stated), steps=steps, device=scope.device)
        trained = train(task, models, recipe, rates=[1 / max(1.0, size**2) for size, _ in pairs], keeper=scope.keeper)
        found = Probe()(trained.ensemble, steps)
        for index, (size, seed) in enumerate(pairs):
            label = {"model": kind, "width": width, "rate": rate, "sigma": size, "seed": seed}
            rows.append(
                {**label, "step": int(trained.steps[index]), **{key: value[index] for key, value in found.items()}}
            )
        for index, size in enumerate(sizes):
            mine = slice(index * len(seeds), (index + 1) * len(seeds))
            name = f"{kind} sigma={size:g} d_h={width} rate={rate:g}"
            metrics[name] = {key: over_seeds(found[key][mine], UNITS[key]) for key in SHOWN}
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "exact_margin": exact_margin(EqualClasses(task.classes, task.train, task.test), 0.0),
        "arms": {"starts": {**RECIPE, "widths_and_rates": arms}},
    }
    return rows, metrics, details


def _mixed(scope: Scope) -> list[dict[str, float]]:
    """The unstated margin at each share of the Frobenius norm: by one dimension, and by the general solver."""
    task = EqualClasses(4 if scope.quick else 6, 1, 3)
    problem = table_of(task.pack()).problem
    test = int(np.argmax(problem.sizes))
    found = []
    for share in SHARES:
        norm = Mixed(share)
        optimum = minimise(problem, norm, 1e-6, 4000)
        assert optimum.matrix is not None
        scores = optimum.matrix @ _question(problem.sizes, test)
        answers = scores[task.classes :]
        top, second = np.sort(answers)[::-1][:2]
        found.append(
            {
                "share": share,
                "exact": exact_margin(task, share),
                "solved": float(top - second),
                "gap": optimum.gap(norm),
            }
        )
    return found


def _question(sizes: np.ndarray, signature: int) -> np.ndarray:
    """The column that asks a signature's subject for its implication, in the scaled problem (r2 is the last column)."""
    question = np.zeros(len(sizes) + 2)
    question[signature] = 1 / np.sqrt(sizes[signature])
    question[-1] = 1
    return question


def _abstaining(count: int, norm: str) -> dict[str, Any]:
    """`count` subjects a class say "unknown" to r2: how far does the leaked answer still lead over it, for the rest?"""
    task = EqualClasses(CLASSES, 1, SUBJECTS - 1)
    extra = [Fact(f"s{name}.{1 + place}", IMPLICATION, UNKNOWN) for name in task.names for place in range(count)]
    solution = solve(_with(task.pack(), extra), norm, gap=1e-6)
    lead = _lead(solution, task, UNKNOWN)
    return {"norm": norm, "count": count, "leaked_minus_unknown": lead, "gap": solution.gap, "status": solution.status}


def _contradicting(bridges: int, count: int, norm: str) -> dict[str, Any]:
    """`count` subjects a class state the next class's implication: the leaked answer's lead over that one."""
    task = EqualClasses(CLASSES, bridges, SUBJECTS - bridges)
    following = {name: task.names[(index + 1) % CLASSES] for index, name in enumerate(task.names)}
    extra = [
        Fact(f"s{name}.{bridges + place}", IMPLICATION, f"c{following[name]}")
        for name in task.names
        for place in range(count)
    ]
    solution = solve(_with(task.pack(), extra), norm, gap=1e-6)
    lead = _lead(solution, task, f"c{following[task.names[0]]}")
    return {"norm": norm, "bridges": bridges, "count": count, "leaked_minus_other": lead, "gap": solution.gap}


def _with(pack: Pack, extra: Sequence[Fact]) -> Pack:
    """The pack with more rows; "unknown" is a candidate of r2 from the start."""
    relations = tuple(
        dataclasses.replace(relation, answers=(UNKNOWN,)) if relation.name == IMPLICATION else relation
        for relation in pack.relations
    )
    return dataclasses.replace(pack, facts=(*pack.facts, *extra), relations=relations)


def _lead(solution: Solution, task: EqualClasses, other: str) -> float:
    """Score of the first class's implication minus that of `other`, for that class's last subject, who is silent."""
    assert solution.table is not None
    table, weights = solution.table, solution.weights()
    column = table.subjects.index(f"s{task.names[0]}.{SUBJECTS - 1}")
    score = weights[:, column] + weights[:, len(table.subjects) + table.relations.index(IMPLICATION)]
    return float(score[table.answers.index(f"c{task.names[0]}")] - score[table.answers.index(other)])
