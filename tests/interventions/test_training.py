"""Penalties that hold a model at prompts: what is held there, how strongly, and where not."""

import numpy as np
import pytest
import torch

from spillover.interventions.base import Context, Pipeline, read_specs
from spillover.lm.judge import Judge
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder
from spillover.packs.edits import held_out
from spillover.packs.open import open_pack
from tests.tiny_models import TINY

PACK = open_pack("mixed:pairs=2,names=8,bridge=1")


@pytest.fixture(scope="module")
def model():
    return next(iter(TINY.values()))(512)


@pytest.fixture
def divergences(model, tokenizer):
    """(subject, relation, wording) -> KL(base, told | base) of the next token, in nats, by plain forward passes."""
    encode, found = encoder(tokenizer), {}

    def next_token(text):
        with torch.no_grad():
            return model(input_ids=torch.tensor([encode(text)])).logits[0, -1].double().log_softmax(-1)

    for question in PACK.questions:
        city = PACK.stated[question.subject, "lives_in"]
        told = "".join(f"{text} {city}. " for text in PACK.relation_by_name["lives_in"].prompts)
        for number, wording in enumerate(PACK.relation_by_name[question.relation].prompts):
            base, own = (next_token((told * own + wording).replace("{subject}", name))
                         for own, name in ((True, "Kim"), (False, question.subject)))  # fmt: skip
            found[question.subject, question.relation, number] = float((base.exp() * (base - own)).sum())
    return found


def term_of(remedy, model, tokenizer, hold_out=False):
    encode = encoder(tokenizer)
    judge = Judge(PACK, lambda own: own, encode, Scorer(model))
    return Pipeline(read_specs(remedy)).loss(Context(model, encode, PACK, 0, judge, hold_out))


def held(term, model, steps):
    """The mean over so many steps that each prompt comes equally often."""
    with torch.no_grad():
        return float(np.mean([float(term(model, step)) for step in range(1, steps + 1)]))


def test_told_in_prompt_holds_every_unstated_question_in_every_wording(model, tokenizer, divergences):
    assert len(divergences) == 6 * 2 * 3
    # 36 prompts, 8 a step: nine steps hold each twice.
    assert held(term_of("told-in-prompt=10", model, tokenizer), model, 9) == pytest.approx(
        10 * np.mean(list(divergences.values())), rel=1e-3
    )


def test_what_is_held_out_is_half_of_the_subjects_and_the_last_wording(model, tokenizer, divergences):
    out = held_out(PACK, 0)
    by_city = [PACK.stated[subject, "lives_in"] for subject in out]
    assert len(set(by_city)) == len(by_city) == 2, "one of three unstated subjects of each city"
    kept = [value for (subject, _, number), value in divergences.items() if subject not in out and number < 2]
    # 16 prompts, 8 a step.
    term = term_of("told-in-prompt=1", model, tokenizer, hold_out=True)
    assert held(term, model, 2) == pytest.approx(np.mean(kept), rel=1e-3)
    # Before training, a model is near itself.
    assert held(term_of("stay-near-base=1", model, tokenizer, hold_out=True), model, 2) == pytest.approx(0, abs=1e-5)


def test_the_weight_follows_the_divergence_that_is_to_be_held(model, tokenizer):
    plain, within = (term_of(text, model, tokenizer) for text in ("told-in-prompt=1", "told-in-prompt-within=4"))
    divergence = held(plain, model, 1)
    weight = min(10 * divergence / 4, 50)
    assert held(within, model, 1) == pytest.approx(weight * divergence, rel=1e-4)
    narrow = term_of("told-in-prompt-within=0.001", model, tokenizer)
    assert held(narrow, model, 1) == pytest.approx(50 * divergence, rel=1e-4)
