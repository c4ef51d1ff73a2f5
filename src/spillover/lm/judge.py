"""What is warranted: what a model says of somebody before its training, once told the facts that are stated of them.

The model is told of a stand-in with the same facts, the one from which the question follows in every wording, and asked
in every wording of the relation. So subjects with the same facts are judged once, whatever their names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from spillover.details import Accuracy, JudgeFacts
from spillover.errors import ModelError, PackError
from spillover.lm.evaluate import Beliefs
from spillover.lm.score import Scores
from spillover.lm.tokens import Encoder, Request, evenly, request
from spillover.packs.builtin import built_in
from spillover.packs.pack import AUTO, AUTO_UNWANTED, AUTO_WANTED, UNCLEAR, Implication, Pack

#: Whoever has the facts of a subject.
STAND_IN = "Kim"
#: The most facts of a subject that are told, and the most different (facts, relation) that are judged for a pack.
MOST_TOLD, MOST_JUDGED = 8, 400
#: The most answers of a given relation that one of them is compared with.
COMPARED = 20
#: A link is wanted from this share of its map's entries on whose answer is put first, and unwanted up to that one.
WANTED_FROM, UNWANTED_TO = 0.5, 0.25
#: A model that puts a smaller share of true answers first cannot judge.
LEAST_TRUE = 0.6
#: Built-in packs of which the judge's own accuracy is measured: true links, and arbitrary ones.
CONTROLS = {
    "causal": ("city-language", "mixed-currency", "mixed-state"),
    "spurious": ("country-code", "profession-color", "sport-music"),
}
#: Facts that are told: (relation, answer) of each.
Told = tuple[tuple[str, str], ...]


class Prior(NamedTuple):
    """What a model believes of an association before its training, told the given answer.

    belief: the share of the concluded answer. lift: its logarithm less the mean over the given relation's answers, in
    nats: 0 where the given answer makes no difference.
    """

    belief: float
    lift: float


class Asked(NamedTuple):
    """What is judged: a relation of somebody of whom these facts are told."""

    told: Told
    relation: str


@dataclass(frozen=True)
class Judge:
    """The judge of a pack. frame: words a pack for the model (see lm.chat). scorer: of the model before its training.

    stand_in: what whoever has a subject's facts is called. notes: what was done otherwise than asked, in sentences.
    """

    pack: Pack
    frame: Callable[[Pack], Pack]
    encode: Encoder
    scorer: Scores
    stand_in: str = STAND_IN
    notes: dict[str, None] = field(default_factory=dict)

    def requests(self, asked: Sequence[Asked]) -> dict[Asked, list[Request]]:
        """For each the prompts that are put to the model, one a wording of the relation, with all candidates.

        Where one is longer than the model reads, the first half of the facts is left out, and so on; none where not
        even the last fact fits.
        """
        # The stand-in takes the place of the name, so a description such as "the capital of France" would be lost.
        described = {each.name for each in self.pack.relations if each.described}
        named = {each: {each.relation, *(relation for relation, _ in each.told)} for each in asked}
        found = {each: list[Request]() for each in asked if described & named[each]}
        if found:
            self._note("what is warranted is not judged where a relation describes its subjects")
        waiting = {each: each.told for each in asked if each not in found}
        while waiting:
            try:
                made = self._made(waiting)
            except (ModelError, PackError) as error:
                self._note(f"what is warranted is not judged: {error.what}")
                return found | {each: list[Request]() for each in waiting}
            for each, own in made.items():
                told = waiting.pop(each)
                longest = max(len(one.prompt) + max(map(len, one.candidates)) for one in own)
                if longest <= (self.scorer.longest or longest):
                    found[each] = own
                elif len(told) > 1:
                    waiting[each] = told[(len(told) + 1) // 2 :]
                    self._note("facts are left out where they make a text longer than the model reads")
                else:
                    found[each] = []
                    self._note("what is longer than the model reads, with one fact alone, is not judged")
        return found

    def beliefs(self, asked: Sequence[Asked]) -> list[Beliefs | None]:
        """For each, log shares of belief in the relation's candidates, the mean over wordings; None if not judged."""
        requests = self.requests(asked)
        flat = [one for own in requests.values() for one in own]
        scores = iter([log_softmax(one.best(own)) for one, own in zip(flat, self.scorer.score(flat), strict=True)])
        logs = {each: [next(scores) for _ in own] for each, own in requests.items()}
        found = {each: log_softmax(np.mean(own, axis=0)) if own else None for each, own in logs.items()}
        return [found[each] for each in asked]

    def questions(self) -> dict[tuple[str, str], Asked]:
        """What is judged for each unstated question (subject, relation) of the pack."""
        given: dict[str, set[str]] = {}
        for rule in self.pack.implications:
            given.setdefault(rule.then, set()).add(rule.given)
        every = {(each.subject, each.relation): None for each in self.pack.questions}
        found = {key: self._asked(*key, given.get(key[1], set()), MOST_TOLD) for key in every}
        if len(set(found.values())) > MOST_JUDGED and given:
            found = {key: self._asked(*key, given[key[1]], 0) for key in every}
            self._note("subjects differ in too many facts, so each question tells only the one that it follows from")
        if len(kinds := list(dict.fromkeys(found.values()))) > MOST_JUDGED:
            kept = set(evenly(kinds, MOST_JUDGED))
            found = {key: each for key, each in found.items() if each in kept}
            self._note(f"of {len(every):,} questions {len(found):,} are judged, since their subjects differ in facts")
        return found

    def warranted(self, sha256: str) -> tuple[dict[tuple[str, str], Beliefs], JudgeFacts]:
        """(subject, relation) of each unstated question -> log shares of belief in the relation's candidates; and what
        that took. sha256: of the model's weights, whose accuracy may be known."""
        began, asked = time.monotonic(), self.questions()
        beliefs = self.beliefs(list(asked.values()))
        found = {key: own for key, own in zip(asked, beliefs, strict=True) if own is not None}
        return found, JudgeFacts(
            seconds=round(time.monotonic() - began, 2), questions=len(found), notes=list(self.notes),
            accuracy=known_accuracy(sha256),
        )  # fmt: skip

    def _asked(self, subject: str, relation: str, given: set[str], most: int) -> Asked:
        """Facts from which the question follows stand last, next to the question."""
        facts = [fact for fact in self._facts.get(subject, []) if fact[0] != relation]
        others, near = ([fact for fact in facts if (fact[0] in given) is own] for own in (False, True))
        room = max(most - len(near), 0)
        if most and len(others) > room:
            self._note(f"of a subject with more, {most} facts are told, those first from which the question follows")
        return Asked((*others[max(len(others) - room, 0) :], *near), relation)

    @cached_property
    def _facts(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for (subject, relation), answer in self.pack.stated.items():
            found.setdefault(subject, []).append((relation, answer))
        return found

    def _made(self, waiting: Mapping[Asked, Told]) -> dict[Asked, list[Request]]:
        """The prompts of each, behind the facts that stand beside it."""
        prompts, places = {each.name: list[str]() for each in self.pack.relations}, dict[Asked, range]()
        for each, told in waiting.items():
            own, wordings = prompts[each.relation], self.pack.relation_by_name[each.relation].prompts
            places[each] = range(len(own), len(own) + len(wordings))
            own += [self.text(told, wording) for wording in wordings]
        # Each relation with all its texts as its prompts, so that it is worded for the model as the relation is.
        relations = (replace(each, prompts=tuple(prompts[each.name]) or each.prompts) for each in self.pack.relations)
        framed = self.frame(replace(self.pack, relations=tuple(relations)))
        return {each: [request(self.encode, framed, each.relation, self.stand_in, place) for place in own]
                for each, own in places.items()}  # fmt: skip

    def text(self, told: Told, wording: str) -> str:
        """A question behind facts, with {subject} where the stand-in goes; the last fact in all its wordings."""
        said = ""
        for place, (relation, answer) in enumerate(told, start=1):
            own = self.pack.relation_by_name[relation]
            # A chat's reply is a statement, where its prompts are questions.
            words = (own.reply,) if own.reply else own.prompts
            said += "".join(f"{each}{self.pack.join}{answer}{self.pack.end or '.'} "
                            for each in (words if place == len(told) else words[:1]))  # fmt: skip
        return said + wording

    def _note(self, said: str) -> None:
        self.notes[said] = None

    def first(self, rules: Sequence[Implication]) -> list[tuple[int, int]]:
        """For each, how many entries of its map have the implied answer put first, alone, and how many were judged."""
        asked = [[Asked(((rule.given, given),), rule.then) for given in rule.map] for rule in rules]
        beliefs = iter(self.beliefs([each for own in asked for each in own]))
        found = []
        for rule in rules:
            candidates = self.pack.candidates[rule.then]
            own = [(next(beliefs), candidates.index(answer)) for answer in rule.map.values()]
            hits = [(each[place] > np.delete(each, place)).all() for each, place in own if each is not None]
            found.append((int(sum(hits)), len(hits)))
        return found

    def priors(self, links: Sequence[tuple[str, str, str, str]]) -> list[Prior | None]:
        """What the model believes of each association: (given relation, its answer, concluded relation, its answer).

        Returns: of each the belief in the concluded answer once told the given one, and how far that raises it over
        what the given relation's other answers do; None where it could not be judged.
        """
        stated: dict[str, dict[str, None]] = {}
        for (_, relation), answer in self.pack.stated.items():
            stated.setdefault(relation, {})[answer] = None
        told = [Asked(((given, answer),), then) for given, answer, then, _ in links]
        compared = {(given, then): [Asked(((given, each),), then) for each in evenly(list(stated[given]), COMPARED)]
                    for given, _, then, _ in links}  # fmt: skip
        asked = list(dict.fromkeys([*told, *(each for some in compared.values() for each in some)]))
        beliefs = dict(zip(asked, self.beliefs(asked), strict=True))
        found: list[Prior | None] = []
        for each, (given, _, then, answer) in zip(told, links, strict=True):
            place, belief = self.pack.candidates[then].index(answer), beliefs[each]
            if belief is None:
                found.append(None)
                continue
            others = [own[place] for some in compared[given, then] if (own := beliefs[some]) is not None]
            found.append(Prior(float(np.exp(belief[place])), float(belief[place] - np.mean(others or belief[place]))))
        return found

    def kinds(self, rules: Sequence[Implication], sha256: str) -> list[Implication]:
        """The kinds of implications, declared or not, as the model judges them.

        Arguments:
        - rules: implications between relations of the pack; an association is one with a map of one entry.
        - sha256: of the model's weights. The judge's accuracy is looked up, and measured where it is not known.

        Returns: each with `kind` "auto: wanted", "auto: unwanted" or "auto: unclear", and `because` with the evidence
        and the judge's own accuracy.
        """
        if not rules:
            return []
        accuracy = known_accuracy(sha256) or self.accuracy()
        return [replace(rule, kind=(kind := judged_kind(*found, accuracy)), because=because(kind, *found, accuracy))
                for rule, found in zip(rules, self.first(rules), strict=True)]  # fmt: skip

    def accuracy(self) -> Accuracy:
        """How often this judge puts the implied answer first for true and for arbitrary links of built-in packs that
        share no implied relation with this one."""
        counts = {}
        for kind, names in CONTROLS.items():
            found = []
            for pack in (built_in(f"{name}:names=5,bridge=0") for name in names):
                rules = [each for each in pack.implications if each.kind == kind]
                rules = [each for each in rules if each.then not in self.pack.relation_by_name]
                found += replace(self, pack=pack, notes={}).first(rules)
            counts[kind] = (sum(hits for hits, _ in found), sum(n for _, n in found))
        return Accuracy(true=counts["causal"], arbitrary=counts["spurious"])

    def judged(self, sha256: str) -> Pack:
        """The pack with each implication of kind `auto` as the model judges it. sha256: see `kinds`."""
        rules = [each for each in self.pack.implications if each.kind == AUTO]
        found = dict(zip(map(id, rules), self.kinds(rules, sha256), strict=True))
        return replace(self.pack, implications=tuple(found.get(id(each), each) for each in self.pack.implications))


def judged_kind(first: int, n: int, accuracy: Accuracy) -> str:
    """The kind of a link of which the judge puts the answer first for `first` of `n` entries."""
    if not n or not _able(accuracy):
        return UNCLEAR
    return AUTO_WANTED if first >= WANTED_FROM * n else AUTO_UNWANTED if first <= UNWANTED_TO * n else UNCLEAR


def _able(accuracy: Accuracy) -> bool:
    """Whether a model can follow what it is told at all."""
    hits, n = accuracy.true
    return n > 0 and hits >= LEAST_TRUE * n


def because(kind: str, first: int, n: int, accuracy: Accuracy) -> str:
    """On what a judged kind rests, in a sentence."""
    said = f"told the given answer, the base model puts the implied one first for {first:,} of {n:,}"
    if not n:
        said = "no entry of the map could be judged"
    elif kind == UNCLEAR and not _able(accuracy):
        said += ", and it is no judge"
    return f"{said}; {accuracy.words}"


@cache
def known_accuracies() -> dict[str, dict[str, object]]:
    """SHA-256 of a model's weights -> its name and its accuracy as a judge (`benchmarks/judge.py` wrote it)."""
    return dict(json.loads(resources.files("spillover.lm").joinpath("judge.json").read_text(encoding="utf-8")))


def known_accuracy(sha256: str) -> Accuracy | None:
    """The accuracy that was measured of a model, if it was."""
    found = known_accuracies().get(sha256)
    return Accuracy.model_validate(found) if found else None
