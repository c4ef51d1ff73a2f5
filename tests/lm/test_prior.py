"""Beliefs after a told fact equal a softmax over texts scored one by one."""

import numpy as np
import pytest
import torch

from spillover.lm.evaluate import Told, priors, told_pack
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder
from spillover.packs.open import open_pack
from tests.tiny_models import TINY


@pytest.fixture(scope="module")
def model():
    return next(iter(TINY.values()))(512)


def test_beliefs_are_those_of_whole_texts(model, tokenizer):
    pack, encode = open_pack("mixed:pairs=3,names=6,bridge=1"), encoder(tokenizer)
    subject = pack.subjects[0]
    told = [Told(subject, "lives_in", "Paris", "codes_in"), Told(subject, "codes_in", "Java", "lives_in")]
    found = priors(told_pack(pack, told), [*told, told[0]], Scorer(model), encode)
    assert found[2] == found[0]
    for each, belief in zip(told, found[:2], strict=True):
        first = pack.prompt(each.given, subject)
        prompt = f"{first} {each.given_answer}. " + pack.prompt(each.then, subject)
        totals = []
        for answer in pack.candidates[each.then]:
            tokens, start = encode(f"{prompt} {answer}"), len(encode(prompt))
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
            totals.append(sum(logs[i - 1, tokens[i]].item() for i in range(start, len(tokens))))
        expected = np.exp(totals) / np.exp(totals).sum()
        assert sum(belief.values()) == pytest.approx(1)
        np.testing.assert_allclose([belief[answer] for answer in pack.candidates[each.then]], expected, atol=1e-4)


def test_the_end_mark_closes_the_told_fact():
    pack = open_pack("mixed:pairs=3,names=6,bridge=1")
    marked = type(pack)(**{**{name: getattr(pack, name) for name in pack.__dataclass_fields__}, "end": "!"})
    told = [Told("Ann", "lives_in", "Paris", "speaks")]
    assert told_pack(marked, told).relations[-1].prompts == ("{subject} lives in Paris! {subject} speaks",)
    assert told_pack(pack, told).relations[-1].prompts == ("{subject} lives in Paris. {subject} speaks",)
