"""Settings of the verbs on the one-layer model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from spillover.settings.common import Common, Flag, Running


@dataclass(frozen=True, kw_only=True)
class Solve(Common):
    """Solve the one-layer model exactly for a pack: what it answers to questions nobody answered, with proof."""

    pack: Positional[str] = ""
    """A built-in pack with its options, a pack folder, or a pack.yaml; or leave it out and give --symbolic."""
    symbolic: str = ""
    """The symbolic task instead of a pack, by its closed form: n=20,train=1,test=3."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """What is minimised: nuclear is what training the factorised model prefers, frobenius the merged one."""
    gap: float = 1e-4
    """How close to the least possible objective the solution must be proven to be, relatively."""
    ranges: Flag = False
    """Also the least and greatest margin of every question over all matrices that are no worse."""
    max_iterations: int = 20_000
    """Give up after so many iterations, and say how far the solution may be from the optimum."""
    out: str = ""
    """Folder for record.json and, if it is not too large, the matrix: matrix.npy and, with names, matrix.parquet."""


@dataclass(frozen=True, kw_only=True)
class Certify(Common):
    """Certify any matrix for a pack: does it state every row, how far is it from the optimum, what does it answer?"""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    matrix: str
    """The matrix: .npy, .csv, .parquet or .safetensors, a row an answer and a column a subject, then a relation."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """The norm to certify against."""
    gap: float = 1e-4
    """How close the lower bound must be to the optimum, relatively."""


@dataclass(frozen=True, kw_only=True)
class Lab(Running):
    """Train one-layer attention models on the symbolic task, beside the exact solutions, and make a page of it."""

    preset: Positional[str]
    """The experiment: two-models, sample-efficiency, rank-sweep, key-query, architecture or dial."""
    out: str
    """Folder of the run: record.json, trajectory.parquet, matrices.parquet and page.html."""
    seeds: str = ""
    """Seeds that train side by side, as 0,1,2,3,4 (the default; key-query takes ten)."""
    steps: int = 0
    """Training steps; 0 for the preset's own number."""
    quick: Flag = False
    """A small task and few steps: seconds instead of minutes, the same code."""
    symbolic: str = ""
    """Size of the task, as n=20,train=1,test=3: classes, and subjects a class with and without a stated implication."""
    threads: int = 1
    """Processor threads; these models are so small that one is the fastest. Part of a run's identity."""
    head_dimension: int | None = None
    """Columns d_h of W_O and W_V of a factorised model; by default the size of the vocabulary."""
