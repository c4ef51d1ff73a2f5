"""What a run of `inject` will take of memory, from a model's configuration alone: no weight is read."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from zlib import crc32

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from spillover.facts.pack import Pack
from spillover.llm.examination import Examination
from spillover.llm.forgetting import WINDOW
from spillover.llm.memory.optimisers import EIGHT_BIT, bytes_of_sums, bytes_of_update
from spillover.llm.memory.tracing import META, ranking_pass, training_pass
from spillover.llm.tokens import Ask, Encoder, Row, ask, continuation, longest_text
from spillover.llm.training import Training
from spillover.llm.weights.trainable import trainable_copy

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

    rows: Sequence[Row]
    asks: Sequence[Ask]

    @classmethod
    def of(cls, pack: Pack, encode: Encoder) -> Work:
        """The rows and prompts of a pack. Raises PackError as `continuation` does."""
        found = []
        for fact in evenly(pack.facts, ROWS):
            before, after = continuation(encode, pack, pack.prompt(fact.relation, fact.subject), fact.answer)
            found.append(Row(tuple(before + after), len(before)))
        keys = {(each.question.relation, each.question.subject, each.prompt): None
                for each in Examination(pack, encode).items}  # fmt: skip
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
        model = without_numbers(config, self.dtype)
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


def without_numbers(config: PretrainedConfig, dtype: torch.dtype) -> Any:
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
