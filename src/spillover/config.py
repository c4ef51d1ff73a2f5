"""What the settings of every verb share, and which of several processes this one is. A verb's own settings are a
dataclass in its file, whose texts are its help. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from tyro.conf import FlagCreatePairsOff

from spillover.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Other = TypeVar("Other", bound="DataclassInstance")
Flag = Annotated[bool, FlagCreatePairsOff]
#: Every generator takes seeds up to here; more threads than this no machine starts for one process.
MOST_SEED, MOST_THREADS = 2**32 - 1, 512


def within(option: str, value: int, most: int) -> None:
    """Raise UsageError unless 0 <= value <= most."""
    if not 0 <= value <= most:
        raise UsageError(f"{option} is {value}", do=f"Give {option} a whole number from 0 to {most}")


def refuse_idle(settings: DataclassInstance, names: Container[str], why: str, do: str) -> None:
    """Raise UsageError for the first option among `names` that was given although it does nothing here."""
    for item in fields(settings):
        if item.name in names and getattr(settings, item.name) != item.default:
            raise UsageError(f"--{item.name.replace('_', '-')} {why}", do=do)


def with_fields_of(settings: DataclassInstance, kind: type[Other], **changes: Any) -> Other:
    """Settings of another kind: the values of fields with the same name, and `changes`."""
    names = {item.name for item in fields(kind)} & {item.name for item in fields(settings)}
    return kind(**{name: getattr(settings, name) for name in names} | changes)


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    json: Flag = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        # Not every verb takes these.
        for name, most in (("seed", MOST_SEED), ("threads", MOST_THREADS)):
            within(f"--{name}", getattr(self, name, 0), most)


@dataclass(frozen=True, kw_only=True)
class Browsing(Common):
    """What every verb takes that writes a page."""

    browse: Flag = False
    """Open the page in a browser."""


@dataclass(frozen=True, kw_only=True)
class Seeded(Common):
    """What every verb takes that draws at random."""

    seed: int = 0
    """Seed of all random choices: names and pairs of a built-in pack, order of training examples, resampling."""


#: Options that say how a chat is written: its rendered prompts say all that they do.
WORDING = ("system", "chat_template", "prefix", "date")


@dataclass(frozen=True, kw_only=True)
class Chat(Seeded):
    """What every verb takes that asks a model."""

    chat: Flag = False
    """Ask in the model's own chat template: the prompt is the user's turn, and the answer stands where the template
    puts it in the model's turn, as in training."""
    system: str = ""
    """With --chat: a system turn before the user's."""
    chat_template: str = ""
    """With --chat: another model, whose chat template is taken, or a file with one."""
    prefix: str = ""
    """With --chat: what a reply says before the answer, such as "{subject} lives in". A relation's own `reply` in the
    pack comes first."""
    date: str = ""
    """With --chat: the day for a template that shows one, such as 2026-01-31; by default today, which is recorded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.chat:
            refuse_idle(self, WORDING, "says how a chat is written", "Give --chat too, or leave it out")
        try:
            datetime.fromisoformat(self.date or "2000-01-01")
        except ValueError:
            raise UsageError(f"--date is {self.date!r}", do="Write a day such as 2026-01-31") from None


@dataclass(frozen=True, kw_only=True)
class Running(Seeded):
    """What every verb takes that loads a model."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto takes a GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and arithmetic."""
    revision: str | None = None
    """Branch, tag or commit of a model from the hub."""
    threads: int = 0
    """CPU threads; 0 takes every core. Another number is another run, since it rounds differently."""


#: What launchers call a process's number, how many there are, and the same on one machine: torch's (and so
#: accelerate's), Intel MPI's, Open MPI's, MVAPICH's.
_NAMES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)


@dataclass(frozen=True)
class Launch:
    """Number `rank` of `count` processes, and number `local_rank` of the `local_count` on this machine.

    cpu: the launcher was told to use no GPU. sharded: it was told to split the model over the processes (FSDP).
    single_process: it was asked for several processes and started one.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    cpu: bool = False
    sharded: bool = False
    single_process: bool = False


def launch(environment: Mapping[str, str] | None = None) -> Launch:
    """How this process was started. Processes belong together only when all four numbers and an address are given."""
    found = os.environ if environment is None else environment
    cpu, sharded = (
        found.get(f"ACCELERATE_USE_{name}", "").lower() in {"1", "true", "yes", "on", "y", "t"}
        for name in ("CPU", "FSDP")
    )
    if not found.get("MASTER_ADDR"):
        return Launch(cpu=cpu, sharded=sharded)
    for names in _NAMES:
        values = [found.get(name, "") for name in names]
        if all(value.isdecimal() for value in values):
            rank, count, local_rank, local_count = map(int, values)
            return Launch(rank, count, local_rank, local_count, cpu, sharded)
    # accelerate gives an address for several processes only; with --cpu, it leaves starting them to somebody else.
    return Launch(cpu=cpu, sharded=sharded, single_process="ACCELERATE_MIXED_PRECISION" in found)
