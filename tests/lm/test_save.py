"""What a run keeps of a model opens again as what it was."""

import copy
import dataclasses

import pytest
import torch

from spillover.errors import ModelError, RunError
from spillover.lm.load import LoadedModel
from spillover.lm.save import DELTA, kept_in, kept_weights, save_model, take_weights
from tests.tiny_models import TINY


@pytest.mark.parametrize("family", TINY)
def test_a_delta_put_into_the_base_is_the_tuned_model_shared_weights_included(family, tmp_path, metaspace_tokenizer):
    base = TINY[family](64)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.01)
    path = save_model(tuned, LoadedModel("tiny", base, metaspace_tokenizer, "0" * 64, ""), "delta", tmp_path)
    again = copy.deepcopy(base)
    take_weights(again, path)
    tokens = torch.tensor([[1, 5, 6, 7]])
    assert torch.equal(again(tokens).logits, tuned(tokens).logits)
    assert not torch.equal(again(tokens).logits, base(tokens).logits)


def test_weights_of_another_model_are_refused_in_a_sentence(tmp_path, metaspace_tokenizer):
    small, large = TINY["llama"](64), TINY["gpt2"](64)
    tuned = copy.deepcopy(small)
    with torch.no_grad():
        next(tuned.parameters()).add_(1.0)
    save_model(tuned, LoadedModel("tiny", small, metaspace_tokenizer, "0" * 64, ""), "delta", tmp_path)
    with pytest.raises(ModelError, match="made with --save delta"):
        take_weights(large, tmp_path / DELTA)
    (tmp_path / "torn").write_bytes((tmp_path / DELTA).read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be taken"):
        take_weights(small, tmp_path / "torn")


@pytest.fixture
def tuned(tiny):
    model = copy.deepcopy(tiny.model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.add_(0.01)
    return model


@pytest.mark.parametrize("save", ["delta", "weights"])
def test_the_weights_are_the_tuned_ones(tiny, tuned, save, tmp_path):
    save_model(tuned, tiny, save, tmp_path)
    found = kept_weights(tmp_path, tiny)
    name = "model.layers.0.mlp.up_proj.weight"
    assert save != "delta" or list(found) == [name]
    assert torch.equal(found[name], tuned.get_parameter(name))
    assert all(torch.equal(value, tuned.get_parameter(name)) for name, value in found.items())


def test_an_adapter_is_merged_into_a_copy(tiny, tmp_path):
    from peft import LoraConfig, get_peft_model

    before = copy.deepcopy(tiny.model.state_dict())
    config = LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False)
    save_model(get_peft_model(copy.deepcopy(tiny.model), config), tiny, "delta", tmp_path)
    found = kept_weights(tmp_path, tiny)
    assert found.keys() == dict(tiny.model.named_parameters()).keys()
    changed = [name for name, value in found.items() if not torch.equal(value, before[name])]
    assert changed == [f"model.layers.{layer}.self_attn.v_proj.weight" for layer in (0, 1)]
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())


def test_what_cannot_be_taken_is_a_sentence(tiny, tuned, tmp_path):
    with pytest.raises(RunError, match=r"this run kept no weights\. Run it again with --save delta"):
        kept_in(tmp_path)
    save_model(tuned, tiny, "delta", tmp_path)
    with pytest.raises(ModelError, match="were made from another model than tiny"):
        kept_weights(tmp_path, dataclasses.replace(tiny, files_sha256="1" * 64))
    (tmp_path / DELTA).write_bytes((tmp_path / DELTA).read_bytes()[:100])
    with pytest.raises(ModelError, match="these weights cannot be read"):
        kept_weights(tmp_path, tiny)
