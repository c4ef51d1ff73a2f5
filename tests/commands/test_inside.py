"""`inject --inside` on a tiny model: what it writes, that it changes nothing, and that a stopped run has the same."""

import dataclasses

import pyarrow.parquet as pq
import pytest

from spillover.cli import main
from spillover.commands import inject, report, verify
from spillover.commands.inject import Inject
from spillover.commands.prepare import resolved
from spillover.commands.report import Report
from spillover.commands.verify import Verify
from spillover.config import Launch
from spillover.errors import ModelError, UsageError
from spillover.lm.distributed import Processes
from spillover.record import ANSWERS, INSIDE, SHARED, Record
from tests.commands import several

PACK = "city-language:names=10,bridge=1"


@pytest.fixture
def settings(byte_folder, tmp_path):
    return Inject(pack=PACK, model=str(byte_folder), out=str(tmp_path / "run"), epochs=5, lr=1e-2, threads=1,
                  evaluate_every=5, inside=True, save="delta")  # fmt: skip


def to(settings, tmp_path, name, **changes):
    return dataclasses.replace(settings, out=str(tmp_path / name), **changes)


def test_it_writes_its_tables_and_leaves_the_training_alone(settings, tmp_path):
    inject.run(settings)
    inject.run(to(settings, tmp_path, "bare", inside=False))
    rows = pq.read_table(tmp_path / "run" / INSIDE).to_pylist()
    seen = {(row["checkpoint"], row["matrix"], row["effective_rank"] is not None) for row in rows}
    norms = {(epoch, "change", False) for epoch in (1, 2, 4)}
    assert seen == {(0, "product", True), (5, "product", True), (5, "change", True), *norms}
    assert len(rows) == 2 * 4 * (1 + 3 + 2)
    assert all(row["frobenius"] > 0 for row in rows)
    assert pq.read_table(tmp_path / "run" / SHARED)["checkpoint"].to_pylist() == [5] * 8
    for name in (ANSWERS, "delta.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "bare" / name).read_bytes()
    records = [Record.read(tmp_path / name) for name in ("run", "bare")]
    assert records[0].identity != records[1].identity and records[1].details.inside is None
    assert records[0].details.inside.seconds > 0 and {INSIDE, SHARED} <= set(records[0].details.files)
    assert verify.run(Verify(run=settings.out))["trusted"]


def test_merged_products_are_looked_into_by_what_is_added_and_are_not_saved(settings, tmp_path):
    with pytest.raises(UsageError, match="merged output-value products are no weights of any model folder"):
        inject.run(to(settings, tmp_path, "saved", remedy="merged-output-value=1"))
    learned = {}
    for remedy in ("merged-output-value", "merged-cut"):
        inject.run(to(settings, tmp_path, remedy, remedy=f"{remedy}=1", save="none"))
        rows = [row for row in pq.read_table(tmp_path / remedy / INSIDE).to_pylist() if row["checkpoint"] == 5]
        learned[remedy] = [row for row in rows if row["matrix"] == "change"]
        assert len(rows) == 16 and all(row["frobenius"] > 0 and row["effective_rank"] for row in rows)
        assert Record.read(tmp_path / remedy).details.model.trained_parameters == 8 * 32**2
    # The matrices are 32 wide, the heads 8.
    whole, cut = (max(row["effective_rank"] for row in learned[remedy]) for remedy in learned)
    assert cut <= 8 < whole <= 32


def test_a_run_that_was_stopped_ends_with_the_same_tables(settings, tmp_path, monkeypatch):
    from spillover.lm import fine_tune as experiment

    whole = to(settings, tmp_path, "whole")
    inject.run(whole)
    original = experiment.fine_tune

    def until(*args, **more):
        after = args[3]

        def stopping(step):
            after(step)
            if step.epoch == 3:
                raise KeyboardInterrupt

        return original(*args[:3], stopping, *args[4:], **more)

    monkeypatch.setattr(experiment, "fine_tune", until)
    with pytest.raises(KeyboardInterrupt):
        inject.run(settings, patience=0)
    assert not (tmp_path / "run" / SHARED).exists()
    monkeypatch.undo()
    inject.run(settings)
    assert Record.read(tmp_path / "run").resumed == 1
    for name in (INSIDE, SHARED, ANSWERS):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_seeds_are_pooled_and_shown(settings, tmp_path):
    pooled = to(settings, tmp_path, "seeds", seeds="0,1", save="none")
    inject.run(pooled)
    rows = pq.read_table(tmp_path / "seeds" / INSIDE).to_pylist()
    assert {row["seed"] for row in rows} == {0, 1}
    report.run(Report(runs=(pooled.out,), out=str(tmp_path / "page.html")))
    assert "A look inside" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_adapter_is_looked_at_too(settings, tmp_path):
    inject.run(to(settings, tmp_path, "adapter", lora=2, save="none"))
    rows = pq.read_table(tmp_path / "adapter" / INSIDE).to_pylist()
    changes = [row for row in rows if row["matrix"] == "change" and row["checkpoint"] == 5]
    assert all(row["frobenius"] > 0 and row["effective_rank"] < 2 * 2 + 1e-3 for row in changes), "rank 2 a factor"


def test_a_model_without_known_attention_is_one_sentence(settings, tmp_path, byte_folder):
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(byte_folder)
    OPTForCausalLM(OPTConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
        word_embed_proj_dim=16, max_position_embeddings=64,
    )).save_pretrained(tmp_path / "other")  # fmt: skip
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="this model has no attention of a known shape"):
        inject.run(to(settings, tmp_path, "none", model=str(tmp_path / "other")))
    assert not (tmp_path / "none" / "record.json").exists()


@pytest.mark.slow
def test_two_processes_see_what_one_does(byte_folder, tmp_path):
    words = ["inject", PACK, "--model", str(byte_folder), "--threads", "1", "--epochs", "2", "--lr", "1e-3", "--inside"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    said = several.run([*words, "--out", str(tmp_path / "two")], tmp_path / "said")
    assert [code for code, _, _ in said] == [0, 0], said
    one, two = (pq.read_table(tmp_path / name / INSIDE).to_pylist() for name in ("one", "two"))
    for here, there in zip(one, two, strict=True):
        # Sums in another order turn the sign of a few of AdamW's first steps, where a gradient is nearly 0.
        assert there == {**here, **{key: pytest.approx(value, rel=0.02) for key, value in here.items()
                                    if isinstance(value, float)}}  # fmt: skip
    assert pq.read_table(tmp_path / "two" / SHARED).num_rows == 8
    assert {INSIDE, SHARED} <= set(Record.read(tmp_path / "two").details.files)


def test_a_split_model_is_one_sentence(settings):
    split = Processes(Launch(0, 2, 0, 2, cpu=True, sharded=True))
    with pytest.raises(UsageError, match="--inside cannot look into a model that is split"):
        resolved(dataclasses.replace(settings, processes=2), split)
