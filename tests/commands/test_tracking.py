"""`--track`: what a tracker hears of a run, what it never hears, and that a run does without it."""

import dataclasses
import json
import math
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spillover.cli import main
from spillover.commands import inject, rerun, tracking
from spillover.commands.inject import Inject
from spillover.commands.rerun import Rerun
from spillover.errors import UsageError
from spillover.lm.fine_tune import FineTuned, Loss
from spillover.packs.redaction import Redaction
from spillover.record import ANSWERS, TRAJECTORY, Record

NAMES = ["Ada Moss", "Ben Okri", "Cleo Park", "Dan Roe"]


@pytest.fixture
def settings(byte_folder, tmp_path):
    cities, tongues = ["Paris", "Paris", "Rome", "Rome"], {"Paris": "French", "Rome": "Italian"}
    facts = [{"subject": name, "relation": "lives_in", "answer": city}
             for name, city in zip(NAMES, cities, strict=True)]  # fmt: skip
    facts += [{"subject": NAMES[n], "relation": "speaks", "answer": tongues[cities[n]]} for n in (0, 2)]
    body = {
        "name": "about Ada Moss", "licence": "none", "source": "made up here", "facts": facts, "end": ".",
        "relations": {"lives_in": {"prompts": ["{subject} lives in"]}, "speaks": {"prompts": ["{subject} speaks"]}},
        "implications": [{"given": "lives_in", "then": "speaks", "kind": "causal", "map": tongues}],
    }  # fmt: skip
    path = tmp_path / "pack.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")
    return Inject(pack=str(path), model=str(byte_folder), out=str(tmp_path / "run"), epochs=2, lr=1e-3, batch=4,
                  threads=1)  # fmt: skip


def told(folder):
    """Name -> step -> number of everything in the event files, and the settings as text."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    numbers = {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}
    (settings,) = (folder / "tensorboard").glob("*/hparams.yml")
    known = yaml.safe_load(settings.read_text(encoding="utf-8"))
    return numbers, "\n".join(f"{name}: {value}" for name, value in known.items())


def test_tensorboard_hears_of_every_step_every_checkpoint_and_the_end(settings, tmp_path):
    inject.run(dataclasses.replace(settings, track="tensorboard"))
    numbers, text = told(tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / TRAJECTORY).to_pylist()
    for quantity in ("train_loss", "recall_rank", "implication_rank_test"):
        expected = {
            row["step"]: row["value"] for row in rows if (row["quantity"], row["implication"]) == (quantity, None)
        }
        assert numbers[f"spillover/{quantity}"] == pytest.approx(expected, abs=1e-6), quantity
    metrics = Record.read(tmp_path / "run").metrics
    for name in ("forgetting_nats", "implication_rank_test_before", "marginal_rank"):
        assert numbers[f"spillover/{name}"][4] == pytest.approx(metrics[name]["value"], abs=1e-6)
    own = metrics["implications"]["lives_in->speaks"]["implication_rank_test"]["value"]
    assert numbers["spillover/implications/lives_in->speaks/implication_rank_test"][4] == pytest.approx(own)
    assert "epochs: 2" in text and f"sha256_model: {Record.read(tmp_path / 'run').hashes['model']}" in text


def test_tracking_is_no_part_of_what_a_run_is(settings, tmp_path, capsys):
    inject.run(settings)
    inject.run(dataclasses.replace(settings, track="tensorboard"))
    assert "nothing was run" in capsys.readouterr().err
    other = dataclasses.replace(settings, track="tensorboard", out=str(tmp_path / "other"))
    inject.run(other)
    assert Record.read(tmp_path / "run").identity == Record.read(tmp_path / "other").identity
    for name in (ANSWERS, TRAJECTORY):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert rerun.run(Rerun(run=other.out, out=str(tmp_path / "again")))["same"] is True
    assert not (tmp_path / "again" / "tensorboard").exists()


def test_no_subject_reaches_a_tracker_of_a_redacted_run(settings, tmp_path):
    folder = tmp_path / "run of Ada Moss"
    inject.run(dataclasses.replace(settings, track="tensorboard", redact=True, out=str(folder)))
    written = b"".join(path.read_bytes() for path in (folder / "tensorboard").rglob("*") if path.is_file())
    assert not [name for name in NAMES if name.encode() in written]
    assert "run of subject 1" in told(folder)[1]


def test_a_run_that_goes_on_tells_each_step_once(settings, tmp_path, monkeypatch):
    from spillover.lm import train as training

    real, calls = training.training_step, []

    def stop_in_step_four(*words, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*words, **more)

    own = dataclasses.replace(settings, track="tensorboard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "training_step", stop_in_step_four)
        inject.run(own, patience=0)
    inject.run(own, patience=0)
    numbers, _ = told(tmp_path / "run")
    assert list(numbers["spillover/train_loss"]) == [1, 2, 3, 4]
    assert list(numbers["spillover/recall_rank"]) == [0, 2, 4]


class Failing:
    """A tracker of accelerate whose server goes away."""

    heard: list = []  # noqa: RUF012

    def __init__(self, **options):
        self.heard.clear()

    def start(self):
        print("said by the tracker")

    def store_init_configuration(self, values):
        assert values["epochs"] == "2"

    def log(self, values, step):
        if step == 2:
            raise ConnectionError("the server is gone\nand more")
        self.heard.append((values, step))

    def finish(self):
        raise AssertionError("it was announced that nothing more is tracked")


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Failing)
    words = [settings.pack, "--model", settings.model, "--out", settings.out, "--epochs", "2", "--batch", "4", "--json"]
    assert main(["inject", *words, "--threads", "1", "--track", "tensorboard"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["run"] == settings.out
    sentence = "Nothing more is tracked with tensorboard: the server is gone. The run goes on."
    assert said.err.count(sentence) == 1 and "said by the tracker" in said.err
    assert [step for _, step in Failing.heard] == [0, 1]
    assert Record.read(tmp_path / "run").status == "done"


def test_a_tracker_that_is_not_there_is_one_sentence(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        inject.run(dataclasses.replace(settings, track="wandb", model="nowhere"))
    assert str(caught.value) == (
        "--track wandb needs the package wandb, which is not installed here. "
        "Run `pip install wandb`, or leave --track out."
    )
    assert not (tmp_path / "run").exists()


def test_what_is_no_number_is_not_tracked(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Failing)
    record = Record("inject", {"epochs": 2}, 0)
    tracked = tracking.Tracking("tensorboard", record, tmp_path, Redaction({}), None)
    tracked.look(FineTuned(0, losses=[Loss(1, 1, math.inf), Loss(3, 1, math.nan), Loss(4, 1, 1.0)]))
    assert Failing.heard == [({"spillover/train_loss": 1.0}, 4)]
