"""The built-in packs of builtin.yaml: their tables, the fictitious names they draw, and the shelf `PACKS`.

A new pack is an entry of builtin.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from random import Random
from typing import Any, TypeVar

import yaml

from spillover.errors import UsageError, nearest
from spillover.packs.pack import Fact, Implication, Kind, Pack, Relation

Item = TypeVar("Item")


@cache
def rows(table: str) -> tuple[dict[str, Any], ...]:
    """The rows of one shipped table, best known first; each names its sources (package, version, licence, key)."""
    text = resources.files("spillover.packs").joinpath("tables", f"{table}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def shuffled(items: Sequence[Item], random: Random) -> list[Item]:
    """The items in random order, from `random.random()` alone, whose stream is the same in every Python."""
    keys = [random.random() for _ in items]
    return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]


def available() -> int:
    """How many names can be made without using a given name or a surname twice."""
    parts = [row["part"] for row in rows("names")]
    return min(parts.count("given"), parts.count("surname"))


def draw_names(count: int, random: Random) -> tuple[str, ...]:
    """`count` names "Given Surname", no word of which occurs in two of them. Raises UsageError for too many."""
    if count > available():
        what = f"{count} fictitious names were asked for and there are {available()}"
        raise UsageError(what, do=f"Use names={available()} or fewer")
    parts = ([row["name"] for row in rows("names") if row["part"] == part] for part in ("given", "surname"))
    given, surnames = (shuffled(names, random) for names in parts)
    return tuple(f"{first} {last}" for first, last in zip(given[:count], surnames, strict=False))


#: Candidates a relation has at least: ten, of which a pack of five pairs uses five.
CANDIDATES = 10
#: The options of a built-in pack that take a number.
SIZES = ("pairs", "names", "bridge")


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

    def spec(self, name: str, default: PackOptions | None = None) -> str:
        """`name:key=value,...` with the options that are not the default."""
        changed = [key for key in SIZES if getattr(self, key) != getattr(default or PackOptions, key)]
        parts = ["null"] * self.null + [f"{key}={getattr(self, key)}" for key in changed]
        return name + (":" + ",".join(parts) if parts else "")

    @classmethod
    def parse(cls, text: str, seed: int, where: str, default: PackOptions | None = None) -> PackOptions:
        """The options in `pairs=10,names=80,bridge=2,null`, and of `default` what it leaves out. Raises UsageError."""
        given: dict[str, Any] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            what = do = ""
            if key not in (*SIZES, "null"):
                what, do = f"a built-in pack has no option {key!r}", nearest(key, (*SIZES, "null"))
            elif key in given:
                what, do = f"the option {key!r} is given twice", "Give it once"
            elif key == "null" and equals:
                what, do = "the option 'null' takes no value", "Write null, or leave it out"
            elif key != "null" and not (value.isascii() and value.isdigit() and len(value) <= 6):
                what, do = f"{key}={value} is not a whole number", f"Write for instance {key}={getattr(cls, key)}"
            if what:
                raise UsageError(what, where=where, do=do)
            given[key] = True if key == "null" else int(value)
        return replace(default or cls(), seed=seed, **given)


@dataclass(frozen=True)
class ShippedRelation:
    """A relation and the column of a shipped table that its answers come from, best known first.

    subjects: the column of the real things of which the answers are true; empty if subjects are fictitious people.
    """

    relation: str
    table: str
    field: str
    prompts: Sequence[str]
    subjects: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row[self.field] for row in rows(self.table)))

    def subjects_of(self, answer: str) -> list[str]:
        """The real subjects of which an answer is true."""
        return [row[self.subjects] for row in rows(self.table) if row[self.field] == answer]


@dataclass(frozen=True)
class AssociationPack:
    """A built-in pack: every subject's given answer is stated, and each implied answer of the bridging subjects.

    Subjects are fictitious people whose given answer is drawn, or the real things of which the given's table says it.
    thens: kind -> the implied relation. Pair i implies its answer i, or i + 1 for "counterfactual", whatever the seed.
    """

    name: str
    description: str
    given: ShippedRelation
    thens: Mapping[Kind, ShippedRelation]
    options = PackOptions()

    def __call__(self, options: PackOptions) -> Pack:
        """The pack of this size. Raises UsageError when the options do not fit together."""
        spec, pairs, most = options.spec(self.name), options.pairs, max(CANDIDATES, options.pairs)
        for what, do in self._misfits(options):
            raise UsageError(what, where=spec, do=do)
        used, shipped = self.given.values[:pairs], [self.given, *self.thens.values()]
        implications = []
        for kind, then in self.thens.items():
            shift = int(kind == "counterfactual")
            implied = {given: then.values[(pair + shift) % pairs] for pair, given in enumerate(used)}
            implications.append(Implication(self.given.relation, then.relation, kind, implied))
        return Pack(
            name=spec,
            **_credits(self._sources(shipped)),
            description=self.description,
            relations=tuple(Relation(each.relation, tuple(each.prompts), each.values[:most]) for each in shipped),
            facts=tuple(self._facts(options, used, implications)),
            implications=tuple(implications),
        )

    def _misfits(self, options: PackOptions) -> Iterator[tuple[str, str]]:
        """What about the options cannot be, and what to do about it."""
        pairs, names, bridge, given = options.pairs, options.names, options.bridge, self.given
        most = min(len(each.values) for each in (given, *self.thens.values()))
        least = 2 if options.null or "counterfactual" in self.thens else 1
        if not least <= pairs <= most:
            yield f"pairs={pairs} is not between {least} and {most}", f"Use pairs={max(least, min(pairs, most))}"
        size = names // pairs
        if names < 1 or names % pairs:
            even = max(pairs, round(names / pairs) * pairs)
            yield f"names={names} cannot be shared out evenly over {pairs} pairs", f"Use names={even}"
        if not 0 <= bridge <= size:
            what = f"bridge={bridge} is not between 0 and the {size} names a pair has"
            yield what, f"Use bridge={max(0, min(bridge, size))}"
        if options.null and bridge > pairs:
            what = f"bridge={bridge} bridging names cannot state different answers when there are {pairs} pairs"
            yield what, f"Use bridge={pairs} or fewer, or more pairs"
        if given.subjects:
            scarce = min(given.values[:pairs], key=lambda answer: len(given.subjects_of(answer)))
            most = len(given.subjects_of(scarce)) * pairs
            what = f"names={names} is {size} a pair, and of {scarce} there are {most // pairs}"
        else:
            most = available() // pairs * pairs
            what = f"names={names} is more than the {available()} fictitious names there are"
        if names > most:
            yield what, f"Use names={most} or fewer"

    def _facts(self, options: PackOptions, used: Sequence[str], implications: Sequence[Implication]) -> Iterator[Fact]:
        """The stated rows, pair by pair: each subject's given answer, then what is stated of a bridging subject."""
        given, seed, size = self.given, options.seed, options.names // options.pairs
        drawn = () if given.subjects else draw_names(options.names, Random(f"names {seed}"))
        stated = {implication.then: _stated_answers(options, implication) for implication in implications}
        for pair, answer in enumerate(used):
            subjects: Sequence[str] = drawn[pair * size : (pair + 1) * size]
            if given.subjects:
                subjects = shuffled(given.subjects_of(answer), Random(f"{given.table} {answer} {seed}"))[:size]
            for place, subject in enumerate(subjects):
                yield Fact(subject, given.relation, answer)
                if place < options.bridge:
                    yield from (Fact(subject, then, answers[pair][place]) for then, answers in stated.items())

    def _sources(self, shipped: Sequence[ShippedRelation]) -> tuple[dict[str, str], ...]:
        """Where every value came from, one record for each row and source; the source of fictitious names once."""
        found = [
            {"relation": each.relation, "answer": row[each.field], **entry}
            for each in shipped
            for row in rows(each.table)
            for entry in row["sources"]
        ]
        return tuple(found) if self.given.subjects else (*found, _of_names())


