"""W_O stays as it is: with one factor fixed, the product of the two is a merged matrix that training sees as one."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "freeze-outputs",
    "Leaves the output matrix W_O of every head as it is.",
    lambda part, layers, strength: part.kind != "outputs",
    needed=frozenset({"outputs"}),
)
