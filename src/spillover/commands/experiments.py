"""The experiments of `lab`: factorised against merged models, rank, attention, architecture and dials."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spillover.commands.lab import UNITS, Findings, Scope, last, schedule, trajectory
from spillover.metrics.intervals import over_seeds
from spillover.packs.pack import Fact, Pack
from spillover.theory.closed_form import closed_form, exact_margin
from spillover.theory.comparison import Probe, cosine, effective_matrices, exact_matrix, margins, norms
from spillover.theory.models import Model
from spillover.theory.networks import Architecture, train_networks
from spillover.theory.norms import Mixed
from spillover.theory.solving import Solution, solve
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import IMPLICATION, EqualClasses, Task
from spillover.theory.table import table_of
from spillover.theory.training import Recipe, Trained, train

KINDS = ("factorised", "merged")
#: Each model's own norm: the one that Theorem 1 says its training minimises.
OWN_NORM = {"factorised": "nuclear_over_margin", "merged": "frobenius_over_margin"}
PAPER: dict[str, Any] = {"optimiser": "adamw", "rate": 5e-3, "weight_decay": 0.03, "batch": 252}
TWO_MODELS_EXACT: dict[str, Any] = {
    "optimiser": "normalised-gradient-descent",
    "rate": 0.1,
    "weight_decay": 0.0,
    "batch": 0,
}


def two_models(scope: Scope) -> Findings:
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
    details["arms"] = {"paper": PAPER, "exact": TWO_MODELS_EXACT}
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
    recipe = Recipe(**(PAPER if paper else TWO_MODELS_EXACT), steps=steps, device=scope.device)
    return train(task, models, recipe, measure=Probe(), schedule=schedule(steps), checkpointer=scope.checkpointer)


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


SAMPLE_EFFICIENCY_SHOWN = ("margin_ratio_test", "cosine_to_nuclear", "cosine_to_frobenius", "nuclear_over_margin")


def sample_efficiency(scope: Scope) -> Findings:
    """Train both models on every m_train and m_test at once, beside the exact margin min(1, sqrt(m_train / m_test)).

    The exact arm of two-models: equal attention, no noise, normalised gradient descent, no decay, a small start.
    """
    classes = Task.parse(scope.symbolic or ("n=4" if scope.quick else "n=8")).classes
    train_sizes, test_sizes = ((1, 2, 4), (1, 4)) if scope.quick else ((1, 2, 3, 4, 6), (1, 3, 6))
    sizes = [(train, test) for test in test_sizes for train in train_sizes]
    tasks = _tasks(classes, sizes)
    seeds, steps = scope.seeds_or(5), scope.steps_or(2000, 600)
    recipe = Recipe(**TWO_MODELS_EXACT, steps=steps, device=scope.device)
    rows, metrics = [], {}
    for kind in KINDS:
        scope.progress(f"{kind}: {len(sizes)} sizes, {len(seeds)} seeds, {steps} steps")
        width = scope.head_dimension if kind == "factorised" else None
        pairs = [(task, seed) for task in tasks for seed in seeds]
        models = [
            Model(parameters=kind, key_query="fixed", scale=0.1, head_dimension=width, seed=seed) for _, seed in pairs
        ]
        each, points = [task for task, _ in pairs], schedule(steps, 12)
        trained = train(each, models, recipe, measure=Probe(), schedule=points, checkpointer=scope.checkpointer)
        labels = [{"model": kind, "m_train": t.train, "m_test": t.test, "seed": seed} for t, seed in pairs]
        rows += trajectory(trained, labels)
        final = trained.history[-1]
        for index, (train_size, test_size) in enumerate(sizes):
            mine = slice(index * len(seeds), (index + 1) * len(seeds))
            name = f"{kind} train={train_size} test={test_size}"
            metrics[name] = {key: over_seeds(final[key][mine], UNITS[key]) for key in SAMPLE_EFFICIENCY_SHOWN}
    details = {
        "classes": classes,
        "sizes": [_exactly(classes, train, test) for train, test in sizes],
        "task": dataclasses.asdict(tasks[0]),
        "arms": {"exact": TWO_MODELS_EXACT},
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


RANKS = (3, 4, 8, 16, 32, 64, 128)
RANK_SWEEP_SHOWN = ("train_loss", "implication_loss_test", "implication_accuracy_test")


def rank_sweep(scope: Scope) -> Findings:
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
        trained = train(task, models, recipe, measure=probe, schedule=points, checkpointer=scope.checkpointer)
        labels = [
            {"model": model.parameters, "head_dimension": model.head_dimension, "seed": model.seed} for model in models
        ]
        rows += trajectory(trained, labels)
        final = trained.history[-1]
        for name in dict.fromkeys(names):
            mine = [index for index, other in enumerate(names) if other == name]
            metrics[name] = {key: over_seeds([final[key][i] for i in mine], UNITS[key]) for key in RANK_SWEEP_SHOWN}
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "ranks": list(ranks),
        "exact": exact_facts(task),
        "arms": {"paper": PAPER},
    }
    return Findings(metrics, details, rows)


#: Arms: the start, whether gradients are exact (all rows, expected noise) or sampled, and the recipe.
KEY_QUERY_EXACT = {"optimiser": "gradient-descent", "rate": 1.0, "batch": 0, "precision": "float64"}
KEY_QUERY_ARMS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "symmetric": ("symmetric", KEY_QUERY_EXACT),
    "symmetric-perturbed": ("symmetric-perturbed", KEY_QUERY_EXACT),
    "random": ("gaussian", PAPER),
}
KEY_QUERY_SHOWN = ("train_loss", "implication_loss_test", "implication_loss_among", "implication_accuracy_test")


def key_query(scope: Scope) -> Findings:
    """Train both models from each kind of start, key-query trained, and follow the loss on unstated implications.

    A symmetric start gives all subjects of a split, all b and all c equal random weights: no class stands out, and
    exact gradients keep it so. `lowest` is the least mean loss over all steps measured, and how it lies to log n.
    """
    noisy = scope.task()
    seeds = scope.seeds_or(10)
    rows, metrics, below = [], {}, {}
    for arm, (start, fields) in KEY_QUERY_ARMS.items():
        steps = scope.steps_or(3000, 500)
        recipe = Recipe(**fields, steps=steps, device=scope.device)
        task = dataclasses.replace(noisy, noise_places=0) if recipe.batch == 0 else noisy
        for kind in KINDS:
            scope.progress(f"{kind}, {arm} start: {len(seeds)} seeds, {steps} steps")
            width = scope.head_dimension if kind == "factorised" else None
            models = [Model(parameters=kind, start=start, head_dimension=width, seed=seed) for seed in seeds]
            probe, points = Probe(matrices=False), schedule(steps)
            trained = train(task, models, recipe, measure=probe, schedule=points, checkpointer=scope.checkpointer)
            rows += trajectory(trained, [{"arm": arm, "model": kind, "seed": seed} for seed in seeds])
            name = f"{kind} {arm}"
            metrics[name] = {key: over_seeds(trained.history[-1][key], UNITS[key]) for key in KEY_QUERY_SHOWN}
            below[name] = _lowest(trained, float(np.log(noisy.classes)))
    details = {
        "task": dataclasses.asdict(noisy),
        "log_n": float(np.log(noisy.classes)),
        "lowest": below,
        "arms": {arm: {"start": start, **fields} for arm, (start, fields) in KEY_QUERY_ARMS.items()},
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
ARCHITECTURE_RECIPE: dict[str, Any] = {"optimiser": "adamw", "rate": 2e-3, "weight_decay": 0.0, "batch": 0}
ARCHITECTURE_SHOWN = ("train_loss", "implication_loss_test", "implication_accuracy_test")


def architecture(scope: Scope) -> Findings:
    """Train every variant, factorised and merged, on all stated rows at once without noise."""
    task = scope.task(quick="n=4,train=1,test=3", full="n=8,train=1,test=3", noise_tokens=0, noise_places=0)
    seeds, steps = scope.seeds_or(5), scope.steps_or(2000, 300)
    recipe = Recipe(**ARCHITECTURE_RECIPE, steps=steps, device=scope.device)
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    contrast: dict[str, Any] = {}
    for variant, fields in VARIANTS.items():
        scope.progress(f"{variant}: {len(seeds)} seeds, {steps} steps, factorised and merged")
        accuracy = {}
        for kind in KINDS:
            shape = Architecture(parameters=kind, **fields)
            points = schedule(steps, 20)
            _, history = train_networks(shape, task, seeds, recipe, schedule=points, checkpointer=scope.checkpointer)
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
            metrics[f"{variant} / {kind}"] = {
                key: over_seeds(history[-1][key], UNITS[key]) for key in ARCHITECTURE_SHOWN
            }
        difference = np.subtract(accuracy["factorised"], accuracy["merged"]).tolist()
        contrast[variant] = over_seeds(difference, "accuracy of the factorised network minus the merged one's")
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "contrast": contrast,
        "order": list(VARIANTS),
        "variants": {name: dataclasses.asdict(Architecture(**fields)) for name, fields in VARIANTS.items()},
        "arms": {"all": ARCHITECTURE_RECIPE},
    }
    return Findings(metrics, details, rows)


SIZES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0)
FEW_SIZES = (0.1, 0.3, 1.0, 3.0)
#: Width of the model and its step size a stated row: the first with every size of start, the others with a few.
DIAL_ARMS = ((128, 0.04), (128, 0.01), (32, 0.04), (512, 0.04))
DIAL_RECIPE: dict[str, Any] = {"optimiser": "gradient-descent", "batch": 0, "weighting": "rows", "stop_loss": 0.01}
DIAL_SHOWN = ("margin_ratio_test", "implication_loss_among")
SHARES = tuple(np.round(np.linspace(0, 1, 11), 2).tolist())
#: Of six subjects a class, one is a bridge; up to four others abstain or contradict.
CLASSES, SUBJECTS = 4, 6
UNKNOWN = "unknown"


def dial(scope: Scope) -> Findings:
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
    arms = DIAL_ARMS[:2] if scope.quick else DIAL_ARMS
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
        recipe = Recipe(**DIAL_RECIPE, rate=rate * len(task.stated), steps=steps, device=scope.device)
        trained = train(
            task, models, recipe, rates=[1 / max(1.0, size**2) for size, _ in pairs], checkpointer=scope.checkpointer
        )
        found = Probe()(trained.ensemble, steps)
        for index, (size, seed) in enumerate(pairs):
            label = {"model": kind, "width": width, "rate": rate, "sigma": size, "seed": seed}
            rows.append(
                {**label, "step": int(trained.steps[index]), **{key: value[index] for key, value in found.items()}}
            )
        for index, size in enumerate(sizes):
            mine = slice(index * len(seeds), (index + 1) * len(seeds))
            name = f"{kind} sigma={size:g} d_h={width} rate={rate:g}"
            metrics[name] = {key: over_seeds(found[key][mine], UNITS[key]) for key in DIAL_SHOWN}
    details = {
        "task": dataclasses.asdict(task),
        "log_n": float(np.log(task.classes)),
        "exact_margin": exact_margin(EqualClasses(task.classes, task.train, task.test), 0.0),
        "arms": {"starts": {**DIAL_RECIPE, "widths_and_rates": arms}},
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
