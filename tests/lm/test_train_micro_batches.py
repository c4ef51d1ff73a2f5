"""A batch in parts learns what the whole batch would, and memory that runs out costs time, never a wrong update."""

import resource

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from spillover.lm import train as training
from spillover.lm.memory import Exhausted, out_of_memory
from spillover.lm.tokens import Example
from spillover.lm.train import MicroBatches, TornStep, answer_loss, cut, fine_tune, shares
from spillover.lm.trainable import Training, trainable_copy
from tests.forked import CONTEXT
from tests.tiny_models import TINY

ROWS = [Example((1, 5, 6, 7), 2), Example((1, 8, 9), 2), Example((1, 5, 6, 10, 11, 12), 3), Example((1, 13, 14), 1)]


def how(**changes):
    defaults = {"epochs": 3, "learning_rate": 1e-2, "batch": 4, "weight_decay": 0.1, "freeze_embeddings": True,
                "lora": 0, "seed": 0}  # fmt: skip
    return Training(**(defaults | changes))


def quiet(model):
    """Without dropout, whose masks would differ from part to part."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def trained(model, since=None, changed=lambda since: None, **changes):
    """Losses, weights and the optimizer state of a training, and how its micro-batch went."""
    copy, losses, kept = trainable_copy(model, how(**changes)), [], {}

    def after(step):
        losses.append(step.loss)
        kept.update({name: value.clone() for name, value in step.state().items()})

    parts = MicroBatches(since or [(1, 4)], changed)
    fine_tune(copy, ROWS, how(**changes), after, micro_batches=parts)
    return losses, kept, parts.since


def equal(first, second):
    return first[0] == second[0] and all(torch.equal(first[1][name], second[1][name]) for name in first[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", TINY)
@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(2, 9), st.integers(1, 8)), min_size=1, max_size=7), at_once=st.integers(1, 8)
)
def test_gradients_in_parts_are_those_of_the_whole_batch(name, dtype, lengths, at_once):
    """Norm of the difference at most 1e-6 of the gradient's in double precision, 1e-5 in single."""
    model = quiet(TINY[name](64)).to(dtype)
    rows = [Example(tuple((7 * number + place) % 60 + 1 for place in range(length)), min(start, length - 1))
            for number, (length, start) in enumerate(lengths)]  # fmt: skip
    found = []
    for parts in ([rows], cut(rows, at_once)):
        model.zero_grad()
        for part, share in zip(parts, shares(parts), strict=True):
            (answer_loss(model, part) * share).backward()
        found.append(torch.cat([each.grad.double().flatten() for each in model.parameters()]))
    assert (found[0] - found[1]).norm() <= {torch.float64: 1e-6, torch.float32: 1e-5}[dtype] * found[0].norm()


@pytest.mark.parametrize("changes", [{}, {"freeze_embeddings": False}, {"lora": 2}], ids=["frozen", "all", "adapter"])
@pytest.mark.parametrize("name", TINY)
def test_a_training_in_parts_ends_where_the_whole_batch_does(name, changes):
    model = quiet(TINY[name](64)).double()
    whole, single = trained(model, **changes), trained(model, [(1, 1)], **changes)
    assert single[0] == pytest.approx(whole[0], rel=1e-5)
    # The loss is computed in single precision; where a gradient is its rounding noise, AdamW makes whole steps of it.
    apart = [
        (whole[1][key] - value).abs().max() / value.abs().max() for key, value in single[1].items() if "exp" in key
    ]
    assert max(apart) < 1e-4


def memory_for(monkeypatch, rows, from_pass=1):
    """From this pass on, the processor's allocator has room for so many rows at once."""
    real, passes = training.answer_loss, []

    def loss(model, batch, *how):
        passes.append(len(batch))
        if len(passes) >= from_pass and len(batch) > rows:
            # As torch says it.
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")
        return real(model, batch, *how)

    monkeypatch.setattr(training, "answer_loss", loss)
    return passes


@pytest.mark.parametrize("rows", [2, 1])
def test_memory_that_runs_out_ends_as_if_the_parts_had_been_small_from_there(rows, monkeypatch):
    model, told = TINY["gpt2"](64), []  # with dropout
    passes = memory_for(monkeypatch, rows, from_pass=2)
    found = trained(model, changed=lambda since: told.append(list(since)))
    monkeypatch.undo()
    assert found[2] == [(1, 4), (2, rows)] and told[-1] == found[2]
    assert passes == ([4, 4, 2, 2, 2, 2] if rows == 2 else [4, 4, 2, *[1] * 8])
    assert equal(found, trained(model, [(1, 4), (2, rows)]))
    assert not equal(found, trained(model))


