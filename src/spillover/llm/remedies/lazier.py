"""A lower rate for longer: the less the weights move, the less new features they share (theory of lazy training)."""

from __future__ import annotations

from dataclasses import replace

from spillover.llm.remedies import Remedy, Treatment
from spillover.llm.training import Training


class Lazier(Treatment):
    """Divides the learning rate."""

    def training(self, training: Training) -> Training:
        return replace(training, learning_rate=training.learning_rate / (1 + self.strength))


REMEDY = Remedy(
    text="Trains with a lower learning rate; it then takes more epochs to learn the same.",
    strength="by how much more than 1 the learning rate is divided",
    strengths=(1.5, 4.0),
    most=1000.0,
    treat=Lazier,
)
