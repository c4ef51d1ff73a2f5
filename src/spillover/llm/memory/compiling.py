"""What compiling code takes on a machine, and what is told when it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from spillover.errors import ModelError, UsageError
from spillover.llm.memory.exhaustion import out_of_memory

#: What a processor's compiler may be called, where CXX does not say.
COMPILERS = ("c++", "g++", "clang++")
DO = "Leave --compile-layers out"


def refuse_missing(wanted: bool, device: torch.device, sharded: bool) -> None:
    """Raise UsageError when layers are to be compiled and nothing here does that, or not for a model that is split."""
    where = "--compile-layers"
    if wanted and sharded:
        raise UsageError("layers that are split over processes are not compiled", where=where, do="Leave --sharded out")
    if wanted and device.type == "cuda":
        if find_spec("triton") is None:
            raise UsageError(
                "the compiler of code for GPUs is not installed", where=where, do="Run `pip install triton`"
            )
    elif wanted and not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        raise UsageError(
            f"there is no C++ compiler ({', '.join(COMPILERS)})", where=where, do="Install one, or leave it out"
        )


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, an error of the compiler is raised as ModelError; memory that ran out stays what it is."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        cause: Any = getattr(error, "inner_exception", None) or error.__cause__
        if cause is not None and out_of_memory(cause):
            raise cause from None
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"this model's layers cannot be compiled ({line})", do=DO) from None
