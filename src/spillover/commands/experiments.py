"""The experiments of `lab`: factorised against merged models, rank, attention, architecture and dials.

Each is a function from the `Experiment` under way that says what to train and records what was found.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spillover.details import ExactPair, LabDetails
from spillover.metrics.intervals import over_seeds
from spillover.packs.edits import with_candidate
from spillover.packs.pack import Fact
from spillover.report.lab import KINDS, LOSSES, NORMS
from spillover.runs import progress, say
from spillover.theory.closed_form import closed_form, deep_form, exact_margin
from spillover.theory.models import Model
from spillover.theory.networks import Architecture, EmbeddingMLP, train_networks
from spillover.theory.norms import Mixed
from spillover.theory.solving import Solution, solve
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import IMPLICATION, EqualClasses, Task
from spillover.theory.table import lead, table_of
from spillover.theory.training import (
    Checkpointer,
    Probe,
    Recipe,
    Trained,
    cosine,
    effective_matrices,
    exact_matrix,
    margins,
    norms,
    train,
)

if TYPE_CHECKING:
    from spillover.commands.lab import Lab

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
    "margin_middle_test": "middle unstated margin in units of the smallest stated margin",
}
COSINES = ("cosine_to_nuclear", "cosine_to_frobenius")
#: Each model's own norm: the one that Theorem 1 says its training minimises.
OWN_NORM = {"factorised": "nuclear_over_margin", "merged": "frobenius_over_margin"}
#: The paper's recipe, and exact gradients without decay, which the theory is about.
PAPER: dict[str, Any] = {"optimiser": "adamw", "rate": 5e-3, "weight_decay": 0.03, "batch": 252}
EXACT: dict[str, Any] = {"optimiser": "normalised-gradient-descent", "rate": 0.1, "weight_decay": 0.0, "batch": 0}
Rows = Sequence[Mapping[str, Any]]
#: Models to train with every seed: what a row of the trajectory says of them, their task, and the model.
Variants = Sequence[tuple[Mapping[str, Any], Task, Model]]


class Experiment:
    """An experiment under way: what the user asked, and what was found so far.

    metrics: named metrics by group. details: what the page needs beside them. trajectory: one row a model and
    measured step. matrices: what the page draws as heat maps, by name.
    """

    details: LabDetails

    def __init__(self, settings: Lab, seeds: Sequence[int], checkpointer: Checkpointer) -> None:
        self.settings, self.seeds, self.checkpointer = settings, seeds, checkpointer
        self.metrics: dict[str, dict[str, Any]] = {}
        self.trajectory: list[dict[str, Any]] = []
        self.matrices: dict[str, np.ndarray] = {}

    def task(self, *, quick: str = "n=6,train=1,test=3", full: str = "n=20,train=1,test=3", **fields: int) -> Task:
        """The task: the user's, or the experiment's for this size of run."""
        return Task.parse(self.settings.symbolic or (quick if self.settings.quick else full), **fields)

    def recipe(self, fields: Mapping[str, Any], *, full: int, quick: int) -> Recipe:
        """The recipe with the user's steps, or the experiment's for this size of run."""
        steps = self.settings.steps or (quick if self.settings.quick else full)
        return Recipe(**fields, steps=steps, device=self.settings.device)

    def model(self, kind: str, **fields: Any) -> Model:
        """A model of this kind, with the user's head dimension if it is factorised."""
        width = self.settings.head_dimension if kind == "factorised" else None
        return Model(**{"parameters": kind, "head_dimension": width, **fields})

    def describe(self, task: Task, arms: Mapping[str, Any], **details: Any) -> None:
        """Note the task, the recipe of each arm, and what else the page needs."""
        log_n = float(np.log(task.classes))
        self.details = LabDetails(task=dataclasses.asdict(task), log_n=log_n, arms=dict(arms), **details)

    def train(
        self, group: str, variants: Variants, recipe: Recipe, shown: Sequence[str], *, matrices: bool = True,
        points: int = 40, rates: Sequence[float] = (),
    ) -> Trained:  # fmt: skip
        """Train every variant with every seed side by side, measured by a Probe, and record it.

        group, shown: as in `record`. matrices: whether to measure them. points: how often to measure; 0 for once, at
        the step where each model rests. rates: a factor on the recipe's rate for each variant.
        """
        every = [(label, task, model, seed) for label, task, model in variants for seed in self.seeds]
        ends = dict.fromkeys(group.format(**label) for label, _, _ in (variants[0], variants[-1]))
        say(f"{' to '.join(ends)}: {len(every)} models, {recipe.steps} steps")
        probe = Probe(matrices=matrices)
        with progress("training", recipe.steps, "step") as bar:
            trained = train(
                [task for _, task, _, _ in every],
                [dataclasses.replace(model, seed=seed) for _, _, model, seed in every], recipe,
                rates=np.repeat(rates, len(self.seeds)).tolist() if len(rates) else None, measure=probe,
                schedule=schedule(recipe.steps, points) if points else (), checkpointer=self.checkpointer,
                progress=lambda step: bar.update(step - bar.n),
            )  # fmt: skip
        history = trained.history or ({"step": trained.steps.tolist(), **probe(trained.ensemble, recipe.steps)},)
        self.record(group, [{**label, "seed": seed} for label, _, _, seed in every], history, shown)
        return trained

    def record(self, group: str, labels: Rows, history: Rows, shown: Sequence[str]) -> None:
        """Add a row for each measured step and model, and the last numbers `shown` as metrics of each group of models.

        group: the name of a model's group, to be filled in from its label; a group is pooled over its seeds.
        """
        for moment, (index, label) in itertools.product(history, enumerate(labels)):
            measured = {name: value[index] if isinstance(value, list) else value for name, value in moment.items()}
            self.trajectory.append({**label, **measured})
        names, final = [group.format(**label) for label in labels], history[-1]
        for name in dict.fromkeys(names):
            mine = [index for index, other in enumerate(names) if other == name]
            found = {key: over_seeds([final[key][index] for index in mine], UNITS[key]) for key in shown}
            self.metrics.setdefault(name, {}).update(found)


