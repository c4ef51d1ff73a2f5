"""The callback in a real Trainer: what it measures, where it goes, and that it changes nothing."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from spillover import SpilloverCallback, open_pack
from spillover.commands import report
from spillover.commands.report import Report
from spillover.errors import ModelError, RunError, UsageError
from spillover.lm.load import load_model
from spillover.lm.tokens import encoder, examples
from spillover.metrics.ranks import rank_table
from spillover.record import ANSWERS, INSIDE, SHARED, TRAJECTORY, Record

PACK = "city-language:names=10,bridge=1"


class Tracker(TrainerCallback):
    """What a tracker would get."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


@pytest.fixture
def train(byte_folder, tmp_path):
    """Train the tiny model on a pack by the Trainer; gives the trainer."""

    def run(make=None, epochs=3, tokenizer=True):
        loaded = load_model(str(byte_folder), device="cpu")
        data = [{"input_ids": torch.tensor(row.tokens), "labels": torch.tensor(row.tokens)}
                for row in examples(encoder(loaded.tokenizer), open_pack(PACK, 0))]  # fmt: skip
        arguments = TrainingArguments(
            str(tmp_path / "trainer"), num_train_epochs=epochs, per_device_train_batch_size=1, learning_rate=1e-3,
            use_cpu=True, report_to="none", save_strategy="no", logging_strategy="epoch", disable_tqdm=True, seed=3,
        )  # fmt: skip
        tracker = Tracker()
        trainer = Trainer(
            loaded.model, arguments, train_dataset=data, callbacks=[tracker],
            processing_class=loaded.tokenizer if tokenizer else None,
        )  # fmt: skip
        trainer.tracker = tracker
        if make:
            trainer.add_callback(make(trainer))
        trainer.train()
        return trainer

    return run


def test_it_measures_logs_and_writes_a_run(train, tmp_path):
    trainer = train(lambda trainer: SpilloverCallback(PACK, out=str(tmp_path / "run"), trainer=trainer))
    logged = [logs for logs in trainer.tracker.logs if "spillover/recall_rank" in logs]
    assert len(logged) == 5, "before, three epochs, and all words at the end"
    assert sum("loss" in logs for logs in trainer.tracker.logs) == 3, "the Trainer's own log is as it was"
    assert "spillover/marginal_rank" in logged[0] and "spillover/marginal_rank" not in logged[1]

    record = Record.read(tmp_path / "run")
    assert (record.command, record.status) == ("trainer", "done")
    assert record.details.measuring_seconds > 0 and record.settings["lr"] == 1e-3
    answers = pq.read_table(tmp_path / "run" / ANSWERS)
    table = rank_table(answers)
    assert set(table.checkpoint.tolist()) == {0, 1, 2, 3}
    assert set(table.only(checkpoint=3).trained.tolist()) == {True, False}
    assert record.metrics["recall_rank"]["value"] == pytest.approx(logged[-1]["spillover/recall_rank"])
    quantities = set(pq.read_table(tmp_path / "run" / TRAJECTORY)["quantity"].to_pylist())
    assert {"train_loss", "recall_rank"} <= quantities
    report.run(Report(runs=(str(tmp_path / "run"),), out=str(tmp_path / "page.html")))
    assert (tmp_path / "page.html").stat().st_size > 10_000
    json.dumps(record.settings)


def test_it_changes_nothing_of_the_run(train):
    alone, watched = train(), train(lambda trainer: SpilloverCallback(PACK))
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    history = [entry for entry in watched.state.log_history if "spillover/recall_rank" in entry]
    assert [entry["epoch"] for entry in history] == [0.0, 1.0, 2.0, 3.0, 3.0], "without a trainer, the log's history"


def test_it_measures_as_seldom_as_asked(train):
    trainer = train(lambda trainer: SpilloverCallback(PACK, trainer=trainer, every=2))
    assert sum("spillover/recall_rank" in logs for logs in trainer.tracker.logs) == 3


def test_mistakes_are_one_sentence(train, tmp_path):
    with pytest.raises(UsageError, match="the Trainer has no tokenizer"):
        train(lambda trainer: SpilloverCallback(PACK), tokenizer=False)
    with pytest.raises(UsageError, match="every is 0"):
        SpilloverCallback(PACK, every=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(RunError, match="holds files that are not a run"):
        train(lambda trainer: SpilloverCallback(PACK, out=str(tmp_path / "mine")))


def test_it_looks_inside_and_still_changes_nothing(train, tmp_path):
    bare = train()
    looking = {}

    def make(trainer):
        looking["callback"] = SpilloverCallback(PACK, out=str(tmp_path / "run"), inside=True)
        return looking["callback"]

    watched = train(make)
    for name, value in bare.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])
    look = looking["callback"].look
    assert sorted(look.looks) == [0, 1, 2, 3]
    rows = pq.read_table(tmp_path / "run" / INSIDE).to_pylist()
    changes = [row for row in rows if row["checkpoint"] == 3 and row["matrix"] == "change"]
    assert len(changes) == 8 and all(row["effective_rank"] > 0 for row in changes), "against a copy of the start"
    assert pq.read_table(tmp_path / "run" / SHARED).num_rows == 8
    assert Record.read(tmp_path / "run").details.inside.seconds > 0


