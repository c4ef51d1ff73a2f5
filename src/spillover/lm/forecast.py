"""How much memory and time a run will take, from a model's configuration alone, on a device that need not be here.

Memory: its passes are traced on the meta device. Time: they are counted, and divided by the speed of the device.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import operator
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import cache
from heapq import nlargest
from importlib import resources
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from spillover.errors import ModelError, UsageError, nearest
from spillover.lm.evaluate import WINDOW, Evaluation
from spillover.lm.load import attention_of, base_of, load_config, quiet, resolve
from spillover.lm.score import CausalModel, PrefixTree, Scorer, TreeBatch, cheaper_merged, collate, logits_only_at
from spillover.lm.tokens import (
    Encoder,
    Example,
    Request,
    evenly,
    examples,
    free_examples,
    longest_text,
    of_texts,
    request,
)
from spillover.lm.train import EIGHT_BIT, NORMALISED, cut, may_merge, mean_loss, optimizer_bytes, shuffled, update_bytes
from spillover.lm.trainable import Training, stack_of, trainable_copy
from spillover.packs.pack import Pack

META = torch.device("meta")
#: A forecast is wrong by less than this factor (benchmarks/memory_forecast.py).
MARGIN = 1.2
#: Bytes of a process on a CPU without any model: the interpreter with torch and transformers, and the tokenizer for
#: each of its tokens. Measured with torch 2.13 on Linux.
PROCESS, PROCESS_A_TOKEN = 430_000_000, 1300
#: What a run then loads and keeps beside its model, and what is not given back: measured 57 to 101 MB on Linux, and
#: 20 MB more with what is warranted (lm.judge). The library of adapters, with those that it looks for, and that of
#: 8-bit optimizers among them: measured 47 MB. Kernels of bfloat16, made as they are needed by a processor that has
#: instructions for them: measured 50 MB, and 0 MB by one that has none.
RUN, ADAPTERS, EIGHT_BITS, HALF = 95_000_000, 60_000_000, 50_000_000, 45_000_000
#: The most examples and prompts of a pack that are looked at; more of them take no more memory.
EXAMPLES, PROMPTS = 2048, 512


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still alive; `peak` is the most there were at once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        tensors = (each for each in tree_leaves(made) if isinstance(each, Tensor) and each.layout == torch.strided)
        for storage in (tensor.untyped_storage() for tensor in tensors):
            if storage not in self._known:
                size = storage.nbytes()
                self._known.add(storage)
                weakref.finalize(storage, self._freed, size)
                self.now += size
                self.peak = max(self.peak, self.now)
        return made

    def _freed(self, size: int) -> None:
        self.now -= size


def training_pass(model: CausalModel, batch: Sequence[Example], at_once: int, logits_at_once: int = 0) -> int:
    """Bytes of the heaviest forward and backward pass of `at_once` examples, each gradient dropped once it is there."""
    longest = sorted(batch, key=lambda example: len(example.tokens), reverse=True)[:at_once]
    trees = cheaper_merged(longest, may_merge(model, batch, "tree"))
    inputs = model.get_input_embeddings()
    sparse = getattr(inputs, "sparse", False)
    with ExitStack() as stack:
        for weight in (each for each in model.parameters() if each.requires_grad):
            stack.enter_context(weight.register_post_accumulate_grad_hook(lambda each: setattr(each, "grad", None)))
        if sparse:
            # The meta device has no sparse gradients. They are small, but the sum with the output's is made anew.
            detached = inputs.register_forward_hook(lambda module, given, read: read.detach().requires_grad_())
            stack.enter_context(detached)
        stack.callback(model.eval)
        model.train()
        found = _peak(model, lambda: traced_loss(model, trees, logits_at_once).backward())
    return max(found, 2 * inputs.weight.nbytes) if sparse else found


def ranking_pass(model: CausalModel, requests: Sequence[Request]) -> int:
    """Bytes that the heaviest pass of ranking these prompts' candidates takes."""
    scorer = Scorer(model, method="tree")
    trees = max(scorer.passes(requests), key=scorer.size)

    def ranked() -> None:
        batch = _batch(model, trees)
        with torch.inference_mode(), logits_only_at(model, batch.scored):
            torch.logsumexp(model(**batch.fed, use_cache=False).logits[0].float(), -1)

    return _peak(model, ranked)


