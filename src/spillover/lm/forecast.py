"""How much memory a run will take, from a model's configuration alone: its passes are traced on the meta device."""

from __future__ import annotations

import copy
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import nlargest
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig

from spillover.lm.evaluate import WINDOW, Evaluation
from spillover.lm.load import attention_of
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
from spillover.lm.train import EIGHT_BIT, NORMALISED, may_merge, mean_loss, optimizer_bytes, update_bytes
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
#: 8-bit optimizers among them: measured 47 MB. Kernels of bfloat16, made as they are needed: measured 50 MB.
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
        self.run = RUN + HALF * (self.dtype == torch.bfloat16) if on_cpu else 0
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
