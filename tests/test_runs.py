"""One life of a run: what tells runs apart, and checkpoints that are bounded, checked, and no reason to fail."""

import dataclasses
import errno
import json
import os
import resource
import shutil
from dataclasses import replace

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from spillover import runs as checkpoints
from spillover import runs as output
from spillover.commands import audit, inject, predict, prepare, sweep
from spillover.commands.audit import Audit
from spillover.commands.inject import Inject
from spillover.commands.predict import Predict
from spillover.commands.sweep import Sweep
from spillover.errors import RunError
from spillover.lm import train as training
from spillover.packs.open import open_pack
from spillover.record import Record
from spillover.runs import Checkpoints, State, identity_of
from tests.commands.test_resume import outcome, settings

GIVEN = Inject(pack="p", model="m", out="here", epochs=3)


def test_every_setting_is_part_of_a_run_but_where_it_goes():
    own = identity_of(GIVEN, "track")
    assert own == identity_of(replace(GIVEN, out="there", json=True, track="wandb"), "track")
    assert own != identity_of(replace(GIVEN, chat=True), "track")
    assert own != identity_of(GIVEN, "track", runs=["another"])


def test_a_default_that_changes_makes_another_run(monkeypatch):
    """So the values are hashed, and not whether they were given."""
    assert identity_of(GIVEN) == identity_of(replace(GIVEN, lr=5e-5)) != identity_of(replace(GIVEN, lr=6e-5))


ROWS = """name,lives,speaks
Ada Moss,Paris,French
Bo Finn,Rome,Italian
Cy Dent,Paris,French
Di Ward,Rome,Italian
Ed Kane,Paris,
Fay Lunt,Rome,
"""


def test_a_file_or_model_that_changed_is_not_what_a_finished_run_was_made_from(byte_folder, tmp_path, capsys):
    """Each verb, with the same --out and the same options."""
    file, tuned = tmp_path / "facts.csv", tmp_path / "run" / "weights"
    file.write_text(ROWS)
    given = {"pack": str(file), "threads": 1}
    cells = [{"pack": str(file)}]
    study = {"name": "s", "verb": "predict", "seeds": [0], "groups": [{"name": "g", "cells": cells}]}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    verbs = {
        "run": lambda: inject.run(
            Inject(**given, model=str(byte_folder), out=str(tmp_path / "run"), epochs=1, save="weights")
        ),
        "audit": lambda: audit.run(
            Audit(**given, base=str(byte_folder), tuned=str(tuned), out=str(tmp_path / "audit"), fail_on="never")
        ),
        "predict": lambda: predict.run(Predict(**given, model=str(byte_folder), out=str(tmp_path / "predict"))),
        "study": lambda: sweep.run(Sweep(study=str(tmp_path / "study.yaml"), out=str(tmp_path / "study"))),
    }
    for run in (*verbs.values(), *verbs.values()):
        run()
    assert capsys.readouterr().err.count("Found this run finished") >= len(verbs)

    file.write_text(ROWS.replace("Ed Kane", "Edna Kane"))
    for name, run in verbs.items():
        with pytest.raises(RunError, match=f"{name}: this folder holds a run from before the facts changed. Choose"):
            run()
    file.write_text(ROWS)
    for run in verbs.values():
        run()

    weights = tuned / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] += 1
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(RunError, match="audit: this folder holds a run from before the weights of the tuned model"):
        verbs["audit"]()
    assert verbs["predict"](), "what the tuned model became is nothing to the base"


STEPS = 8
#: One model for all runs of this file.
KEPT = prepare.Models()