def schedule(steps: int, points: int = 40) -> list[int]:
    """Steps to measure at: the first, the last, and between them evenly on a logarithmic scale."""
    return sorted({0, steps, *np.unique(np.geomspace(1, max(steps, 1), points).round().astype(int)).tolist()})


def last(trained: Trained, names: Sequence[str]) -> dict[str, Any]:
    """Metrics over all models of an ensemble (its seeds) at the last measured step."""
    return {name: over_seeds(trained.history[-1][name], UNITS[name]) for name in names}


def two_models(lab: Experiment) -> None:
    """Train both models twice: as the paper does, for the losses, and exactly, for the direction of the matrix.

    The exact arm: fixed equal attention, no noise, all rows at every step, normalised gradient descent, no decay, a
    small start. Adam's own geometry is another (docs/theory.md): cosines and margins come from the exact arm alone.
    """
    noisy = lab.task()
    silent = dataclasses.replace(noisy, noise_places=0)
    lab.describe(noisy, {"paper": PAPER, "exact": EXACT}, exact=exact_facts(silent))
    by_paper, exactly = lab.recipe(PAPER, full=5000, quick=600), lab.recipe(EXACT, full=4000, quick=1000)
    for kind in KINDS:
        variants: Variants = [({"arm": "paper", "model": kind}, noisy, lab.model(kind))]
        paper = lab.train("{model}", variants, by_paper, LOSSES)
        variants = [({"arm": "exact", "model": kind}, silent, lab.model(kind, key_query="fixed", scale=0.1))]
        exact = lab.train("{model}", variants, exactly, (*COSINES, "margin_ratio_test"))
        final, own = exact.history[-1], OWN_NORM[kind]
        lab.metrics[kind]["norm_over_margin"] = last(exact, (own,))[own]
        difference = np.subtract(final["cosine_to_nuclear"], final["cosine_to_frobenius"]).tolist()
        found = {
            "cosine_difference": over_seeds(difference, "cosine to nuclear minus cosine to Frobenius"),
            **last(exact, tuple(OWN_NORM.values())),
            "paper_arm": last(paper, COSINES),
            "train_loss_exact_arm": last(exact, ("train_loss",))["train_loss"],
        }
        setattr(lab.details, kind, found)
        lab.matrices[kind] = effective_matrices(exact.ensemble)[0] / final["smallest_margin"][0]
    lab.matrices |= {norm: exact_matrix(silent, norm) for norm in NORMS}


