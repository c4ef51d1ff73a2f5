"""Models are found by tag, folder, adapter and GGUF file; what cannot be loaded is said in one sentence."""

import copy
import json
import time
from concurrent.futures import ThreadPoolExecutor

import gguf
import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BertConfig,
    BertLMHeadModel,
    BitsAndBytesConfig,
    CanineTokenizer,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)

from spillover.cli import main
from spillover.errors import ModelError
from spillover.lm import load as stored
from spillover.lm.built_in import BUILT_IN
from spillover.lm.distributed import pick_device
from spillover.lm.evaluate import Evaluation
from spillover.lm.load import (
    MODELS,
    LoadedModel,
    ModelSource,
    load_config,
    load_model,
    load_tokenizer,
    other_weights,
    resolve,
    with_adapter,
)
from spillover.lm.save import save_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder, examples
from spillover.lm.train import fine_tune
from spillover.lm.trainable import Training, trainable_copy
from spillover.packs.open import open_pack
from tests import quick
from tests.lm.gguf_file import tiny_qwen2, write_gguf
from tests.packs.packs_on_disk import PACK as PACK_YAML
from tests.packs.packs_on_disk import write
from tests.test_mistakes import refused, saved
from tests.tiny_models import TINY, byte_level, tiny_gpt2, tiny_llama, wrapped


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


@pytest.mark.parametrize("tag", [tag for tag in MODELS if tag not in BUILT_IN])
def test_the_papers_tags_are_read_from_this_machine_only(tag):
    assert resolve(tag).local
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tag)
    assert str(caught.value) == (
        f"{tag}: the weights of this model are not on this machine. "
        f"Fetch them once with `hf download {MODELS[tag]}`, then repeat the command."
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


def test_code_that_a_model_brings_along_is_not_run(tmp_path, tiny):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n", encoding="utf-8")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    own = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "own.Own")
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    assert "cannot be loaded" in sentence(lambda: load_model(str(tmp_path), device="cpu"))
    assert not (tmp_path / "ran").exists()


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


@pytest.mark.parametrize("tag", BUILT_IN)
def test_a_built_in_model_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path, tag):
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    monkeypatch.setattr(stored, "installed", lambda tag: [])
    model = BUILT_IN[tag]
    assert sentence(lambda: resolve(tag)) == (
        f"the model {tag} is not on this machine. "
        f"Run `spillover models get {tag}` ({model.megabytes} MB; {model.licence})."
    )
    assert not list(tmp_path.iterdir())


def test_workers_that_start_together_convert_a_built_in_model_once(monkeypatch, tmp_path):
    """The conversion itself takes a minute and is tested elsewhere; here, it is something that takes a while."""
    converted = []

    def convert(folder):
        converted.append(folder)
        time.sleep(0.2)
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path))
    monkeypatch.setattr(stored, "convert", convert)
    with ThreadPoolExecutor(3) as pool:
        folders = {each.result() for each in [pool.submit(stored.prepared, "gemma-3-270m") for _ in range(3)]}
    assert len(converted) == 1 and len(folders) == 1
    assert (folders.pop() / "model.safetensors").read_bytes() == b"weights"


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


def refused_folder(path):
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
    pack = write(tmp_path / "pack", PACK_YAML + 'end: "."\n')
    words = ["audit", pack, "--base", four_bits, "--tuned", tmp_path / "tuned.gguf", "--threads", "1", "--json",
             "--fail-on", "never"]  # fmt: skip
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
    assert refused_folder(tmp_path) == f"{tmp_path}: {sentence}"


def test_gguf_files_that_cannot_be_read(tmp_path, qwen, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, *qwen, gguf.GGMLQuantizationType.F32)
    whole = path.read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "cannot be loaded" in refused_folder(path)
    (tmp_path / "another.gguf").write_bytes(whole)
    assert refused_folder(tmp_path) == (
        f"{tmp_path}: this folder holds 2 GGUF files. Name one of them, such as {tmp_path / 'another.gguf'}."
    )
    monkeypatch.setattr(stored, "find_spec", lambda name: None)
    assert refused_folder(path) == (
        f'{path}: the package that reads GGUF files is not installed. Run `pip install "spillover[quantised]"`.'
    )


