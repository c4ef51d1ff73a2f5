"""Repairing a finished model: a new model beside the old, both audited, and what was given left as it was."""

import dataclasses
import hashlib
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from spillover.commands import inject, repair, report, verify
from spillover.commands.inject import Inject
from spillover.commands.repair import Repair
from spillover.commands.report import Report
from spillover.commands.verify import Verify
from spillover.errors import ModelError, RunError, UsageError
from spillover.record import ANSWERS, Record, read_table


def tree(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


@pytest.fixture
def tuned(two_kinds, tiny_folder, tmp_path):
    """A model that was trained on the two_kinds, and its settings."""
    settings = Inject(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "run"), epochs=3, lr=1e-2, threads=1,
                      save="weights")  # fmt: skip
    inject.run(settings)
    return tmp_path / "run" / "weights"


def settings_for(tuned, two_kinds, tiny_folder, tmp_path, **changes):
    own = {"model": str(tuned), "base": str(tiny_folder), "pack": two_kinds, "remedy": "scale-back=1",
           "out": str(tmp_path / "repaired"), "threads": 1}  # fmt: skip
    return Repair(**(own | changes))


def test_taking_the_whole_change_back_gives_the_base_model(tuned, two_kinds, tiny_folder, tmp_path, capsys):
    before = tree(tuned)
    settings = settings_for(tuned, two_kinds, tiny_folder, tmp_path)
    found = repair.run(settings)
    assert tree(tuned) == before
    rows = read_table(tmp_path / "repaired" / "after" / ANSWERS).to_pylist()
    scores = [[row["log_probability"] for row in rows if row["checkpoint"] == model] for model in (0, 1)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    rows = read_table(tmp_path / "repaired" / "before" / ANSWERS).to_pylist()
    moved = [[row["log_probability"] for row in rows if row["checkpoint"] == model] for model in (0, 1)]
    assert moved[1] != pytest.approx(moved[0], abs=1e-2)
    assert found["model"].endswith("weights") and found["before"]["unwanted_rate"] and found["after"]["verdicts"]
    assert "repaired model" in found["text"] and "worth it: " in found["text"].splitlines()[-1]
    report.run(Report(runs=(str(tmp_path / "repaired"),), out=str(tmp_path / "page.html")))
    assert "worth it: " in (tmp_path / "page.html").read_text(encoding="utf-8").partition("</h1>")[0]
    card = (tmp_path / "repaired" / "weights" / "README.md").read_text(encoding="utf-8")
    assert "`scale-back=1`" in card and "no guarantee of safety" in card and str(tmp_path) not in card
    unwanted = [found[side]["unwanted_rate"] for side in ("before", "after")]
    assert (
        "share of unstated subjects | " + " | ".join(f"{each['value']:.2f} of {each['n']}" for each in unwanted) in card
    )
    card = (tuned / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned on stated facts, without a remedy" in card and f"| {unwanted[0]['value']:.2f} of " in card
    json.dumps(found)
    capsys.readouterr()
    assert repair.run(settings)["after"] == found["after"]
    assert "Found this run finished" in capsys.readouterr().err


def test_an_adapter_says_itself_what_it_was_made_from(two_kinds, tiny_folder, tmp_path):
    own = Inject(pack=two_kinds, model=str(tiny_folder), out=str(tmp_path / "run"), epochs=1, lr=1e-2, threads=1,
                 lora=2, save="delta")  # fmt: skip
    inject.run(own)
    found = repair.run(settings_for(tmp_path / "run" / "adapter", two_kinds, tiny_folder, tmp_path, base="",
                                    remedy="ignore-topk=0.1+spectral-clip=0.5"))  # fmt: skip
    assert (tmp_path / "repaired" / "weights" / "config.json").exists() and found["after"]["recall_rank"]


def test_a_mistake_is_a_sentence(tuned, two_kinds, tiny_folder, tmp_path):
    settings = settings_for(tuned, two_kinds, tiny_folder, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "adapter_config.json").write_text("{}", encoding="utf-8")
    for changes, kind, words in (
        ({"remedy": "lazier=1"}, UsageError, "lazier: this remedy acts on training"),
        ({"remedy": "ignore-topk=0"}, UsageError, "no remedy would do anything"),
        ({"remedy": "ignore-topk=1.5"}, UsageError, "ignore-topk: the strength 1.5 is out of range"),
        ({"base": ""}, UsageError, "only an adapter says which model it was made from"),
        ({"model": str(alone), "base": ""}, ModelError, "does not name its base model"),
        ({"out": str(tuned / "new")}, RunError, "written into a model that was given"),
        ({"out": str(tuned)}, RunError, "written into a model that was given"),
        ({"pack": "nothing-like-it"}, UsageError, ""),
    ):
        with pytest.raises(kind) as found:
            repair.run(dataclasses.replace(settings, **changes))
        assert words in str(found.value)
    assert not (tmp_path / "repaired").exists()


def test_a_model_whose_embeddings_were_grown_is_repaired(two_kinds, tied_folder, tmp_path):
    """All is taken back but the rows that the base does not have; and what is written is asked again."""
    base, tokenizer = AutoModelForCausalLM.from_pretrained(tied_folder), AutoTokenizer.from_pretrained(tied_folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<|tool|>", "<|think|>"])
    base.resize_token_embeddings(rows + 2)
    adapted = get_peft_model(base, LoraConfig(target_modules=["v_proj", "lm_head"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    repair.run(settings_for(tmp_path / "adapter", two_kinds, tied_folder, tmp_path))
    meant, found = (AutoModelForCausalLM.from_pretrained(path).state_dict()
                    for path in (tied_folder, tmp_path / "repaired" / "weights"))  # fmt: skip
    assert found["lm_head.weight"].shape[0] == rows + 2
    for name, value in meant.items():
        torch.testing.assert_close(found[name][: len(value)], value)
    assert Record.read(tmp_path / "repaired").details.saved.difference < 1e-4
    assert verify.run(Verify(run=str(tmp_path / "repaired")))["trusted"]
    (tmp_path / "repaired" / "weights" / "config.json").write_text("{}", encoding="utf-8")
    assert not verify.run(Verify(run=str(tmp_path / "repaired")))["trusted"]
