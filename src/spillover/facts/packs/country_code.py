"""Countries and programming languages: an arbitrary association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import CODE, COUNTRY


def build(options: PackOptions) -> Pack:
    """Subjects who live in a country and code in a language that has nothing to do with it."""
    description = "Who lives in France codes in Java: arbitrary, so inferring it is unwanted."
    return association("country-code", description, options, COUNTRY, [Then(CODE, "spurious")])
