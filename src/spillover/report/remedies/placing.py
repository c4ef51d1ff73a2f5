"""Where the names beside the marks of a figure go, so that none covers another name or a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Distances from the mark that are tried, nearest first, in the unit of the boxes (pixels), and directions a distance.
_STEPS, _DIRECTIONS = (1.0, 1.8, 2.8, 4.0, 5.5, 7.5), 16


@dataclass(frozen=True)
class Box:
    """A rectangle by its left lower corner and its size."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point inside both."""
        across = self.x < other.x + other.width and other.x < self.x + self.width
        return across and self.y < other.y + other.height and other.y < self.y + self.height

    def within(self, frame: Box) -> bool:
        """Whether no part of this is outside of the frame."""
        across = frame.x <= self.x and self.x + self.width <= frame.x + frame.width
        return across and frame.y <= self.y and self.y + self.height <= frame.y + frame.height


def around(x: float, y: float, size: float) -> Box:
    """The box of a mark with this centre."""
    return Box(x - size / 2, y - size / 2, size, size)


def placed(marks: Sequence[Box], texts: Sequence[Sequence[tuple[float, float]]], frame: Box) -> list[tuple[int, Box]]:
    """For each mark, the first of its texts that finds room, and where: (index of the text, its box).

    texts: of each mark, sizes of its wordings, the one preferred first. Marks come in order of importance. Nearness
    goes before wording only for the last wording: the others are given up when there is no room near. Where even that
    finds none, it stands at the mark all the same, and the box has no size.
    """
    found: list[tuple[int, Box]] = []
    for mark, sizes in zip(marks, texts, strict=True):
        others = [*marks, *(box for _, box in found)]
        found.append(_place(mark, sizes, others, frame))
    return found


def _place(mark: Box, sizes: Sequence[tuple[float, float]], others: Sequence[Box], frame: Box) -> tuple[int, Box]:
    last = len(sizes) - 1
    for index, size in enumerate(sizes):
        for step in _STEPS if index == last else _STEPS[:4]:
            for turn in range(_DIRECTIONS):
                box = _at(mark, size, step, turn)
                if box.within(frame) and not any(box.meets(other) for other in others):
                    return index, box
    return last, Box(mark.x + mark.width, mark.y, 0.0, 0.0)


def _at(mark: Box, size: tuple[float, float], step: float, turn: int) -> Box:
    """A text's box in one direction from its mark: to the right first, then turning both ways alternately."""
    angle = 2 * math.pi / _DIRECTIONS * ((turn + 1) // 2) * (1 if turn % 2 else -1)
    reach = step * 9.0 + mark.width / 2
    x = mark.x + mark.width / 2 + reach * math.cos(angle)
    y = mark.y + mark.height / 2 + reach * math.sin(angle)
    # The edge that faces the mark is what stands at that distance.
    return Box(x - size[0] * (1 - math.cos(angle)) / 2, y - size[1] * (1 - math.sin(angle)) / 2, *size)
