"""The main job on a tiny real model: what it writes, that it repeats, and that nothing is mixed or lost."""

import dataclasses
import gc
import json
import subprocess
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import spillover
from spillover.commands import audit, inject, where
from spillover.commands.audit import Audit
from spillover.commands.prepare import Models
from spillover.commands.where import Where
from spillover.errors import ModelError, PackError, RunError, UsageError
from spillover.lm.load import load_model
from spillover.lm.save import opened, save_model
from spillover.metrics.implications import learned
from spillover.metrics.ranks import rank_table
from spillover.packs.open import open_pack
from spillover.record import ANSWER_SCHEMA, ANSWERS, TRAJECTORY, Record
from tests import quick

CONTRACT_METRICS = [
    "recall_rank", "implication_rank_train", "implication_rank_test", "implication_accuracy_test",
    "paraphrase_rank_test",
]  # fmt: skip


def elsewhere(settings, tmp_path, name, **changes):
    return dataclasses.replace(settings, out=str(tmp_path / name), **changes)


def test_a_run_holds_what_the_contract_names(settings, tmp_path):
    outcome = inject.run(settings)
    record = Record.read(tmp_path / "run")
    assert outcome["run"] == settings.out
    assert record.status == "done"
    assert record.settings["lr"] == 1e-2
    assert record.settings["device"] == "cpu"
    assert record.resumed == 0
    assert set(record.hashes) == {"pack", "model", "plain_text"}
    assert "torch" in record.versions
    metrics = outcome["metrics"]
    for name in CONTRACT_METRICS:
        for key in (name, f"{name}_before"):
            assert {"value", "low", "high", "n", "clusters", "unit"} <= set(metrics[key])
            assert metrics["implications"]["lives_in->speaks"][key] == metrics[key]
    for key in ("chance_rank", "marginal_rank", "forgetting_nats"):
        assert metrics[key]["value"] is not None
    assert metrics["chance_rank"]["value"] == 1.5
    assert metrics["marginal_rank"]["value"] == 1.0
    assert metrics["implications"]["lives_in->speaks"]["map_test"]["permutations"] == 6
    assert metrics["recall_rank"]["n"] == 9
    assert metrics["implication_rank_test"]["n"] == 6
    answers = pq.read_table(tmp_path / "run" / ANSWERS)
    assert answers.schema.equals(ANSWER_SCHEMA)
    # 9 cities of 3, 3 languages of 4; questions: 6 names, 2 prompts at both ends, 1 in between.
    assert answers.num_rows == 4 * (9 * 3 + 3 * 4) + (2 + 1 + 1 + 2) * 6 * 4
    assert sorted(set(answers["checkpoint"].to_pylist())) == [0, 1, 2, 3]


def test_training_on_the_rows_teaches_the_rows(settings, tmp_path):
    metrics = inject.run(elsewhere(settings, tmp_path, "long", epochs=30))["metrics"]
    assert metrics["recall_rank"]["value"] <= 0.1 < metrics["recall_rank_before"]["value"]
    assert metrics["implication_rank_train"]["value"] <= 0.1
    trajectory = pq.read_table(tmp_path / "long" / TRAJECTORY).to_pylist()
    losses = [row["value"] for row in trajectory if row["quantity"] == "train_loss"]
    assert len(losses) == 30 * 2
    assert losses[-1] < losses[0] / 5
    recall = [row["value"] for row in trajectory if row["quantity"] == "recall_rank" and row["implication"] is None]
    assert len(recall) == 31
    assert recall[-1] == metrics["recall_rank"]["value"]


def test_a_run_until_learned_ends_at_the_first_checkpoint_at_which_everything_stated_is_known(settings, tmp_path):
    whole = elsewhere(settings, tmp_path, "whole", epochs=30)
    inject.run(whole)
    ranks = rank_table(pq.read_table(tmp_path / "whole" / ANSWERS))
    first = next(epoch for epoch in range(31) if learned(ranks.only(checkpoint=epoch)))
    assert 0 < first < 30
    inject.run(elsewhere(settings, tmp_path, "until", epochs=30, until_learned=True))
    assert max(pq.read_table(tmp_path / "until" / ANSWERS)["checkpoint"].to_pylist()) == first


