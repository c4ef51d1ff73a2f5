"""Training: optimisers against PyTorch's, models together against alone, and measuring that changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.theory.comparison import Probe
from spillover.theory.models import Ensemble, Model
from spillover.theory.symbolic import Task
from spillover.theory.training import OPTIMISERS, AdamW, Recipe, train

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
