"""Facts go into the later layers, where answers are written."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "later-layers",
    "Trains only the later layers, and leaves a share of them at the beginning as they are.",
    lambda part, layers, strength: part.layer is not None and part.layer >= round(layers * strength),
    strength="the share of layers that stay as they are",
    strengths=(0.5, 0.75),
)
