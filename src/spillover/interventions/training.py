"""Interventions on training: which parameters are trained, at which rate, with which penalty, for how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from spillover.errors import ModelError
from spillover.interventions.base import Context, Intervention, Spec, remedy, unwanted_implications
from spillover.lm.output_value import products, squared_norms
from spillover.lm.score import CausalModel, PrefixTree, collate, logits_only_at
from spillover.lm.tokens import Example
from spillover.lm.train import ExtraLoss
from spillover.lm.trainable import ATTENTION, ParameterKind, ParameterPart, Training, part_of
from spillover.packs.builtin import shuffled

#: Prompts a step of stay-near-base, and the rank of an adapter that nothing else sets.
PROMPTS, RANK = 8, 8


@remedy("stay-near-base", strength="the weight of the divergence beside the loss", strengths=(0.3, 3.0), most=10_000.0)
class StayNearBase(Intervention):
    """Holds the model to what it said before training at the prompts of the unwanted implication (KL divergence).

    Adds KL(base | model) of the next token, in nats a prompt. The prompts are the trained words of the pack's own
    questions: subjects of whom the given answer is stated and the implied one is not. No answer is needed.
    """

    def loss(self, context: Context) -> ExtraLoss | None:
        names = {implication.name for implication in unwanted_implications(context.pack, self.name)}
        asked = [question for question in context.pack.questions if question.implication in names]
        texts = [tuple(context.encode(context.pack.prompt(each.relation, each.subject))) for each in asked]
        count = min(PROMPTS, len(texts))
        if not texts:
            return None

        def term(model: CausalModel, step: int) -> Tensor:
            # All prompts in one random order after another, `count` of them a step (from 1).
            places = range((step - 1) * count, step * count)
            orders = [shuffled(texts, Random(f"near {context.seed} {place // len(texts)}")) for place in places]
            chosen = [order[place % len(texts)] for place, order in zip(places, orders, strict=True)]
            with torch.no_grad():
                base = _next_tokens(context.base, chosen)
            return self.strength * kl_div(_next_tokens(model, chosen), base, log_target=True, reduction="batchmean")

        return term


def _next_tokens(model: CausalModel, texts: list[tuple[int, ...]]) -> Tensor:
    """Log-probabilities of the token after each text (text x vocabulary), each text read alone."""
    # A token is put behind each prompt, because what is scored of a text is what follows its start.
    fed = collate([PrefixTree([Example((*text, 0), len(text))]) for text in texts], model.dtype)
    device = model.device
    with logits_only_at(model, fed.scored.to(device)):
        logits = model(
            input_ids=fed.tokens.to(device), position_ids=fed.positions.to(device),
            attention_mask=fed.mask.to(device), use_cache=False,
        ).logits[0]  # fmt: skip
    return log_softmax(logits.float()[fed.place.to(device)], dim=-1)


#: Of a part, the number of layers and the strength: whether the part stays trained.
Keeps = Callable[[ParameterPart, int, float], bool]


class TrainsParts(Intervention):
    """Trains only the parameters for which `keeps` holds; the model must have parts of the `needed` kinds."""

    def __init__(self, spec: Spec, keeps: Keeps, needed: Sequence[ParameterKind]) -> None:
        super().__init__(spec)
        self.keeps, self.needed = keeps, needed

    def trains(self, name: str, layers: int) -> bool:
        return self.keeps(part_of(name), layers, self.strength)

    def refuse(self, names: Sequence[str]) -> None:
        missing = set(self.needed) - {part_of(name).kind for name in names}
        if missing:
            what = f"this model has no part of the known shape for {' and '.join(sorted(missing))}"
            raise ModelError(what, where=self.name, do="Use a remedy that leaves these parts alone")


#: Remedies that train some parts only, as switches: what each does, the kinds that a model must have, what is trained.
PARTS: dict[str, tuple[str, tuple[ParameterKind, ...], Keeps]] = {
    "freeze-values": (
        "Leaves the value matrix W_V of every head as it is.",
        ("values",),
        lambda part, layers, strength: part.kind != "values",
    ),
    "freeze-outputs": (
        "Leaves the output matrix W_O of every head as it is.",
        ("outputs",),
        lambda part, layers, strength: part.kind != "outputs",
    ),
    "freeze-output-value": (
        "Leaves both the value matrix W_V and the output matrix W_O of every head as they are.",
        ("values", "outputs"),
        lambda part, layers, strength: part.kind not in ("values", "outputs"),
    ),
    "attention-only": (
        "Trains the attention of every layer and nothing else.",
        ("mlp",),
        lambda part, layers, strength: part.kind in ATTENTION,
    ),
    "mlp-only": (
        "Trains the multilayer perceptron of every layer and nothing else.",
        ("mlp",),
        lambda part, layers, strength: part.kind == "mlp",
    ),
}
#: The same for shares of the layers.
LAYERS: dict[str, tuple[str, Keeps]] = {
    "earlier-layers": (
        "Trains only the earlier layers, and leaves a share of them at the end as they are.",
        lambda part, layers, strength: part.layer is not None and part.layer < round(layers * (1 - strength)),
    ),
    "later-layers": (
        "Trains only the later layers, and leaves a share of them at the beginning as they are.",
        lambda part, layers, strength: part.layer is not None and part.layer >= round(layers * strength),
    ),
}
for _name, (_text, _needed, _keeps) in PARTS.items():
    remedy(_name, text=_text)(partial(TrainsParts, keeps=_keeps, needed=_needed))
for _name, (_text, _keeps) in LAYERS.items():
    remedy(_name, text=_text, strength="the share of layers that stay as they are", strengths=(0.5, 0.75))(
        partial(TrainsParts, keeps=_keeps, needed=())
    )


@remedy("attention-decay", strength="the decoupled weight decay of AdamW", strengths=(1.0, 10.0), most=10_000.0)
class AttentionDecay(Intervention):
    """Turns weight decay on for attention; without it, the run's own setting holds.

    Only of the matrices of attention; the others keep theirs.
    """

    def training(self, training: Training) -> Training:
        return replace(training, decay=lambda name: self.strength if part_of(name).kind in ATTENTION else None)


@remedy("lora", strength="the adapter's rank", strengths=(2.0, 16.0), most=4096.0, whole=True)
class Lora(Intervention):
    """Trains a LoRA adapter instead of the weights.

    Its scaling is twice its rank.
    """

    def training(self, training: Training) -> Training:
        return replace(training, lora=int(self.strength))


@remedy("lora-scaling", strength="the multiplier (ordinarily 2)", strengths=(0.5, 8.0), most=10_000.0)
class LoraScaling(Intervention):
    """Trains a LoRA adapter (of rank 8 unless another is set) whose output is multiplied."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=training.lora or RANK, lora_scaling=self.strength)


@remedy("lazier", strength="by how much more than 1 the learning rate is divided", strengths=(1.5, 4.0), most=1000.0)
class Lazier(Intervention):
    """Trains with a lower learning rate; it then takes more epochs to learn the same."""

    def training(self, training: Training) -> Training:
        return replace(training, learning_rate=training.learning_rate / (1 + self.strength))


@remedy("early-stopping")
class EarlyStopping(Intervention):
    """Ends the training as soon as the stated rows are learned."""

    stops = True


@remedy(
    "output-value-penalty",
    strength="the weight of the penalty, which is 1 for the base model at strength 1",
    strengths=(1.0, 10.0),
    most=1_000_000.0,
)
class OutputValuePenalty(Intervention):
    """Penalises the squared Frobenius norm of every head's output-value product W_OV.

    Adds strength times the mean over heads, relative to the base model's.
    """

    def loss(self, context: Context) -> ExtraLoss:
        # The base model's norm sets the scale, so that a strength means the same in every model.
        scale = float(squared_norms(products(context.base)).detach())

        def term(model: CausalModel, step: int) -> Tensor:
            return self.strength * squared_norms(products(model)) / scale

        return term
