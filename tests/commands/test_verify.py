"""Verifying and repeating a real run: whole, tampered with, cut short, and on other versions."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from spillover.commands import inject, rerun, verify
from spillover.commands.inject import Inject
from spillover.commands.rerun import Rerun
from spillover.commands.verify import Verify
from spillover.errors import RunError
from spillover.record import ANSWERS, Record

PACK = "city-language:names=10,bridge=1"


@pytest.fixture
def folder(byte_folder, tmp_path):
    inject.run(Inject(pack=PACK, model=str(byte_folder), out=str(tmp_path / "run"), epochs=1, threads=1, seeds="0,1"))
    return tmp_path / "run"


def states(folder):
    outcome = verify.run(Verify(run=str(folder)))
    return outcome, {(check["run"], check["name"]): check["state"] for check in outcome["checks"]}


def change(folder, **fields):
    record = json.loads((folder / "record.json").read_text())
    record.update(fields)
    (folder / "record.json").write_text(json.dumps(record))
    return record


def test_a_whole_run_is_whole_with_all_its_seeds(folder):
    outcome, found = states(folder)
    assert outcome["trusted"] and outcome["repeatable"] and outcome["exit_code"] == 0
    assert set(found.values()) == {"ok"}
    assert {run for run, _ in found} == {"run", "run/seed-0", "run/seed-1"}
    assert "can be repeated here" in outcome["text"]


def test_a_table_that_changed_is_found_twice(folder):
    table = pq.read_table(folder / "seed-1" / ANSWERS)
    scores = table["log_probability"].to_pylist()
    scores[::3] = [0.0] * len(scores[::3])
    position = table.schema.get_field_index("log_probability")
    pq.write_table(table.set_column(position, table.schema.field(position), [scores]), folder / "seed-1" / ANSWERS)
    outcome, found = states(folder)
    assert not outcome["trusted"] and outcome["exit_code"] == 1
    assert found["run/seed-1", ANSWERS] == found["run/seed-1", "metrics"] == "wrong"
    assert found["run", ANSWERS] == "ok"


def test_a_table_cut_short_or_gone_is_wrong(folder):
    path = folder / "seed-0" / ANSWERS
    path.write_bytes(path.read_bytes()[:100])
    (folder / "trajectory.parquet").unlink()
    _, found = states(folder)
    assert (
        found["run/seed-0", ANSWERS] == found["run/seed-0", "metrics"] == found["run", "trajectory.parquet"] == "wrong"
    )


def test_a_number_that_was_edited_is_wrong(folder):
    metrics = Record.read(folder).metrics
    metrics["recall_rank"]["value"] = 0.0
    change(folder, metrics=metrics)
    outcome, found = states(folder)
    assert found["run", "metrics"] == "wrong" and "recall_rank does not follow" in outcome["text"]


def test_a_measure_that_is_newer_than_the_run_leaves_it_trusted(folder):
    """The record lacks a metric, at the top and of an implication; what it has must follow from the answers still."""
    metrics = dict(Record.read(folder).metrics)
    del metrics["paraphrase_rank_test"]
    ((name, own),) = metrics["implications"].items()
    metrics["implications"] = {name: {key: value for key, value in own.items() if key != "marginal_rank"}}
    change(folder, metrics=metrics)
    outcome, found = states(folder)
    assert outcome["trusted"] and found["run", "metrics"] == "ok"
    metrics["implications"][name]["chance_rank"] = {**own["chance_rank"], "value": 0.0}
    change(folder, metrics=metrics)
    outcome, found = states(folder)
    assert found["run", "metrics"] == "wrong" and "implications does not follow" in outcome["text"]
    change(folder, metrics={})
    assert states(folder)[1]["run", "metrics"] == "wrong"


def test_what_only_hinders_a_repetition_is_missing(folder):
    record = change(folder, versions={"torch": "0.1"}, hashes={"pack": "0" * 64})
    del record["details"]["files"]
    change(folder, details=record["details"])
    outcome, found = states(folder)
    assert outcome["trusted"] and not outcome["repeatable"] and outcome["exit_code"] == 0
    assert found["run", "versions"] == found["run", "pack"] == found["run", "files"] == "missing"
    assert "torch 0.1 (here " in outcome["text"] and "may differ" in outcome["text"]


def test_a_model_folder_that_changed_or_went_hinders_a_repetition(byte_folder, tmp_path):
    shutil.copytree(byte_folder, tmp_path / "model")
    folder = tmp_path / "run"
    inject.run(Inject(pack=PACK, model=str(tmp_path / "model"), out=str(folder), epochs=1, threads=1))
    assert states(folder)[1]["run", "model"] == "ok"
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    outcome, found = states(folder)
    assert outcome["trusted"] and found["run", "model"] == "missing" and "are not what they were" in outcome["text"]
    shutil.rmtree(tmp_path / "model")
    assert "model is no longer here" in states(folder)[0]["text"]


def test_an_unfinished_run_is_not_trusted(folder):
    change(folder, status="interrupted")
    outcome, found = states(folder)
    assert found["run", "finished"] == "wrong" and "cannot be trusted" in outcome["text"]
    with pytest.raises(RunError, match="there is no finished run here"):
        verify.run(Verify(run=str(folder.parent)))


def test_a_repetition_has_the_same_bytes(folder, tmp_path):
    outcome = rerun.run(Rerun(run=str(folder), out=str(tmp_path / "again")))
    assert outcome["same"] is True and len(outcome["compared"]) == 6
    assert "same bytes" in outcome["text"] and outcome["metrics"]["recall_rank"]["clusters"] == 10
    (folder / "seed-1" / ANSWERS).write_bytes(b"another")
    outcome = rerun.run(Rerun(run=str(folder), out=str(tmp_path / "again")))
    assert outcome["same"] is False and "different" in outcome["text"]


def test_what_cannot_be_repeated_is_said(folder, tmp_path):
    with pytest.raises(RunError, match="must not overwrite its run"):
        rerun.run(Rerun(run=str(folder), out=str(folder)))
    change(folder, command="trainer")
    with pytest.raises(RunError, match="made by another program"):
        rerun.run(Rerun(run=str(folder), out=str(tmp_path / "again")))
    change(folder, command="inject", settings={"pack": PACK})
    with pytest.raises(RunError, match="does not say what model was"):
        rerun.run(Rerun(run=str(folder), out=str(tmp_path / "again")))
