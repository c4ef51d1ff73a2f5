"""Models of Gemma 2's kind with random weights, what a step of theirs takes, and the time on a device."""

from __future__ import annotations

import time

import torch
from transformers import AutoModelForCausalLM, Gemma2Config


def shape(width: int, inner: int, layers: int, heads: int, keys: int, head: int, vocabulary: int) -> Gemma2Config:
    """A configuration of Gemma 2's kind."""
    return Gemma2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, head_dim=head, query_pre_attn_scalar=head,
    )  # fmt: skip


SIZES = {
    "9b": shape(3584, 14336, 42, 16, 8, 256, 256_000),
    "1b": shape(1536, 6144, 16, 8, 4, 256, 256_000),
    "tiny": shape(32, 64, 2, 4, 2, 8, 512),
}


def built(config: Gemma2Config, device: torch.device) -> torch.nn.Module:
    """The model with random weights, the same every time."""
    torch.manual_seed(0)
    with torch.device(device):
        # The fused kernels leave out the soft cap on attention scores.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    return model.eval()


def needed_operations(config: Gemma2Config, rows: int, length: int, answers: int) -> float:
    """Operations that a step needs, forward and backward: rows of tokens, some of each trained on."""
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    tokens = rows * length
    # Scores and their sums of values: two products, forward and twice backward, over half of all pairs.
    attention = 6 * heads * length
    logits = 6 * config.vocab_size * config.hidden_size * rows * answers
    return config.num_hidden_layers * tokens * (6 * layer + attention) + logits


def now(device: torch.device) -> float:
    """The time, once the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
