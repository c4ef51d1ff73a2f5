"""The output-value product W_OV of every attention head, kept as the product of its two factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.lm.score import CausalModel


@dataclass(frozen=True)
class Factored:
    """The matrix `left @ right`, rows x columns, of rank `inner` at most."""

    left: Float[Tensor, "rows inner"]
    right: Float[Tensor, "inner columns"]

    def minus(self, other: Factored) -> Factored:
        """This matrix less another of the same shape, in as many inner columns as both have together.

        The sum is (L - L') R + L' (R - R'), so that where two matrices are nearly equal no digits are lost.
        """
        left = torch.cat([self.left - other.left, other.left], dim=1)
        return Factored(left, torch.cat([self.right, self.right - other.right], dim=0))

    def squared_norm(self, gram: Float[Tensor, "inner inner"] | None = None) -> Float[Tensor, ""]:
        """Squared Frobenius norm, from the two inner x inner Gram matrices; gradients flow through it.

        gram: that of the left factor, where several matrices share it.
        """
        return ((self.left.T @ self.left if gram is None else gram) * (self.right @ self.right.T)).sum()

    def right_gram(self) -> Float[Tensor, "inner inner"]:
        """The Gram matrix of the right factor's rows."""
        right = _precise(self.right)
        return right @ right.T

    def left_grams(self, other: Factored) -> tuple[Tensor, Tensor, Tensor]:
        """What `squared_distance` needs of the left factors: Gram matrices of their difference, of the other's, and
        between the two."""
        theirs = _precise(other.left)
        moved = theirs - _precise(self.left)
        return moved.T @ moved, theirs.T @ theirs, theirs.T @ moved

    def squared_distance(
        self, other: Factored, left: tuple[Tensor, Tensor, Tensor], right: Tensor
    ) -> Float[Tensor, ""]:
        """Squared Frobenius norm of `other` less this matrix, in half the work that their difference takes.

        The difference is (L' - L) R + L' (R' - R). left: `left_grams(other)`, which matrices with the same left factors
        share. right: `right_gram()`, which stays the same when another is compared.
        """
        own = _precise(self.right)
        moved = _precise(other.right) - own
        return (left[0] * right).sum() + (left[1] * (moved @ moved.T)).sum() + 2 * (left[2] * (moved @ own.T)).sum()

    def singular_values(self, triangle: Float[Tensor, "small inner"] | None = None) -> Float[Tensor, " values"]:
        """Singular values, largest first: those of the small core that QR of both factors leaves between them.

        triangle: `triangle_of` the left factor, where several matrices share it.
        """
        own = triangle_of(self.left) if triangle is None else triangle
        return torch.linalg.svdvals(own @ triangle_of(self.right.T).T)

    def singular_vectors(
        self,
    ) -> tuple[Float[Tensor, "rows values"], Float[Tensor, " values"], Float[Tensor, "values columns"]]:
        """Left singular vectors as columns, singular values (largest first), right singular vectors as rows."""
        before, inner = torch.linalg.qr(_precise(self.left))
        after, outer = torch.linalg.qr(_precise(self.right.T))
        left, values, right = torch.linalg.svd(inner @ outer.T, full_matrices=False)
        return before @ left, values, right @ after.T


def triangle_of(factor: Float[Tensor, "long short"]) -> Float[Tensor, "small short"]:
    """R of a factor's QR decomposition."""
    return torch.linalg.qr(_precise(factor), mode="r").R


def _precise(factor: Float[Tensor, "long short"]) -> Float[Tensor, "long short"]:
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


@dataclass(frozen=True)
class Head:
    """W_OV of one query head, as its value factor (model x head size) and its output factor (head size x model)."""

    layer: int
    head: int
    product: Factored


class Weights(Mapping[str, Tensor]):
    """The weight matrices of a model by name, without copies; of a weight under a LoRA adapter, what both amount to."""

    def __init__(self, model: CausalModel) -> None:
        self.model = plain(model)

    def __getitem__(self, name: str) -> Tensor:
        owner, _, own = name.rpartition(".")
        try:
            module = self.model.get_submodule(owner)
            parameter: Tensor = getattr(module, own)
        except AttributeError:
            raise KeyError(name) from None
        if own == "weight" and hasattr(module, "get_delta_weight"):
            deltas = [module.get_delta_weight(adapter) for adapter in module.active_adapters]
            return sum(deltas, start=parameter.detach())
        return parameter

    def __iter__(self) -> Iterator[str]:
        return (f"{name}.weight" for name, module in self.model.named_modules() if hasattr(module, "weight"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def plain(model: CausalModel) -> CausalModel:
    """The transformers model, out of a PEFT model around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def heads(model: CausalModel) -> list[Head]:
    """Every query head of every layer, in order. Raises ModelError when the model has no attention of a known shape."""
    found, weights = places(model), Weights(model)
    # Each once, since under an adapter every look at a weight adds it up anew.
    kept = {name: weights[name] for name in dict.fromkeys(each.weight for p in found for each in (p.value, p.output))}
    return [Head(place.layer, place.head, place.product(kept)) for place in found]


def places(model: CausalModel) -> list[Place]:
    """Where the factors of every query head are. Raises ModelError when no attention has a known shape."""
    inner = plain(model)
    found: list[Place] = []
    layer = 0
    for name, module in inner.named_modules():
        if (shape := _shape(inner, module)) is not None:
            found += shape(name, module, layer, _head_size(inner, module))
            layer += 1
    if not found:
        raise _unknown(inner)
    return found


def squared_norms(found: Sequence[Head]) -> Float[Tensor, ""]:
    """Sum over heads of the squared Frobenius norm of W_OV; differentiable, and cheap enough for a training loss."""
    grams: dict[int, Tensor] = {}
    total = []
    for head in found:
        value = head.product.left
        key = value.data_ptr()
        if key not in grams:
            grams[key] = value.T @ value
        total.append(head.product.squared_norm(grams[key]))
    return torch.stack(total).sum()


_Shape = Callable[[str, nn.Module, int, int], list[Place]]


def _shape(model: CausalModel, module: nn.Module) -> _Shape | None:
    """How to cut up an attention module, or None when it is none."""
    kind = getattr(model.config, "model_type", "")
    for value, output, only, cut in _SHAPES:
        if hasattr(module, value) and hasattr(module, output) and only in ("", kind):
            return cut
    return None


def _head_size(model: CausalModel, module: nn.Module) -> int:
    for name in ("head_dim", "head_size"):
        if isinstance(own := getattr(module, name, None), int):
            return own
    config = model.config.get_text_config()
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _separate(name: str, module: Any, layer: int, size: int) -> list[Place]:
    """v_proj and o_proj; of the query heads, each run of equally many shares one value head."""
    values, outputs = module.v_proj.weight.shape[0], module.o_proj.weight.shape[1]
    if values % size or outputs % size or outputs % values:
        raise ModelError(f"the heads of {name} are not of one size", do=f"Known are {KNOWN}")
    group = outputs // values
    return [
        Place(
            layer, head, Slice(f"{name}.v_proj.weight", 1, head // group * size, (head // group + 1) * size, True),
            Slice(f"{name}.o_proj.weight", 0, head * size, (head + 1) * size, True),
        )
        for head in range(outputs // size)
    ]  # fmt: skip


def _thirds(name: str, module: Any, layer: int, size: int) -> list[Place]:
    """c_attn gives all queries, then all keys, then all values; stored as input x output."""
    width = module.c_proj.weight.shape[0]
    return [
        Place(
            layer, start // size, Slice(f"{name}.c_attn.weight", 1, 2 * width + start, 2 * width + start + size, False),
            Slice(f"{name}.c_proj.weight", 0, start, start + size, False),
        )
        for start in range(0, width, size)
    ]  # fmt: skip


def _by_head(name: str, module: Any, layer: int, size: int) -> list[Place]:
    """query_key_value gives a query, key and value of the first head, then of the second, and so on."""
    width = module.dense.weight.shape[1]
    return [
        Place(
            layer, head, Slice(f"{name}.query_key_value.weight", 1, (3 * head + 2) * size, (3 * head + 3) * size, True),
            Slice(f"{name}.dense.weight", 0, head * size, (head + 1) * size, True),
        )
        for head in range(width // size)
    ]  # fmt: skip


#: Projection that holds the values, projection of the outputs, the only kind of model with it (or any), how it is cut.
_SHAPES: tuple[tuple[str, str, str, _Shape], ...] = (
    ("v_proj", "o_proj", "", _separate),
    ("c_attn", "c_proj", "gpt2", _thirds),
    ("query_key_value", "dense", "gpt_neox", _by_head),
)


def _unknown(model: CausalModel) -> ModelError:
    name = str(getattr(model.config, "_name_or_path", "")) or type(model).__name__
    return ModelError(f"this model has no attention of a known shape ({KNOWN})", where=name, do="Name another model")
