"""Memory that ran out: how to tell it from other errors, and how to give back what is no longer used."""

from __future__ import annotations

import gc
from typing import Any

import torch

from spillover.errors import ModelError

ADVICE = "Use --lora 8, --dtype bfloat16, a smaller --batch or a smaller model, or free some memory"
#: How the allocators of processors and of Apple's GPUs say it; those of CUDA have an exception of their own.
_SAID = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc")


class Exhausted(ModelError):
    """Memory ran out and nothing can be taken in smaller parts any more."""

    def __init__(self, what: str, *, where: str = "", do: str = ADVICE) -> None:
        super().__init__(what, where=where, do=do)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python or torch means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def give_back(device: Any) -> None:
    """Let go of what nothing refers to any more, so that whoever asks next can have it."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
