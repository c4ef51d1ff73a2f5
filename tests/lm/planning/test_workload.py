"""What is counted is what a real run feeds to the model, and costs follow from it by hand."""

from dataclasses import replace

import pytest

from spillover.lm import plan as cost
from spillover.lm.fine_tune import FineTuned, inject
from spillover.lm.forgetting import passages
from spillover.lm.load import load_model
from spillover.lm.plan import Device, Passes, Portion, Sizes, Workload, reading, seconds
from spillover.lm.tokens import encoder
from spillover.lm.train import Training
from spillover.lm.trainable import trainable_copy
from spillover.packs.open import open_pack

TRAINING = Training(epochs=3, learning_rate=1e-3, batch=4, weight_decay=0.0, freeze_embeddings=True, lora=0, seed=5)


def test_a_real_run_feeds_what_was_counted(byte_folder, monkeypatch):
    """Counted with the run's own tokens: passes, tokens and logits agree to the last one, but for the check of how
    questions may be fed, two passes of one prompt."""
    loaded, pack = load_model(str(byte_folder), device="cpu"), open_pack("city-language:names=20,bridge=1", 5)
    encode, texts = encoder(loaded.tokenizer), passages()[:2]
    copy = trainable_copy(loaded.model, TRAINING)
    portion = Portion.of(copy, pack, pack, TRAINING, encode)
    counted = Workload.of(Sizes.of(copy), portion, reading(texts, encode), TRAINING.epochs, evaluate_every=2)

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
    inject(loaded, pack, TRAINING, texts=texts, evaluate_every=2, progress=lambda step: None, into=into)
    assert into.method == "tree"
    assert fed[True].count == counted.training.count == counted.steps
    assert fed[True].tokens == pytest.approx(counted.training.tokens, rel=0.02), "each epoch has an order of its own"
    assert counted.answers == into.table().num_rows
    # Plain text is read twice here, before and after; of what is left, the check is a twentieth at most.
    asked = fed[False].tokens - 2 * counted.reading.tokens
    assert counted.asking.tokens < asked < 1.1 * counted.asking.tokens
    assert fed[False].count - counted.asking.count - 2 * counted.reading.count == 2


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
    threads = replace(slow, processor=True)
    assert seconds(work, threads, threads=5).asking == pytest.approx((told.asking - 2) / 5)
