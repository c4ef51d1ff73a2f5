"""Networks beyond the paper's: the plain case against the bag model, every variant's shapes, and determinism."""

import dataclasses

import numpy as np
import pytest
import torch

from spillover.errors import UsageError
from spillover.theory.models import Ensemble, Model
from spillover.theory.networks import Architecture, EmbeddingMLP, Networks, train_networks
from spillover.theory.symbolic import Task, exact_bags
from spillover.theory.training import Recipe, stacked_bags

TASK = Task(classes=3, train=1, test=2, noise_tokens=0, noise_places=0)
RECIPE = Recipe("adamw", rate=2e-3, batch=0, steps=5, precision="float64")
VARIANTS = [
    {},
    {"attention": "softmax"},
    {"heads": 3},
    {"layers": 2, "residual": True},
    {"hidden": 5},
    {"embedding": 6},
    {"layers": 2, "heads": 2, "residual": True, "attention": "softmax", "hidden": 4, "embedding": 6},
]


@pytest.mark.parametrize("parameters", ["factorised", "merged"])
@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_one_layer_is_the_bag_model(parameters, attention):
    networks = Networks(Architecture(parameters, attention), TASK, (0,), RECIPE)
    weights = {name: value[0].detach() for name, value in networks.weights().items()}
    ensemble = Ensemble([TASK], [Model(parameters, attention)], dtype=torch.float64)
    # Rows of a network's matrices read, columns write; k is W_KQ applied to the end token.
    ensemble.weights["k"][0] = weights["0.W_KQ"][0][:, TASK.end]
    if parameters == "merged":
        ensemble.weights["W_OV^T"][0] = weights["0.W_OV"][0]
    else:
        ensemble.weights["W_V"][0] = weights["0.W_V"][0]
        ensemble.weights["W_O"][0] = weights["0.W_O"][0].T
    rows = TASK.stated
    tokens = torch.tensor(np.stack([rows.subject, rows.relation, np.full(len(rows), TASK.end)], 1))
    expected = ensemble.logits(stacked_bags(ensemble, [exact_bags(TASK, rows)]))
    torch.testing.assert_close(networks.at_end(tokens).detach(), expected, rtol=0, atol=1e-10)


def test_a_one_hot_mlp_is_the_attention_model_with_equal_attention():
    """Same W_V and W_O, same logits at every stated row: without attention to learn, the two are one function."""
    networks = Networks(EmbeddingMLP(depth=2, width=4), TASK, (0,), RECIPE)
    first, last = (value[0].detach() for value in networks.weights().values())
    ensemble = Ensemble([TASK], [Model(key_query="fixed", head_dimension=4)], dtype=torch.float64)
    ensemble.weights["W_V"][0], ensemble.weights["W_O"][0] = first, last.T
    batch = stacked_bags(ensemble, [exact_bags(TASK, TASK.stated)])
    torch.testing.assert_close(networks.logits(batch).detach(), ensemble.logits(batch), rtol=0, atol=1e-10)


def test_sizes_of_the_start_train_side_by_side_as_alone():
    shape = EmbeddingMLP(depth=3, width=5, activation="relu")
    together, _ = train_networks(shape, TASK, (3, 3), RECIPE, scales=(0.5, 2.0))
    alone, _ = train_networks(dataclasses.replace(shape, scale=2.0), TASK, (3,), RECIPE)
    torch.testing.assert_close(together.flat[1], alone.flat[0], rtol=1e-9, atol=1e-12)


def test_an_mlp_rests_at_its_loss_and_concludes_from_a_small_start():
    recipe = Recipe("normalised-gradient-descent", rate=0.05, batch=0, steps=600, stop_loss=0.01, precision="float64")
    _, history = train_networks(EmbeddingMLP(depth=2, width=8, scale=0.1), TASK, (0, 1), recipe)
    (end,) = history
    assert max(end["train_loss"]) < 0.01
    assert max(end["step"]) < 600
    assert end["implication_accuracy_test"] == pytest.approx([1, 1])
    assert 0.5 < min(end["margin_ratio_test"]) <= min(end["margin_middle_test"]) < 1


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
@pytest.mark.parametrize("parameters", ["factorised", "merged"])
def test_every_variant_learns_and_repeats(fields, parameters):
    shape = Architecture(parameters, **fields)
    recipe = dataclasses.replace(RECIPE, rate=5e-3, steps=40)
    networks, history = train_networks(shape, TASK, (0, 1), recipe, schedule=[0, 40])
    assert [len(moment["train_loss"]) for moment in history] == [2, 2]
    assert max(history[1]["train_loss"]) < min(history[0]["train_loss"])
    again, _ = train_networks(shape, TASK, (0, 1), recipe)
    assert torch.equal(networks.flat, again.flat)


def test_seeds_train_side_by_side_as_alone():
    shape = Architecture(layers=2, residual=True)
    together, _ = train_networks(shape, TASK, (3, 4), RECIPE)
    alone, _ = train_networks(shape, TASK, (4,), RECIPE)
    torch.testing.assert_close(together.flat[1], alone.flat[0], rtol=1e-9, atol=1e-12)


def test_order_of_subject_and_relation_does_not_matter_at_any_depth():
    networks = Networks(Architecture(layers=2, residual=True, attention="softmax"), TASK, (0,), RECIPE)
    tokens = torch.tensor([[TASK.context, 0, TASK.end]])
    swapped = tokens[:, [1, 0, 2]]
    torch.testing.assert_close(networks.at_end(tokens), networks.at_end(swapped))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"parameters": "linearised"}, "is no parameters"),
        ({"attention": "soft"}, "softmax"),
        ({"layers": 0}, "start at 1"),
        ({"heads": 0}, "start at 1"),
        ({"hidden": -1}, "sizes at 0"),
    ],
)
def test_impossible_architectures_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        Architecture(**fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"depth": 1}, "starts at 2"), ({"width": 0}, "at 1"), ({"activation": "gelu"}, "no activation")],
)
def test_impossible_mlps_are_refused(fields, says):
    with pytest.raises(UsageError, match=says):
        EmbeddingMLP(**fields)


def test_noise_and_sampled_batches_are_refused():
    for task, recipe in ((Task(classes=3), RECIPE), (TASK, Recipe())):
        with pytest.raises(UsageError, match="all rows at once"):
            train_networks(Architecture(), task, (0,), recipe)
