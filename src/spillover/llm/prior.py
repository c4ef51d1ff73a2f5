"""What a model believes before it is trained: would it answer so, once told the given fact?

Source: docs/predicting.md, "The prior".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from spillover.facts.pack import Pack, Relation
from spillover.llm.scoring import Scorer
from spillover.llm.tokens import Encoder, ask


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
