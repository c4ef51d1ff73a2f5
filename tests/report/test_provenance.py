"""How a run was made can be typed again; what a reader takes away opens safely and holds the same numbers."""

import base64
import csv
import gzip
import io
import json

import pytest

from spillover.record import Record
from spillover.report import provenance as module
from spillover.report.provenance import cell, command_line, duration, of_metrics, of_ranks, provenance


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


def body(link):
    return base64.b64decode(link.href.partition(";base64,")[2])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_formula_like_text_is_neutralised(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize(("value", "shown"), [("Paris", "Paris"), (-3, -3), (-0.25, "-0.25"), (None, None)])
def test_other_cells_stay(value, shown):
    assert cell(value) == shown


def test_ranks_have_one_row_a_question_prompt_and_checkpoint(make):
    run = make(epochs=1)
    link = of_ranks([("=run", run)])
    rows = list(csv.DictReader(io.StringIO(body(link).decode())))
    assert (link.name, len(rows)) == ("spillover-ranks.csv", len(run.ranks))
    # 50 names: one row for the city, two prompts for the language, before and after.
    assert len(rows) == 50 * 3 * 2
    assert {row["run"] for row in rows} == {"'=run"}
    assert sum(float(row["rank"]) for row in rows) == pytest.approx(run.ranks.rank.sum())


def test_large_tables_are_packed(make, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1000)
    run = make(epochs=1)
    link = of_ranks([("run", run)])
    assert link.name.endswith(".csv.gz")
    assert gzip.decompress(body(link)).startswith(b"run,seed,checkpoint,")
    assert link == of_ranks([("run", run)])


def test_metrics_are_the_records(make):
    run = make()
    (found,) = json.loads(body(of_metrics([("a run", run)])))
    assert (found["label"], found["settings"]["epochs"]) == ("a run", 4)
    assert found["metrics"]["implication_rank_test"]["value"] == pytest.approx(4.4 / 8)
