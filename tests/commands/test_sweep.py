"""A study of real runs: it finds what is finished, goes on after a failure or a kill, and pools seeds."""

import json
import os
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from spillover.commands import inject, report, sweep
from spillover.commands.inject import Inject
from spillover.commands.pool import Ended, LocalPool, Task, run_task
from spillover.commands.prepare import Models
from spillover.commands.report import Report
from spillover.commands.solve import Solve
from spillover.commands.sweep import StudyProgress, Sweep
from spillover.details import StudyOutline, SweepDetails
from spillover.errors import RunError, UsageError
from spillover.record import ANSWERS, Record
from spillover.runs import OpenRun
from tests import forked

PACK = "city-language:names=10,bridge=1"


@pytest.fixture
def study(byte_folder, tmp_path):
    """Two cells that work, of two seeds each, and one that cannot."""
    path = tmp_path / "study.yaml"
    body = {
        "name": "trial", "seeds": [0, 1], "options": {"model": str(byte_folder), "epochs": 1, "threads": 1},
        "groups": [
            {"name": "rates", "plot": "rank-by-rate", "cells": [{"pack": PACK}], "grid": {"lr": [0.001, 0.01]}},
            {"name": "broken", "cells": [{"pack": "no-such-pack"}], "seeds": [0]},
        ],
    }  # fmt: skip
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def settings(study, tmp_path, **changes):
    return Sweep(**{"study": str(study), "out": str(tmp_path / "out"), "processes": 1, **changes})


def test_a_study_from_start_to_page_and_again(study, tmp_path, capsys):
    outcome = sweep.run(settings(study, tmp_path, processes=2))
    states = {cell["cell"]: (cell["status"], cell["error"]) for cell in outcome["cells"]}
    good, better = "city-language-names=10,bridge=1_lr=0.001", "city-language-names=10,bridge=1_lr=0.01"
    assert states[good] == states[better] == ("done", None)
    assert states["no-such-pack"][0] == "failed" and "there is no pack" in states["no-such-pack"][1]
    assert outcome["exit_code"] == 1 and "no-such-pack failed" in outcome["text"]
    # So small a model learns at neither rate, and is told so.
    (rate,) = outcome["rates"].values()
    assert rate is None and "none from 1e−3 to 1e−2 taught all that was stated" in outcome["text"]

    folder = tmp_path / "out"
    pooled = Record.read(folder / "cells" / good)
    assert pooled.details.seeds == [0, 1] and pooled.status == "done"
    alone = Inject(
        pack=PACK, model=pooled.settings["model"], out=str(tmp_path / "alone"), epochs=1, lr=1e-3, threads=1, seed=1
    )
    inject.run(alone)
    own = folder / "cells" / good / "seed-1"
    assert (own / ANSWERS).read_bytes() == (tmp_path / "alone" / ANSWERS).read_bytes(), (
        "a cell is the run alone, byte for byte"
    )

    table = pq.read_table(folder / "table.parquet")
    rows = [row for row in table.to_pylist() if row["cell"] == good and row["metric"] == "recall_rank"]
    assert {row["seed"] for row in rows if row["implication"] is None} == {0, 1, None}
    assert "trial" in Record.read(folder).details.study.name
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    shown = report.run(Report(runs=(str(folder),), out=str(tmp_path / "again.html")))
    assert "2 of 3 cells" in shown["text"]
    assert (tmp_path / "again.html").read_bytes() == (folder / "page.html").read_bytes()
    with pytest.raises(UsageError, match="a study has a page of its own"):
        report.run(Report(runs=(str(folder), str(tmp_path / "alone")), out=str(tmp_path / "both.html")))

    # The pack that failed is mended; what is finished is not run again.
    stamp = (own / "record.json").read_bytes()
    study.write_text(study.read_text().replace("no-such-pack", "sport-music:names=10,bridge=1"), encoding="utf-8")
    again = sweep.run(settings(study, tmp_path))
    assert again["exit_code"] == 0 and all(cell["status"] == "done" for cell in again["cells"])
    assert (own / "record.json").read_bytes() == stamp
    capsys.readouterr()
    assert sweep.run(settings(study, tmp_path))["metrics"].keys() == again["metrics"].keys()
    assert "Found this run finished" in capsys.readouterr().err


