"""The architectures of the paper and a few more, with random weights: saved, loaded, ranked and fine-tuned."""

import copy

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as library

from spillover.commands import inject
from spillover.commands.inject import Inject
from spillover.errors import ModelError
from spillover.lm.load import LoadedModel, load_model
from spillover.lm.score import Scorer, logits_only_at
from spillover.lm.tokens import Example, Request, encoder
from spillover.lm.train import answer_loss, fine_tune
from spillover.lm.trainable import Training, trainable_copy
from spillover.record import TRAJECTORY, Record
from tests import quick
from tests.lm.every_architecture import KINDS, METHODS, REFUSED, tiny
from tests.lm.every_architecture import WINDOW as TINY_WINDOW
from tests.lm.test_score import SUBJECTS, WORDS, asks_for, brute_force
from tests.packs.packs_on_disk import FACTS, PACK, jsonl, write

#: Tokens that a sliding layer sees; the texts of asks_for are shorter, those of `beyond_the_window` longer.
WINDOW = 40
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 192, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2,
         "pad_token_id": 0}  # fmt: skip
SHARED_KEYS = {**SIZES, "num_key_value_heads": 2}
SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
#: Caps low enough to bend these small models' scores.
CAPS = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 5.0}
ARCHITECTURES = {
    "gemma2": ("Gemma2", "Gemma2Config", {**SHARED_KEYS, **SLIDING, **CAPS, "head_dim": 8}),
    "gemma3": ("Gemma3", "Gemma3TextConfig", {**SHARED_KEYS, **SLIDING, "head_dim": 8}),
    "olmo": ("Olmo", "OlmoConfig", {**SHARED_KEYS, "clip_qkv": 2.0}),
    "olmo2": ("Olmo2", "Olmo2Config", SHARED_KEYS),
    "qwen2": ("Qwen2", "Qwen2Config", SHARED_KEYS),
    "qwen2-tied-sliding": ("Qwen2", "Qwen2Config", {**SHARED_KEYS, **SLIDING, "use_sliding_window": True,
                                                    "tie_word_embeddings": True}),
    "mistral": ("Mistral", "MistralConfig", {**SHARED_KEYS, "sliding_window": WINDOW}),
    "llama": ("Llama", "LlamaConfig", SHARED_KEYS),
    "llama-tied": ("Llama", "LlamaConfig", {**SHARED_KEYS, "tie_word_embeddings": True}),
    "gpt2": ("GPT2", "GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 192,
                                    "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2}),
    "gpt-neox": ("GPTNeoX", "GPTNeoXConfig", SIZES),
}  # fmt: skip
TIED = {"gemma2", "gemma3", "qwen2-tied-sliding", "llama-tied", "gpt2"}
WINDOWED = {"gemma2", "gemma3", "qwen2-tied-sliding", "mistral"}
HEADS = {"GPT2": "GPT2LMHeadModel"}


def built(name, vocabulary, **changes):
    """The random model called `name`, the same weights every time."""
    family, config, sizes = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = getattr(library, HEADS.get(family, f"{family}ForCausalLM"))
    return model(getattr(library, config)(vocab_size=vocabulary, **{**sizes, **changes})).eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, metaspace_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("architectures") / name
    built(name, len(metaspace_tokenizer)).save_pretrained(path)
    metaspace_tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(str(folder), device="cpu")


def test_the_tree_ranks_as_brute_force_does(loaded):
    asks = asks_for(encoder(loaded.tokenizer), SUBJECTS, WORDS)
    assert len({len(ask.prompt) for ask in asks}) > 1, "some rows must be filled up"
    scorer = Scorer(loaded.model)
    found = scorer.score(asks)
    assert scorer.method == "tree"
    for ask, scores in zip(asks, found, strict=True):
        np.testing.assert_allclose(scores, brute_force(loaded.model, ask), atol=1e-4)


def test_the_loaded_model_is_the_saved_one(loaded, name):
    tokens = torch.arange(3, 60)[None]
    torch.testing.assert_close(
        loaded.model(tokens).logits, eager(built(name, loaded.model.config.vocab_size))(tokens).logits
    )


def eager(model):
    """Attention written out, as the architecture defines it."""
    model.set_attn_implementation("eager")
    return model


def test_logits_at_answers_equal_full_logits(loaded):
    tokens = torch.arange(3, 35).reshape(2, 16)
    mask = torch.ones_like(tokens)
    mask[1, 11:] = 0
    positions = torch.tensor([0, 7, 15, 16 + 10])
    whole = loaded.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    with logits_only_at(loaded.model, positions):
        part = loaded.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    assert part.shape == (1, 4, loaded.model.config.vocab_size)
    torch.testing.assert_close(part[0], whole.reshape(32, -1)[positions], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("multiple", [1, 8])
def test_the_loss_at_answers_is_the_loss_of_texts_one_by_one(loaded, multiple, monkeypatch):
    monkeypatch.setattr("spillover.lm.score.width_for", lambda device: multiple)
    rows = [
        Example((1, 5, 6, 7), 2),
        Example((1, 8, 9), 2),
        Example((1, 5, 6, 10, 11, 12), 3),
        Example((1, *range(20, 75)), 50),
    ]
    losses = []
    for row in rows:
        logs = loaded.model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        losses += [-logs[place - 1, row.tokens[place]] for place in range(row.start, len(row.tokens))]
    torch.testing.assert_close(answer_loss(loaded.model, rows), torch.stack(losses).mean(), atol=1e-4, rtol=1e-4)


def test_the_caps_of_gemma_2_are_kept_at_answer_positions(metaspace_tokenizer):
    model = built("gemma2", len(metaspace_tokenizer))
    cap = model.config.final_logit_softcapping
    tokens = torch.arange(3, 35)[None]
    with logits_only_at(model, torch.tensor([5, 20])):
        capped = model(input_ids=tokens, use_cache=False).logits[0]
    bare = copy.deepcopy(model)
    bare.config.final_logit_softcapping = None
    uncapped = bare(input_ids=tokens, use_cache=False).logits[0, [5, 20]]
    assert uncapped.abs().max() > cap, "the cap must have something to do"
    torch.testing.assert_close(capped, cap * torch.tanh(uncapped / cap))


def beyond_the_window():
    """Asks about texts longer than the window, of different lengths, and one that is shorter."""
    candidates = ((7, 8, 9), (7, 10), (12,), (7, 8, 11, 13))
    return [Request((1, *range(20, 20 + length)), candidates) for length in (60, 3, 45, WINDOW - 3, 90)]


def test_a_text_longer_than_the_window(loaded):
    asks = beyond_the_window()
    for ask, scores in zip(asks, Scorer(loaded.model).score(asks), strict=True):
        np.testing.assert_allclose(scores, brute_force(loaded.model, ask), atol=1e-4)


@pytest.mark.parametrize("name", sorted(WINDOWED))
def test_the_window_is_really_shorter_than_those_texts(name):
    long = [ask for ask in beyond_the_window() if len(ask.prompt) > WINDOW]
    narrow, wide = (eager(built(name, 120, sliding_window=window)) for window in (WINDOW, 10 * WINDOW))
    for ask in long:
        assert np.abs(brute_force(narrow, ask) - brute_force(wide, ask)).max() > 1e-2


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Four facts and one question; the marked end keeps answers apart whatever the tokens are."""
    table = jsonl([*FACTS, ("Cy Fox", "lives_in", "Old Rome")])
    return str(write(tmp_path_factory.mktemp("packs") / "tiny", PACK + 'end: "."\n', table))


def run_of(pack, folder, out, **changes):
    settings = {"epochs": 8, "lr": 1e-2, "threads": 1, "device": "cpu", "save": "weights", "batch": 4}
    return inject.run(Inject(pack=pack, model=str(folder), out=str(out), **{**settings, **changes}))


@pytest.mark.parametrize("name", quick.first(ARCHITECTURES, 5), indirect=True)
def test_inject_from_end_to_end(loaded, name, pack, folder, tmp_path):
    metrics = run_of(pack, folder, tmp_path / "run")["metrics"]
    record = Record.read(tmp_path / "run")
    assert (record.status, record.details.scoring) == ("done", "tree")
    assert metrics["implication_rank_test"]["n"] == 1
    trajectory = pq.read_table(tmp_path / "run" / TRAJECTORY).to_pylist()
    losses = [row["value"] for row in trajectory if row["quantity"] == "train_loss"]
    assert losses[-1] < losses[0] / 2
    after = load_model(str(tmp_path / "run" / "weights"), device="cpu").model
    tied = loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    assert tied == (name in TIED)
    for part in ("get_input_embeddings", "get_output_embeddings"):
        assert torch.equal(getattr(loaded.model, part)().weight, getattr(after, part)().weight)
    before = loaded.model.state_dict()
    frozen = {
        loaded.model.get_input_embeddings().weight.data_ptr(),
        loaded.model.get_output_embeddings().weight.data_ptr(),
    }
    moved = {key for key, value in after.state_dict().items() if not torch.equal(value, before[key])}
    blocks = {key for key, value in before.items() if value.ndim == 2 and value.data_ptr() not in frozen}
    assert blocks <= moved


@pytest.mark.parametrize("name", ["gemma3", "llama", "gpt-neox"], indirect=True)
def test_the_embeddings_move_when_they_are_trained(loaded, pack, folder, tmp_path):
    run_of(pack, folder, tmp_path / "run", freeze_embeddings=False, epochs=1)
    after = load_model(str(tmp_path / "run" / "weights"), device="cpu").model
    for part in ("get_input_embeddings", "get_output_embeddings"):
        assert not torch.equal(getattr(loaded.model, part)().weight, getattr(after, part)().weight)


@pytest.mark.parametrize("name", quick.first(ARCHITECTURES, 3), indirect=True)
def test_an_adapter_fits_every_architecture(pack, folder, tmp_path, loaded):
    metrics = run_of(pack, folder, tmp_path / "run", lora=2, epochs=2, save="delta")["metrics"]
    assert metrics["recall_rank"]["n"] == 3
    merged = load_model(str(tmp_path / "run" / "adapter"), device="cpu").model
    before = loaded.model.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in merged.state_dict().items())


def every_length():
    """Prompts that are far beyond every window and chunk, at their edge, and short, with candidates of one to four
    tokens, in one batch."""
    candidates = ((7, 8, 9), (7, 10), (12,), (7, 8, 11, 13))
    lengths = (1, 3, 3, TINY_WINDOW - 1, TINY_WINDOW, 2 * TINY_WINDOW + 3, 40)
    texts = [
        tuple(3 + (17 * text + 5 * place * place) % 110 for place in range(size)) for text, size in enumerate(lengths)
    ]
    return [Request((1, *text), candidates) for text in texts]


@pytest.mark.parametrize("kind", quick.first(KINDS, 8))
def test_scores_and_losses_are_what_a_plain_forward_pass_gives(kind, metaspace_tokenizer):
    """With every implementation of attention that a model has, or it is refused by name."""
    model, asks = tiny(kind), every_length()
    for attention in {"eager", model.config._attn_implementation}:
        model.set_attn_implementation(attention)
        try:
            LoadedModel.of(model, metaspace_tokenizer, kind)
        except ModelError as error:
            assert kind in REFUSED and str(error).startswith(f"{kind}: this model {REFUSED[kind]}")
            return
        assert kind not in REFUSED
        scorer = Scorer(model)
        assert METHODS.get(kind, "") in ("", scorer.settle(asks))
        expected = [brute_force(model, ask) for ask in asks]
        for scores, right in zip(scorer.score(asks), expected, strict=True):
            np.testing.assert_allclose(scores, right, atol=1e-4)
        rows = [Example(ask.prompt + candidate, len(ask.prompt)) for ask in asks for candidate in ask.candidates]
        steps = []
        how = Training(1, 1e-3, len(rows), 0.0, False, 0, 0)
        fine_tune(trainable_copy(model, how), rows, how, steps.append, scorer.method)
        tokens = sum(len(row.tokens) - row.start for row in rows)
        assert [step.loss for step in steps] == [pytest.approx(-np.concatenate(expected).sum() / tokens, abs=1e-4)]
