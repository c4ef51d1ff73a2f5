"""Several processes at one run: each takes its share of rows and questions, and the results are gathered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor

from spillover.errors import RunError, SpilloverError, UsageError
from spillover.lm.place import Place, place

Thing = TypeVar("Thing")
#: How long a process waits for another, at most: the slowest thing that one does alone is to write a large model.
PATIENCE = timedelta(hours=2)
#: Numbers a gradient message holds, nearly (100 MB).
MESSAGE = 25_000_000
ENDED = "ended"


class Processes:
    """The processes of one run, and the place of this one; alone unless `joined` says otherwise.

    Every method that joins something is called by all of them, in the same order. When one ends with an error, all
    others get the same error there.
    """

    def __init__(self, where: Place | None = None, store: Any = None) -> None:
        self.place, self._store = where or Place(), store

    @property
    def count(self) -> int:
        """How many there are."""
        return self.place.count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.place.rank == 0

    def turns(self, things: Iterable[Thing]) -> Iterator[tuple[Thing, bool]]:
        """What falls to this process: of so many processes, every so-many-th, and that it counts.

        Of a split model, the first thing once more, which does not count, where another process has one more to do.
        """
        first, number = None, -1
        for number, thing in enumerate(things):
            first = thing if number == 0 else first
            if number % self.count == self.place.rank:
                yield thing, True
        if self.sharded and number >= 0 and self.place.rank > number % self.count:
            yield first, False  # type: ignore[misc]

    def share(self, things: Iterable[Thing]) -> list[Thing]:
        """What falls to this process, and counts."""
        return [thing for thing, counts in self.turns(things) if counts]

    @property
    def sharded(self) -> bool:
        """Whether a model in training is split over them, so that each must compute whenever another does."""
        return self.count > 1 and self.place.sharded

    def asking(self) -> AbstractContextManager[Any]:
        """Inside, nothing is kept for a backward pass."""
        # A split model keeps the buffers it gathers in, and could not train in those made for inference.
        return torch.no_grad() if self.sharded else torch.inference_mode()

    def of_first(self, give: Callable[[], Thing]) -> Thing:
        """What `give` gives on the first process, which alone calls it."""
        if self.count == 1:
            return give()
        told = [give() if self.first else None]
        with self._joint():
            distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        return told[0]  # type: ignore[return-value]

    def together(self, things: Mapping[Any, Thing]) -> dict[Any, Thing]:
        """What all of them hold."""
        if self.count == 1:
            return dict(things)
        told: list[Any] = [None] * self.count
        with self._joint():
            distributed.all_gather_object(told, dict(things))
        return {key: value for each in told for key, value in each.items()}

    def sum(self, arrays: Sequence[Float[np.ndarray, "_"]]) -> list[Float[np.ndarray, "_"]]:
        """The sum over the processes of each array; exact where all but one of them hold 0."""
        if self.count == 1 or not arrays:
            return list(arrays)
        every = torch.from_numpy(np.concatenate(arrays).astype(np.float64))
        self._add(every)
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
        told = torch.tensor([loss, *(weight.grad is not None for weight in weights)], dtype=torch.float64)
        self._add(told)
        moved = [weight for weight, number in zip(weights, told[1:].tolist(), strict=True) if number]
        for message in _messages(moved):
            # In single precision, so that a sum of bfloat16 gradients is rounded once.
            parts = [
                (torch.zeros_like(weight) if weight.grad is None else weight.grad).reshape(-1).float()
                for weight in message
            ]
            every = torch.cat(parts)
            self._add(every)
            for weight, part in zip(message, every.split([len(part) for part in parts]), strict=True):
                weight.grad = torch.empty_like(weight).copy_(part.view(weight.shape))
        return float(told[0])

    def items(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of each of the first process's `tensors`, one after the other; what others give is unused."""
        if self.count == 1:
            yield from tensors.items()
            return
        names = self.of_first(lambda: list(tensors))
        for name in names:
            # Read one at a time, so that they take no room together.
            own = tensors[name].contiguous() if self.first else None
            told = self.of_first(partial(_kind, own))
            value = torch.empty(told[0], dtype=told[1]) if own is None else own
            with self._joint():
                distributed.broadcast(value, src=0)
            yield name, value

    def device(self, wanted: str) -> str:
        """The device to compute on: what is wanted, or a GPU of this process's own.

        Raises UsageError when several processes are to share one, or when there are not enough.
        """
        if self.place.cpu and wanted == "auto":
            return "cpu"
        if self.count == 1 or wanted == "cpu" or not torch.cuda.is_available():
            return wanted
        if wanted not in ("auto", "cuda"):
            what = f"{self.count} processes cannot share the device {wanted}"
            raise UsageError(what, do="Give --device cuda, which takes a GPU for each, or --device cpu")
        if self.place.local_count > torch.cuda.device_count():
            what = f"{self.place.local_count} processes were started beside {torch.cuda.device_count()} GPUs"
            raise UsageError(what, do="Start as many processes as there are GPUs, or give --device cpu")
        torch.cuda.set_device(self.place.local_rank)
        return "cuda"

    def end(self, error: BaseException) -> None:
        """Tell the others why this process ends; the first reason that is told holds for all."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.compare_set(ENDED, "", json.dumps(_reason(error, self.place.rank)))

    def _add(self, tensor: Tensor) -> None:
        with self._joint():
            distributed.all_reduce(tensor)

    @contextmanager
    def _joint(self) -> Iterator[None]:
        """Inside, another process that ends turns into the error that it ended with."""
        try:
            yield
        except RuntimeError as error:
            raise self._elsewhere(error) from None

    def _elsewhere(self, error: RuntimeError) -> BaseException:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with suppress(RuntimeError):
                if self._store.check([ENDED]):
                    return _error(json.loads(self._store.get(ENDED)))
            time.sleep(0.05)
        what = f"another process of this run is gone ({str(error).splitlines()[0][:200]})"
        return RunError(what, do="See what it said last, and give the same command again to go on")


#: One process and no other.
ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Inside, this process works with those that were started beside it, if any.

    An error that leaves the context ends all of them, each at its next joint work.
    """
    where = place()
    if where.count == 1:
        yield ALONE
        return
    own = not distributed.is_initialized()
    processes = Processes(where, _store(where, own))
    try:
        if own:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(
                backend, store=processes._store, rank=where.rank, world_size=where.count, timeout=PATIENCE
            )
        yield processes
    except BaseException as error:
        processes.end(error)
        raise
    finally:
        if own and distributed.is_initialized():
            # Whoever waits for this process learns by it that there is nothing to wait for.
            distributed.destroy_process_group()