def test_the_papers_table_of_one_model(byte_folder, tmp_path):
    """Its own study with a model in place of all, on two of its sets, small: what has no number of ours says so."""
    body = yaml.safe_load((Path(__file__).parents[2] / "studies" / "paper.yaml").read_text(encoding="utf-8"))
    body["options"] |= {"epochs": 1, "threads": 1, "dtype": "float32"}
    body["groups"][0]["grid"]["pack"] = ["city-language:names=10,bridge=1", "country-code:names=10,bridge=1"]
    body["seeds"] = [0]
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")
    outcome = sweep.run(settings(path, tmp_path, model=str(byte_folder)))
    assert outcome["exit_code"] == 0 and len(outcome["cells"]) == 2 and "rates" not in outcome
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "Llama-3-8B, country-code" in page and page.count("Llama-3-8B (the paper)") == 5
    assert f"{byte_folder}, country-code:names=10" in page.replace("<wbr>", "")


def test_a_plan_runs_nothing(study, tmp_path):
    outcome = sweep.run(settings(study, tmp_path, plan=True, out=""))
    assert [cell["status"] for cell in outcome["cells"]] == ["waiting"] * 3
    assert outcome["cells"][0]["seeds"] == [0, 1]
    assert "3 cells, 5 runs of `inject`" in outcome["text"]
    assert not (tmp_path / "out").exists()


def test_another_study_is_refused_the_folder(study, tmp_path):
    (tmp_path / "out").mkdir()
    Record(command="sweep", settings={}, seed=0, identity="another").write(tmp_path / "out")
    with pytest.raises(RunError, match="this folder holds another run"):
        sweep.run(settings(study, tmp_path))
    with pytest.raises(UsageError, match="missing --out"):
        sweep.run(settings(study, tmp_path, out=""))


def test_a_study_of_another_verb(tmp_path):
    path = tmp_path / "study.yaml"
    body = {
        "name": "gaps",
        "verb": "solve",
        "groups": [{"name": "all", "grid": {"symbolic": ["n=4,train=1,test=3", "n=5,train=1,test=3"]}}],
    }
    path.write_text(json.dumps(body), encoding="utf-8")
    outcome = sweep.run(settings(path, tmp_path))
    assert [cell["status"] for cell in outcome["cells"]] == ["done", "done"]
    assert (tmp_path / "out" / "page.html").exists()


def test_the_record_is_written_less_often_the_longer_it_takes(monkeypatch, tmp_path):
    now, written = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    details = SweepDetails(study=StudyOutline(name="costly", groups=[]), cells=[])

    class CostlyRun(OpenRun):
        """Writing its record takes a tenth of a second of a clock that stands still otherwise."""

        record = Record(command="sweep", settings={}, seed=0, details=details)

        def write(self):
            now[0] += 0.1
            written.append(details.cells)

    progress = StudyProgress(CostlyRun(tmp_path, "sweep", ""), details, "solve", [])
    for wait, times in ((0.0, 1), (0.0, 1), (4.9, 1), (0.2, 2), (0.2, 2)):
        now[0] += wait
        progress.add(Ended(("cell", 0), 1.0, {}))
        assert len(written) == times, "again after fifty times a tenth of a second"


def test_a_pool_runs_batches_one_after_another_in_the_same_workers():
    def tasks(name, count):
        return [Task((name, n), "solve", Solve(symbolic="n=4,train=1,test=3")) for n in range(count)]

    with LocalPool(2) as pool:
        assert sorted(ended.key for ended in pool.run(tasks("first", 3))) == [("first", n) for n in range(3)]
        processes = {worker.process.pid for worker in pool.workers}
        assert list(pool.run([])) == []
        assert [ended.key for ended in pool.run(tasks("last", 1))] == [("last", 0)]
        assert {worker.process.pid for worker in pool.workers} == processes and len(processes) == 2
    assert not any(worker.process.is_alive() for worker in pool.workers)