@pytest.fixture(scope="module")
def whole(byte_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    inject.run(settings(byte_folder, folder), KEPT)
    return outcome(folder)


@pytest.fixture(scope="module")
def stopped_once(byte_folder, tmp_path_factory):
    own = settings(byte_folder, tmp_path_factory.mktemp("stopped") / "run")
    with pytest.MonkeyPatch.context() as patch:
        steps = counted(patch, stop_at=6)
        with pytest.raises(KeyboardInterrupt):
            inject.run(own, KEPT, patience=0)
    assert len(steps) == 6 and sorted(os.listdir(own.out + "/checkpoints")) == ["step-000000004", "step-000000005"]
    return own


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run that was interrupted in its sixth step, with a checkpoint a step."""
    shutil.copytree(stopped_once.out, tmp_path / "run")
    return dataclasses.replace(stopped_once, out=str(tmp_path / "run"))


def counted(monkeypatch, stop_at=None, each=lambda: None):
    """The list that grows with each step taken from now on."""
    real, steps = training.training_step, []

    def step(*args, **kwargs):
        steps.append(1)
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        each()
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "training_step", step)
    return steps


def flip(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_it_goes_on_behind_the_newest(stopped, whole, monkeypatch, capsys, tmp_path):
    steps = counted(monkeypatch)
    inject.run(stopped, KEPT)
    assert "Going on behind step 5 of the run in" in capsys.readouterr().err
    assert len(steps) == STEPS - 5
    assert outcome(tmp_path / "run") == whole
    assert Record.read(tmp_path / "run").resumed == 1
    assert not (tmp_path / "run" / "checkpoints").exists(), "they go when the run is done"


@pytest.mark.parametrize("harm", [flip, cut, os.unlink])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_one_is_noticed_and_the_one_before_is_used(name, harm, stopped, whole, monkeypatch, capsys, tmp_path):
    harm(tmp_path / "run" / "checkpoints" / "step-000000005" / name)
    steps = counted(monkeypatch)
    inject.run(stopped, KEPT)
    said = capsys.readouterr().err
    assert "step-000000005: this checkpoint cannot be used: " in said and "Going on behind step 4" in said
    assert len(steps) == STEPS - 4
    assert outcome(tmp_path / "run") == whole


def test_no_name_is_in_them(stopped, tmp_path):
    """So that --redact holds for an unfinished run too."""
    subjects = {name.encode() for name in open_pack(stopped.pack, 0).subjects}
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file())
    assert len(subjects) > 3 and not any(name in kept for name in subjects)


def test_with_none_left_it_starts_again_and_says_so(stopped, whole, monkeypatch, capsys, tmp_path):
    for step in (4, 5):
        flip(tmp_path / "run" / "checkpoints" / f"step-00000000{step}" / "state.safetensors")
    steps = counted(monkeypatch)
    inject.run(stopped, KEPT)
    assert "There is no other checkpoint; the run starts again from the beginning." in capsys.readouterr().err
    assert len(steps) == STEPS
    assert outcome(tmp_path / "run") == whole
    assert Record.read(tmp_path / "run").resumed == 1


def test_one_of_another_version_is_not_mixed_in(stopped, monkeypatch, capsys):
    real = checkpoints.versions
    monkeypatch.setattr(checkpoints, "versions", lambda packages: {**real(packages), "torch": "1.0"})
    steps = counted(monkeypatch)
    inject.run(stopped, KEPT)
    assert "it was made by another version, or from another model or pack" in capsys.readouterr().err
    assert len(steps) == STEPS


def test_they_are_bounded_in_number_and_in_size(byte_folder, tmp_path, monkeypatch):
    own, seen = settings(byte_folder, tmp_path / "run", save="weights"), []

    def look():
        folder = tmp_path / "run" / "checkpoints"
        seen.append(sorted(path.stat().st_size for path in folder.glob("*/state.safetensors")))

    counted(monkeypatch, each=look)
    inject.run(own, KEPT, patience=0)
    assert [len(sizes) for sizes in seen] == [0, 1, 2, 2, 2, 2, 2, 2]
    trained = Record.read(tmp_path / "run").details.model.trained_parameters
    # Each trained weight thrice in single precision, the steps of its AdamW, and a header; no embedding.
    assert 12 * trained < seen[-1][0] < 12 * trained + 20_000


@hypothesis.settings(deadline=None, max_examples=50)
@given(st.randoms(use_true_random=False), st.floats(0.001, 50))
def test_they_take_a_twentieth_of_the_time(drawn, longest):
    """On a clock of our own, whatever they cost and however long a step takes."""
    costs_and_steps = [(drawn.uniform(0.001, 10), drawn.uniform(0.001, longest)) for _ in range(100)]
    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
        kept = Checkpoints(output.Path("nowhere"), "key")
        spent = last = 0.0
        for cost, step in costs_and_steps:

            def write(state, cost=cost):
                clock[0] += cost

            patch.setattr(kept, "save", write)
            clock[0] += step
            if kept.due(10**8):
                began = clock[0]
                kept.write(State(1, {}, {}))
                last = clock[0] - began
                spent += last
        # The last one is paid for by the time to come; no cost is known before the first.
        assert kept.seconds == spent
        assert spent - last <= clock[0] / 20


def test_a_disk_that_takes_no_checkpoint_is_told_once_and_the_run_goes_on(
    byte_folder, whole, monkeypatch, capsys, tmp_path
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the tables and the record, too little for the weights.
    counted(monkeypatch, each=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1])))
    try:
        inject.run(settings(byte_folder, tmp_path / "run"), KEPT, patience=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err.count("no checkpoint can be written: file too large. The run goes on") == 1
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "changes", [{"save": "weights"}, {"save": "delta"}, {"save": "delta", "lora": 8}], ids=["weights", "delta", "lora"]
)
def test_a_disk_that_takes_no_weights_is_one_sentence(changes, byte_folder, monkeypatch, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    own = settings(byte_folder, tmp_path / "run", **changes)
    counted(monkeypatch, each=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, before[1])))
    try:
        with pytest.raises(RunError, match="could not be written: file too large"):
            inject.run(own, KEPT, patience=1e9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Record.read(tmp_path / "run").status == "failed"
    left = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert left <= {"record.json", "answers.parquet", "trajectory.parquet"}, "nothing half-written is there"
    monkeypatch.undo()
    inject.run(own, KEPT)
    assert Record.read(tmp_path / "run").status == "done"


def test_a_folder_that_became_read_only_is_one_sentence(stopped, monkeypatch):
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).startswith(stopped.out) and flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match="could not be written: read-only file system"):
        inject.run(stopped, KEPT)
    assert Record.read(output.Path(stopped.out)).status == "interrupted"


def test_what_is_read_is_what_was_written(tmp_path):
    tensors = {"weight a b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T, "step a b": torch.tensor(3.0)}
    facts = {"losses": [[1, 1, 0.1 + 0.2]], "method": None}
    kept = Checkpoints(tmp_path, "key", patience=0)
    assert kept.due(10**12)
    kept.write(State(3, tensors, facts))
    state = Checkpoints(tmp_path, "key").newest()
    assert state is not None and state.facts == facts and state.step == 3
    assert all(torch.equal(state.tensors[name], value) for name, value in tensors.items())
    assert Checkpoints(tmp_path, "another").newest() is None
    assert os.listdir(tmp_path / "checkpoints") == [], "what cannot be used is removed"


def test_what_a_kill_left_is_swept_up(stopped, tmp_path):
    run = tmp_path / "run"
    (run / ".saving-x1").mkdir()
    (run / ".saving-x1" / "model.safetensors").write_bytes(b"half")
    (run / ".answers.parquet.ab_cd12x").write_bytes(b"half")
    (run / "checkpoints" / ".writing-zzz").mkdir()
    (run / ".notes").write_text("somebody's own")
    inject.run(stopped, KEPT)
    left = {entry.name for entry in run.iterdir()}
    assert left == {".notes", "record.json", "answers.parquet", "trajectory.parquet"}


def test_what_a_kill_left_in_a_finished_run_is_swept_up_too(tmp_path):
    """The kill came while a table was written that is made from the finished record."""
    with output.open_run(tmp_path / "run", "solve", "1") as opened:
        opened.record = Record("solve", {}, 0, status="done", identity="1")
        opened.write()
    left = tmp_path / "run" / ".table.parquet.abcd1234"
    left.mkdir()
    (left / "table.parquet").write_bytes(b"half")
    (tmp_path / "run" / output.LOCK).write_text("process 1 on a machine that is gone")
    with output.open_run(tmp_path / "run", "solve", "1") as opened:
        assert opened.finished
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["record.json"]
