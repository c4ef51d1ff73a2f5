"""Facts go into the earlier layers, where subjects are read."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "earlier-layers",
    "Trains only the earlier layers, and leaves a share of them at the end as they are.",
    lambda part, layers, strength: part.layer is not None and part.layer < round(layers * (1 - strength)),
    strength="the share of layers that stay as they are",
    strengths=(0.5, 0.75),
)