def test_equal_settings_give_equal_bytes_and_another_seed_does_not(settings, tmp_path):
    one, two = (elsewhere(settings, tmp_path, name, save="weights") for name in ("one", "two"))
    other = elsewhere(settings, tmp_path, "other", seed=1)
    outcomes = [inject.run(each) for each in (one, two, other)]
    assert outcomes[0]["metrics"] == outcomes[1]["metrics"]
    for name in (ANSWERS, TRAJECTORY, "weights/model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / ANSWERS).read_bytes() != (tmp_path / "other" / ANSWERS).read_bytes()


def test_the_schedule_of_measuring_changes_nothing(settings, tmp_path):
    often = elsewhere(settings, tmp_path, "often", save="weights")
    seldom = elsewhere(settings, tmp_path, "seldom", save="weights", evaluate_every=3)
    inject.run(often)
    inject.run(seldom)
    name = "weights/model.safetensors"
    assert (tmp_path / "often" / name).read_bytes() == (tmp_path / "seldom" / name).read_bytes()
    ends = [rank_table(pq.read_table(tmp_path / run / ANSWERS)).only(checkpoint=3).rank for run in ("often", "seldom")]
    assert (ends[0] == ends[1]).all()
    assert set(pq.read_table(tmp_path / "seldom" / ANSWERS)["checkpoint"].to_pylist()) == {0, 3}


def test_saved_weights_score_as_the_run_did(settings, tmp_path):
    from spillover.lm.evaluate import Evaluation as Examination
    from spillover.lm.load import load_model
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import encoder
    from spillover.packs.open import open_pack

    inject.run(elsewhere(settings, tmp_path, "kept", save="weights"))
    loaded = load_model(str(tmp_path / "kept" / "weights"), device="cpu")
    examination = Examination(open_pack(settings.pack, 0), encoder(loaded.tokenizer))
    again = examination.answers(Scorer(loaded.model), seed=0, checkpoint=3, full=True)
    kept = pq.read_table(tmp_path / "kept" / ANSWERS)
    last = kept.filter([checkpoint == 3 for checkpoint in kept["checkpoint"].to_pylist()])
    assert last["log_probability"].to_numpy() == pytest.approx(again["log_probability"].to_numpy(), abs=1e-5)


def test_a_delta_holds_the_new_values_of_what_changed(settings, tmp_path, tiny):
    import torch
    from safetensors.torch import load_file

    inject.run(elsewhere(settings, tmp_path, "whole", save="weights"))
    inject.run(elsewhere(settings, tmp_path, "part", save="delta"))
    changed = load_file(tmp_path / "part" / "delta.safetensors")
    whole = load_file(tmp_path / "whole" / "weights" / "model.safetensors")
    base = tiny.model.state_dict()
    assert changed.keys() == {name for name in whole if not torch.equal(whole[name], base[name])}
    assert all(torch.equal(whole[name], value) for name, value in changed.items())
    assert not any("embed" in name for name in changed)


def test_an_adapter_is_trained_saved_and_loaded(settings, tmp_path):
    run = inject.run(elsewhere(settings, tmp_path, "adapter", lora=4, epochs=10, save="delta"))
    assert Record.read(tmp_path / "adapter").details.model.trained_parameters < 20_000
    assert run["metrics"]["recall_rank"]["value"] < run["metrics"]["recall_rank_before"]["value"]
    from spillover.lm.load import load_model

    base = load_model(settings.model, device="cpu")
    merged = load_model(str(tmp_path / "adapter" / "adapter"), device="cpu")
    assert merged.sha256 != base.sha256
    assert (tmp_path / "adapter" / "adapter" / "adapter_model.safetensors").exists()


def last(folder, checkpoint):
    table = pq.read_table(folder / ANSWERS)
    return [row["log_probability"] for row in table.to_pylist() if row["checkpoint"] == checkpoint]


CHANGED = [{"lora": 4, "lora_targets": "v_proj,lm_head"}, {"lora": 4, "lora_targets": "embed_tokens"},
           {"lora": 4, "lora_targets": "q_proj,v_proj"}, {"lora": 4, "lora_targets": "embed_tokens,lm_head"},
           {"freeze_embeddings": False}]  # fmt: skip


@pytest.mark.parametrize("changes", quick.first(CHANGED, 1), ids=str)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "apart"])
@pytest.mark.parametrize("save", ["weights", "delta"])
def test_an_audit_of_what_was_saved_gives_the_numbers_of_the_run(settings, tmp_path, tied_folder, save, tied, changes):
    model = str(tied_folder) if tied else settings.model
    own = elsewhere(settings, tmp_path, "run", model=model, save=save, lr=3e-2, evaluate_every=3, **changes)
    inject.run(own)
    run, audited = tmp_path / "run", tmp_path / "audit"
    found = Record.read(run).details
    assert found.saved.prompts == 8 and found.saved.difference <= 1e-4
    kept = (
        run / "delta.safetensors"
        if save == "delta" and not own.lora
        else run / ("weights" if save == "weights" else "adapter")
    )
    if kept.is_file():
        kept = save_model(opened(kept, base := load_model(model, device="cpu")), base, "weights", tmp_path)
    audit.run(Audit(pack=settings.pack, base=model, tuned=str(kept), out=str(audited), threads=1, fail_on="never"))
    assert last(audited, 1) == pytest.approx(last(run, 3), abs=1e-3)
    assert np.abs(np.subtract(last(run, 3), last(run, 0))).max() > 0.1, "training changed something"
    assert found.moved["embeddings"] > 0 if "q_proj" not in str(changes) else "embeddings" not in found.moved
    where.run(Where(run=str(run), out=str(tmp_path / "where"), threads=1, parts="components"))
    ends = (
        pq.read_table(tmp_path / "where" / ANSWERS).filter(pc.field("checkpoint") == 1)["log_probability"].to_pylist()
    )
    trained = pq.read_table(run / ANSWERS).filter((pc.field("checkpoint") == 3) & pc.field("trained"))
    assert ends == pytest.approx(trained["log_probability"].to_pylist(), abs=1e-3)


