"""How much time runs will take on a device that need not be here, from a model's configuration alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from spillover.errors import ModelError, UsageError, nearest
from spillover.lm.evaluate import WINDOW, Evaluation
from spillover.lm.forecast import EXAMPLES, PROMPTS, evenly
from spillover.lm.load import base_of, load_config, quiet, resolve
from spillover.lm.score import CausalModel, PrefixTree, Scorer, cheaper_merged
from spillover.lm.tokens import Encoder, examples, request
from spillover.lm.train import cut, may_merge, shuffled
from spillover.lm.trainable import Training
from spillover.packs.pack import Pack

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


@dataclass(frozen=True)
class Device:
    """One place for a run.

    memory: bytes that a run may take. float32, bfloat16: operations a second that it reaches in matrix products, for a
    CPU of one thread. bandwidth: bytes a second that it reaches. layer, trained_layer: seconds that starting the work
    of a layer takes, in a pass forward and in a step of training. is_cpu: True for a CPU. measured: whether its speeds
    were measured with this program, or follow from a data sheet.
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
    """A GPU from its data sheet: 10^9 bytes that programs can take, 10^12 operations a second of dense products in
    float32 without and in bfloat16 with tensor cores, and 10^9 bytes a second."""
    rates = (float32 * 1e12 * COMPUTING, bfloat16 * 1e12 * COMPUTING, bandwidth * 1e9 * MOVING)
    return Device(name, gigabytes * 1e9 - CONTEXT, *rates)


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


def cpu_device(memory: float) -> Device:
    """A CPU like the one that was measured, with this many bytes of memory to take."""
    return Device("cpu", memory, THREAD, THREAD, MOVED, layer=0.0, trained_layer=0.0, is_cpu=True, measured=True)


def device(name: str, *, memory: float = 0.0, tflops: float = 0.0, bandwidth: float = 0.0, room: int = 0) -> Device:
    """A device by name, or one described by all three numbers, which also replace those of a named one.

    memory: 10^9 bytes; tflops: 10^12 operations a second at its peak, in the number format of the runs; bandwidth: 10^9
    bytes a second at its peak. room: bytes that a run could take on this machine, for `cpu`. Raises UsageError for a
    name that is not known, or a description that is not whole.
    """
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
    changes: dict[str, float] = {}
    if memory:
        changes["memory"] = memory * 1e9 - (0 if found.is_cpu else CONTEXT)
    if tflops:
        changes |= {"float32": tflops * 1e12 * COMPUTING, "bfloat16": tflops * 1e12 * COMPUTING}
    if bandwidth:
        changes["bandwidth"] = bandwidth * 1e9 * MOVING
    return replace(found, **changes)  # type: ignore[arg-type]


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
        return Passes(
            self.count + other.count, self.tokens + other.tokens, self.pairs + other.pairs, self.logits + other.logits
        )

    def __mul__(self, times: Number) -> Passes:
        return Passes(self.count * times, self.tokens * times, self.pairs * times, self.logits * times)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model that its cost depends on.

    matrices: weights that each token is multiplied with; trained_matrices: those of them that are trained; vocabulary:
    weights of the output embedding; trains_vocabulary: whether they are trained; trained: all trained weights; all: all
    weights; attended: numbers that a pair of tokens takes part in; itemsize: bytes a weight.
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
        """The sizes of what `trainable_copy` gives, on the meta device too.

        All experts of a mixture count for each token, which is more than is computed.
        """
        config = model.config.get_text_config()
        outputs = model.get_output_embeddings()
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
    """What one run computes.

    training: forward and backward passes; asking: passes of ranking; reading: passes of plain text, once a run; steps:
    of AdamW; answers: rows of the table of answers.
    """

    sizes: Sizes
    training: Passes
    asking: Passes
    reading: Passes
    steps: Number
    answers: int

    @classmethod
    def of(
        cls, model: CausalModel, taught: Pack, asked: Pack, training: Training, encode: Encoder, *,
        texts: Sequence[str], epochs: int, evaluate_every: int, micro_batch: int = 0, lines: int = 0,
    ) -> Workload:  # fmt: skip
        """Counted on the very trees that a run would feed; of a large pack, on a sample.

        model: a trainable copy, on the meta device or not. taught: the pack whose rows are trained on; asked: the one
        that is evaluated, in full before and after and in part in between. texts: plain passages. micro_batch: examples
        at once, 0 for the batch. lines: how many texts are trained beside the rows.
        """
        some = examples(encode, replace(taught, facts=tuple(evenly(taught.facts, EXAMPLES))))
        times = epochs * (len(taught.facts) + lines) / max(1, len(some))
        batches, merge = list(shuffled(some, training, 1)), bool(some) and may_merge(model, some, "tree")
        parts = [part for batch in batches for part in cut(batch, micro_batch or training.batch)]
        epoch = Passes.of(cheaper_merged(part) if merge else [PrefixTree([each]) for each in part] for part in parts)
        (full, full_rows), (part, part_rows) = (_evaluated(model, asked, encode, full) for full in (True, False))
        between = (epochs - 1) // evaluate_every
        lengths = [len(encode(text)[:WINDOW]) for text in texts]
        return cls(
            sizes=Sizes.of(model),
            training=epoch * times,
            asking=full * 2 + part * between,
            # A passage a pass, with logits behind every token.
            reading=sum((Passes(1, length, length**2, length - 1) for length in lengths), Passes()),
            steps=len(batches) * times,
            answers=2 * full_rows + between * part_rows,
        )


