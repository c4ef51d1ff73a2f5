"""A full fine-tuning step of Gemma-2-shaped models on a GPU against `transformers.Trainer`: time, memory, use of it.

    python benchmarks/fine_tuning_gpu.py                          # 9 billion parameters, then about one; bfloat16
    python benchmarks/fine_tuning_gpu.py --size 1b --answers 2 --repeats 5
    python benchmarks/fine_tuning_gpu.py --size 9b --optimiser adamw-8bit --no-gradient-checkpointing
    python benchmarks/fine_tuning_gpu.py --device cpu --size tiny # the whole of it where there is no GPU

Weights are random, from the shapes below; all of them are trained, embeddings included. Each side gets the same rows (8
of 512 tokens unless told otherwise), optimiser and arithmetic, in turns; the last `--answers` tokens of each row are
trained on, which both sides are told (the Trainer by labels). At 9 billion, layers are computed again on the way back
on both sides, and ours computes 512 logits at once, unless told otherwise. The Trainer neither logs, saves nor
evaluates, and trains the model in place. Ours does so too, and as `spillover inject` does it, beside the model that it
leaves as it is. Of several cards, the first is used, or the one that CUDA_VISIBLE_DEVICES names.

The share of the device's peak counts what the step needs: six operations for every weight of a layer and token, those
of attention below the diagonal, and logits where there is an answer; what a side computes beyond that counts for
nothing. The claim: the Trainer takes 1.3 times as long or longer, and 9 billion fit on one card of 141 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Trainer, TrainingArguments

from spillover.llm.memory.exhaustion import out_of_memory
from spillover.llm.memory.forecast import Forecaster, Work
from spillover.llm.tokens import Row
from spillover.llm.training import Training, fine_tune
from spillover.llm.weights.trainable import compute_layers_again, trainable_copy


def shape(width: int, inner: int, layers: int, heads: int, keys: int, head: int, vocabulary: int) -> Gemma2Config:
    """A configuration of Gemma 2's kind."""
    return Gemma2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, head_dim=head, query_pre_attn_scalar=head,
    )  # fmt: skip


SIZES = {
    "9b": shape(3584, 14336, 42, 16, 8, 256, 256_000),
    "1b": shape(1536, 6144, 16, 8, 4, 256, 256_000),
    "tiny": shape(32, 64, 2, 4, 2, 8, 512),
}
#: bfloat16 operations a second without sparsity, as makers state them, by a part of the device's name.
PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
CARD = 141e9
#: What a size takes to fit, unless the command says otherwise.
FITTING = {"9b": {"gradient_checkpointing": True, "logits_at_once": 512}}
OPTIMISERS = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit"}


def settings_of(options: argparse.Namespace) -> Training:
    """An epoch a step, since the rows fit in one batch; the first is not timed."""
    return Training(
        options.steps + 1, 1e-5, options.rows, 0.0, False, 0, 0, optimiser=options.optimiser,
        gradient_checkpointing=options.gradient_checkpointing, logits_at_once=options.logits_at_once,
    )  # fmt: skip


def built(config: Gemma2Config, device: torch.device) -> torch.nn.Module:
    """The model with random weights, the same every time."""
    torch.manual_seed(0)
    with torch.device(device):
        # The fused kernels leave out the soft cap on attention scores.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    return model.eval()


def rows(options: argparse.Namespace, answers: int, vocabulary: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, vocabulary, (options.rows, options.tokens), generator=generator).tolist()
    return [Row(tuple(row), options.tokens - answers) for row in drawn]


def ours(model: torch.nn.Module, batch: list[Row], options: argparse.Namespace) -> list[float]:
    """When each step ended, trained beside the model, as `inject` does it."""
    return stepped(trainable_copy(model, settings_of(options)), batch, options)


def in_place(model: torch.nn.Module, batch: list[Row], options: argparse.Namespace) -> list[float]:
    if options.gradient_checkpointing:
        compute_layers_again(model)
    return stepped(model, batch, options)


def stepped(model: torch.nn.Module, batch: list[Row], options: argparse.Namespace) -> list[float]:
    ends: list[float] = []
    fine_tune(model, batch, settings_of(options), lambda step: ends.append(now(model.device)))
    return ends


def trainer(model: torch.nn.Module, batch: list[Row], options: argparse.Namespace) -> list[float]:
    ids = torch.tensor([row.tokens for row in batch])
    labels = ids.clone()
    labels[:, : batch[0].start] = -100
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    begins: list[float] = []

    class Timed(Trainer):
        def training_step(self, *args: object, **kwargs: object) -> torch.Tensor:
            begins.append(now(self.model.device))
            return super().training_step(*args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=len(batch), max_steps=options.steps + 2, learning_rate=1e-5,
            weight_decay=0.0, optim=OPTIMISERS[options.optimiser], lr_scheduler_type="constant", max_grad_norm=0.0,
            use_cpu=model.device.type == "cpu", save_strategy="no", logging_strategy="no", report_to="none",
            disable_tqdm=True, gradient_checkpointing=options.gradient_checkpointing,
        )  # fmt: skip
        with contextlib.redirect_stdout(None):
            Timed(model, arguments, train_dataset=data).train()
    return begins[1:]


