"""How much memory this process may still take, and how much it has taken."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")


def free(device: torch.device) -> int:
    """Bytes that can still be taken on a device; for processors within the limits of a container and of `ulimit -v`."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    process = psutil.Process()
    found = [psutil.virtual_memory().available, *_within_cgroups(_own_cgroup())]
    if sys.platform == "linux":
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        found += [limit - process.memory_info().vms] if limit != psutil.RLIM_INFINITY else []
    return max(0, min(found))


def taken(device: torch.device) -> int:
    """Bytes that this process holds on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def most_taken(device: torch.device) -> int:
    """The most bytes that this process has held on a device so far; of a GPU, since `count_anew`."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, StopIteration):
        # Not what getrusage says, which on Linux begins with what the parent process held.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))


def count_anew(device: torch.device) -> None:
    """Forget what a GPU held until now; what a processor held cannot be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _own_cgroup() -> Path:
    """The folder of the control group that this process is in, or the uppermost where that is not told."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/") and (own := CGROUPS / line[4:]).is_dir():
                return own
    return CGROUPS


def _within_cgroups(own: Path) -> list[int]:
    """What is left in a control group (version 2) and in those around it that have a limit."""
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
