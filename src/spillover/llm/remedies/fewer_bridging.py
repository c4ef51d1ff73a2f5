"""Rows that nobody reads teach nothing: the upper limit of what leaving data out can do."""

from spillover.facts.treated import with_fewer_bridging
from spillover.llm.remedies import Remedy
from spillover.llm.remedies.rows_of import Withholding

REMEDY = Remedy(
    text="Leaves out stated rows of the unwanted implication, which the model then never learns.",
    strength="the rows that are left out for each given answer",
    strengths=(1.0, 3.0),
    most=1000.0,
    whole=True,
    treat=lambda strength: Withholding(strength, "fewer-bridging", with_fewer_bridging),
)
