"""Output-value products of real tiny models of every architecture, against what their attention computes; and
merged: nothing at first, what the factors would write if they are equal, and of a rank."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from peft import LoraConfig, get_peft_model

from spillover.errors import ModelError
from spillover.lm.output_value import Factored, changes_of, cut, merge_output_value, places, products, squared_norms
from spillover.lm.trainable import Training, count_parameters, trainable_copy
from tests.lm.test_architectures import ARCHITECTURES, built

VOCABULARY = 60
ATTENTION = ("self_attn", "attn", "attention")


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    """In double precision, without biases."""
    made = built(request.param, VOCABULARY).double()
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return made


def attention_of(model):
    """The attention module of each layer, and what it makes of given inputs when every token sees only itself."""
    found = {name: module for name, module in model.named_modules() if name.rpartition(".")[2] in ATTENTION}
    return list(found.values())


def written_for_one_token(model, layer, hidden):
    """What a layer's attention gives for texts of one token each, where all attention falls on that token."""
    caught = {}
    module = attention_of(model)[layer]

    def put(_, args, kwargs):
        if args:
            return (hidden[:, None], *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden[:, None]}

    def take(_, args, output):
        caught["output"] = output[0][:, 0]

    handles = [module.register_forward_pre_hook(put, with_kwargs=True), module.register_forward_hook(take)]
    model(input_ids=torch.arange(3, 3 + len(hidden))[:, None], use_cache=False)
    for handle in handles:
        handle.remove()
    return caught["output"]


def test_heads_write_what_attention_writes(model):
    """One head at a time: the others' outputs are set to zero, so that a wrong pairing would show."""
    torch.manual_seed(1)
    hidden = torch.randn(5, 32, dtype=torch.float64) * 0.1  # small: one of the architectures clips its values
    weights = dict(model.named_parameters())
    assert [(place.layer, place.head) for place in places(model)] == [(a, b) for a in range(2) for b in range(4)]
    for place in places(model):
        output = weights[place.output.weight].detach()
        kept, own = output.clone(), place.output.of({place.output.weight: output}).clone()
        output.zero_()
        place.output.of({place.output.weight: output}).copy_(own)
        with torch.no_grad():
            expected = written_for_one_token(model, place.layer, hidden)
            product = place.product(weights)
            found = hidden @ product.left @ product.right
        output.copy_(kept)
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(found, expected)


def test_factors_are_views(model):
    for product in products(model):
        pointers = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        assert product.left.untyped_storage().data_ptr() in pointers
        assert product.right.untyped_storage().data_ptr() in pointers


def test_norms_and_spectra_are_those_of_the_product(model):
    other = {name: value + 0.01 * torch.randn_like(value) for name, value in model.named_parameters()}
    total = 0.0
    for place in places(model):
        before, after = place.product(dict(model.named_parameters())), place.product(other)
        dense = before.left @ before.right
        change = after.left @ after.right - dense
        for factored, expected in [(before, dense), (after.minus(before), change)]:
            values = torch.linalg.svdvals(expected)
            found = factored.singular_values()
            torch.testing.assert_close(found, values[: len(found)])
            assert (values[len(found) :] < 1e-9).all()
            torch.testing.assert_close(factored.squared_norm(), (expected**2).sum())
            left, middle, right = factored.singular_vectors()
            torch.testing.assert_close(left * middle @ right, expected)
        total += (dense**2).sum()
    torch.testing.assert_close(squared_norms(products(model)), total)


