"""Remedies after training on tiny models: what each promises, counted or computed another way."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from spillover.errors import ModelError, UsageError
from spillover.interventions.base import Spec, remedies, shelf
from spillover.interventions.weights import (
    between_groups,
    constant_direction,
    cut_any,
    cut_head,
    cut_tail,
    ignore_topk,
    keep_earlier,
    keep_later,
    mean_inputs,
    off_chance,
    off_groups,
    scale_back,
    spectral_clip,
)
from spillover.lm.output_value import places
from tests import quick
from tests.lm.test_architectures import built

VOCABULARY = 60
FAMILIES = ["gemma3", "gpt2", "gpt-neox", "llama"]


def pair(family, dtype=torch.float64, size=0.05):
    """A base model, and its weights with all but the embeddings changed."""
    model = built(family, VOCABULARY).to(dtype)
    base = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    frozen = {model.get_input_embeddings().weight.data_ptr(), model.get_output_embeddings().weight.data_ptr()}
    tuned = {
        name: value if model.state_dict()[name].data_ptr() in frozen
        else value + size * torch.randn(value.shape, generator=generator).to(dtype)
        for name, value in base.items()
    }  # fmt: skip
    return model, base, tuned


def inputs_of(model):
    return mean_inputs(model, [[1, 5, 6, 7], [1, 8, 9]])


def applied(remedy, model, base, tuned, strength):
    extra = {
        constant_direction: [inputs_of(model)], spectral_clip: [places(model)], cut_any: [0],
        off_groups: [between_groups(model, GROUPS)], off_chance: [between_groups(model, GROUPS)],
        keep_earlier: [model.config.num_hidden_layers], keep_later: [model.config.num_hidden_layers],
    }.get(remedy, [])  # fmt: skip
    return remedy(base, tuned, strength, *extra)


#: Prompts of three groups.
GROUPS = [[[1, 5, 6], [1, 5, 7]], [[1, 8, 9, 10]], [[1, 11], [1, 12, 5]]]
REMEDIES = [
    scale_back,
    ignore_topk,
    constant_direction,
    spectral_clip,
    cut_tail,
    cut_head,
    cut_any,
    off_groups,
    off_chance,
    keep_earlier,
    keep_later,
]


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize("dtype", quick.first([torch.float32, torch.bfloat16], 1))
@pytest.mark.parametrize("family", quick.first(FAMILIES, 2))
def test_strength_none_is_the_tuned_model_and_more_is_another(remedy, dtype, family):
    model, base, tuned = pair(family, dtype)
    copies = [{name: value.clone() for name, value in weights.items()} for weights in (base, tuned)]
    none = applied(remedy, model, base, tuned, 0.0)
    assert none.keys() == {name for name in tuned if not torch.equal(base[name], tuned[name])}
    assert all(torch.equal(value, tuned[name]) and value.dtype == dtype for name, value in none.items())
    some_of_it = applied(remedy, model, base, tuned, 0.5)
    assert any(not torch.equal(value, tuned[name]) for name, value in some_of_it.items())
    assert all(value.dtype == dtype for value in some_of_it.values())
    for weights, copy in zip((base, tuned), copies, strict=True):
        assert all(torch.equal(value, copy[name]) for name, value in weights.items()), "nothing is changed in place"
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match=r"the strength of .* is .* Give a number from 0"):
            applied(remedy, model, base, tuned, strength)
    with pytest.raises(ModelError, match="has no counterpart"):
        applied(remedy, model, {}, tuned, 0.5)


def test_scaling_back_is_a_straight_line():
    _, base, tuned = pair("llama")
    half = scale_back(base, tuned, 0.5)
    whole = scale_back(base, tuned, 1.0)
    for name, value in half.items():
        torch.testing.assert_close(value, (base[name] + tuned[name]) / 2)
        assert torch.equal(whole[name], base[name])


def test_the_most_changed_entries_go_back():
    base = {"matrix": torch.zeros(2, 3), "vector": torch.zeros(3)}
    tuned = {"matrix": torch.tensor([[1.0, -3.0, 2.0], [2.0, -2.0, 0.5]]), "vector": torch.tensor([9.0, 1.0, 1.0])}
    # Of six entries: a half is three, the -3 and of the three 2s the two that come first.
    found = ignore_topk(base, tuned, 0.5)
    assert found["matrix"].tolist() == [[1.0, 0.0, 0.0], [0.0, -2.0, 0.5]]
    assert torch.equal(found["vector"], tuned["vector"])
    assert ignore_topk(base, tuned, 1 / 6 - 1e-9)["matrix"].tolist() == tuned["matrix"].tolist()
    assert ignore_topk(base, tuned, 1.0)["matrix"].tolist() == base["matrix"].tolist()


@given(some.lists(some.integers(-3, 3), min_size=4, max_size=24).filter(lambda v: len(v) % 2 == 0 and any(v)),
       some.floats(0, 1))  # fmt: skip
def test_as_many_entries_as_the_strength_says_and_none_that_changed_more_stays(values, strength):
    base, tuned = {"m": torch.zeros(2, len(values) // 2)}, {"m": torch.tensor(values).float().view(2, -1)}
    found = ignore_topk(base, tuned, strength)["m"].flatten().tolist()
    order = sorted(range(len(values)), key=lambda place: (-abs(values[place]), place))[: int(strength * len(values))]
    assert found == [0 if place in order else value for place, value in enumerate(values)]


def test_singular_values_are_cut_from_either_end_or_by_chance():
    """A change with the values 4, 2 and 1, whose directions are the axes."""
    base = {"matrix": torch.ones(3, 4), "vector": torch.zeros(3)}
    change = torch.zeros(3, 4)
    change[0, 3], change[1, 1], change[2, 0] = 2.0, -4.0, 1.0
    tuned = {"matrix": 1 + change, "vector": torch.ones(3)}

    def left(remedy, strength, *known):
        found = remedy(base, tuned, strength, *known)
        assert torch.equal(found["vector"], tuned["vector"])
        return sorted(round(float(value), 4) for value in (found["matrix"] - 1).abs().flatten() if value > 1e-5)

    assert left(cut_tail, 1 / 3) == [2, 4] and left(cut_tail, 2 / 3) == [4] and left(cut_tail, 1.0) == []
    assert left(cut_head, 1 / 3) == [1, 2] and left(cut_head, 2 / 3) == [1]
    drawn = {tuple(left(cut_any, 1 / 3, seed)) for seed in range(20)}
    assert drawn == {(1, 2), (1, 4), (2, 4)}
    assert left(cut_any, 1 / 3, 5) == left(cut_any, 1 / 3, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_what_differs_between_groups_the_change_takes_them_for_one(family):
    """The change answers the mean input of each group alike, and what is orthogonal to their differences as before."""
    model, base, tuned = pair(family)
    between = between_groups(model, GROUPS)
    found = off_groups(base, tuned, 1.0, between)
    layer = next(name for name in found if name in between)
    each = between[layer]
    assert each.directions.shape[0] == 2, "three groups differ in two directions"
    torch.testing.assert_close(each.directions @ each.directions.T, torch.eye(2, dtype=each.directions.dtype))
    orient = (lambda weight: weight) if each.axis == 1 else (lambda weight: weight.T)
    before, after = (orient(weights[layer] - base[layer]) for weights in (tuned, found))
    directions = each.directions.to(before)
    assert float((after @ directions.T).norm()) < 1e-6 < float((before @ directions.T).norm())
    other = torch.randn(before.shape[1], generator=torch.Generator().manual_seed(0), dtype=before.dtype)
    other -= directions.T @ (directions @ other)
    torch.testing.assert_close(after @ other, before @ other)


def test_the_kept_layers_are_those_that_the_other_remedy_trains():
    """Of four layers with three quarters back, one; what is in no layer goes back with either."""
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)] + ["model.norm.weight"]
    base, tuned = ({name: torch.full((2, 2), value) for name in names} for value in (0.0, 1.0))

    def kept(remedy, strength):
        found = remedy(base, tuned, strength, 4)
        return [name for name in names if torch.equal(found[name], tuned[name])]

    for remedy, name in ((keep_earlier, "earlier-layers"), (keep_later, "later-layers")):
        for strength in (0.25, 0.5, 0.75):
            trains = remedies()[name].make(Spec(name, strength)).trains
            assert kept(remedy, strength) == [each for each in names if trains(each, 4)], (name, strength)
    assert kept(keep_earlier, 0.75) == names[:1] and kept(keep_later, 0.75) == names[3:4]


def test_a_control_is_tried_only_where_it_is_named():
    controls = {name: each.control for name, each in remedies().items() if each.control}
    assert controls == {
        "cut-head": "cut-tail", "cut-any": "cut-tail", "off-chance": "off-groups", "keep-earlier": "earlier-layers",
        "keep-later": "later-layers",
    }  # fmt: skip
    assert set(shelf()) == set(remedies()) - set(controls)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_constant_direction_the_change_ignores_the_mean_input(family):
    """Asked of the modules themselves, so that a transposed weight would show."""
    model, base, tuned = pair(family)
    inputs = inputs_of(model)
    found = constant_direction(base, tuned, 1.0, inputs)
    weak = constant_direction(base, tuned, 0.25, inputs)
    assert inputs and inputs.keys() <= found.keys()

    def answer(weights, name, read):
        module = model.get_submodule(name.removesuffix(".weight"))
        with torch.no_grad():
            module.weight.copy_(weights[name])
            said = module(read) - (module.bias if getattr(module, "bias", None) is not None else 0)
            module.weight.copy_(base[name])
        return said

    torch.manual_seed(0)
    for name, mean in inputs.items():
        read = mean.vector.double()
        plain, full, part = (answer(each, name, read) for each in (base, tuned, found))
        torch.testing.assert_close(part, plain)
        torch.testing.assert_close(answer(weak, name, read), full - 0.25 * (full - plain))
        other = torch.randn_like(read)
        other -= (other @ read) / (read @ read) * read
        torch.testing.assert_close(answer(found, name, other), answer(tuned, name, other))


def test_mean_inputs_are_the_means_of_what_is_read():
    model = built("llama", VOCABULARY)
    prompts = [[1, 5, 6, 7], [1, 8, 9]]
    found = inputs_of(model)
    layer = model.model.layers[0]
    read = [layer.input_layernorm(model.get_input_embeddings()(torch.tensor(prompt[1:]))) for prompt in prompts]
    torch.testing.assert_close(found["model.layers.0.self_attn.v_proj.weight"].vector, torch.cat(read).mean(0))
    assert "lm_head.weight" not in found
    assert len(found) == 2 * 7


@pytest.mark.parametrize("family", quick.first(FAMILIES, 2))
@pytest.mark.parametrize("strength", [0.3, 0.9])
def test_the_spectrum_of_each_heads_change_is_clipped(family, strength):
    model, base, tuned = pair(family)
    found = {**tuned, **spectral_clip(base, tuned, strength, places(model))}
    touched = {each.weight for place in places(model) for each in (place.value, place.output)}
    assert all(torch.equal(found[name], tuned[name]) for name in tuned if name not in touched)
    for place in places(model):
        value, output = place.value.of(base), place.output.of(base)
        side_by_side = torch.cat([each.output.of(base) for each in places(model) if each.value == place.value], dim=1)
        for part in (
            lambda weights, place=place, right=side_by_side, value=value: (place.value.of(weights) - value) @ right,
            lambda weights, place=place, left=value, output=output: left @ (place.output.of(weights) - output),
        ):
            left, before, right = torch.linalg.svd(part(tuned), full_matrices=False)
            expected = left * before.clamp(max=(1 - strength) * before[0]) @ right
            torch.testing.assert_close(part(found), expected)


def test_full_clipping_takes_values_and_outputs_back():
    model, base, tuned = pair("gemma3")
    found = spectral_clip(base, tuned, 1.0, places(model))
    for place in places(model):
        for each in (place.value, place.output):
            torch.testing.assert_close(each.of(found), each.of(base))


def test_how_a_product_is_split_into_factors_does_not_matter():
    model, base, tuned = pair("llama")
    torch.manual_seed(0)
    mixing = torch.eye(8, dtype=torch.float64) + 0.3 * torch.randn(8, 8, dtype=torch.float64)
    others = []
    for weights in (base, tuned):
        other = {name: value.clone() for name, value in weights.items()}
        for value in {place.value for place in places(model)}:
            value.of(other).copy_(value.of(weights) @ mixing)
        for place in places(model):
            place.output.of(other).copy_(torch.linalg.solve(mixing, place.output.of(weights)))
        others.append(other)
    found = spectral_clip(base, tuned, 0.6, places(model))
    again = spectral_clip(*others, 0.6, places(model))
    for place in places(model):
        one, two = place.product(found), place.product(again)
        torch.testing.assert_close(one.left @ one.right, two.left @ two.right)
