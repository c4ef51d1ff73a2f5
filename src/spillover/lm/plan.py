"""How much memory, time and disk runs will take on a device that need not be here, from configurations alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from spillover.errors import ModelError, UsageError, nearest
from spillover.lm.builtin import quiet
from spillover.lm.evaluate import Evaluation
from spillover.lm.forgetting import WINDOW
from spillover.lm.load import base_of, load_config, resolve
from spillover.lm.memory import PROMPTS, ROWS, evenly
from spillover.lm.micro_batch import cut
from spillover.lm.score import CausalModel, PrefixTree, Scorer, cheaper_merged
from spillover.lm.tokens import Encoder, Example, ask
from spillover.lm.train import Training, may_merge, shuffled
from spillover.packs.pack import Pack


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """Tag -> the numbers that make up its configuration: widths, heads, layers, vocabulary, and how it is stored."""
    text = resources.files("spillover.lm").joinpath("configurations.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def config_at_hand(name: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model by tag, folder or hub id; of an adapter, its base's. Nothing is fetched.

    Raises ModelError when there is no such model, or when its configuration is not on this machine.
    """
    if name in shipped():
        own = dict(shipped()[name])
        return AutoConfig.for_model(own.pop("model_type"), **own)
    source = resolve(name)
    if source.adapter:
        return config_at_hand(base_of(source), revision)
    if source.local:
        return load_config(name, revision)
    try:
        with quiet():
            return AutoConfig.from_pretrained(
                source.path, revision=revision or "main", local_files_only=True, trust_remote_code=False
            )
    except Exception:
        # The library raises bare Exception subclasses for what is not there and for what is damaged.
        do = f"Fetch it once with `hf download {name} config.json`, or name a local folder"
        raise ModelError("the configuration of this model is not on this machine", where=name, do=do) from None


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


Number = int | float


@dataclass(frozen=True)
class Passes:
    """Passes through a model, as many as `count`, and of all together: tokens fed, filled-up ones too; pairs of tokens
    that attention compares; positions at which logits are computed."""

    count: Number = 0
    tokens: Number = 0
    pairs: Number = 0
    logits: Number = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.count + other.count, self.tokens + other.tokens, self.pairs + other.pairs,
                      self.logits + other.logits)  # fmt: skip

    def __mul__(self, times: Number) -> Passes:
        return Passes(self.count * times, self.tokens * times, self.pairs * times, self.logits * times)


@dataclass(frozen=True)
class Sizes:
    """A model as a cost sees it. matrices: weights that each token is multiplied with; trained_matrices: those of them
    that are trained; vocabulary: weights of the output embedding; trains_vocabulary: whether they are trained; trained:
    all trained weights; all: all weights; attended: numbers that a pair of tokens takes part in; layers; itemsize:
    bytes a weight."""

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
        """The sizes of what `trainable_copy` gives; its weights may have no numbers. Of a mixture of experts, all of
        them count for each token, which is more than is computed."""
        config = model.config.get_text_config()
        outputs = model.get_output_embeddings()
        embeddings = {id(module.weight) for module in (model.get_input_embeddings(), outputs)}
        inner = [each for each in model.parameters() if each.dim() > 1 and id(each) not in embeddings]
        trained = [each for each in model.parameters() if each.requires_grad]
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            matrices=sum(each.numel() for each in inner),
            trained_matrices=sum(each.numel() for each in inner if each.requires_grad),
            vocabulary=outputs.weight.numel(),
            trains_vocabulary=outputs.weight.requires_grad,
            trained=sum(each.numel() for each in trained),
            all=sum(each.numel() for each in model.parameters()),
            attended=2 * config.num_hidden_layers * config.num_attention_heads * head,
            layers=config.num_hidden_layers,
            itemsize=outputs.weight.element_size(),
        )


