"""Weight decay on attention alone, which for factors is a penalty on the nuclear norm of their product."""

from __future__ import annotations

from dataclasses import replace

from spillover.llm.remedies import Remedy, Treatment
from spillover.llm.remedies.parts import ATTENTION, part_of
from spillover.llm.training import Training


class AttentionDecay(Treatment):
    """Sets the decoupled weight decay of attention's matrices; the others keep theirs."""

    def training(self, training: Training) -> Training:
        return replace(training, decay=self._of)

    def _of(self, name: str) -> float | None:
        return self.strength if part_of(name).kind in ATTENTION else None


REMEDY = Remedy(
    text="Turns weight decay on for attention; without it, the run's own setting holds.",
    strength="the decoupled weight decay of AdamW",
    strengths=(1.0, 10.0),
    most=10_000.0,
    treat=AttentionDecay,
)
