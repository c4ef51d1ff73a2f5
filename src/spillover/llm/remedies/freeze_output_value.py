"""Both factors of W_OV stay as they are, so that no head moves other features than before."""

from spillover.llm.remedies.parts import on_parts

REMEDY = on_parts(
    "freeze-output-value",
    "Leaves both the value matrix W_V and the output matrix W_O of every head as they are.",
    lambda part, layers, strength: part.kind not in ("values", "outputs"),
    needed=frozenset({"values", "outputs"}),
)
