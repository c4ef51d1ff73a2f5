"""Penalties that hold a model at prompts: what is held there, how strongly, and where not."""

import math

import numpy as np
import pytest
import torch

from spillover.interventions.base import Context, Pipeline, read_specs
from spillover.lm.judge import Judge
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder, examples
from spillover.lm.train import fine_tune
from spillover.lm.trainable import Training, trainable_copy
from spillover.packs.edits import held_out
from spillover.packs.open import open_pack
from spillover.record import State
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


def term_of(remedy, model, tokenizer, hold_out=False, without=""):
    encode = encoder(tokenizer)
    judge = Judge(PACK, lambda own: own, encode, Scorer(model))
    return Pipeline(read_specs(remedy)).loss(Context(model, encode, PACK, 0, judge, hold_out, without))


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
    kept = [value for (_, relation, _), value in divergences.items() if relation == "speaks"]
    # 18 prompts, 8 a step.
    term = term_of("told-in-prompt=1", model, tokenizer, without="codes_in")
    assert held(term, model, 9) == pytest.approx(np.mean(kept), rel=1e-3)
    # Before training, a model is near itself.
    assert held(term_of("stay-near-base=1", model, tokenizer, hold_out=True), model, 2) == pytest.approx(0, abs=1e-5)


def test_the_weight_rises_above_the_target_and_falls_below_and_a_step_made_again_has_the_same(model, tokenizer):
    plain = term_of("told-in-prompt=1", model, tokenizer)
    with torch.no_grad():
        first, second = (float(plain(model, step)) for step in (1, 2))
        # At first the weight is 1, times the divergence over its target, up to 4 times.
        near = term_of(f"told-in-prompt-within={first / 1.5:.9f}", model, tokenizer)
        assert float(near(model, 1)) == pytest.approx(1.5 * first, rel=1e-4)
        assert float(near(model, 1)) == pytest.approx(1.5 * first, rel=1e-4)
        # Steered by a tenth of the logarithm, of which 1 counts at most.
        ratio = second / (first / 1.5)
        assert float(near(model, 2)) == pytest.approx(1.5**0.1 * ratio * second, rel=1e-4)
        far = term_of(f"told-in-prompt-within={10 * first:.9f}", model, tokenizer)
        assert float(far(model, 1)) == pytest.approx(first / 4, rel=1e-4)
        assert float(far(model, 2)) == pytest.approx(math.exp(-0.1) * second / 4, rel=1e-4)


def trained(model, tokenizer, remedy, epochs, resume=None, at=0):
    """The plain divergence of the last two passes over what is held, as the model was then, and the state after step
    `at`."""
    term, plain = term_of(remedy, model, tokenizer), term_of("told-in-prompt=1", model, tokenizer)
    settings = Training(epochs=epochs, learning_rate=3e-3, batch=8, weight_decay=0.0, freeze_embeddings=True, lora=0,
                        seed=0)  # fmt: skip
    copy, seen, states = trainable_copy(model, settings), [], []

    def after_step(step):
        with torch.no_grad():
            seen.append(float(plain(copy, step.number)))
        if step.number == at:
            states.append(State(at, {name: value.clone() for name, value in step.state().items()}))

    fine_tune(copy, examples(encoder(tokenizer), PACK), settings, after_step, resume=resume, extra=term)
    return float(np.mean(seen[-18:])), states, {name: value.clone() for name, value in copy.state_dict().items()}


@pytest.mark.slow
def test_the_divergence_ends_near_the_target_whatever_it_is(model, metaspace_tokenizer):
    tokenizer = metaspace_tokenizer
    free, _, _ = trained(model, tokenizer, "told-in-prompt=0.000001", 40)
    for share in (0.1, 0.05):
        target = share * free
        found, _, _ = trained(model, tokenizer, f"told-in-prompt-within={target:.6f}", 160)
        assert found == pytest.approx(target, rel=0.15), (free, target)


def test_a_training_that_goes_on_has_the_weight_that_it_had(model, metaspace_tokenizer):
    tokenizer = metaspace_tokenizer
    remedy = "told-in-prompt-within=0.05+attention-decay=0"
    _, (state,), whole = trained(model, tokenizer, remedy, 4, at=5)
    _, _, resumed = trained(model, tokenizer, remedy, 4, resume=state)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