SIDES: dict[str, Callable[..., list[float]]] = {"ours": ours, "ours, in place": in_place, "Trainer": trainer}


def now(device: torch.device) -> float:
    """The time, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclasses.dataclass
class Found:
    """Seconds a step of each repeat, and the most bytes that tensors took; no seconds if it did not fit."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    peak: int = 0


def measured(side: str, config: Gemma2Config, batch: list[Row], options: argparse.Namespace, into: Found) -> None:
    """One repeat of a side, on a model of its own."""
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        ends = SIDES[side](built(config, device), batch, options)
        into.seconds.append((ends[-1] - ends[0]) / (len(ends) - 1))
    except Exception as error:
        if not out_of_memory(error):
            raise
    if device.type == "cuda":
        into.peak = max(into.peak, torch.cuda.max_memory_allocated(device))
    gc.collect()


def needed_operations(config: Gemma2Config, options: argparse.Namespace, answers: int) -> float:
    """Operations that a step needs, forward and backward."""
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    tokens = options.rows * options.tokens
    # Scores and their sums of values: two products, forward and twice backward, over half of all pairs.
    attention = 6 * heads * options.tokens
    logits = 6 * config.vocab_size * config.hidden_size * options.rows * answers
    return config.num_hidden_layers * tokens * (6 * layer + attention) + logits


def peak_of(options: argparse.Namespace) -> float | None:
    if options.peak or options.device == "cpu":
        return options.peak * 1e12 or None
    name = torch.cuda.get_device_name(options.device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def foretold(config: Gemma2Config, batch: list[Row], options: argparse.Namespace) -> str:
    """What `inject` would say that training takes, by what takes it."""
    found = Forecaster(config, settings_of(options), Work(batch, []), dtype="bfloat16", device="cuda").at(options.rows)
    parts = {"weights": found.weights, "copy": found.trained, "sums": found.sums, "step": found.step}
    told = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
    total = sum(parts.values())
    fits = "fits" if total * 1.2 <= CARD else "does not surely fit"
    return f"  foretold: {total / 1e9:.1f} GB ({told}), which {fits} on a card of {CARD / 1e9:.0f} GB"


def compare(size: str, answers: int, options: argparse.Namespace) -> None:
    """Measure and print all sides on one model."""
    config, fitting = SIZES[size], FITTING.get(size, {"gradient_checkpointing": False, "logits_at_once": 0})
    told = {name: value for name, value in vars(options).items() if value is not None}
    options = argparse.Namespace(**(fitting | told))
    batch = rows(options, answers, config.vocab_size)
    with torch.device("meta"):
        count = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    device = "a processor" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(f"{size}: {count / 1e9:.2f} billion weights, {options.rows} rows of {options.tokens} tokens, {answers} of "
          f"each trained on, bfloat16, {options.optimiser}, on {device}")  # fmt: skip
    print(foretold(config, batch, options), flush=True)
    found = {side: Found() for side in SIDES}
    for _ in range(options.repeats):
        for side in SIDES:
            measured(side, config, batch, options, found[side])
    peak, operations = peak_of(options), needed_operations(config, options, answers)
    for side, one in found.items():
        if not one.seconds:
            print(f"  {side:<15} does not fit")
            continue
        step = statistics.median(one.seconds)
        share = f", {operations / step / peak:.1%} of {peak / 1e12:.0f} teraflops" if peak else ""
        memory = f", {one.peak / 1e9:.1f} GB" if one.peak else ""
        print(f"  {side:<15} {options.rows * options.tokens / step:,.0f} tokens a second "
              f"({step:.3f} s a step, {min(one.seconds):.3f} to {max(one.seconds):.3f}){memory}{share}")  # fmt: skip
    pairs = list(zip(found["Trainer"].seconds, found["ours"].seconds, strict=False))
    if pairs:
        ratios = [other / own for other, own in pairs]
        print(f"  Trainer takes {statistics.median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})")


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; 2 where there is no CUDA device to do it on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="9b,1b", help=", ".join(SIZES))
    parser.add_argument("--answers", default="2,511", help="tokens of a row that are trained on")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="adamw")
    parser.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction)
    parser.add_argument("--logits-at-once", type=int, help="answer tokens whose logits stand at once; 0: all")
    parser.add_argument("--peak", type=float, default=0.0, help="teraflops of a card that the script does not know")
    for name, default in (("rows", 8), ("tokens", 512), ("repeats", 3), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(words)
    # The Trainer would take every card that it sees.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("This machine has no CUDA device: give --device cpu --size tiny to try the script.", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for size in options.size.split(","):
        for answers in options.answers.split(","):
            compare(size, min(int(answers), options.tokens - 1), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
