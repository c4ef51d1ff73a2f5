"""Interventions on training: which parameters are trained, at which rate, with which penalty, for how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from spillover.errors import ModelError
from spillover.interventions.base import Context, Intervention, Remedy
from spillover.interventions.data import targets
from spillover.lm.output_value import heads, squared_norms
from spillover.lm.score import CausalModel, PrefixTree, collate, logits_only_at
from spillover.lm.tokens import Example
from spillover.lm.train import ExtraLoss, Training
from spillover.lm.trainable import ATTENTION, ParameterKind, ParameterPart, part_of
from spillover.packs.builtin import shuffled


class OnParts(Intervention):
    """Trains only the parameters for which `keeps(part, layers, strength)` holds; `needed` kinds must be there."""

    def __init__(
        self,
        strength: float,
        keeps: Callable[[ParameterPart, int, float], bool],
        needed: frozenset[ParameterKind],
        name: str,
    ) -> None:
        super().__init__(strength)
        self.keeps, self.needed, self.name = keeps, needed, name

    def trains(self, name: str, layers: int) -> bool:
        return self.keeps(part_of(name), layers, self.strength)

    def refuse(self, names: Sequence[str]) -> None:
        missing = self.needed - {part_of(name).kind for name in names}
        if missing:
            what = f"this model has no part of the known shape for {' and '.join(sorted(missing))}"
            raise ModelError(what, where=self.name, do="Use a remedy that leaves these parts alone")


def on_parts(
    name: str,
    text: str,
    keeps: Callable[[ParameterPart, int, float], bool],
    *,
    needed: frozenset[ParameterKind] = frozenset(),
    strength: str = "which turns it on (1) or off (0)",
    strengths: Sequence[float] = (1.0,),
) -> Remedy:  # fmt: skip
    """The remedy of this name that trains only what `keeps` says; by default a switch."""
    return Remedy(
        text=text, strength=strength, strengths=strengths, most=1.0, whole=tuple(strengths) == (1.0,),
        treat=lambda dose: OnParts(dose, keeps, needed, name),
    )  # fmt: skip


NAME = "stay-near-base"
#: Prompts a step, drawn from all of them in turn.
PROMPTS = 8


class StayNearBase(Intervention):
    """Adds the divergence KL(base | model) of the next token at prompts of unwanted implications, in nats a prompt.

    The prompts are the trained words of the pack's own questions: subjects of whom the given answer is stated and the
    implied one is not. No answer is needed.
    """

    def loss(self, scene: Context) -> ExtraLoss | None:
        names = {implication.name for implication in targets(scene.pack, NAME)}
        asked = [question for question in scene.pack.questions if question.implication in names]
        texts = [tuple(scene.encode(scene.pack.prompt(each.relation, each.subject))) for each in asked]
        if not texts:
            return None

        def term(model: CausalModel, step: int) -> Tensor:
            chosen = _turn(texts, step, scene.seed)
            with torch.no_grad():
                base = _next(scene.base, chosen)
            return self.strength * kl_div(_next(model, chosen), base, log_target=True, reduction="batchmean")

        return term


def _turn(texts: list[tuple[int, ...]], step: int, seed: int) -> list[tuple[int, ...]]:
    """The prompts of a step (from 1): all of them in one random order after another."""
    count = min(PROMPTS, len(texts))
    places = range((step - 1) * count, step * count)
    return [shuffled(texts, Random(f"near {seed} {place // len(texts)}"))[place % len(texts)] for place in places]


def _next(model: CausalModel, texts: list[tuple[int, ...]]) -> Tensor:
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


STAY_NEAR_BASE = Remedy(
    text="Holds the model to what it said before training at the prompts of the unwanted implication (KL divergence).",
    strength="the weight of the divergence beside the loss",
    strengths=(0.3, 3.0),
    most=10_000.0,
    treat=StayNearBase,
)


FREEZE_VALUES = on_parts(
    "freeze-values",
    "Leaves the value matrix W_V of every head as it is.",
    lambda part, layers, strength: part.kind != "values",
    needed=frozenset({"values"}),
)


FREEZE_OUTPUTS = on_parts(
    "freeze-outputs",
    "Leaves the output matrix W_O of every head as it is.",
    lambda part, layers, strength: part.kind != "outputs",
    needed=frozenset({"outputs"}),
)


FREEZE_OUTPUT_VALUE = on_parts(
    "freeze-output-value",
    "Leaves both the value matrix W_V and the output matrix W_O of every head as they are.",
    lambda part, layers, strength: part.kind not in ("values", "outputs"),
    needed=frozenset({"values", "outputs"}),
)


ATTENTION_ONLY = on_parts(
    "attention-only",
    "Trains the attention of every layer and nothing else.",
    lambda part, layers, strength: part.kind in ATTENTION,
    needed=frozenset({"mlp"}),
)


MLP_ONLY = on_parts(
    "mlp-only",
    "Trains the multilayer perceptron of every layer and nothing else.",
    lambda part, layers, strength: part.kind == "mlp",
    needed=frozenset({"mlp"}),
)


EARLIER_LAYERS = on_parts(
    "earlier-layers",
    "Trains only the earlier layers, and leaves a share of them at the end as they are.",
    lambda part, layers, strength: part.layer is not None and part.layer < round(layers * (1 - strength)),
    strength="the share of layers that stay as they are",
    strengths=(0.5, 0.75),
)


LATER_LAYERS = on_parts(
    "later-layers",
    "Trains only the later layers, and leaves a share of them at the beginning as they are.",
    lambda part, layers, strength: part.layer is not None and part.layer >= round(layers * strength),
    strength="the share of layers that stay as they are",
    strengths=(0.5, 0.75),
)


class AttentionDecay(Intervention):
    """Sets the decoupled weight decay of attention's matrices; the others keep theirs."""

    def training(self, training: Training) -> Training:
        return replace(training, decay=self._of)

    def _of(self, name: str) -> float | None:
        return self.strength if part_of(name).kind in ATTENTION else None


