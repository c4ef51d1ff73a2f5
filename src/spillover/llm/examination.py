"""What is asked of a model about a pack, and its answers as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from spillover.facts.pack import Pack, Question
from spillover.llm.scoring import Scorer
from spillover.llm.tokens import Ask, Encoder, ask
from spillover.record import ANSWER_SCHEMA


@dataclass(frozen=True)
class Item:
    """One thing asked: a question or a stated row, in the words of prompt number `prompt`."""

    question: Question
    stated: bool
    prompt: int


class Examination:
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
    def asks(self) -> dict[tuple[str, str, int], Ask]:
        """Each prompt once, however many implications lead to it."""
        return {key: ask(self.encode, self.pack, *key) for key in dict.fromkeys(map(_key, self.items))}

    def answers(self, scorer: Scorer, *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """Score every item (only the trained words unless `full`) into rows of record.ANSWER_SCHEMA."""
        every = self.spread(scorer.score(self.asked(full)), full)
        return self.table(every, seed=seed, checkpoint=checkpoint, full=full)

    def asked(self, full: bool) -> list[Ask]:
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
