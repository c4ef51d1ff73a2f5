"""Layers whose code is compiled while they train: on a GPU, many small kernels become a few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from spillover.errors import ModelError
from spillover.llm.memory.compiling import DO, compiling


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
