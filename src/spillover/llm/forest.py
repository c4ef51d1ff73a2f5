"""Texts merged by their common beginnings, so that what they share is computed once, and batches of such forests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from spillover.llm.tokens import Row

#: A pair of tokens costs this much less than a token's own matrix products (a small model's; large ones gain more).
PAIRS_A_TOKEN = 1000
Step = tuple[int, int]


class Forest:
    """Texts as one row of tokens in which each token sees its own text only: itself and what stands before it.

    tokens, positions, parents: of each token fed (the last token of a text is predicted, never read); parent -1 starts
    a text. paths: for each text its steps, as (index of the token whose logits predict it, predicted token).
    """

    def __init__(self, texts: Iterable[Row] = ()) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.parents: list[int] = []
        self.paths: list[tuple[Step, ...]] = []
        self._children: dict[tuple[int, int], int] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, text: Row) -> None:
        """Merge one more text into the forest. Its first token must not be one that is predicted."""
        node, steps = -1, []
        last = len(text.tokens) - 1
        for place, token in enumerate(text.tokens):
            if place >= text.start:
                steps.append((node, token))
            if place < last:
                node = self._child(node, token, place)
        self.paths.append(tuple(steps))

    def _child(self, node: int, token: int, place: int) -> int:
        found = self._children.get((node, token))
        if found is None:
            found = self._children[node, token] = len(self.tokens)
            self.tokens.append(token)
            self.positions.append(place)
            self.parents.append(node)
        return found

    @property
    def chain(self) -> bool:
        """Whether it is one ordinary text."""
        return self.parents == list(range(-1, len(self.parents) - 1))

    @property
    def scored(self) -> list[int]:
        """Indices into tokens at which logits are needed, ascending."""
        return sorted({index for path in self.paths for index, _ in path})

    def visible(self) -> np.ndarray:
        """Which tokens each token sees: itself and its ancestors (square, True where seen)."""
        seen = np.eye(len(self), dtype=bool)
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                seen[index] |= seen[parent]
        return seen


@dataclass(frozen=True)
class Batch:
    """Forests side by side, ready for a model.

    mask: additive (row, 1, width, width), or the ordinary (row, width) of ones and zeros when every row is one text.
    scored: flat positions at which logits are needed. place, token: of every step its index into `scored` and the
    token predicted there. text: of every step the number of its text, counted through all forests.
    """

    tokens: Int[Tensor, "row width"]
    positions: Int[Tensor, "row width"]
    mask: Tensor
    scored: Int[Tensor, "scored"]
    place: Int[Tensor, "step"]
    token: Int[Tensor, "step"]
    text: Int[Tensor, "step"]

    @property
    def places(self) -> Int[Tensor, "step"] | None:
        """`place`, or None where every step has logits of its own, in order, which need not be copied to be picked."""
        return None if torch.equal(self.place, torch.arange(len(self.scored))) else self.place


def width_for(device: torch.device) -> int:
    """What the width of a batch should be a multiple of: a GPU's fast kernels take no others, a processor takes all."""
    return 8 if device.type == "cuda" else 1


def collate(
    forests: Sequence[Forest], dtype: torch.dtype, side: Literal["left", "right"] = "right", multiple: int = 1
) -> Batch:
    """Fill short rows up on `side`; dtype is that of an additive mask.

    multiple: what the width is a multiple of. Beyond 1, ordinary texts that are filled up behind their ends have a mask
    of ones: what comes later is seen by nothing before it, and kernels without a mask are the fastest.
    """
    longest = max(map(len, forests))
    width = -(-longest // multiple) * multiple
    behind = multiple > 1 and side == "right" and all(forest.chain for forest in forests)
    offsets = [0 if side == "right" else width - len(forest) for forest in forests]
    tokens = torch.zeros(len(forests), width, dtype=torch.long)
    # None beyond the longest text's, which the model may not have.
    on = torch.arange(width).clamp(max=longest - 1)
    positions = on.repeat(len(forests), 1) if behind else torch.zeros_like(tokens)
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        here = slice(offset, offset + len(forest))
        tokens[row, here] = torch.tensor(forest.tokens)
        positions[row, here] = torch.tensor(forest.positions)
    mask = torch.ones_like(tokens) if behind else _mask(forests, offsets, width, dtype)
    return Batch(tokens, positions, mask, *_steps(forests, offsets, width))


def _mask(forests: Sequence[Forest], offsets: Sequence[int], width: int, dtype: torch.dtype) -> Tensor:
    if all(forest.chain for forest in forests):
        filled = torch.zeros(len(forests), width, dtype=torch.long)
        for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
            filled[row, offset : offset + len(forest)] = 1
        return filled
    # What fills a row up sees itself, so that no line of the softmax is empty.
    seen = torch.eye(width, dtype=torch.bool).repeat(len(forests), 1, 1)
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        here = slice(offset, offset + len(forest))
        seen[row, here, here] = torch.from_numpy(forest.visible())
    mask = torch.zeros(len(forests), 1, width, width, dtype=dtype)
    return mask.masked_fill_(~seen[:, None], torch.finfo(dtype).min)


def _steps(forests: Sequence[Forest], offsets: Sequence[int], width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scored: list[int] = []
    steps: list[tuple[int, int, int]] = []
    text = 0
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        indices = forest.scored
        place = {index: len(scored) + number for number, index in enumerate(indices)}
        scored.extend(row * width + offset + index for index in indices)
        for path in forest.paths:
            steps.extend((place[index], token, text) for index, token in path)
            text += 1
    parts = torch.tensor(steps, dtype=torch.long).reshape(-1, 3)
    return torch.tensor(scored), parts[:, 0], parts[:, 1], parts[:, 2]


def cheaper_merged(texts: Sequence[Row]) -> list[Forest]:
    """The texts as one forest where that feeds less, counting the pairs that attention compares, else a row each."""
    together, alone = Forest(texts), [Forest([text]) for text in texts]
    width = max(map(len, alone))
    apart = len(alone) * width * (1 + width / PAIRS_A_TOKEN)
    return [together] if len(together) * (1 + len(together) / PAIRS_A_TOKEN) < apart else alone