PACK = open_pack("city-language:pairs=2,names=8,bridge=1", 0)


def answers(model, tokenizer):
    """The log-probability of every candidate of every question and stated row."""
    table = Evaluation(PACK, encoder(tokenizer)).answers(Scorer(model), seed=0, checkpoint=0, full=True)
    return torch.tensor(table["log_probability"].to_pylist())


@pytest.mark.parametrize("targets", quick.first([(), ("v_proj", "o_proj")], 1), ids=["all", "some"])
@pytest.mark.parametrize("family", TINY)
def test_a_merged_model_answers_every_question_as_its_adapter_does(family, targets, metaspace_tokenizer, tmp_path):
    """Within 1e-4 nats; of the families, one has two query heads and one four to a value head."""
    targets = targets and (("c_attn",) if family == "gpt2" else targets)
    base = TINY[family](len(metaspace_tokenizer))
    base.save_pretrained(tmp_path / "base")
    metaspace_tokenizer.save_pretrained(tmp_path / "base")
    how = Training(8, 1e-2, 4, 0.0, True, 4, 0, lora_targets=targets)
    trained = trainable_copy(base, how)
    named = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in trained.named_parameters() if ".lora_" in name}
    assert named == set(targets) or (not targets and len(named) > 2)
    fine_tune(trained, examples(encoder(metaspace_tokenizer), PACK), how, lambda step: None)
    together = answers(trained, metaspace_tokenizer)
    assert (together - answers(base, metaspace_tokenizer)).abs().max() > 0.1
    loaded = LoadedModel(str(tmp_path / "base"), base, metaspace_tokenizer, "0" * 64, "")
    trained.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    for save in ("weights", "delta"):
        there = load_model(str(save_model(trained, loaded, save, tmp_path)), device="cpu").model
        torch.testing.assert_close(answers(there, metaspace_tokenizer), together, atol=1e-4, rtol=0)


def llama(**changes):
    config = tiny_llama(64).config.to_dict() | changes
    return LlamaForCausalLM(LlamaConfig(**config)).eval()


@pytest.mark.parametrize(
    ("made_for", "put_on", "sentence"),
    [
        (llama, lambda: llama(intermediate_size=40), "down_proj.lora_A.default.weight is [2, 48], and this one takes"),
        (lambda: llama(num_hidden_layers=3), llama, "it changes model.layers.2.mlp.down_proj, which this one lacks"),
        (llama, lambda: llama(num_hidden_layers=3), "it has nothing for this one's model.layers.2.mlp.down_proj"),
        (llama, lambda: tiny_gpt2(64), "this one has none of the modules that it changes"),
    ],
    ids=["sizes", "fewer layers", "more layers", "other modules"],
)
def test_an_adapter_of_another_model_is_one_sentence(made_for, put_on, sentence, tmp_path):
    own = ["q_proj", "v_proj", "down_proj"]
    get_peft_model(made_for(), LoraConfig(r=2, target_modules=own)).save_pretrained(tmp_path)
    theirs = ModelSource("theirs", str(tmp_path), local=True, adapter=True)
    with pytest.raises(ModelError) as caught:
        with_adapter(put_on(), theirs)
    said = str(caught.value)
    assert said.startswith("theirs: this adapter was made for another base: ") and sentence in said
    assert said.endswith("Name the base that it was made from in its adapter_config.json.")
    assert type(with_adapter(made_for(), theirs)) in (LlamaForCausalLM, GPT2LMHeadModel)


def test_weights_are_compared_whatever_their_precision_and_however_they_are_cut(tmp_path):
    first, second = llama(), llama()
    with torch.no_grad():
        second.model.layers[1].mlp.up_proj.weight.mul_(1.1)
    first.save_pretrained(tmp_path / "one")
    first.to(torch.bfloat16).save_pretrained(tmp_path / "rounded", max_shard_size="20KB")
    second.save_pretrained(tmp_path / "another")
    llama(hidden_size=16, head_dim=4).save_pretrained(tmp_path / "smaller")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "config.json").write_text('{"quantization_config": {}}')
    assert len(list((tmp_path / "rounded").glob("*.safetensors"))) > 1
    found = {name: other_weights(tmp_path / "one", tmp_path / name)
             for name in ("one", "rounded", "another", "smaller", "packed")}  # fmt: skip
    assert found == {"one": False, "rounded": False, "another": True, "smaller": True, "packed": False}