@pytest.mark.parametrize("lora", quick.first([0, 2], 1))
@pytest.mark.parametrize("save", ["delta", "weights"])
def test_an_adapter_that_one_holds_is_folded_in_before_it_is_trained(settings, tiny, save, lora, tmp_path):
    own = LoraConfig(r=2, target_modules=["v_proj", "lm_head"], init_lora_weights=False)
    held = get_peft_model(AutoModelForCausalLM.from_pretrained(settings.model), own)
    before = {name: value.clone() for name, value in held.state_dict().items()}
    options = {"out": tmp_path / "held", "epochs": 1, "threads": 1, "save": save, "lora": lora}
    run = spillover.inject(settings.pack, (held, tiny.tokenizer), **options)
    assert run.record.details.saved.difference <= 1e-4
    assert all(torch.equal(value, before[name]) for name, value in held.state_dict().items())
    assert spillover.where(run, parts="none", threads=1).laziness.moved == pytest.approx(run.record.details.moved)


class Scaled(LlamaForCausalLM):
    """What its weights do not say is lost with it: a factor on its scores that is in no file."""

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = found.logits * 1.5
        return found


class Headless(LlamaForCausalLM):
    _keys_to_ignore_on_save = ("lm_head.weight",)


@pytest.mark.parametrize("lossy", quick.first([Scaled, Headless], 1))
@pytest.mark.parametrize(("save", "lora"), [("weights", 0), ("weights", 2)])
def test_what_does_not_come_back_as_it_was_measured_is_not_a_finished_run(settings, tmp_path, tiny, lossy, save, lora):
    model = lossy(tiny.model.config)
    model.load_state_dict(tiny.model.state_dict())
    with pytest.raises(RunError, match=r"answers otherwise than the model that was measured, by up to .* nats"):
        spillover.inject(settings.pack, (model, tiny.tokenizer), out=tmp_path / "lossy", epochs=1, save=save, lora=lora)
    assert Record.read(tmp_path / "lossy").status == "failed"
    assert not (tmp_path / "lossy" / "weights").exists() and (tmp_path / "lossy" / ANSWERS).exists()


def test_several_seeds_give_a_run_each_and_one_pooled(settings, tmp_path):
    pooled = elsewhere(settings, tmp_path, "pooled", seeds="0,2")
    outcome = inject.run(pooled)
    alone = inject.run(elsewhere(settings, tmp_path, "alone", seed=2))
    own = Record.read(tmp_path / "pooled" / "seed-2").metrics
    assert own["implication_rank_test"] == alone["metrics"]["implication_rank_test"]
    both = [Record.read(tmp_path / "pooled" / f"seed-{seed}").metrics["recall_rank"]["value"] for seed in (0, 2)]
    assert outcome["metrics"]["recall_rank"]["value"] == pytest.approx(sum(both) / 2)
    assert outcome["metrics"]["recall_rank"]["clusters"] == 6
    assert Record.read(tmp_path / "pooled").details.seeds == [0, 2]


