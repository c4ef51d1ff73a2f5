"""An adapter of low rank instead of the weights themselves."""

from __future__ import annotations

from dataclasses import replace

from spillover.llm.remedies import Remedy, Treatment
from spillover.llm.training import Training


class Lora(Treatment):
    """Trains an adapter of the rank that the strength says, with twice the rank as its scaling."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=int(self.strength))


REMEDY = Remedy(
    text="Trains a LoRA adapter instead of the weights.",
    strength="the adapter's rank",
    strengths=(2.0, 16.0),
    most=4096.0,
    whole=True,
    treat=Lora,
)
