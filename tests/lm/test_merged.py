"""Merged output-value products: nothing at first, what the factors would write if they are equal, and of a rank."""

import copy

import numpy as np
import pytest
import torch

from spillover.lm.output_value import changes_of, cut, merge_output_value, places, products
from spillover.lm.trainable import Training, count_parameters, trainable_copy
from tests.lm.test_architectures import ARCHITECTURES, built

TOKENS = torch.tensor([[1, 5, 9, 13, 7], [2, 2, 30, 4, 8]])
TRAINING = Training(epochs=1, learning_rate=1e-2, batch=2, weight_decay=0.0, freeze_embeddings=True, lora=0, seed=0,
                    merged=True)  # fmt: skip


def logits(model):
    with torch.inference_mode():
        return model(input_ids=TOKENS, use_cache=False).logits


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    """Of every architecture, query heads that share value heads among them; without biases, which are no product."""
    made = built(request.param, 60)
    made.config.clip_qkv = None  # OLMo's limit on values, beyond which they are no product either.
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return made


def test_at_first_nothing_is_added(model):
    base = logits(model)
    merge_output_value(model)
    assert {float(change.abs().max()) for change in changes_of(model).values()} == {0.0}
    torch.testing.assert_close(logits(model), base, atol=1e-5, rtol=1e-5)


def test_each_heads_own_product_added_once_more_is_an_output_matrix_twice_as_large(model):
    twice = copy.deepcopy(model)
    for place in places(twice):
        place.output.of(dict(twice.named_parameters())).data.mul_(2)
    merge_output_value(model)
    for place, product in zip(places(model), products(model), strict=True):
        changes_of(model)[place].copy_(product.left @ product.right)
    torch.testing.assert_close(logits(model), logits(twice), atol=1e-4, rtol=1e-4)


def test_only_the_matrices_are_trained_and_they_learn(model):
    base = logits(model)
    trained = trainable_copy(model, TRAINING)
    found = places(model)
    width = products(model)[0].left.shape[0]
    assert count_parameters(trained)[1] == len(found) * width**2
    parameters = [each for each in trained.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(trained(input_ids=TOKENS, use_cache=False).logits[:, 3], TOKENS[:, 4])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    torch.testing.assert_close(logits(model), base, atol=0, rtol=0)


def test_a_cut_matrix_is_the_nearest_of_the_factors_rank(model):
    merge_output_value(model)
    generator = torch.Generator().manual_seed(0)
    for change in changes_of(model).values():
        change.copy_(torch.randn(change.shape, generator=generator))
    before = {place: change.clone() for place, change in changes_of(model).items()}
    cut(model)
    for place, change in changes_of(model).items():
        rank = place.value.stop - place.value.start
        values = np.linalg.svd(before[place].numpy(), compute_uv=False)
        assert np.linalg.matrix_rank(change.numpy(), tol=1e-4) == rank < len(values)
        # Eckart and Young: what is lost are the values that were left out.
        assert float((change - before[place]).norm()) == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-4)
