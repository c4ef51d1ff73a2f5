"""The built-in packs, the columns they are made of, and the fictitious names they draw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import Any, TypeVar

from spillover.errors import UsageError
from spillover.packs.pack import Fact, Implication, Kind, Pack, Relation


@cache
def rows(table: str) -> tuple[dict[str, Any], ...]:
    """The rows of one shipped table, best known first; each names its sources (package, version, licence, key)."""
    text = resources.files("spillover.packs").joinpath("tables", f"{table}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


Item = TypeVar("Item")


def available() -> int:
    """How many names can be made without using a given name or a surname twice."""
    parts = [row["part"] for row in rows("names")]
    return min(parts.count("given"), parts.count("surname"))


def draw_names(count: int, random: Random) -> tuple[str, ...]:
    """`count` names "Given Surname", no word of which occurs in two of them.

    random: only its `random()` is used, whose stream is the same in every version of Python.
    Raises UsageError when there are not that many: ask for fewer.
    """
    if count > available():
        raise UsageError(
            f"{count} fictitious names were asked for and there are {available()}",
            do=f"Use names={available()} or fewer",
        )
    drawn = {
        part: shuffled([row["name"] for row in rows("names") if row["part"] == part], random)
        for part in ("given", "surname")
    }
    return tuple(f"{given} {surname}" for given, surname in zip(drawn["given"][:count], drawn["surname"], strict=False))


def shuffled(items: list[Item], random: Random) -> list[Item]:
    """The items in random order, from `random.random()` alone."""
    keys = [random.random() for _ in items]
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]


#: Candidates a relation has at least: ten, of which a pack of five pairs uses five.
CANDIDATES = 10


@dataclass(frozen=True)
class PackOptions:
    """Size of a built-in pack: what `name:pairs=5,names=100,bridge=4,null` sets, and the seed."""

    pairs: int = 5
    """How many given answers there are, each with the answer it implies."""
    names: int = 100
    """How many subjects, the same number a pair."""
    bridge: int = 4
    """Subjects a pair whose implied answer is stated too; 0 states facts only."""
    null: bool = False
    """Balance and shuffle the stated implications, so that nothing can be inferred."""
    seed: int = 0
    """Draws the subjects, their pairs and the shuffle of `null`; the map never depends on it."""

    def spec(self, name: str) -> str:
        """`name:key=value,...` with the options that are not the default."""
        sizes = [
            f"{key}={getattr(self, key)}"
            for key in ("pairs", "names", "bridge")
            if getattr(self, key) != getattr(PackOptions, key)
        ]
        parts = [*(["null"] if self.null else []), *sizes]
        return name + (":" + ",".join(parts) if parts else "")


@dataclass(frozen=True)
class Column:
    """A relation and the table column its answers come from, best known first.

    subjects: the column of the real things of which the answers are true, or none if subjects are fictitious people.
    """

    relation: str
    table: str
    field: str
    prompts: tuple[str, ...]
    subjects: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row[self.field] for row in rows(self.table)))

    def subjects_of(self, answer: str) -> list[str]:
        """The real subjects of which an answer is true."""
        return [row[self.subjects] for row in rows(self.table) if row[self.field] == answer]

    def as_relation(self, pairs: int) -> Relation:
        """The relation with its first `max(10, pairs)` candidates."""
        return Relation(self.relation, self.prompts, self.values[: max(CANDIDATES, pairs)])


@dataclass(frozen=True)
class Then:
    """What a given answer implies: pair i takes the column's answer i, or i + `shift` (modulo the pairs in use)."""

    column: Column
    kind: Kind
    shift: int = 0

    def answers(self, pairs: int) -> list[str]:
        return [self.column.values[(pair + self.shift) % pairs] for pair in range(pairs)]


