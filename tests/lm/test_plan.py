"""Devices, shipped configurations, and costs: what is counted is what a real run feeds to the model."""

from dataclasses import replace

import pytest
import torch

from spillover.errors import ModelError, UsageError
from spillover.lm import forecast as cost
from spillover.lm.evaluate import passages
from spillover.lm.fine_tune import FineTuned, TrainingSet, inject
from spillover.lm.forecast import (
    COMPUTING,
    CONTEXT,
    MOVING,
    Device,
    Passes,
    Sizes,
    Workload,
    config_at_hand,
    device,
    on_meta_device,
    rough_encoder,
    seconds,
    shipped,
)
from spillover.lm.load import MODELS, load_model
from spillover.lm.tokens import encoder, examples
from spillover.lm.trainable import Training, trainable_copy
from spillover.packs.open import open_pack


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