def failing_in_backward(monkeypatch, at_step):
    """Once, in this step, memory runs out when the gradient of the very first weights is asked for."""
    real, steps = training.training_step, []

    def step(model, *args, **kwargs):
        steps.append(1)
        if len(steps) != at_step:
            return real(model, *args, **kwargs)
        first = next(weight for weight in model.parameters() if weight.requires_grad)

        def full(gradient):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

        handle = first.register_hook(full)
        try:
            return real(model, *args, **kwargs)
        finally:
            handle.remove()

    monkeypatch.setattr(training, "training_step", step)


def test_no_weight_is_updated_twice_when_backward_fails(monkeypatch):
    """The step had updated the last layers, so it cannot be made again: whoever trains is told to take another copy."""
    model = TINY["llama"](64)
    copy, parts, before = trainable_copy(model, how()), MicroBatches([(1, 4)]), []
    failing_in_backward(monkeypatch, at_step=2)
    with pytest.raises(TornStep, match=r"memory ran out within step 2, .* Train again with --micro-batch 2\."):
        fine_tune(copy, ROWS, how(), lambda step: before.append(
            {name: value.clone() for name, value in copy.state_dict().items()}), micro_batches=parts)  # fmt: skip
    monkeypatch.undo()
    assert parts.since == [(1, 4), (2, 2)]
    moved = [name for name, value in copy.state_dict().items() if not torch.equal(value, before[-1][name])]
    assert moved and len(moved) < len(before[-1]), "some weights are a step ahead of others"
    assert all(weight.grad is None for weight in copy.parameters())


def test_a_failure_before_any_update_is_made_good_in_place(monkeypatch):
    """The first of several parts fails in its backward pass: gradients were summed, and no weight was updated."""
    model = TINY["llama"](64)
    failing_in_backward(monkeypatch, at_step=2)
    found = trained(model, [(1, 2)])
    monkeypatch.undo()
    assert found[2] == [(1, 2), (2, 1)]
    assert equal(found, trained(model, [(1, 2), (2, 1)]))


def test_one_row_too_many_is_a_sentence(monkeypatch):
    memory_for(monkeypatch, 0)
    with pytest.raises(Exhausted, match=r"memory ran out in step 1, with one row at a time\. Use --lora 8, --dtype"):
        trained(TINY["llama"](64))


def test_other_errors_pass(monkeypatch):
    monkeypatch.setattr(training, "answer_loss", lambda *args: [][1])
    with pytest.raises(IndexError):
        trained(TINY["llama"](64))
    assert out_of_memory(MemoryError()) and not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(ValueError("out of memory"))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system does not limit a process's memory")
@pytest.mark.slow
def test_a_real_limit_on_memory():
    """The logits of all rows do not fit into what `ulimit -v` leaves; the bits are those of small parts."""
    # In a process of its own: one that ran other tests has freed memory that no limit counts.
    process = CONTEXT.Process(target=within_a_limit)
    process.start()
    process.join()
    assert process.exitcode == 0


def within_a_limit():
    """What the test above asserts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = 30_000
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    rows = [Example(tuple(range(number + 1, number + 61)), 1) for number in range(16)]
    settings = how(epochs=1, batch=16)
    fine_tune(trainable_copy(model, settings), rows, settings, lambda step: None, micro_batches=MicroBatches([(1, 1)]))

    def run(since):
        copy, parts = trainable_copy(model, settings), MicroBatches(since)
        fine_tune(copy, rows, settings, lambda step: None, micro_batches=parts)
        return copy.state_dict(), parts.since

    logits = 16 * 59 * vocabulary * 4
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # Less room until 16 rows do not fit.
    for room in (2.0, 1.0, 0.7, 0.5, 0.3):
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + int(room * logits), hard))
        try:
            limited, since = run([(1, 16)])
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        if since[0][1] < 16:
            break
    assert len(since) == 1 and since[0][0] == 1 and since[0][1] < 16
    unlimited, _ = run(since)
    assert all(torch.equal(value, unlimited[name]) for name, value in limited.items())


def test_a_change_replaces_what_it_makes_needless(monkeypatch):
    parts = MicroBatches([(1, 32), (9, 16), (20, 2)])
    assert [parts.at(step) for step in (1, 8, 9, 19, 20, 99)] == [32, 32, 16, 16, 2, 2]
    parts.halve(5, 8)  # The batch of step 5 was cut short and had eight rows.
    assert parts.since == [(1, 32), (5, 4), (20, 2)]