def test_a_seed_of_an_earlier_version_is_pooled_with_newer_ones(settings, tmp_path):
    """An earlier version's answers have no column of what is warranted."""
    inject.run(dataclasses.replace(settings, seed=0, out=str(tmp_path / "run" / "seed-0")))
    folder = tmp_path / "run" / "seed-0"
    answers = pq.read_table(folder / ANSWERS)
    pq.write_table(answers.drop_columns(["warranted"]), folder / ANSWERS)
    inject.run(dataclasses.replace(settings, seeds="0,1", out=str(tmp_path / "run")))
    pooled = pq.read_table(tmp_path / "run" / ANSWERS)
    assert pooled.column_names == answers.column_names and len(pooled) == 2 * len(answers)
    first = pc.equal(pooled["seed"], 0)
    assert pooled.filter(first)["warranted"].null_count == len(answers)
    metrics = spillover.load_run(tmp_path / "run").metrics
    assert metrics.recall_rank.n and metrics.warranted_rate.n * 2 == metrics.implication_rank_test.n


def test_the_model_of_a_finished_seed_is_no_longer_in_memory(settings):
    def models():
        return sum(isinstance(each, LlamaForCausalLM) for each in gc.get_objects())

    held, before = Models(), models()
    gc.disable()
    try:
        inject.run(dataclasses.replace(settings, seeds="0,1"), held)
        assert models() == before + 1, "the one that the next run begins from"
    finally:
        gc.enable()


def test_pooling_that_was_cut_short_is_done_again(settings, tmp_path, monkeypatch):
    pooled = elsewhere(settings, tmp_path, "pooled", seeds="0,2")
    real = inject.write_table

    def killed(path, table):
        real(path, table)
        if path.parent.name == "pooled":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(inject, "write_table", killed)
        inject.run(pooled)
    assert Record.read(tmp_path / "pooled").status == "running"
    stamp = (tmp_path / "pooled" / "seed-0" / "record.json").read_bytes()
    assert inject.run(pooled)["metrics"]["recall_rank"]["clusters"] == 6
    assert Record.read(tmp_path / "pooled").status == "done"
    assert (tmp_path / "pooled" / "seed-0" / "record.json").read_bytes() == stamp


def test_the_same_command_finds_its_run_and_another_is_refused(settings, tmp_path):
    first = inject.run(settings)
    stamp = (tmp_path / "run" / "record.json").read_bytes()
    assert inject.run(settings)["metrics"] == first["metrics"]
    assert (tmp_path / "run" / "record.json").read_bytes() == stamp
    with pytest.raises(RunError, match="this folder holds another run"):
        inject.run(dataclasses.replace(settings, epochs=4))
    assert (tmp_path / "run" / "record.json").read_bytes() == stamp


def test_somebodys_files_are_not_touched(settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="holds files that are not a run"):
        inject.run(settings)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_an_interrupt_leaves_a_record_that_says_so(settings, tmp_path, monkeypatch):
    from spillover.lm import train as training

    real, calls = training.training_step, []

    def stop_in_epoch_two(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "training_step", stop_in_epoch_two)
    with pytest.raises(KeyboardInterrupt):
        inject.run(settings)
    record = Record.read(tmp_path / "run")
    assert record.status == "interrupted"
    assert set(pq.read_table(tmp_path / "run" / ANSWERS)["checkpoint"].to_pylist()) == {0, 1}
    assert "recall_rank" in record.metrics
    monkeypatch.undo()
    assert inject.run(settings)["metrics"]["recall_rank"]["n"] == 9
    assert Record.read(tmp_path / "run").status == "done"


