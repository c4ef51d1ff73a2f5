"""Parts of a change put into the base model, or left out of the tuned one; and its first-order expansion."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spillover.errors import ModelError
from spillover.interp.patching import COMPONENTS, Change, moved, parts_of, preference, slopes
from spillover.lm.output_value import changes_of, merge_output_value, products
from spillover.lm.save import merged
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request
from spillover.metrics.implications import mean_moved
from spillover.metrics.patching import alignment
from tests.lm.test_architectures import built
from tests.tiny_models import tied_llama

FAMILIES = ["gemma3", "gpt2", "gpt-neox", "llama", "qwen2"]
TOKENS = torch.arange(3, 20)[None]


def pair(family):
    base = built(family, 60)
    tuned = copy.deepcopy(base)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return base, tuned


def change_of(base, tuned):
    return Change(base, dict(tuned.named_parameters()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["component", "layer"])
def test_every_number_is_in_exactly_one_part(family, kind):
    model = built(family, 60)
    parts = [part for part in parts_of(model, dict(model.named_parameters())) if part.kind == kind]
    expected = COMPONENTS if kind == "component" else ("layer 1", "layer 2", "outside the layers")
    assert [part.name for part in parts] == list(expected)
    for name, weight in model.named_parameters():
        masks = [part.region[name] for part in parts if name in part.region]
        count = sum(torch.ones_like(weight) if mask is None else mask.float() for mask in masks)
        assert torch.equal(count, torch.ones_like(weight)), name


@pytest.mark.parametrize(
    ("family", "part", "ends"),
    [
        ("llama", "output-value", {"v_proj.weight", "o_proj.weight"}),
        ("llama", "key-query", {"q_proj.weight", "k_proj.weight"}),
        ("llama", "mlp", {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}),
        ("llama", "embeddings", {"embed_tokens.weight", "lm_head.weight"}),
        ("qwen2", "output-value", {"v_proj.weight", "v_proj.bias", "o_proj.weight"}),
        ("gpt2", "key-query", {"c_attn.weight", "c_attn.bias"}),
        ("gpt2", "embeddings", {"wte.weight", "wpe.weight"}),
    ],
)
def test_what_belongs_where(family, part, ends):
    model = built(family, 60)
    found = next(each for each in parts_of(model, dict(model.named_parameters())) if each.name == part)
    assert {".".join(name.rsplit(".", 2)[-2:]) for name in found.region} == ends


def test_of_a_fused_projection_the_values_are_a_third():
    model = built("gpt2", 60)
    component = {part.name: part.region for part in parts_of(model, dict(model.named_parameters()))}
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias"):
        columns = component["output-value"][name].float().reshape(-1, 96).mean(0)
        assert columns.tolist() == [0.0] * 64 + [1.0] * 32, "queries and keys of 32 each, then values"


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_one_part_at_a_time_and_the_base_afterwards_byte_for_byte(family):
    base, tuned = pair(family)
    kept = copy.deepcopy(base.state_dict())
    change = change_of(base, tuned)
    with torch.no_grad():
        before, after = base(TOKENS).logits, tuned(TOKENS).logits
        with change.only(change.whole) as model:
            assert torch.equal(model(TOKENS).logits, after)
        with change.without(change.whole) as model:
            assert torch.equal(model(TOKENS).logits, before)
        seen = []
        for part in change.parts:
            for patched in (change.only, change.without):
                with patched(part) as model:
                    seen.append(float(model(TOKENS).logits.double().sum()))
                assert all(torch.equal(value, kept[name]) for name, value in base.state_dict().items())
    assert len({*seen, float(before.double().sum()), float(after.double().sum())}) == len(seen) + 2
    with pytest.raises(KeyboardInterrupt), change.without(change.parts[0]):
        raise KeyboardInterrupt
    assert all(torch.equal(value, kept[name]) for name, value in base.state_dict().items())


def test_a_part_alone_and_all_but_it_add_up_to_the_change():
    base, tuned = pair("gpt2")
    change = change_of(base, tuned)
    for part in change.parts:
        states = []
        for patched in (change.only, change.without):
            with patched(part) as model:
                states.append({name: value.detach().clone() for name, value in model.named_parameters()})
        for name, start in base.named_parameters():
            torch.testing.assert_close(states[0][name] - start + states[1][name] - start, change.after[name] - start)


def test_parts_that_did_not_change_are_left_out_and_other_models_refused():
    base = built("llama", 60)
    tuned = dict(base.named_parameters())
    values = "model.layers.1.self_attn.v_proj.weight"
    change = Change(base, {**tuned, values: tuned[values] + 1})
    assert [part.name for part in change.parts] == ["output-value", "layer 2"]
    assert Change(base, tuned).parts == []
    with pytest.raises(ModelError, match="has no counterpart of its shape in the base model"):
        Change(base, dict(built("llama", 61).named_parameters()))


def test_how_far_it_moved_by_hand():
    base = built("llama", 60)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.fill_(2.0)
        for name, parameter in tuned.named_parameters():
            parameter.fill_(2.0 + (1.0 if "mlp" in name else 0.5 if "v_proj" in name else 0.0))
    found = moved(base, tuned)
    assert found["mlp"] == pytest.approx(0.5) and found["output-value"] == pytest.approx(0.25)
    values, mlp = 2 * 32 * 16, 2 * 3 * 32 * 48
    assert found["everything"] == pytest.approx(((mlp + 0.25 * values) / (4 * (mlp + values))) ** 0.5)
    assert set(found) == {"everything", "mlp", "output-value", "layer 1", "layer 2"}
    assert moved(base, base) == {}
    merge_output_value(half := copy.deepcopy(base))
    assert moved(base, half) == {}
    for product, change in zip(products(base), changes_of(half).values(), strict=True):
        change.copy_(0.5 * product.left @ product.right)
    assert moved(base, half) == pytest.approx({"everything": 0.5})
    assert mean_moved([found, {"mlp": 1.5}])["mlp"] == pytest.approx(1.0)


def test_an_adapter_counts_as_what_it_adds():
    from peft import LoraConfig, get_peft_model

    base = built("llama", 60)
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False))
    merged = copy.deepcopy(adapted).merge_and_unload()
    assert moved(base, adapted) == pytest.approx(moved(base, merged)) and "output-value" in moved(base, adapted)


def test_a_weight_that_input_and_output_share_may_be_changed_under_one_of_its_names():
    from peft import LoraConfig, get_peft_model

    base = tied_llama(60)
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    whole = merged(adapted)
    before, after = base.lm_head.weight, whole.lm_head.weight
    assert torch.equal(whole.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert not whole.config.tie_word_embeddings and base.config.tie_word_embeddings
    size = float(((after - before).norm() / before.norm()).detach())
    assert moved(base, adapted) == pytest.approx(
        dict.fromkeys(["everything", "embeddings", "outside the layers"], size)
    )
    change = Change(base, dict(whole.named_parameters()))
    assert list(change.after) == ["lm_head.weight"]
    for part in (change.whole, *change.parts):
        with torch.no_grad(), change.only(part) as patched:
            torch.testing.assert_close(patched(TOKENS).logits, whole(TOKENS).logits)
    with torch.no_grad():
        torch.testing.assert_close(base(TOKENS).logits, change.model(TOKENS).logits)
    assert base.lm_head.weight is base.model.embed_tokens.weight, "the model itself is as it was"


def test_tied_weights_that_were_trained_together_count_once():
    base = tied_llama(60)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.lm_head.weight.mul_(1.5)
    assert moved(base, tuned) == pytest.approx(dict.fromkeys(["everything", "embeddings", "outside the layers"], 0.5))
    assert list(change_of(base, tuned).after) == ["model.embed_tokens.weight"]


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

    get_input_embeddings = get_output_embeddings

    def save_pretrained(self, save_directory):
        raise NotImplementedError

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


def test_efficiency_and_stability_by_hand():
    """Loss: half the squared distance to the tuned weights. The change takes half its squared norm away, an efficiency
    of 1/2; noise of half the change's length adds an eighth of it. Along the change noise does nothing."""
    base, tuned = pair("llama")
    change, wanted = (
        change_of(base, tuned),
        {name: weight.detach().clone() for name, weight in tuned.named_parameters()},
    )
    first = {name: weight.detach().clone() for name, weight in base.named_parameters()}

    def distance(model):
        return (
            sum(float((weight - wanted[name]).double().square().sum()) for name, weight in model.named_parameters()) / 2
        )

    found = preference(change, distance, size=0.5, draws=2)
    squared = sum(float((wanted[name] - first[name]).double().square().sum()) for name in wanted)
    assert found.squared_norm == pytest.approx(squared, rel=1e-6)
    assert (found.before, found.after) == (pytest.approx(squared / 2, rel=1e-6), 0)
    assert found.efficiency == pytest.approx(0.5, rel=1e-6)
    assert found.disturbed == pytest.approx([squared / 8] * 2, rel=1e-5)

    def along(model):
        deltas = ((weight - first[name], wanted[name] - first[name]) for name, weight in model.named_parameters())
        return sum(float((now.double() * then.double()).sum()) for now, then in deltas)

    assert preference(change, along).disturbed == pytest.approx([0] * 4, abs=1e-4 * squared)
    assert all(torch.equal(weight, first[name]) for name, weight in base.named_parameters())
    with pytest.raises(ModelError, match="changed no weight"):
        preference(change_of(base, copy.deepcopy(base)), distance)