def _peak(model: CausalModel, run: Callable[[], object]) -> int:
    """The most bytes alive at once. Of many equal layers two are enough: each further one adds what the second did."""
    parent, name, layers = stack_of(model)
    if len(layers) < 4:
        return bytes_alive(model, run)
    try:
        setattr(parent, name, layers[:1])
        first = bytes_alive(model, run)
        setattr(parent, name, layers[:2])
        return first + (bytes_alive(model, run) - first) * (len(layers) - 1)
    finally:
        setattr(parent, name, layers)


def bytes_alive(model: CausalModel, run: Callable[[], object]) -> int:
    """The most bytes of tensors, beside the model's own, that were alive at once while `run` ran."""
    with _Live([*model.parameters(), *model.buffers()]) as live:
        run()
    return live.peak


def traced_loss(model: CausalModel, trees: Sequence[PrefixTree], logits_at_once: int = 0) -> Tensor:
    """The training loss of a model on the meta device."""
    return mean_loss(model, _batch(model, trees), logits_at_once)


def _batch(model: CausalModel, trees: Sequence[PrefixTree]) -> TreeBatch:
    """A batch on the meta device."""
    batch = collate(trees, model.dtype)
    # Always the additive mask of trees: models look into the other one, and here there is nothing to see.
    width = batch.tokens.shape[1]
    mask = torch.zeros(len(trees), 1, width, width, dtype=model.dtype, device=META)
    return dataclasses.replace(batch, mask=mask).to(META)


@dataclass(frozen=True)
class Work:
    """What a run computes: examples to train on and prompts with candidates to rank, a sample of them if many."""

    examples: Sequence[Example]
    requests: Sequence[Request]

    @classmethod
    def of(cls, pack: Pack, encode: Encoder) -> Work:
        """The examples and prompts of a pack, its free text included: of that the longest, which take the most memory.

        Raises PackError as `continuation` does.
        """
        some = dataclasses.replace(pack, facts=tuple(evenly(pack.facts, EXAMPLES)))
        turns = nlargest(EXAMPLES, (turn for row in pack.free for turn in row), key=lambda turn: sum(map(len, turn)))
        free = free_examples(encode, of_texts(dataclasses.replace(pack, free=tuple((turn,) for turn in turns))), None)
        keys = list(Evaluation(pack, encode).prompts(full=True))
        return cls(examples(encode, some) + free, [request(encode, pack, *key) for key in evenly(keys, PROMPTS)])


@dataclass(frozen=True)
class Forecast:
    """Bytes that a run takes with this micro-batch, by what takes them.

    process: without the model. stored: the file that weights are read from, if they change their type on the way.
    trained: the copies of weights that are trained. gradients: those summed over several micro-batches. step: one
    micro-batch forward and backward, or one update where that takes more. ranking: one pass. reading: one passage of
    plain text, after training. merging: what is made anew to fold an adapter in, or to open what was saved. traced:
    not only guessed.
    """

    micro_batch: int
    process: int
    stored: int
    weights: int
    trained: int
    optimizer_state: int
    gradients: int
    step: int
    ranking: int
    reading: int
    merging: int
    traced: bool

    @property
    def needed(self) -> int:
        """The least that lets the run go on."""
        training = self.optimizer_state + max(self.gradients + self.step, self.ranking)
        return self.process + self.weights + self.trained + max(training, self.reading, self.merging)

    @property
    def peak(self) -> int:
        """The most that it will be seen to hold; a file being read is held only while nobody else needs the memory."""
        return max(self.needed, self.process + self.weights + self.stored)

    def as_json(self) -> dict[str, Any]:
        """The parts, and their sums `needed` and `peak`."""
        return {**dataclasses.asdict(self), "needed": self.needed, "peak": self.peak}


