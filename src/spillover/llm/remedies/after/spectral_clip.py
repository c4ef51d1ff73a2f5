"""Clip the largest singular values of the change of each attention head's output-value product W_OV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from spillover.llm.inside.factored import Factored
from spillover.llm.inside.heads import Place
from spillover.llm.remedies.changes import Weights, changed, difference, refuse_strength


def apply(base: Weights, tuned: Weights, strength: float, places: Sequence[Place]) -> dict[str, Tensor]:
    """Every singular value of a head's change beyond (1 - strength) times the largest is lowered to that.

    With V and O the base factors and dV, dO their changes, W_OV changes by dV O + V dO + dV dO. What is clipped is the
    change through the values, dV O (over all query heads that share V, side by side), and the change through the
    outputs, V dO; dV dO follows. Both are matrices between hidden states, so it does not matter how W_OV is split
    into factors, as it would if dV and dO were clipped themselves; and both clipped matrices have the form of a change
    of one factor, so they are stored exactly, whereas the nearest clipped W_OV of each head has no V to share.

    places: from `llm.inside.heads.places`. Strength 1 takes the change of values and outputs back. All other weights
    stay as tuned. Raises UsageError for a strength outside 0 to 1, ModelError when the two are not one model in two
    states.
    """
    refuse_strength("spectral-clip", strength)
    found = {name: after for name, _, after in changed(base, tuned)}
    if strength:
        for name, group in _by_weight(places, "value").items():
            if name in found:
                found[name] = _clipped_values(base, found[name], strength, group)
        for name, group in _by_weight(places, "output").items():
            if name in found:
                found[name] = _clipped_outputs(base, found[name], strength, group)
    return found


def _by_weight(places: Sequence[Place], factor: str) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(getattr(place, factor).weight, []).append(place)
    return found


def _clipped_values(base: Weights, tuned: Tensor, strength: float, group: Sequence[Place]) -> Tensor:
    """The weight that holds the value factors of a layer, each value head's change clipped over its query heads."""
    new = tuned.clone()
    name = group[0].value.weight
    for value, sharing in groupby(group, key=lambda place: place.value):
        own, before = value.of({name: new}), value.of(base)
        change = difference(before, own)
        outputs = torch.cat([place.output.of(base).to(change) for place in sharing], dim=1)
        left, values, _ = Factored(change, outputs).singular_vectors()
        own.copy_(own.to(change.dtype) - left * _removed(values, strength) @ (left.T @ change))
    return new


def _clipped_outputs(base: Mapping[str, Tensor], tuned: Tensor, strength: float, group: Sequence[Place]) -> Tensor:
    """The weight that holds the output factors of a layer, each query head's change clipped."""
    new = tuned.clone()
    for place in group:
        own, before = place.output.of({place.output.weight: new}), place.output.of(base)
        change = difference(before, own)
        _, values, right = Factored(place.value.of(base).to(change), change).singular_vectors()
        own.copy_(own.to(change.dtype) - (change @ right.T) * _removed(values, strength) @ right)
    return new


def _removed(values: Float[Tensor, " values"], strength: float) -> Float[Tensor, " values"]:
    """The share of each singular value that clipping takes away."""
    most = (1 - strength) * values.max()
    return torch.where(values > most, 1 - most / values, torch.zeros_like(values))
