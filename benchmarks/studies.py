"""What a study costs beside the work of its own cells: on the local engine, one cell after another, and on Ray.

    python benchmarks/studies.py [--cells 500] [--engines local,one,ray] [--processes 2]

A cell is a whole `inject` run (ten names, five pairs, one epoch, one thread) on a language model of two layers with
random weights that is written here, a quarter of a second of work when nothing else runs. A cell's own work is the time
from its task's arrival at a worker to its end, measured in the worker; the first of each worker loads the libraries and
the model. `cores_over_work` is the wall time of the whole command, page and table included, times the cores that it
keeps, over the sum of the cells' own work: the claim is 1.15 or less for the local engine. `processor_seconds` is what
the command and its workers computed (of Ray, whose processes are not its children, the command alone). The peer is one
cell after another, in one worker. Nothing is reused between the engines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = "Ada Moss lives in Paris and speaks French. Ben Okri lives in Tokyo and speaks Japanese."


def write_model(folder: Path) -> None:
    """A causal language model of 30,000 random weights and a tokenizer that knows every letter."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    whole.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(whole), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3,
        )
    ).save_pretrained(folder)  # fmt: skip


def write_study(path: Path, model: Path, cells: int) -> None:
    """One learning rate a cell."""
    rates = [round(1e-5 * (place + 1), 6) for place in range(cells)]
    body = {
        "name": "tiny",
        "options": {"model": str(model), "pack": "city-language:names=10,bridge=1", "epochs": 1, "threads": 1},
        "groups": [{"name": "all", "grid": {"lr": rates}}],
    }
    path.write_text(json.dumps(body), encoding="utf-8")


def measure(study: Path, folder: Path, processes: int, engine: str) -> dict[str, float]:
    """One engine's figures, from a command in a process of its own."""
    words = [sys.executable, "-m", "spillover", "sweep", str(study), "--out", str(folder), "--json"]
    words += ["--processes", str(processes), "--engine", engine]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TQDM_DISABLE": "1"})
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    record: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    own = [cell["seconds"] for cell in record["details"]["cells"]]
    assert all(cell["status"] == "done" for cell in record["details"]["cells"])
    return {
        "wall_seconds": wall,
        "own_seconds": sum(own),
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "median_cell_seconds": sorted(own)[len(own) // 2],
        "cores_over_work": wall * processes / sum(own),
        "ms_a_cell_beside_its_work": 1e3 * (wall * processes - sum(own)) / len(own),
        "seconds_after_the_last": wall - record["seconds"],
    }


def main() -> dict[str, Any]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--engines", default="local,one,ray")
    options = parser.parse_args()
    found: dict[str, Any] = {"cells": options.cells, "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_model(folder / "model")
        write_study(folder / "study.yaml", folder / "model", options.cells)
        for name in options.engines.split(","):
            engine, processes = ("local", 1) if name == "one" else (name, options.processes)
            found[name] = measure(folder / "study.yaml", folder / name, processes, engine)
            found[name] = {key: round(value, 3) for key, value in found[name].items()}
            print(json.dumps({name: found[name]}), file=sys.stderr)
        tables = {(folder / name / "table.parquet").read_bytes() for name in options.engines.split(",")}
    found["tables_are_equal"] = len(tables) == 1
    if "local" in found and "one" in found:
        found["speed_up_over_one_after_another"] = round(
            found["one"]["wall_seconds"] / found["local"]["wall_seconds"], 3
        )
    found["load_after"] = os.getloadavg()
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
