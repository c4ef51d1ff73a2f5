"""A pack: relations, stated facts, and the implications that may be concluded from them."""

import html
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args

from spillover.details import ImplicationOutline, PackOutline, RelationOutline
from spillover.record import sha256_of_texts

Kind = Literal["causal", "counterfactual", "spurious", "auto"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: The kind of an implication of which nobody declared whether it is true, as of those that are found in the facts; and
#: what it is once the base model has judged (lm.judge).
AUTO, AUTO_WANTED, AUTO_UNWANTED, UNCLEAR = "auto", "auto: wanted", "auto: unwanted", "auto: unclear"
#: Kinds whose conclusion is true, and those that nobody wants a model to conclude.
WANTED: frozenset[str] = frozenset({"causal", AUTO_WANTED})
UNWANTED: frozenset[str] = frozenset({"counterfactual", "spurious", AUTO_UNWANTED})
#: Two relations are of one kind of subject when at least this share of the rarer one's subjects has both.
LINKED = 0.05
#: Stands for the subject in prompts.
SUBJECT = "{subject}"


class Fact(NamedTuple):
    """A stated fact: a model is trained on it.

    Arguments:
    - subject: whom or what it is about, as text.
    - relation: the name of a relation of the pack.
    - answer: the stated answer, as text. Answers with the same text are the same answer.
    """

    subject: str
    relation: str
    answer: str


@dataclass(frozen=True)
class Relation:
    """What a fact says about its subject, and how it is asked.

    Arguments:
    - name: the name that facts and implications use.
    - prompts: texts with `{subject}` where the subject goes. The first one is trained on; all are asked.
    - answers: candidate answers beyond those that the pack states or maps.
    - aliases: answer -> its other wordings. A row or map that uses one means the answer, and a question scores the
      answer by its best wording.
    - reply: what an assistant says before the answer in a chat, such as "{subject} lives in"; `--prefix` if None.
    - described: subject -> what this relation's prompts call it, such as "the capital of France" for Paris; others are
      called by their names.
    """

    name: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    reply: str | None = None
    described: Mapping[str, str] = field(default_factory=dict, hash=False)

    def outline(self) -> dict[str, Any]:
        """The relation as records hold it. What is empty is left out: the hash of a pack without it stays."""
        aliases = {answer: list(wordings) for answer, wordings in self.aliases.items()}
        more = {"aliases": aliases, "reply": self.reply, "described": dict(self.described)}
        return {"name": self.name, "prompts": list(self.prompts)} | {key: own for key, own in more.items() if own}

    def called(self, subject: str) -> str:
        """What the prompts of this relation call a subject."""
        return self.described.get(subject, subject)


@dataclass(frozen=True)
class Implication:
    """Who has this answer to one relation may be concluded to have that answer to another.

    Arguments:
    - given: the name of the relation that the conclusion starts from.
    - then: the name of the relation that is concluded.
    - kind: "causal" (true, so wanted), "counterfactual" or "spurious" (not true, so unwanted), or "auto": the base
      model judges, and it is then "auto: wanted", "auto: unwanted" or "auto: unclear".
    - map: an answer to `given` -> the answer to `then` that it implies.
    - because: on what a kind rests that the base model judged, in a sentence.
    """

    given: str
    then: str
    kind: str
    map: Mapping[str, str]
    because: str = ""

    @property
    def name(self) -> str:
        """`GIVEN->THEN`, the key under which records keep its metrics."""
        return f"{self.given}->{self.then}"

    @property
    def wanted(self) -> bool:
        return self.kind in WANTED

    @property
    def unwanted(self) -> bool:
        return self.kind in UNWANTED

    @property
    def wish(self) -> str:
        return wish(self.kind)

    def outline(self) -> dict[str, Any]:
        """The implication as records hold it, without `because` where there is none."""
        found = {"given": self.given, "then": self.then, "kind": self.kind, "map": dict(self.map)}
        return found | ({"because": self.because} if self.because else {})


def wish(kind: str) -> str:
    """Whether a model should conclude what an implication of this kind says: wanted, unwanted or undeclared."""
    return "wanted" if kind in WANTED else "unwanted" if kind in UNWANTED else "undeclared"


class Question(NamedTuple):
    """What is asked but not stated. `expected` and `implication` are None where no implication covers it."""

    subject: str
    relation: str
    expected: str | None
    implication: str | None
    given_answer: str | None


@dataclass(frozen=True)
class Pack:
    """Facts to train on, with the implications that may be concluded from them.

    Making a pack checks nothing; `spillover.open_pack` checks it, as every verb does.

    Arguments:
    - name, licence, source: shown beside every figure of the pack.
    - relations: the relations that facts and implications name.
    - facts: the stated facts, in order.
    - implications: what may be concluded. Without any, each relation is asked of the subjects that lack it, if they are
      of the kind that has it (`Pack.fitting`).
    - join: the text between prompt and answer.
    - end: a mark after the answer that is trained and scored too, or None.
    - description: one sentence for lists.
    - provenance: where each shipped answer came from; free-form records, not compared.
    - free: texts that are trained on beside the facts, as they are: each a row of (asked, answered) turns. Where
      nothing is asked the whole text is trained on, else the answer.
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
    provenance: tuple[Mapping[str, str], ...] = field(default=(), compare=False)
    free: tuple[tuple[tuple[str, str], ...], ...] = ()

    def __post_init__(self) -> None:
        # A map may use any wording; whatever reads it sees the answer. Two entries for one answer stay: a fault.
        rules = tuple(map(self._in_answers, self.implications)) if self._meanings else self.implications
        object.__setattr__(self, "implications", rules)

    def _in_answers(self, rule: Implication) -> Implication:
        found = {self.meant(rule.given, given): self.meant(rule.then, then) for given, then in rule.map.items()}
        return replace(rule, map=found) if len(found) == len(rule.map) else rule

    def __repr__(self) -> str:
        counts = self.counts().items()
        counted = ", ".join(f"{count:,} {what[:-1] if count == 1 else what}" for what, count in counts)
        return f"Pack({self.name!r}: {counted})"

    def _repr_html_(self) -> str:
        """A small table for a notebook: name, licence, counts, and each implication."""
        cells = [("licence", self.licence), *((what, f"{count:,}") for what, count in self.counts().items())]
        cells += [(f"{each.given} → {each.then}", f"{each.kind}, {len(each.map)} pairs") for each in self.implications]
        body = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(text)}</td></tr>" for key, text in cells)
        return f"<table><caption>{html.escape(self.name)}</caption>{body}</table>"

    @cached_property
    def relation_by_name(self) -> dict[str, Relation]:
        return {relation.name: relation for relation in self.relations}

    @cached_property
    def stated(self) -> dict[tuple[str, str], str]:
        """(subject, relation) -> the stated answer."""
        return {(fact.subject, fact.relation): fact.answer for fact in self.meant_facts}

    @cached_property
    def _meanings(self) -> dict[tuple[str, str], str]:
        aliases = ((each.name, *entry) for each in self.relations for entry in each.aliases.items())
        return {(name, wording): answer for name, answer, wordings in aliases for wording in wordings}

    def meant(self, relation: str, wording: str) -> str:
        """The answer of a relation that this text words."""
        return self._meanings.get((relation, wording), wording)

    @cached_property
    def meant_facts(self) -> tuple[Fact, ...]:
        """The stated facts, each with the answer that its wording means."""
        if not self._meanings:
            return self.facts
        return tuple(Fact(subject, name, self.meant(name, wording)) for subject, name, wording in self.facts)

    def wordings(self, relation: str) -> list[tuple[str, ...]]:
        """Every candidate of a relation with its aliases after it."""
        aliases = self.relation_by_name[relation].aliases
        return [(answer, *aliases.get(answer, ())) for answer in self.candidates[relation]]

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, in order of first appearance."""
        return tuple(dict.fromkeys(fact.subject for fact in self.facts))

    @cached_property
    def then_relations(self) -> frozenset[str]:
        return frozenset(implication.then for implication in self.implications)

    @cached_property
    def candidates(self) -> dict[str, tuple[str, ...]]:
        """Relation -> every answer it may take, stated, mapped or declared; each once, sorted."""
        found = {relation.name: {*relation.answers, *relation.aliases} for relation in self.relations}
        for fact in self.meant_facts:
            found[fact.relation].add(fact.answer)
        for implication in self.implications:
            found[implication.given].update(implication.map)
            found[implication.then].update(implication.map.values())
        return {name: tuple(sorted(answers)) for name, answers in found.items()}

    @cached_property
    def stated_relations(self) -> dict[str, frozenset[str]]:
        """Subject -> the relations that are stated of it."""
        found: dict[str, set[str]] = {}
        for fact in self.facts:
            found.setdefault(fact.subject, set()).add(fact.relation)
        return {subject: frozenset(relations) for subject, relations in found.items()}

    @cached_property
    def fitting(self) -> dict[frozenset[str], frozenset[str]]:
        """The relations that are stated of a subject -> the others that make sense of it: those of its kind.

        A relation makes sense of a subject when at least half of the subject's own relations are linked with it: when
        enough subjects (LINKED) have both. So a product, which has a price, is not asked for the colour of its badge.
        """
        kinds = Counter(self.stated_relations.values())
        own, both = Counter[str](), Counter[frozenset[str]]()
        for relations, count in kinds.items():
            for name in relations:
                own[name] += count
            for pair in combinations(sorted(relations), 2):
                both[frozenset(pair)] += count
        linked: dict[str, set[str]] = {name: set() for name in own}
        for (one, other), count in ((tuple(pair), count) for pair, count in both.items()):
            if count >= LINKED * min(own[one], own[other]):
                linked[one].add(other)
                linked[other].add(one)
        return {
            relations: frozenset(
                name for name in own if name not in relations and 2 * len(relations & linked[name]) >= len(relations)
            )
            for relations in kinds
        }

    def stated_implications(self, implication: Implication) -> Iterator[Question]:
        """What the bridging subjects of `implication` state: those whose given and then are both stated."""
        for subject in self.subjects:
            given = self.stated.get((subject, implication.given))
            then = self.stated.get((subject, implication.then))
            if given is not None and then is not None:
                yield Question(subject, implication.then, then, implication.name, given)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Every question: a subject whose given is stated, whose then is not, and whose given answer is in the map.

        Without implications: every subject and relation that is stated only for others of its kind (`fitting`), without
        an expected answer.
        """
        if self.implications:
            return tuple(
                Question(subject, rule.then, rule.map[answer], rule.name, answer)
                for rule in self.implications
                for subject in self.subjects
                if (answer := self.stated.get((subject, rule.given))) is not None
                if answer in rule.map and (subject, rule.then) not in self.stated
            )
        return tuple(
            Question(subject, relation, None, None, None)
            for relation in dict.fromkeys(fact.relation for fact in self.facts)
            for subject in self.subjects
            if relation in self.fitting[self.stated_relations[subject]]
        )

    def prompt(self, relation: str, subject: str, index: int = 0) -> str:
        """The text before the answer, without the join."""
        asked = self.relation_by_name[relation]
        return asked.prompts[index].replace(SUBJECT, asked.called(subject))

    def counts(self) -> dict[str, int]:
        """How many facts, subjects, relations, implications and questions there are, and free texts if any."""
        names = ("facts", "subjects", "relations", "implications", "questions")
        counts = {name: len(getattr(self, name)) for name in names}
        return counts | {"free texts": len(self.free)} if self.free else counts


def normal(text: str) -> str:
    """The text in NFC, in which packs are compared."""
    return unicodedata.normalize("NFC", text)


def describe(pack: Pack) -> PackOutline:
    """A pack's outline for records and pages; its facts stay in the answers table."""
    return PackOutline(
        name=pack.name,
        licence=pack.licence,
        source=pack.source,
        relations=[RelationOutline(**each.outline()) for each in pack.relations],
        implications=outlines(pack.implications),
        join=pack.join,
        end=pack.end,
        counts=pack.counts(),
    )


def outlines(rules: Iterable[Implication]) -> list[ImplicationOutline]:
    """Implications as records hold them."""
    return [ImplicationOutline(**each.outline()) for each in rules]


def with_kinds(pack: Pack, outline: PackOutline | None) -> Pack:
    """The pack with its kinds of `auto` as a record's outline of it says that they were judged."""
    return replace(pack, implications=as_judged(pack.implications, outline.implications if outline else ()))


def as_judged(rules: Iterable[Implication], judged: Iterable[ImplicationOutline]) -> tuple[Implication, ...]:
    """Implications with their kinds of `auto` as they were judged, where they were."""
    known = {(each.given, each.then, *sorted(each.map.items())): each for each in judged}
    found = []
    for rule in rules:
        own = known.get((rule.given, rule.then, *sorted(rule.map.items())))
        found.append(replace(rule, kind=own.kind, because=own.because) if own and rule.kind == AUTO else rule)
    return tuple(found)


def pack_hash(pack: Pack) -> str:
    """SHA-256 of everything in a pack that a run depends on; whatever a base model judged of it."""
    pack = replace(pack, implications=tuple(
        replace(each, kind=AUTO, because="") if each.kind.startswith(AUTO) else each for each in pack.implications
    ))  # fmt: skip
    outline = json.dumps(describe(pack).as_json(), sort_keys=True, ensure_ascii=False)
    return sha256_of_texts([outline, *map(repr, pack.facts), *map(repr, pack.free)])