def exact_facts(task: Task) -> ExactPair:
    """The two exact solutions in numbers: norms, smallest unstated margin, and their cosine with each other."""
    exact = {norm: exact_matrix(task, norm) for norm in NORMS}
    facts: dict[str, Any] = {"cosine": cosine(*exact.values())}
    for index, (norm, matrix) in enumerate(exact.items()):
        least = float(margins(task, matrix, task.questions, same_relation=True).min()) if task.test else None
        facts[norm] = {"norm": norms(matrix)[index], "margin_ratio_test": least}
    return ExactPair(**facts)


def sample_efficiency(lab: Experiment) -> None:
    """Train the exact arm of two-models on each m_train, m_test, beside the margin min(1, sqrt(m_train / m_test))."""
    classes = lab.task(quick="n=4", full="n=8").classes
    train_sizes, test_sizes = ((1, 2, 4), (1, 4)) if lab.settings.quick else ((1, 2, 3, 4, 6), (1, 3, 6))
    sizes = [(train_size, test_size) for test_size in test_sizes for train_size in train_sizes]
    tasks = [Task(classes, *size, noise_tokens=0, noise_places=0) for size in sizes]
    # All over the vocabulary of the largest, so that they train side by side.
    largest = max(task.vocabulary for task in tasks)
    tasks = [dataclasses.replace(task, vocabulary=largest) for task in tasks]
    recipe, shown = lab.recipe(EXACT, full=2000, quick=600), ("margin_ratio_test", *COSINES, "nuclear_over_margin")
    for kind in KINDS:
        model = lab.model(kind, key_query="fixed", scale=0.1)
        variants = [({"model": kind, "m_train": task.train, "m_test": task.test}, task, model) for task in tasks]
        lab.train("{model} train={m_train} test={m_test}", variants, recipe, shown, points=12)
    exact = []
    for train_size, test_size in sizes:
        # Beside the exact unstated margin, what the general solver finds when it is given the rows alone.
        task = EqualClasses(classes, train_size, test_size)
        solution = solve(task.pack(), "nuclear", gap=1e-6)
        solved = min(answer.ocr_margin for answer in solution.questions if answer.ocr_margin is not None)
        found = {"exact": closed_form(task, "nuclear").margin, "solved": solved, "gap": solution.gap}
        exact.append({"m_train": train_size, "m_test": test_size, **found})
    lab.describe(tasks[0], {"exact": EXACT}, classes=classes, sizes=exact)


RANKS = (3, 4, 8, 16, 32, 64, 128)


def rank_sweep(lab: Experiment) -> None:
    """Train every rank and seed side by side, and the merged model beside them."""
    task, recipe = lab.task(), lab.recipe(PAPER, full=20000, quick=600)
    own = lab.settings.head_dimension
    ranks = (own,) if own else tuple(rank for rank in RANKS if rank <= task.vocabulary)
    lab.describe(task, {"paper": PAPER}, ranks=list(ranks), exact=exact_facts(task))
    # Narrow and wide models apart: a batch is as wide as its widest model.
    for group in ([r for r in ranks if r <= 16], [r for r in ranks if r > 16], [None]):
        models = [Model("factorised" if rank else "merged", head_dimension=rank) for rank in group]
        variants = [({"model": own.parameters, "head_dimension": own.head_dimension}, task, own) for own in models]
        if variants:
            name = "merged" if group == [None] else "d_h={head_dimension}"
            lab.train(name, variants, recipe, LOSSES, matrices=False)


#: Arms: the start, and the recipe, with exact gradients (all rows, expected noise) or the paper's sampled batches.
KEY_QUERY_EXACT = {"optimiser": "gradient-descent", "rate": 1.0, "batch": 0, "precision": "float64"}
KEY_QUERY_ARMS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "symmetric": ("symmetric", KEY_QUERY_EXACT),
    "symmetric-perturbed": ("symmetric-perturbed", KEY_QUERY_EXACT),
    "random": ("gaussian", PAPER),
}


