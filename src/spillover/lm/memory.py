"""The memory of a device: what is free, what this process holds, and what to do when it runs out."""

import contextlib
import gc
import sys
from pathlib import Path

import psutil
import torch

from spillover.errors import ModelError

CGROUPS = Path("/sys/fs/cgroup")
ADVICE = "Use --lora 8, --dtype bfloat16, a smaller --batch or a smaller model, or free some memory"
#: How the allocators of CPUs and of Apple's GPUs say it; those of CUDA have an exception of their own.
_SAID = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc")


class Exhausted(ModelError):
    """Memory ran out and nothing can be taken in smaller parts any more."""

    def __init__(self, what: str, *, where: str = "") -> None:
        super().__init__(what, where=where, do=ADVICE)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python or torch means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def free_cache(device: torch.device) -> None:
    """Release what nothing refers to any more, so that the next allocation can have it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free(device: torch.device) -> int:
    """Bytes that can still be taken on a device; on a CPU within the limits of a container and of `ulimit -v`."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    process = psutil.Process()
    found = [psutil.virtual_memory().available, *free_in_cgroups(own_cgroup())]
    if sys.platform == "linux":
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        found += [limit - process.memory_info().vms] if limit != psutil.RLIM_INFINITY else []
    return max(0, min(found))


def taken(device: torch.device) -> int:
    """Bytes that this process holds on a device now."""
    return int(torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss)


def most_taken(device: torch.device) -> int:
    """The most bytes that this process has held on a device so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, StopIteration):
        # Not what getrusage says, which on Linux begins with what the parent process held.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def own_cgroup() -> Path:
    """The folder of this process's control group (version 2), or the uppermost where it is not known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/") and (own := CGROUPS / line[4:]).is_dir():
                return own
    return CGROUPS


def free_in_cgroups(own: Path) -> list[int]:
    """Bytes left in a control group and in those around it that have a limit."""
    found = []
    for folder in (own, *own.parents):
        with contextlib.suppress(OSError, ValueError):
            limit = int((folder / "memory.max").read_text(encoding="ascii"))
            held = int((folder / "memory.current").read_text(encoding="ascii"))
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            # Copies of files are given up before anybody is refused.
            files = sum(int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "active_file"))
            found.append(limit - held + files)
    return found
