"""A full fine-tuning step of Gemma-2-shaped models on a GPU against `transformers.Trainer`: time, memory, use of it.

    python benchmarks/fine_tuning_gpu.py                          # 9 billion parameters, then about one; bfloat16
    python benchmarks/fine_tuning_gpu.py --size 1b --answers 2 --repeats 5
    python benchmarks/fine_tuning_gpu.py --size 9b --optimiser adamw-8bit --gradient-checkpointing --no-compile
    python benchmarks/fine_tuning_gpu.py --device cpu --size tiny # the same where there is no GPU

Weights are random, from the shapes of gemma_2.py; all of them are trained, embeddings included. Each side gets the same
rows (8 of 512 tokens by default), optimiser and arithmetic, in turns; the last `--answers` tokens of each
row are trained on, in the Trainer by labels. Each side is tried plain and with compiled layers
(ours by `--compile-layers`; the Trainer by `torch_compile` with accelerate's regional compilation), and at 9 billion
both with layers computed again on the way back and without, since what fits is faster without: the fastest of each side
is its figure, and the fastest without compilation stands beside it. At 9 billion ours computes 512 logits at once,
by default. The Trainer neither logs, saves nor evaluates, and trains the model in place. Ours trains beside
the model that it leaves as it is, as `spillover inject` does it, and in place too. Of several cards, the first is used,
or the one that CUDA_VISIBLE_DEVICES names. Two steps go before those that are timed.

The share of the device's peak counts what the step needs: six operations for every weight of a layer and token, those
of attention below the diagonal, and logits where there is an answer; what a side computes beyond that counts for
nothing. The claim: the Trainer takes 1.3 times as long or longer, and 9 billion fit on one card of 141 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Trainer, TrainingArguments

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.gemma_2 import SIZES, built, needed_operations, now

from spillover.lm.forecast import Forecaster, Work
from spillover.lm.memory import out_of_memory
from spillover.lm.tokens import Example
from spillover.lm.train import fine_tune
from spillover.lm.trainable import Training, recompute_layers, trainable_copy

#: bfloat16 operations a second without sparsity, as makers state them, by a part of the device's name.
PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
CARD = 141e9
#: How many logits ours computes at once, and whether layers are also computed again, unless the command says otherwise.
FITTING = {"9b": (512, (True, False))}
OPTIMISERS = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit"}


#: Steps before those that are timed.
WARM = 2


@dataclasses.dataclass(frozen=True)
class Way:
    """A side, and how it is set up."""

    side: str
    compiled: bool
    again: bool

    def __str__(self) -> str:
        return self.side + ", compiled" * self.compiled + ", layers again" * self.again


def settings_of(options: argparse.Namespace, way: Way) -> Training:
    """An epoch a step, since the rows fit in one batch."""
    return Training(
        options.steps + WARM, 1e-5, options.rows, 0.0, False, 0, 0, optimizer=options.optimiser,
        gradient_checkpointing=way.again, logits_at_once=options.logits_at_once, compile_layers=way.compiled,
    )  # fmt: skip


def rows(options: argparse.Namespace, answers: int, vocabulary: int) -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, vocabulary, (options.rows, options.tokens), generator=generator).tolist()
    return [Example(tuple(row), options.tokens - answers) for row in drawn]


def ours(model: torch.nn.Module, batch: list[Example], options: argparse.Namespace, way: Way) -> list[float]:
    """When each step ended, trained beside the model, as `inject` does it."""
    return stepped(trainable_copy(model, settings_of(options, way)), batch, options, way)


def in_place(model: torch.nn.Module, batch: list[Example], options: argparse.Namespace, way: Way) -> list[float]:
    if way.again:
        recompute_layers(model)
    return stepped(model, batch, options, way)


def stepped(model: torch.nn.Module, batch: list[Example], options: argparse.Namespace, way: Way) -> list[float]:
    ends: list[float] = []
    fine_tune(model, batch, settings_of(options, way), lambda step: ends.append(now(model.device)))
    return ends[WARM - 1 :]


def trainer(model: torch.nn.Module, batch: list[Example], options: argparse.Namespace, way: Way) -> list[float]:
    ids = torch.tensor([row.tokens for row in batch])
    labels = ids.clone()
    labels[:, : batch[0].start] = -100
    data = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    begins: list[float] = []

    class Timed(Trainer):
        def training_step(self, *args: object, **kwargs: object) -> torch.Tensor:
            begins.append(now(self.model.device))
            return super().training_step(*args, **kwargs)

    with tempfile.TemporaryDirectory() as folder, regional():
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=len(batch), max_steps=options.steps + WARM + 1, learning_rate=1e-5,
            weight_decay=0.0, optim=OPTIMISERS[options.optimiser], lr_scheduler_type="constant", max_grad_norm=0.0,
            use_cpu=model.device.type == "cpu", save_strategy="no", logging_strategy="no", report_to="none",
            disable_tqdm=True, gradient_checkpointing=way.again, torch_compile=way.compiled,
        )  # fmt: skip
        with contextlib.redirect_stdout(None):
            Timed(model, arguments, train_dataset=data).train()
    return begins[WARM:]


@contextlib.contextmanager
def regional() -> Iterator[None]:
    """Inside, what the Trainer compiles it compiles a layer at a time; after it, the environment is what it was."""
    before = dict(os.environ)
    os.environ["ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION"] = "true"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


SIDES: dict[str, Callable[..., list[float]]] = {"ours": ours, "ours, in place": in_place, "Trainer": trainer}


@dataclasses.dataclass
class Found:
    """Seconds a step of each repeat, seconds before the first that is timed, and the most bytes that tensors took; no
    seconds if it did not fit."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    start: float = 0.0
    peak: int = 0

    @property
    def step(self) -> float:
        return statistics.median(self.seconds) if self.seconds else math.inf