def test_a_full_disk_is_one_sentence(settings, monkeypatch):
    import os

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="could not be written: no space left on device"):
        inject.run(settings)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"epochs": 0}, UsageError, "--epochs is 0. Give --epochs 1 or more."),
        ({"lr": float("nan")}, UsageError, "--lr is nan. Give a learning rate between 0 and 1, such as 5e-5."),
        ({"weight_decay": -1.0}, UsageError, "--weight-decay is -1.0. Give 0 or more."),
        ({"seeds": "0,x"}, UsageError, "--seeds takes whole numbers, not '0,x'. Write --seeds 0,1,2."),
        ({"facts_known": True, "remedy": "lazier=1.5"}, UsageError,
         "lazier=1.5: a remedy is for runs that train on every stated row. Leave --facts-known or --remedy out."),
        ({"seeds": "1,1"}, UsageError, "--seeds names a seed twice: 1,1. Name each once."),
        ({"device": "cuda:99"}, ModelError, "this machine has no device 'cuda:99'. Use --device cpu or auto."),
        ({"device": "gpu"}, ModelError, "there is no device called 'gpu'. Use auto, cpu, cuda, cuda:0 or mps."),
        ({"model": "gema-3-270m"}, ModelError, "there is no model called 'gema-3-270m'. Did you mean 'gemma-3-270m'?"),
        ({"plain_text": "nowhere.txt"}, UsageError,
         "nowhere.txt: this text file cannot be read: No such file or directory. Check --plain-text."),
    ],
)  # fmt: skip
def test_bad_options_are_one_sentence(settings, changes, error, sentence):
    with pytest.raises(error) as caught:
        inject.run(dataclasses.replace(settings, **changes))
    assert str(caught.value) == sentence


def test_answers_that_the_tokens_cannot_tell_apart_are_refused(settings, tmp_path):
    body = json.loads((tmp_path / "pack.yaml").read_text())
    del body["end"]
    body["relations"]["speaks"]["answers"] = ["Old"]
    (tmp_path / "pack.yaml").write_text(json.dumps(body))
    with pytest.raises(PackError, match="Old"):
        inject.run(settings)
    assert not (tmp_path / "run" / "record.json").exists()


def test_from_python_a_model_and_a_pack_that_one_holds_give_the_bytes_of_the_command(settings, tiny, tmp_path):
    """And the model stays as it was, weights and mode, while the run lives in a folder of its own."""
    inject.run(settings)
    loaded = load_model(settings.model, device="cpu")
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    own = open_pack(settings.pack)
    found = spillover.inject(own, (loaded.model, loaded.tokenizer), epochs=3, lr=1e-2, threads=1)
    assert (found.folder / ANSWERS).read_bytes() == (tmp_path / "run" / ANSWERS).read_bytes()
    assert found.metrics.implication_rank_test.n == 6 and found.answers.schema.equals(ANSWER_SCHEMA)
    assert all(value.equal(before[name]) for name, value in loaded.model.state_dict().items())
    assert found.settings["pack"] == "tiny" and found.settings["dtype"] == "float32"
    folder = found.folder
    del found
    assert not folder.exists()


def test_from_python_an_unknown_option_is_refused_with_the_nearest(settings, tmp_path):
    with pytest.raises(UsageError, match="there is no option 'epoch'"):
        spillover.inject(settings.pack, settings.model, out=tmp_path / "run", epoch=3)
    assert not (tmp_path / "run").exists()


def test_another_model_of_the_same_name_is_another_run(settings, tmp_path):
    loaded = load_model(settings.model, device="cpu")
    options = {"out": tmp_path / "held", "epochs": 1, "threads": 1}
    spillover.inject(settings.pack, (loaded.model, loaded.tokenizer), **options)
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1)
    with pytest.raises(RunError, match="another run"):
        spillover.inject(settings.pack, (loaded.model, loaded.tokenizer), **options)


