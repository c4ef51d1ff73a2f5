"""The output-value product of every head trained as one matrix, which the paper's theorem says cannot conclude."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.lm.output_value import KNOWN, Place, places
from spillover.lm.score import CausalModel, plain

#: The name, in an attention module, of the change of its heads' products: heads x model x model.
CHANGE = "merged"


def merge_output_value(model: CausalModel) -> list[nn.Parameter]:
    """Add to W_V W_O of every query head a matrix of its own, zero at first, as wide as the model; gives all of them.

    A head that attends to rows x with weights a then writes a x (W_V W_O + M). What both factors can write is of rank
    `head size` at most, M of any. Attention is computed in its plain form from here on, since its weights are needed.

    Raises ModelError when the model has no attention of a known shape, or does not give its weights.
    """
    inner: Any = plain(model)
    found = places(model)
    inner.set_attn_implementation("eager")
    changes = []
    for layer in sorted({place.layer for place in found}):
        own = [place for place in found if place.layer == layer]
        module = inner.get_submodule(_attention(own[0].value.weight))
        product = own[0].product(dict(inner.named_parameters()))
        change = nn.Parameter(product.left.new_zeros(len(own), product.left.shape[0], product.right.shape[1]))
        module.register_parameter(CHANGE, change)
        module.register_forward_hook(_written, with_kwargs=True)
        changes.append(change)
    return changes


def _attention(weight: str) -> str:
    """The attention module that holds a weight of one of its projections."""
    return weight.rsplit(".", 2)[0]


def _written(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """What the heads write, with what their matrices add."""
    rows: Tensor = named["hidden_states"] if "hidden_states" in named else args[0]
    if not isinstance(output, tuple) or output[1] is None:
        what = "this model's attention does not give its weights, so its output-value products cannot be merged"
        raise ModelError(what, do=f"Known are {KNOWN}")
    change = getattr(module, CHANGE)
    attended = torch.einsum("bhqk,bkd->bqhd", output[1].to(rows.dtype), rows)
    return (output[0] + attended.flatten(2) @ change.flatten(0, 1), *output[1:])


def changes_of(model: CausalModel) -> dict[Place, Float[Tensor, "model model"]]:
    """The matrix of each head; nothing for a model whose products are not merged."""
    inner, found = plain(model), places(model)
    changes = {place: getattr(inner.get_submodule(_attention(place.value.weight)), CHANGE, None) for place in found}
    return {place: change[place.head].detach() for place, change in changes.items() if change is not None}


def cut(model: CausalModel) -> None:
    """Leave of each head's matrix its best approximation of the rank that the head's factors have, in place."""
    for place, change in changes_of(model).items():
        rank = place.value.stop - place.value.start
        left, values, right = torch.linalg.svd(change.float(), full_matrices=False)
        change.copy_((left[:, :rank] * values[:rank]) @ right[:rank])
