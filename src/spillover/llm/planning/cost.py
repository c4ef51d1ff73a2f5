"""How long a run takes on a device, from what it computes and what it moves."""

from __future__ import annotations

from dataclasses import dataclass

from spillover.llm.planning.devices import Device
from spillover.llm.planning.workload import Number, Passes, Sizes, Workload

#: Times that AdamW reads or writes a number for each trained weight: the weight, its gradient and both sums are read,
#: the weight and both sums written, and the gradient was written before.
TOUCHED = 8
#: Seconds of every run beside the model: its pack, tokens, metrics with their intervals, tables (measured here).
BESIDE = 12.0


@dataclass(frozen=True)
class Seconds:
    """One run, by what takes the time. Loading the model is not in it, since a worker loads it once for many runs."""

    training: float
    updating: float
    asking: float
    reading: float
    beside: float = BESIDE

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.updating + self.asking + self.reading + self.beside


def seconds(work: Workload, device: Device, *, dtype: str = "float32", threads: int = 1) -> Seconds:
    """Foretold for a device in a number format. threads: of a processor that the run has; a graphics processor has one
    stream of work. A pass takes as long as its products or as moving the weights, whichever is longer; of a processor
    the speed of products was measured on such passes, and so has the moving in it."""
    rate = getattr(device, dtype) * (threads if device.processor else 1)
    sizes = work.sizes

    def passes(some: Passes, operations: Number, times: int, layer: float) -> float:
        moved = 0 if device.processor else times * sizes.all * sizes.itemsize * some.count
        return max(operations / rate, moved / device.bandwidth) + some.count * sizes.layers * layer

    forward = {name: operations(sizes, getattr(work, name)) for name in ("training", "asking", "reading")}
    return Seconds(
        training=passes(work.training, forward["training"] + backward(sizes, work.training), 2, device.trained_layer),
        updating=TOUCHED * sizes.trained * sizes.itemsize * work.steps / device.bandwidth,
        asking=passes(work.asking, forward["asking"], 1, device.layer),
        reading=passes(work.reading, forward["reading"], 1, device.layer),
    )


def operations(sizes: Sizes, some: Passes) -> Number:
    """Multiplications and additions of passes forward."""
    return 2 * (sizes.matrices * some.tokens + sizes.attended * some.pairs + sizes.vocabulary * some.logits)


def backward(sizes: Sizes, some: Passes) -> Number:
    """Those of the passes backward: as many as forward for what flows back, and once more for each trained weight."""
    trained = sizes.trained_matrices * some.tokens + sizes.attended * some.pairs
    trained += sizes.vocabulary * some.logits if sizes.trains_vocabulary else 0
    return operations(sizes, some) + 2 * trained