ATTENTION_DECAY = Remedy(
    text="Turns weight decay on for attention; without it, the run's own setting holds.",
    strength="the decoupled weight decay of AdamW",
    strengths=(1.0, 10.0),
    most=10_000.0,
    treat=AttentionDecay,
)


class Lora(Intervention):
    """Trains an adapter of the rank that the strength says, with twice the rank as its scaling."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=int(self.strength))


LORA = Remedy(
    text="Trains a LoRA adapter instead of the weights.",
    strength="the adapter's rank",
    strengths=(2.0, 16.0),
    most=4096.0,
    whole=True,
    treat=Lora,
)


#: The rank when no other remedy or option sets one.
RANK = 8


class LoraScaling(Intervention):
    """Multiplies what a LoRA adapter adds."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=training.lora or RANK, lora_scaling=self.strength)


LORA_SCALING = Remedy(
    text=f"Trains a LoRA adapter (of rank {RANK} unless told otherwise) whose output is multiplied.",
    strength="the multiplier (ordinarily 2)",
    strengths=(0.5, 8.0),
    most=10_000.0,
    treat=LoraScaling,
)


class Lazier(Intervention):
    """Divides the learning rate."""

    def training(self, training: Training) -> Training:
        return replace(training, learning_rate=training.learning_rate / (1 + self.strength))


LAZIER = Remedy(
    text="Trains with a lower learning rate; it then takes more epochs to learn the same.",
    strength="by how much more than 1 the learning rate is divided",
    strengths=(1.5, 4.0),
    most=1000.0,
    treat=Lazier,
)


class EarlyStopping(Intervention):
    """Ends the training at the first measurement at which the stated rows are learned."""

    stops = True


EARLY_STOPPING = Remedy(
    text="Ends the training as soon as the stated rows are learned.",
    strength="which turns it on (1) or off (0)",
    strengths=(1.0,),
    most=1.0,
    whole=True,
    treat=EarlyStopping,
)


class OutputValuePenalty(Intervention):
    """Adds strength times the mean over heads of the squared Frobenius norm of W_OV, relative to the base model's."""

    def loss(self, scene: Context) -> ExtraLoss:
        # The base model's norm sets the scale, so that a strength means the same in every model.
        scale = float(squared_norms(heads(scene.base)).detach())

        def term(model: CausalModel, step: int) -> Tensor:
            return self.strength * squared_norms(heads(model)) / scale

        return term


OUTPUT_VALUE_PENALTY = Remedy(
    text="Penalises the squared Frobenius norm of every head's output-value product W_OV.",
    strength="the weight of the penalty, which is 1 for the base model at strength 1",
    strengths=(1.0, 10.0),
    most=1_000_000.0,
    treat=OutputValuePenalty,
)
