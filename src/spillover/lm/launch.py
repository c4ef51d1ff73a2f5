"""Which of several processes this one is, as whatever started them says in the environment. Imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

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
