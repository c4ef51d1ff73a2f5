"""An adapter folded into its base answers as the two do together; what was made for another base is refused."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from spillover.cli import main
from spillover.errors import ModelError
from spillover.lm.evaluate import Evaluation
from spillover.lm.load import LoadedModel, load_model, merge_adapter, other_weights
from spillover.lm.save import save_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder, examples
from spillover.lm.train import Training, fine_tune
from spillover.lm.trainable import trainable_copy
from spillover.packs.open import open_pack
from tests.packs.packs_on_disk import PACK as PACK_YAML
from tests.packs.packs_on_disk import write
from tests.test_mistakes import refused, saved
from tests.tiny_models import TINY, tiny_gpt2, tiny_llama

PACK = open_pack("city-language:pairs=2,names=8,bridge=1", 0)


def answers(model, tokenizer):
    """The log-probability of every candidate of every question and stated row."""
    table = Evaluation(PACK, encoder(tokenizer)).answers(Scorer(model), seed=0, checkpoint=0, full=True)
    return torch.tensor(table["log_probability"].to_pylist())


@pytest.mark.parametrize("targets", [(), ("v_proj", "o_proj")], ids=["all", "some"])
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
    with pytest.raises(ModelError) as caught:
        merge_adapter(put_on(), tmp_path, "theirs")
    said = str(caught.value)
    assert said.startswith("theirs: this adapter was made for another base: ") and sentence in said
    assert said.endswith("Name the base that it was made from in its adapter_config.json.")
    assert type(merge_adapter(made_for(), tmp_path, "theirs")) in (LlamaForCausalLM, GPT2LMHeadModel)


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
