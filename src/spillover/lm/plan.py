"""How much time runs will take on a device that need not be here, from a model's configuration alone."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from spillover.errors import ModelError, UsageError, nearest
from spillover.lm.evaluate import WINDOW, Evaluation
from spillover.lm.forecast import EXAMPLES, PROMPTS
from spillover.lm.load import base_of, load_config, quiet, resolve
from spillover.lm.score import CausalModel, PrefixTree, Scorer, cheaper_merged
from spillover.lm.tokens import Encoder, evenly, examples, free_examples, longest_text, of_texts, request
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
