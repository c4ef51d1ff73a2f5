"""A copy of a model to train: frozen weights share memory with the original; over processes, it is sharded."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from spillover.errors import ModelError, UsageError
from spillover.lm.score import CausalModel
from spillover.lm.train import Training


def trainable_copy(model: CausalModel, settings: Training) -> CausalModel:
    """A copy of `model` to train; weights that stay frozen share memory with the original, the others do not."""
    frozen = {id(parameter): parameter for parameter in _frozen(model, settings)}
    shared = {key: nn.Parameter(parameter.detach(), requires_grad=False) for key, parameter in frozen.items()}
    trained = copy.deepcopy(model, dict(shared))
    for name, parameter in trained.named_parameters():
        parameter.requires_grad_(id(parameter) not in {id(value) for value in shared.values()})
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
    """While the model trains, keep only what enters each layer, and compute the layer again on the way back.

    Raises ModelError when the model's code does not offer that.
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    how = {"use_reentrant": False}
    try:
        if hasattr(inner, "activation_checkpointing_enable"):
            inner.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        else:
            # Its older name, which the first supported versions of the library know alone.
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    except ValueError:
        what = "this model's code cannot compute its layers again on the way back"
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


def _with_adapter(model: CausalModel, settings: Training) -> CausalModel:
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
            raise _no_such_targets(model, settings) from None
    # It came out as a set, whose order differs from process to process and would be in the saved adapter's bytes.
    config: Any = adapted.peft_config["default"]
    config.target_modules = sorted(config.target_modules)
    return adapted


def _no_such_targets(model: CausalModel, settings: Training) -> UsageError:
    """What to say when no module that takes an adapter has a name that ends in one of `lora_targets`."""
    linear = [name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "weight")
              and module.weight is not None and module.weight.ndim == 2]  # fmt: skip
    what = f"no module of this model that takes an adapter is called {' or '.join(settings.lora_targets)}"
    return UsageError(what, where="--lora-targets", do=f"Its modules are {', '.join(dict.fromkeys(linear))}")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def shard(model: Any, count: int) -> None:
    """Split the weights of a model over `count` processes, in place; a layer is gathered while it computes.

    With FSDP_ACTIVATION_CHECKPOINTING, as accelerate sets it, layers are computed again on the way back. Raises
    ModelError when the model does not say what its layers are.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    layers: list[nn.Module] = [module for module in base.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ModelError("this model does not say what its layers are, so it cannot be split", do="Start it unsharded")
    if os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "").lower() in ("1", "true"):
        recompute_layers(base)
    mesh = init_device_mesh(model.device.type, (count,))
    for module in (*layers, model):
        # The outermost too: what was gathered for asking must not be what is trained.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def gather_into(whole: Any, model: Any) -> None:
    """Write the weights of a split model into `whole`, which is None on all but one process."""
    wanted = dict(whole.named_parameters()) if whole is not None else {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            full = weight.full_tensor()
            if name in wanted:
                wanted[name].copy_(full)


ParameterKind = Literal["values", "outputs", "queries", "keys", "attention", "mlp", "other"]
#: The kinds that make up attention; `attention` alone stands for what none of the four names tells apart.
ATTENTION: frozenset[ParameterKind] = frozenset({"values", "outputs", "queries", "keys", "attention"})
_PROJECTIONS: dict[str, ParameterKind] = {
    "v_proj": "values",
    "o_proj": "outputs",
    "q_proj": "queries",
    "k_proj": "keys",
}
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
