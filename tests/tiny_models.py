"""Tiny real models and tokenizers of three families, trained and built here; fixtures for every test folder."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from spillover.lm.load import LoadedModel

CORPUS = [
    "Ada Moss lives in Paris. Ada Moss speaks French.",
    "Ben Okri lives in Tokyo. Ben Okri speaks Japanese.",
    "Cleo Park lives in Rome. Cleo Park speaks Old Italian and Old Norse.",
    "Finn Vale codes in Java, JavaScript, Common Lisp and Emacs Lisp. The home of Finn Vale is in New York.",
    "Zoë Åström spricht Schwedisch. 李明 住在 北京。 مريم تتكلم العربية",
] * 4
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>")
    )
    return tokenizer


FAMILIES = {"byte-level": byte_level, "metaspace": metaspace, "unigram": unigram}


def wrapped(tokenizer: Tokenizer, bos: bool) -> PreTrainedTokenizerFast:
    from tokenizers.processors import TemplateProcessing

    if bos:
        tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def tiny_llama(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3,
        )
    ).eval()  # fmt: skip


def tiny_gpt2(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=128,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()


def tiny_gemma3(vocabulary: int) -> Gemma3ForCausalLM:
    torch.manual_seed(0)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=1, head_dim=8, sliding_window=40, layer_types=["sliding_attention", "full_attention"],
            initializer_range=0.3,
        )
    ).eval()  # fmt: skip


TINY = {"llama": tiny_llama, "gpt2": tiny_gpt2, "gemma3": tiny_gemma3}


@pytest.fixture(scope="session", params=FAMILIES)
def tokenizer(request):
    return wrapped(FAMILIES[request.param](), bos=request.param != "byte-level")


@pytest.fixture(scope="session")
def metaspace_tokenizer():
    return wrapped(metaspace(), bos=True)


@pytest.fixture(scope="session")
def tiny(metaspace_tokenizer) -> LoadedModel:
    return LoadedModel("tiny", tiny_llama(len(metaspace_tokenizer)), metaspace_tokenizer, "0" * 64, "")


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    """The tiny model as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def tied_llama(vocabulary: int) -> LlamaForCausalLM:
    """The tiny model with one weight for what it reads and writes."""
    config = tiny_llama(vocabulary).config
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tied_folder(metaspace_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tied"
    tied_llama(len(metaspace_tokenizer)).save_pretrained(folder)
    metaspace_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_folder(tmp_path_factory):
    """A tiny model whose tokenizer knows every letter, for documents that name packs of any script."""
    folder = tmp_path_factory.mktemp("models") / "bytes"
    tokenizer = wrapped(byte_level(), bos=True)
    tiny_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
