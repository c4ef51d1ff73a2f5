"""Beyond one layer: softmax attention, more layers and heads, residuals, an MLP, learned embeddings; by autograd.

Without noise or positions a sequence is subject, relation, end. docs/theory.md, "Beyond the paper's model" and "The
embedding-MLP model".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import UsageError
from spillover.theory.models import ATTENTIONS, BagBatch, check_choices, views
from spillover.theory.symbolic import Task, exact_bags
from spillover.theory.training import Checkpointer, Probe, Recipe, Trainer, cross_entropy, leads, stacked_bags

#: What a Probe measures of a network, in the order of the trajectory's columns; `margin_ratios` come after it.
MEASURED = ("train_loss", "implication_loss_test", "implication_loss_among", "implication_accuracy_test")
ACTIVATIONS = ("linear", "relu")
#: The trained matrices of a network by name.
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """A network to train, factorised or merged.

    parameters: how each head's output-value matrix is written. heads: each head of a factorised layer has width / heads
    columns; each head of a merged layer has a full matrix. residual: whether a layer adds to its input. hidden: units
    of a ReLU network after each layer, 0 for none. embedding: width of learned input and output embeddings, 0 for
    one-hot tokens, which are not trained. scale: multiplies the start.
    """

    parameters: str = "factorised"
    attention: str = "linear"
    layers: int = 1
    heads: int = 1
    residual: bool = False
    hidden: int = 0
    embedding: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self, "architecture", parameters=("factorised", "merged"), attention=ATTENTIONS)
        if min(self.layers, self.heads) < 1 or min(self.hidden, self.embedding) < 0:
            raise UsageError("layers and heads start at 1, sizes at 0", where="architecture", do="Change the number")

    def shapes(self, vocabulary: int) -> Shapes:
        """Every trained matrix by name; the last axis but one is what it reads from."""
        width = self.embedding or vocabulary
        shapes: Shapes = {}
        for layer in range(self.layers):
            shapes[f"{layer}.W_KQ"] = (self.heads, width, width)
            if self.parameters == "merged":
                shapes[f"{layer}.W_OV"] = (self.heads, width, width)
            else:
                columns = max(1, width // self.heads)
                shapes |= {f"{layer}.W_V": (self.heads, width, columns), f"{layer}.W_O": (self.heads, columns, width)}
            if self.hidden:
                shapes |= {f"{layer}.in": (width, self.hidden), f"{layer}.out": (self.hidden, width)}
        if self.embedding:
            shapes |= {"embed": (vocabulary, width), "unembed": (width, vocabulary)}
        return shapes


@dataclass(frozen=True)
class EmbeddingMLP:
    """A network without attention, a product of matrices applied to the sum of two tokens: W_L ... W_1 (e_s + e_r).

    depth: matrices L. With 2 the tokens are one-hot and the network is an MLP; with 3 the first holds learned
    embeddings; more are further layers. width: of every layer between. activation: of the units that the last matrix
    reads from, linear or relu. scale: multiplies the start.
    """

    depth: int = 3
    width: int = 64
    activation: str = "linear"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self, "embedding-MLP", activation=ACTIVATIONS)
        if self.depth < 2 or self.width < 1:
            raise UsageError("the depth starts at 2, the width at 1", where="embedding-MLP", do="Change the number")

    def shapes(self, vocabulary: int) -> Shapes:
        """Every trained matrix by name, as it multiplies a row from the right."""
        sizes = [vocabulary, *[self.width] * (self.depth - 1), vocabulary]
        return {f"W_{place}": shape for place, shape in enumerate(pairwise(sizes), start=1)}

    def logits(self, weights: dict[str, Tensor], tokens: Int[Tensor, "bag 3"]) -> Float[Tensor, "seed bag token"]:
        """Logits from subject and relation; the end token, which every sequence has, is left out."""
        first, *others, last = weights.values()
        stream = first[:, tokens[:, :2]].sum(2)
        for matrix in others:
            stream = stream @ matrix
        return (stream if self.activation == "linear" else torch.relu(stream)) @ last


class Networks:
    """One architecture with several seeds, side by side: `flat` (seed, parameter) holds every number.

    Gaussian starts with variance 1 / rows (embeddings: 1 / width), each seed from its own generator. scales: a further
    factor on the start of each seed.
    """

    def __init__(
        self,
        architecture: Architecture | EmbeddingMLP,
        task: Task,
        seeds: Sequence[int],
        recipe: Recipe,
        scales: Sequence[float] = (),
    ) -> None:
        self.architecture, self.tasks = architecture, (task,) * len(seeds)
        self.like: dict[str, Any] = {"dtype": getattr(torch, recipe.precision), "device": recipe.device}
        self.shapes = architecture.shapes(task.vocabulary)
        rows = {name: shape[-1] if name == "embed" else shape[-2] for name, shape in self.shapes.items()}
        flat = []
        for seed, factor in zip(seeds, scales or [1.0] * len(seeds), strict=True):
            generator, scale = np.random.default_rng([seed, 7]), factor * architecture.scale
            for name, shape in self.shapes.items():
                flat.append(scale * generator.standard_normal(int(np.prod(shape))) / np.sqrt(rows[name]))
        self.flat = torch.tensor(np.concatenate(flat).reshape(len(seeds), -1), **self.like).requires_grad_()

    def weights(self) -> dict[str, Tensor]:
        """Every matrix by name as a view, the seed first."""
        return views(self.flat, self.shapes)

    def logits(self, batch: BagBatch) -> Float[Tensor, "seed bag token"]:
        """Logits of bags without noise, the same for every seed."""
        relation = batch.context[0, :, :2].argmax(-1)
        return self.at_end(torch.stack([batch.subject[0], relation, torch.full_like(relation, self.tasks[0].end)], 1))

    def at_end(self, tokens: Int[Tensor, "bag 3"]) -> Float[Tensor, "seed bag token"]:
        """Logits at the last token."""
        weights = self.weights()
        if isinstance(self.architecture, EmbeddingMLP):
            return self.architecture.logits(weights, tokens)
        if self.architecture.embedding:
            stream = weights["embed"][:, tokens]
        else:
            one_hot = torch.nn.functional.one_hot(tokens, self.tasks[0].vocabulary).to(**self.like)
            stream = one_hot.expand(len(self.tasks), *one_hot.shape)
        for layer in range(self.architecture.layers):
            stream = _layer(self.architecture, stream, weights, layer)
        end = stream[:, :, -1]
        return end @ weights["unembed"] if self.architecture.embedding else end


def _layer(
    shape: Architecture, stream: Float[Tensor, "seed bag 3 width"], weights: dict[str, Tensor], layer: int
) -> Tensor:
    # The last layer is read at the end token only.
    asking = stream[:, :, -1:] if layer == shape.layers - 1 else stream
    queries = torch.einsum("sbtw,shvw->sbthv", asking, weights[f"{layer}.W_KQ"])
    scores = torch.einsum("sbuv,sbthv->sbthu", stream, queries)
    if shape.attention == "softmax":
        scores = scores.softmax(-1)
    read = torch.einsum("sbthu,sbuw->sbthw", scores, stream)
    if shape.parameters == "merged":
        change = torch.einsum("sbthw,shwv->sbtv", read, weights[f"{layer}.W_OV"])
    else:
        values = torch.einsum("sbthw,shwc->sbthc", read, weights[f"{layer}.W_V"])
        change = torch.einsum("sbthc,shcv->sbtv", values, weights[f"{layer}.W_O"])
    stream = asking + change if shape.residual else change
    if shape.hidden:
        units = torch.relu(torch.einsum("sbtw,swk->sbtk", stream, weights[f"{layer}.in"]))
        stream = stream + torch.einsum("sbtk,skw->sbtw", units, weights[f"{layer}.out"])
    return stream


def train_networks(
    architecture: Architecture | EmbeddingMLP,
    task: Task,
    seeds: Sequence[int],
    recipe: Recipe,
    *,
    scales: Sequence[float] = (),
    schedule: Iterable[int] = (),
    checkpointer: Checkpointer | None = None,
) -> tuple[Networks, list[dict[str, Any]]]:
    """Train on all stated rows at once (recipe.batch must be 0); gives the networks and what was measured on schedule.

    Each entry: step, and a list over seeds of each of MEASURED and of `margin_ratios`. Without a schedule they are
    measured once, at the end. scales: as of Networks. Raises UsageError for a recipe with sampled batches.
    """
    if recipe.batch or task.noise_places:
        raise UsageError("these networks train on all rows at once, without noise", do="Set batch=0 and noise_places=0")
    networks, probe = Networks(architecture, task, seeds, recipe, scales), Probe(matrices=False)
    batch = stacked_bags(networks, [exact_bags(task, task.stated)] * len(seeds))

    def losses() -> Float[Tensor, "seed"]:
        return (cross_entropy(networks.logits(batch), batch.answer) * batch.weight).sum(-1)

    def gradient(step: int) -> Float[Tensor, "seed parameter"]:
        networks.flat.grad = None
        losses().sum().backward()
        assert networks.flat.grad is not None
        return networks.flat.grad

    @torch.no_grad()
    def measure(step: int) -> dict[str, list[float]]:
        found = probe(networks, step)
        return {name: found[name] for name in MEASURED} | margin_ratios(networks)

    trainer = Trainer(recipe, networks.flat.detach(), torch.ones(len(seeds), 1, **networks.like))
    trainer.run(gradient, measure, schedule, checkpointer, losses)
    return networks, trainer.history or [{"step": trainer.steps.tolist(), **measure(recipe.steps)}]


def margin_ratios(networks: Networks) -> dict[str, list[float]]:
    """The smallest and the middle margin of unstated implications in units of the smallest stated one, a seed each.

    As margin_ratio_test of `training.compare`; NaN while some stated row is answered wrongly.
    """
    task, found = networks.tasks[0], []
    both = (task.stated, False), (task.questions, True)
    for rows, same_relation in both:
        batch = stacked_bags(networks, [exact_bags(task, rows)] * len(networks.tasks))
        scores = networks.logits(batch)[..., task.answers].double().cpu().numpy()
        found.append(np.array([leads(task, one, rows, same_relation=same_relation) for one in scores]))
    smallest = found[0].min(1)
    scale = np.where(smallest > 0, smallest, np.nan)
    return {
        "margin_ratio_test": (found[1].min(1) / scale).tolist(),
        "margin_middle_test": (np.median(found[1], axis=1) / scale).tolist(),
    }
