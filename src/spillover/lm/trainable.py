"""A copy of a model to train: what of it is trained, its adapter, and its layers compiled, recomputed or sharded."""

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
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from spillover.errors import ModelError, UsageError, first_line
from spillover.lm.load import quiet
from spillover.lm.memory import out_of_memory
from spillover.lm.output_value import merge_output_value
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
    compile_layers: see `CompiledLayers`. merged: train the output-value product of every head as one matrix, and
    nothing else (see lm.output_value).
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
    merged: bool = False
    trains: Callable[[str, int], bool] | None = None
    decay: Callable[[str], float | None] | None = None


def trainable_copy(model: CausalModel, settings: Training) -> CausalModel:
    """A copy of `model` to train; weights that stay frozen share memory with the original, the others do not."""
    layers = int(model.config.get_text_config().num_hidden_layers)
    trains = settings.trains or (lambda name, layers: True)
    # All weights stay under an adapter, else the embeddings and what is left out.
    kept = [
        weight
        for name, weight in model.named_parameters()
        if settings.lora or settings.merged or not trains(name, layers)
    ]
    if settings.freeze_embeddings:
        embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
        kept += [weight for module in embeddings if module is not None for weight in module.parameters()]
    shared = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in kept}
    trained = copy.deepcopy(model, dict(shared))
    frozen = {id(weight) for weight in shared.values()}
    for name, weight in trained.named_parameters():
        weight.requires_grad_(id(weight) not in frozen)
        weight.grad = None
        if not weight.is_floating_point():
            raise ModelError(f"the weight {name} is not in floating point and cannot be trained", do="Use --lora RANK")
    inputs, outputs = trained.get_input_embeddings(), trained.get_output_embeddings()
    trains_inputs = isinstance(inputs, nn.Embedding) and inputs.weight.requires_grad
    if trains_inputs and getattr(outputs, "weight", None) is inputs.weight:
        # Of the tied weight, the gradient from the input touches only the rows that were read. Kept sparse it is added
        # to the output's dense one, which saves filling and adding a whole vocabulary each step.
        inputs.sparse = True
    if settings.merged:
        merge_output_value(trained)
    if settings.lora:
        trained = _with_adapter(trained, settings)
        for name, weight in trained.named_parameters():
            weight.requires_grad_(weight.requires_grad and trains(name, layers))
    if not any(weight.requires_grad for weight in trained.parameters()):
        raise ModelError("nothing of this model would be trained", do="Combine fewer remedies, or lower a strength")
    if settings.gradient_checkpointing:
        recompute_layers(trained)
    return trained


def recompute_layers(model: CausalModel) -> None:
    """Keep only what enters each layer, which the backward pass computes again. Raises ModelError where it cannot."""
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


def _with_adapter(model: Any, settings: Training) -> CausalModel:
    """The model with a LoRA adapter. Raises UsageError when no module's name ends in one of `lora_targets`."""
    from peft import LoraConfig, get_peft_model

    with quiet(), torch.random.fork_rng():
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
            matrices = (name for name, each in model.named_parameters() if name.endswith(".weight") and each.ndim == 2)
            what = f"no module of this model that takes an adapter is called {' or '.join(settings.lora_targets)}"
            do = f"Its modules are {', '.join(dict.fromkeys(name.split('.')[-2] for name in matrices))}"
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
    # Imported here, since they take longer than all else that training imports.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

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
    on_gpu, names = device.type == "cuda", ", ".join(COMPILERS)
    compiler = find_spec("triton") if on_gpu else os.environ.get("CXX") or any(map(shutil.which, COMPILERS))
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    missing = "Python's headers (Python.h), which compiled code is built with, are not installed"
    faults = (
        (sharded, "layers that are split over processes are not compiled", "Leave --sharded out"),
        (on_gpu and not compiler, "the compiler of code for GPUs is not installed", "Run `pip install triton`"),
        (not compiler, f"there is no C++ compiler ({names})", "Install one, or leave it out"),
        (not headers, missing, "Install them (python3-dev), or leave it out"),
    )
    for found, what, do in faults:
        if wanted and found:
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
                what = f"this model's layers cannot be compiled ({first_line(error)})"
                raise ModelError(what, do="Leave --compile-layers out") from None


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
#: What the name of a parameter of a kind holds, in the order in which they are tried.
_NAMES: dict[ParameterKind, str] = {
    "values": r"\bv_proj\b", "outputs": r"\bo_proj\b", "queries": r"\bq_proj\b", "keys": r"\bk_proj\b",
    "mlp": "mlp|feed_forward", "attention": r"(?:^|\.)(?![^.]*norm)[^.]*(?:attn|attention)",
}  # fmt: skip
_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")


class ParameterPart(NamedTuple):
    """The part of a model that a parameter belongs to: its layer from 0, or None outside the layers, and its kind."""

    layer: int | None
    kind: ParameterKind


def part_of(name: str) -> ParameterPart:
    """The part that a parameter's name states, as Hugging Face names it; an adapter's is the part that it adapts."""
    found = _LAYER.search(name)
    kinds = (kind for kind, pattern in _NAMES.items() if re.search(pattern, name))
    return ParameterPart(int(found[1]) if found else None, next(kinds, "other"))
