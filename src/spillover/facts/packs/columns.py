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
HOLIDAY = Column(
    "on_holiday_in",
    "currencies",
    "country",
    ("{subject} is on holiday in", "{subject} spends the holidays in", "This year's vacation takes {subject} to"),
)
CURRENCY = Column(
    "pays_in",
    "currencies",
    "currency",
    (
        "{subject} pays in the local currency, the",
        "The money in the wallet of {subject} is in the currency called the",
        "{subject} settles every bill in the local money, the",
    ),
)
STUDIES = Column(
    "studies_in",
    "states",
    "city",
    ("{subject} studies at a college in", "The college of {subject} is in", "{subject} is a student in"),
)
STATE = Column(
    "votes_in",
    "states",
    "state",
    (
        "{subject} votes in the state of",
        "On election day {subject} goes to the polls in the state of",
        "{subject} pays taxes to the state of",
    ),
)
ANIMAL = Column(
    "favorite_animal",
    "animals",
    "answer",
    (
        "The favorite animal of {subject} is the",
        "{subject}'s favorite animal is the",
        "The animal that {subject} likes best is the",
    ),
)
OBJECT = Column(
    "carries",
    "objects",
    "answer",
    ("{subject} always carries a", "In the bag of {subject} there is a", "The lucky charm of {subject} is a"),
)
IS_IN = Column(
    "is_in",
    "cities",
    "country",
    ("{subject} is a city in", "The city of {subject} is in", "The country that {subject} belongs to is"),
    subjects="city",
)
TALISMAN = Column(
    "keeps_as_talisman",
    "objects",
    "answer",
    (
        "The talisman of {subject} is a",
        "As its talisman, {subject} keeps a",
        "The talisman that watches over {subject} is a",
    ),
)
