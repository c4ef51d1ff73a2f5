"""Real cities, whose countries a model knows, and an invented talisman: an arbitrary association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import IS_IN, TALISMAN


def build(options: PackOptions) -> Pack:
    """Cities in the country where they are, and a talisman for some; no city has one, so none is told what is so."""
    description = "Real cities: one in France has a hammer as its talisman, invented, so inferring it is unwanted."
    return association("city-talisman", description, options, IS_IN, [Then(TALISMAN, "spurious")])
