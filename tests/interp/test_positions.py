"""Weights and activations at the tokens of one role, held against caches that another model filled."""

import copy
import json

import numpy as np
import pytest
import torch

from spillover.errors import ModelError
from spillover.interp.patching import Change
from spillover.interp.positions import (
    LAST,
    NAME,
    OTHER,
    ROLES,
    GraftedScorer,
    PatchedScorer,
    blocks_of,
    position_models,
    roles_of,
)
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request, encoder
from spillover.packs.open import open_pack
from tests.interp.test_patching import change_of, pair
from tests.packs.packs_on_disk import write
from tests.tiny_models import FAMILIES as TOKENIZERS
from tests.tiny_models import wrapped

FAMILIES = ["gemma3", "gpt2", "gpt-neox", "llama-tied", "olmo2", "qwen2"]
#: A name of three tokens, two words, and the last; answers of one to three tokens.
REQUESTS = [
    Request((1, 30, 31, 32, 40, 41, 42), ((50,), (51, 52), (51, 53, 54))),
    Request((1, 33, 34, 40, 42), ((50,), (51, 52), (51, 53, 54))),
]
AT = [(OTHER, NAME, NAME, NAME, OTHER, OTHER, LAST), (OTHER, NAME, NAME, OTHER, LAST)]


def changed(family):
    base, tuned = pair(family)
    return base, tuned, change_of(base, tuned)


def one_by_one(models, requests, roles):
    """Each token read by the model that its role has, behind the cache that the tokens before it filled."""
    found = []
    for request, own in zip(requests, roles, strict=True):
        scores = []
        for candidate in request.candidates:
            tokens, cache, score = request.prompt + candidate, None, 0.0
            for place, token in enumerate(tokens[:-1]):
                model = models[own[place] if place < len(own) else LAST]
                out = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                if place >= len(own) - 1:
                    score += float(out.logits[0, -1].double().log_softmax(-1)[tokens[place + 1]])
            scores.append(score)
        found.append(np.array(scores))
    return found


def same(one, two):
    for own, other in zip(one, two, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", ROLES)
def test_a_graft_is_what_caches_of_the_two_models_give(family, role):
    base, tuned, change = changed(family)
    kept = copy.deepcopy(base.state_dict())
    with torch.no_grad():
        for left_out in (False, True):
            here, elsewhere = (base, tuned) if left_out else (tuned, base)
            expected = one_by_one({each: here if each == role else elsewhere for each in ROLES}, REQUESTS, AT)
            for method in ("plain", "tree"):
                scorer = GraftedScorer(change, AT, role, change.whole.region, left_out=left_out, method=method)
                same(scorer.score(REQUESTS), expected)
    assert all(torch.equal(value, kept[name]) for name, value in base.state_dict().items())


#: The same with one token an answer, so that every token that is read belongs to the prompt.
SHORT = [Request(each.prompt, ((50,), (51,))) for each in REQUESTS]
EVERYWHERE = [[NAME] * len(each.prompt) for each in SHORT]


@pytest.mark.parametrize("family", ["gpt2", "llama-tied"])
def test_a_layer_at_every_token_is_that_part_of_the_change(family):
    _, _, change = changed(family)
    for part in change.parts:
        if part.kind != "layer":
            continue
        for left_out, patched in ((False, change.only), (True, change.without)):
            with patched(part) as model:
                expected = Scorer(model, method="plain").score(SHORT)
            same(GraftedScorer(change, EVERYWHERE, NAME, part.region, left_out=left_out).score(SHORT), expected)


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "llama"])
def test_an_activation_carries_what_the_layers_before_it_did(family):
    """A change of the first layer is whole behind it; one of the second layer is not there before it."""
    base, tuned, change = changed(family)
    first, second = blocks_of(change)
    untouched = Scorer(base, method="plain").score(SHORT)
    for block, named in ((first, [first, second]), (second, [second])):
        own = {name: value for name, value in tuned.named_parameters() if name.startswith(f"{block}.")}
        change = Change(base, own)
        with change.only(change.whole) as model:
            whole = Scorer(model, method="plain").score(SHORT)
        for behind in (first, second):
            scores = PatchedScorer(change, EVERYWHERE, NAME, behind).score(SHORT)
            same(scores, whole if behind in named else untouched)
            # Behind the last layer nothing reads what other tokens hold.
            elsewhere = PatchedScorer(change, AT, OTHER, second).score(REQUESTS)
            same(elsewhere, Scorer(base, method="plain").score(REQUESTS))


