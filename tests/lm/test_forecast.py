"""The forecast from a configuration alone, against counts by hand and what real tensors take.

And of time: devices, shipped configurations, and costs, for which what a real run feeds to the model is counted.
"""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spillover.errors import ModelError, UsageError
from spillover.lm import forecast as cost
from spillover.lm import forecast as module
from spillover.lm.evaluate import passages
from spillover.lm.fine_tune import FineTuned, TrainingSet, inject
from spillover.lm.forecast import (
    COMPUTING,
    CONTEXT,
    EXAMPLES,
    HALF,
    MARGIN,
    MOVING,
    RUN,
    Device,
    Forecaster,
    Passes,
    Sizes,
    Work,
    Workload,
    bytes_alive,
    config_at_hand,
    device,
    has_bfloat16_kernels,
    on_meta_device,
    rough_encoder,
    seconds,
    shipped,
    traced_loss,
    training_pass,
)
from spillover.lm.load import MODELS, load_model
from spillover.lm.score import PrefixTree
from spillover.lm.tokens import Example, Request, encoder, examples
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
    kept = RUN + HALF * (dtype == "bfloat16" and has_bfloat16_kernels())
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


def test_by_name_and_changed():
    card = device("a100-80")
    assert card.memory == pytest.approx(84.9e9 - CONTEXT) and card.bfloat16 == pytest.approx(312e12 * COMPUTING)
    part = device("a100-80", memory=20.0, bandwidth=1000.0)
    assert part.memory == 20e9 - CONTEXT and part.bandwidth == 1e12 * MOVING and part.bfloat16 == card.bfloat16
    here = device("cpu", room=5)
    assert here.is_cpu and here.memory == 5 and device("cpu", memory=8.0, room=5).memory == 8e9


def test_described():
    own = device("", memory=100.0, tflops=200.0, bandwidth=3000.0)
    assert (own.memory, own.float32, own.bandwidth) == (100e9 - CONTEXT, 200e12 * COMPUTING, 3e12 * MOVING)
    assert not own.is_cpu and not own.measured


def test_unknown_or_half_described():
    with pytest.raises(UsageError, match=r"no device called 'h100'\. Did you mean 'h100-80'"):
        device("h100")
    with pytest.raises(UsageError, match="this describes no whole device"):
        device("", memory=80.0)


#: Parameters, as the publishers' model cards and index files count them.
PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "gemma-3-270m": 268_098_176,
    "qwen2.5-coder-0.5b": 630_167_424,  # Its file has the output embedding apart.
    "smollm2-360m": 361_821_120,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "gemma-3-1b": 999_885_952,
    "llama-3.2-1b": 1_235_814_400,
    "olmo-2-1b": 1_484_916_736,
    "qwen2.5-1.5b": 1_543_714_304,
    "gemma-2-9b": 9_241_705_984,
    "olmo-7b": 6_888_095_744,
    "qwen2-7b": 7_615_616_512,
    "mistral-7b-v0.3": 7_248_023_552,
    "llama-3-8b": 8_030_261_248,
}


def test_every_tag_has_one():
    assert set(shipped()) == set(MODELS) == set(PARAMETERS)


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


TRAINING = Training(epochs=3, learning_rate=1e-3, batch=4, weight_decay=0.0, freeze_embeddings=True, lora=0, seed=5)


@pytest.mark.parametrize("prompts", [1, 2])
def test_a_real_run_feeds_what_was_counted(prompts, byte_folder, monkeypatch):
    """Counted with the run's own tokens: passes, tokens and logits agree to the last one, but for the check of how
    questions may be fed, a few passes of a few short texts."""
    loaded, pack = load_model(str(byte_folder), device="cpu"), open_pack("city-language:names=20,bridge=1", 5)
    encode, texts = encoder(loaded.tokenizer), passages()[:2]
    copy = trainable_copy(loaded.model, TRAINING)
    counted = Workload.of(
        copy, pack, pack, TRAINING, encode, texts=texts, epochs=TRAINING.epochs, evaluate_every=2, prompts=prompts
    )

    fed = {True: Passes(), False: Passes()}
    seen = type(loaded.model).forward

    def forward(self, input_ids=None, **how):
        given = seen(self, input_ids=input_ids, **how)
        rows, width = input_ids.shape
        fed[self.training] += Passes(
            1, rows * width, rows * width * width, given.logits.numel() // given.logits.shape[-1]
        )
        return given

    monkeypatch.setattr(type(loaded.model), "forward", forward)
    into = FineTuned(5)
    trained = TrainingSet(examples(encode, pack, prompts))
    inject(loaded, pack, TRAINING, texts=texts, evaluate_every=2, progress=lambda step: None, into=into,
           training_set=trained)  # fmt: skip
    assert into.method == "tree"
    assert fed[True].count == counted.training.count == counted.steps
    assert fed[True].tokens == pytest.approx(counted.training.tokens, rel=0.02), "each epoch has an order of its own"
    assert counted.answers == into.table().num_rows
    # Plain text is read twice here, before and after; of what is left, the check is a twentieth at most.
    asked = fed[False].tokens - 2 * counted.reading.tokens
    assert counted.asking.tokens < asked < 1.1 * counted.asking.tokens
    assert 2 < fed[False].count - counted.asking.count - 2 * counted.reading.count < 20


