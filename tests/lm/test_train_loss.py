"""Logits computed some at a time give the loss and the gradients of all at once, and never stand together."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaForCausalLM,
)

from spillover.errors import ModelError
from spillover.lm.forecast import training_pass
from spillover.lm.tokens import Example
from spillover.lm.train import MicroBatches, answer_loss, fine_tune
from spillover.lm.trainable import Training, trainable_copy
from tests.tiny_models import TINY, tiny_llama

#: Seven answer tokens, two of which follow the same beginning.
ROWS = [Example((1, 5, 6, 7), 2), Example((1, 8, 9), 2), Example((1, 5, 6, 10, 11, 12), 3), Example((1, 13, 14), 2)]
SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
         "attn_implementation": "eager"}  # fmt: skip


def gemma2(_):
    """A soft cap on logits that they come near to."""
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=3.0)).eval()


def cohere(_):
    return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.3, eos_token_id=2)).eval()


def granite(_):
    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=5.0)).eval()


MODELS = {**TINY, "gemma2": gemma2, "cohere": cohere, "granite": granite}


def how(**changes):
    return Training(**({"epochs": 2, "learning_rate": 1e-3, "batch": 4, "weight_decay": 0.0, "freeze_embeddings": True,
                        "lora": 0, "seed": 0} | changes))  # fmt: skip


def loss_and_gradients(model, *options):
    model.zero_grad()
    loss = answer_loss(model, ROWS, *options)
    loss.backward()
    return loss.item(), torch.cat([each.grad.flatten() for each in model.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_and_every_gradient_are_those_of_all_logits_at_once(name):
    torch.manual_seed(0)
    model = MODELS[name](64).double()
    for merge in (False, True):
        expected, gradients = loss_and_gradients(model, merge)
        for at_once in (1, 3, 100):
            loss, found = loss_and_gradients(model, merge, at_once)
            assert loss == pytest.approx(expected, abs=1e-6)
            assert (found - gradients).norm() <= 1e-6 * gradients.norm()


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_logits_than_asked_for_stand_at_once(at_once):
    model, sizes = TINY["llama"](64), []
    model.lm_head.register_forward_hook(lambda module, given, logits: sizes.append(logits.numel() // 64))
    answer_loss(model, ROWS, False, at_once).backward()
    assert max(sizes) == at_once
    assert sum(sizes) == 1 + 1 + 2 * 7, "the first once more on its own, and all again on the way back"


@pytest.mark.parametrize("changes", [{}, {"freeze_embeddings": False}, {"lora": 2}], ids=["frozen", "all", "adapter"])
def test_a_training_ends_where_that_of_all_at_once_does(changes):
    """In double precision, in parts of two rows, with weights updated while other parts are still to be computed."""
    model, found = TINY["llama"](64).double(), []
    for at_once in (0, 2):
        settings, losses = how(**changes, logits_at_once=at_once), []
        trained = trainable_copy(model, settings)
        fine_tune(
            trained, ROWS, settings, lambda step, to=losses: to.append(step.loss), micro_batches=MicroBatches([(1, 2)])
        )
        found.append((losses, trained(torch.tensor([[1, 5, 6, 10, 11]])).logits))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-4)


def test_a_model_that_does_something_else_to_its_logits_is_refused():
    class Doubling(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            found = super().forward(*args, **kwargs)
            found.logits = 2 * found.logits
            return found

    model = Doubling(tiny_llama(64).config)
    answer_loss(model, ROWS)
    with pytest.raises(ModelError, match=r"in a way that is not known, .* Leave --logits-at-once out\."):
        answer_loss(model, ROWS, False, 2)


def test_fewer_logits_and_layers_computed_again_are_foretold_to_take_less():
    torch.manual_seed(0)
    with torch.device("meta"):
        wide = LlamaForCausalLM(tiny_llama(64).config.__class__(
            vocab_size=50_000, hidden_size=64, intermediate_size=512, num_hidden_layers=8, num_attention_heads=4,
        ))  # fmt: skip
    rows = [Example(tuple(range(number, number + 60)), 2) for number in range(1, 9)]
    plain, again = (trainable_copy(wide, how(gradient_checkpointing=each)) for each in (False, True))
    whole, fewer = training_pass(plain, rows, 8), training_pass(plain, rows, 8, 16)
    logits = 8 * 58 * 50_000 * 4
    assert logits < whole - fewer, "not even one copy of all logits stands"
    assert fewer > 2 * 16 * 50_000 * 4
    kept = fewer - training_pass(again, rows, 8, 16)
    assert kept > 6 * 8 * 60 * (2 * 512) * 4, "of most layers, not even what the MLP holds"
