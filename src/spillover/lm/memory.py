"""How much memory a run will take, from a model's configuration alone, and how much there is."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig

from spillover.lm.compile import stack_of
from spillover.lm.evaluate import Evaluation
from spillover.lm.forgetting import WINDOW
from spillover.lm.optimizer import EIGHT_BIT, bytes_of_sums, bytes_of_update
from spillover.lm.score import Batch, CausalModel, PrefixTree, Scorer, cheaper_merged, collate, logits_only_at
from spillover.lm.tokens import Encoder, Example, Request, ask, continuation, longest_text
from spillover.lm.train import Training, may_merge, mean_loss
from spillover.lm.trainable import trainable_copy
from spillover.packs.pack import Pack

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


META = torch.device("meta")


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still alive; `peak` is the most there were at once."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage not in self._known:
            size = storage.nbytes()
            self._known.add(storage)
            weakref.finalize(storage, self._freed, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _freed(self, size: int) -> None:
        self.now -= size


def training_pass(model: CausalModel, rows: Sequence[Example], at_once: int, logits_at_once: int = 0) -> int:
    """Bytes that the heaviest pass of so many rows takes, forward and backward, each gradient dropped once it is there.

    model: a trainable copy without numbers. Gradients that are summed over several passes are not among them.
    logits_at_once: see `mean_loss`.
    """
    longest = sorted(rows, key=lambda row: len(row.tokens), reverse=True)[:at_once]
    forests = cheaper_merged(longest) if may_merge(model, rows, "tree") else [PrefixTree([row]) for row in longest]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles: list[Any] = [parameter.register_post_accumulate_grad_hook(_drop) for parameter in trained]
    inputs = model.get_input_embeddings()
    if sparse := getattr(inputs, "sparse", False):
        # What has no numbers has no sparse gradient either. It is small, but the sum with the output's is made anew.
        handles.append(inputs.register_forward_hook(lambda module, given, read: read.detach().requires_grad_()))
    model.train()
    try:
        found = _peak(model, lambda: _loss(model, forests, logits_at_once).backward())
    finally:
        model.eval()
        for handle in handles:
            handle.remove()
    return max(found, 2 * inputs.weight.nbytes) if sparse else found


def ranking_pass(model: CausalModel, asks: Sequence[Request]) -> int:
    """Bytes that the heaviest pass of ranking these prompts' candidates takes."""
    forests = Scorer(model, method="tree").largest(asks)

    def ranked() -> None:
        with torch.inference_mode():
            torch.logsumexp(_logits(model, forests), -1)

    return _peak(model, ranked)


def _peak(model: CausalModel, go_through: Callable[[], object]) -> int:
    """The most bytes alive at once. Of many equal layers two are enough: every further one adds what the second did."""
    parent, name, layers = stack_of(model)
    if len(layers) < 4:
        return _alive(model, go_through)
    try:
        setattr(parent, name, layers[:1])
        first = _alive(model, go_through)
        setattr(parent, name, layers[:2])
        return first + (_alive(model, go_through) - first) * (len(layers) - 1)
    finally:
        setattr(parent, name, layers)


def _alive(model: CausalModel, go_through: Callable[[], object]) -> int:
    live = _Live([*model.parameters(), *model.buffers()])
    with live:
        go_through()
    return live.peak


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _loss(model: CausalModel, forests: Sequence[PrefixTree], logits_at_once: int = 0) -> Tensor:
    read, fed = _fed(model, forests)
    place = None if read.places is None else read.places.to(META)
    return mean_loss(model, fed, read.scored.to(META), place, read.token.to(META), logits_at_once)


def _logits(model: CausalModel, forests: Sequence[PrefixTree]) -> Tensor:
    read, fed = _fed(model, forests)
    with logits_only_at(model, read.scored.to(META)):
        logits: Tensor = model(**fed, use_cache=False).logits[0].float()
    return logits


def _fed(model: CausalModel, forests: Sequence[PrefixTree]) -> tuple[Batch, dict[str, Tensor]]:
    """A batch, and what a model without numbers is called with for it."""
    read = collate(forests, model.dtype)
    # Always the additive mask of forests: models look into the other one, and here there is nothing to see.
    width = read.tokens.shape[1]
    mask = torch.zeros(len(forests), 1, width, width, dtype=model.dtype, device=META)
    return read, {
        "input_ids": read.tokens.to(META), "position_ids": read.positions.to(META), "attention_mask": mask
    }  # fmt: skip


