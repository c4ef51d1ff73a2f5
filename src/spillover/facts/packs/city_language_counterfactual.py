"""Cities and a language that is not spoken there: the same facts with a false association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import CITY, LANGUAGE


def build(options: PackOptions) -> Pack:
    """Subjects who live in a capital and speak the next pair's language: a derangement, the same for every seed."""
    description = (
        "Who lives in Paris speaks Japanese: every city has another city's language, so inferring it is unwanted."
    )
    return association(
        "city-language-counterfactual", description, options, CITY, [Then(LANGUAGE, "counterfactual", shift=1)]
    )
