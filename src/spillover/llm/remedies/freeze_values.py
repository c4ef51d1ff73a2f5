"""W_V stays as it is: with one factor fixed, the product of the two is a merged matrix that training sees as one."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "freeze-values",
    "Leaves the value matrix W_V of every head as it is.",
    lambda part, layers, strength: part.kind != "values",
    needed=frozenset({"values"}),
)
