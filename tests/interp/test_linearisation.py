"""The first-order expansion at the base weights: by hand, against differences, and where the change is small."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spillover.interp.linearisation import slopes
from spillover.interp.patching import Change
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request
from spillover.metrics.patching import alignment
from tests.lm.test_architectures import built

ASKS = [Request((3, 4, 5, last), ((7, 8), (9,), (10, 11, 12))) for last in (6, 13, 14)]


class Table(torch.nn.Module):
    """Logits are a row of a table for the last token: a model that is linear in its parameters."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 4, bias=False)
        torch.nn.init.zeros_(self.head.weight)
        self.config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(vocab_size=4, max_position_embeddings=None)
        )  # fmt: skip
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.head(torch.nn.functional.one_hot(input_ids, 4).float()))


class _Odd(torch.autograd.Function):
    """The identity, without a derivative in forward mode."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient


class OddTable(Table):
    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=_Odd.apply(super().forward(input_ids).logits))


def taught(model):
    """Token 0 is followed by k with logit k."""
    weight = model.head.weight.detach().clone()
    weight[:, 0] = torch.arange(4.0)
    return Change(model, {"head.weight": weight})


@pytest.mark.parametrize(("kind", "how"), [(Table, "forward mode"), (OddTable, "finite difference")])
def test_by_hand(kind, how):
    """d log p_k = k - mean of 0, 1, 2, 3: from equal odds, the mean weighs all four alike."""
    change = taught(kind())
    found, told = slopes(change, [Request((0,), ((1,), (2,), (3,)))], "plain")
    assert told == how
    assert found[0] == pytest.approx([-0.5, 0.5, 1.5], abs=1e-3 if how == "finite difference" else 1e-6)


def test_a_model_that_is_linear_in_its_parameters_is_its_own_expansion_between_candidates():
    """Log-probabilities are not linear, for their normaliser is not; differences within a question are."""
    change = taught(Table())
    ask = Request((0,), ((1,), (2,), (3,)))
    linear = slopes(change, [ask], "plain")[0][0]
    before = Scorer(change.model, method="plain").score([ask])[0]
    with change.only(change.whole) as model:
        actual = Scorer(model, method="plain").score([ask])[0] - before
    assert actual == pytest.approx(np.arange(1, 4) - np.log(np.exp(range(4)).mean()), abs=1e-6)
    found = alignment(linear - linear.mean(), actual - actual.mean(), np.array(["a"] * 3))
    assert found["cosine"].value == pytest.approx(1, abs=1e-9)
    assert found["relative_error"].value == pytest.approx(0, abs=1e-5)
    assert alignment(linear, actual, np.array(["a"] * 3))["cosine"].value < 0.9


def tuned(base, size):
    generator = torch.Generator().manual_seed(1)
    return {name: value.detach() + size * torch.randn(value.shape, generator=generator)
            for name, value in base.named_parameters()}  # fmt: skip


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "gpt-neox"])
def test_forward_mode_agrees_with_differences(family):
    base = built(family, 60)
    change = Change(base, tuned(base, 0.01))
    scorer = Scorer(base)
    scorer.score(ASKS)
    found, how = slopes(change, ASKS, scorer.method)
    assert how == "forward mode" and scorer.method == "tree"
    ends = []
    for size in (2e-2, -2e-2):
        with change.share(size) as model:
            ends.append(np.concatenate(Scorer(model, method=scorer.method).score(ASKS)))
    assert np.concatenate(found) == pytest.approx((ends[0] - ends[1]) / 4e-2, abs=2e-3)


def test_a_small_change_is_lazy_and_a_large_one_is_not():
    base = built("llama", 60)
    cosines = []
    for size in (3e-4, 0.3):
        change = Change(base, tuned(base, size))
        scorer = Scorer(base)
        before = np.concatenate(scorer.score(ASKS))
        linear = np.concatenate(slopes(change, ASKS, scorer.method)[0])
        with change.only(change.whole):
            actual = np.concatenate(scorer.score(ASKS)) - before
        cosines.append(alignment(linear, actual, np.array(["a"] * len(actual)))["cosine"].value)
    assert cosines[0] > 0.999 and cosines[1] < 0.9