def key_query(lab: Experiment) -> None:
    """Train both models from each kind of start, key-query trained, and follow the loss on unstated implications.

    A symmetric start gives all subjects of a split, all b and all c equal random weights: no class stands out, and
    exact gradients keep it so. `lowest` is the least mean loss over all steps measured, and how it lies to log n.
    """
    noisy = lab.task()
    lab.describe(noisy, {arm: {"start": start, **fields} for arm, (start, fields) in KEY_QUERY_ARMS.items()}, lowest={})
    shown = (*LOSSES[:2], "implication_loss_among", LOSSES[2])
    for arm, (start, fields) in KEY_QUERY_ARMS.items():
        recipe = lab.recipe(fields, full=3000, quick=500)
        task = noisy if recipe.batch else dataclasses.replace(noisy, noise_places=0)
        for kind in KINDS:
            variants = [({"arm": arm, "model": kind}, task, lab.model(kind, start=start))]
            trained = lab.train("{model} {arm}", variants, recipe, shown, matrices=False)
            lab.details.lowest[f"{kind} {arm}"] = _lowest(trained, lab.details.log_n)


def _lowest(trained: Trained, bound: float) -> dict[str, float | None]:
    """The lowest loss on unstated implications at any step, of any seed and of the mean over seeds; and how far that
    mean lies below the bound, in standard errors over the seeds (negative when it lies above)."""
    loss = np.array([moment["implication_loss_test"] for moment in trained.history])
    at = int(loss.mean(1).argmin())
    mean = float(loss.mean(1)[at])
    error = float(loss[at].std(ddof=1) / np.sqrt(loss.shape[1])) if loss.shape[1] > 1 else float("nan")
    return {
        "loss_of_a_seed": float(loss.min()),
        "mean_loss": mean,
        "standard_error": error,
        "standard_errors_below": (bound - mean) / error if error > 0 else float("nan"),
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
}
ALL_OF_IT = ("two layers, residual, softmax", "four heads", "residual, MLP", "learned embeddings")
VARIANTS["two layers, four heads, all of it"] = dict(item for name in ALL_OF_IT for item in VARIANTS[name].items())
ARCHITECTURE_RECIPE: dict[str, Any] = {"optimiser": "adamw", "rate": 2e-3, "weight_decay": 0.0, "batch": 0}


def architecture(lab: Experiment) -> None:
    """Train every variant, factorised and merged, on all stated rows at once without noise."""
    task = lab.task(quick="n=4,train=1,test=3", full="n=8,train=1,test=3", noise_tokens=0, noise_places=0)
    recipe = lab.recipe(ARCHITECTURE_RECIPE, full=2000, quick=300)
    shapes = {name: dataclasses.asdict(Architecture(**fields)) for name, fields in VARIANTS.items()}
    lab.describe(task, {"all": ARCHITECTURE_RECIPE}, order=list(VARIANTS), variants=shapes, contrast={})
    points = schedule(recipe.steps, 20)
    bar = progress("networks", len(VARIANTS) * len(KINDS), "network")
    for variant, fields in VARIANTS.items():
        say(f"{variant}: {len(lab.seeds)} seeds, {recipe.steps} steps, factorised and merged")
        accuracy = []
        for kind in KINDS:
            shape = Architecture(parameters=kind, **fields)
            _, history = train_networks(shape, task, lab.seeds, recipe, schedule=points, checkpointer=lab.checkpointer)
            labels = [{"variant": variant, "model": kind, "seed": seed} for seed in lab.seeds]
            lab.record("{variant} / {model}", labels, history, LOSSES)
            accuracy.append(history[-1]["implication_accuracy_test"])
            bar.update()
        unit = "accuracy of the factorised network minus the merged one's"
        lab.details.contrast[variant] = over_seeds(np.subtract(*accuracy).tolist(), unit)
    bar.close()


#: Networks of `embedding-mlp` by name. With one-hot tokens and linear units it is the factorised attention model.
NETWORKS: dict[str, dict[str, Any]] = {
    "one-hot, linear": {"depth": 2},
    "embeddings, linear": {"depth": 3},
    "embeddings, ReLU": {"depth": 3, "activation": "relu"},
}
EMBEDDING_RECIPE = {**EXACT, "rate": 0.05, "weighting": "rows", "precision": "float64"}
EMBEDDING_STARTS, EMBEDDING_WIDTHS, DECAYS = (
    (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0),
    (4, 8, 16, 32, 64),
    (0.0, 0.02, 0.035, 0.05),
)
#: The size of the start and the width while another dial is turned, and the loss at which a network rests.
USUAL_START, USUAL_WIDTH, LEARNED = 0.3, 32, 0.01


