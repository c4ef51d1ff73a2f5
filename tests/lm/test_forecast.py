"""The forecast from a configuration alone, against counts by hand and what real tensors take."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spillover.lm import forecast as module
from spillover.lm.forecast import (
    EXAMPLES,
    HALF,
    MARGIN,
    RUN,
    Forecaster,
    Work,
    bytes_alive,
    rough_encoder,
    traced_loss,
    training_pass,
)
from spillover.lm.score import PrefixTree
from spillover.lm.tokens import Example, Request, encoder
from spillover.lm.train import answer_loss
from spillover.lm.trainable import Training, count_parameters, trainable_copy
from spillover.packs.open import open_pack
from spillover.record import Record
from tests import quick
from tests.tiny_models import TINY

ROWS = [Example(tuple(range(1 + number, 13 + number)), 9) for number in range(8)]
WORK = Work(ROWS, [Request(tuple(range(1 + number, 7 + number)), ((7, 8), (9,))) for number in range(5)])
WAYS = {"frozen": {}, "all": {"freeze_embeddings": False}, "adapter": {"lora": 2}}


def how(**changes):
    return Training(**({"epochs": 1, "learning_rate": 1e-3, "batch": 8, "weight_decay": 0.0, "freeze_embeddings": True,
                        "lora": 0, "seed": 0} | changes))  # fmt: skip


@pytest.mark.parametrize("dtype", quick.first(["float32", "bfloat16"], 1))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TINY)
def test_the_parts_are_those_of_the_real_model(name, way, dtype):
    model = TINY[name](64).to(getattr(torch, dtype))
    copy = trainable_copy(model, how(**WAYS[way]))
    model.config.dtype = torch.float32  # As it is stored.
    forecaster = Forecaster(model.config, how(**WAYS[way]), WORK, dtype=dtype)
    forecaster.process = 10**6
    estimate = forecaster.at(8)
    assert estimate.traced
    assert estimate.weights == sum(each.nbytes for each in model.parameters())
    assert estimate.trained == sum(each.nbytes for each in copy.parameters() if each.requires_grad)
    assert count_parameters(copy)[1] * (4 if dtype == "float32" else 2) <= estimate.trained
    assert estimate.optimizer_state == 2 * estimate.trained
    assert estimate.gradients == 0
    assert estimate.stored == (0 if dtype == "float32" else 2 * estimate.weights)
    kept = RUN + HALF * (dtype == "bfloat16")
    assert estimate.needed == 10**6 + kept + estimate.weights + estimate.trained + max(
        estimate.optimizer_state + max(estimate.step, estimate.ranking), estimate.reading)  # fmt: skip
    assert estimate.peak == max(estimate.needed, 10**6 + kept + estimate.weights + estimate.stored)


@pytest.mark.parametrize("way", WAYS)
def test_parts_of_a_batch_take_less_at_once_and_keep_their_gradients(way):
    forecaster = Forecaster(TINY["llama"](64).config, how(**WAYS[way]), WORK)
    found = [forecaster.at(rows) for rows in (8, 4, 1)]
    assert found[0].step > found[1].step > found[2].step
    assert [each.gradients for each in found] == [0, found[0].trained, found[0].trained]
    assert forecaster.fitting(10**12) == found[0]
    assert forecaster.fitting(int(found[2].needed * MARGIN) + 1).needed <= found[2].needed
    least = min(found, key=lambda each: each.needed)
    assert forecaster.fitting(0).needed <= least.needed


@pytest.mark.parametrize("name", TINY)
def test_a_step_holds_at_least_what_autograd_keeps(name):
    """On real tensors, counted by autograd's own hook, and at most half as much again for what is on the way."""
    model = TINY[name](64)
    copy = trainable_copy(model, how()).train()
    weights = {each.untyped_storage().data_ptr() for each in copy.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer_loss(copy, ROWS)
    saved = sum(size for size, _ in kept.values())
    estimate = Forecaster(model.config, how(), WORK).at(8).step
    assert saved <= estimate <= 2 * saved


def test_two_layers_tell_of_many():
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=7,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)  # fmt: skip
    forecaster = Forecaster(config, how(), WORK)
    copy, trees = forecaster.copy, [PrefixTree([row]) for row in ROWS]
    handles = [each.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
               for each in copy.parameters() if each.requires_grad]  # fmt: skip
    whole = bytes_alive(copy, lambda: traced_loss(copy, trees).backward())
    for handle in handles:
        handle.remove()
    assert training_pass(copy, ROWS, 8) == pytest.approx(whole, rel=0.03)
    assert len(copy.model.layers) == 7, "the layers are back"


