"""Two models at every place of a text, against one place at a time and one token at a time."""

import numpy as np
import pytest
import torch

from spillover.errors import ModelError
from spillover.interp.open_probes import BEFORE, LEAST_RISE, LONGEST, TOP, compare, cut
from spillover.lm.tokens import Example
from tests.tiny_models import tiny_llama

TEXTS = [Example((1, 7, 9, 30, 7), 2), Example((1, 60, 61), 1)]


@pytest.fixture(scope="module")
def models():
    base, tuned = tiny_llama(300), tiny_llama(300)
    with torch.no_grad():
        # The tuned model says token 7 more often everywhere, and token 9 less often.
        head = tuned.get_output_embeddings().weight
        shared = base.model.norm.weight.sign()
        head[7] += 0.2 * shared
        torch.manual_seed(2)
        head += 0.05 * torch.randn_like(head)
    return base, tuned


def chances(model, before):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([before])).logits[0, -1].double().softmax(-1).numpy()


def test_a_rise_is_the_sum_over_places_but_for_what_stands_there(models):
    found = compare(*models, TEXTS)
    assert found.places == 4 + 3 and found.counts.sum() == TOP * found.places
    expected_counts = np.zeros(300, dtype=int)
    for text, own in zip(TEXTS, found.texts, strict=True):
        places = range(text.start, len(text.tokens) + 1)
        was, now = (np.array([chances(model, text.tokens[:place]) for place in places]) for model in models)
        change = now - was
        for row, token in enumerate(text.tokens[text.start :]):
            change[row, token] = 0
        total = change.sum(axis=0)
        sure = np.flatnonzero(np.abs(total) > LEAST_RISE + 1e-5)
        assert set(sure) <= set(own.tokens.tolist()) and len(sure)
        np.testing.assert_allclose(own.rises, total[own.tokens], atol=1e-5)
        np.testing.assert_array_equal(own.places, change[:, own.tokens].argmax(axis=0) + text.start)
        rows = own.places - text.start
        np.testing.assert_allclose(own.base, was[rows, own.tokens], atol=1e-5)
        np.testing.assert_allclose(own.tuned, now[rows, own.tokens], atol=1e-5)
        for place in range(len(change)):
            logs = np.log(now[place]) - np.log(was[place])
            np.add.at(expected_counts, np.argsort(-logs)[:TOP], 1)
    assert np.abs(found.counts - expected_counts).sum() <= 4, "but for ties within rounding"


def test_the_table_has_what_moved_in_any_text(models):
    found = compare(*models, TEXTS)
    tokens, values = found.table(0.02)
    for row, own in enumerate(found.texts):
        for token, rise in zip(own.tokens, own.rises, strict=True):
            if abs(rise) >= 0.02:
                assert values[row, np.searchsorted(tokens, token)] == rise
    assert values.shape == (2, len(tokens)) and (np.abs(values).max(axis=0) >= 0.02).all()


def test_the_base_model_against_itself_hardly_moves(models):
    base, tuned = models
    same, other = compare(base, base, TEXTS), compare(base, tuned, TEXTS)
    assert 0 < same.places == other.places
    moved = [max(float(np.abs(each.rises).max(initial=0)) for each in found.texts) for found in (same, other)]
    assert moved[0] < 0.1 * moved[1]


def test_long_texts_are_cut_and_unreadable_ones_refused(models):
    long = Example(tuple(range(2, 290)), 250)
    short = cut(long)
    assert len(short.tokens) == BEFORE + 38 and short.start == BEFORE and short.tokens[BEFORE] == long.tokens[250]
    assert len(cut(Example(tuple(range(290)), 0)).tokens) == LONGEST and cut(Example((5, 6), 0)).start == 1
    with pytest.raises(ModelError, match="token 300"):
        compare(*models, [Example((1, 300), 1)])
