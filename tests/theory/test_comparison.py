"""Comparisons: hand-worked margins and cosines, and two short trainings that go apart as Theorem 1 says."""

import math

import numpy as np
import pytest

from spillover.theory.comparison import (
    Probe,
    centred,
    compare,
    cosine,
    effective_matrices,
    exact_matrix,
    margins,
    norms,
)
from spillover.theory.models import Ensemble, Model
from spillover.theory.symbolic import Task
from spillover.theory.training import Recipe, train

TASK = Task(classes=20, train=1, test=3, noise_places=0)


def test_the_exact_matrices_have_the_numbers_of_the_closed_forms():
    nuclear, frobenius = (exact_matrix(TASK, norm) for norm in ("nuclear", "frobenius"))
    assert cosine(nuclear, frobenius) == pytest.approx(0.926, abs=5e-4)
    assert norms(nuclear)[0] == pytest.approx(56.3811, abs=1e-4)
    assert norms(frobenius)[1] ** 2 == pytest.approx(115)
    for matrix, ratio in ((nuclear, math.sqrt(1 / 3)), (frobenius, 0)):
        assert margins(TASK, matrix, TASK.stated) == pytest.approx(1)
        assert margins(TASK, matrix, TASK.questions, same_relation=True) == pytest.approx(ratio)


def test_margins_by_hand():
    task = Task(classes=2, train=1, test=1, noise_tokens=0, noise_places=0)
    # Rows b0 b1 c0 c1; columns train0 test0 train1 test1 r1 r2.
    matrix = np.array([[2, 3, 0, 0, 1, 0], [0, 0, 2, 3, 1, 0], [2, 1, 0, 0, 0, 1], [0, 0, 2, 5, 0, 1]], dtype=float)
    # (train0, r1): b0 3, b1 1, c0 2, c1 0. (test1, r1): b1 4, c1 5.
    assert margins(task, matrix, task.stated).tolist() == [1, 1, 1, 1, 3, -1]
    # (test0, r2): c0 2, c1 1, b0 3. Among the c alone it leads by 1, among all it trails by 1.
    assert margins(task, matrix, task.questions)[0] == -1
    assert margins(task, matrix, task.questions, same_relation=True)[0] == 1
    found = compare(task, centred(matrix))
    assert found["smallest_margin"] == -1
    assert math.isinf(found["nuclear_over_margin"])
    assert math.isnan(found["margin_ratio_test"])


def test_comparisons_do_not_see_scale_or_a_constant_to_all_answers():
    generator = np.random.default_rng(0)
    matrix = exact_matrix(TASK, "nuclear") + 0.01 * generator.standard_normal((40, 82))
    moved = 7 * centred(matrix + generator.standard_normal(82))
    first, second = (compare(TASK, centred(item)) for item in (matrix, moved))
    for name in ("cosine_to_nuclear", "nuclear_over_margin", "frobenius_over_margin", "margin_ratio_test"):
        assert first[name] == pytest.approx(second[name])


def test_the_effective_matrix_folds_the_key_scores_in():
    ensemble = Ensemble([TASK], [Model("merged")])
    (found,) = effective_matrices(ensemble)
    matrix = ensemble.weights["W_OV^T"][0].T.double().numpy() * ensemble.weights["k"][0].double().numpy()
    assert found == pytest.approx(centred(matrix[TASK.answers][:, TASK.columns]), abs=1e-6)


def test_a_matrix_that_diverged_compares_as_nothing():
    assert all(math.isnan(value) for value in compare(TASK, np.full((40, 82), np.inf)).values())


def test_the_two_models_go_to_the_two_solutions():
    """A real, short training of the exact arm at n = 6: directions apart by the margin that is claimed."""
    task = Task(classes=6, train=1, test=3, noise_places=0)
    recipe = Recipe("normalised-gradient-descent", rate=0.1, batch=0, steps=600)
    apart = {}
    for kind in ("factorised", "merged"):
        models = [Model(kind, key_query="fixed", scale=0.1, seed=seed) for seed in (0, 1)]
        found = Probe()(train(task, models, recipe).ensemble, 0)
        apart[kind] = np.subtract(found["cosine_to_nuclear"], found["cosine_to_frobenius"])
        assert max(found["train_loss"]) < 1e-3
    assert apart["factorised"].min() > 0.05
    assert apart["merged"].max() < -0.05


def test_the_probe_measures_what_a_pencil_would():
    task = Task(classes=4, train=1, test=2, noise_places=0)
    ensemble = Ensemble([task], [Model(scale=1e-9)])
    found = Probe()(ensemble, 0)
    assert found["train_loss"][0] == pytest.approx(math.log(task.vocabulary), rel=1e-5)
    assert found["implication_loss_test"][0] == pytest.approx(math.log(task.vocabulary), rel=1e-5)
    assert found["implication_loss_among"][0] == pytest.approx(math.log(4), rel=1e-5)


def test_the_probes_noise_is_its_own_and_the_same_each_time():
    task = Task(classes=4, train=1, test=2)
    ensemble = Ensemble([task], [Model()])
    assert Probe(matrices=False)(ensemble, 0) == Probe(matrices=False)(ensemble, 5)
