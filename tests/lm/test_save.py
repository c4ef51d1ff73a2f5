"""What a run keeps of a model opens again as what it was."""

import copy
import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from spillover.errors import ModelError, RunError
from spillover.lm.load import LoadedModel, load_model
from spillover.lm.save import DELTA, kept_in, kept_weights, save_model, take_weights
from tests import quick
from tests.tiny_models import TINY, tied_llama


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


QUERIES = ["q_proj", "v_proj"]
#: Adapters as users make them: settings of LoRA, and by how many rows the embeddings were grown.
ADAPTERS = {
    "head": ({"target_modules": ["v_proj", "lm_head"]}, 0),
    "embeddings": ({"target_modules": ["v_proj", "embed_tokens"]}, 0),
    "grown": ({}, 2),
    "DoRA": ({"target_modules": ["q_proj", "lm_head"], "use_dora": True}, 0),
    "whole embeddings": ({"modules_to_save": ["embed_tokens"]}, 0),
    "some tokens": ({"trainable_token_indices": [5, 6]}, 0),
    "both ends": ({"target_modules": ["embed_tokens", "lm_head"]}, 0),
    "both ends as one": ({"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}, 0),
    "grown and adapted": ({"target_modules": ["v_proj", "embed_tokens", "lm_head"]}, 5),
    "grown and whole": ({"modules_to_save": ["embed_tokens", "lm_head"]}, 2),
    "cut": ({}, -3),
    "DoRA on embeddings": ({"target_modules": ["embed_tokens"], "use_dora": True}, 0),
    "rsLoRA": ({"use_rslora": True}, 0),
    "whole head": ({"modules_to_save": ["lm_head"]}, 0),
    "norms": ({"modules_to_save": ["input_layernorm"]}, 0),
    "grown and some tokens": ({"trainable_token_indices": [5, 6]}, 2),
    "biases": ({"bias": "all"}, 0),
    "one layer": ({"layers_to_transform": [1]}, 0),
    "patterns": ({"rank_pattern": {"v_proj": 8}, "alpha_pattern": {"v_proj": 3}}, 0),
}


def log_probabilities(model, vocabulary):
    text = torch.linspace(0, vocabulary - 1, 40).long()[None]
    with torch.inference_mode():
        return torch.log_softmax(model.eval()(input_ids=text).logits, -1)


@pytest.mark.parametrize("name", quick.first(ADAPTERS, 6))
@pytest.mark.parametrize("made", [tied_llama, TINY["llama"]], ids=["tied", "apart"])
def test_an_adapter_that_is_loaded_answers_as_on_its_plain_base(made, name, metaspace_tokenizer, tmp_path):
    settings, rows = ADAPTERS[name]
    vocabulary, tokenizer = len(metaspace_tokenizer) + max(0, -rows), metaspace_tokenizer
    made(vocabulary).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    if rows:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens([f"<|{number}|>" for number in range(rows)])
        base.resize_token_embeddings(vocabulary + rows)
    adapted = get_peft_model(base, LoraConfig(r=2, **({"target_modules": QUERIES} | settings)))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            weight.add_(0.1 * torch.randn_like(weight) * weight.requires_grad)
    adapted.save_pretrained(tmp_path / "adapter")
    if rows:
        tokenizer.save_pretrained(tmp_path / "adapter")
    meant = log_probabilities(adapted, vocabulary + rows)
    loaded = load_model(str(tmp_path / "adapter"), device="cpu")
    torch.testing.assert_close(log_probabilities(loaded.model, vocabulary + rows), meant, atol=1e-3, rtol=0)
    # Written as weights, it is the same model once more.
    save_model(loaded.model, loaded, "weights", tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    torch.testing.assert_close(log_probabilities(again, vocabulary + rows), meant, atol=1e-3, rtol=0)


def test_an_adapter_that_cannot_be_folded_in_is_refused(tied_folder, tmp_path):
    """It acts only after certain tokens, which no weights can say."""
    base = AutoModelForCausalLM.from_pretrained(tied_folder)
    own = LoraConfig(
        r=2, target_modules=QUERIES, task_type="CAUSAL_LM", alora_invocation_tokens=[5], init_lora_weights=False
    )
    get_peft_model(base, own).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"folded into its base this adapter answers otherwise|cannot be loaded"):
        load_model(str(tmp_path / "adapter"), device="cpu")