def measured(way: Way, config: Gemma2Config, batch: list[Example], options: argparse.Namespace, into: Found) -> None:
    """One repeat of a side, on a model of its own."""
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    try:
        ends = SIDES[way.side](built(config, device), batch, options, way)
        into.seconds.append((ends[-1] - ends[0]) / (len(ends) - 1))
        into.start = ends[0] - begin
    except Exception as error:
        if not out_of_memory(error):
            raise
    if device.type == "cuda":
        into.peak = max(into.peak, torch.cuda.max_memory_allocated(device))
    torch.compiler.reset()
    gc.collect()


def peak_of(options: argparse.Namespace) -> float | None:
    if options.peak or options.device == "cpu":
        return options.peak * 1e12 or None
    name = torch.cuda.get_device_name(options.device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def foretold(config: Gemma2Config, batch: list[Example], options: argparse.Namespace, again: bool) -> str:
    """What `inject` would say that training takes, by what takes it."""
    training = settings_of(options, Way("ours", False, again))
    found = Forecaster(config, training, Work(batch, []), dtype="bfloat16", device="cuda").at(options.rows)
    parts = {
        "weights": found.weights,
        "copy": found.trained,
        "optimizer state": found.optimizer_state,
        "step": found.step,
    }
    shown = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
    total = sum(parts.values())
    fits = "fits" if total * 1.2 <= CARD else "does not surely fit"
    how = ", layers again" * again
    return f"  estimated{how}: {total / 1e9:.1f} GB ({shown}), which {fits} on a card of {CARD / 1e9:.0f} GB"


def compare(size: str, answers: int, options: argparse.Namespace) -> None:
    """Measure and print all sides on one model."""
    config, (logits, agains) = SIZES[size], FITTING.get(size, (0, (False,)))
    agains = agains if options.gradient_checkpointing is None else (options.gradient_checkpointing,)
    compiles = (False, True) if options.compile is None else (options.compile,)
    at_once = logits if options.logits_at_once is None else options.logits_at_once
    options = argparse.Namespace(**{**vars(options), "logits_at_once": at_once})
    batch = rows(options, answers, config.vocab_size)
    with torch.device("meta"):
        count = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    device = "a processor" if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(f"{size}: {count / 1e9:.2f} billion weights, {options.rows} rows of {options.tokens} tokens, {answers} of "
          f"each trained on, bfloat16, {options.optimiser}, on {device}")  # fmt: skip
    for again in agains:
        print(foretold(config, batch, options, again), flush=True)
    ways = [Way(*each) for each in itertools.product(options.sides.split(";"), compiles, agains)]
    found = {way: Found() for way in ways}
    for _ in range(options.repeats):
        for way in ways:
            measured(way, config, batch, options, found[way])
            print(f"    {way}: {found[way].seconds[-1:]}", file=sys.stderr, flush=True)
    peak, operations = peak_of(options), needed_operations(config, options.rows, options.tokens, answers)
    for way, one in found.items():
        print(line(str(way), one, options, operations / peak if peak else 0.0))
    for text, kind in (("", compiles), (" without compilation", (False,))):
        best = [min((one for way, one in found.items() if way.side == side and way.compiled in kind),
                    key=lambda one: one.step, default=Found()) for side in ("Trainer", "ours")]  # fmt: skip
        if all(one.seconds for one in best):
            ratios = [other / own for other, own in zip(*(one.seconds for one in best), strict=False)]
            print(f"  Trainer at its fastest takes {statistics.median(ratios):.2f} times as long as ours at its"
                  f"{text} ({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def line(name: str, one: Found, options: argparse.Namespace, floor: float) -> str:
    """What is printed for one way. floor: seconds of a step at the device's peak, or 0."""
    if not one.seconds:
        return f"  {name:<40} does not fit"
    share = f", {floor / one.step:.1%} of peak" if floor else ""
    memory = f", {one.peak / 1e9:.1f} GB" if one.peak else ""
    speed, spread = options.rows * options.tokens / one.step, f"{min(one.seconds):.3f} to {max(one.seconds):.3f}"
    return (f"  {name:<40} {speed:,.0f} tokens a second ({one.step:.3f} s a step, {spread}; "
            f"{one.start:.0f} s to begin){memory}{share}")  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; 2 where there is no CUDA device to do it on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="9b,1b", help=", ".join(SIZES))
    parser.add_argument("--answers", default="2,511", help="tokens of a row that are trained on")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="adamw")
    parser.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="by default both, on a GPU")
    parser.add_argument("--sides", default=";".join(SIDES), help="some of them, between semicolons")
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
    if options.device == "cpu" and options.compile is None:
        options.compile = False
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for size in options.size.split(","):
        for answers in options.answers.split(","):
            compare(size, min(int(answers), options.tokens - 1), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
