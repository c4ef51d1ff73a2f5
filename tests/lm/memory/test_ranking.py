"""Ranking takes bounded memory whatever the number of questions, and smaller passes when memory runs out."""

import numpy as np
import pytest
import torch

from spillover.lm import score as scoring
from spillover.lm.micro_batch import Exhausted
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request
from tests.tiny_models import TINY

VOCABULARY = 64
CANDIDATES = ((7, 8), (9,), (10, 11, 12), (13,))


def asks(count):
    """Prompts of five to eight tokens, no two alike."""
    prompts = [(1, *(2 + (n // 50**digit) % 50 for digit in range(3)), *range(50, 51 + n % 4)) for n in range(count)]
    return [Request(prompt, CANDIDATES) for prompt in prompts]


@pytest.fixture(scope="module", params=TINY)
def model(request):
    return TINY[request.param](VOCABULARY)


def watched(monkeypatch, room=None):
    """The tokens and logits of every pass from now on; passes of more tokens than there is room for fail."""
    real, passes = Scorer._logits, []

    def logits(self, fed):
        size = self._size(fed)
        passes.append(size)
        if room is not None and size[1] > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, fed)

    monkeypatch.setattr(Scorer, "_logits", logits)
    return passes


def test_no_pass_grows_with_the_number_of_questions(model, monkeypatch):
    passes, merged = watched(monkeypatch), []
    real = Scorer._merged
    monkeypatch.setattr(scoring, "PROMPTS_AT_ONCE", 100)
    monkeypatch.setattr(Scorer, "_merged", lambda self, *args: merged.append(len(args[1])) or real(self, *args))
    most = []
    for count in (40, 400):
        passes.clear()
        Scorer(model, method="tree", maximum_tokens=300, maximum_logits=150 * VOCABULARY).score(asks(count))
        most.append((max(logits for logits, _ in passes), max(tokens for _, tokens in passes)))
    assert all(logits <= 150 * VOCABULARY and tokens <= 300 for logits, tokens in most)
    assert merged == [40, 100, 100, 100, 100]


def test_prompts_in_pieces_score_as_all_together(model, monkeypatch):
    together = Scorer(model).score(asks(60))
    monkeypatch.setattr(scoring, "PROMPTS_AT_ONCE", 7)
    for first, second in zip(together, Scorer(model).score(asks(60)), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_memory_that_runs_out_ends_as_if_the_passes_had_been_small(model, monkeypatch):
    with monkeypatch.context() as patch:
        passes = watched(patch, room=100)
        scorer = Scorer(model, method="tree")
        found = scorer.score(asks(60))
        assert max(tokens for _, tokens in passes) > 100, "memory did run out"
    assert scorer.maximum_tokens <= 200
    small = Scorer(model, method="tree", maximum_tokens=scorer.maximum_tokens, maximum_logits=scorer.maximum_logits)
    assert all(np.array_equal(*pair) for pair in zip(found, small.score(asks(60)), strict=True))
    prompts = [ask.prompt for ask in asks(60)]
    with monkeypatch.context() as patch:
        watched(patch, room=100)
        told = Scorer(model).next_tokens(prompts, lambda logs: [row.argmax().item() for row in logs])
    assert told == Scorer(model).next_tokens(prompts, lambda logs: [row.argmax().item() for row in logs])


def test_running_out_while_the_mask_is_tried_does_not_count_against_the_mask(model, monkeypatch):
    with monkeypatch.context() as patch:
        watched(patch, room=30)
        scorer = Scorer(model)
        scorer.score(asks(20))
    assert scorer.method == "tree"


def test_no_memory_for_one_prompt_is_a_sentence(model, monkeypatch):
    watched(monkeypatch, room=3)
    sentence = r"^memory ran out while a single prompt was being ranked\. Use --lora 8, --dtype bfloat16, a smaller"
    with pytest.raises(Exhausted, match=sentence):
        Scorer(model, method="tree").score(asks(5))
