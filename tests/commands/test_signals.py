"""The command itself, as a process: asked to end, killed, started twice; and the study that runs it."""

import dataclasses
import json
import os
import signal
import time

import pytest

from spillover.cli import main
from spillover.commands import inject, sweep
from spillover.commands.sweep import Sweep
from spillover.record import Record
from tests import forked
from tests.commands.test_resume import outcome, settings

#: The command, but with checkpoints from the first moment on; otherwise they begin a second after the start.
EAGER = "from spillover import runs; runs.LEAST = 0.0; runs.SLOW = 1e12; "
EAGER += forked.COMMAND
MEDIUM, LONG = {"epochs": 12}, {"epochs": 200, "evaluate_every": 50}


def words(own):
    """The command line of settings that are not at their default."""
    given = {item.name: getattr(own, item.name) for item in dataclasses.fields(own)
             if getattr(own, item.name) != item.default and item.name != "pack"}  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["inject", own.pack, *options]


def wait_for(running, folder, known=frozenset()):
    """Wait for a checkpoint in `folder` that is not among `known`; gives all that are there."""
    deadline = time.monotonic() + 120
    while not (found := {path.parent.name for path in folder.glob("checkpoints/step-*/manifest.json")}) - known:
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_asked_to_end_killed_and_started_twice_it_ends_with_the_same_bytes(byte_folder, tmp_path, capsys):
    own = settings(byte_folder, tmp_path / "run", **MEDIUM)
    running = forked.Program(EAGER, *words(own))
    known = wait_for(running, tmp_path / "run")
    running.send_signal(signal.SIGSTOP)
    assert main([*words(own), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith(f"another process is at work on this run: process {running.pid} on ")
    assert error["where"] == own.out
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.split("\r")[-1].endswith("spillover: interrupted. Give the same command again to go on.\n")
    assert "Traceback" not in said
    assert Record.read(tmp_path / "run").status == "interrupted"

    running = forked.Program(EAGER, *words(own))
    wait_for(running, tmp_path / "run", known)
    running.kill()
    running.communicate()
    assert Record.read(tmp_path / "run").status == "running"

    assert main(words(own)) == 0
    assert "Going on behind step" in capsys.readouterr().err
    assert Record.read(tmp_path / "run").resumed == 2
    inject.run(settings(byte_folder, tmp_path / "whole", **MEDIUM))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_study_goes_on_inside_its_cell(byte_folder, tmp_path):
    path, folder = tmp_path / "study.yaml", tmp_path / "study" / "cells" / "lr=0.01"
    own = settings(byte_folder, tmp_path / "whole", **LONG)
    options = {name: getattr(own, name) for name in ("pack", "model", "epochs", "batch", "threads", "evaluate_every")}
    body = {"name": "one", "options": options, "groups": [{"name": "all", "grid": {"lr": [own.lr]}}]}
    path.write_text(json.dumps(body), encoding="utf-8")
    running = forked.Program(forked.COMMAND, "sweep", path, "--out", tmp_path / "study", "--processes", "1")
    wait_for(running, folder)
    # The study alone is killed: its worker must follow, or the cell would still be held.
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert sweep.run(Sweep(study=str(path), out=str(tmp_path / "study"), processes=1))["exit_code"] == 0
    assert Record.read(folder).resumed == Record.read(tmp_path / "study").resumed == 1
    inject.run(own)
    assert outcome(folder) == outcome(tmp_path / "whole")
