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
class Where(Common):
    """Where does what a run learned live? Put each part of its change into the base model alone, and leave each out."""

    run: Positional[str]
    """A finished run of `inject` that kept its weights (--save delta or weights), or a folder of such runs by seed, as
    `mitigate` makes (OUT/cells/untreated). Seeds are pooled."""
    out: str
    """Folder for record.json, where.parquet, answers.parquet and page.html."""
    parts: Literal["all", "components", "none"] = "all"
    """What is patched: components and layers, components alone, or nothing, which leaves how lazy the training was."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes a GPU if there is one."""
    dtype: Literal["run", "float32", "bfloat16"] = "run"
    """Number format of weights and arithmetic; by default the run's."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; by default the run's."""
    threads: int = 0
    """Processor threads; 0 takes every core. Part of a run's identity, since sums depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--threads", self.threads, MOST_THREADS)


@dataclass(frozen=True, kw_only=True)
class Sweep(Common):
    """Run a study: a grid or list over any verb's options, resumable, into one table and one page."""

    study: Positional[str]
    """A study's YAML file, or a built-in study: paper, paper-rates, paper-270m or adapters."""
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
    model: str = ""
    """One model in place of every model that the study names."""
    on: str = ""
    """With --plan: also what each cell takes of memory, time and disk on this device: cpu (this machine), l4-24,
    rtx-4090-24, a100-40, l40s-48, a100-80, h100-80 or h200-141. Nothing is downloaded."""
    devices: int = 1
    """With --plan: so many of these devices, each with runs of its own."""
    memory: float = 0.0
    """With --plan: the device's memory in gigabytes (10^9 bytes), for another device or a smaller part of one."""
    tflops: float = 0.0
    """With --plan: the device's peak in 10^12 operations a second, in the number format of the runs."""
    bandwidth: float = 0.0
    """With --plan: the peak of the device's memory in gigabytes a second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--processes", self.processes, MOST_THREADS)
        self._refuse_half_a_plan()
        if self.address and self.engine != "ray":
            raise UsageError("--address is for --engine ray alone", do="Add --engine ray, or leave --address out")

    def _refuse_half_a_plan(self) -> None:
        described = {"--memory": self.memory, "--tflops": self.tflops, "--bandwidth": self.bandwidth}
        for option, value in described.items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"{option} is {value:g}", do=f"Give {option} a number above 0")
        if self.devices < 1:
            raise UsageError(f"--devices is {self.devices}", do="Give --devices 1 or more")
        given = [option for option, value in {"--on": self.on, **described}.items() if value]
        given += ["--devices"] if self.devices > 1 else []
        if given and not self.plan:
            raise UsageError(f"{given[0]} is for a plan alone", do=f"Add --plan, or leave {given[0]} out")
        if given == ["--devices"]:
            raise UsageError("--devices needs a device", do="Name one with --on")
        if self.on == "cpu" and (self.tflops or self.bandwidth):
            do = "Leave --on out to describe another device"
            raise UsageError("--on cpu is this machine, whose speed is known", do=do)