def board(where: Place) -> Any:
    """A board on which processes leave words for each other, for as long as the first of them keeps it."""
    return _store(where, False)


def leave(board: Any, word: str) -> None:
    """Leave a word for the other processes."""
    with suppress(RuntimeError):
        board.set(word, "")


def await_word(board: Any, word: str, patience: timedelta) -> None:
    """Wait until the word was left, or the first process is gone."""
    with suppress(RuntimeError):
        board.wait([word], patience)


def _store(where: Place, new: bool) -> Any:
    """What all processes of a run can read and write; `new`: of the run that begins now, else of the last one."""
    every, _, _ = next(distributed.rendezvous("env://", where.rank, where.count, timeout=timedelta(minutes=5)))
    return distributed.PrefixStore(f"run {every.add(f'runs {where.rank}', int(new))}", every)


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


def _kind(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype)


def _reason(error: BaseException, rank: int) -> dict[str, Any]:
    if isinstance(error, SpilloverError):
        return {**error.as_json(), "exit_code": error.exit_code}
    if isinstance(error, KeyboardInterrupt):
        return {"interrupt": True}
    what = f"process {rank} of this run stopped: {type(error).__name__}: {error}"
    return {"what": what, "where": "", "do": "See what it said last", "exit_code": 2}


def _error(told: Mapping[str, Any]) -> BaseException:
    if told.get("interrupt"):
        return KeyboardInterrupt()
    error = RunError(told["what"], where=told["where"], do=told["do"])
    error.exit_code = told["exit_code"]
    return error