def has_bfloat16_kernels() -> bool:
    """Whether the processor has instructions for bfloat16, so that kernels are made for them."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Forecaster:
    """Estimates the memory of one run for any micro-batch; a GPU's context is not counted.

    save: what is kept of the model. Raises what transformers raises for a configuration of no language model.
    """

    def __init__(
        self, config: PretrainedConfig, training: Training, work: Work, *, dtype: str = "float32", device: str = "cpu",
        save: str = "none",
    ) -> None:  # fmt: skip
        self.training, self.work, self.dtype = training, work, getattr(torch, dtype)
        self.vocabulary: int = config.get_text_config().vocab_size
        on_cpu = torch.device(device).type == "cpu"
        self.process = PROCESS + PROCESS_A_TOKEN * self.vocabulary + libraries(training) if on_cpu else 0
        self.run = RUN + HALF * (self.dtype == torch.bfloat16 and has_bfloat16_kernels()) if on_cpu else 0
        stored = getattr(torch, str(getattr(config, "dtype", None) or dtype).removeprefix("torch."), self.dtype)
        model = on_meta_device(config, self.dtype)
        self.weights = sum(parameter.nbytes for parameter in model.parameters())
        self.file = self.weights * stored.itemsize // self.dtype.itemsize
        self.stored = self.file if on_cpu and stored != self.dtype else 0
        self.copy = trainable_copy(model, training)
        trained = [parameter for parameter in self.copy.parameters() if parameter.requires_grad]
        self.trained = sum(parameter.nbytes for parameter in trained)
        self.optimizer_state = optimizer_bytes(trained, training.optimizer)
        self.update = update_bytes(trained, training.optimizer, torch.device(device))
        # The logits of a passage, once more in single precision if they are not, and their logarithms.
        widths = self.dtype.itemsize * (self.dtype != torch.float32) + 8
        self.reading = min(WINDOW, longest_text(model) or WINDOW) * self.vocabulary * widths
        ends = {each.weight for each in (model.get_input_embeddings(), model.get_output_embeddings())}
        own = sum(each.nbytes for each in ends) if training.lora else self.trained
        self.merging = {"weights": self.weights, "delta": own}.get(save, 0)
        self._rank()

    def of(self, work: Work) -> Forecaster:
        """The same model and training with other examples and prompts."""
        found = copy.copy(self)
        found.work = work
        found._rank()
        return found

    def at(self, micro_batch: int) -> Forecast:
        """The forecast for this many examples at once."""
        examples, logits = self.work.examples, self.training.logits_at_once
        lengths = sorted((len(each.tokens) for each in examples), reverse=True)[:micro_batch]
        trace = functools.partial(training_pass, self.copy, examples, micro_batch, logits)
        step, traced = self._passed(trace, lengths, training=True)
        together = self.training.optimizer == NORMALISED
        same = ("stored", "weights", "trained", "optimizer_state", "ranking", "reading", "merging")
        return Forecast(
            micro_batch=micro_batch,
            process=self.process + self.run,
            gradients=self.trained if micro_batch < self.training.batch or together else 0,
            step=max(step, self.update),
            traced=traced and self._ranking_traced,
            **{name: getattr(self, name) for name in same},
        )

    def fitting(self, room: int) -> Forecast:
        """The largest micro-batch that surely fits into this many bytes, or the one that takes the least."""
        tried, size = [self.at(self.training.batch)], self.training.batch
        while tried[-1].needed * MARGIN > room and size > 1:
            size //= 2
            tried.append(self.at(size))
        return tried[-1] if tried[-1].needed * MARGIN <= room else min(tried, key=lambda each: each.needed)

    def _rank(self) -> None:
        requests = self.work.requests
        trace, lengths = functools.partial(ranking_pass, self.copy, requests), [len(each.prompt) for each in requests]
        self.ranking, self._ranking_traced = self._passed(trace, lengths, training=False)

    def _passed(self, trace: Callable[[], int], lengths: Sequence[int], training: bool) -> tuple[int, bool]:
        """The bytes of a pass, and whether they were traced."""
        if not lengths:
            return 0, True
        try:
            with torch.random.fork_rng(devices=[]):
                return trace(), True
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
            return self._guessed(lengths, training), False

    def _guessed(self, lengths: Sequence[int], training: bool) -> int:
        """A rule of thumb, for models whose code must see numbers (some choose an expert for each token)."""
        config: Any = self.copy.config.get_text_config()
        width = 20 * config.hidden_size + 5 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
        layers, scored = config.num_hidden_layers if training else 1, len(lengths)
        if training and self.training.gradient_checkpointing:
            # What enters each layer, and one layer in full.
            width, layers = width + config.hidden_size * layers, 1
        if training and self.training.logits_at_once:
            scored = min(scored, self.training.logits_at_once)
        return sum(lengths) * layers * width * self.dtype.itemsize + 4 * min(scored * self.vocabulary, 1 << 26) * 4


def libraries(training: Training) -> int:
    """Bytes of the libraries that a training loads beside torch and transformers."""
    return ADAPTERS if training.lora else EIGHT_BITS if training.optimizer == EIGHT_BIT else 0


def rough_encoder(vocabulary: int) -> Encoder:
    """Tokens about as many as a model's own would be, for a forecast without its tokenizer: a word each."""

    def encode(text: str) -> list[int]:
        words = [" " * (number > 0) + word for number, word in enumerate(text.split(" "))]
        pieces = [word[start : start + 8] for word in words for start in range(0, len(word), 8)]
        return [2, *(3 + crc32(piece.encode()) % (vocabulary - 3) for piece in pieces)]

    return encode


