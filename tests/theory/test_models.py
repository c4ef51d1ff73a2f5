"""Models: gradients against autograd, starts by name, and what is refused."""

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.theory.models import STARTS, Ensemble, Model, token_kinds, views
from spillover.theory.symbolic import Task, sampled_bags
from spillover.theory.training import cross_entropy, slope, stacked_bags

TASK = Task(classes=3, train=1, test=2, noise_tokens=2, noise_places=4)


def ensemble_and_batch(models):
    ensemble = Ensemble([TASK] * len(models), models, dtype=torch.float64)
    drawn = [sampled_bags(TASK, TASK.stated, np.random.default_rng(seed)) for seed in range(len(models))]
    return ensemble, stacked_bags(ensemble, drawn)


@pytest.mark.parametrize("parameters", ["factorised", "merged", "linearised"])
@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("key_query", ["fixed", "trained", "factored"])
def test_gradients_equal_autograd(parameters, attention, key_query):
    models = [
        Model(parameters, attention, key_query, head_dimension=width, seed=seed, centred=seed == 1)
        for seed, width in enumerate([5, 3] if parameters != "merged" else [None, None])
    ]
    ensemble, batch = ensemble_and_batch(models)
    ensemble.flat += 0.1 * torch.randn(ensemble.flat.shape, dtype=torch.float64)
    now = ensemble.read()
    logits = ensemble.logits(batch, now)
    by_hand = ensemble.pull_back(batch, slope(logits, batch), logits, now).clone()
    flat = ensemble.flat.clone().requires_grad_()
    ensemble.weights = views(flat, ensemble.shapes)
    (cross_entropy(ensemble.logits(batch), batch.answer) * batch.weight).sum().backward()
    torch.testing.assert_close(by_hand, flat.grad, rtol=1e-9, atol=1e-12)


def test_the_slope_keeps_small_numbers_and_can_be_rescaled():
    batch = ensemble_and_batch([Model(key_query="fixed")])[1]
    logits = torch.zeros(1, *batch.answer.shape[1:], TASK.vocabulary, dtype=torch.float64)
    logits.scatter_(-1, batch.answer[:, :, None], 60.0)
    plain, rescaled = slope(logits, batch), slope(logits, batch, rescaled=True)
    assert (plain.gather(-1, batch.answer[:, :, None]) < 0).all()
    assert plain.sum(-1).abs().max() < 1e-30
    torch.testing.assert_close(plain / plain.max(), rescaled)
    huge = slope(50 * logits, batch, rescaled=True)
    assert torch.isfinite(huge).all()
    assert huge.max() == 1


def test_narrow_models_keep_their_rank_in_a_wide_batch():
    models = [Model(head_dimension=width, seed=2) for width in (2, 7)]
    ensemble, batch = ensemble_and_batch(models)
    assert ensemble.weights["W_O"].shape == (2, TASK.vocabulary, 7)
    now = ensemble.read()
    logits = ensemble.logits(batch, now)
    ensemble.pull_back(batch, slope(logits, batch), logits, now)
    views = ensemble._gradient_views
    assert not views["W_O"][0, :, 2:].any()
    assert not views["W_V"][0, :, 2:].any()
    assert views["W_O"][0, :, :2].any()


def test_centred_models_start_silent():
    for parameters in ("factorised", "linearised", "merged"):
        ensemble, batch = ensemble_and_batch([Model(parameters, key_query="fixed", centred=True)])
        assert ensemble.logits(batch).abs().max() < 1e-12
    ensemble, batch = ensemble_and_batch([Model("linearised", key_query="fixed")])
    whole, _ = ensemble_and_batch([Model("factorised", key_query="fixed")])
    torch.testing.assert_close(ensemble.logits(batch), whole.logits(batch))


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("parameters", ["factorised", "merged"])
def test_every_start_is_drawn_from_its_seed_and_is_no_fixed_point(name, parameters):
    def start(seed):
        return Ensemble([TASK], [Model(parameters, start=name, seed=seed)], dtype=torch.float64)

    assert torch.equal(start(1).flat, start(1).flat)
    assert name == "constant-1e-4" or not torch.equal(start(1).flat, start(2).flat)
    ensemble, batch = ensemble_and_batch([Model(parameters, start=name)])
    now = ensemble.read()
    logits = ensemble.logits(batch, now)
    assert ensemble.pull_back(batch, slope(logits, batch), logits, now).abs().max() > 0


def test_starts_have_the_size_they_name():
    task = Task()
    for name, width, expected in (("gaussian", 16, 128**-0.5), ("gaussian-width", 16, 0.25)):
        weights = Ensemble([task], [Model(start=name, head_dimension=width, scale=2.0)]).weights
        assert weights["W_O"].std().item() == pytest.approx(2 * expected, rel=0.05)


def test_a_symmetric_start_tells_no_class_from_another():
    ensemble = Ensemble([TASK], [Model("merged", start="symmetric")], dtype=torch.float64)
    matrix, kind = ensemble.weights["W_OV^T"][0].numpy(), token_kinds(TASK)
    for row in range(kind.max() + 1):
        for column in range(kind.max() + 1):
            assert (
                np.ptp(matrix[kind == row][:, kind == column]) == 0
                if (kind == row).any() & (kind == column).any()
                else 1
            )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"head_dimension": 0}, "d_h is 0, but must be at least 1"),
        ({"head_dimension": -3}, "d_h is -3"),
        ({"parameters": "factorized"}, "Did you mean 'factorised'"),
        ({"attention": "softmin"}, "Did you mean 'softmax'"),
        ({"key_query": "free"}, "is no key_query"),
        ({"start": "gausian"}, "Did you mean 'gaussian'"),
        ({"scale": 0.0}, "fixed point"),
    ],
)
def test_impossible_models_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Model(**fields)


def test_models_of_two_kinds_do_not_share_a_batch():
    with pytest.raises(UsageError, match="must share 'parameters'"):
        Ensemble([TASK] * 2, [Model("merged"), Model("factorised")])
    with pytest.raises(UsageError, match="must share 'vocabulary'"):
        Ensemble([TASK, Task()], [Model(), Model()])
    with pytest.raises(UsageError, match="no model"):
        Ensemble([], [])


def test_two_zero_factors_are_a_fixed_point():
    ensemble, batch = ensemble_and_batch([Model(key_query="factored")])
    ensemble.weights["W_K"].zero_()
    ensemble.weights["q"].zero_()
    now = ensemble.read()
    logits = ensemble.logits(batch, now)
    ensemble.pull_back(batch, slope(logits, batch), logits, now)
    assert not any(ensemble._gradient_views[name].any() for name in ("W_K", "q", "W_O", "W_V"))
