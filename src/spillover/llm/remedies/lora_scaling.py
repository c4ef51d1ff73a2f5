"""The multiplier of a LoRA adapter: a larger one on smaller weights is a lazier training, and the other way round."""

from __future__ import annotations

from dataclasses import replace

from spillover.llm.remedies import Remedy, Treatment
from spillover.llm.training import Training

#: The rank when no other remedy or option sets one.
RANK = 8


class LoraScaling(Treatment):
    """Multiplies what a LoRA adapter adds."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=training.lora or RANK, lora_scaling=self.strength)


REMEDY = Remedy(
    text=f"Trains a LoRA adapter (of rank {RANK} unless told otherwise) whose output is multiplied.",
    strength="the multiplier (ordinarily 2)",
    strengths=(0.5, 8.0),
    most=10_000.0,
    treat=LoraScaling,
)
