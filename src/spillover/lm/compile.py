"""Layers whose code is compiled while they train: on a GPU, many small kernels become a few."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spillover.errors import ModelError, UsageError
from spillover.lm.micro_batch import out_of_memory

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


class CompiledLayers:
    """The layers of a model, each with a compiled forward pass that takes effect inside `with layers.in_use():` alone.

    Layers of one kind share their code, so a model of 42 layers is compiled as one or two. Outside, the model is what
    it was: measuring has passes of many shapes, each of which would be compiled again. Gradients and losses are those
    of the plain layers within rounding. Raises ModelError for a model without a list of layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = layers_of(model)
        self._compiled = [torch.compile(layer.forward) for layer in self.layers]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the layers' forward passes are the compiled ones. Raises ModelError when compiling fails."""
        with ExitStack() as stack:
            for layer, compiled in zip(self.layers, self._compiled, strict=True):
                # An attribute of the object goes before the method of its class, and is taken away again.
                layer.__dict__["forward"] = compiled
                stack.callback(layer.__dict__.pop, "forward")
            with compiling():
                yield


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a language model. Raises ModelError when it has none that are of one kind."""
    layers = stack_of(model)[2]
    if not len(layers):
        raise ModelError("this model has no list of layers, so they cannot be compiled", do=DO)
    return list(layers)


def stack_of(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """The longest list of layers of one kind, as (module that holds it, name there, list); empty if there is none."""
    found: tuple[nn.Module, str, nn.ModuleList] = (model, "", nn.ModuleList())
    for parent in model.modules():
        for name, child in parent.named_children():
            if (
                isinstance(child, nn.ModuleList)
                and len(child) > len(found[2])
                and len({type(one) for one in child}) == 1
            ):
                found = (parent, name, child)
    return found
