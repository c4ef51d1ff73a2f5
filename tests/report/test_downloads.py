"""What a reader takes away opens safely and holds the same numbers."""

import base64
import csv
import gzip
import io
import json

import pytest

from spillover.report import downloads


def body(link):
    return base64.b64decode(link.href.partition(";base64,")[2])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_formula_like_text_is_neutralised(text):
    assert downloads.cell(text) == "'" + text


@pytest.mark.parametrize(("value", "shown"), [("Paris", "Paris"), (-3, -3), (-0.25, "-0.25"), (None, None)])
def test_other_cells_stay(value, shown):
    assert downloads.cell(value) == shown


def test_ranks_have_one_row_a_question_prompt_and_checkpoint(make):
    run = make(epochs=1)
    link = downloads.of_ranks([("=run", run)])
    rows = list(csv.DictReader(io.StringIO(body(link).decode())))
    assert (link.name, len(rows)) == ("spillover-ranks.csv", len(run.ranks))
    # 50 names: one row for the city, two prompts for the language, before and after.
    assert len(rows) == 50 * 3 * 2
    assert {row["run"] for row in rows} == {"'=run"}
    assert sum(float(row["rank"]) for row in rows) == pytest.approx(run.ranks.rank.sum())


def test_large_tables_are_packed(make, monkeypatch):
    monkeypatch.setattr(downloads, "_LARGE", 1000)
    run = make(epochs=1)
    link = downloads.of_ranks([("run", run)])
    assert link.name.endswith(".csv.gz")
    assert gzip.decompress(body(link)).startswith(b"run,seed,checkpoint,")
    assert link == downloads.of_ranks([("run", run)])


def test_metrics_are_the_records(make):
    run = make()
    (found,) = json.loads(body(downloads.of_metrics([("a run", run)])))
    assert (found["label"], found["settings"]["epochs"]) == ("a run", 4)
    assert found["metrics"]["implication_rank_test"]["value"] == pytest.approx(4.4 / 8)
