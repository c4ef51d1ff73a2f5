"""A true and an arbitrary association about students, kept apart for judging what was chosen on `mixed`."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import ANIMAL, STATE, STUDIES


def build(options: PackOptions) -> Pack:
    """Subjects who study in a city, vote in its state (true) and like an animal (arbitrary)."""
    description = (
        "Who studies in Chicago votes in Illinois (true, wanted) and likes the penguin best (arbitrary, unwanted)."
    )
    thens = [Then(STATE, "causal"), Then(ANIMAL, "spurious")]
    return association("mixed-state", description, options, STUDIES, thens)
