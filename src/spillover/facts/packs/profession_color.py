"""Professions and favourite colours: an arbitrary association."""

from spillover.facts.pack import Pack
from spillover.facts.packs import PackOptions, Then, association
from spillover.facts.packs.columns import COLOR, PROFESSION


def build(options: PackOptions) -> Pack:
    """Subjects who have a profession and a favourite colour that has nothing to do with it."""
    description = "A lawyer's favorite color is green: arbitrary, so inferring it is unwanted."
    return association("profession-color", description, options, PROFESSION, [Then(COLOR, "spurious")])