@dataclass(frozen=True)
class SecondHopPack:
    """A built-in pack whose stated facts are the second step of a conclusion: "The mayor of Paris is Ada Moss".

    Asked is the same of a description that a model knows: the mayor of the capital of France. names: how many real
    things, best known first, each with an answer of its own; bridge: of how many the answer is stated both ways.

    Arguments:
    - relation, described: the names of the stated and of the concluded relation. prompts: of both.
    - table, field: the shipped table and its column that the things come from.
    - called: what the concluded relation calls a thing, with other columns in braces.
    """

    name: str
    description: str
    relation: str
    described: str
    table: str
    field: str
    called: str
    prompts: Sequence[str]
    options = PackOptions(pairs=1, names=20, bridge=0)

    def __call__(self, options: PackOptions) -> Pack:
        """The pack of this size. Raises UsageError when the options do not fit together."""
        spec, things = options.spec(self.name, self.options), rows(self.table)
        for what, do in self._misfits(options, len(things)):
            raise UsageError(what, where=spec, do=do)
        things = things[: options.names]
        people = draw_names(options.names, Random(f"names {options.seed}"))
        facts = []
        for place, (row, person) in enumerate(zip(things, people, strict=True)):
            stated = (self.relation, self.described) if place < options.bridge else (self.relation,)
            facts += [Fact(row[self.field], relation, person) for relation in stated]
        sources = [{"relation": self.relation, "answer": "", **entry} for row in things for entry in row["sources"]]
        called = {row[self.field]: self.called.format(**row) for row in things}
        return Pack(
            name=spec,
            **_credits((*sources, _of_names())),
            description=self.description,
            relations=(
                Relation(self.relation, tuple(self.prompts), people),
                Relation(self.described, tuple(self.prompts), people, described=called),
            ),
            facts=tuple(facts),
            implications=(Implication(self.relation, self.described, "causal", {each: each for each in people}),),
        )

    def _misfits(self, options: PackOptions, most: int) -> Iterator[tuple[str, str]]:
        """What about the options cannot be, and what to do about it."""
        if options.null or options.pairs != self.options.pairs:
            yield (
                "each subject of this pack has its own answer, so it has no pairs",
                "Write names and bridge alone",
            )
        if not 2 <= options.names <= most:
            yield f"names={options.names} is not between 2 and {most}", f"Use names={max(2, min(options.names, most))}"
        if not 0 <= options.bridge <= options.names:
            yield (
                f"bridge={options.bridge} is not between 0 and {options.names}",
                f"Use bridge={options.names}",
            )


