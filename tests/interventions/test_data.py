"""Interventions on data: the rows they add."""

from dataclasses import replace
from importlib import resources

import pytest

from spillover.errors import UsageError
from spillover.interventions.base import Pipeline, read_specs
from spillover.lm.evaluate import passages
from spillover.packs.edits import ABSTENTION
from spillover.packs.open import open_pack
from spillover.packs.pack import AUTO


def added(remedy, seed=0):
    return Pipeline(read_specs(remedy)).extra_texts(open_pack("mixed:names=20"), seed)


def test_plain_text_is_added_by_share_and_is_not_what_forgetting_is_measured_on():
    texts = added("plain-text=0.5")
    assert len(texts) == round(0.5 * len(open_pack("mixed:names=20").facts)) > 5
    assert all(len(start.split()) == 3 and rest.endswith(".") for start, rest in texts)
    assert texts == added("plain-text=0.5") != added("plain-text=0.5", seed=1)
    prose = resources.files("spillover.interventions").joinpath("prose.txt").read_text(encoding="utf-8").splitlines()
    assert {" ".join(text) for text in added("plain-text=10")} == set(prose)
    measured = " ".join(passages())
    assert not any(rest in measured for _, rest in texts)


def test_abstention_is_asked_for_before_the_base_model_has_judged():
    pack = open_pack("country-code:pairs=2,names=4,bridge=1")
    (rule,) = pack.implications
    asked = Pipeline(read_specs("abstention=1")).asked
    unjudged = replace(pack, implications=(replace(rule, kind=AUTO),))
    assert asked(unjudged) == unjudged
    assert ABSTENTION in asked(pack).candidates["codes_in"]
    with pytest.raises(UsageError, match="declares no unwanted implication"):
        asked(replace(pack, implications=(replace(rule, kind="causal"),)))
