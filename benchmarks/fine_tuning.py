"""A fine-tuning step against `transformers.Trainer` on the same model, rows and optimiser; one run, ratios.

    python benchmarks/fine_tuning.py [--model gemma-3-270m] [--rows 8] [--tokens 12] [--answer 2] [--repeats 9]

Both train the same copy of weights in float32 with embeddings frozen and fused AdamW, on as many threads as there are
cores, in turns, so that a noisy machine is noisy for both. The Trainer neither logs, saves nor evaluates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import Trainer, TrainingArguments

from spillover.llm.loading import load_model
from spillover.llm.tokens import Row
from spillover.llm.training import Training, fine_tune, trainable_copy


def rows(count: int, tokens: int, answer: int, vocabulary: int) -> list[Row]:
    """Random rows of equal length; the last `answer` tokens are trained on."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(100, min(vocabulary, 50_000), (count, tokens), generator=generator).tolist()
    return [Row(tuple(row), tokens - answer) for row in drawn]


def ours(model: torch.nn.Module, batch: list[Row], steps: int) -> Callable[[], float]:
    """Seconds a step of our own loop."""

    def run() -> float:
        settings = Training(steps, 5e-5, len(batch), 0.0, True, 0, 0)
        copy, ends = trainable_copy(model, settings), []
        fine_tune(copy, batch, settings, lambda step: ends.append(time.perf_counter()))
        return (ends[-1] - ends[0]) / (steps - 1)

    return run


def theirs(model: torch.nn.Module, batch: list[Row], steps: int) -> Callable[[], float]:
    """Seconds a step of the Trainer's loop."""
    ids = torch.tensor([row.tokens for row in batch])
    labels = ids.clone()
    labels[:, : batch[0].start] = -100
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]

    def run() -> float:
        copy, ends = trainable_copy(model, Training(1, 5e-5, 8, 0.0, True, 0, 0)), []

        class Timed(Trainer):
            def training_step(self, *args: object, **kwargs: object) -> torch.Tensor:
                ends.append(time.perf_counter())
                return super().training_step(*args, **kwargs)

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, per_device_train_batch_size=len(batch), max_steps=steps, learning_rate=5e-5, weight_decay=0.0,
                optim="adamw_torch_fused", lr_scheduler_type="constant", max_grad_norm=0.0, use_cpu=True,
                save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            )  # fmt: skip
            Timed(copy, arguments, train_dataset=data).train()
        return (ends[-1] - ends[0]) / (steps - 1)

    return run


def main() -> None:
    """Print the median step of both, and the median ratio with its least and greatest over repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    for name, default in (("rows", 8), ("tokens", 12), ("answer", 2), ("repeats", 9), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = load_model(options.model, device="cpu").model
    batch = rows(options.rows, options.tokens, options.answer, model.config.get_text_config().vocab_size)
    runs = {"ours": ours(model, batch, options.steps), "Trainer": theirs(model, batch, options.steps)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    ratios = [other / own for own, other in zip(seconds["ours"], seconds["Trainer"], strict=True)]
    print(
        f"{options.rows} rows of {options.tokens} tokens, {options.answer} answer tokens each, {options.model}, float32"
    )
    for name, values in seconds.items():
        print(f"  {name:<8} {statistics.median(values):.3f} s a step ({min(values):.3f} to {max(values):.3f})")
    print(f"  Trainer takes {statistics.median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
