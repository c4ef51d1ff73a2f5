"""Settings of the verbs on finished runs and on many runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from spillover.errors import UsageError
from spillover.settings.common import MOST_THREADS, Common, Flag, within


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Make one self-contained HTML page from finished runs."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    out: str = "spillover.html"
    """The page to write."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on, in the order of the run's table; runs made with --redact have
    such names already."""


@dataclass(frozen=True, kw_only=True)
class Verify(Common):
    """Is a run whole, and can it be repeated here? Recomputes what can be recomputed; exit code 1 when it is not."""

    run: Positional[str]
    """A run folder; of a run over several seeds, each seed's run is verified too."""


@dataclass(frozen=True, kw_only=True)
class Rerun(Common):
    """Repeat a run from its record alone, into a new folder, and say whether it came out the same."""

    run: Positional[str]
    """The run folder to repeat."""
    out: str
    """Folder of the repetition."""


@dataclass(frozen=True, kw_only=True)
class Sweep(Common):
    """Run a study: a grid or list over any verb's options, resumable, into one table and one page."""

    study: Positional[str]
    """A study's YAML file, or a built-in study: paper-270m."""
    out: str = ""
    """Folder of the study: cells/, table.parquet, page.html and record.json; needed unless --plan."""
    engine: Literal["local", "ray"] = "local"
    """Where the runs happen: local, in processes on this machine; ray, on every node of a Ray cluster."""
    address: str = ""
    """With --engine ray: HOST:PORT of the cluster's head node, or auto; without it, Ray is started on this machine."""
    processes: int = 0
    """Runs at the same time; 0 shares the cores out evenly, as many to each run as the study's `threads` says."""
    plan: Flag = False
    """List the cells and run nothing; needs no weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--processes", self.processes, MOST_THREADS)
        if self.address and self.engine != "ray":
            raise UsageError("--address is for --engine ray alone", do="Add --engine ray, or leave --address out")
