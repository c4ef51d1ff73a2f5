"""The built-in packs: one small file each, and here the one builder they share. What differs between them is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from spillover.errors import UsageError
from spillover.facts.names import available, draw_names, shuffled
from spillover.facts.pack import Fact, Implication, Kind, Pack, Relation
from spillover.facts.tables import rows

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
