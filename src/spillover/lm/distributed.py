"""Several processes at one run: each takes its share of examples and questions, and the results are gathered.

torch.distributed is called directly, because accelerate's wrappers have no channel for the error of another process.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor

from spillover.config import Launch, launch
from spillover.errors import ModelError, RunError, SpilloverError, UsageError, first_line

Item = TypeVar("Item")
#: How long a process waits for another, at most: the slowest thing that one does alone is to write a large model.
PATIENCE = timedelta(hours=2)
#: The most numbers of a gradient message, unless one weight alone has more (100 MB).
MESSAGE = 25_000_000
ENDED = "ended"


def pick_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Raises ModelError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device called {name!r}", do="Use auto, cpu, cuda, cuda:0 or mps") from None
    cuda = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if not {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}.get(device.type, False):
        raise ModelError(f"this machine has no device {name!r}", do="Use --device cpu or auto")
    return device


@dataclass(frozen=True, eq=False)
class Processes:
    """The processes of one run, and the rank of this one; a single process unless `joined` says otherwise.

    All call the methods that communicate, in the same order. When one ends with an error, all others get it there.
    store: where all of them read and write why one ended.
    """

    launch: Launch = field(default_factory=Launch)
    store: distributed.Store | None = None

    @property
    def count(self) -> int:
        return self.launch.count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.launch.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether a model in training is split over them, so that each must compute whenever another does."""
        return self.count > 1 and self.launch.sharded

    def round_robin(self, items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
        """This rank's items, round-robin, each with True.

        Of a split model, where another rank has one item more, the first once more with False: its result is dropped.
        """
        first, number = None, -1
        for number, item in enumerate(items):
            first = item if number == 0 else first
            if number % self.count == self.launch.rank:
                yield item, True
        if self.sharded and number >= 0 and self.launch.rank > number % self.count:
            yield first, False  # type: ignore[misc]

    def inference(self) -> AbstractContextManager[Any]:
        """Inside, nothing is kept for a backward pass."""
        # A split model keeps the buffers it gathers in, and could not train in those made for inference.
        return torch.no_grad() if self.sharded else torch.inference_mode()

    def broadcast(self, make: Callable[[], Item]) -> Item:
        """What `make` gives on the first process, which alone calls it."""
        if self.count == 1:
            return make()
        made = [make() if self.first else None]
        with self._joint():
            distributed.broadcast_object_list(made, src=0, device=torch.device("cpu"))
        return made[0]  # type: ignore[return-value]

    def all_gather(self, items: Mapping[Any, Item]) -> dict[Any, Item]:
        """The items of all processes, by key."""
        if self.count == 1:
            return dict(items)
        every: list[Any] = [None] * self.count
        with self._joint():
            distributed.all_gather_object(every, dict(items))
        return {key: value for each in every for key, value in each.items()}

    def sum(self, arrays: Sequence[Float[np.ndarray, "_"]]) -> list[Float[np.ndarray, "_"]]:
        """The sum over the processes of each array; exact where all but one of them hold 0."""
        if self.count == 1 or not arrays:
            return list(arrays)
        every = torch.from_numpy(np.concatenate(arrays).astype(np.float64))
        self._all_reduce(every)
        return np.split(every.numpy(), np.cumsum([len(array) for array in arrays])[:-1])

    def add_gradients(self, loss: float, weights: Sequence[Tensor]) -> float:
        """The sum of the processes' losses; the gradient of each weight becomes the sum of theirs, if any has one."""
        if self.count == 1:
            return loss
        if self.sharded:
            for weight in weights:
                # The backward pass left the mean.
                weight.grad = None if weight.grad is None else weight.grad * self.count
            weights = []
        flags = torch.tensor([loss, *(weight.grad is not None for weight in weights)], dtype=torch.float64)
        self._all_reduce(flags)
        moved = [weight for weight, number in zip(weights, flags[1:].tolist(), strict=True) if number]
        for message in _messages(moved):
            # In single precision, so that a sum of bfloat16 gradients is rounded once.
            every = torch.cat([
                (torch.zeros_like(weight) if weight.grad is None else weight.grad).reshape(-1).float()
                for weight in message
            ])  # fmt: skip
            self._all_reduce(every)
            for weight, part in zip(message, every.split([weight.numel() for weight in message]), strict=True):
                weight.grad = torch.empty_like(weight).copy_(part.view(weight.shape))
        return float(flags[0])

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of each of the first process's `tensors`, one at a time so that they take little memory."""
        if self.count == 1:
            yield from tensors.items()
            return
        every = self.broadcast(lambda: [(key, own.shape, own.dtype) for key, own in tensors.items()])
        for name, shape, dtype in every:
            value = tensors[name].contiguous() if self.first else torch.empty(shape, dtype=dtype)
            with self._joint():
                distributed.broadcast(value, src=0)
            yield name, value

    def device(self, wanted: str) -> str:
        """What is wanted, or a GPU of this process's own. Raises UsageError when several would share one."""
        if self.launch.cpu and wanted == "auto":
            return "cpu"
        if self.count == 1 or wanted == "cpu" or not torch.cuda.is_available():
            return wanted
        if wanted not in ("auto", "cuda"):
            what = f"{self.count} processes cannot share the device {wanted}"
            raise UsageError(what, do="Give --device cuda, which takes a GPU for each, or --device cpu")
        if self.launch.local_count > torch.cuda.device_count():
            what = f"{self.launch.local_count} processes were started beside {torch.cuda.device_count()} GPUs"
            raise UsageError(what, do="Start as many processes as there are GPUs, or give --device cpu")
        torch.cuda.set_device(self.launch.local_rank)
        return "cuda"

    def end(self, error: BaseException) -> None:
        """Leave the reason why this process ends for the others; the first reason holds for all."""
        interrupt, found = isinstance(error, KeyboardInterrupt), error
        if not isinstance(found, SpilloverError):
            what = f"process {self.launch.rank} of this run stopped: {type(error).__name__}: {error}"
            found = SpilloverError(what, do="See what it said last")
        reason = {**found.as_json(), "exit_code": found.exit_code, "interrupt": interrupt}
        if self.store is not None:
            with suppress(RuntimeError):
                self.store.compare_set(ENDED, "", json.dumps(reason))

    def _all_reduce(self, tensor: Tensor) -> None:
        with self._joint():
            distributed.all_reduce(tensor)

    @contextmanager
    def _joint(self) -> Iterator[None]:
        """Inside, a failed communication becomes the error that another process ended with."""
        try:
            yield
        except RuntimeError as error:
            raise self._error_elsewhere(error) from None

    def _error_elsewhere(self, error: RuntimeError) -> BaseException:
        assert self.store is not None
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with suppress(RuntimeError):
                if self.store.check([ENDED]):
                    reason = json.loads(self.store.get(ENDED))
                    if reason["interrupt"]:
                        return KeyboardInterrupt()
                    found = RunError(reason["what"], where=reason["where"], do=reason["do"])
                    found.exit_code = reason["exit_code"]
                    return found
            time.sleep(0.05)
        what = f"another process of this run is gone ({first_line(error)})"
        return RunError(what, do="See what it said last, and give the same command again to go on")


#: One process and no other.
SINGLE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Inside, this process works with those started beside it, if any; an error that leaves it ends all of them."""
    own = launch()
    if own.count == 1:
        yield SINGLE
        return
    outermost = not distributed.is_initialized()
    processes = Processes(own, shared_store(own, outermost))
    try:
        if outermost:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(
                backend, store=processes.store, rank=own.rank, world_size=own.count, timeout=PATIENCE
            )
        yield processes
    except BaseException as error:
        processes.end(error)
        raise
    finally:
        if outermost and distributed.is_initialized():
            # Whoever waits for this process learns by it that there is nothing to wait for.
            distributed.destroy_process_group()


def shared_store(own: Launch, new: bool) -> distributed.Store:
    """What all processes of a run can read and write; `new`: of the run that begins now, else of the last one."""
    every, _, _ = next(distributed.rendezvous("env://", own.rank, own.count, timeout=timedelta(minutes=5)))
    return distributed.PrefixStore(f"run {every.add(f'runs {own.rank}', int(new))}", every)


def _messages(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The weights in groups, each of one device and at most MESSAGE numbers, unless one alone has more."""
    group: list[Tensor] = []
    for weight in weights:
        full = sum(each.numel() for each in group) + weight.numel() > MESSAGE
        if group and (full or group[0].device != weight.device):
            yield group
            group = []
        group.append(weight)
    if group:
        yield group