def _of_names() -> dict[str, str]:
    """The source of fictitious names."""
    return {"relation": "", "answer": "", **rows("names")[0]["sources"][0], "key": "person en_US names"}


def _credits(sources: Sequence[dict[str, str]]) -> dict[str, Any]:
    """What a pack says of where its values come from."""
    return {
        "licence": " AND ".join(sorted({part for entry in sources for part in entry["licence"].split(" AND ")})),
        "source": ", ".join(dict.fromkeys(f"{entry['package']} {entry['version']}" for entry in sources)),
        "provenance": tuple(sources),
    }


def _stated_answers(options: PackOptions, implication: Implication) -> list[list[str]]:
    """Pair and place of a bridging subject -> the implied answer that is stated for that subject.

    Ordinarily the map's. With `null`, a shuffled Latin rectangle: within a pair all differ, and overall every answer
    is stated `bridge` times, so that neither a pair nor a frequency gives an answer away.
    """
    answers = list(implication.map.values())
    if not options.null:
        return [[answer] * options.bridge for answer in answers]
    random = Random(f"null {implication.then} {options.seed}")
    answers, starts = shuffled(answers, random), shuffled(range(options.pairs), random)
    steps = shuffled(range(options.pairs), random)[: options.bridge]
    return [[answers[(start + step) % options.pairs] for step in steps] for start in starts]


def _shipped() -> tuple[dict[str, ShippedRelation], dict[str, AssociationPack | SecondHopPack]]:
    """The relations and the packs of builtin.yaml, in its order."""
    text = resources.files("spillover.packs").joinpath("builtin.yaml").read_text(encoding="utf-8")
    found = yaml.load(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    relations = {name: ShippedRelation(**entry) for name, entry in found["relations"].items()}
    packs: dict[str, AssociationPack | SecondHopPack] = {}
    for name, entry in found["packs"].items():
        if hop := entry.get("second_hop"):
            packs[name] = SecondHopPack(name, entry["description"], **hop)
            continue
        thens = {kind: relations[then] for kind, then in entry["thens"].items()}
        packs[name] = AssociationPack(name, entry["description"], relations[entry["given"]], thens)
    return relations, packs


#: The relations that built-in packs are made of, and the packs in the order in which they are listed.
RELATIONS, PACKS = _shipped()
#: `null` alone means the null version of this pack.
NULL_PACK = "profession-color"


def built_in(spec: str, seed: int = 0) -> Pack:
    """The built-in pack behind `name:key=value,...`. Raises UsageError for an unknown name, option or value."""
    name, _, text = spec.partition(":")
    if name == "null":
        name, text = NULL_PACK, f"null,{text}" if text else "null"
    if name not in PACKS:
        raise UsageError(f"there is no pack called {name!r}", do=nearest(name, PACKS))
    return PACKS[name](PackOptions.parse(text, seed, spec, PACKS[name].options))