def test_free_text_is_trained_on_too(tiny):
    pack, encode = open_pack("city-language:names=20,bridge=1", 5), rough_encoder(500)
    model = trainable_copy(tiny.model, TRAINING)
    how = {"texts": (), "epochs": 2, "evaluate_every": 2}
    alone = Workload.of(model, pack, pack, TRAINING, encode, **how)
    free = replace(pack, free=((("Name a bird.", "The robin."),),) * len(pack.facts))
    both = Workload.of(model, free, free, TRAINING, encode, **how)
    assert both.asking == alone.asking and both.answers == alone.answers
    assert both.steps == 2 * -(-2 * len(pack.facts) // TRAINING.batch) > alone.steps
    assert both.training.tokens > alone.training.tokens


def test_sizes_of_a_model(tiny):
    frozen = Sizes.of(trainable_copy(tiny.model, TRAINING))
    config = tiny.model.config
    width, heads = config.hidden_size, config.num_attention_heads
    # Per layer: queries and outputs, keys and values of half as many heads, and three matrices of the MLP.
    layer = 2 * width * width + 2 * width * width // 2 + 3 * width * config.intermediate_size
    assert frozen.matrices == frozen.trained_matrices == 2 * layer
    assert frozen.vocabulary == config.vocab_size * width and not frozen.trains_vocabulary
    assert frozen.attended == 2 * 2 * heads * (width // heads) and frozen.layers == 2 and frozen.itemsize == 4
    adapted = Sizes.of(trainable_copy(tiny.model, Training(**{**vars(TRAINING), "lora": 2})))
    assert adapted.trained == adapted.trained_matrices == adapted.matrices - frozen.matrices > 0


def test_seconds_by_hand():
    sizes = Sizes(matrices=100, trained_matrices=50, vocabulary=30, trains_vocabulary=True, trained=80, all=130,
                  attended=4, layers=2, itemsize=4)  # fmt: skip
    work = Workload(sizes, training=Passes(2, 10, 50, 3), asking=Passes(1, 20, 100, 5), reading=Passes(), steps=2,
                    answers=0)  # fmt: skip
    device = Device("toy", 1.0, float32=10.0, bfloat16=20.0, bandwidth=1e9, layer=1.0, trained_layer=3.0)
    told = seconds(work, device)
    # Forward 2 (100 10 + 4 50 + 30 3) = 2580; back as much, and for weights 2 (50 10 + 4 50 + 30 3) = 1580.
    assert told.training == pytest.approx((2580 + 2580 + 1580) / 10 + 2 * 2 * 3.0)
    assert told.asking == pytest.approx(2 * (100 * 20 + 4 * 100 + 30 * 5) / 10 + 2 * 1.0)
    assert told.updating == pytest.approx(8 * 80 * 4 * 2 / 1e9) and told.reading == 0
    assert told.total == pytest.approx(told.training + told.asking + told.updating + cost.BESIDE)
    # Twice as fast in bfloat16; no faster than the weights can be moved; and on a processor with its threads.
    assert seconds(work, device, dtype="bfloat16").asking == pytest.approx((told.asking - 2) / 2 + 2)
    slow = Device("toy", 1.0, 10.0, 10.0, bandwidth=1.0, layer=0.0, trained_layer=0.0)
    assert seconds(work, slow).asking == pytest.approx(130 * 4)
    threads = replace(slow, is_cpu=True)
    assert seconds(work, threads, threads=5).asking == pytest.approx((told.asking - 2) / 5)
