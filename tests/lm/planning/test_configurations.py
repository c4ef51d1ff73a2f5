"""What is shipped of a model's configuration makes the model that its publisher counts."""

import pytest
import torch

from spillover import catalog
from spillover.errors import ModelError
from spillover.lm.memory import on_meta_device
from spillover.lm.plan import config_at_hand, shipped

#: Parameters, as the publishers' model cards and index files count them.
PARAMETERS = {
    "gemma-3-270m": 268_098_176,
    "gemma-2-9b": 9_241_705_984,
    "olmo-7b": 6_888_095_744,
    "qwen2-7b": 7_615_616_512,
    "mistral-7b-v0.3": 7_248_023_552,
    "llama-3-8b": 8_030_261_248,
}


def test_every_tag_has_one():
    assert set(shipped()) == set(catalog.MODELS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_parameters_are_those_of_the_model(name):
    model = on_meta_device(config_at_hand(name), torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_a_folder_says_it_itself(tiny_folder):
    assert config_at_hand(str(tiny_folder)).num_hidden_layers == 2


def test_what_is_not_at_hand_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="configuration of this model is not on this machine") as caught:
        config_at_hand("nobody/no-such-model")
    assert "hf download nobody/no-such-model config.json" in str(caught.value)
    with pytest.raises(ModelError, match="Did you mean 'gemma-2-9b'"):
        config_at_hand("gemma-2-9")