@given(some.integers(1, 6), some.integers(1, 6), some.integers(1, 9), some.integers(0, 1000))
def test_factored_matrices_of_any_shape(rows, columns, inner, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return Factored(*(torch.randn(shape, generator=generator, dtype=torch.float64)
                          for shape in ((rows, inner), (inner, columns))))  # fmt: skip

    one, two = draw(), draw()
    dense = one.left @ one.right - two.left @ two.right
    change = one.minus(two)
    found, expected = change.singular_values(), torch.linalg.svdvals(dense)
    assert (expected[len(found) :] < 1e-9).all(), "the rank is at most that of both together"
    torch.testing.assert_close(found[: len(expected)], expected[: len(found)], atol=1e-9, rtol=1e-9)
    assert (found[len(expected) :] < 1e-9).all()
    torch.testing.assert_close(change.squared_norm(), (dense**2).sum(), atol=1e-9, rtol=1e-9)
    apart = two.squared_distance(one, two.left_grams(one), two.right_gram())
    torch.testing.assert_close(apart, (dense**2).sum(), atol=1e-9, rtol=1e-9)


def test_a_small_change_keeps_its_digits_in_single_precision():
    torch.manual_seed(0)
    before = Factored(torch.randn(40, 8), torch.randn(8, 40))
    after = Factored(before.left + 1e-4 * torch.randn(40, 8), before.right + 1e-4 * torch.randn(8, 40))
    exact = after.left.double() @ after.right.double() - before.left.double() @ before.right.double()
    torch.testing.assert_close(
        after.minus(before).singular_values().double(), torch.linalg.svdvals(exact)[:16], rtol=1e-4, atol=0
    )
    assert before.minus(before).singular_values().abs().max() == 0


def test_the_sum_of_norms_has_the_gradient_of_the_products():
    model = built("gemma3", VOCABULARY).double()
    squared_norms(products(model)).backward()
    found = {place.value.weight: model.get_parameter(place.value.weight).grad for place in places(model)}
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    for place in places(model):
        product = place.product(dict(model.named_parameters()))
        gradient = 2 * product.left @ product.right @ product.right.T
        place.value.of(expected).add_(gradient.detach())
    assert all(torch.allclose(found[name], expected[name]) for name in found)


def test_an_adapter_counts():
    base = built("llama", VOCABULARY)
    adapted = get_peft_model(built("llama", VOCABULARY), LoraConfig(r=2, target_modules="all-linear", lora_alpha=4))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    found = products(adapted)
    merged = products(adapted.merge_and_unload())
    for adapter, whole, before in zip(found, merged, products(base), strict=True):
        torch.testing.assert_close(adapter.left, whole.left)
        torch.testing.assert_close(adapter.right, whole.right)
        assert not torch.equal(adapter.left, before.left)


def test_a_model_of_another_shape_is_refused():
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ModelError) as caught:
        products(model)
    assert str(caught.value).startswith("MambaForCausalLM: this model has no attention of a known shape (separate")


TOKENS = torch.tensor([[1, 5, 9, 13, 7], [2, 2, 30, 4, 8]])
TRAINING = Training(epochs=1, learning_rate=1e-2, batch=2, weight_decay=0.0, freeze_embeddings=True, lora=0, seed=0,
                    merged=True)  # fmt: skip


def logits(biasless):
    with torch.inference_mode():
        return biasless(input_ids=TOKENS, use_cache=False).logits


@pytest.fixture(params=ARCHITECTURES)
def biasless(request):
    """Of every architecture, query heads that share value heads among them; without biases, which are no product."""
    made = built(request.param, 60)
    made.config.clip_qkv = None  # OLMo's limit on values, beyond which they are no product either.
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return made


def test_at_first_nothing_is_added(biasless):
    base = logits(biasless)
    merge_output_value(biasless)
    assert {float(change.abs().max()) for change in changes_of(biasless).values()} == {0.0}
    torch.testing.assert_close(logits(biasless), base, atol=1e-5, rtol=1e-5)


def test_each_heads_own_product_added_once_more_is_an_output_matrix_twice_as_large(biasless):
    twice = copy.deepcopy(biasless)
    for place in places(twice):
        place.output.of(dict(twice.named_parameters())).data.mul_(2)
    merge_output_value(biasless)
    for place, product in zip(places(biasless), products(biasless), strict=True):
        changes_of(biasless)[place].copy_(product.left @ product.right)
    torch.testing.assert_close(logits(biasless), logits(twice), atol=1e-4, rtol=1e-4)


def test_only_the_matrices_are_trained_and_they_learn(biasless):
    base = logits(biasless)
    trained = trainable_copy(biasless, TRAINING)
    found = places(biasless)
    width = products(biasless)[0].left.shape[0]
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
    torch.testing.assert_close(logits(biasless), base, atol=0, rtol=0)


def test_a_cut_matrix_is_the_nearest_of_the_factors_rank(biasless):
    merge_output_value(biasless)
    generator = torch.Generator().manual_seed(0)
    for change in changes_of(biasless).values():
        change.copy_(torch.randn(change.shape, generator=generator))
    before = {place: change.clone() for place, change in changes_of(biasless).items()}
    cut(biasless)
    for place, change in changes_of(biasless).items():
        rank = place.value.stop - place.value.start
        values = np.linalg.svd(before[place].numpy(), compute_uv=False)
        assert np.linalg.matrix_rank(change.numpy(), tol=1e-4) == rank < len(values)
        # Eckart and Young: what is lost are the values that were left out.
        assert float((change - before[place]).norm()) == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-4)
