"""Training at the paper's size, against a plain PyTorch loop that does what the authors' code does; one run, ratios.

    python benchmarks/training.py [--steps 60] [--threads 2]

The plain loop draws 252 sequences of 16 tokens in Python and attends at all 16 positions; the honest peer beside it
computes attention at the last position only. Ours is the same model, optimiser, batch and noise as bags of counts.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable

import torch

from spillover.theory.models import Model
from spillover.theory.symbolic import Task
from spillover.theory.training import Recipe, train

RANKS = (3, 4, 8, 16, 32, 64, 128)
BATCH = 252


def draw(task: Task, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of token sequences (size, 16) and their answers, drawn one by one in Python."""
    stated = task.stated
    groups = [[i for i, g in enumerate(stated.group) if g == kind] for kind in range(3)]
    length = task.noise_places + 3
    noise = range(task.noise.start, task.noise.stop)
    tokens, answers = [], []
    for index in range(size):
        row = random.choice(groups[index % 3])
        sequence = [*random.choices(noise, k=length - 1), task.end]
        first, second = sorted(random.sample(range(length - 1), 2))
        sequence[first], sequence[second] = int(stated.subject[row]), int(stated.relation[row])
        tokens.append(sequence)
        answers.append(int(stated.answer[row]))
    return torch.tensor(tokens), torch.tensor(answers)


class PlainModel(torch.nn.Module):
    """The factorised one-layer model on one-hot sequences; `last` attends from the last position only."""

    def __init__(self, size: int, rank: int, last: bool) -> None:
        super().__init__()
        self.size, self.last = size, last
        self.key_query = torch.nn.Parameter(torch.randn(size, size) / size**0.5)
        self.output = torch.nn.Parameter(torch.randn(size, rank) / size**0.5)
        self.value = torch.nn.Parameter(torch.randn(size, rank) / size**0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits at the last position, (batch, token)."""
        sequence = torch.nn.functional.one_hot(tokens, self.size).float()
        asking = sequence[:, -1:] if self.last else sequence
        scores = asking @ self.key_query.T @ sequence.mT
        values = scores @ sequence @ self.value if self.last else scores @ (sequence @ self.value)
        return (values @ self.output.T)[:, -1]


def plain_step_seconds(task: Task, rank: int, last: bool, steps: int) -> float:
    """Seconds a step of the plain loop takes."""
    model = PlainModel(task.vocabulary, rank, last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.03)

    def step() -> None:
        tokens, answers = draw(task, BATCH)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens), answers).backward()
        optimiser.step()

    return seconds_each(step, steps)


def our_step_seconds(task: Task, groups: list[list[Model]], steps: int) -> float:
    """Seconds in which every model of every group takes one step."""
    total = 0.0
    for models in groups:
        train(task, models, Recipe(weight_decay=0.03, steps=20))
        began = time.perf_counter()
        train(task, models, Recipe(weight_decay=0.03, steps=steps))
        total += (time.perf_counter() - began) / steps
    return total


def seconds_each(work: Callable[[], object], times: int) -> float:
    """Mean seconds of one call, after a warm-up."""
    for _ in range(3):
        work()
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def fastest(measure: Callable[[], float], threads: int) -> tuple[float, int]:
    """The least seconds with one thread or with all allowed, and how many those were; all allowed are set again."""
    found = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        found.append((min(measure(), measure()), count))
    torch.set_num_threads(threads)
    return min(found)


def peak_flops() -> float:
    """The best rate of a large single-precision matrix product, in operations a second."""
    best = 0.0
    for size in (512, 1024, 2048):
        one, other = torch.randn(size, size), torch.randn(size, size)
        best = max(best, 2 * size**3 / seconds_each(lambda a=one, b=other: a @ b, 5))
    return best


def work_done(task: Task, widths: list[int]) -> float:
    """Operations of the matrix products in one step as we do them, over models of these (padded) widths.

    Twice over the batch with the context tokens alone, since a bag's one subject is gathered; thrice over each pair of
    factors, for the tokens that can stand in a sequence.
    """
    batch = 4 * BATCH * task.context * task.vocabulary
    return sum(batch + 6 * task.inputs * task.vocabulary * width for width in widths)


def work_stood_for(task: Task, widths: list[int]) -> float:
    """Operations of the same step with dense counts: what a batched matrix product without any shortcut would do."""
    size = task.vocabulary
    return sum(4 * BATCH * size**2 + 6 * size**2 * width for width in widths)


def main() -> dict[str, float]:
    """Measure and print every ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task, ours = Task(), options.steps * 10
    # A narrow rank fits in a product of width 16, a wide one in one of width 128.
    sweep = [[Model(head_dimension=r) for r in RANKS if r <= 16], [Model(head_dimension=r) for r in RANKS if r > 16]]
    widths = [16] * len(sweep[0]) + [128] * len(sweep[1])
    # Our products are small: both may use every thread, and where one is faster, ours uses one.
    one, one_threads = fastest(lambda: our_step_seconds(task, [[Model()]], ours), options.threads)
    seven, seven_threads = fastest(lambda: our_step_seconds(task, sweep, ours), options.threads)
    peak = peak_flops()
    found = {
        "threads": options.threads,
        "threads_of_one_model": one_threads,
        "threads_of_rank_sweep": seven_threads,
        "one_model_step_ms": 1e3 * one,
        "rank_sweep_step_ms": 1e3 * seven,
        "peak_gflops": peak / 1e9,
        "share_of_peak_one_model": work_done(task, [128]) / one / peak,
        "share_of_peak_rank_sweep": work_done(task, widths) / seven / peak,
        "dense_work_over_peak_one_model": work_stood_for(task, [128]) / one / peak,
        "dense_work_over_peak_rank_sweep": work_stood_for(task, list(RANKS)) / seven / peak,
    }
    for name, last in (("plain", False), ("plain_last_position", True)):
        each = {rank: plain_step_seconds(task, rank, last, options.steps) for rank in RANKS}
        found |= {
            f"{name}_one_model_step_ms": 1e3 * each[128],
            f"{name}_rank_sweep_step_ms": 1e3 * sum(each.values()),
            f"ratio_{name}_one_model": each[128] / one,
            f"ratio_{name}_rank_sweep": sum(each.values()) / seven,
        }
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=1))
    return found


if __name__ == "__main__":
    main()
