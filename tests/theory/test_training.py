"""Training: optimisers against PyTorch's, models together against alone, and measuring that changes nothing.

And comparisons: hand-worked margins and cosines, and two short trainings that go apart as Theorem 1 says.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.theory.models import Ensemble, Model
from spillover.theory.symbolic import Task
from spillover.theory.training import (
    OPTIMISERS,
    AdamW,
    Probe,
    Recipe,
    centred,
    compare,
    cosine,
    effective_matrices,
    exact_matrix,
    margins,
    norms,
    train,
)

TASK = Task(classes=4, train=1, test=2, noise_tokens=2, noise_places=3)
LOSSES = Probe(matrices=False)
QUIET = dataclasses.replace(TASK, noise_places=0)


def test_adamw_is_torchs():
    generator = torch.Generator().manual_seed(0)
    recipe = Recipe(rate=0.01, weight_decay=0.1)
    ours = torch.randn(2, 7, dtype=torch.float64, generator=generator)
    theirs = torch.nn.Parameter(ours.clone())
    optimiser, peer = AdamW(recipe, ours), torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(50):
        gradient = torch.randn(2, 7, dtype=torch.float64, generator=generator)
        change = optimiser.update(ours, gradient.clone())
        ours = ours + change.sub_(ours, alpha=0.01 * 0.1)
        theirs.grad = gradient
        peer.step()
    torch.testing.assert_close(ours, theirs.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("batch", [0, 30])
def test_together_is_as_alone(name, batch):
    tasks = [TASK, dataclasses.replace(TASK, test=1, vocabulary=TASK.vocabulary), TASK, TASK]
    models = [Model(head_dimension=width, seed=seed) for width, seed in ((3, 0), (9, 1), (None, 1), (4, 2))]
    recipe = Recipe(name, rate=0.01, weight_decay=0.02, batch=batch, steps=25, precision="float64")
    together = train(tasks, models, recipe)
    for index, (task, model) in enumerate(zip(tasks, models, strict=True)):
        alone = train([task], [model], recipe).ensemble.effective()[0]
        found = together.ensemble.effective()[index][:, : task.inputs]
        torch.testing.assert_close(found, alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parameters", ["factorised", "merged"])
def test_measuring_changes_nothing(parameters):
    models, recipe = [Model(parameters, seed=seed) for seed in (0, 1)], Recipe(steps=30, batch=60)
    unseen = train(TASK, models, recipe)
    seen = train(TASK, models, recipe, measure=Probe(), schedule=range(0, 31, 3))
    assert len(seen.history) == 11
    assert torch.equal(unseen.ensemble.flat, seen.ensemble.flat)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    recipe = Recipe(steps=20, batch=30)
    first, again, other = (train(TASK, [Model(seed=seed)], recipe).ensemble.flat for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_longer_schedule_extends_a_run():
    """The first steps of a long run are the short run's."""
    seen = train(TASK, [Model()], Recipe(steps=40, batch=30), measure=LOSSES, schedule=[20])
    short = train(TASK, [Model()], Recipe(steps=20, batch=30), measure=LOSSES, schedule=[20])
    assert seen.history == short.history


def test_normalised_steps_have_one_length():
    ensemble = Ensemble([QUIET], [Model(key_query="fixed")])
    recipe = Recipe("normalised-gradient-descent", rate=0.5, batch=0, steps=1)
    moved = train(QUIET, [Model(key_query="fixed")], recipe).ensemble.flat - ensemble.flat
    assert torch.linalg.vector_norm(moved).item() == pytest.approx(0.5, rel=1e-5)


def test_decay_is_decoupled_and_off_by_default():
    assert Recipe().weight_decay == 0
    model = Model("merged", key_query="fixed")
    start = Ensemble([QUIET], [model]).flat
    decayed = train(QUIET, [model], Recipe("gradient-descent", 0.1, 0.5, batch=0, steps=1)).ensemble.flat
    plain = train(QUIET, [model], Recipe("gradient-descent", 0.1, batch=0, steps=1)).ensemble.flat
    torch.testing.assert_close(plain - decayed, 0.1 * 0.5 * start)


