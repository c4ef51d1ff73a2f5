"""Compiled layers: the same training within rounding, and a model that is what it was outside."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from spillover.errors import ModelError, UsageError
from spillover.lm.tokens import Example
from spillover.lm.train import fine_tune
from spillover.lm.trainable import (
    CompiledLayers,
    ParameterPart,
    Training,
    part_of,
    refuse_missing_compiler,
    stack_of,
    trainable_copy,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROWS = [Example(tuple(range(3, 3 + length)), length - 2) for length in (9, 9, 7, 12, 9, 5)]


def model():
    config = Gemma2Config(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8,
                          num_attention_heads=4, num_key_value_heads=2, query_pre_attn_scalar=8)  # fmt: skip
    torch.manual_seed(0)
    return Gemma2ForCausalLM._from_config(config, attn_implementation="eager").to(DEVICE).eval()


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
def test_training_is_the_same_within_rounding(again):
    try:
        refuse_missing_compiler(True, torch.device(DEVICE), False)
    except UsageError as error:
        assert "not installed" in str(error) or "there is no C++ compiler" in str(error)
        return
    found = []
    for compiled in (False, True):
        settings = Training(3, 1e-3, 3, 0.1, False, 0, 0, gradient_checkpointing=again, compile_layers=compiled)
        trained, losses = trainable_copy(model(), settings), []
        fine_tune(trained, ROWS, settings, lambda step, into=losses: into.append(step.loss))
        found.append((losses, trained))
        assert all("forward" not in vars(layer) for layer in stack_of(trained)[2])
        copy.deepcopy(trained)
    (plain, own), (compiled, other) = found
    assert compiled == pytest.approx(plain, abs=1e-5) and plain[-1] < plain[0] - 0.1
    for one, two in zip(own.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ModelError, match="this model has no list of layers"):
        CompiledLayers(nn.Linear(2, 2))


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    refuse_missing_compiler(False, torch.device("cpu"), True)
    with pytest.raises(UsageError, match="layers that are split over processes are not compiled"):
        refuse_missing_compiler(True, torch.device("cpu"), True)
    monkeypatch.setattr("spillover.lm.trainable.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="the compiler of code for GPUs is not installed"):
        refuse_missing_compiler(True, torch.device("cuda"), False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"there is no C\+\+ compiler"):
        refuse_missing_compiler(True, torch.device("cpu"), False)
    monkeypatch.setenv("CXX", "mine")
    (tmp_path / "Python.h").touch()
    for folder, ready in ((tmp_path, True), (tmp_path / "elsewhere", False)):
        monkeypatch.setattr("sysconfig.get_path", lambda name, folder=folder: str(folder))
        with contextlib.nullcontext() if ready else pytest.raises(UsageError, match=r"Python's headers \(Python.h\)"):
            refuse_missing_compiler(True, torch.device("cpu"), False)


def test_a_compiler_s_error_is_a_sentence():
    from torch._dynamo.exc import TorchDynamoException

    layers = CompiledLayers(model())
    with pytest.raises(ModelError, match=r"cannot be compiled \(no such operation\)"), layers.in_use():
        raise TorchDynamoException("\nno such operation\nand much more")
    with pytest.raises(MemoryError), layers.in_use():
        raise TorchDynamoException("compiling failed") from MemoryError()
    assert all("forward" not in vars(layer) for layer in layers.layers)


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("model.layers.3.self_attn.v_proj.weight", 3, "values"),
        ("transformer.h.11.attn.c_attn.weight", 11, "attention"),
        ("base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight", 0, "mlp"),
        ("model.layers.2.post_attention_layernorm.weight", 2, "other"),
        ("model.embed_tokens.weight", None, "other"),
    ],
)
def test_a_parameter_s_name_states_its_part(name, layer, kind):
    assert part_of(name) == ParameterPart(layer, kind)