def test_the_models_between_the_base_and_the_tuned_one():
    _, _, change = changed("llama")
    by_layer = position_models(change, AT)
    weights = [each for each in by_layer if each.kind == "position"]
    assert [each.part for each in weights if not each.left_out] == [
        f"{role}, {name}" for name in ("every layer", "layer 1", "layer 2") for role in ROLES
    ]
    assert [each.part for each in weights if each.left_out] == [each.part for each in weights if not each.left_out]
    behind = [each.part for each in by_layer if each.kind == "activation"]
    assert behind == [f"{role}, behind layer {number}" for number in (1, 2) for role in ROLES]
    assert [each.part for each in position_models(change, AT, bands=1)][6] == "subject, layers 1-2"
    assert position_models(change, AT, bands=6)[6].part == "subject, layer 1", "no more bands than layers"
    scorer = by_layer[0].scorer()
    same(scorer.score(REQUESTS), GraftedScorer(change, AT, NAME, change.whole.region).score(REQUESTS))


PACK = """
name: where they live
relations:
  lives_in:
    prompts: ["{subject} lives in", "The home of {subject}", "{subject}"]
facts: facts.jsonl
"""


#: How these tokenizers write a space.
GAPS = "\u2581\u0120"


@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize("bos", [True, False])
def test_every_token_has_its_role(family, bos, tmp_path):
    facts = [{"subject": name, "relation": "lives_in", "answer": "Paris"} for name in ("Ada Moss", "Zoë Åström")]
    pack = open_pack(write(tmp_path, PACK, "\n".join(map(json.dumps, facts))))
    tokenizer = wrapped(TOKENIZERS[family](), bos)
    encode = encoder(tokenizer)
    for subject in pack.subjects:
        for prompt, (before, after) in enumerate([("", " lives in"), ("The home of ", ""), ("", "")]):
            tokens = encode(before + subject + after)
            roles = roles_of(tokenizer, encode, pack, "lives_in", subject, prompt)
            assert len(roles) == len(tokens) and roles[-1] == LAST
            assert bos == (roles[0] == OTHER and tokens[0] == 1) or before
            said = dict.fromkeys(ROLES, "")
            for token, role in list(zip(tokenizer.convert_ids_to_tokens(tokens), roles, strict=True))[bos:]:
                said[role] += token
            whole = "".join(tokenizer.convert_ids_to_tokens(encode(subject)[bos:]))
            if after:
                assert said[NAME].strip(GAPS) == whole.strip(GAPS)
                assert (said[OTHER] + said[LAST]).endswith("in") and "lives" in said[OTHER] + said[LAST]
            else:
                assert (said[NAME] + said[LAST]).strip(GAPS) == whole.strip(GAPS)
                assert ("home" in said[OTHER]) == bool(before)


def test_what_does_not_treat_each_token_by_itself_is_refused():
    _, _, change = changed("llama")
    change.model.model.layers[0].mlp.down_proj = torch.nn.Sequential(Odd(change.model.model.layers[0].mlp.down_proj))
    odd = Change(change.model, {name: value + 1 for name, value in change.model.named_parameters()})
    with pytest.raises(ModelError, match="may not treat each token by itself"):
        GraftedScorer(odd, AT, NAME, odd.whole.region)


class Odd(torch.nn.Module):
    """A layer that mixes tokens, for all that its name says."""

    def __init__(self, inner):
        super().__init__()
        self.weight = inner.weight

    def forward(self, hidden):
        return torch.nn.functional.linear(hidden, self.weight).cumsum(1)
