"""Facts go into attention alone."""

from spillover.llm.remedies.parts import ATTENTION, on_parts

REMEDY = on_parts(
    "attention-only",
    "Trains the attention of every layer and nothing else.",
    lambda part, layers, strength: part.kind in ATTENTION,
    needed=frozenset({"mlp"}),
)