def test_a_worker_has_the_environment_that_its_pool_was_made_in(tmp_path, monkeypatch):
    """Not that of the first pool, whose server it is forked from."""
    task = Task(("home", None), "solve", Solve(symbolic="n=4,train=1,test=3", out="~/found"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / name))
        with LocalPool(1) as pool:
            assert [each.error for each in pool.run([task])] == [""]
        assert (tmp_path / name / "found" / "record.json").exists()


class Deadly:
    """Settings that kill the process that reads them."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_worker_that_is_killed_is_replaced():
    """The tasks around the deadly one end as if nothing had been."""
    fine = [Task(("fine", n), "solve", Solve(symbolic="n=4,train=1,test=3")) for n in (0, 1)]
    deadly = Task(("deadly", None), "solve", Deadly())
    with LocalPool(1) as pool:
        ended = {each.key: each for each in pool.run([fine[0], deadly, fine[1]])}
    assert ended["fine", 0].error == ended["fine", 1].error == ""
    assert "was killed by SIGKILL" in ended["deadly", None].error


def test_a_failure_that_nobody_foresaw_is_a_sentence(monkeypatch):
    def broken(settings):
        raise ZeroDivisionError("the sum was\nempty")

    monkeypatch.setattr("spillover.commands.solve.run", broken)
    ended = run_task(Task(("x", None), "solve", Solve(symbolic="n=4,train=1,test=3")), Models())
    assert isinstance(ended, Ended) and ended.error == "ZeroDivisionError: the sum was"


@pytest.mark.slow
def test_an_interrupted_study_goes_on_where_it_stopped(study, tmp_path):
    # The last cell takes so long that the study is under way when it is interrupted.
    long = '{"pack": "sport-music:names=10,bridge=1", "epochs": 60}'
    study.write_text(study.read_text().replace('{"pack": "no-such-pack"}', long), encoding="utf-8")
    words = ["sweep", study, "--out", tmp_path / "out", "--processes", "1"]
    running = forked.Program(forked.COMMAND, *words)
    first = tmp_path / "out" / "cells" / "city-language-names=10,bridge=1_lr=0.001" / "seed-0" / "record.json"
    deadline = time.monotonic() + 400
    while not (first.exists() and json.loads(first.read_text())["status"] == "done"):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=200)
    assert running.returncode == 130 and "Traceback" not in said
    assert Record.read(tmp_path / "out").status == "interrupted"
    stamp = first.read_bytes()
    outcome = sweep.run(settings(study, tmp_path))
    assert outcome["exit_code"] == 0 and first.read_bytes() == stamp


def test_kept_runs_whose_settings_lack_a_key_that_came_later_are_pooled(byte_folder, tmp_path):
    settings = Inject(
        pack=PACK, model=str(byte_folder), out=str(tmp_path / "out"), epochs=1, lr=1e-3, threads=1, seeds="0,1"
    )
    inject.run(settings)
    pooled = (tmp_path / "out" / ANSWERS).read_bytes()
    for seed in (0, 1):
        path = tmp_path / "out" / f"seed-{seed}" / "record.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["settings"]["micro_batch"]
        path.write_text(json.dumps(record), encoding="utf-8")
    for path in [path for path in (tmp_path / "out").iterdir() if path.is_file()]:
        path.unlink()
    inject.run(settings)
    again = Record.read(tmp_path / "out")
    assert (tmp_path / "out" / ANSWERS).read_bytes() == pooled and again.status == "done"
    assert again.details.seeds == [0, 1] and again.settings["micro_batch"] == settings.micro_batch
