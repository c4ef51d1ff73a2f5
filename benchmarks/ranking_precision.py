"""Ranking in bfloat16 against float32 on the same weights: questions a second, memory, and whether ranks are the same.

    python benchmarks/ranking_precision.py                        # Gemma-3-270M where there is no GPU
    python benchmarks/ranking_precision.py --size 1b --device cuda --questions 2000

Each question is a prompt of `--tokens` tokens, the first half of which nine others share, with ten candidates of
one to three tokens: drawn at random, the same for both, so that a size without a tokenizer can be measured. Sides take
turns after one pass that is not timed; the shapes of `--size` are those of gemma_2.py, with random weights. On
a processor without bfloat16 arithmetic, bfloat16 is slower: there it saves memory alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.gemma_2 import SIZES, now

from spillover.lm.load import load_model, pick_device
from spillover.lm.score import Scorer
from spillover.lm.tokens import Request

DTYPES = ("float32", "bfloat16")


def loaded(options: argparse.Namespace, dtype: str) -> torch.nn.Module:
    if not options.size:
        return load_model(options.model, device=options.device, dtype=dtype).model
    torch.manual_seed(0)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(SIZES[options.size], attn_implementation="eager")
    return model.to(getattr(torch, dtype)).eval()


def asks(options: argparse.Namespace, vocabulary: int) -> list[Request]:
    draw, found = Random(0), []

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, vocabulary) for _ in range(count))

    for number in range(options.questions):
        if number % 10 == 0:
            beginning = tokens(options.tokens // 2)
            candidates = [tokens(1 + place % 3) for place in range(10)]
        found.append(Request(beginning + tokens(options.tokens - len(beginning)), tuple(candidates)))
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--size", default="", choices=("", *SIZES), help="a shape with random weights, for --model")
    parser.add_argument("--device", default="auto")
    for name, default in (("questions", 200), ("tokens", 16), ("repeats", 3), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    options.device = str(device)
    models = {dtype: loaded(options, dtype) for dtype in DTYPES}
    questions = asks(options, next(iter(models.values())).config.get_text_config().vocab_size)
    seconds: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    scores = {}
    for repeat in range(options.repeats + 1):
        for dtype, model in models.items():
            begin = now(device)
            scores[dtype] = np.stack(Scorer(model).score(questions))
            if repeat:
                seconds[dtype].append(now(device) - begin)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{options.size or options.model}, {len(questions)} questions of {options.tokens} tokens with ten candidates "
          f"each, on {where}")  # fmt: skip
    for dtype, took in seconds.items():
        size = sum(weight.numel() * weight.element_size() for weight in models[dtype].parameters()) / 1e9
        print(f"  {dtype:<9} {len(questions) / statistics.median(took):,.0f} questions a second "
              f"({min(took):.2f} to {max(took):.2f} s), weights of {size:.2f} GB")  # fmt: skip
    ratios = [first / second for first, second in zip(*seconds.values(), strict=True)]
    best = [found.argmax(axis=1) for found in scores.values()]
    ranks = [found.argsort(axis=1).argsort(axis=1) for found in scores.values()]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"  float32 takes {statistics.median(ratios):.2f} times as long ({spread}); the "
          f"best candidate is the same in {np.mean(best[0] == best[1]):.1%} of the questions, a rank differs by "
          f"{np.abs(ranks[0] - ranks[1]).mean():.2f} on average")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
