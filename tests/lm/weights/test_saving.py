"""A delta holds what changed, and gives the tuned model back."""

import copy

import pytest
import torch

from spillover.errors import ModelError
from spillover.lm.load import LoadedModel
from spillover.lm.save import DELTA, save_model, take_weights
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
