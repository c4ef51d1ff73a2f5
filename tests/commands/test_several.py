"""`inject` and `audit` in two processes: they agree with one, only the first speaks, and none is ever left waiting."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from spillover.cli import main
from spillover.errors import ModelError
from spillover.lm import train as training
from spillover.record import ANSWERS, TRAJECTORY, Record
from tests import quick
from tests.commands import several

#: Of log-probabilities, in natural units; what docs/several-devices.md says.
TOLERANCE = 1e-4
#: 18 rows: with 4 a batch, the last has fewer than three processes have use for.
PACK = "city-language:names=10,bridge=1"
VARIANTS = {
    "weights": ("--epochs", "3", "--lr", "1e-3", "--batch", "4"),
    "everything": ("--epochs", "2", "--lr", "1e-3", "--batch", "5", "--no-freeze-embeddings", "--weight-decay", "0.1"),
    "adapter": ("--epochs", "2", "--lr", "1e-3", "--batch", "4", "--lora", "2"),
}


def injecting(model, folder, *more):
    return ["inject", PACK, "--model", str(model), "--out", str(folder), "--threads", "1", *more]


def log_probabilities(folder):
    return pq.read_table(folder / ANSWERS)["log_probability"].to_numpy()


@pytest.mark.parametrize("variant", quick.first(VARIANTS, 1))
def test_two_processes_train_and_ask_as_one_does(variant, byte_folder, tmp_path, capsys):
    words = [*VARIANTS[variant], "--save", "weights"]
    assert main(injecting(byte_folder, tmp_path / "one", *words)) == 0
    said = several.run(injecting(byte_folder, tmp_path / "two", *words), tmp_path / "said")
    assert [code for code, _, _ in said] == [0, 0], said
    assert said[0][1] == capsys.readouterr().out.replace("/one", "/two") and said[1][1:] == ("", "")
    one, two = (log_probabilities(tmp_path / name) for name in ("one", "two"))
    before = len(one) // 4
    # Until training begins, the same batches are asked, only by different processes.
    assert np.array_equal(one[:before], two[:before])
    assert np.abs(one - two).max() <= TOLERANCE and not np.array_equal(one, two)
    weights = [load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])
    records = [Record.read(tmp_path / name) for name in ("one", "two")]
    assert [record.settings["processes"] for record in records] == [1, 2]
    assert records[0].identity != records[1].identity
    losses = [pq.read_table(tmp_path / name / TRAJECTORY).to_pylist() for name in ("one", "two")]
    for here, there in zip(*losses, strict=True):
        if here["quantity"] == "train_loss":
            assert here["value"] == pytest.approx(there["value"], abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_that_is_split_trains_and_answers_as_one_in_one_piece(variant, byte_folder, tmp_path):
    words = [*VARIANTS[variant], "--save", "weights"]
    assert main(injecting(byte_folder, tmp_path / "one", *words)) == 0
    # Three, so that the last batch, and what is asked, leave some of them idle.
    said = several.run(injecting(byte_folder, tmp_path / "split", *words), tmp_path / "said", count=3,
                       ACCELERATE_USE_FSDP="true", FSDP_ACTIVATION_CHECKPOINTING="true")  # fmt: skip
    assert [code for code, _, _ in said] == [0, 0, 0], said
    one, split = (log_probabilities(tmp_path / name) for name in ("one", "split"))
    assert np.abs(one - split).max() <= TOLERANCE and not np.array_equal(one, split)
    weights = [load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("one", "split")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])
    records = [Record.read(tmp_path / name) for name in ("one", "split")]
    assert [(each.settings["processes"], each.settings["sharded"]) for each in records] == [(1, False), (3, True)]
    assert records[0].details.model == records[1].details.model


@pytest.mark.slow
def test_two_processes_audit_as_one_does(byte_folder, tmp_path, capsys):
    trained = ("--epochs", "30", "--lr", "1e-2", "--evaluate-every", "30", "--save", "weights")
    assert main(injecting(byte_folder, tmp_path / "tuned", *trained)) == 0
    capsys.readouterr()

    def auditing(folder):
        return ["audit", PACK, "--base", str(byte_folder), "--tuned", str(tmp_path / "tuned" / "weights"), "--threads",
                "1", "--out", str(folder), "--json", "--fail-on", "undecided", "--open"]  # fmt: skip

    code = main(auditing(tmp_path / "one"))
    alone = json.loads(capsys.readouterr().out)
    said = several.run(auditing(tmp_path / "two"), tmp_path / "said")
    assert code == 1 and [each[0] for each in said] == [1, 1], said
    shared = json.loads(said[0][1])
    assert alone.pop("run") == shared.pop("run").replace("/two", "/one")
    assert alone == shared
    # Not only within a tolerance: nothing is trained, and the batches are the same.
    assert np.array_equal(log_probabilities(tmp_path / "one"), log_probabilities(tmp_path / "two"))


def stop_in_step_three(rank):
    real, calls = training.training_step, []

    def stop(*words, **more):
        calls.append(1)
        if rank == 1 and len(calls) == 3:
            raise ModelError("this process has no memory left", do="Lower --batch")
        return real(*words, **more)

    training.training_step = stop


def die_in_step_three(rank):
    real, calls = training.training_step, []

    def die(*words, **more):
        calls.append(1)
        if rank == 1 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **more)

    training.training_step = die


def test_an_error_of_one_process_is_told_once_and_ends_all(byte_folder, tmp_path):
    words = injecting(byte_folder, tmp_path / "run", *VARIANTS["weights"])
    said = several.run(words, tmp_path / "said", before=stop_in_step_three)
    assert said[0][:2] == (2, "")
    # Before it come what the run needs and, where a run is taken up, from where.
    assert said[0][2].splitlines()[-1] == "spillover: this process has no memory left. Lower --batch."
    assert said[0][2].count("no memory left") == 1
    assert said[1] == (2, "", "")
    assert Record.read(tmp_path / "run").status == "failed"


def test_an_error_of_the_first_ends_the_others(byte_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    said = several.run(injecting(byte_folder, tmp_path / "run"), tmp_path / "said")
    assert said[0][0] == 2 and "holds files that are not a run" in said[0][2] and len(said[0][2].splitlines()) == 1
    assert said[1] == (2, "", "")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_the_run_goes_on(byte_folder, tmp_path):
    words = ["--epochs", "3", "--lr", "1e-3", "--batch", "4", "--save", "weights"]
    said = several.run(injecting(byte_folder, tmp_path / "whole", *words), tmp_path / "said")
    assert [each[0] for each in said] == [0, 0]
    said = several.run(injecting(byte_folder, tmp_path / "cut", *words), tmp_path / "said", before=die_in_step_three)
    assert said[1][0] == -signal.SIGKILL
    assert said[0][0] == 2 and said[0][2].count("another process of this run is gone") == 1
    assert said[0][2].splitlines()[-1].startswith("spillover: another process of this run is gone")
    said = several.run(injecting(byte_folder, tmp_path / "cut", *words), tmp_path / "said")
    assert [each[0] for each in said] == [0, 0]
    for name in (ANSWERS, TRAJECTORY, "weights/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert Record.read(tmp_path / "cut").resumed == 1


@pytest.mark.slow
def test_the_same_command_finds_its_run_in_as_many_processes(byte_folder, tmp_path, capsys):
    words = injecting(byte_folder, tmp_path / "run", "--epochs", "1")
    assert [each[0] for each in several.run(words, tmp_path / "said")] == [0, 0]
    said = several.run(words, tmp_path / "said")
    assert [each[0] for each in said] == [0, 0] and "nothing was run" in said[0][2]
    assert main(words) == 2
    assert "this folder holds another run" in capsys.readouterr().err
    assert main(["rerun", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 2
    assert "--processes is 2, but this was started in 1" in capsys.readouterr().err
    said = several.run(["rerun", str(tmp_path / "run"), "--out", str(tmp_path / "again"), "--json"], tmp_path / "said")
    assert [each[0] for each in said] == [0, 0] and json.loads(said[0][1])["same"] is True


def test_a_verb_that_cannot_share_its_work_says_so(tmp_path):
    said = several.run(["packs"], tmp_path / "said")
    assert said[0] == (
        2, "",
        "spillover packs: this was started in 2 processes, but only inject, audit, rerun can share their work. "
        "Start it without a launcher.\n",
    )  # fmt: skip
    assert said[1] == (2, "", "")


@pytest.mark.slow
def test_the_launcher_itself_starts_two_processes_that_agree_with_one(byte_folder, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
                "--main_process_port", str(port), "-m", "spillover"]  # fmt: skip
    quiet = {**os.environ, "TQDM_DISABLE": "1"}
    for verb in ("inject", "audit"):
        if verb == "inject":
            words = {name: injecting(byte_folder, tmp_path / name, "--epochs", "1") for name in ("one", "two")}
        else:
            models = ["--base", str(byte_folder), "--tuned", str(byte_folder), "--fail-on", "never", "--threads", "1"]
            words = {
                name: ["audit", PACK, *models, "--out", str(tmp_path / f"{name}-audit")] for name in ("one", "two")
            }
        assert main(words["one"]) == 0
        done = subprocess.run([*launcher, *words["two"]], env=quiet, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        suffix = "" if verb == "inject" else "-audit"
        one, two = (log_probabilities(tmp_path / f"{name}{suffix}") for name in ("one", "two"))
        assert np.abs(one - two).max() <= TOLERANCE
        assert Record.read(tmp_path / f"two{suffix}").settings["processes"] == 2