@dataclass(frozen=True)
class Portion:
    """What a pack gives to compute. epoch: one epoch's forward and backward passes; steps: of AdamW in it; full, part:
    an examination in all words and in the trained words; full_rows, part_rows: the rows of answers that these leave."""

    epoch: Passes
    steps: Number
    full: Passes
    part: Passes
    full_rows: int
    part_rows: int

    @classmethod
    def of(
        cls, model: CausalModel, taught: Pack, asked: Pack, training: Training, encode: Encoder, *,
        micro_batch: int = 0, lines: int = 0,
    ) -> Portion:  # fmt: skip
        """Counted on the very forests that a run would feed; of a large pack, on a sample.

        model: a trainable copy, with or without numbers. taught: the pack whose rows are trained on; asked: the one
        that is asked about; lines: texts that are trained beside its rows. micro_batch: rows at once, 0 for the batch.
        """
        facts = evenly(taught.facts, ROWS)
        rows = [_row(encode, taught, fact.relation, fact.subject, fact.answer) for fact in facts]
        times = (len(taught.facts) + lines) / max(1, len(rows))
        batches, merge = list(shuffled(rows, training, 1)), bool(rows) and may_merge(model, rows, "tree")
        parts = [part for batch in batches for part in cut(batch, micro_batch or training.batch)]
        epoch = _together(cheaper_merged(part) if merge else [PrefixTree([row]) for row in part] for part in parts)
        full, full_rows = _examined(model, asked, encode, full=True)
        part, part_rows = _examined(model, asked, encode, full=False)
        return cls(epoch * times, len(batches) * times, full, part, full_rows, part_rows)


@dataclass(frozen=True)
class Workload:
    """One run. training: forward and backward passes; asking: of ranking; reading: of plain text, once a run; steps: of
    AdamW; answers: rows of the table of answers."""

    sizes: Sizes
    training: Passes
    asking: Passes
    reading: Passes
    steps: Number
    answers: int

    @classmethod
    def of(cls, sizes: Sizes, portion: Portion, reading: Passes, epochs: int, evaluate_every: int) -> Workload:
        """A run of so many epochs, examined in full before and after and in part in between."""
        between = (epochs - 1) // evaluate_every
        return cls(
            sizes=sizes,
            training=portion.epoch * epochs,
            asking=portion.full * 2 + portion.part * between,
            reading=reading,
            steps=portion.steps * epochs,
            answers=2 * portion.full_rows + between * portion.part_rows,
        )


def reading(texts: Sequence[str], encode: Encoder) -> Passes:
    """Plain text, a passage a pass, with logits behind every token."""
    lengths = [len(encode(text)[:WINDOW]) for text in texts]
    return sum((Passes(1, length, length**2, length - 1) for length in lengths), Passes())


def _row(encode: Encoder, pack: Pack, relation: str, subject: str, answer: str) -> Example:
    before = encode(pack.prompt(relation, subject))
    return Example(tuple(encode(pack.prompt(relation, subject) + pack.join + answer + (pack.end or ""))), len(before))


def _examined(model: CausalModel, pack: Pack, encode: Encoder, full: bool) -> tuple[Passes, int]:
    items = [item for item in Evaluation(pack, encode).items if full or item.prompt == 0]
    keys = dict.fromkeys((item.question.relation, item.question.subject, item.prompt) for item in items)
    some = evenly(list(keys), PROMPTS)
    fed = _together(Scorer(model, method="tree").passes([ask(encode, pack, *key) for key in some]))
    rows = sum(len(pack.candidates[item.question.relation]) for item in items)
    return fed * (len(keys) / max(1, len(some))), rows


def _together(passes: Iterable[Sequence[PrefixTree]]) -> Passes:
    return sum((_fed(forests) for forests in passes), Passes())


def _fed(forests: Sequence[PrefixTree]) -> Passes:
    width = max(map(len, forests))
    tokens = len(forests) * width
    return Passes(1, tokens, tokens * width, sum(len(forest.scored) for forest in forests))


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