def embedding_mlp(lab: Experiment) -> None:
    """Turn three dials of networks without attention: the size of the start, the width, and weight decay.

    Start and width: normalised gradient descent to the same loss. Weight decay: all steps, for it bounds the weights.
    """
    task = lab.task(quick="n=4,train=1,test=3", full="n=8,train=1,test=3", noise_tokens=0, noise_places=0)
    quick, own = lab.settings.quick, lab.settings.head_dimension
    recipe = lab.recipe(EMBEDDING_RECIPE, full=1500, quick=800)
    resting = dataclasses.replace(recipe, stop_loss=LEARNED)
    lab.describe(
        task, {"all": EMBEDDING_RECIPE, "start and width": {"stop_loss": LEARNED}},
        order=list(NETWORKS), exact_margin=closed_form(task, "nuclear").margin, deep_margin=deep_form(task, 3).margin,
    )  # fmt: skip
    starts, usual = EMBEDDING_STARTS[1::2] if quick else EMBEDDING_STARTS, own or USUAL_WIDTH
    widths, decays = (own,) if own else EMBEDDING_WIDTHS[:: 2 if quick else 1], DECAYS[:: 2 if quick else 1]
    # One list of trainings: the dial, its recipe, the width, and the sizes of the start side by side.
    dials = [("start", resting, usual, starts)] + [("width", resting, width, (USUAL_START,)) for width in widths]
    dials += [("decay", dataclasses.replace(recipe, weight_decay=decay), usual, (USUAL_START,)) for decay in decays]
    bar = progress("networks", len(NETWORKS) * len(dials), "training")
    for (model, fields), (dial, how, width, sizes) in itertools.product(NETWORKS.items(), dials):
        label = {"dial": dial, "model": model, "width": width, "decay": how.weight_decay}
        labels = [{**label, "sigma": size, "seed": seed} for size in sizes for seed in lab.seeds]
        shape, seeds, scales = (
            EmbeddingMLP(**fields, width=width),
            list(lab.seeds) * len(sizes),
            [each["sigma"] for each in labels],
        )
        _, history = train_networks(shape, task, seeds, how, scales=scales, checkpointer=lab.checkpointer)
        group = "{model} / {dial}: sigma={sigma:g} width={width} decay={decay:g}"
        lab.record(group, labels, history, (*LOSSES, "margin_ratio_test", "margin_middle_test"))
        bar.update()
    bar.close()


SIZES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0)
FEW_SIZES = (0.1, 0.3, 1.0, 3.0)
#: Width of the model and its step size a stated row: the first with every size of start, the others with a few.
DIAL_ARMS = ((128, 0.04), (128, 0.01), (32, 0.04), (512, 0.04))
DIAL_RECIPE: dict[str, Any] = {"optimiser": "gradient-descent", "batch": 0, "weighting": "rows", "stop_loss": 0.01}
SHARES = tuple(np.round(np.linspace(0, 1, 11), 2).tolist())
#: Of six subjects a class, one or two are bridges; up to four others abstain or contradict.
CLASSES, SUBJECTS = 4, 6
UNKNOWN = "unknown"


def dial(lab: Experiment) -> None:
    """Turn each dial: train from small to large starts, solve between the norms, and add rows to the exact problem."""
    _starts(lab)
    say("the mixed norm")
    lab.details.mixed = _mixed(EqualClasses(4 if lab.settings.quick else 6, 1, 3))
    say("abstaining and contradicting rows")
    lab.details.abstaining, lab.details.contradicting = [], []
    for norm in NORMS:
        for count in range(5):
            ahead, solution = _added_rows(norm, 1, count, lambda number: UNKNOWN)
            found = {"norm": norm, "count": count, "leaked_minus_unknown": ahead, "gap": solution.gap}
            lab.details.abstaining.append({**found, "status": solution.status})
        for bridges, count in itertools.product((1, 2), range(4)):
            ahead, solution = _added_rows(norm, bridges, count, lambda number: f"c{(number + 1) % CLASSES}")
            found = {"norm": norm, "bridges": bridges, "count": count, "leaked_minus_other": ahead}
            lab.details.contradicting.append({**found, "gap": solution.gap})


