"""Devices that a plan is made for: what they hold, and how fast they really compute and move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spillover.errors import UsageError, nearest

#: Of a graphics processor's peak, what small batches of a language model are taken to reach in matrix products and in
#: moving weights; seconds that starting the work of a layer takes, forward, and forward, backward and AdamW. Assumed
#: from what such models usually reach, not measured here.
COMPUTING, MOVING, LAYER, TRAINED_LAYER = 0.4, 0.7, 5e-4, 2e-3
#: Bytes of a graphics processor's memory that its context and a fragmented heap take.
CONTEXT = 1_500_000_000


@dataclass(frozen=True)
class Device:
    """One place for a run.

    memory: bytes that a run may take. float32, bfloat16: operations a second that it reaches in matrix products, for a
    processor of one thread. bandwidth: bytes a second that it reaches. layer, trained_layer: seconds that starting the
    work of a layer takes, in a pass forward and in a step of training. processor: whether it is none of graphics.
    measured: whether its speeds were measured with this program, or follow from a data sheet.
    """

    name: str
    memory: float
    float32: float
    bfloat16: float
    bandwidth: float
    layer: float = LAYER
    trained_layer: float = TRAINED_LAYER
    processor: bool = False
    measured: bool = False


def _card(name: str, gigabytes: float, float32: float, bfloat16: float, bandwidth: float) -> Device:
    """A card from its data sheet: 10^9 bytes that its driver lets programs take, 10^12 operations a second of products
    in float32 without and in bfloat16 with tensor cores, none of them sparse, and 10^9 bytes a second."""
    return Device(
        name, gigabytes * 1e9 - CONTEXT, float32 * 1e12 * COMPUTING, bfloat16 * 1e12 * COMPUTING,
        bandwidth * 1e9 * MOVING,
    )  # fmt: skip


#: Name -> device. A data sheet's gigabytes are binary for these cards, and error correction takes a part of some.
CARDS: Mapping[str, Device] = {
    each.name: each
    for each in (
        _card("l4-24", 23.6, 30.3, 121.0, 300.0),
        _card("rtx-4090-24", 25.2, 82.6, 165.0, 1008.0),
        _card("a100-40", 42.3, 19.5, 312.0, 1555.0),
        _card("l40s-48", 47.7, 91.6, 362.0, 864.0),
        _card("a100-80", 84.9, 19.5, 312.0, 2039.0),
        _card("h100-80", 84.9, 67.0, 989.0, 3350.0),
        _card("h200-141", 150.0, 67.0, 989.0, 4800.0),
    )
}

#: Of a processor, operations a second of one thread and bytes a second, as they fit the runs of a model of 270 million
#: parameters that were least disturbed (benchmarks/plan.py). In bfloat16 it is taken to be no faster.
THREAD, MOVED = 94e9, 4.7e9


def processor(memory: float) -> Device:
    """A processor like the one that was measured, with so many bytes of memory to take."""
    return Device("cpu", memory, THREAD, THREAD, MOVED, layer=0.0, trained_layer=0.0, processor=True, measured=True)


def device(name: str, *, memory: float = 0.0, tflops: float = 0.0, bandwidth: float = 0.0, room: int = 0) -> Device:
    """A device by name, or one described by all three numbers, which also replace those of a named one.

    memory: 10^9 bytes; tflops: 10^12 operations a second at its peak, in the number format of the runs; bandwidth: 10^9
    bytes a second at its peak. room: bytes that a run could take on this machine, for `cpu`. Raises UsageError for a
    name that is not known, or a description that is not whole.
    """
    if name == "cpu":
        found = processor(float(room))
    elif name in CARDS:
        found = CARDS[name]
    elif name:
        raise UsageError(f"there is no device called {name!r}", where="--on", do=nearest(name, ["cpu", *CARDS]))
    elif memory and tflops and bandwidth:
        found = _card("described", memory, tflops, tflops, bandwidth)
    else:
        do = "Give --memory, --tflops and --bandwidth together, or name a device with --on"
        raise UsageError("this describes no whole device", where="spillover sweep --plan", do=do)
    changes: dict[str, float] = {}
    if memory:
        changes["memory"] = memory * 1e9 - (0 if found.processor else CONTEXT)
    if tflops:
        changes |= {"float32": tflops * 1e12 * COMPUTING, "bfloat16": tflops * 1e12 * COMPUTING}
    if bandwidth:
        changes["bandwidth"] = bandwidth * 1e9 * MOVING
    return replace(found, **changes)  # type: ignore[arg-type]
