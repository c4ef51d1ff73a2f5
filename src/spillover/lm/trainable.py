"""A copy of a model to train: what of it is trained, its adapter, and its layers compiled, recomputed or sharded."""

from __future__ import annotations

import copy
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from spillover.errors import ModelError, UsageError
from spillover.lm.memory import out_of_memory
from spillover.lm.score import CausalModel, plain

#: What a CPU's compiler may be called, where CXX does not say.
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Training:
    """How to fine-tune: passes over the examples, AdamW's constant rate, examples a step, and what is trained.

    lora: rank of an adapter that is trained instead of the weights, or 0. lora_scaling: what its output is multiplied
    by. lora_targets: the modules that get one, by the ends of their names; all linear ones but the output embedding
    unless there are any. trains: of the parameters (name, number of layers) that would be trained, those that are.
    decay: the weight decay of a parameter by name, where it is not `weight_decay`. optimizer: see `optimizers`.
    gradient_checkpointing: layers are computed again in the backward pass. logits_at_once: see `mean_loss`.
    compile_layers: see `CompiledLayers`.
    """

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float
    freeze_embeddings: bool
    lora: int
    seed: int
    lora_scaling: float = 2.0
    lora_targets: tuple[str, ...] = ()
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    logits_at_once: int = 0
    compile_layers: bool = False
    trains: Callable[[str, int], bool] | None = None
    decay: Callable[[str], float | None] | None = None


def trainable_copy(model: CausalModel, settings: Training) -> CausalModel:
    """A copy of `model` to train; weights that stay frozen share memory with the original, the others do not."""
    shared = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False) for parameter in _frozen(model, settings)
    }
    trained = copy.deepcopy(model, dict(shared))
    frozen = {id(parameter) for parameter in shared.values()}
    for name, parameter in trained.named_parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
        parameter.grad = None
        if not parameter.is_floating_point():
            raise ModelError(f"the weight {name} is not in floating point and cannot be trained", do="Use --lora RANK")
    _keep_input_gradient_sparse(trained)
    adapted = _with_adapter(trained, settings) if settings.lora else trained
    if settings.trains is not None and settings.lora:
        for name, parameter in adapted.named_parameters():
            if not _trains(settings, model, name):
                parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in adapted.parameters()):
        raise ModelError("nothing of this model would be trained", do="Combine fewer remedies, or lower a strength")
    if settings.gradient_checkpointing:
        recompute_layers(adapted)
    return adapted


def recompute_layers(model: CausalModel) -> None:
    """While the model trains, keep only what enters each layer, and compute the layer again in the backward pass.

    Raises ModelError when the model's code does not offer that.
    """
    inner: Any = plain(model)
    how = {"use_reentrant": False}
    try:
        if hasattr(inner, "activation_checkpointing_enable"):
            inner.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        else:
            # Its older name, which the first supported versions of the library know alone.
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    except ValueError:
        what = "this model's code cannot compute its layers again in the backward pass"
        raise ModelError(what, do="Leave --gradient-checkpointing out") from None


def _trains(settings: Training, model: CausalModel, name: str) -> bool:
    layers = int(model.config.get_text_config().num_hidden_layers)
    return settings.trains is None or settings.trains(name, layers)


def _keep_input_gradient_sparse(model: CausalModel) -> None:
    """Where one weight embeds both input and output, its gradient from the input touches only the rows that were read.

    Kept sparse it is added to the output's dense one, which saves filling and adding a whole vocabulary each step.
    """
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tied = outputs is not None and getattr(outputs, "weight", None) is getattr(inputs, "weight", outputs)
    if tied and isinstance(inputs, nn.Embedding) and inputs.weight.requires_grad:
        inputs.sparse = True


def _frozen(model: CausalModel, settings: Training) -> list[nn.Parameter]:
    """The parameters that stay as they are: all of them under an adapter, else the embeddings and what is left out."""
    if settings.lora:
        return list(model.parameters())
    left_out = [parameter for name, parameter in model.named_parameters() if not _trains(settings, model, name)]
    if not settings.freeze_embeddings:
        return left_out
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    return left_out + [parameter for module in embeddings if module is not None for parameter in module.parameters()]


