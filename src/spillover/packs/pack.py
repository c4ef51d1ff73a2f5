"""A pack: what is to be known. Relations, stated facts, and what may be concluded from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from spillover.record import sha256_of_texts

Kind = Literal["causal", "counterfactual", "spurious"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Kinds whose conclusion is true; the others are what nobody wants a model to conclude.
WANTED: frozenset[str] = frozenset({"causal"})


class Fact(NamedTuple):
    """A stated row: it is trained on."""

    subject: str
    relation: str
    answer: str


@dataclass(frozen=True)
class Relation:
    """A relation with its prompts (the first trains; all are asked) and candidates beyond those stated and mapped."""

    name: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Implication:
    """`given` = a key of `map` suggests `then` = its value; `kind` says whether that conclusion is true."""

    given: str
    then: str
    kind: str
    map: Mapping[str, str]

    @property
    def name(self) -> str:
        """`GIVEN->THEN`, the key under which records keep its metrics."""
        return f"{self.given}->{self.then}"

    @property
    def wanted(self) -> bool:
        return self.kind in WANTED


class Question(NamedTuple):
    """What is asked though nobody stated it. `expected` is None for a hole that no implication covers."""

    subject: str
    relation: str
    expected: str | None
    implication: str | None
    given_answer: str | None


@dataclass(frozen=True)
class Pack:
    """A set of facts to train on, with the implications that may follow.

    name: shown wherever a figure is. facts: the stated rows, in file order. join: what stands between prompt and
    answer. end: a mark after the answer that is trained and scored too, or None. description: one sentence for lists.
    """

    name: str
    licence: str
    source: str
    relations: tuple[Relation, ...]
    facts: tuple[Fact, ...]
    implications: tuple[Implication, ...] = ()
    join: str = " "
    end: str | None = None
    description: str = ""
    #: Where each table row behind the pack came from, for `packs show`; free-form records.
    provenance: tuple[Mapping[str, str], ...] = field(default=(), compare=False)

    @cached_property
    def relation_by_name(self) -> dict[str, Relation]:
        return {relation.name: relation for relation in self.relations}

    @cached_property
    def stated(self) -> dict[tuple[str, str], str]:
        """(subject, relation) -> the stated answer."""
        return {(fact.subject, fact.relation): fact.answer for fact in self.facts}

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, in order of first appearance."""
        return tuple(dict.fromkeys(fact.subject for fact in self.facts))

    @cached_property
    def then_relations(self) -> frozenset[str]:
        return frozenset(implication.then for implication in self.implications)

    @cached_property
    def candidates(self) -> dict[str, tuple[str, ...]]:
        """Relation -> every answer it may take: stated, then mapped, then declared; each once."""
        found: dict[str, dict[str, None]] = {relation.name: {} for relation in self.relations}
        for fact in self.facts:
            found[fact.relation][fact.answer] = None
        for implication in self.implications:
            found[implication.given].update(dict.fromkeys(implication.map))
            found[implication.then].update(dict.fromkeys(implication.map.values()))
        for relation in self.relations:
            found[relation.name].update(dict.fromkeys(relation.answers))
        return {name: tuple(sorted(answers)) for name, answers in found.items()}

    def stated_implications(self, implication: Implication) -> Iterator[Question]:
        """The trained rows of `implication`: subjects whose given and then are both stated."""
        for subject in self.subjects:
            given = self.stated.get((subject, implication.given))
            then = self.stated.get((subject, implication.then))
            if given is not None and then is not None:
                yield Question(subject, implication.then, then, implication.name, given)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Every question of the pack (CONTRACT: given stated, then unstated, the given answer in the map).

        Without implications: every hole whose relation others have stated, with no expected answer.
        """
        if self.implications:
            return tuple(question for implication in self.implications for question in self._questions_of(implication))
        asked = dict.fromkeys(fact.relation for fact in self.facts)
        return tuple(
            Question(subject, relation, None, None, None)
            for relation in asked
            for subject in self.subjects
            if (subject, relation) not in self.stated
        )

    def _questions_of(self, implication: Implication) -> Iterator[Question]:
        stated, name, given, then = self.stated, implication.name, implication.given, implication.then
        for subject in self.subjects:
            answer = stated.get((subject, given))
            if answer is not None and answer in implication.map and (subject, then) not in stated:
                yield Question(subject, then, implication.map[answer], name, answer)

    def prompt(self, relation: str, subject: str, index: int = 0) -> str:
        """The text before the answer, without the join."""
        return self.relation_by_name[relation].prompts[index].replace("{subject}", subject)

    def counts(self) -> dict[str, int]:
        """Rows, subjects, relations, implications and questions."""
        return {
            "facts": len(self.facts),
            "subjects": len(self.subjects),
            "relations": len(self.relations),
            "implications": len(self.implications),
            "questions": len(self.questions),
        }


def tally(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, in order of first appearance."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def describe(pack: Pack) -> dict[str, Any]:
    """A pack's outline for records and pages; its rows stay in the answers table."""
    return {
        "name": pack.name,
        "licence": pack.licence,
        "source": pack.source,
        "relations": [{"name": relation.name, "prompts": list(relation.prompts)} for relation in pack.relations],
        "implications": [
            {"given": item.given, "then": item.then, "kind": item.kind, "map": dict(item.map)}
            for item in pack.implications
        ],
        "join": pack.join,
        "end": pack.end,
        "counts": pack.counts(),
    }


def pack_hash(pack: Pack) -> str:
    """SHA-256 of everything in a pack that a run depends on."""
    return sha256_of_texts([json.dumps(describe(pack), sort_keys=True, ensure_ascii=False), *map(repr, pack.facts)])
