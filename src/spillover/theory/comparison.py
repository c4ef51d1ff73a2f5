"""A trained matrix beside the exact ones: cosines, norm per margin, and the margin of what nobody stated.

Sign and scale of the key scores sit in W_OV, and no margin sees a constant added to the answers; so the matrix compared
is W_OV diag(k), each column centred. docs/theory.md, "Comparing a trained matrix".
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from spillover.theory.closed_form import closed_form
from spillover.theory.models import BagBatch, Ensemble, Models
from spillover.theory.symbolic import Rows, Task, exact_bags, sampled_bags
from spillover.theory.table import Weights, lead
from spillover.theory.training import cross_entropy, stacked_bags

Matrix = Float[np.ndarray, "... answer column"]
#: What is compared of a matrix, in the order of `compare`.
COMPARISONS = (
    *("cosine_to_nuclear", "cosine_to_frobenius", "smallest_margin"),
    *("nuclear_over_margin", "frobenius_over_margin", "margin_ratio_test"),
)


def effective_matrices(ensemble: Ensemble) -> list[Weights]:
    """W_OV diag(k) of every model: 2n answer rows, subject and relation columns, each column centred over the rows."""
    pairs = zip(ensemble.tasks, ensemble.effective().double().cpu().numpy(), strict=True)
    return [centred(matrix[task.answers][:, task.columns]) for task, matrix in pairs]


def centred(matrix: Matrix) -> Matrix:
    """The matrix with every column's mean over the rows taken away."""
    return matrix - matrix.mean(-2, keepdims=True)


def exact_matrix(task: Task, norm: str) -> Weights:
    """The exact solution of the task in the shape of `effective_matrices`; norm is nuclear or frobenius."""
    return closed_form(task, norm).matrix.dense()


def cosine(one: Matrix, other: Matrix) -> float:
    """The cosine of two matrices as vectors."""
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def margins(task: Task, matrix: Weights, rows: Rows, *, same_relation: bool = False) -> Float[np.ndarray, "row"]:
    """Score of the right answer minus the best other; same_relation: the best other of the same relation only."""
    # The score of all 2n answers to each row, whose input is the sum of its subject's and its relation's column.
    scores = (matrix[:, rows.subject - task.context] + matrix[:, task.subjects + rows.relation]).T
    return leads(task, scores, rows, same_relation=same_relation)


def leads(
    task: Task, scores: Float[np.ndarray, "row answer"], rows: Rows, *, same_relation: bool = False
) -> Float[np.ndarray, "row"]:
    """The same of scores: those of all 2n answers to each row."""
    right = rows.answer - task.answers.start
    among = (np.arange(2 * task.classes) >= task.classes) == (right >= task.classes)[:, None]
    return lead(scores, right, among if same_relation else None)


def compare(task: Task, matrix: Weights) -> dict[str, float]:
    """Every comparison of one centred effective matrix; NaN throughout for one that has diverged.

    cosine_to_nuclear, cosine_to_frobenius: with the exact solutions. smallest_margin: of the stated rows, in logits.
    nuclear_over_margin, frobenius_over_margin: the norm when the smallest stated margin is scaled to 1; infinite while
    some stated row is answered wrongly. margin_ratio_test: smallest margin of an unstated implication among the
    implication answers, in units of the smallest stated margin; NaN without one of either.
    """
    if not np.isfinite(matrix).all():
        return dict.fromkeys(COMPARISONS, np.nan)
    smallest = float(margins(task, matrix, task.stated).min())
    scale = smallest if smallest > 0 else np.nan
    test = float(margins(task, matrix, task.questions, same_relation=True).min()) if len(task.questions) else np.nan
    cosines = [cosine(matrix, exact_matrix(task, norm)) if task.train else np.nan for norm in ("nuclear", "frobenius")]
    sizes = [size / scale if smallest > 0 else np.inf for size in norms(matrix)]
    return dict(zip(COMPARISONS, (*cosines, smallest, *sizes, test / scale), strict=True))


def norms(matrix: Weights) -> tuple[float, float]:
    """The nuclear and the Frobenius norm."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return float(singular.sum()), float(np.linalg.norm(singular))


class Probe:
    """What to measure of an ensemble along the way: one list of numbers, a model each, under every name.

    Arguments:
    - matrices: also `compare` the matrices, which costs more than the losses.
    - draws: sequences for each row of a task with noise, drawn once and from a generator of the probe's own.

    Returns, when called with an ensemble and a step: mean cross-entropies in nats over all tokens (train_loss,
    implication_loss_test) or implication answers (implication_loss_among); implication_accuracy_test; COMPARISONS.
    """

    def __init__(self, *, matrices: bool = True, draws: int = 8) -> None:
        self.matrices, self.draws = matrices, draws
        self.bags: dict[str, BagBatch] = {}

    def __call__(self, ensemble: Models, step: int) -> dict[str, list[float]]:
        found = {}
        for name, loss_name in (("stated", "train_loss"), ("questions", "implication_loss_test")):
            if name not in self.bags:
                self.bags[name] = self._drawn(ensemble, name)
            batch = self.bags[name]
            logits = ensemble.logits(batch)
            found[loss_name] = (cross_entropy(logits, batch.answer) * batch.weight).sum(-1).tolist()
        found["implication_accuracy_test"] = ((logits.argmax(-1) == batch.answer) * batch.weight).sum(-1).tolist()
        found["implication_loss_among"] = [
            float((cross_entropy(one[None], answer[None], task.implication_answers)[0] * weight).sum())
            for task, one, answer, weight in zip(ensemble.tasks, logits, batch.answer, batch.weight, strict=True)
        ]
        if self.matrices and isinstance(ensemble, Ensemble):
            compared = list(map(compare, ensemble.tasks, effective_matrices(ensemble)))
            found |= {name: [one[name] for one in compared] for name in COMPARISONS}
        return found

    def _drawn(self, ensemble: Models, name: str) -> BagBatch:
        drawn = {}
        for task in dict.fromkeys(ensemble.tasks):
            rows: Rows = getattr(task, name)
            drawn[task] = bags = exact_bags(task, rows)
            if task.noise_places:
                index = np.repeat(np.arange(len(rows)), self.draws)
                noisy = sampled_bags(task, rows.take(index), np.random.default_rng(9))
                drawn[task] = dataclasses.replace(noisy, weight=bags.weight[index] / self.draws)
        return stacked_bags(ensemble, [drawn[task] for task in ensemble.tasks])