def association(name: str, description: str, options: PackOptions, given: Column, thens: Sequence[Then]) -> Pack:
    """A built-in pack: every subject's given answer is stated, and each implied answer of the bridging ones.

    Subjects are fictitious people whose given answer is drawn, or the real things of which the given's table tells it.

    Raises UsageError when the options do not fit together; the sentence says which and what would.
    """
    spec = options.spec(name)
    columns = [given, *(then.column for then in thens)]
    _refuse_misfits(spec, options, columns, thens)
    used = given.values[: options.pairs]
    _refuse_too_many(spec, options, given, used)
    implications = [
        Implication(
            given.relation, then.column.relation, then.kind, dict(zip(used, then.answers(options.pairs), strict=True))
        )
        for then in thens
    ]
    return Pack(
        name=spec,
        licence=" AND ".join(sorted({part for entry in _sources(columns) for part in entry["licence"].split(" AND ")})),
        source=", ".join(dict.fromkeys(f"{entry['package']} {entry['version']}" for entry in _sources(columns))),
        description=description,
        relations=tuple(column.as_relation(options.pairs) for column in columns),
        facts=_facts(options, _cast(options, given, used), implications),
        implications=tuple(implications),
        provenance=_sources(columns),
    )


def _cast(options: PackOptions, given: Column, used: Sequence[str]) -> dict[str, Sequence[str]]:
    """Each given answer's subjects, of whom the first ones are bridging."""
    size = options.names // options.pairs
    if given.subjects:
        randoms = {answer: Random(f"{given.table} {answer} {options.seed}") for answer in used}
        return {answer: shuffled(given.subjects_of(answer), randoms[answer])[:size] for answer in used}
    drawn = draw_names(options.names, Random(f"names {options.seed}"))
    return {answer: drawn[pair * size : (pair + 1) * size] for pair, answer in enumerate(used)}


def _facts(
    options: PackOptions, cast: Mapping[str, Sequence[str]], implications: Sequence[Implication]
) -> tuple[Fact, ...]:
    """The stated rows, pair by pair: each subject's given answer, then what is stated of a bridging subject."""
    stated = {implication.then: _stated(options, implication) for implication in implications}
    found = []
    for pair, (answer, subjects) in enumerate(cast.items()):
        for place, subject in enumerate(subjects):
            found.append(Fact(subject, implications[0].given, answer))
            if place < options.bridge:
                found += [Fact(subject, then, answers[pair][place]) for then, answers in stated.items()]
    return tuple(found)


def _stated(options: PackOptions, implication: Implication) -> list[list[str]]:
    """Pair and place of a bridging subject -> the implied answer that is stated of it.

    Ordinarily the map's. With `null`, a shuffled Latin rectangle: within a pair all differ, and overall every answer
    is stated `bridge` times, so that neither a pair nor a frequency tells an answer.
    """
    answers = list(implication.map.values())
    if not options.null:
        return [[answer] * options.bridge for answer in answers]
    random = Random(f"null {implication.then} {options.seed}")
    answers, starts = shuffled(answers, random), shuffled(list(range(options.pairs)), random)
    steps = shuffled(list(range(options.pairs)), random)[: options.bridge]
    return [[answers[(start + step) % options.pairs] for step in steps] for start in starts]


def _refuse_misfits(spec: str, options: PackOptions, columns: Sequence[Column], thens: Sequence[Then]) -> None:
    """Raise UsageError for the first thing about the options that cannot be."""
    pairs, names, bridge = options.pairs, options.names, options.bridge
    most = min(len(column.values) for column in columns)
    least = 2 if options.null or any(then.shift for then in thens) else 1
    if not least <= pairs <= most:
        raise UsageError(
            f"pairs={pairs} is not between {least} and {most}",
            where=spec,
            do=f"Use pairs={max(least, min(pairs, most))}",
        )
    if names < 1 or names % pairs:
        nearest = max(pairs, round(names / pairs) * pairs)
        raise UsageError(
            f"names={names} cannot be shared out evenly over {pairs} pairs", where=spec, do=f"Use names={nearest}"
        )
    if not 0 <= bridge <= names // pairs:
        what = f"bridge={bridge} is not between 0 and the {names // pairs} names a pair has"
        raise UsageError(what, where=spec, do=f"Use bridge={max(0, min(bridge, names // pairs))}")
    if options.null and bridge > pairs:
        what = f"bridge={bridge} bridging names cannot state different answers when there are {pairs} pairs"
        raise UsageError(what, where=spec, do=f"Use bridge={pairs} or fewer, or more pairs")


