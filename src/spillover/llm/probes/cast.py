"""Whom the open probes ask about: groups of subjects that share a stated answer, and never-seen names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
from jaxtyping import Int

from spillover.errors import UsageError
from spillover.facts.names import available, draw_names, shuffled
from spillover.facts.pack import Pack, tally

#: Most groups in all, and most subjects a group; so the cost does not grow with the pack.
GROUPS, UNSTATED, STATED, NEVER_SEEN = 24, 12, 4, 12
#: A group of fewer shows nothing.
LEAST = 2


@dataclass(frozen=True)
class Group:
    """Subjects of whom a pack states the same answer to a relation, as many as are asked about.

    stated: those of whom a relation is stated too that others of the relation lack, such as bridging subjects.
    unstated: the rest. tested: those that a difference between groups is measured on; the unstated, unless some group
    of the relation has fewer than two, then all.
    """

    relation: str
    answer: str
    unstated: tuple[str, ...]
    stated: tuple[str, ...]
    tested: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """The groups of one relation. rows: indices of their tested subjects in the cast; labels: the group of each."""

    relation: str
    groups: tuple[Group, ...]
    rows: Int[np.ndarray, "tested"]
    labels: Int[np.ndarray, "tested"]


@dataclass(frozen=True)
class Cast:
    """Everybody who is asked about: subjects of the pack, each once, then names that it does not hold."""

    subjects: tuple[str, ...]
    never_seen: tuple[str, ...]
    partitions: tuple[Partition, ...]

    @property
    def everybody(self) -> tuple[str, ...]:
        return self.subjects + self.never_seen

    def rows(self, names: Iterable[str]) -> Int[np.ndarray, "name"]:
        """Where these names stand in `everybody`."""
        place = {name: index for index, name in enumerate(self.everybody)}
        return np.array([place[name] for name in names], dtype=np.int64)


def choose(pack: Pack, seed: int) -> Cast:
    """Draw whom to ask about: at most GROUPS groups, and of each at most UNSTATED and STATED subjects.

    Raises UsageError when no fictitious name is left that the pack does not hold.
    """
    random = Random(f"open probes {seed}")
    by_relation = _answers_of(pack)
    share = max(LEAST, GROUPS // max(1, len(by_relation)))
    chosen: dict[str, None] = {}
    groups: list[list[Group]] = []
    for relation, answers in list(by_relation.items())[: GROUPS // LEAST]:
        drawn = set(shuffled(list(answers), random)[:share])
        kept = {answer: subjects for answer, subjects in answers.items() if answer in drawn}
        groups.append(_groups(pack, relation, kept, chosen, random))
    if not groups:
        chosen = dict.fromkeys(shuffled(list(pack.subjects), random)[:UNSTATED])
    cast = Cast(tuple(chosen), _never_seen(pack, random), ())
    partitions = tuple(_partition(cast, own) for own in groups)
    return Cast(cast.subjects, cast.never_seen, partitions)


def _answers_of(pack: Pack) -> dict[str, dict[str, list[str]]]:
    """Relation -> answer -> its subjects; answers of one subject, and relations with fewer than two answers, left out.

    Relations that group the most subjects come first.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for (subject, relation), answer in pack.stated.items():
        found.setdefault(relation, {}).setdefault(answer, []).append(subject)
    kept = {
        relation: {answer: subjects for answer, subjects in answers.items() if len(subjects) >= LEAST}
        for relation, answers in found.items()
    }
    sizes = {relation: sum(map(len, answers.values())) for relation, answers in kept.items() if len(answers) >= LEAST}
    return {relation: kept[relation] for relation in sorted(sizes, key=lambda relation: -sizes[relation])}


def _groups(
    pack: Pack, relation: str, answers: Mapping[str, list[str]], chosen: dict[str, None], random: Random
) -> list[Group]:
    """The groups of one relation, sampled; who is asked about already comes first. Adds the others to `chosen`."""
    members = {subject for subjects in answers.values() for subject in subjects}
    known = tally(other for subject, other in pack.stated if subject in members)
    lacking = [other for other, count in known.items() if count < len(members)]
    split: dict[str, tuple[list[str], list[str]]] = {}
    for answer, subjects in answers.items():
        stated = {subject for subject in subjects if any((subject, other) in pack.stated for other in lacking)}
        drawn = sorted(shuffled(subjects, random), key=lambda subject: subject not in chosen)
        split[answer] = (
            [subject for subject in drawn if subject not in stated][:UNSTATED],
            [subject for subject in drawn if subject in stated][:STATED],
        )
        chosen.update(dict.fromkeys([*split[answer][0], *split[answer][1]]))
    enough = all(len(unstated) >= LEAST for unstated, _ in split.values())
    return [
        Group(relation, answer, tuple(unstated), tuple(stated), tuple(unstated if enough else unstated + stated))
        for answer, (unstated, stated) in split.items()
    ]


def _partition(cast: Cast, groups: list[Group]) -> Partition:
    rows = [cast.rows(group.tested) for group in groups]
    labels = np.repeat(np.arange(len(groups)), [len(own) for own in rows])
    return Partition(groups[0].relation, tuple(groups), np.concatenate(rows), labels)


def _never_seen(pack: Pack, random: Random) -> tuple[str, ...]:
    """Fictitious names that the pack does not hold; those that share no word with one of its subjects come first."""
    words = {word for subject in pack.subjects for word in subject.split()}
    known = set(pack.subjects)
    fresh = [name for name in draw_names(available(), random) if name not in known]
    found = sorted(fresh, key=lambda name: not words.isdisjoint(name.split()))[:NEVER_SEEN]
    if not found:
        raise UsageError("the pack holds every fictitious name that there is", do="Leave --open out")
    return tuple(found)


def declared(pack: Pack, group: Group | None) -> Iterator[str]:
    """The answers that the pack itself gives a group: what is stated of it, and what an implication makes of that.

    An answer to another relation counts when it is stated of at least half of the tested subjects. For everybody
    (None): every answer that is stated or implied.
    """
    if group is None:
        yield from dict.fromkeys(fact.answer for fact in pack.facts)
        for implication in pack.implications:
            yield from implication.map.values()
        return
    yield group.answer
    for implication in pack.implications:
        if implication.given == group.relation and group.answer in implication.map:
            yield implication.map[group.answer]
        if implication.then == group.relation:
            yield from (given for given, implied in implication.map.items() if implied == group.answer)
    for relation in pack.relations:
        answers = [pack.stated.get((subject, relation.name)) for subject in group.tested]
        counts = tally(answer for answer in answers if answer is not None)
        yield from (answer for answer, count in counts.items() if 2 * count >= len(answers))
