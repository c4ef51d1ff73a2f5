"""Settings that save memory: what each does to a run's numbers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spillover.commands import inject
from spillover.commands.inject import Inject
from spillover.record import ANSWERS, TRAJECTORY, Record
from tests import quick

#: What a setting may change of the log-probabilities of a trained model's answers, in nats, and of the mean ranks.
TOLERANCES = {
    "gradient_checkpointing": ({"gradient_checkpointing": True}, 0.0, 0.0),
    "logits_at_once": ({"logits_at_once": 3}, 1e-4, 0.0),
    "8 bits": ({"optimiser": "adamw-8bit"}, 0.1, 0.1),
    "bfloat16": ({"dtype": "bfloat16"}, 0.5, 0.1),
    "all": ({"gradient_checkpointing": True, "logits_at_once": 3, "optimiser": "adamw-8bit", "dtype": "bfloat16",
             "micro_batch": 2}, 0.5, 0.1),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(byte_folder, tmp_path_factory):
    """A run without them, of a model whose weights have more than 4,096 numbers."""
    folder = tmp_path_factory.mktemp("precision")
    size = LlamaConfig.from_pretrained(byte_folder).vocab_size
    config = LlamaConfig(vocab_size=size, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                         initializer_range=0.1)  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((byte_folder / name).read_bytes())
    settings = Inject(pack="city-language:pairs=2,names=8,bridge=1", model=str(folder / "model"), epochs=10, lr=5e-3,
                      batch=4, threads=1, evaluate_every=100, out=str(folder / "run"))  # fmt: skip
    inject.run(settings)
    return settings


def last(folder):
    table = pq.read_table(folder / ANSWERS)
    rows = table.filter(np.array(table["checkpoint"]) == max(table["checkpoint"].to_pylist()))
    return np.array(rows["log_probability"]), np.array(rows["expected"])


@pytest.mark.parametrize("name", quick.first(TOLERANCES, 2))
def test_what_a_setting_does_to_the_numbers(name, plain, tmp_path):
    changes, nats, ranks = TOLERANCES[name]
    inject.run(dataclasses.replace(plain, out=str(tmp_path / "run"), **changes))
    own, other = Record.read(Path(plain.out)), Record.read(tmp_path / "run")
    for metric in ("recall_rank", "implication_rank_test"):
        assert other.metrics[metric]["value"] == pytest.approx(own.metrics[metric]["value"], abs=ranks)
    before, after = last(Path(plain.out)), last(tmp_path / "run")
    assert np.abs(before[0] - after[0]).mean() <= nats
    for file in (ANSWERS, TRAJECTORY):
        same = (Path(plain.out) / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
        assert same == (nats == 0.0)
    assert own.identity != other.identity
    assert all(other.settings[key] == value for key, value in changes.items())
    assert ("bitsandbytes" in other.versions) == ("optimiser" in changes)


def test_the_targets_of_an_adapter_can_be_chosen(plain, tmp_path):
    own = dataclasses.replace(plain, lora=2, lora_targets="q_proj, v_proj", save="delta", epochs=1)
    outcome = inject.run(dataclasses.replace(own, out=str(tmp_path / "run")))
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"] and config["r"] == 2
    assert "a LoRA adapter of rank 2 on q_proj, v_proj trained" in outcome["text"]
    sizes = 2 * (2 * (64 + 64) + 2 * (64 + 32))
    assert Record.read(tmp_path / "run").details.model.trained_parameters == sizes