def _evaluated(model: CausalModel, pack: Pack, encode: Encoder, full: bool) -> tuple[Passes, int]:
    """Passes of one evaluation, and the rows of answers that it leaves."""
    evaluation = Evaluation(pack, encode)
    keys = list(evaluation.prompts(full))
    some = evenly(keys, PROMPTS)
    fed = Passes.of(Scorer(model, method="tree").passes([request(encode, pack, *key) for key in some]))
    rows = sum(len(pack.candidates[item.question.relation]) for item in evaluation.items(full))
    return fed * (len(keys) / max(1, len(some))), rows


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
        """All of it."""
        return self.training + self.updating + self.asking + self.reading + self.beside


def seconds(work: Workload, device: Device, *, dtype: str = "float32", threads: int = 1) -> Seconds:
    """Estimated for a device in a number format. threads: of a CPU that the run has.

    A pass takes as long as its products or as moving the weights, whichever is longer; of a CPU the speed of products
    was measured on such passes, and so includes the moving.
    """
    rate, sizes = getattr(device, dtype) * (threads if device.is_cpu else 1), work.sizes

    def forward(some: Passes) -> Number:
        """Multiplications and additions of passes forward."""
        return 2 * (sizes.matrices * some.tokens + sizes.attended * some.pairs + sizes.vocabulary * some.logits)

    def backward(some: Passes) -> Number:
        """As many as forward for what flows back, and once more for each trained weight."""
        trained = sizes.trained_matrices * some.tokens + sizes.attended * some.pairs
        trained += sizes.vocabulary * some.logits if sizes.trains_vocabulary else 0
        return forward(some) + 2 * trained

    def passes(some: Passes, operations: Number, times: int, layer: float) -> float:
        moved = 0 if device.is_cpu else times * sizes.all * sizes.itemsize * some.count
        return max(operations / rate, moved / device.bandwidth) + some.count * sizes.layers * layer

    return Seconds(
        training=passes(work.training, forward(work.training) + backward(work.training), 2, device.trained_layer),
        updating=TOUCHED * sizes.trained * sizes.itemsize * work.steps / device.bandwidth,
        asking=passes(work.asking, forward(work.asking), 1, device.layer),
        reading=passes(work.reading, forward(work.reading), 1, device.layer),
    )
