"""How a run was made: nothing empty, the command can be typed again."""

import pytest

from spillover.record import Record
from spillover.report.provenance import command_line, duration, provenance


def test_groups_in_order_without_empty_values(make):
    groups = dict(provenance(make()))
    assert list(groups) == ["Run", "Model", "Facts", "Settings", "Versions", "Hardware", "Hashes"]
    assert all(text for terms in groups.values() for _, text in terms)
    assert dict(groups["Model"])["what was trained"] == "all weights but the embeddings trained"
    assert dict(groups["Facts"])["counts"] == "60 facts, 40 questions, 50 subjects"


def test_the_command_names_only_what_differs():
    settings = {"pack": "my pack", "model": "m", "out": "/a/b/c", "freeze_embeddings": False, "json": True, "lora": 0}
    text = command_line(Record(command="inject", settings=settings, seed=0))
    assert text == "spillover inject 'my pack' --model m --out c --no-freeze-embeddings"


def test_a_whole_command_stays():
    assert command_line(Record(command="python train.py", settings={}, seed=0)) == "python train.py"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (241.0, "4 min 1 s")])
def test_duration(seconds, text):
    assert duration(seconds) == text