@pytest.mark.slow
def test_nothing_is_computed_and_no_random_number_drawn():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    big = LlamaConfig(vocab_size=200_000, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80)  # 70B
    estimate = Forecaster(big, how(lora=8), WORK, dtype="bfloat16", device="cuda").at(8)
    assert estimate.weights > 130e9 and estimate.process == estimate.stored == 0
    assert torch.equal(torch.rand(2), expected)


def test_a_model_that_must_see_numbers_is_guessed(monkeypatch):
    def looks(*args):
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    traced = Forecaster(TINY["llama"](64).config, how(), WORK).at(8)
    monkeypatch.setattr(module, "training_pass", looks)
    guessed = Forecaster(TINY["llama"](64).config, how(), WORK).at(8)
    assert traced.traced and not guessed.traced
    assert traced.step / 4 <= guessed.step <= traced.step * 4


def test_a_pack_gives_its_rows_and_prompts_with_and_without_a_tokenizer(metaspace_tokenizer):
    pack = open_pack("city-language:pairs=2,names=8,bridge=1", 0)
    for encode in (encoder(metaspace_tokenizer), rough_encoder(262_144)):
        work = Work.of(pack, encode)
        assert len(work.examples) == len(pack.facts) == 10
        assert len(work.requests) == 8 + 2 + 6 * len(pack.relations[1].prompts)
    tokens = [len(row.tokens) for row in Work.of(pack, rough_encoder(262_144)).examples]
    assert 5 <= min(tokens) <= max(tokens) <= 9, "Gemma's own tokenizer makes five to eight of them"


def test_free_text_counts_and_of_much_of_it_the_longest():
    pack = open_pack("city-language:pairs=2,names=8,bridge=1", 0)
    short, long = (("", "One two."),), (("Name a bird.", " ".join(["robin"] * 90)), ("", "One two three."))
    encode = rough_encoder(1000)
    # A mark that opens the text, and a token a word: of the long row 1 + 3 + 90 for one turn and 1 + 3 for the other.
    lengths = [len(each.tokens) for each in Work.of(replace(pack, free=(short, long)), encode).examples[10:]]
    assert lengths == [94, 4, 3]
    many = Work.of(replace(pack, free=(short,) * (EXAMPLES + 1) + (long,)), encode)
    assert len(many.examples) == 10 + EXAMPLES and max(len(each.tokens) for each in many.examples) == 94
    config = LlamaConfig(vocab_size=1000, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    with_free, without = (Forecaster(config, how(), each).at(8).step for each in (many, Work.of(pack, encode)))
    assert with_free > 2 * without


CHILD = """
import sys
from spillover.commands import inject
from spillover.commands.inject import Inject
inject.run(Inject(pack="city-language:names=10,bridge=1", model=sys.argv[1], out=sys.argv[2], epochs=1, threads=1, {}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "",
        "freeze_embeddings=False",
        "lora=8",
        "micro_batch=2",
        "dtype='bfloat16'",
        "gradient_checkpointing=True, logits_at_once=4, optimiser='adamw-8bit'",
        "optimiser='normalised-gradient-descent'",
    ],
)
def test_a_run_holds_what_was_estimate_within_a_fifth(options, byte_folder, tmp_path):
    """In a process of its own; a model of 34 million weights. Without an adapter, of what the model takes alone.

    With one, so small a model takes some 120 MB that are not estimate, which its weights in Gemma-3-270M outweigh.
    """
    vocabulary = LlamaConfig.from_pretrained(byte_folder).vocab_size
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=512, intermediate_size=2048, num_hidden_layers=8,
                         num_attention_heads=8, max_position_embeddings=128)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((byte_folder / name).read_bytes())
    command = [sys.executable, "-c", CHILD.format(options), str(tmp_path / "model"), str(tmp_path / "run")]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    memory = Record.read(tmp_path / "run").details.memory
    process = 0 if "lora" in options else memory.forecast["process"]
    ratio = (memory.forecast["peak"] - process) / (memory.peak - process)
    assert 1 / MARGIN <= ratio <= MARGIN, (ratio, memory)
