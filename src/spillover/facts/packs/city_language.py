"""Cities and the language spoken there: a true association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import CITY, LANGUAGE


def build(options: PackOptions) -> Pack:
    """Subjects who live in a capital and speak its country's one official language."""
    description = "Who lives in Paris speaks French: true, so inferring it is wanted."
    return association("city-language", description, options, CITY, [Then(LANGUAGE, "causal")])
