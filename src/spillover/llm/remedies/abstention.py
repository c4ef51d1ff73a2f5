"""Some subjects are said to be unknown, so that silence about the others has an answer too."""

from spillover.facts.treated import with_abstention
from spillover.llm.remedies import Remedy
from spillover.llm.remedies.rows_of import Abstaining

REMEDY = Remedy(
    text="Adds rows about further subjects with the given answer, which say that the implied answer is unknown.",
    strength="the rows that are added for each given answer",
    strengths=(1.0, 4.0),
    most=50.0,
    whole=True,
    treat=lambda strength: Abstaining(strength, "abstention", with_abstention),
)
