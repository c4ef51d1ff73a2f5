"""The output-value product W_OV of every attention head: as the product of its two factors, or trained as one matrix,
which the paper's theorem says cannot conclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.lm.score import CausalModel, plain


@dataclass(frozen=True)
class Factored:
    """The matrix `left @ right`, rows x columns, of rank `inner` at most."""

    left: Float[Tensor, "rows inner"]
    right: Float[Tensor, "inner columns"]

    def minus(self, other: Factored) -> Factored:
        """This matrix less another of the same shape, in as many inner columns as both have together. It is summed as
        (L - L') R + L' (R - R'), so that where two matrices are nearly equal no digits are lost."""
        left = torch.cat([self.left - other.left, other.left], dim=1)
        return Factored(left, torch.cat([self.right, self.right - other.right], dim=0))

    def plus(self, other: Float[Tensor, "rows columns"] | None) -> Factored:
        """This matrix and another that has no factors, if there is one."""
        if other is None:
            return self
        return Factored(torch.cat([self.left, other], dim=1), torch.cat([self.right, torch.eye(len(other.T))], dim=0))

    def squared_norm(self, gram: Float[Tensor, "inner inner"] | None = None) -> Float[Tensor, ""]:
        """Squared Frobenius norm, from the two inner x inner Gram matrices; gradients flow through it.
        gram: that of the left factor, where several matrices share it."""
        return ((self.left.T @ self.left if gram is None else gram) * (self.right @ self.right.T)).sum()

    def right_gram(self) -> Float[Tensor, "inner inner"]:
        """The Gram matrix of the right factor's rows."""
        right = precise(self.right)
        return right @ right.T

    def left_grams(self, other: Factored) -> tuple[Tensor, Tensor, Tensor]:
        """For `squared_distance`: Gram matrices of the left factors' difference, of the other's, and between both."""
        theirs = precise(other.left)
        moved = theirs - precise(self.left)
        return moved.T @ moved, theirs.T @ theirs, theirs.T @ moved

    def squared_distance(
        self, other: Factored, left: tuple[Tensor, Tensor, Tensor], right: Tensor
    ) -> Float[Tensor, ""]:
        """Squared Frobenius norm of `other` less this matrix, in half the work that their difference takes.

        The difference is (L' - L) R + L' (R' - R). left: `left_grams(other)`, which matrices with the same left factors
        share. right: `right_gram()`, which stays the same when another is compared.
        """
        own = precise(self.right)
        moved = precise(other.right) - own
        return (left[0] * right).sum() + (left[1] * (moved @ moved.T)).sum() + 2 * (left[2] * (moved @ own.T)).sum()

    def singular_values(self, triangle: Float[Tensor, "small inner"] | None = None) -> Float[Tensor, " values"]:
        """Singular values, largest first: those of the small core that QR of both factors leaves between them.
        triangle: `triangle_of` the left factor, where several matrices share it."""
        own = triangle_of(self.left) if triangle is None else triangle
        return torch.linalg.svdvals(own @ triangle_of(self.right.T).T)

    def singular_vectors(
        self,
    ) -> tuple[Float[Tensor, "rows values"], Float[Tensor, " values"], Float[Tensor, "values columns"]]:
        """Left singular vectors as columns, singular values (largest first), right singular vectors as rows."""
        before, inner = torch.linalg.qr(precise(self.left))
        after, outer = torch.linalg.qr(precise(self.right.T))
        left, values, right = torch.linalg.svd(inner @ outer.T, full_matrices=False)
        return before @ left, values, right @ after.T


def triangle_of(factor: Float[Tensor, "long short"]) -> Float[Tensor, "small short"]:
    """R of a factor's QR decomposition."""
    return torch.linalg.qr(precise(factor), mode="r").R


def precise(factor: Float[Tensor, "long short"]) -> Float[Tensor, "long short"]:
    """In single precision at least, which decompositions need."""
    return factor.to(torch.promote_types(factor.dtype, torch.float32))


KNOWN = "separate v_proj and o_proj, or one fused projection as in GPT-2 and GPT-NeoX"


@dataclass(frozen=True)
class Slice:
    """Where a factor lies: columns (axis 1) or rows (axis 0) `start` to `stop` of a weight seen as input x output.

    turned: the weight is stored as output x input, as linear layers store it.
    """

    weight: str
    axis: int
    start: int
    stop: int
    turned: bool

    def of(self, weights: Mapping[str, Tensor]) -> Float[Tensor, "rows columns"]:
        """A view of the factor; writing into it writes into the weight."""
        weight = weights[self.weight]
        return (weight.T if self.turned else weight).narrow(self.axis, self.start, self.stop - self.start)


@dataclass(frozen=True)
class Place:
    """Where the two factors of a query head are. Query heads that share a value head have equal `value`."""

    layer: int
    head: int
    value: Slice
    output: Slice

    def product(self, weights: Mapping[str, Tensor]) -> Factored:
        """W_OV of this head: what it writes for a row x of its inputs is attention times x W_OV, biases left out."""
        return Factored(self.value.of(weights), self.output.of(weights))


def weight_of(model: CausalModel, name: str) -> Tensor:
    """A weight of the plain model by name, without a copy; of one under a LoRA adapter, what both amount to."""
    owner, _, own = name.rpartition(".")
    module: Any = plain(model).get_submodule(owner)
    parameter: Tensor = getattr(module, own)
    if own == "weight" and hasattr(module, "get_delta_weight"):
        return sum((module.get_delta_weight(each) for each in module.active_adapters), start=parameter.detach())
    return parameter


def products(model: CausalModel) -> list[Factored]:
    """W_OV of every query head of every layer, in order, as its value factor (model x head size) and its output factor
    (head size x model). Raises ModelError when the model has no attention of a known shape."""
    found = places(model)
    kept = factors_of(model, found)
    return [place.product(kept) for place in found]


def factors_of(model: CausalModel, found: Sequence[Place]) -> dict[str, Tensor]:
    """The weights that hold the factors, by name; each is looked at once, since an adapter's is added up anew."""
    names = dict.fromkeys(each.weight for place in found for each in (place.value, place.output))
    return {name: weight_of(model, name) for name in names}


def places(model: CausalModel) -> list[Place]:
    """Where the factors of every query head are. Raises ModelError when no attention has a known shape."""
    inner = plain(model)
    attentions = [factors for name, module in inner.named_modules() if (factors := _factors(inner, name, module))]
    found = [
        Place(layer, head, value, output)
        for layer, factors in enumerate(attentions)
        for head, (value, output) in enumerate(factors)
    ]
    if not found:
        name = str(getattr(inner.config, "_name_or_path", "")) or type(inner).__name__
        what = f"this model has no attention of a known shape ({KNOWN})"
        raise ModelError(what, where=name, do="Name another model")
    return found


def squared_norms(found: Sequence[Factored]) -> Float[Tensor, ""]:
    """Sum over heads of the squared Frobenius norm of W_OV; differentiable, and cheap enough for a training loss."""
    # Heads that share a value factor share its Gram matrix.
    values = {product.left.data_ptr(): product.left for product in found}
    grams = {key: value.T @ value for key, value in values.items()}
    return torch.stack([product.squared_norm(grams[product.left.data_ptr()]) for product in found]).sum()


def _factors(model: CausalModel, name: str, module: Any) -> list[tuple[Slice, Slice]]:
    """Value and output factor of each query head of an attention module; nothing when it is none of a known shape."""
    config = model.config.get_text_config()
    own = (getattr(module, "head_dim", None), getattr(module, "head_size", None), getattr(config, "head_dim", None))
    count = getattr(config, "num_attention_heads", None) or 1
    size = next((each for each in own if isinstance(each, int)), config.hidden_size // count)

    def heads(value: str, starts: Sequence[int], output: str, turned: bool) -> list[tuple[Slice, Slice]]:
        values = [Slice(f"{name}.{value}.weight", 1, start, start + size, turned) for start in starts]
        outputs = (f"{name}.{output}.weight", 0)
        return [(each, Slice(*outputs, head * size, (head + 1) * size, turned)) for head, each in enumerate(values)]

    kind = getattr(model.config, "model_type", "")
    if hasattr(module, "v_proj") and hasattr(module, "o_proj"):
        # Of the query heads, each run of equally many shares one value head.
        values, outputs = module.v_proj.weight.shape[0], module.o_proj.weight.shape[1]
        if values % size or outputs % size or outputs % values:
            raise ModelError(f"the heads of {name} are not of one size", do=f"Known are {KNOWN}")
        return heads("v_proj", [head // (outputs // values) * size for head in range(outputs // size)], "o_proj", True)
    if kind == "gpt2" and hasattr(module, "c_attn") and hasattr(module, "c_proj"):
        # All queries, then all keys, then all values; stored as input x output.
        width = module.c_proj.weight.shape[0]
        return heads("c_attn", range(2 * width, 3 * width, size), "c_proj", False)
    if kind == "gpt_neox" and hasattr(module, "query_key_value") and hasattr(module, "dense"):
        # A query, key and value of the first head, then of the second, and so on.
        width = module.dense.weight.shape[1]
        return heads("query_key_value", range(2 * size, 3 * width, 3 * size), "dense", True)
    return []


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
