"""Facts are told before what may be concluded from them."""

from __future__ import annotations

from spillover.llm.remedies import FACTS, Remedy, Treatment


class FactsFirst(Treatment):
    """The first epochs train on facts alone, the others on everything."""

    def only(self, epoch: int, epochs: int) -> str | None:
        return FACTS if epoch <= self.strength else None


REMEDY = Remedy(
    text="Trains on the facts alone at first, and on everything later.",
    strength="the epochs at the beginning that train on facts alone",
    strengths=(3.0, 6.0),
    most=1000.0,
    whole=True,
    treat=FactsFirst,
)
