"""Tree scores equal brute force: one forward a prompt and candidate, batch 1, no cache."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillover.lm.score import Scorer, logits_only_at
from spillover.lm.tokens import Request, encoder
from tests.tiny_models import TINY

WORDS = ["French", "Old Italian", "Old Norse", "Old", "Java", "JavaScript", "Common Lisp", "Emacs Lisp", "New York",
         "Norse code", "Åström", "北京", "العربية"]  # fmt: skip
SUBJECTS = ["Ada Moss", "Ben", "Cleo Park of Rome", "Zoë Åström", "李明", "مريم"]


def brute_force(model, ask):
    """Sum of the log-probabilities of each candidate's tokens, one text at a time."""
    scores = []
    for candidate in ask.candidates:
        tokens = torch.tensor([[*ask.prompt, *candidate]])
        with torch.no_grad():
            logs = model(input_ids=tokens, use_cache=False).logits[0].double().log_softmax(-1)
        start = len(ask.prompt)
        scores.append(sum(logs[start - 1 + step, token].item() for step, token in enumerate(candidate)))
    return np.array(scores)


def asks_for(encode, subjects, answers):
    found = []
    for subject in subjects:
        prompt = encode(f"{subject} speaks")
        candidates = tuple(tuple(encode(f"{subject} speaks {answer}."))[len(prompt) :] for answer in answers)
        found.append(Request(tuple(prompt), candidates))
    return found


@pytest.fixture(scope="module", params=TINY)
def model(request):
    return TINY[request.param](512)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answers=st.lists(st.sampled_from(WORDS), min_size=2, max_size=6, unique=True),
    subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=4, unique=True),
    side=st.sampled_from(["left", "right"]),
    method=st.sampled_from(["tree", "plain", None]),
    tokens=st.sampled_from([1, 40, 4096]),
    multiple=st.sampled_from([1, 8]),
)
def test_equal_to_brute_force(model, tokenizer, answers, subjects, side, method, tokens, multiple):
    asks = asks_for(encoder(tokenizer), subjects, answers)
    scorer = Scorer(model, side=side, method=method, maximum_tokens=tokens)
    # Widths as they are on a GPU, too.
    with patch("spillover.lm.score.width_for", return_value=multiple):
        found = scorer.score(asks)
    for ask, scores in zip(asks, found, strict=True):
        np.testing.assert_allclose(scores, brute_force(model, ask), atol=1e-4)


def test_the_tree_is_chosen_on_an_ordinary_model(model, tokenizer):
    scorer = Scorer(model)
    scorer.score(asks_for(encoder(tokenizer), SUBJECTS[:1], WORDS))
    assert scorer.method == "tree"


def test_a_model_that_ignores_masks_is_scored_as_plain_texts():
    model = TINY["llama"](64)
    forward = model.forward

    def forgetful(*args, attention_mask=None, **kwargs):
        return forward(*args, **kwargs)

    model.forward = forgetful
    ask = Request((1, 5, 6), ((7, 8, 9), (7, 10, 11), (12, 13)))
    scorer = Scorer(model)
    scores = scorer.score([ask])
    assert scorer.method == "plain"
    np.testing.assert_allclose(scores[0], brute_force(model, ask), atol=1e-4)


def test_a_text_beyond_the_sliding_window_is_scored_as_a_plain_text():
    model = TINY["gemma3"](64)  # its window is 40
    ask = Request(tuple(range(2, 62)), ((7, 8, 9), (7, 10), (12,)))
    short = Request((1, 2, 3), ((7, 8, 9), (7, 10), (12,)))
    scorer = Scorer(model)
    scores = scorer.score([ask, short])
    np.testing.assert_allclose(scores[0], brute_force(model, ask), atol=1e-4)
    np.testing.assert_allclose(scores[1], brute_force(model, short), atol=1e-4)


def test_logits_are_computed_only_where_asked():
    model = TINY["llama"](64)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    whole = model(input_ids=tokens).logits.reshape(6, -1)
    with logits_only_at(model, torch.tensor([1, 5])):
        part = model(input_ids=tokens).logits
    assert part.shape == (1, 2, 64)
    torch.testing.assert_close(part[0], whole[[1, 5]])
    assert model(input_ids=tokens).logits.shape == (2, 3, 64)


def test_scores_do_not_depend_on_what_is_asked_beside_them(model, tokenizer):
    asks = asks_for(encoder(tokenizer), SUBJECTS, WORDS)
    alone = np.concatenate([Scorer(model).score([ask])[0] for ask in asks])
    np.testing.assert_allclose(np.concatenate(Scorer(model).score(asks)), alone, atol=1e-4)


def test_nothing_asked_nothing_scored():
    assert Scorer(TINY["llama"](64)).score([]) == []
