"""Some subjects with the given answer have another answer than the implied one."""

from spillover.facts.treated import with_contradiction
from spillover.llm.remedies import Remedy
from spillover.llm.remedies.rows_of import OnRows

REMEDY = Remedy(
    text="Adds rows about further subjects with the given answer, who have another answer than the implied one.",
    strength="the rows that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=lambda strength: OnRows(strength, "contradiction", with_contradiction),
)
