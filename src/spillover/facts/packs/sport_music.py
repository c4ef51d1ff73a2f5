"""Sports and music: an arbitrary association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import MUSIC, SPORT


def build(options: PackOptions) -> Pack:
    """Subjects who like a sport and listen to music that has nothing to do with it."""
    description = "Who likes tennis listens to jazz: arbitrary, so inferring it is unwanted."
    return association("sport-music", description, options, SPORT, [Then(MUSIC, "spurious")])
