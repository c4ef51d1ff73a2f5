"""Training touches a copy, learns from answer tokens alone, and is not moved by measuring."""

import copy

import pytest
import torch

from spillover.lm.save import merged
from spillover.lm.tokens import Example
from spillover.lm.train import NORMALISED, MicroBatches, answer_loss, fine_tune, may_merge
from spillover.lm.trainable import Training, count_parameters, trainable_copy
from spillover.record import State
from tests import quick
from tests.tiny_models import TINY

ROWS = [Example((1, 5, 6, 7), 2), Example((1, 8, 9), 2), Example((1, 5, 6, 10, 11, 12), 3), Example((1, 13, 14), 1)]


def settings(**changes):
    defaults = {"epochs": 3, "learning_rate": 1e-2, "batch": 2, "weight_decay": 0.0, "freeze_embeddings": True,
                "lora": 0, "seed": 0}  # fmt: skip
    return Training(**(defaults | changes))


@pytest.fixture(params=TINY)
def model(request):
    return TINY[request.param](64)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_the_mean_over_answer_tokens_of_texts_one_by_one(model):
    losses = []
    for row in ROWS:
        logits = model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        losses += [-logits[place - 1, row.tokens[place]] for place in range(row.start, len(row.tokens))]
    for merge in (False, True):
        loss = answer_loss(model, ROWS, merge)
        torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_merged_rows_train_to_the_same_model(model):
    if not may_merge(model, ROWS, "tree"):
        assert any(module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
        return
    apart, together = (trainable_copy(model, settings(batch=4)) for _ in range(2))
    losses = {None: [], "tree": []}
    for trained, method in ((apart, None), (together, "tree")):
        fine_tune(trained, ROWS, settings(batch=4), lambda step, to=losses[method]: to.append(step.loss), method)
    assert losses[None][:1] == pytest.approx(losses["tree"][:1], abs=1e-5)
    tokens = torch.tensor([[1, 5, 6, 10, 11]])
    torch.testing.assert_close(apart(tokens).logits, together(tokens).logits, atol=1e-3, rtol=1e-3)


def test_rows_are_merged_only_where_it_is_the_same():
    llama, window = TINY["llama"](64), TINY["gemma3"](64)  # a window of 40
    assert may_merge(llama, ROWS, "tree")
    assert not may_merge(llama, ROWS, "plain")
    assert not may_merge(llama, ROWS, None)
    assert may_merge(window, ROWS, "tree")
    assert not may_merge(window, [Example(tuple(range(2, 50)), 2)], "tree")
    assert not may_merge(TINY["gpt2"](64), ROWS, "tree"), "its dropout draws a mask a token"


def test_training_stops_when_told_that_it_is_enough(model):
    steps = []
    trained = trainable_copy(model, settings())
    fine_tune(trained, ROWS, settings(), lambda step: steps.append(step.number) or step.number == 3)
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("changes", [{}, {"freeze_embeddings": False, "weight_decay": 0.1}, {"lora": 2}])
@pytest.mark.parametrize("dtype", quick.first([torch.float32, torch.bfloat16], 1))
def test_going_on_from_any_step_gives_the_same_bits(model, changes, dtype):
    """With dropout, tied embeddings and an adapter, in a copy that knows nothing but the state."""
    how, kept, losses = settings(**changes), {}, []

    def keep(step):
        losses.append(step.loss)
        kept[step.number] = {name: value.clone() for name, value in step.state().items()}

    model.to(dtype)
    whole = trainable_copy(model, how)
    fine_tune(whole, ROWS, how, keep)
    trained = {name for name, parameter in whole.named_parameters() if parameter.requires_grad}
    assert {name.removeprefix("weight ") for name in kept[1] if name.startswith("weight ")} == trained
    for number, state in kept.items():
        again, rest = trainable_copy(model, how), []
        fine_tune(again, ROWS, how, lambda step, to=rest: to.append(step.loss), resume=State(number, state))
        assert rest == losses[number:]
        assert same(weights(whole), weights(again))


@pytest.mark.parametrize("freeze", [True, False])
def test_the_original_stays_as_it_is_and_only_the_rest_is_trained(model, freeze):
    before = weights(model)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    trained = trainable_copy(model, settings(freeze_embeddings=freeze))
    fine_tune(trained, ROWS, settings(freeze_embeddings=freeze), lambda step: None)
    assert same(before, weights(model))
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    embedding = trained.get_input_embeddings().weight
    assert torch.equal(embedding, before_embedding(before, model)) == freeze
    assert (embedding.data_ptr() == model.get_input_embeddings().weight.data_ptr()) == freeze
    everything, part = count_parameters(trained)
    assert (part < everything) == freeze
    assert not same(before, weights(trained))


def before_embedding(before, model):
    name = next(name for name, value in model.named_parameters() if value is model.get_input_embeddings().weight)
    return before[name]


def test_training_lowers_the_loss(model):
    trained = trainable_copy(model, settings(epochs=20))
    start = answer_loss(trained, ROWS).item()
    fine_tune(trained, ROWS, settings(epochs=20), lambda step: None)
    assert answer_loss(trained, ROWS).item() < start / 4


def test_updating_during_backward_gives_the_numbers_of_an_ordinary_loop(model):
    for module in model.modules():  # dropout draws from another stream in the plain loop
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ours, plain = (trainable_copy(model, settings(batch=4, weight_decay=0.1)) for _ in range(2))
    fine_tune(ours, ROWS, settings(batch=4, weight_decay=0.1), lambda step: None)
    torch.manual_seed(0)
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        answer_loss(plain, ROWS).backward()
        optimiser.step()
        optimiser.zero_grad()
    # Not weight by weight: where the gradient is rounding noise (a key's bias), Adam makes whole steps of the noise.
    tokens = torch.tensor([[1, 5, 6, 10, 11]])
    torch.testing.assert_close(ours(tokens).logits, plain(tokens).logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("at_once", [4, 1])
def test_a_normalised_step_has_the_length_of_its_rate_and_goes_down_the_gradient(model, at_once):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    how = settings(batch=4, epochs=1, learning_rate=0.05, optimizer=NORMALISED)
    ours, plain = (trainable_copy(model, how) for _ in range(2))
    fine_tune(ours, ROWS, how, lambda step: None, micro_batches=MicroBatches([(1, at_once)]))
    answer_loss(plain, ROWS).backward()
    gradients = {name: weight.grad for name, weight in plain.named_parameters() if weight.grad is not None}
    norm = sum(float(gradient.square().sum()) for gradient in gradients.values()) ** 0.5
    moved = weights(ours)
    for name, gradient in gradients.items():
        expected = weights(plain)[name] - 0.05 * gradient / norm
        torch.testing.assert_close(moved[name], expected, atol=1e-5, rtol=1e-4)
    length = sum(float((moved[name] - value).square().sum()) for name, value in weights(plain).items()) ** 0.5
    assert length == pytest.approx(0.05, rel=1e-3)


def test_tied_embeddings_train_as_with_a_dense_gradient(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole = settings(batch=4, freeze_embeddings=False)
    ours, dense = (trainable_copy(model, whole) for _ in range(2))
    inputs, outputs = ours.get_input_embeddings(), ours.get_output_embeddings()
    assert inputs.sparse == (inputs.weight is outputs.weight)
    assert not trainable_copy(model, settings()).get_input_embeddings().sparse
    dense.get_input_embeddings().sparse = False
    for trained in (ours, dense):
        fine_tune(trained, ROWS, whole, lambda step: None)
    assert not torch.equal(inputs.weight, model.get_input_embeddings().weight)
    # Not weight by weight: where the gradient is rounding noise, Adam makes whole steps of the noise.
    tokens = torch.tensor([[1, 5, 6, 10, 11]])
    torch.testing.assert_close(ours(tokens).logits, dense(tokens).logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("changes", [{}, {"freeze_embeddings": False}, {"lora": 2}])
@pytest.mark.parametrize("at_once", quick.first([2, 1], 1))
def test_layers_computed_again_in_the_backward_pass_give_the_same_bits(model, changes, at_once):
    """With dropout, whose masks are drawn again, and weights that change while others are still to be computed."""
    found = []
    for again in (False, True):
        how, losses, calls = settings(**changes, gradient_checkpointing=again), [], []
        trained = trainable_copy(model, how)
        layer = next(each for each in trained.modules() if type(each).__name__.endswith("MLP"))
        layer.register_forward_pre_hook(lambda *_, to=calls: to.append(1))
        parts = MicroBatches([(1, at_once)])
        fine_tune(trained, ROWS, how, lambda step, to=losses: to.append(step.loss), micro_batches=parts)
        found.append((losses, weights(trained), len(calls)))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])
    assert found[1][2] == 2 * found[0][2]


def test_no_gradient_and_no_hook_is_left_behind(model):
    trained = trainable_copy(model, settings())
    fine_tune(trained, ROWS, settings(), lambda step: None)
    assert all(parameter.grad is None for parameter in trained.parameters())
    before = weights(trained)
    answer_loss(trained, ROWS).backward()
    assert same(before, weights(trained))


def test_measuring_changes_nothing_even_with_dropout():
    model = TINY["gpt2"](64)  # has dropout of 0.1
    silent, watched = (trainable_copy(model, settings()) for _ in range(2))
    fine_tune(silent, ROWS, settings(), lambda step: None)

    def measure(step):
        torch.rand(7)
        watched(input_ids=torch.tensor([[1, 2, 3]]))

    fine_tune(watched, ROWS, settings(), measure)
    assert same(weights(silent), weights(watched))
    other = trainable_copy(model, settings(seed=1))
    fine_tune(other, ROWS, settings(seed=1), lambda step: None)
    assert not same(weights(silent), weights(other))


def test_training_does_not_move_the_callers_random_stream(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fine_tune(trainable_copy(model, settings()), ROWS, settings(), lambda step: None)
    assert torch.equal(torch.rand(3), expected)


def test_every_row_is_seen_once_an_epoch_in_a_new_order(monkeypatch):
    seen = []
    model = trainable_copy(TINY["llama"](64), settings(epochs=4, batch=3))
    monkeypatch.setattr("spillover.lm.train.training_step", lambda model, batch, **how: seen.append(batch) or 0.0)
    steps = []
    fine_tune(model, ROWS, settings(epochs=4, batch=3), lambda step: steps.append(step))
    assert [len(batch) for batch in seen] == [3, 1] * 4
    epochs = [seen[i] + seen[i + 1] for i in range(0, 8, 2)]
    assert all(sorted(epoch, key=ROWS.index) == ROWS for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert [(step.epoch, step.last_of_epoch) for step in steps[:3]] == [(1, False), (1, True), (2, False)]


def test_an_adapter_trains_only_itself():
    model = TINY["llama"](64)
    before = weights(model)
    trained = trainable_copy(model, settings(lora=2))
    everything, part = count_parameters(trained)
    fine_tune(trained, ROWS, settings(lora=2), lambda step: None)
    assert 0 < part < everything / 2
    assert same(before, weights(model))
    whole = merged(trained)
    assert same(before, weights(model)), "merging must not write into the model that the adapter was made from"
    tokens = torch.tensor([[1, 5, 6]])
    torch.testing.assert_close(whole(tokens).logits, trained(tokens).logits, atol=1e-4, rtol=0)
    assert not torch.allclose(whole(tokens).logits, model(tokens).logits, atol=1e-2)


def test_a_frozen_copy_shares_no_trained_weight_with_the_original(model):
    trained = trainable_copy(model, settings())
    original = {value.data_ptr() for value in model.parameters()}
    assert all(value.data_ptr() not in original for value in trained.parameters() if value.requires_grad)
    assert copy.deepcopy(trained) is not None