@pytest.fixture
def resumable(byte_folder, tmp_path):
    """Train for some epochs, resume where the folder's last checkpoint stands; gives the trainer."""

    def run(out, epochs=4, stop=None, kill=None, resume=False, tokenizer=None, make=None, **options):
        loaded = load_model(str(byte_folder), device="cpu")
        tokenizer = tokenizer or loaded.tokenizer
        data = (make or examples_of)(tokenizer)
        arguments = TrainingArguments(
            str(tmp_path / "trainer"), num_train_epochs=epochs, per_device_train_batch_size=1, learning_rate=1e-3,
            use_cpu=True, report_to="none", save_strategy="epoch", disable_tqdm=True, seed=3, save_total_limit=1,
        )  # fmt: skip
        trainer = Trainer(loaded.model, arguments, train_dataset=data, processing_class=tokenizer)
        trainer.add_callback(SpilloverCallback(PACK, out=str(out), trainer=trainer, **options))

        class Stop(TrainerCallback):
            def on_epoch_end(self, args, state, control, **kwargs):
                if round(state.epoch) == stop:
                    control.should_training_stop = control.should_save = True

            def on_step_begin(self, args, state, control, **kwargs):
                if kill and state.epoch > kill:
                    raise KeyboardInterrupt

        trainer.add_callback(Stop())
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer

    return run


def examples_of(tokenizer):
    return [{"input_ids": torch.tensor(row.tokens), "labels": torch.tensor(row.tokens)}
            for row in examples(encoder(tokenizer), open_pack(PACK, 0))]  # fmt: skip


def tables(folder):
    table = pq.read_table(folder / ANSWERS)
    return {each: table.filter([other == each for other in table["checkpoint"].to_pylist()])
            for each in sorted(set(table["checkpoint"].to_pylist()))}  # fmt: skip


def test_a_resumed_training_keeps_what_the_folder_holds(resumable, tmp_path, capsys):
    resumable(tmp_path / "a", stop=1)
    first = tables(tmp_path / "a")
    resumable(tmp_path / "a", epochs=2, resume=True)
    whole = tables(tmp_path / "a")
    assert list(first) == [0, 1] and list(whole) == [0, 1, 2]
    assert all(first[each].equals(whole[each]) for each in first)
    record = Record.read(tmp_path / "a")
    assert (
        record.status == "done"
        and record.metrics["recall_rank_before"]["value"] > record.metrics["recall_rank"]["value"]
    )
    capsys.readouterr()
    resumable(tmp_path / "b", epochs=3, resume=True)
    assert "training resumes, and there is no baseline" in capsys.readouterr().err
    metrics = Record.read(tmp_path / "b").metrics
    assert list(tables(tmp_path / "b")) == [3] and metrics["recall_rank_before"] is None and metrics["recall_rank"]


def test_a_killed_training_leaves_its_baseline(resumable, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        resumable(tmp_path / "run", kill=1)
    assert Record.read(tmp_path / "run").status == "running" and list(tables(tmp_path / "run")) == [0, 1]
    resumable(tmp_path / "run", epochs=2, resume=True)
    assert list(tables(tmp_path / "run")) == [0, 1, 2]


def test_rows_of_a_chat_are_asked_as_turns_of_a_chat(resumable, tmp_path):
    made = {}

    def make(tokenizer):
        made["rows"] = []
        for fact in open_pack(PACK, 0).facts:
            said = open_pack(PACK, 0).prompt(fact.relation, fact.subject)
            before = tokenizer(f"<user>{said}\n<model>", add_special_tokens=False)["input_ids"]
            ids = tokenizer(f"<user>{said}\n<model>{fact.answer}<eos>", add_special_tokens=False)["input_ids"]
            labels = [-100] * len(before) + ids[len(before) :]
            made["rows"].append({"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)})
        return made["rows"]

    resumable(tmp_path / "run", epochs=1, make=make)
    record = Record.read(tmp_path / "run")
    assert record.details.rendered[0].before == "<user>{subject} lives in\n<model>"
    assert set(tables(tmp_path / "run")[0]["prompt"].to_pylist()) >= {"<user>{subject} lives in\n<model>"}
    with pytest.raises(UsageError, match="the nearest text is"):
        resumable(
            tmp_path / "other",
            make=lambda tokenizer: [{"input_ids": torch.tensor([5, 6]), "labels": torch.tensor([5, 6])}],
        )
    resumable(tmp_path / "plain", epochs=1, make=make, chat=False)
    assert "{subject} lives in" in tables(tmp_path / "plain")[0]["prompt"].to_pylist()
    with pytest.raises(ModelError, match="no chat template"):
        resumable(tmp_path / "chat", make=make, chat=True)
