"""`spillover lab`: every preset writes its folder, two-models shows the separation, mistakes are sentences."""

import json
import subprocess
import sys

import numpy as np
import pytest

from spillover.cli import main
from spillover.commands.experiments import EXPERIMENTS
from spillover.commands.lab import PAGE, Lab, run
from spillover.commands.report import Report
from spillover.commands.report import run as report
from spillover.errors import RunError, SpilloverError, UsageError
from spillover.record import TRAJECTORY, Record, read_table
from spillover.report.lab import load_lab
from tests import quick

CONTRACT = {
    *("train_loss", "implication_loss_test", "implication_accuracy_test", "cosine_to_nuclear", "cosine_to_frobenius"),
    *("norm_over_margin", "margin_ratio_test"),
}


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "run"
    return run(Lab(preset="two-models", out=str(folder), quick=True, seeds="0,1,2", threads=1)), folder


def test_two_models_separate(two_models):
    found, _ = two_models
    metrics = found["metrics"]
    assert set(metrics) == {"factorised", "merged"}
    assert all(set(group) == CONTRACT for group in metrics.values())
    value = {kind: {name: metric["value"] for name, metric in group.items()} for kind, group in metrics.items()}
    assert value["factorised"]["cosine_to_nuclear"] - value["factorised"]["cosine_to_frobenius"] > 0.05
    assert value["merged"]["cosine_to_nuclear"] - value["merged"]["cosine_to_frobenius"] < -0.05
    assert value["factorised"]["implication_accuracy_test"] > 0.95
    assert value["merged"]["implication_loss_test"] > np.log(6) > 4 * value["factorised"]["implication_loss_test"]
    assert value["factorised"]["margin_ratio_test"] > 0.5 > 0.1 > abs(value["merged"]["margin_ratio_test"])
    assert max(group["train_loss"] for group in value.values()) < 0.1


def test_metrics_have_their_intervals(two_models):
    found, folder = two_models
    for group in found["metrics"].values():
        for metric in group.values():
            assert {"value", "low", "high", "n", "clusters", "unit"} <= set(metric)
            assert metric["low"] <= metric["value"] <= metric["high"]
            assert (metric["n"], metric["clusters"], metric["note"]) == (3, 3, "few clusters")
    assert found["run"] == str(folder)


def test_the_folder_holds_record_tables_and_page(two_models):
    _, folder = two_models
    record = Record.read(folder)
    assert (record.command, record.status) == ("lab two-models", "done")
    assert record.details.log_n == pytest.approx(np.log(6))
    lab = load_lab(folder)
    assert {name: matrix.shape for name, matrix in lab.matrices.items()} == dict.fromkeys(
        ("factorised", "merged", "nuclear", "frobenius"), (12, 26)
    )
    assert (folder / PAGE).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_norm_per_margin_is_never_below_the_least_norm(two_models):
    _, folder = two_models
    lab = load_lab(folder)
    for kind, name, column in (
        ("factorised", "nuclear", "nuclear_over_margin"),
        ("merged", "frobenius", "frobenius_over_margin"),
    ):
        values = lab.columns[column][lab.mask(arm="exact", model=kind)].astype(float)
        seen = values[~np.isnan(values)]
        least = getattr(lab.record.details.exact, name)["norm"]
        assert len(seen) > 3
        assert seen.min() > least * (1 - 1e-5)
        assert seen.min() < 1.12 * least


@pytest.mark.parametrize("preset", quick.first([name for name in EXPERIMENTS if name != "two-models"], 3))
def test_every_preset_runs_and_tells(preset, tmp_path):
    settings = Lab(
        preset=preset,
        out=str(tmp_path / "run"),
        quick=True,
        steps=12,
        seeds="0,1",
        symbolic="n=3,train=1,test=2",
        threads=1,
    )
    found = run(settings)
    assert found["metrics"]
    assert json.loads(json.dumps(found)) == found
    page = (tmp_path / "run" / PAGE).read_text(encoding="utf-8")
    assert page.count("<figure") == page.count("<svg") > 0
    assert read_table(tmp_path / "run" / TRAJECTORY).num_rows > 0


def test_one_seed_alone_has_a_page(tmp_path):
    run(Lab(preset="key-query", out=str(tmp_path / "run"), quick=True, steps=3, seeds="3"))
    assert "still never gets below log n" in (tmp_path / "run" / PAGE).read_text(encoding="utf-8")


def test_sample_efficiency_is_solved_and_exact_alike(tmp_path):
    run(Lab(preset="sample-efficiency", out=str(tmp_path / "run"), quick=True, steps=2, seeds="0"))
    for size in Record.read(tmp_path / "run").details.sizes:
        assert size["exact"] == pytest.approx(min(1, (size["m_train"] / size["m_test"]) ** 0.5))
        assert size["solved"] == pytest.approx(size["exact"], abs=5e-3)
        assert size["gap"] <= 1e-6