def _with_adapter(model: Any, settings: Training) -> CausalModel:
    """The model with a LoRA adapter. Raises UsageError when no module's name ends in one of `lora_targets`."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        alpha = settings.lora_scaling * settings.lora
        whole: Any = int(alpha) if alpha == int(alpha) else alpha
        targets = list(settings.lora_targets) or "all-linear"
        adapter = LoraConfig(r=settings.lora, lora_alpha=whole, target_modules=targets)
        try:
            adapted = get_peft_model(model, adapter)
        except ValueError:
            if not settings.lora_targets:
                raise
            weights = {name: getattr(module, "weight", None) for name, module in model.named_modules()}
            takers = [name.rpartition(".")[2] for name, each in weights.items() if each is not None and each.ndim == 2]
            what = f"no module of this model that takes an adapter is called {' or '.join(settings.lora_targets)}"
            do = f"Its modules are {', '.join(dict.fromkeys(takers))}"
            raise UsageError(what, where="--lora-targets", do=do) from None
    # It came out as a set, whose order differs from process to process and would be in the saved adapter's bytes.
    config: Any = adapted.peft_config["default"]
    config.target_modules = sorted(config.target_modules)
    return adapted


def count_parameters(model: CausalModel | nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def shard(model: Any, count: int) -> None:
    """Split the weights of a model over `count` processes, in place; a layer is gathered while it computes.

    With FSDP_ACTIVATION_CHECKPOINTING, as accelerate sets it, layers are computed again in the backward pass. Raises
    ModelError when the model does not say what its layers are.
    """
    base = plain(model)
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in base.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ModelError("this model does not say what its layers are, so it cannot be split", do="Start it unsharded")
    if os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "").lower() in ("1", "true"):
        recompute_layers(base)
    mesh = init_device_mesh(model.device.type, (count,))
    for module in (*layers, model):
        # The outermost too: what was gathered for ranking must not be what is trained.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def gather_into(whole: CausalModel | None, model: Any) -> None:
    """Write the weights of a split model into `whole`, which is None on all but one process."""
    wanted = dict(whole.named_parameters()) if whole is not None else {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            full = weight.full_tensor()
            if name in wanted:
                wanted[name].copy_(full)


def refuse_missing_compiler(wanted: bool, device: torch.device, sharded: bool) -> None:
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


class CompiledLayers:
    """The layers of a model, each with a compiled forward pass that takes effect inside `with layers.in_use():` alone.

    Layers of one kind share their code, so a model of 42 layers is compiled as one or two. Outside, the model is what
    it was: measuring has passes of many shapes, each of which would be compiled again. Gradients and losses are those
    of the plain layers within rounding. Raises ModelError for a model without a list of layers.
    """

    def __init__(self, model: CausalModel | nn.Module) -> None:
        self.layers = list(stack_of(model)[2])
        if not self.layers:
            what = "this model has no list of layers, so they cannot be compiled"
            raise ModelError(what, do="Leave --compile-layers out")
        self._compiled = [torch.compile(layer.forward) for layer in self.layers]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the layers' forward passes are the compiled ones. Raises ModelError when compiling fails."""
        from torch._dynamo.exc import TorchDynamoException

        with ExitStack() as stack:
            for layer, compiled in zip(self.layers, self._compiled, strict=True):
                # An attribute of the object goes before the method of its class, and is taken away again.
                layer.__dict__["forward"] = compiled
                stack.callback(layer.__dict__.pop, "forward")
            try:
                yield
            except TorchDynamoException as error:
                cause: Any = getattr(error, "inner_exception", None) or error.__cause__
                if cause is not None and out_of_memory(cause):
                    raise cause from None
                line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                what, do = f"this model's layers cannot be compiled ({line})", "Leave --compile-layers out"
                raise ModelError(what, do=do) from None


def stack_of(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """The longest list of layers of one kind, as (module that holds it, name there, list); empty if there is none."""
    found: tuple[nn.Module, str, nn.ModuleList] = (model, "", nn.ModuleList())
    for parent in model.modules():
        for name, child in parent.named_children():
            longer = isinstance(child, nn.ModuleList) and len(child) > len(found[2])
            if longer and len({type(one) for one in child.children()}) == 1:
                found = (parent, name, child)  # type: ignore[assignment]
    return found


ParameterKind = Literal["values", "outputs", "queries", "keys", "attention", "mlp", "other"]
#: The kinds that make up attention; `attention` alone stands for what none of the four names tells apart.
ATTENTION: frozenset[ParameterKind] = frozenset({"values", "outputs", "queries", "keys", "attention"})
_PROJECTIONS: dict[str, ParameterKind] = {
    "v_proj": "values", "o_proj": "outputs", "q_proj": "queries", "k_proj": "keys"
}  # fmt: skip
_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")


@dataclass(frozen=True)
class ParameterPart:
    """The part of a model that a parameter belongs to: its layer from 0, or None outside the layers, and its kind."""

    layer: int | None
    kind: ParameterKind


def part_of(name: str) -> ParameterPart:
    """The part that a parameter's name states, as Hugging Face names it; an adapter's is the part that it adapts."""
    found = _LAYER.search(name)
    layer = int(found[1]) if found else None
    words = name.split(".")
    for word, kind in _PROJECTIONS.items():
        if word in words:
            return ParameterPart(layer, kind)
    if any("mlp" in word or "feed_forward" in word for word in words):
        return ParameterPart(layer, "mlp")
    if any(re.search(r"attn|attention", word) and "norm" not in word for word in words):
        return ParameterPart(layer, "attention")
    return ParameterPart(layer, "other")
