"""Where training starts, by name. docs/theory.md, "Starts"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from spillover.theory.symbolic import Task

#: From a generator, a weight's name, its shape and the task to its first value.
Draw = Callable[[np.random.Generator, str, tuple[int, ...], Task], np.ndarray]


def gaussian(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Independent normal entries with standard deviation 1 / sqrt(d)."""
    return generator.standard_normal(shape) / np.sqrt(task.vocabulary)


def gaussian_width(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Independent normal entries with standard deviation 1 / sqrt(columns), so that W_O W_V^T keeps its size."""
    return generator.standard_normal(shape) / np.sqrt(shape[-1])


def constant(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Every entry 1e-4. Two constant factors stay of rank one in exact arithmetic (docs/theory.md)."""
    return np.full(shape, 1e-4)


def symmetric(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """Random, but equal for all subjects of a split, all b, all c and all noise: no class stands out (Theorem 3)."""
    kind = token_kinds(task)
    table = generator.standard_normal((kind.max() + 1, kind.max() + 1)) / np.sqrt(task.vocabulary)
    if name == "W_OV":
        return table[kind][:, kind]
    if len(shape) == 1 and shape[0] == task.vocabulary:
        return table[0, kind]
    return generator.standard_normal((kind.max() + 1, *shape[1:]))[kind] / np.sqrt(task.vocabulary)


def symmetric_perturbed(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """The symmetric start and a Gaussian a thousandth of its size."""
    return symmetric(generator, name, shape, task) + 1e-3 * gaussian(generator, name, shape, task)


def constant_keys(generator: np.random.Generator, name: str, shape: tuple[int, ...], task: Task) -> np.ndarray:
    """The key scores all 1e-4, the output and value matrices Gaussian a thousandth of 1 / sqrt(d)."""
    return np.full(shape, 1e-4) if name == "k" else 1e-3 * gaussian(generator, name, shape, task)


#: Every start by name. None is zero: two zero factors are a fixed point.
STARTS: dict[str, Draw] = {
    "gaussian": gaussian,
    "gaussian-width": gaussian_width,
    "constant-1e-4": constant,
    "constant-keys": constant_keys,
    "symmetric": symmetric,
    "symmetric-perturbed": symmetric_perturbed,
}


def token_kinds(task: Task) -> Int[np.ndarray, "token"]:
    """A number for each token's kind: train subject, test subject, r1, r2, b, c, noise, end and unused."""
    kind = np.full(task.vocabulary, 7)
    kind[task.context : task.inputs] = np.arange(task.subjects) % task.subjects_each >= task.train
    kind[list(task.relations)] = (2, 3)
    kind[task.answers] = 4
    kind[task.implication_answers] = 5
    kind[task.noise] = 6
    kind[task.end] = 8
    return kind


def attended(task: Task) -> Float[np.ndarray, "token"]:
    """1 on subjects and relations, 0 elsewhere: the fixed attention that weighs the two equally."""
    weights = np.zeros(task.vocabulary)
    weights[task.columns] = 1
    return weights