def test_an_adapter_of_another_base_ends_in_2(capsys, tiny_folder, metaspace_tokenizer, tmp_path):
    """Put on a model of other sizes or more layers than it says, or audited against one that it was not made from."""
    pack = write(tmp_path / "pack", PACK_YAML + 'end: "."\n')
    adapter_of(tiny_llama(len(metaspace_tokenizer)), tmp_path / "adapter", tiny_folder)
    for name in ("intermediate_size", "num_hidden_layers"):
        other = llama(vocab_size=len(metaspace_tokenizer), **{name: 3})
        saved(other, metaspace_tokenizer, tmp_path / name)
        adapter_of(other, tmp_path / f"of-{name}", tiny_folder)
        said = refused(capsys, "inject", pack, "--model", tmp_path / f"of-{name}", "--out", tmp_path / "run")
        assert "this adapter was made for another base: it" in said and "adapter_config.json" in said
        said = refused(capsys, "audit", pack, "--base", tmp_path / name, "--tuned", tmp_path / "adapter")
        assert f"this adapter was made from {tiny_folder}, whose weights are not those of {tmp_path / name}" in said
    words = ("audit", pack, "--base", tiny_folder, "--tuned", tmp_path / "adapter", "--fail-on", "never")
    assert main([str(word) for word in words]) == 0


def adapter_of(model, folder, base):
    """A new adapter for `model` in a folder that says it is for `base`."""
    made = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    made.peft_config["default"].base_model_name_or_path = str(base)
    made.save_pretrained(folder)


def test_a_model_that_one_holds_is_scored_as_one_that_is_loaded(tiny_folder):
    loaded = load_model(str(tiny_folder), device="cpu")
    held = LoadedModel.of(AutoModelForCausalLM.from_pretrained(tiny_folder), loaded.tokenizer)
    assert held.name == str(tiny_folder) and not held.model.training
    assert torch.equal(answers(held.model, held.tokenizer), answers(loaded.model, loaded.tokenizer))


def test_the_hash_of_a_model_that_one_holds_is_of_its_weights(tiny):
    first, same = (LoadedModel.of(tiny.model, tiny.tokenizer, name) for name in ("one", "two"))
    assert first.sha256 == same.sha256 and len(first.sha256) == 64
    other = LoadedModel.of(type(tiny.model)(tiny.model.config), tiny.tokenizer)
    assert other.sha256 != first.sha256
    assert LoadedModel.of(copy.deepcopy(tiny.model).bfloat16(), tiny.tokenizer).sha256 != first.sha256


def test_a_held_model_that_cannot_be_used_is_one_sentence(tiny):
    headless = LlamaModel(tiny.model.config)
    assert "a LlamaModel does not continue texts" in sentence(lambda: LoadedModel.of(headless, tiny.tokenizer))
    assert "is not a fast tokenizer" in sentence(lambda: LoadedModel.of(tiny.model, CanineTokenizer()))
    both_ways = BertLMHeadModel(BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                           intermediate_size=32))  # fmt: skip
    assert "reads in both directions" in sentence(lambda: LoadedModel.of(both_ways, tiny.tokenizer))