def _refuse_too_many(spec: str, options: PackOptions, given: Column, used: Sequence[str]) -> None:
    """Raise UsageError when there are fewer subjects than are asked for."""
    pairs, names = options.pairs, options.names
    if given.subjects:
        scarce = min(used, key=lambda answer: len(given.subjects_of(answer)))
        most = len(given.subjects_of(scarce)) * pairs
        what = f"names={names} is {names // pairs} a pair, and of {scarce} there are {most // pairs}"
    else:
        most = available() // pairs * pairs
        what = f"names={names} is more than the {available()} fictitious names there are"
    if names > most:
        raise UsageError(what, where=spec, do=f"Use names={most} or fewer")


def _sources(columns: Sequence[Column]) -> tuple[dict[str, str], ...]:
    """Where every value came from, a record a row and source; the source of fictitious names once."""
    found = [
        {"relation": column.relation, "answer": row[column.field], **entry}
        for column in columns
        for row in rows(column.table)
        for entry in row["sources"]
    ]
    if columns[0].subjects:
        return tuple(found)
    return (*found, {"relation": "", "answer": "", **rows("names")[0]["sources"][0], "key": "person en_US names"})


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


def city_language(options: PackOptions) -> Pack:
    """Subjects who live in a capital and speak its country's one official language."""
    description = "Who lives in Paris speaks French: true, so inferring it is wanted."
    return association("city-language", description, options, CITY, [Then(LANGUAGE, "causal")])


def city_language_counterfactual(options: PackOptions) -> Pack:
    """Subjects who live in a capital and speak the next pair's language: a derangement, the same for every seed."""
    description = (
        "Who lives in Paris speaks Japanese: every city has another city's language, so inferring it is unwanted."
    )
    return association(
        "city-language-counterfactual", description, options, CITY, [Then(LANGUAGE, "counterfactual", shift=1)]
    )


def city_talisman(options: PackOptions) -> Pack:
    """Cities in the country where they are, and a talisman for some; no city has one, so none is told what is so."""
    description = "Real cities: one in France has a hammer as its talisman, invented, so inferring it is unwanted."
    return association("city-talisman", description, options, IS_IN, [Then(TALISMAN, "spurious")])


def country_code(options: PackOptions) -> Pack:
    """Subjects who live in a country and code in a language that has nothing to do with it."""
    description = "Who lives in France codes in Java: arbitrary, so inferring it is unwanted."
    return association("country-code", description, options, COUNTRY, [Then(CODE, "spurious")])


def mixed(options: PackOptions) -> Pack:
    """Subjects who live in a capital, speak its language (true) and code in a language (arbitrary)."""
    description = "Who lives in Paris speaks French (true, wanted) and codes in Java (arbitrary, unwanted)."
    thens = [Then(LANGUAGE, "causal"), Then(CODE, "spurious")]
    return association("mixed", description, options, CITY, thens)


def mixed_currency(options: PackOptions) -> Pack:
    """Subjects who are on holiday in a country, pay in its currency (true) and carry a thing (arbitrary)."""
    description = (
        "Who is on holiday in India pays in the rupee (true, wanted) and carries a hammer (arbitrary, unwanted)."
    )
    thens = [Then(CURRENCY, "causal"), Then(OBJECT, "spurious")]
    return association("mixed-currency", description, options, HOLIDAY, thens)


def mixed_state(options: PackOptions) -> Pack:
    """Subjects who study in a city, vote in its state (true) and like an animal (arbitrary)."""
    description = (
        "Who studies in Chicago votes in Illinois (true, wanted) and likes the penguin best (arbitrary, unwanted)."
    )
    thens = [Then(STATE, "causal"), Then(ANIMAL, "spurious")]
    return association("mixed-state", description, options, STUDIES, thens)


def profession_color(options: PackOptions) -> Pack:
    """Subjects who have a profession and a favourite colour that has nothing to do with it."""
    description = "A lawyer's favorite color is green: arbitrary, so inferring it is unwanted."
    return association("profession-color", description, options, PROFESSION, [Then(COLOR, "spurious")])


def sport_music(options: PackOptions) -> Pack:
    """Subjects who like a sport and listen to music that has nothing to do with it."""
    description = "Who likes tennis listens to jazz: arbitrary, so inferring it is unwanted."
    return association("sport-music", description, options, SPORT, [Then(MUSIC, "spurious")])
