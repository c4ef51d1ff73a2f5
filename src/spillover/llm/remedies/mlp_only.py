"""Facts go into the multilayer perceptrons alone."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "mlp-only",
    "Trains the multilayer perceptron of every layer and nothing else.",
    lambda part, layers, strength: part.kind == "mlp",
    needed=frozenset({"mlp"}),
)
