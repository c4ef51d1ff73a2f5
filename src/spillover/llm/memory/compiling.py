"""What compiling code takes on a machine, and what is told when it fails."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from spillover.errors import ModelError, UsageError
from spillover.llm.memory.exhaustion import out_of_memory

#: What a processor's compiler may be called, where CXX does not say.
COMPILERS = ("c++", "g++", "clang++")
DO = "Leave --compile-layers out"


def refuse_missing(wanted: bool, device: torch.device, sharded: bool) -> None:
    """Raise UsageError when layers are to be compiled and nothing here does that, or not for a model that is split."""
    if not wanted:
        return
    if sharded:
        what, do = "layers that are split over processes are not compiled", "Leave --sharded out"
    elif device.type == "cuda" and find_spec("triton") is None:
        what, do = "the compiler of code for GPUs is not installed", "Run `pip install triton`"
    elif device.type != "cuda" and not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        what, do = f"there is no C++ compiler ({', '.join(COMPILERS)})", "Install one, or leave it out"
    elif not Path(sysconfig.get_path("include"), "Python.h").exists():
        what = "Python's headers (Python.h), which compiled code is built with, are not installed"
        do = "Install them (python3-dev), or leave it out"
    else:
        return
    raise UsageError(what, where="--compile-layers", do=do)


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
