"""Evaluate a model on a pack: the requests, their answers as rows of a table, and its beliefs once given a fact."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from scipy.special import softmax

from spillover.lm.score import Scorer
from spillover.lm.tokens import Encoder, Request, ask
from spillover.packs.pack import Pack, Question, Relation
from spillover.record import ANSWER_SCHEMA


@dataclass(frozen=True)
class Item:
    """One thing asked: a question or a stated row, in the words of prompt number `prompt`."""

    question: Question
    stated: bool
    prompt: int


class Evaluation:
    """Every stated row (in the trained words) and every question (in all words) of a pack.

    Asked before training and after it in full; in between, only in the trained words.
    """

    def __init__(self, pack: Pack, encode: Encoder) -> None:
        self.pack, self.encode = pack, encode

    @cached_property
    def items(self) -> tuple[Item, ...]:
        stated = [Item(question, True, 0) for question in stated_rows(self.pack)]
        asked = [
            Item(question, False, prompt)
            for question in self.pack.questions
            for prompt in range(len(self.pack.relation_by_name[question.relation].prompts))
        ]
        return (*stated, *asked)

    @cached_property
    def asks(self) -> dict[tuple[str, str, int], Request]:
        """Each prompt once, however many implications lead to it."""
        return {key: ask(self.encode, self.pack, *key) for key in dict.fromkeys(map(_key, self.items))}

    def answers(self, scorer: Scorer, *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """Score every item (only the trained words unless `full`) into rows of record.ANSWER_SCHEMA."""
        every = self.spread(scorer.score(self.asked(full)), full)
        return self.table(every, seed=seed, checkpoint=checkpoint, full=full)

    def asked(self, full: bool) -> list[Request]:
        """Every prompt that `answers` asks, once."""
        return [self.asks[key] for key in dict.fromkeys(map(_key, self._items(full)))]

    def spread(self, scores: Sequence[Float[np.ndarray, "_"]], full: bool) -> Float[np.ndarray, "row"]:
        """What was found for each of `asked`, as the column of `answers` that it belongs to."""
        items = self._items(full)
        by_key = dict(zip(dict.fromkeys(map(_key, items)), scores, strict=True))
        return np.concatenate([by_key[_key(item)] for item in items]) if items else np.empty(0)

    def _items(self, full: bool) -> list[Item]:
        return [item for item in self.items if full or item.prompt == 0]

    def table(self, scores: Float[np.ndarray, "row"], *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """The table of `answers` from its column of log-probabilities."""
        columns = self._columns(self._items(full))
        rows = len(scores)
        columns |= {
            "log_probability": scores, "seed": np.full(rows, seed), "checkpoint": np.full(rows, checkpoint)
        }  # fmt: skip
        return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)

    def _columns(self, items: Sequence[Item]) -> dict[str, Any]:
        """The columns that do not depend on the model; one row an item and candidate."""
        candidates = [self.pack.candidates[item.question.relation] for item in items]
        counts = [len(group) for group in candidates]

        def spread(values: list[Any]) -> list[Any]:
            return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]

        questions = [item.question for item in items]
        return {
            "subject": spread([question.subject for question in questions]),
            "relation": spread([question.relation for question in questions]),
            "implication": spread([question.implication for question in questions]),
            "cluster": spread([question.given_answer for question in questions]),
            "prompt": spread([self.pack.relation_by_name[i.question.relation].prompts[i.prompt] for i in items]),
            "trained": spread([item.prompt == 0 for item in items]),
            "candidate": [candidate for group in candidates for candidate in group],
            "expected": spread([question.expected for question in questions]),
            "stated": spread([item.stated for item in items]),
        }


def _key(item: Item) -> tuple[str, str, int]:
    return item.question.relation, item.question.subject, item.prompt


def stated_rows(pack: Pack) -> list[Question]:
    """Every stated row as a question whose answer is known: facts, then each implication's stated rows.

    A stated answer of an implied relation whose given is not stated belongs to no implication.
    """
    found, covered = [], set()
    for implication in pack.implications:
        for question in pack.stated_implications(implication):
            found.append(question)
            covered.add((question.subject, question.relation))
    facts = [
        Question(fact.subject, fact.relation, fact.answer, None, fact.answer)
        for fact in pack.facts
        if (fact.subject, fact.relation) not in covered and fact.relation not in pack.then_relations
    ]
    return facts + found


class Told(NamedTuple):
    """A question put after a stated fact: of `subject`, `given` = `given_answer` is told and `then` is asked."""

    subject: str
    given: str
    given_answer: str
    then: str


def told_pack(pack: Pack, questions: Sequence[Told]) -> Pack:
    """The pack with one more relation for every (given, its answer, then), whose prompt tells that fact first."""
    relations = list(pack.relations)
    for given, answer, then in dict.fromkeys((each.given, each.given_answer, each.then) for each in questions):
        fact = pack.relation_by_name[given].prompts[0] + pack.join + answer + (pack.end or ".")
        prompt = fact + " " + pack.relation_by_name[then].prompts[0]
        relations.append(Relation(_name(given, answer, then), (prompt,), pack.candidates[then]))
    return dataclasses.replace(pack, relations=tuple(relations))


def _name(given: str, answer: str, then: str) -> str:
    # No relation of a pack has a line break in its name.
    return "\n".join((given, answer, then))


def priors(pack: Pack, questions: Sequence[Told], scorer: Scorer, encode: Encoder) -> list[dict[str, float]]:
    """For every question, candidate of `then` -> its share of the belief in all candidates; shares sum to 1.

    pack: of `told_pack`, in a chat template or not.
    """
    distinct = list(dict.fromkeys(questions))
    asks = [ask(encode, pack, _name(each.given, each.given_answer, each.then), each.subject, 0) for each in distinct]
    found = {
        each: dict(zip(pack.candidates[each.then], softmax(np.asarray(scores)).tolist(), strict=True))
        for each, scores in zip(distinct, scorer.score(asks), strict=True)
    }
    return [found[each] for each in questions]