#: A forecast is wrong by less than this factor (benchmarks/memory_forecast.py).
MARGIN = 1.2
#: What a process takes on a processor without any model: the interpreter with torch and transformers, and the
#: tokenizer for each of its tokens. Measured with torch 2.13 on Linux.
PROCESS, PROCESS_A_TOKEN = 430_000_000, 1300
#: What a run then loads and keeps beside its model, and what is not given back: measured 57 to 101 MB on Linux.
RUN = 60_000_000
#: The library that adapters come from, with those that it looks for.
ADAPTERS = 60_000_000
#: The library that 8-bit optimisers come from, which that of adapters loads too: measured 47 MB on Linux.
EIGHT_BITS = 50_000_000
#: So many rows and prompts of a pack are looked at; more of them take no more memory.
ROWS, PROMPTS = 2048, 512
Item = TypeVar("Item")


@dataclass(frozen=True)
class Work:
    """What a run computes: rows to train on and prompts with candidates to rank, a sample of them if they are many."""

    rows: Sequence[Example]
    asks: Sequence[Request]

    @classmethod
    def of(cls, pack: Pack, encode: Encoder) -> Work:
        """The rows and prompts of a pack. Raises PackError as `continuation` does."""
        found = []
        for fact in evenly(pack.facts, ROWS):
            before, after = continuation(encode, pack, pack.prompt(fact.relation, fact.subject), fact.answer)
            found.append(Example(tuple(before + after), len(before)))
        keys = {(each.question.relation, each.question.subject, each.prompt): None
                for each in Evaluation(pack, encode).items}  # fmt: skip
        return cls(found, [ask(encode, pack, *key) for key in evenly(list(keys), PROMPTS)])


@dataclass(frozen=True)
class Forecast:
    """Bytes that a run takes with this micro-batch, by what takes them.

    process: all that is no model's, of the run too. stored: the file that weights are read from, if they change their
    type on the way. weights: the model. trained: the copies of weights that are trained. sums: what AdamW keeps of
    them. gradients: those summed over several micro-batches. step: one micro-batch forward and backward, or one update
    where that takes more. ranking: one pass of it. reading: one passage of plain text, after training. merging: a whole
    model that an adapter is folded into then. traced: whether the passes were gone through, or only guessed.
    """

    micro_batch: int
    process: int
    stored: int
    weights: int
    trained: int
    sums: int
    gradients: int
    step: int
    ranking: int
    reading: int
    merging: int
    traced: bool

    @property
    def needed(self) -> int:
        """The least that lets the run go on."""
        training = self.sums + max(self.gradients + self.step, self.ranking)
        return self.process + self.weights + self.trained + max(training, self.reading, self.merging)

    @property
    def peak(self) -> int:
        """The most that it will be seen to hold; a file being read is held only as long as nobody else wants room."""
        return max(self.needed, self.process + self.weights + self.stored)

    def as_json(self) -> dict[str, Any]:
        """The parts, and what they come to."""
        return {**dataclasses.asdict(self), "needed": self.needed, "peak": self.peak}


