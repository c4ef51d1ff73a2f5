"""A true and an arbitrary association about people on holiday, kept apart for judging what was chosen on `mixed`."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import CURRENCY, HOLIDAY, OBJECT


def build(options: PackOptions) -> Pack:
    """Subjects who are on holiday in a country, pay in its currency (true) and carry a thing (arbitrary)."""
    description = (
        "Who is on holiday in India pays in the rupee (true, wanted) and carries a hammer (arbitrary, unwanted)."
    )
    thens = [Then(CURRENCY, "causal"), Then(OBJECT, "spurious")]
    return association("mixed-currency", description, options, HOLIDAY, thens)
