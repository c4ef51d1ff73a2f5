"""Output-value products of real tiny models of every architecture, against what their attention computes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from peft import LoraConfig, get_peft_model

from spillover.errors import ModelError
from spillover.lm.output_value import Factored, places, products, squared_norms
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