def on_meta_device(config: PretrainedConfig, dtype: torch.dtype) -> CausalModel:
    """The model of a configuration without weights."""
    how: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention_of(config)}
    with META:
        # Of a copy, since the library notes the type in it.
        return AutoModelForCausalLM.from_config(copy.deepcopy(config), **how).eval()


#: The shares of a GPU's peak that small batches of a language model are taken to reach in matrix products and in moving
#: weights; seconds that starting the work of a layer takes, forward, and forward, backward and AdamW. Assumed from what
#: such models usually reach, not measured here.
COMPUTING, MOVING, LAYER, TRAINED_LAYER = 0.4, 0.7, 5e-4, 2e-3
#: Bytes of a GPU's memory that its context and a fragmented heap take.
CONTEXT = 1_500_000_000
#: Of a CPU, operations a second of one thread and bytes a second, as they fit the runs of a model of 270 million
#: parameters that were least disturbed (benchmarks/plan.py). In bfloat16 it is taken to be no faster.
THREAD, MOVED = 94e9, 4.7e9
#: Times that AdamW reads or writes a number for each trained weight: the weight, its gradient and both moments are
#: read, the weight and both moments written, and the gradient was written before.
TOUCHED = 8
#: Seconds of every run beside the model: its pack, tokens, metrics with their intervals, tables (measured here).
BESIDE = 12.0
Number = int | float


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """Tag -> the numbers that make up its configuration: widths, heads, layers, vocabulary, and how it is stored."""
    return json.loads(resources.files("spillover.lm").joinpath("configurations.json").read_text(encoding="utf-8"))


