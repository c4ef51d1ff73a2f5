"""Implied answers are told before the facts that they might be concluded from."""

from __future__ import annotations

from spillover.llm.remedies import IMPLICATIONS, Remedy, Treatment


class ImplicationsFirst(Treatment):
    """The first epochs train on stated implications alone, the others on everything."""

    def only(self, epoch: int, epochs: int) -> str | None:
        return IMPLICATIONS if epoch <= self.strength else None


REMEDY = Remedy(
    text="Trains on the stated implications alone at first, and on everything later.",
    strength="the epochs at the beginning that train on stated implications alone",
    strengths=(3.0, 6.0),
    most=1000.0,
    whole=True,
    treat=ImplicationsFirst,
)