def test_a_model_rests_when_it_has_learned():
    models = [Model(key_query="fixed", seed=seed) for seed in (0, 1)]
    recipe = Recipe("gradient-descent", 1.0, batch=0, steps=3000, stop_loss=0.05, precision="float64")
    trained = train(QUIET, models, recipe, rates=[1.0, 0.25])
    losses = Probe()(trained.ensemble, 0)["train_loss"]
    assert max(losses) < 0.05
    assert trained.steps[0] < trained.steps[1] < 3000
    slower = train(QUIET, models[1:], dataclasses.replace(recipe, rate=0.25))
    assert slower.steps[0] == trained.steps[1]


def test_models_fit_what_they_are_told():
    for attention in ("linear", "softmax"):
        for key_query in ("trained", "factored"):
            model = Model(attention=attention, key_query=key_query)
            trained = train(TASK, [model], Recipe(rate=0.01, steps=400, batch=60))
            assert Probe()(trained.ensemble, 0)["train_loss"][0] < 0.2, (attention, key_query)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"optimiser": "adam"}, "Did you mean 'adamw'"),
        ({"rate": 0.0}, "rate must be a positive number"),
        ({"rate": float("nan")}, "rate must be a positive number"),
        ({"weight_decay": -1.0}, "weight decay at least 0"),
        ({"steps": -1}, "steps and batch"),
        ({"precision": "float16"}, "Use float32 or float64"),
        ({"stop_loss": 0.1}, "Set batch=0"),
    ],
)
def test_impossible_recipes_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Recipe(**fields)


def test_the_loop_takes_no_step_when_asked_for_none():
    trained = train(TASK, [Model()], Recipe(steps=0), measure=lambda ensemble, step: {"seen": step}, schedule=[0])
    assert trained.history == ({"step": 0, "seen": 0},)
    assert np.array_equal(trained.steps, [0])


COMPARED = Task(classes=20, train=1, test=3, noise_places=0)


def test_the_exact_matrices_have_the_numbers_of_the_closed_forms():
    nuclear, frobenius = (exact_matrix(COMPARED, norm) for norm in ("nuclear", "frobenius"))
    assert cosine(nuclear, frobenius) == pytest.approx(0.926, abs=5e-4)
    assert norms(nuclear)[0] == pytest.approx(56.3811, abs=1e-4)
    assert norms(frobenius)[1] ** 2 == pytest.approx(115)
    for matrix, ratio in ((nuclear, math.sqrt(1 / 3)), (frobenius, 0)):
        assert margins(COMPARED, matrix, COMPARED.stated) == pytest.approx(1)
        assert margins(COMPARED, matrix, COMPARED.questions, same_relation=True) == pytest.approx(ratio)


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
    matrix = exact_matrix(COMPARED, "nuclear") + 0.01 * generator.standard_normal((40, 82))
    moved = 7 * centred(matrix + generator.standard_normal(82))
    first, second = (compare(COMPARED, centred(item)) for item in (matrix, moved))
    for name in ("cosine_to_nuclear", "nuclear_over_margin", "frobenius_over_margin", "margin_ratio_test"):
        assert first[name] == pytest.approx(second[name])


def test_the_effective_matrix_folds_the_key_scores_in():
    ensemble = Ensemble([COMPARED], [Model("merged")])
    (found,) = effective_matrices(ensemble)
    matrix = ensemble.weights["W_OV^T"][0].T.double().numpy() * ensemble.weights["k"][0].double().numpy()
    assert found == pytest.approx(centred(matrix[COMPARED.answers][:, COMPARED.columns]), abs=1e-6)


def test_a_matrix_that_diverged_compares_as_nothing():
    assert all(math.isnan(value) for value in compare(COMPARED, np.full((40, 82), np.inf)).values())


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