def config_at_hand(name: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model by name; of an adapter, its base's. Nothing is fetched; ModelError when not here."""
    if name in shipped():
        own = dict(shipped()[name])
        return AutoConfig.for_model(own.pop("model_type"), **own)
    source = resolve(name)
    if source.adapter:
        return config_at_hand(base_of(source), revision)
    if source.local:
        return load_config(name, revision)
    try:
        own = {"revision": revision or "main", "local_files_only": True, "trust_remote_code": False}
        with quiet():
            return AutoConfig.from_pretrained(source.path, **own)
    except Exception:
        # The library raises bare Exception subclasses for what is not there and for what is damaged.
        do = f"Fetch it once with `hf download {name} config.json`, or name a local folder"
        raise ModelError("the configuration of this model is not on this machine", where=name, do=do) from None


@dataclass(frozen=True)
class Device:
    """One place for a run.

    memory: bytes that a run may take. float32, bfloat16: operations a second that it reaches in matrix products, for a
    CPU of one thread. bandwidth: bytes a second that it reaches. layer, trained_layer: seconds that starting the work
    of a layer takes, forward and in training. measured: whether its speeds were measured with this program.
    """

    name: str
    memory: float
    float32: float
    bfloat16: float
    bandwidth: float
    layer: float = LAYER
    trained_layer: float = TRAINED_LAYER
    is_cpu: bool = False
    measured: bool = False


def _card(name: str, gigabytes: float, float32: float, bfloat16: float, bandwidth: float) -> Device:
    rates = (float32 * 1e12 * COMPUTING, bfloat16 * 1e12 * COMPUTING, bandwidth * 1e9 * MOVING)
    return Device(name, gigabytes * 1e9 - CONTEXT, *rates)


#: From data sheets: 10^9 bytes that programs can take (a sheet's gigabytes are binary, and error correction takes a
#: part of some), 10^12 operations a second of dense products in float32 without and in bfloat16 with tensor cores, and
#: 10^9 bytes a second.
_SHEETS = {
    "l4-24": (23.6, 30.3, 121.0, 300.0),
    "rtx-4090-24": (25.2, 82.6, 165.0, 1008.0),
    "a100-40": (42.3, 19.5, 312.0, 1555.0),
    "l40s-48": (47.7, 91.6, 362.0, 864.0),
    "a100-80": (84.9, 19.5, 312.0, 2039.0),
    "h100-80": (84.9, 67.0, 989.0, 3350.0),
    "h200-141": (150.0, 67.0, 989.0, 4800.0),
}
CARDS: Mapping[str, Device] = {name: _card(name, *numbers) for name, numbers in _SHEETS.items()}


def cpu_device(memory: float) -> Device:
    """A CPU like the one that was measured, with this many bytes of memory to take."""
    return Device("cpu", memory, THREAD, THREAD, MOVED, layer=0.0, trained_layer=0.0, is_cpu=True, measured=True)


def device(name: str, *, memory: float = 0.0, tflops: float = 0.0, bandwidth: float = 0.0, room: int = 0) -> Device:
    """A device by name, or one described by all three numbers, which also replace those of a named one; their units are
    those of `sweep`'s options. room: bytes that a run could take on this machine, for `cpu`. Raises UsageError."""
    if name == "cpu":
        found = cpu_device(float(room))
    elif name in CARDS:
        found = CARDS[name]
    elif name:
        raise UsageError(f"there is no device called {name!r}", where="--on", do=nearest(name, ["cpu", *CARDS]))
    elif memory and tflops and bandwidth:
        found = _card("described", memory, tflops, tflops, bandwidth)
    else:
        do = "Give --memory, --tflops and --bandwidth together, or name a device with --on"
        raise UsageError("this describes no whole device", where="spillover sweep --plan", do=do)
    rate = tflops * 1e12 * COMPUTING
    return replace(
        found,
        memory=memory * 1e9 - CONTEXT * (not found.is_cpu) if memory else found.memory,
        float32=rate or found.float32,
        bfloat16=rate or found.bfloat16,
        bandwidth=bandwidth * 1e9 * MOVING or found.bandwidth,
    )


@dataclass(frozen=True)
class Passes:
    """Passes through a model, as many as `count`, and of all together: tokens fed, those that fill up too; pairs of
    tokens that attention compares; positions at which logits are computed."""

    count: Number = 0
    tokens: Number = 0
    pairs: Number = 0
    logits: Number = 0

    @classmethod
    def of(cls, batches: Iterable[Sequence[PrefixTree]]) -> Passes:
        """A pass for each batch of trees."""
        total = cls()
        for trees in batches:
            width = max(map(len, trees))
            tokens = len(trees) * width
            total += cls(1, tokens, tokens * width, sum(len(tree.scored) for tree in trees))
        return total

    def __add__(self, other: Passes) -> Passes:
        return Passes(*map(operator.add, astuple(self), astuple(other)))

    def __mul__(self, times: Number) -> Passes:
        return Passes(*(own * times for own in astuple(self)))


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model that its cost depends on, in numbers.

    matrices: weights that each token is multiplied with. vocabulary: weights of the output embedding. trained, all: of
    all weights. attended: numbers that a pair of tokens takes part in. itemsize: bytes a weight.
    """

    matrices: int
    trained_matrices: int
    vocabulary: int
    trains_vocabulary: bool
    trained: int
    all: int
    attended: int
    layers: int
    itemsize: int

    @classmethod
    def of(cls, model: CausalModel) -> Sizes:
        """Of what `trainable_copy` gives. All experts of a mixture count for each token, more than is computed."""
        config, outputs = model.config.get_text_config(), model.get_output_embeddings()
        embeddings = {id(module.weight) for module in (model.get_input_embeddings(), outputs)}
        inner = [each for each in model.parameters() if each.dim() > 1 and id(each) not in embeddings]
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            matrices=sum(each.numel() for each in inner),
            trained_matrices=sum(each.numel() for each in inner if each.requires_grad),
            vocabulary=outputs.weight.numel(),
            trains_vocabulary=outputs.weight.requires_grad,
            trained=sum(each.numel() for each in model.parameters() if each.requires_grad),
            all=sum(each.numel() for each in model.parameters()),
            attended=2 * config.num_hidden_layers * config.num_attention_heads * head,
            layers=config.num_hidden_layers,
            itemsize=outputs.weight.element_size(),
        )


@dataclass(frozen=True)
class Workload:
    """What one run computes: passes in training, ranking and plain text; steps of AdamW; rows of answers."""

    sizes: Sizes
    training: Passes
    asking: Passes
    reading: Passes
    steps: Number
    answers: int

    @classmethod
    def of(
        cls, model: CausalModel, taught: Pack, asked: Pack, training: Training, encode: Encoder, *,
        texts: Sequence[str], epochs: int, evaluate_every: int, micro_batch: int = 0, lines: int = 0, prompts: int = 1,
    ) -> Workload:  # fmt: skip
        """Counted on the very trees that a run would feed; of a large pack, on a sample.

        taught: the pack whose rows are trained on; asked: the one that is evaluated, in full before and after and in
        part in between. micro_batch: examples at once, 0 for the batch. lines: texts trained beside the rows. prompts:
        in how many of its relation's each row is trained.
        """
        stated = len(taught.facts)
        picked = evenly(range(stated + len(taught.free)), EXAMPLES)
        facts = tuple(taught.facts[place] for place in picked if place < stated)
        free = tuple(taught.free[place - stated] for place in picked if place >= stated)
        some = examples(encode, replace(taught, facts=facts), prompts)
        some += free_examples(encode, of_texts(replace(taught, free=free)), longest_text(model))
        times = epochs * ((stated + len(taught.free)) / max(1, len(picked)) + lines / max(1, len(some)))
        batches, merge = shuffled(some, training, 1), bool(some) and may_merge(model, some, "tree")
        parts = [part for batch in batches for part in cut(batch, micro_batch or training.batch)]
        epoch = Passes.of(cheaper_merged(part) if merge else [PrefixTree([each]) for each in part] for part in parts)
        evaluation, scorer, asking, answers = Evaluation(asked, encode), Scorer(model, method="tree"), Passes(), 0
        for full, count in ((True, 2), (False, (epochs - 1) // evaluate_every)):
            keys = list(evaluation.prompts(full))
            some_keys = evenly(keys, PROMPTS)
            fed = Passes.of(scorer.passes([request(encode, asked, *key) for key in some_keys]))
            asking += fed * (count * len(keys) / max(1, len(some_keys)))
            answers += count * sum(len(asked.candidates[each.question.relation]) for each in evaluation.items(full))
        lengths = [len(encode(text)[:WINDOW]) for text in texts]
        return cls(
            sizes=Sizes.of(model),
            training=epoch * times,
            asking=asking,
            # A passage a pass, with logits behind every token.
            reading=sum((Passes(1, length, length**2, length - 1) for length in lengths), Passes()),
            steps=len(batches) * times,
            answers=answers,
        )


@dataclass(frozen=True)
class Seconds:
    """One run, by what takes the time. Loading the model is left out, since a worker loads it once for many runs."""

    training: float
    updating: float
    asking: float
    reading: float
    beside: float = BESIDE

    @property
    def total(self) -> float:
        return self.training + self.updating + self.asking + self.reading + self.beside


def seconds(work: Workload, device: Device, *, dtype: str = "float32", threads: int = 1) -> Seconds:
    """Estimated for a device in a number format. threads: of a CPU that the run has.

    A pass takes as long as its products or as moving the weights, whichever is longer; a CPU's products include it.
    """
    rate, sizes = getattr(device, dtype) * (threads if device.is_cpu else 1), work.sizes

    def passes(some: Passes, trained: bool = False) -> float:
        """Forward: a multiplication and an addition for each weight and pair. In training as many for what flows back,
        and once more for each trained weight."""
        attended = sizes.attended * some.pairs
        operations = 2 * (sizes.matrices * some.tokens + attended + sizes.vocabulary * some.logits)
        if trained:
            learned = sizes.vocabulary * some.logits if sizes.trains_vocabulary else 0
            operations = 2 * operations + 2 * (sizes.trained_matrices * some.tokens + attended + learned)
        moved = 0 if device.is_cpu else (1 + trained) * sizes.all * sizes.itemsize * some.count
        starting = some.count * sizes.layers * (device.trained_layer if trained else device.layer)
        return max(operations / rate, moved / device.bandwidth) + starting

    return Seconds(
        training=passes(work.training, trained=True),
        updating=TOUCHED * sizes.trained * sizes.itemsize * work.steps / device.bandwidth,
        asking=passes(work.asking),
        reading=passes(work.reading),
    )
