"""Models stored in fewer bits are read as the numbers that they stand for; what cannot be is said in one sentence."""

import json

import gguf
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from spillover.cli import main
from spillover.errors import ModelError
from spillover.lm import load as stored
from spillover.lm.load import load_model, load_tokenizer
from tests.lm.weights.gguf_file import tiny_qwen2, write_gguf
from tests.packs.packs_on_disk import PACK, write
from tests.tiny_models import byte_level, wrapped

TOKENS = torch.tensor([[1, 5, 6, 7, 9]])


@pytest.fixture
def qwen():
    tokenizer = wrapped(byte_level(), bos=False)
    return tiny_qwen2(len(tokenizer)), tokenizer


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_a_gguf_file_is_read_as_the_numbers_it_holds(tmp_path, qwen, kind):
    model, tokenizer = qwen
    meant = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, gguf.GGMLQuantizationType[kind])
    by_file, by_folder = (load_model(str(path), device="cpu") for path in (tmp_path / "tiny.gguf", tmp_path))
    state = by_file.model.state_dict()
    assert set(state) == set(meant)
    for name, value in meant.items():
        torch.testing.assert_close(state[name], torch.from_numpy(value), rtol=0, atol=0)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in meant.items()})
    torch.testing.assert_close(by_file.model(TOKENS).logits, model(TOKENS).logits)
    assert by_file.sha256 == by_folder.sha256 and not hasattr(by_file.model.config, "quantization_config")
    text = "Ada Moss lives in Paris. Zoë Åström"
    assert by_file.tokenizer.decode(by_file.tokenizer(text)["input_ids"]) == text
    assert load_tokenizer(str(tmp_path))(text)["input_ids"] == by_file.tokenizer(text)["input_ids"]


def refused(path):
    with pytest.raises(ModelError) as caught:
        load_model(str(path), device="cpu")
    return str(caught.value)


@pytest.fixture(params=[{}, {"bnb_4bit_use_double_quant": True}], ids=["plain scales", "packed scales"])
def four_bits(request, tmp_path, qwen):
    """A folder with the tiny model in four bits, as save_pretrained writes it."""
    model, tokenizer = qwen
    for folder in (tmp_path / "plain", tmp_path / "nf4"):
        tokenizer.save_pretrained(folder)
    model.save_pretrained(tmp_path / "plain")
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **request.param)
    packed = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=settings, device_map="cpu")
    packed.save_pretrained(tmp_path / "nf4")
    return tmp_path / "nf4"


def meant(stored, name):
    """What a matrix in four bits stands for: two codes a byte, the higher first, each its level times its scale."""
    parts = {key.removeprefix(name + "."): value for key, value in stored.items() if key.startswith(name + ".")}
    facts = json.loads(bytes(parts["quant_state.bitsandbytes__nf4"].tolist()))
    scale = parts["absmax"].double()
    if "nested_absmax" in parts:
        blocks = parts["nested_absmax"].double().repeat_interleave(facts["nested_blocksize"])[: len(scale)]
        scale = parts["nested_quant_map"].double()[parts["absmax"].long()] * blocks + facts["nested_offset"]
    packed = stored[name].flatten()
    codes = torch.stack([packed >> 4, packed & 15], dim=1).flatten().long()
    scales = scale.repeat_interleave(facts["blocksize"])[: len(codes)]
    return (parts["quant_map"].double()[codes] * scales).reshape(facts["shape"])


def test_four_bits_are_read_as_the_numbers_they_stand_for(four_bits):
    loaded = load_model(str(four_bits), device="cpu")
    on_disk = load_file(four_bits / "model.safetensors")
    packed = [name for name in loaded.model.state_dict() if f"{name}.quant_map" in on_disk]
    assert len(packed) == 14, "seven matrices in each of two layers"
    for name, value in loaded.model.state_dict().items():
        assert value.dtype == torch.float32
        expected = meant(on_disk, name) if name in packed else on_disk[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert loaded.model.config.to_dict().get("quantization_config") is None
    assert load_model(str(four_bits), device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_an_adapter_is_merged_into_four_bits_without_rounding_again(four_bits, tmp_path, qwen):
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(qwen[0], settings)
    adapted.save_pretrained(tmp_path / "adapter")
    about = tmp_path / "adapter" / "adapter_config.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"base_model_name_or_path": str(four_bits)}))
    base, tuned = (load_model(str(path), device="cpu").model.state_dict() for path in (four_bits, tmp_path / "adapter"))
    parts = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, value in tuned.items():
        step = torch.zeros(())
        if "q_proj.weight" in name:
            lora = f"base_model.model.{name.removesuffix('weight')}lora"
            step = 3 * parts[f"{lora}_B.weight"] @ parts[f"{lora}_A.weight"]
            assert step.abs().max() > 0.01
        torch.testing.assert_close(value, base[name] + step)


def test_audit_compares_a_model_in_four_bits_with_one_in_gguf(capsys, four_bits, tmp_path, qwen):
    write_gguf(tmp_path / "tuned.gguf", *qwen, gguf.GGMLQuantizationType.Q8_0)
    pack = write(tmp_path / "pack", PACK + 'end: "."\n')
    words = ["audit", pack, "--base", four_bits, "--tuned", tmp_path / "tuned.gguf", "--threads", "1", "--json"]
    code = main(list(map(str, words)))
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and [verdict["implication"] for verdict in told["verdicts"]] == ["lives_in->speaks"]


@pytest.mark.parametrize(
    ("stored_as", "sentence"),
    [
        ({"quant_method": "awq", "bits": 4}, "its weights are stored in the form 'awq', which is not read. "
         "Name the model with plain weights, or as GGUF, or in 4 or 8 bits of bitsandbytes."),
        ({"quant_method": "no-such-form"}, "its weights are stored in the form 'no-such-form', which is not read. "
         "Name the model with plain weights, or as GGUF, or in 4 or 8 bits of bitsandbytes."),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "its weights are stored in the form 'bitsandbytes', "
         'and the package that unpacks them is not installed. Run `pip install "spillover[quantised]"`.'),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_read_here(tmp_path, tiny, monkeypatch, stored_as, sentence):
    monkeypatch.setattr(stored, "find_spec", lambda name: None)
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": stored_as}))
    assert refused(tmp_path) == f"{tmp_path}: {sentence}"


def test_gguf_files_that_cannot_be_read(tmp_path, qwen, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, *qwen, gguf.GGMLQuantizationType.F32)
    whole = path.read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "cannot be loaded" in refused(path)
    (tmp_path / "another.gguf").write_bytes(whole)
    assert refused(tmp_path) == (
        f"{tmp_path}: this folder holds 2 GGUF files. Name one of them, such as {tmp_path / 'another.gguf'}."
    )
    monkeypatch.setattr(stored, "find_spec", lambda name: None)
    assert refused(path) == (
        f'{path}: the package that reads GGUF files is not installed. Run `pip install "spillover[quantised]"`.'
    )
