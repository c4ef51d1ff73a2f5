"""The spectrum of W_OV and of its change, for every attention head of a model in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from spillover.lm.output_value import Factored, Place, Weights, places, triangle_of
from spillover.lm.score import CausalModel
from spillover.record import INSIDE_SCHEMA


class Before:
    """The value and output weights of a model before training, against which changes are measured.

    copied: keep copies, for a model that is trained in place. Raises ModelError when the model has no attention of a
    known shape.
    """

    def __init__(self, model: CausalModel, *, copied: bool) -> None:
        self.places = places(model)
        self.weights = self._factors(model)
        if copied:
            self.weights = {name: value.clone() for name, value in self.weights.items()}
        self._grams: dict[Place, Tensor] = {}

    def _factors(self, model: CausalModel) -> dict[str, Tensor]:
        """The weights that hold factors, each looked at once."""
        weights = Weights(model)
        names = dict.fromkeys(each.weight for place in self.places for each in (place.value, place.output))
        return {name: weights[name].detach() for name in names}

    def spectra(self, model: CausalModel, *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """One row a head and matrix, as record.INSIDE_SCHEMA says; before training only of the products.

        full: with the singular values, not only norms of the changes.
        """
        rows: list[dict[str, Any]] = []
        with torch.inference_mode():
            now = self._factors(model)
            if full:
                rows += self._rows("product", {place: place.product(now) for place in self.places})
            if checkpoint and full:
                rows += self._rows("change", self._changes(now))
            elif checkpoint:
                rows += self._norms(now)
        rows.sort(key=lambda row: (row["layer"], row["head"]))
        table = [{"seed": seed, "checkpoint": checkpoint, **row} for row in rows]
        return pa.Table.from_pylist(table, schema=INSIDE_SCHEMA)

    def _rows(self, matrix: str, products: Mapping[Place, Factored]) -> Iterator[dict[str, Any]]:
        """The spectrum of each; heads that share values share the work on the left factor."""
        done: tuple[Any, Any] = (None, None)
        for place, product in products.items():
            if done[0] != place.value:
                done = place.value, triangle_of(product.left)
            yield _row(place, matrix, rank_of(product), spectrum(product.singular_values(done[1]).double()))

    def _norms(self, now: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
        """The Frobenius norm of each change, with what does not change, or is shared between heads, computed once."""
        shared: tuple[Any, Any] = (None, None)
        for place in self.places:
            old, new = place.product(self.weights), place.product(now)
            if place not in self._grams:
                self._grams[place] = old.right_gram()
            if shared[0] != place.value:
                shared = place.value, old.left_grams(new)
            norm = float(old.squared_distance(new, shared[1], self._grams[place]).clamp(min=0)) ** 0.5
            # Of the difference of two products, which has as many inner columns as both together.
            rank = min(2 * new.left.shape[1], new.left.shape[0], new.right.shape[1])
            yield _row(place, "change", rank, {"frobenius": norm})

    def _changes(self, now: Mapping[str, Tensor]) -> dict[Place, Factored]:
        return {place: place.product(now).minus(place.product(self.weights)) for place in self.places}

    def changes(self, model: CausalModel) -> Mapping[tuple[int, int], Factored]:
        """(layer, head) -> the change of its W_OV."""
        found = self._changes(self._factors(model))
        return {(place.layer, place.head): change for place, change in found.items()}


def rank_of(product: Factored) -> int:
    """The most that its rank can be."""
    return min(product.left.shape[1], product.left.shape[0], product.right.shape[1])


def _row(place: Place, matrix: str, rank: int, numbers: Mapping[str, float]) -> dict[str, Any]:
    return {"layer": place.layer, "head": place.head, "matrix": matrix, "rank": rank, **numbers}


def spectrum(values: Float[Tensor, " values"]) -> dict[str, float]:
    """What is told of singular values: their Frobenius norm, and unless that is zero the ratio of nuclear to Frobenius
    norm (1 for rank one, the root of the rank for equal values), the effective rank and the share of the largest."""
    frobenius, nuclear = float(values.norm()), float(values.sum())
    if frobenius == 0:
        return {"frobenius": 0.0}
    shares = values / nuclear
    return {
        "frobenius": frobenius,
        "nuclear_to_frobenius": nuclear / frobenius,
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "top_share": float(shares[0]),
    }
