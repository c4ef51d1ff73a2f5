"""Parts of a change, put into the base model one at a time, or left out of the tuned one."""

import copy

import pytest
import torch

from spillover.errors import ModelError
from spillover.interp.patching import COMPONENTS, Change, mean_moved, moved, parts_of
from tests.lm.test_architectures import built

FAMILIES = ["gemma3", "gpt2", "gpt-neox", "llama", "qwen2"]
TOKENS = torch.arange(3, 20)[None]


def pair(family):
    base = built(family, 60)
    tuned = copy.deepcopy(base)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return base, tuned


def change_of(base, tuned):
    return Change(base, dict(tuned.named_parameters()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["component", "layer"])
def test_every_number_is_in_exactly_one_part(family, kind):
    model = built(family, 60)
    parts = [part for part in parts_of(model, dict(model.named_parameters())) if part.kind == kind]
    expected = COMPONENTS if kind == "component" else ("layer 1", "layer 2", "outside the layers")
    assert [part.name for part in parts] == list(expected)
    for name, weight in model.named_parameters():
        masks = [part.region[name] for part in parts if name in part.region]
        count = sum(torch.ones_like(weight) if mask is None else mask.float() for mask in masks)
        assert torch.equal(count, torch.ones_like(weight)), name


@pytest.mark.parametrize(
    ("family", "part", "ends"),
    [
        ("llama", "output-value", {"v_proj.weight", "o_proj.weight"}),
        ("llama", "key-query", {"q_proj.weight", "k_proj.weight"}),
        ("llama", "mlp", {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}),
        ("llama", "embeddings", {"embed_tokens.weight", "lm_head.weight"}),
        ("qwen2", "output-value", {"v_proj.weight", "v_proj.bias", "o_proj.weight"}),
        ("gpt2", "key-query", {"c_attn.weight", "c_attn.bias"}),
        ("gpt2", "embeddings", {"wte.weight", "wpe.weight"}),
    ],
)
def test_what_belongs_where(family, part, ends):
    model = built(family, 60)
    found = next(each for each in parts_of(model, dict(model.named_parameters())) if each.name == part)
    assert {".".join(name.rsplit(".", 2)[-2:]) for name in found.region} == ends


def test_of_a_fused_projection_the_values_are_a_third():
    model = built("gpt2", 60)
    component = {part.name: part.region for part in parts_of(model, dict(model.named_parameters()))}
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias"):
        columns = component["output-value"][name].float().reshape(-1, 96).mean(0)
        assert columns.tolist() == [0.0] * 64 + [1.0] * 32, "queries and keys of 32 each, then values"


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_one_part_at_a_time_and_the_base_afterwards_byte_for_byte(family):
    base, tuned = pair(family)
    kept = copy.deepcopy(base.state_dict())
    change = change_of(base, tuned)
    with torch.no_grad():
        before, after = base(TOKENS).logits, tuned(TOKENS).logits
        with change.only(change.whole) as model:
            assert torch.equal(model(TOKENS).logits, after)
        with change.without(change.whole) as model:
            assert torch.equal(model(TOKENS).logits, before)
        seen = []
        for part in change.parts:
            for patched in (change.only, change.without):
                with patched(part) as model:
                    seen.append(float(model(TOKENS).logits.double().sum()))
                assert all(torch.equal(value, kept[name]) for name, value in base.state_dict().items())
    assert len({*seen, float(before.double().sum()), float(after.double().sum())}) == len(seen) + 2
    with pytest.raises(KeyboardInterrupt), change.without(change.parts[0]):
        raise KeyboardInterrupt
    assert all(torch.equal(value, kept[name]) for name, value in base.state_dict().items())


def test_a_part_alone_and_all_but_it_add_up_to_the_change():
    base, tuned = pair("gpt2")
    change = change_of(base, tuned)
    for part in change.parts:
        states = []
        for patched in (change.only, change.without):
            with patched(part) as model:
                states.append({name: value.detach().clone() for name, value in model.named_parameters()})
        for name, start in base.named_parameters():
            torch.testing.assert_close(states[0][name] - start + states[1][name] - start, change.after[name] - start)


def test_parts_that_did_not_change_are_left_out_and_other_models_refused():
    base = built("llama", 60)
    tuned = dict(base.named_parameters())
    values = "model.layers.1.self_attn.v_proj.weight"
    change = Change(base, {**tuned, values: tuned[values] + 1})
    assert [part.name for part in change.parts] == ["output-value", "layer 2"]
    assert Change(base, tuned).parts == []
    with pytest.raises(ModelError, match="has no counterpart of its shape in the base model"):
        Change(base, dict(built("llama", 61).named_parameters()))


def test_how_far_it_moved_by_hand():
    base = built("llama", 60)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.fill_(2.0)
        for name, parameter in tuned.named_parameters():
            parameter.fill_(2.0 + (1.0 if "mlp" in name else 0.5 if "v_proj" in name else 0.0))
    found = moved(base, tuned)
    assert found["mlp"] == pytest.approx(0.5) and found["output-value"] == pytest.approx(0.25)
    values, mlp = 2 * 32 * 16, 2 * 3 * 32 * 48
    assert found["everything"] == pytest.approx(((mlp + 0.25 * values) / (4 * (mlp + values))) ** 0.5)
    assert set(found) == {"everything", "mlp", "output-value", "layer 1", "layer 2"}
    assert moved(base, base) == {}
    assert mean_moved([found, {"mlp": 1.5}])["mlp"] == pytest.approx(1.0)


def test_an_adapter_counts_as_what_it_adds():
    from peft import LoraConfig, get_peft_model

    base = built("llama", 60)
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False))
    merged = copy.deepcopy(adapted).merge_and_unload()
    assert moved(base, adapted) == pytest.approx(moved(base, merged)) and "output-value" in moved(base, adapted)
