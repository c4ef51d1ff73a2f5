"""A fine-tuning step against `transformers.Trainer` on the same model, rows and optimiser; one run, ratios.

    python benchmarks/fine_tuning.py [--model gemma-3-270m] [--rows 8] [--tokens 12] [--answer 2] [--repeats 9]
    python benchmarks/fine_tuning.py --dtype bfloat16              # weights and arithmetic of both
    python benchmarks/fine_tuning.py --memory --repeats 3          # peak memory instead of time (on Linux)

Both train the same copy of weights, in float32 by default, with embeddings frozen and fused AdamW, on as many threads
as there are cores, in turns, so that a noisy machine is noisy for both. The Trainer neither logs, saves nor evaluates,
and keeps all activations, which is fastest.

Peak memory is a process's own, a fresh one each: as a whole, and above what it held with the model loaded. The Trainer
trains the loaded model in place, with checkpointing too, and is taken at its least; it keeps no logits, since it does
not evaluate. Ours is measured in place as well, and as `spillover inject` does it, beside the model it leaves as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from spillover.lm.load import load_model
from spillover.lm.tokens import Example
from spillover.lm.train import fine_tune
from spillover.lm.trainable import Training, trainable_copy


def rows(count: int, tokens: int, answer: int, vocabulary: int) -> list[Example]:
    """Random rows of equal length; the last `answer` tokens are trained on."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(100, min(vocabulary, 50_000), (count, tokens), generator=generator).tolist()
    return [Example(tuple(row), tokens - answer) for row in drawn]


def ours(model: torch.nn.Module, batch: list[Example], steps: int) -> Callable[[], float]:
    """Seconds a step of our own loop."""

    def run() -> float:
        settings, ends = our_settings(batch, steps), []
        fine_tune(trainable_copy(model, settings), batch, settings, lambda step: ends.append(time.perf_counter()))
        return (ends[-1] - ends[0]) / (steps - 1)

    return run


def our_settings(batch: list[Example], steps: int) -> Training:
    """An epoch a step, since the rows fit in one batch."""
    return Training(steps, 5e-5, len(batch), 0.0, True, 0, 0)


def theirs(model: torch.nn.Module, batch: list[Example], steps: int) -> Callable[[], float]:
    """Seconds a step of the Trainer's loop."""

    def run() -> float:
        copy, ends = trainable_copy(model, our_settings(batch, steps)), []

        class Timed(Trainer):
            def training_step(self, *args: object, **kwargs: object) -> torch.Tensor:
                ends.append(time.perf_counter())
                return super().training_step(*args, **kwargs)

        train(Timed, copy, batch, steps)
        return (ends[-1] - ends[0]) / (steps - 1)

    return run


def train(kind: type[Trainer], model: torch.nn.Module, batch: list[Example], steps: int, **options: object) -> None:
    """Train `model` in place with this kind of Trainer."""
    ids = torch.tensor([row.tokens for row in batch])
    labels = ids.clone()
    labels[:, : batch[0].start] = -100
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=len(batch), max_steps=steps, learning_rate=5e-5, weight_decay=0.0,
            optim="adamw_torch_fused", lr_scheduler_type="constant", max_grad_norm=0.0, use_cpu=True,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, **options,
        )  # fmt: skip
        kind(model, arguments, train_dataset=data).train()


def beside_the_original(model: torch.nn.Module, batch: list[Example], steps: int) -> None:
    settings = our_settings(batch, steps)
    fine_tune(trainable_copy(model, settings), batch, settings, lambda step: None)


def in_place(model: torch.nn.Module, batch: list[Example], steps: int) -> None:
    freeze_embeddings(model)
    fine_tune(model, batch, our_settings(batch, steps), lambda step: None)


def trainer(model: torch.nn.Module, batch: list[Example], steps: int) -> None:
    freeze_embeddings(model)
    train(Trainer, model, batch, steps)


def trainer_with_checkpointing(model: torch.nn.Module, batch: list[Example], steps: int) -> None:
    freeze_embeddings(model)
    train(Trainer, model, batch, steps, gradient_checkpointing=True)


#: Whose memory is measured; each takes a loaded model, which may be changed.
SIDES = {
    "ours": beside_the_original,
    "ours, in place": in_place,
    "Trainer": trainer,
    "Trainer, checkpointing": trainer_with_checkpointing,
}
OURS, THEIRS = list(SIDES)[:2], list(SIDES)[2:]


def freeze_embeddings(model: torch.nn.Module) -> None:
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.requires_grad_(False)


def peak() -> float:
    """The most memory this process has held since it began, or since its peak was forgotten, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure_side(side: str, options: argparse.Namespace) -> None:
    """Print the memory with the model loaded, and at the peak of training."""
    # Checkpointing goes by its older name, which every supported version of transformers knows.
    warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
    model, batch = prepared(options)
    # Loading may take more than training does: a 5 written here makes what is held now the peak.
    Path("/proc/self/clear_refs").write_text("5")
    loaded = peak()
    SIDES[side](model, batch, options.steps)
    print(json.dumps([loaded, peak()]))


def measure_memory(options: argparse.Namespace) -> None:
    """Print each side's peak, and the ratio of ours to the Trainer's least with its least and greatest over repeats."""
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for _ in range(options.repeats):
        for side in SIDES:
            words = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    whole = {side: [most for _, most in runs] for side, runs in found.items()}
    above = {side: [most - loaded for loaded, most in runs] for side, runs in found.items()}
    print(heading(options))
    for side in SIDES:
        print(
            f"  {side:<23} peak {ranged(whole[side], '.0f')} MB, above the loaded model {ranged(above[side], '.0f')} MB"
        )
    for side in OURS:
        parts = []
        for values in (whole, above):
            least = [min(pair) for pair in zip(*(values[other] for other in THEIRS), strict=True)]
            parts.append(ranged([own / other for own, other in zip(values[side], least, strict=True)], ".2f"))
        print(f"  {side} / Trainer at its least: {parts[0]}; above the loaded model {parts[1]}")


def ranged(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def heading(options: argparse.Namespace) -> str:
    return (
        f"{options.rows} rows of {options.tokens} tokens, {options.answer} answer tokens each, "
        f"{options.model}, {options.dtype}"
    )


def prepared(options: argparse.Namespace) -> tuple[torch.nn.Module, list[Example]]:
    """The model, and a batch for it."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = load_model(options.model, device="cpu", dtype=options.dtype).model
    return model, rows(options.rows, options.tokens, options.answer, model.config.get_text_config().vocab_size)


def measure_time(options: argparse.Namespace) -> None:
    """Print the median step of both, and the median ratio with its least and greatest over repeats."""
    model, batch = prepared(options)
    runs = {"ours": ours(model, batch, options.steps), "Trainer": theirs(model, batch, options.steps)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    ratios = [other / own for own, other in zip(seconds["ours"], seconds["Trainer"], strict=True)]
    print(heading(options))
    for name, values in seconds.items():
        print(f"  {name:<8} {statistics.median(values):.3f} s a step ({min(values):.3f} to {max(values):.3f})")
    print(f"  Trainer takes {statistics.median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Measure time or memory, or, in a process of its own, the memory of one side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    for name, default in (("rows", 8), ("tokens", 12), ("answer", 2), ("repeats", 9), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.side:
        measure_side(options.side, options)
    elif options.memory:
        measure_memory(options)
    else:
        measure_time(options)


if __name__ == "__main__":
    main()
