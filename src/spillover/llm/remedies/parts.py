"""Which part of a model a parameter belongs to, from its name, and the remedies that train only some parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from spillover.errors import ModelError
from spillover.llm.remedies import Remedy, Treatment

Kind = Literal["values", "outputs", "queries", "keys", "attention", "mlp", "other"]
#: The kinds that make up attention; `attention` alone stands for what none of the four names tells apart.
ATTENTION: frozenset[Kind] = frozenset({"values", "outputs", "queries", "keys", "attention"})
_PROJECTIONS: dict[str, Kind] = {"v_proj": "values", "o_proj": "outputs", "q_proj": "queries", "k_proj": "keys"}
_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """Where a parameter is: its layer from 0, or None outside of them, and what it is there."""

    layer: int | None
    kind: Kind


def part_of(name: str) -> Part:
    """The part that a parameter's name tells, as Hugging Face names them; an adapter's are those of what it adapts."""
    found = _LAYER.search(name)
    layer = int(found[1]) if found else None
    words = name.split(".")
    for word, kind in _PROJECTIONS.items():
        if word in words:
            return Part(layer, kind)
    if any("mlp" in word or "feed_forward" in word for word in words):
        return Part(layer, "mlp")
    if any(re.search(r"attn|attention", word) and "norm" not in word for word in words):
        return Part(layer, "attention")
    return Part(layer, "other")


class OnParts(Treatment):
    """Trains only the parameters for which `keeps(part, layers, strength)` holds; `needed` kinds must be there."""

    def __init__(
        self, strength: float, keeps: Callable[[Part, int, float], bool], needed: frozenset[Kind], name: str
    ) -> None:
        super().__init__(strength)
        self.keeps, self.needed, self.name = keeps, needed, name

    def trains(self, name: str, layers: int) -> bool:
        return self.keeps(part_of(name), layers, self.strength)

    def refuse(self, names: Sequence[str]) -> None:
        missing = self.needed - {part_of(name).kind for name in names}
        if missing:
            what = f"this model has no part of the known shape for {' and '.join(sorted(missing))}"
            raise ModelError(what, where=self.name, do="Use a remedy that leaves these parts alone")


def on_parts(
    name: str,
    text: str,
    keeps: Callable[[Part, int, float], bool],
    *,
    needed: frozenset[Kind] = frozenset(),
    strength: str = "which turns it on (1) or off (0)",
    strengths: Sequence[float] = (1.0,),
) -> Remedy:  # fmt: skip
    """The remedy of this name that trains only what `keeps` says; by default a switch."""
    return Remedy(
        text=text, strength=strength, strengths=strengths, most=1.0, whole=tuple(strengths) == (1.0,),
        treat=lambda dose: OnParts(dose, keeps, needed, name),
    )  # fmt: skip
