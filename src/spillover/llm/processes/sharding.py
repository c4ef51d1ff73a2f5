"""A model that is split over the processes (PyTorch's fully_shard), for one that is too large to be trained on each."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from spillover.errors import ModelError
from spillover.llm.weights.trainable import compute_layers_again


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
        compute_layers_again(base)
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