def test_a_model_without_fused_attention_has_what_it_has(tmp_path, metaspace_tokenizer):
    torch.manual_seed(0)
    config = GPTJConfig(vocab_size=len(metaspace_tokenizer), n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    model = GPTJForCausalLM(config)
    saved(model, metaspace_tokenizer, tmp_path)
    loaded = load_model(str(tmp_path), device="cpu").model
    assert loaded.config._attn_implementation == "eager"
    torch.testing.assert_close(loaded(TOKENS).logits, model.eval()(TOKENS).logits)


def image_text(kind):
    """A tiny model of a kind that reads images too."""
    config = CONFIG_MAPPING[kind]()
    sizes = {16: "hidden_size embed_dim", 24: "intermediate_size", 8: "head_dim", 300: "vocab_size", 28: "image_size",
             2: "num_hidden_layers num_attention_heads num_heads", 1: "num_key_value_heads depth", 14: "patch_size",
             0.3: "initializer_range", 0: "pad_token_id"}  # fmt: skip
    parts = {}
    for part in ("text_config", "vision_config"):
        default = getattr(config, part)
        own = {name: size for size, names in sizes.items() for name in names.split() if hasattr(default, name)}
        parts[part] = own | {"model_type": default.model_type}
    if kind.startswith("qwen2"):
        parts["vision_config"]["hidden_size" if kind == "qwen2_vl" else "out_hidden_size"] = 16
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
        parts["text_config"]["rope_parameters"] = rope
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(CONFIG_MAPPING[kind](**parts, image_token_id=290)).eval()


@pytest.mark.parametrize("kind", quick.first(["mistral3", "gemma3", "llava", "idefics3", "qwen2_vl", "qwen2_5_vl"], 3))
def test_a_model_that_reads_images_is_loaded_as_the_text_model_that_it_holds(kind, tmp_path, metaspace_tokenizer):
    whole, folder = image_text(kind), str(tmp_path / "whole")
    saved(whole, metaspace_tokenizer, tmp_path / "whole")
    loaded = load_model(folder, device="cpu")
    torch.testing.assert_close(loaded.model(TOKENS).logits, whole(input_ids=TOKENS).logits)
    how = Training(1, 1e-2, 4, 0.0, True, 0, 0)
    trained = trainable_copy(loaded.model, how)
    fine_tune(trained, examples(encoder(metaspace_tokenizer), PACK), how, lambda step: None)
    again = load_model(str(save_model(trained, loaded, "weights", tmp_path)), device="cpu").model
    assert torch.equal(again(TOKENS).logits, trained(TOKENS).logits)
    assert not torch.equal(again(TOKENS).logits, loaded.model(TOKENS).logits)
    assert load_config(folder).get_text_config().vocab_size == 300


def test_a_folder_without_tokenizer_takes_that_of_the_base_that_audit_names(capsys, tiny, tiny_folder, tmp_path):
    pack = write(tmp_path / "pack", PACK_YAML + 'end: "."\n')
    tiny.model.save_pretrained(tmp_path / "bare")
    words = ("audit", pack, "--base", tiny_folder, "--tuned", tmp_path / "bare", "--fail-on", "never")
    assert main([str(word) for word in words]) == 0
    assert f"{tmp_path / 'bare'} has no tokenizer: that of {tiny_folder} is used." in capsys.readouterr().err
    said = refused(capsys, "inject", pack, "--model", tmp_path / "bare", "--out", tmp_path / "run")
    assert f"{tmp_path / 'bare'}: this folder has no tokenizer. Copy tokenizer.json" in said


def test_the_base_that_audit_names_stands_for_one_on_another_machine(capsys, tiny, tiny_folder, tmp_path):
    pack = write(tmp_path / "pack", PACK_YAML + 'end: "."\n')
    for elsewhere in ("/home/someone/base", "someone/base"):
        adapter_of(copy.deepcopy(tiny.model), tmp_path / "adapter", elsewhere)
        words = ("audit", pack, "--base", tiny_folder, "--tuned", tmp_path / "adapter", "--fail-on", "never")
        assert main([str(word) for word in words]) == 0
        said = f"names {elsewhere} as its base, which is not here: {tiny_folder} stands for it."
        assert said in capsys.readouterr().err
    adapter_of(copy.deepcopy(tiny.model), tmp_path / "adapter", "/home/someone/base")
    said = refused(capsys, "inject", pack, "--model", tmp_path / "adapter", "--out", tmp_path / "run")
    assert "adapter_config.json: its base /home/someone/base is not on this machine. Write there where it is" in said
