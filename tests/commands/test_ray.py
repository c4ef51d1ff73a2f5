"""The Ray engine on a real cluster of two nodes, one of which dies; what it says when there is no Ray or no cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spillover.cli import main
from spillover.commands import sweep
from spillover.commands.inject import Inject
from spillover.commands.pool import Task, from_home, ray_pool, sources, stage
from spillover.commands.solve import Solve
from spillover.commands.sweep import Sweep
from spillover.errors import RunError, UsageError
from spillover.record import Record
from spillover.runs import LOCK, locked, release

#: Bytes of shared memory of a node, little more than the least that Ray takes.
STORE = 80 << 20


@pytest.fixture
def study(byte_folder, tmp_path):
    """Four runs that take long enough to leave checkpoints behind, and pool in pairs."""
    path = tmp_path / "study.yaml"
    options = {"model": str(byte_folder), "epochs": 300, "evaluate_every": 300, "threads": 1, "device": "cpu"}
    body = {
        "name": "trial", "seeds": [0, 1], "options": options,
        "groups": [{"name": "rates", "cells": [{"pack": "city-language:names=10,bridge=1"}],
                    "grid": {"lr": [0.001, 0.01]}}],
    }  # fmt: skip
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
    )
    yield cluster
    cluster.shutdown()


def started(study, folder, address):
    words = [sys.executable, "-m", "spillover", "sweep", str(study), "--out", str(folder), "--engine", "ray"]
    words += ["--address", address, "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(true, running, seconds=300):
    deadline = time.monotonic() + seconds
    while not true():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_node_that_is_killed_mid_study_changes_nothing(study, cluster, tmp_path):
    doomed, folder = cluster.add_node(num_cpus=1, object_store_memory=STORE), tmp_path / "out"
    running = started(study, folder, cluster.address)

    def saved():
        return {path.parents[2] for path in folder.glob("cells/*/seed-*/checkpoints/step-*/manifest.json")}

    wait_for(lambda: len(saved()) == 2, running)
    cut_short = saved()
    cluster.remove_node(doomed, allow_graceful=False)
    printed, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert "its worker was lost, another takes it up" in said and "Traceback" not in said
    assert json.loads(printed)["run"] == str(folder), "nothing but the outcome on standard output"

    resumed = {path for path in folder.glob("cells/*/seed-*") if Record.read(path).resumed}
    assert len(resumed) == 1 and resumed <= cut_short, "one run went on elsewhere, from its checkpoint"
    assert Record.read(next(iter(resumed)).parent).resumed == 1

    alone = tmp_path / "alone"
    sweep.run(Sweep(study=str(study), out=str(alone), processes=1))
    assert (folder / "table.parquet").read_bytes() == (alone / "table.parquet").read_bytes()
    for path in alone.glob("cells/*/seed-*/answers.parquet"):
        assert (folder / path.relative_to(alone)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_the_other_engine(study, cluster, tmp_path):
    folder = tmp_path / "out"
    running = started(study, folder, cluster.address)
    wait_for(lambda: list(folder.glob("cells/*/seed-*/record.json")), running)
    running.send_signal(signal.SIGTERM)
    printed, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in said
    assert json.loads(printed)["error"]["what"] == "interrupted"
    (begun,) = folder.glob("cells/*/seed-*/record.json")
    assert Record.read(begun.parent).status == Record.read(folder).status == "interrupted"
    outcome = sweep.run(Sweep(study=str(study), out=str(folder), processes=1))
    assert outcome["exit_code"] == 0 and Record.read(begun.parent).resumed == 1


@pytest.mark.slow
def test_without_an_address_ray_is_started_here_and_ends_with_the_study(tmp_path, capfd):
    import ray

    grid = {"symbolic": [f"n={n},train=1,test=3" for n in (4, 5, 6)]}
    path, before = tmp_path / "gaps.yaml", signal.getsignal(signal.SIGTERM)
    path.write_text(json.dumps({"name": "gaps", "verb": "solve", "groups": [{"name": "all", "grid": grid}]}))
    sweep.run(Sweep(study=str(path), out=str(tmp_path / "ray"), engine="ray"))
    assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().out == ""
    sweep.run(Sweep(study=str(path), out=str(tmp_path / "local"), processes=1))
    assert (tmp_path / "ray" / "table.parquet").read_bytes() == (tmp_path / "local" / "table.parquet").read_bytes()


def test_ray_that_is_not_installed_is_one_sentence(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", str(study), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "spillover sweep --engine ray: this needs ray, which is not installed here. "
        'Run `pip install "spillover[ray]"`.\n'
    )


def refused(study, tmp_path, address):
    with pytest.raises(UsageError) as refusal:
        sweep.run(Sweep(study=str(study), out=str(tmp_path / "out"), engine="ray", address=address))
    return str(refusal.value)


def test_an_address_without_a_cluster_is_one_sentence_within_seconds(study, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    began = time.monotonic()
    assert refused(study, tmp_path, f"127.0.0.1:{free}") == (
        f"--address 127.0.0.1:{free}: no Ray cluster answers: connection refused. "
        "Check that `ray status` answers on that machine, or leave --address out to run on this one."
    )
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        said = refused(study, tmp_path, f"127.0.0.1:{server.getsockname()[1]}")
    assert "no Ray cluster answers: something else than Ray answers there" in said
    assert "'ray://head:10001' is no address of a Ray cluster" in refused(study, tmp_path, "ray://head:10001")
    assert time.monotonic() - began < 30
    with pytest.raises(UsageError, match="--address is for --engine ray alone"):
        Sweep(study=str(study), address="auto")


def test_what_a_node_lacks_is_copied_there_once_to_its_path(tmp_path):
    pack, model = tmp_path / "pack.yaml", tmp_path / "model"
    pack.write_text("name: x\nfacts: rows.csv\n", encoding="utf-8")
    (tmp_path / "rows.csv").write_text("subject,relation,answer\n", encoding="utf-8")
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "weights").write_bytes(bytes(range(256)) * 100)
    cell = Inject(pack=str(pack), model=str(model), out=str(tmp_path))
    wanted = sources([cell, cell]).items()
    before = {path: Path(path).read_bytes() for path, _ in wanted}
    assert {Path(path).name for path in before} == {"pack.yaml", "rows.csv", "weights"}
    pieces = lambda path: iter([before[path][:10], before[path][10:]])  # noqa: E731
    assert stage(wanted, pieces) == []
    for path in before:
        os.unlink(path)
    (model / "deep").rmdir()
    assert stage(wanted, pieces) == list(before) and stage(wanted, pieces) == []
    assert {path: Path(path).read_bytes() for path in before} == before
    pack.write_text("name: y\nfacts: rows.csv\n", encoding="utf-8")
    with pytest.raises(UsageError, match="another file has this name here"):
        stage(wanted, pieces)


@pytest.mark.slow
def test_a_study_that_every_node_refuses_ends_and_a_missing_file_is_streamed(tmp_path, monkeypatch):
    """Ray's workers see another numpy than this process does."""
    import ray

    installed = tmp_path / "site" / "numpy-0.0.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n", encoding="utf-8")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed.parent), *sys.path]))
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_bytes(os.urandom(20 << 20))
    tasks = [Task((name, None), "solve", Solve(symbolic="n=4,train=1,test=3")) for name in "ab"]
    with locked(tmp_path), ray_pool(tmp_path) as pool:
        with pytest.raises(UsageError, match=r"this node has numpy 0\.0\.1, and the study was started with \d") as said:
            list(pool.run(tasks))
        assert str(said.value).endswith("Install the same packages on every node.")
        node, contents = ray.get_runtime_context().get_node_id(), sources([Solve(pack=str(here))])[str(here)]
        assert stage([(str(there), contents)], lambda _: from_home(node, str(here))) == [str(there)]
    assert there.read_bytes() == here.read_bytes()


HOLD = "import sys, time; from pathlib import Path; from spillover.runs import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_the_lock_of_a_holder_that_is_gone_makes_way(tmp_path):
    """A file system that still keeps the lock of a machine that died is played by a process that still lives."""
    (tmp_path / "seed-1").mkdir()
    words = [sys.executable, "-c", HOLD, str(tmp_path / "seed-1")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is at work"), locked(tmp_path / "seed-1"):
            pass
        release(tmp_path, patience=0.3)
        with locked(tmp_path / "seed-1"):
            holder.communicate("", timeout=60)
            assert (tmp_path / "seed-1" / LOCK).exists(), "the old holder leaves the new one's file alone"