def _starts(lab: Experiment) -> None:
    """Rich to lazy: gradient descent to a loss of 0.01 from starts of standard deviation sigma / sqrt(d_h).

    The function is centred at the start, attention is equal, there is no noise. A large start's slopes grow with its
    square, so its step size shrinks with it. The linearised model does not depend on sigma at that step size.
    """
    task, quick, own = lab.task(noise_places=0), lab.settings.quick, lab.settings.head_dimension
    arms = ((own, 0.04), (own, 0.01)) if own else DIAL_ARMS[: 2 if quick else None]
    exact = exact_margin(task, 0.0)
    lab.describe(task, {"starts": {**DIAL_RECIPE, "widths_and_rates": arms}}, exact_margin=exact)
    jobs = [("factorised", *arm, FEW_SIZES if index or quick else SIZES) for index, arm in enumerate(arms)]
    for kind, width, rate, sizes in [*jobs, ("linearised", *arms[0], (1.0,))]:
        recipe = lab.recipe({**DIAL_RECIPE, "rate": rate * len(task.stated)}, full=8000, quick=3000)
        fields = {"key_query": "fixed", "head_dimension": width, "start": "gaussian-width", "centred": True}
        label = {"model": kind, "width": width, "rate": rate}
        lab.train(
            "{model} sigma={sigma:g} d_h={width} rate={rate:g}",
            [({**label, "sigma": size}, task, lab.model(kind, scale=size, **fields)) for size in sizes],
            recipe, ("margin_ratio_test", "implication_loss_among"), points=0,
            rates=[1 / max(1.0, size**2) for size in sizes],
        )  # fmt: skip


def _mixed(task: EqualClasses) -> list[dict[str, float]]:
    """The unstated margin at each share of the Frobenius norm: by one dimension, and by the general solver."""
    table, found = table_of(task.pack()), []
    answer, relation = table.codes[2][f"c{task.names[0]}"], table.codes[1][IMPLICATION]
    silent = int(table.signature[table.codes[0][f"s{task.names[0]}.{task.train}"]])
    for share in SHARES:
        optimum = minimise(table.problem, Mixed(share), 1e-6, 4000)
        assert optimum.matrix is not None
        scores = table.problem.scores_at(optimum.matrix, silent, relation)[None]
        solved = float(lead(scores, np.array([answer]), table.candidates[relation])[0])
        found.append(
            {"share": share, "exact": exact_margin(task, share), "solved": solved, "gap": optimum.gap(Mixed(share))}
        )
    return found


def _added_rows(norm: str, bridges: int, count: int, answer_of: Callable[[int], str]) -> tuple[float, Solution]:
    """Have `count` silent subjects of each class state answer_of(its number) to r2, where "unknown" is a candidate.

    Returns the lead of the first class's leaked answer over the answer added there, for its last, silent subject.
    """
    task = EqualClasses(CLASSES, bridges, SUBJECTS - bridges)
    pack, names = task.pack(), [f"s{number}.{bridges + place}" for number in range(CLASSES) for place in range(count)]
    added = [Fact(name, IMPLICATION, answer_of(int(name[1]))) for name in names]
    more = with_candidate(dataclasses.replace(pack, facts=(*pack.facts, *added)), IMPLICATION, UNKNOWN)
    solution = solve(more, norm, gap=1e-6)
    assert solution.table is not None
    subject, relation, answer = solution.table.codes
    weights = solution.weights()
    score = weights[:, subject[f"s0.{SUBJECTS - 1}"]] + weights[:, len(subject) + relation[IMPLICATION]]
    return float(score[answer["c0"]] - score[answer[answer_of(0)]]), solution


#: Every experiment by name, with its number of seeds.
EXPERIMENTS: dict[str, tuple[Callable[[Experiment], None], int]] = {
    "two-models": (two_models, 5),
    "sample-efficiency": (sample_efficiency, 5),
    "rank-sweep": (rank_sweep, 5),
    "key-query": (key_query, 10),
    "architecture": (architecture, 5),
    "embedding-mlp": (embedding_mlp, 5),
    "dial": (dial, 5),
}
