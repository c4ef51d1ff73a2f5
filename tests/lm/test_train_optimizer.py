"""AdamW with its state in 8 bits: what it keeps, that it is restored bit for bit, and that it learns as plain AdamW."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spillover.errors import UsageError
from spillover.lm.forecast import Forecaster, Work
from spillover.lm.tokens import Example, Request
from spillover.lm.train import (
    ADAMW,
    EIGHT_BIT,
    NORMALISED,
    MicroBatches,
    answer_loss,
    fine_tune,
    optimizer_bytes,
    optimizers,
    refuse_missing_optimizer,
    state_of,
)
from spillover.lm.trainable import Training, trainable_copy
from spillover.record import State

ROWS = [Example((1, 5, 6, 7), 2), Example((1, 8, 9), 2), Example((1, 5, 6, 10, 11, 12), 3), Example((1, 13, 14), 1)]


def wide():
    """With weights of more than 4,096 numbers, below which sums keep their precision."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=80, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         initializer_range=0.2)  # fmt: skip
    return LlamaForCausalLM(config).eval()


def how(**changes):
    return Training(**({"epochs": 3, "learning_rate": 3e-3, "batch": 2, "weight_decay": 0.1, "freeze_embeddings": True,
                        "lora": 0, "seed": 0, "optimizer": EIGHT_BIT} | changes))  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_and_what_it_takes(dtype):
    model = wide().to(dtype)
    made = optimizers(model.named_parameters(), EIGHT_BIT, 1e-3, lambda name: 0.0)
    up, norm = model.model.layers[0].mlp.up_proj.weight, model.model.norm.weight
    large, small = state_of(made[up], up), state_of(made[norm], norm)
    assert {key: (value.dtype, value.numel()) for key, value in large.items()} == {
        "step": (torch.int64, 1), "state1": (torch.uint8, 6144), "state2": (torch.uint8, 6144),
        "absmax1": (torch.float32, 24), "absmax2": (torch.float32, 24),
    }  # fmt: skip
    assert {key: value.dtype for key, value in small.items() if key != "step"} == {
        "state1": torch.float32, "state2": torch.float32}  # fmt: skip
    for kind in (EIGHT_BIT, ADAMW, NORMALISED):
        made = optimizers(model.named_parameters(), kind, 1e-3, lambda name: 0.0)
        kept = [value for each in made for key, value in made[each].state[each].items() if key != "step"]
        assert optimizer_bytes(made, kind) == sum(value.nbytes for value in kept)


def test_settings_that_another_optimizer_left_in_the_process_are_not_taken():
    from bitsandbytes.optim import GlobalOptimManager

    manager = GlobalOptimManager.get_instance()
    manager.index2config[0, 0] = {"optim_bits": 32}
    try:
        test_what_is_kept_and_what_it_takes(torch.float32)
    finally:
        del manager.index2config[0, 0]


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, torch.float32),
        ({"freeze_embeddings": False, "gradient_checkpointing": True}, torch.bfloat16),
        ({"lora": 80}, torch.float32),
    ],
)
def test_going_on_from_any_step_gives_the_same_bits(changes, dtype):
    settings, kept, losses = how(**changes, logits_at_once=2), {}, []

    def keep(step):
        losses.append(step.loss)
        kept[step.number] = {name: value.clone() for name, value in step.state().items()}

    model = wide().to(dtype)
    whole = trainable_copy(model, settings)
    fine_tune(whole, ROWS, settings, keep, micro_batches=MicroBatches([(1, 1)]))
    assert any(value.dtype == torch.uint8 for value in kept[1].values())
    for number, state in kept.items():
        again, rest = trainable_copy(model, settings), []
        fine_tune(again, ROWS, settings, lambda step, to=rest: to.append(step.loss), resume=State(number, state),
                  micro_batches=MicroBatches([(1, 1)]))  # fmt: skip
        assert rest == losses[number:]
        there = again.state_dict()
        assert all(torch.equal(value, there[name]) for name, value in whole.state_dict().items())


def test_it_learns_as_the_plain_one_does():
    """Within 15% of the way that the loss fell, at a rate at which it falls by nine tenths."""
    model, ends = wide(), {}
    start = answer_loss(model, ROWS).item()
    for kind in (ADAMW, EIGHT_BIT):
        settings = how(epochs=12, optimizer=kind, weight_decay=0.0)
        trained = trainable_copy(model, settings)
        fine_tune(trained, ROWS, settings, lambda step: None)
        ends[kind] = answer_loss(trained, ROWS).item()
    assert ends[ADAMW] < start / 10
    assert abs(ends[EIGHT_BIT] - ends[ADAMW]) < 0.15 * (start - ends[ADAMW])
    assert ends[EIGHT_BIT] != ends[ADAMW]


def test_the_forecast_counts_it():
    work = Work(ROWS, [Request((1, 2), ((7,), (8,)))])
    plain, packed = (Forecaster(wide().config, how(optimizer=kind), work).at(2) for kind in (ADAMW, EIGHT_BIT))
    assert plain.optimizer_state == 2 * plain.trained
    assert plain.optimizer_state / 4 < packed.optimizer_state < plain.optimizer_state / 1.5, (
        "most weights are large enough"
    )
    assert packed.step >= 20 * 6144, "an update unpacks the largest weight's sums"
    assert Forecaster(wide().config, how(), work, device="cuda").at(2).step < packed.step


def test_without_the_package_it_is_one_sentence(monkeypatch):
    refuse_missing_optimizer(EIGHT_BIT)
    monkeypatch.setattr("spillover.lm.train.find_spec", lambda name: None)
    refuse_missing_optimizer(ADAMW)
    with pytest.raises(UsageError) as caught:
        refuse_missing_optimizer(EIGHT_BIT)
    assert str(caught.value) == (
        "--optimiser adamw-8bit: the package that keeps an optimizer's state in 8 bits is not installed. "
        'Run `pip install "spillover[eight-bit]"`.'
    )