def test_dial_reproduces_the_exact_effect_of_added_rows(tmp_path):
    run(Lab(preset="dial", out=str(tmp_path / "run"), quick=True, steps=2, seeds="0"))
    details = Record.read(tmp_path / "run").details
    lead = {row["count"]: row["leaked_minus_unknown"] for row in details.abstaining if row["norm"] == "nuclear"}
    assert [lead[count] for count in (0, 1, 2, 4)] == pytest.approx([0.835, -0.106, -0.360, -0.602], abs=2e-3)
    cancelled = [row["leaked_minus_other"] for row in details.contradicting if row["count"] == row["bridges"]]
    assert cancelled == pytest.approx([0] * 4, abs=1e-3)
    for row in details.mixed:
        assert row["solved"] == pytest.approx(row["exact"], abs=2e-3)


def test_the_merged_model_stays_at_log_n_from_a_symmetric_start(tmp_path):
    """Theorem 3, at every measured step of every seed."""
    run(Lab(preset="key-query", out=str(tmp_path / "run"), quick=True, steps=300, seeds="0,1,2"))
    details = Record.read(tmp_path / "run").details
    assert details.lowest["merged symmetric"]["loss_of_a_seed"] >= details.log_n
    assert not details.lowest["merged random"]["standard_errors_below"] > 3
    assert details.lowest["factorised random"]["mean_loss"] < 0.5 * details.log_n


def test_the_same_settings_give_the_same_bytes(tmp_path):
    hashes = []
    for name in ("one", "two"):
        run(Lab(preset="rank-sweep", out=str(tmp_path / name), quick=True, steps=15, seeds="3", threads=1))
        hashes.append(Record.read(tmp_path / name).hashes)
    assert hashes[0] == hashes[1]


def test_the_command_line_prints_one_json_object(tmp_path, capsys):
    words = ["lab", "rank-sweep", "--out", str(tmp_path / "run"), "--quick", "--steps", "3", "--seeds", "0", "--json"]
    assert main([*words, "--threads", "1", "--head-dimension", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["metrics"]) == {"d_h=2", "merged"}


@pytest.mark.slow
def test_of_the_libraries_for_language_models_it_needs_torch_alone(tmp_path):
    body = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('transformers', 'safetensors', 'accelerate', 'peft', 'psutil'))\n"
        "from spillover.cli import main\n"
        f"sys.exit(main(['lab', 'rank-sweep', '--out', {str(tmp_path / 'run')!r}, '--quick', '--steps', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"preset": "two-model"}, "Did you mean 'two-models'"),
        ({"symbolic": "n=1,train=1,test=1"}, "at least 2 classes are needed"),
        ({"symbolic": "classes=4"}, "Write it as n=20,train=1,test=3"),
        ({"head_dimension": 0}, "d_h is 0, but must be at least 1"),
        ({"seeds": "0,zero"}, "--seeds takes whole numbers"),
        ({"seeds": "1,1"}, "names a seed twice"),
        ({"steps": -4}, "-4 steps cannot be taken"),
        ({"device": "cuda:77"}, "this machine has no device 'cuda:77'"),
    ],
)
def test_mistakes_are_sentences(fields, says, tmp_path):
    with pytest.raises(SpilloverError, match=says):
        run(Lab(**{"preset": "two-models", "out": str(tmp_path / "run"), **fields}))
    assert not (tmp_path / "run").exists()


def test_report_makes_the_same_page_again(two_models, tmp_path):
    _, folder = two_models
    page = tmp_path / "again.html"
    report(Report(runs=(str(folder),), out=str(page)))
    assert page.read_bytes() == (folder / PAGE).read_bytes()
    with pytest.raises(UsageError, match="a page of its own"):
        report(Report(runs=(str(folder), str(folder)), out=str(page)))


def test_another_run_is_not_written_over(two_models, tmp_path):
    _, folder = two_models
    with pytest.raises(RunError, match="holds another run"):
        run(Lab(preset="rank-sweep", out=str(folder), quick=True))


@pytest.mark.slow
def test_the_papers_numbers_at_the_papers_size(tmp_path):
    """docs/theory.md, "Training": the table at n = 20, 1:3, and the distance of each direction."""
    metrics = run(Lab(preset="two-models", out=str(tmp_path / "run")))["metrics"]
    value = {kind: {name: metric["value"] for name, metric in group.items()} for kind, group in metrics.items()}
    assert value["merged"]["implication_loss_test"] == pytest.approx(3.0, abs=0.04)
    assert value["merged"]["implication_accuracy_test"] < 0.15
    assert value["factorised"]["implication_loss_test"] < 0.02
    assert value["factorised"]["implication_accuracy_test"] > 0.99
    assert value["factorised"]["norm_over_margin"] == pytest.approx(56.38, rel=0.01)
    assert value["merged"]["cosine_to_frobenius"] > 0.998
    for kind, sign in (("factorised", 1), ("merged", -1)):
        assert sign * (value[kind]["cosine_to_nuclear"] - value[kind]["cosine_to_frobenius"]) > 0.05