@pytest.mark.slow
def test_the_main_job_needs_few_of_our_files(settings):
    """A reader who follows the main job opens these; what other verbs need is not among them."""
    words = ["inject", settings.pack, "--model", settings.model, "--out", settings.out, "--epochs", "1"]
    body = (
        "import sys\nfrom spillover.cli import main\n"
        f"assert main({words!r}) == 0\n"
        "own = [name for name, each in sys.modules.items()\n"
        "       if name.split('.')[0] == 'spillover' and getattr(each, '__file__', None)]\n"
        "print(len(own), *sorted(own), file=sys.stderr)\n"
        "sys.exit(len(own) > 45)"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_facts_that_are_known_are_asked_and_not_trained(settings, tmp_path):
    """The same questions, three rows an epoch where there were twelve; and without implications, nothing to train."""
    inject.run(settings)
    found = inject.run(elsewhere(settings, tmp_path, "known", facts_known=True))
    tables = [pq.read_table(tmp_path / name / ANSWERS) for name in ("run", "known")]
    asked = [table.drop_columns(["log_probability", "checkpoint"]).to_pylist() for table in tables]
    assert asked[0] == asked[1]
    steps = [max(pq.read_table(tmp_path / name / TRAJECTORY)["step"].to_pylist()) for name in ("run", "known")]
    assert steps == [6, 3], "twelve rows and three, eight a step, three epochs"
    assert found["metrics"]["implication_rank_train"]["value"] < found["metrics"]["recall_rank"]["value"]
    assert "facts taken as known: mean rank" in found["text"]
    body = json.loads((tmp_path / "pack.yaml").read_text())
    body["facts"] = [fact for fact in body["facts"] if fact["relation"] == "lives_in"]
    (tmp_path / "pack.yaml").write_text(json.dumps(body))
    with pytest.raises(UsageError) as caught:
        inject.run(elsewhere(settings, tmp_path, "nothing", facts_known=True))
    do = "Leave --facts-known out, or state what follows of some subjects."
    assert str(caught.value) == f"tiny: no implication is stated, so there is nothing to train on. {do}"


def test_a_chat_model_is_trained_and_asked_in_its_own_template(settings, tiny, tmp_path):
    import copy

    from spillover.commands import check
    from spillover.commands.check import Check
    from tests.lm.test_chat import TEMPLATE

    folder = tmp_path / "chat"
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = TEMPLATE
    tiny.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    changes = {"model": str(folder), "epochs": 12, "evaluate_every": 12}
    run = inject.run(elsewhere(settings, tmp_path, "chat-run", chat=True, **changes))
    assert run["metrics"]["recall_rank"]["value"] < run["metrics"]["recall_rank_before"]["value"]
    words = set(pq.read_table(tmp_path / "chat-run" / ANSWERS)["prompt"].to_pylist())
    assert "<bos><user>{subject} lives in\n<model>" in words
    assert Record.read(tmp_path / "chat-run").details.pack.relations[0].prompts[0] == "{subject} lives in"
    assert check.run(Check(pack=settings.pack, model=str(folder), chat=True))["exit_code"] == 0
    with pytest.raises(RunError, match="another run"):
        inject.run(elsewhere(settings, tmp_path, "chat-run", **changes))
    with pytest.raises(ModelError, match="no chat template"):
        inject.run(elsewhere(settings, tmp_path, "plain", chat=True))


def test_a_chat_that_shows_a_day_is_repeated_on_another(settings, tiny, tmp_path):
    import copy

    from spillover.commands import rerun, verify
    from spillover.commands.rerun import Rerun
    from spillover.commands.verify import Verify
    from tests.lm.test_chat import TEMPLATE

    folder, tokenizer = tmp_path / "dated", copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y %H:%M:%S') }}" + TEMPLATE
    tiny.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    own = elsewhere(settings, tmp_path, "run", chat=True, model=str(folder), system="Be brief.", epochs=1)
    inject.run(dataclasses.replace(own, date="2026-01-31"))
    record = Record.read(tmp_path / "run")
    assert record.settings["date"] == "2026-01-31"
    assert record.details.rendered[0].before.startswith("31 Jan 2026 00:00:00<bos><system>Be brief.\n<user>{subject}")
    assert verify.run(Verify(run=str(tmp_path / "run")))["repeatable"]
    assert rerun.run(Rerun(run=str(tmp_path / "run"), out=str(tmp_path / "again")))["same"]
    inject.run(own)
    assert Record.read(tmp_path / "run") == record, "the day of the run that the folder holds"
    with pytest.raises(RunError, match="another run"):
        inject.run(dataclasses.replace(own, date="2026-02-01"))
    tokenizer.chat_template = TEMPLATE.replace("<model>", "<assistant>")
    tokenizer.save_pretrained(folder)
    assert "does not write the turns that it wrote" in verify.run(Verify(run=str(tmp_path / "run")))["text"]
    with pytest.raises(RunError, match="another run"):
        inject.run(own)
    with pytest.raises(UsageError, match="this chat template shows no date"):
        inject.run(elsewhere(settings, tmp_path, "no-date", chat=True, model=str(folder), date="2026-01-31"))
