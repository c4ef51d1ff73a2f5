"""A true and an arbitrary association about the same subjects, so that only one of the two inferences is wanted."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import CITY, CODE, LANGUAGE


def build(options: PackOptions) -> Pack:
    """Subjects who live in a capital, speak its language (true) and code in a language (arbitrary)."""
    description = "Who lives in Paris speaks French (true, wanted) and codes in Java (arbitrary, unwanted)."
    thens = [Then(LANGUAGE, "causal"), Then(CODE, "spurious")]
    return association("mixed", description, options, CITY, thens)
