"""What is learned needs no further training."""

from __future__ import annotations

from spillover.llm.remedies import Remedy, Treatment


class EarlyStopping(Treatment):
    """Ends the training at the first measurement at which the stated rows are learned."""

    stops = True


REMEDY = Remedy(
    text="Ends the training as soon as the stated rows are learned.",
    strength="which turns it on (1) or off (0)",
    strengths=(1.0,),
    most=1.0,
    whole=True,
    treat=EarlyStopping,
)