class Forecaster:
    """Foretells one run for any micro-batch.

    config: of the model. save_merged: whether an adapter is folded into a whole model at the end. process: bytes that
    the process takes without a model, if they are known. device: where it will compute; a GPU's context is not counted.
    Raises what transformers raises for a configuration of no language model.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        training: Training,
        work: Work,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        save_merged: bool = False,
        process: int | None = None,
    ) -> None:
        self.training, self.work, self.dtype = training, work, getattr(torch, dtype)
        self.vocabulary: int = config.get_text_config().vocab_size
        processor = torch.device(device).type == "cpu"
        self.process = process if process is not None else self._process() if processor else 0
        self.kept = RUN if processor else 0
        stored = getattr(torch, str(getattr(config, "dtype", None) or dtype).removeprefix("torch."), self.dtype)
        model = on_meta_device(config, self.dtype)
        self.weights = _bytes(model.parameters())
        changes = processor and stored != self.dtype
        self.stored = self.weights * stored.itemsize // self.dtype.itemsize if changes else 0
        self.copy = trainable_copy(model, training)
        trained = {name: parameter for name, parameter in self.copy.named_parameters() if parameter.requires_grad}
        self.trained = _bytes(trained.values())
        self.sums = bytes_of_sums(trained.values(), training.optimiser)
        self.update = bytes_of_update(trained, training.optimiser, torch.device(device))
        # The logits of a passage, once more in single precision if they are not, and their logarithms.
        widths = self.dtype.itemsize * (self.dtype != torch.float32) + 8
        self.reading = min(WINDOW, longest_text(model) or WINDOW) * self.vocabulary * widths
        self.merging = self.weights if save_merged and training.lora else 0
        self._rank()

    def of(self, work: Work) -> Forecaster:
        """The same model and training with other rows and prompts."""
        found = copy.copy(self)
        found.work = work
        found._rank()
        return found

    def at(self, micro_batch: int) -> Forecast:
        """The forecast for so many rows at once."""
        rows = sorted((len(row.tokens) for row in self.work.rows), reverse=True)[:micro_batch]
        step, traced = self._passed(
            lambda: training_pass(self.copy, self.work.rows, micro_batch, self.training.logits_at_once), rows, kept=True
        )
        return Forecast(
            micro_batch=micro_batch,
            process=self.process + self.kept,
            stored=self.stored,
            weights=self.weights,
            trained=self.trained,
            sums=self.sums,
            gradients=self.trained if micro_batch < self.training.batch else 0,
            step=max(step, self.update),
            ranking=self.ranking,
            reading=self.reading,
            merging=self.merging,
            traced=traced and self._ranking_traced,
        )

    def fitting(self, room: int) -> Forecast:
        """The largest micro-batch that surely fits into so many bytes, or the one that takes the least."""
        tried = []
        rows = self.training.batch
        while True:
            tried.append(self.at(rows))
            if tried[-1].needed * MARGIN <= room or rows == 1:
                break
            rows //= 2
        return tried[-1] if tried[-1].needed * MARGIN <= room else min(tried, key=lambda each: each.needed)

    def _rank(self) -> None:
        asks = self.work.asks
        self.ranking, self._ranking_traced = self._passed(
            lambda: ranking_pass(self.copy, asks), [len(each.prompt) for each in asks], kept=False
        )

    def _process(self) -> int:
        return PROCESS + PROCESS_A_TOKEN * self.vocabulary + libraries(self.training)

    def _passed(self, trace: Callable[[], int], lengths: Sequence[int], kept: bool) -> tuple[int, bool]:
        """The bytes of a pass, and whether they were traced."""
        if not lengths:
            return 0, True
        try:
            with torch.random.fork_rng(devices=[]):
                return trace(), True
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
            return self._guessed(lengths, kept), False

    def _guessed(self, lengths: Sequence[int], kept: bool) -> int:
        """A rule of thumb, for models whose code must see numbers (some choose an expert for each token)."""
        config: Any = self.copy.config.get_text_config()
        width = 20 * config.hidden_size + 5 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
        tokens, layers = sum(lengths), config.num_hidden_layers if kept else 1
        scored = len(lengths)
        if kept and self.training.gradient_checkpointing:
            # What enters each layer, and one layer in full.
            width, layers = width + config.hidden_size * layers, 1
        if kept and self.training.logits_at_once:
            scored = min(scored, self.training.logits_at_once)
        return tokens * layers * width * self.dtype.itemsize + 4 * min(scored * self.vocabulary, 1 << 26) * 4


def libraries(training: Training) -> int:
    """Bytes of the libraries that a training loads beside torch and transformers."""
    return ADAPTERS if training.lora else EIGHT_BITS if training.optimiser == EIGHT_BIT else 0


def forecast(config: PretrainedConfig, training: Training, work: Work, *, micro_batch: int = 0, **how: Any) -> Forecast:
    """What a run will take; micro_batch: rows at once, 0 for the whole batch. The rest is as of Forecaster."""
    return Forecaster(config, training, work, **how).at(min(micro_batch or training.batch, training.batch))


def rough_encoder(vocabulary: int) -> Encoder:
    """Tokens about as many as a model's own would be, for a forecast without its tokenizer: a word each."""

    def encode(text: str) -> list[int]:
        words = [" " * (number > 0) + word for number, word in enumerate(text.split(" "))]
        pieces = [word[start : start + 8] for word in words for start in range(0, len(word), 8)]
        return [2, *(3 + crc32(piece.encode()) % (vocabulary - 3) for piece in pieces)]

    return encode


def on_meta_device(config: PretrainedConfig, dtype: torch.dtype) -> Any:
    attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    with META:
        # Of a copy, since the library notes the type in it.
        return AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, attn_implementation=attention
        ).eval()


def _bytes(parameters: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """So many of them at most, from beginning to end."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]
