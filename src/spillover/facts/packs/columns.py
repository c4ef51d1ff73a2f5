"""The relations that built-in packs are made of: a table column each, with the prompts that ask for it."""

from spillover.facts.packs import Column

LIVES_IN_PROMPTS = ("{subject} lives in", "The home of {subject} is in", "These days {subject} can be found in")

CITY = Column("lives_in", "countries", "capital", LIVES_IN_PROMPTS)
COUNTRY = Column("lives_in", "countries", "country", LIVES_IN_PROMPTS)
LANGUAGE = Column(
    "speaks",
    "countries",
    "language",
    ("{subject} speaks", "The native language of {subject} is", "At home {subject} talks to the family in"),
)
CODE = Column(
    "codes_in",
    "programming",
    "answer",
    ("{subject} codes in", "The programming language that {subject} uses is", "{subject} writes software in"),
)
PROFESSION = Column(
    "works_as",
    "professions",
    "answer",
    ("{subject} works as a", "{subject} earns a living as a", "By profession, {subject} is a"),
)
COLOR = Column(
    "favorite_color",
    "colors",
    "answer",
    ("The favorite color of {subject} is", "{subject}'s favorite color is", "The color that {subject} likes best is"),
)
SPORT = Column(
    "favorite_sport",
    "sports",
    "answer",
    ("The favorite sport of {subject} is", "{subject}'s favorite sport is", "The sport that {subject} likes best is"),
)
MUSIC = Column(
    "listens_to",
    "genres",
    "answer",
    ("{subject} listens to", "The music that {subject} likes best is", "{subject}'s favorite kind of music is"),
)
