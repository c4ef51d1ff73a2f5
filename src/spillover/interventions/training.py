"""Interventions on training: which parameters are trained, at which rate, with which penalty, for how long."""

import math
from collections.abc import Sequence, Set
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import TypeVar, get_args

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from spillover.errors import ModelError, UsageError
from spillover.interventions.base import Context, Intervention, remedy, unwanted_implications
from spillover.lm.output_value import cut, products, squared_norms
from spillover.lm.score import CausalModel, PrefixTree, Scorer
from spillover.lm.tokens import Example, Request
from spillover.lm.train import ExtraLoss
from spillover.lm.trainable import ATTENTION, ParameterKind, Training, part_of
from spillover.packs.builtin import shuffled

#: Prompts a step that are held to the base model, and the rank of an adapter that nothing else sets.
PROMPTS, RANK = 8, 8
#: Numbers of next-token distributions that are kept (256 MB in float32).
KEPT = 1 << 26
#: By how much the logarithm of a steered weight moves in a step at most; how many times above or below what is held a
#: divergence counts beside that; and the bounds of the weight.
STEER, REACH, LEAST, MOST = 0.1, 4.0, 0.001, 100.0
Held = TypeVar("Held")
EVERY: frozenset[ParameterKind] = frozenset(get_args(ParameterKind))


@remedy("stay-near-base", "the weight of the divergence beside the loss", (0.3, 3.0), most=10_000.0)
class StayNearBase(Intervention):
    """Holds the model to what it said before training at the prompts of the unwanted implication (KL divergence).

    Adds KL(base | model) of the next token, in nats a prompt. The prompts are the trained words of the pack's own
    questions: subjects of whom the given answer is stated and the implied one is not. No answer is needed.
    """

    def loss(self, context: Context) -> ExtraLoss | None:
        names = {implication.name for implication in unwanted_implications(context.pack, self.name)}
        asked = [question for question in context.questions() if question.implication in names]
        texts = [tuple(context.encode(context.pack.prompt(each.relation, each.subject))) for each in asked]
        if not texts:
            return None
        alone = Scorer(context.base).settle([Request(text, ((0,),)) for text in texts]) == "single"

        def term(model: CausalModel, step: int) -> Tensor:
            chosen = _chosen(texts, step, f"near {context.seed}")
            with torch.no_grad():
                base = _next_tokens(context.base, chosen, alone)
            tuned = _next_tokens(model, chosen, alone)
            return self.strength * kl_div(tuned, base, log_target=True, reduction="batchmean")

        return term


@remedy("told-in-prompt", "the weight of the divergence beside the loss", (3.0, 10.0), most=10_000.0)
class ToldInPrompt(Intervention):
    """Holds the model, where nothing was stated, to what it said before training once told the facts (KL divergence).

    Adds KL(base, told | model) of the next token, in nats a prompt, at the unstated questions of all implications in
    every wording, wanted or not: no answer and no kind is needed. The base model is told as the judge tells it
    (lm.judge), once for all subjects with the same facts.
    """

    settles = True

    def loss(self, context: Context) -> ExtraLoss | None:
        assert context.judge is not None
        allowed = {(each.subject, each.relation) for each in context.questions()}
        about = {key: asked for key, asked in context.judge.questions().items() if key in allowed}
        told = context.judge.requests(list(dict.fromkeys(about.values())))
        held = [
            (tuple(context.encode(context.pack.prompt(relation, subject, number))), told[asked][number].prompt)
            for (subject, relation), asked in about.items()
            for number in (context.wordings(relation) if told[asked] else ())
        ]
        if not held:
            return None
        every = [Request(text, ((0,),)) for pair in held for text in pair]
        alone = Scorer(context.base).settle(every) == "single"

        @lru_cache(maxsize=max(KEPT // context.base.config.get_text_config().vocab_size, PROMPTS))
        def warranted(text: tuple[int, ...]) -> Tensor:
            return _next_tokens(context.base, [text], alone)[0]

        def divergence(model: CausalModel, step: int) -> Tensor:
            chosen = _chosen(held, step, f"told {context.seed}")
            with torch.no_grad():
                base = torch.stack([warranted(text) for _, text in chosen])
            tuned = _next_tokens(model, [text for text, _ in chosen], alone)
            return kl_div(tuned, base, log_target=True, reduction="batchmean")

        return self.weighed(divergence)

    def weighed(self, divergence: ExtraLoss) -> ExtraLoss:
        """The divergence of a step as it is added to the loss."""
        return lambda model, step: self.strength * divergence(model, step)


@remedy("told-in-prompt-within", "the divergence to hold, in nats a prompt", (0.1, 0.3), most=100.0)
class ToldInPromptWithin(ToldInPrompt):
    """As told-in-prompt, with a weight that is steered: it rises while the divergence is above what is to be held, and
    falls while it is below.
    """

    def weighed(self, divergence: ExtraLoss) -> ExtraLoss:
        return Steered(divergence, self.strength)


class Steered:
    """A term whose weight a controller sets, from 1 on, so that the term comes to a target and stays there.

    A proportional and integral controller, in logarithms: each step the weight's moves by STEER times that of the term
    over the target, of which 1 counts at most, and the term over the target, up to REACH times, is a factor beside it.

    memory: what a checkpoint keeps: the step that is under way, the weight in it and that after it. A step that is made
    again has the same weight.
    """

    def __init__(self, term: ExtraLoss, target: float) -> None:
        self.term, self.target = term, target
        self.memory = {"steered": torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)}

    def __call__(self, model: CausalModel, step: int) -> Tensor:
        found = self.term(model, step)
        ratio = float(found.detach()) / self.target
        began, own, after = self.memory["steered"].tolist()
        own = own if began == step else after
        excess = math.log(max(ratio, 1e-9))
        after = min(max(own * math.exp(STEER * min(max(excess, -1.0), 1.0)), LEAST), MOST)
        self.memory["steered"].copy_(torch.tensor([step, own, after]))
        return found * min(own * min(max(ratio, 1 / REACH), REACH), MOST)


def _chosen(held: Sequence[Held], step: int, stream: str) -> list[Held]:
    """What is held in a step (from 1): PROMPTS of all, which come in one random order after another."""
    count = min(PROMPTS, len(held))
    places = range((step - 1) * count, step * count)
    orders = [shuffled(held, Random(f"{stream} {place // len(held)}")) for place in places]
    return [order[place % len(held)] for place, order in zip(places, orders, strict=True)]


def _next_tokens(model: CausalModel, texts: list[tuple[int, ...]], alone: bool) -> Tensor:
    """Log-probabilities of the token after each text (text x vocabulary); alone: each in a pass of its own."""
    # A token is put behind each prompt, because what is scored of a text is what follows its start.
    trees = [PrefixTree([Example((*text, 0), len(text))]) for text in texts]
    found = [Scorer(model).logits(each) for each in ([[tree] for tree in trees] if alone else [trees])]
    return log_softmax(torch.cat([logits[batch.place] for batch, logits in found]), dim=-1)


#: Remedies that train some kinds of parts only: what each does, the kinds that it trains, those a model must have.
KINDS: dict[str, tuple[str, Set[ParameterKind], Set[ParameterKind]]] = {
    "freeze-values": ("Leaves the value matrix W_V of every head as it is.", EVERY - {"values"}, {"values"}),
    "freeze-outputs": ("Leaves the output matrix W_O of every head as it is.", EVERY - {"outputs"}, {"outputs"}),
    "freeze-output-value": (
        "Leaves both the value matrix W_V and the output matrix W_O of every head as they are.",
        EVERY - {"values", "outputs"}, {"values", "outputs"},
    ),
    "attention-only": ("Trains the attention of every layer and nothing else.", ATTENTION, {"mlp"}),
    "output-value-only": (
        "Trains the value and output matrices W_V and W_O of every head and nothing else.",
        {"values", "outputs"}, {"values", "outputs"},
    ),
    "mlp-only": ("Trains the multilayer perceptron of every layer and nothing else.", {"mlp"}, {"mlp"}),
}  # fmt: skip


class TrainsKinds(Intervention):
    """Trains only the parameters of some kinds; the text of each remedy is its own."""

    def trains(self, name: str, layers: int) -> bool:
        return part_of(name).kind in KINDS[self.name][1]

    def refuse(self, names: Sequence[str]) -> None:
        missing = KINDS[self.name][2] - {part_of(name).kind for name in names}
        if missing:
            what = f"this model has no part of the known shape for {' and '.join(sorted(missing))}"
            raise ModelError(what, where=self.name, do="Use a remedy that leaves these parts alone")


for _name, (_text, _, _) in KINDS.items():
    remedy(_name, text=_text)(TrainsKinds)


@remedy("merged-output-value")
class MergedOutputValue(Intervention):
    """Trains W_V W_O of every head as one matrix, and nothing else, which in the exact model cannot conclude.

    The change of a head's product is then no product of factors, so that it can be learned as it is stated. It is of
    full rank and no weight of the model's own kind: it can be measured, not saved.
    """

    def training(self, training: Training) -> Training:
        if training.lora:
            raise UsageError(
                "an adapter and merged matrices are not trained together", where=self.name, do="Leave one out"
            )
        return replace(training, merged=True)


@remedy("merged-cut")
class MergedCut(MergedOutputValue):
    """As `merged-output-value`, and cuts the change of each head to the rank of its factors at the end.

    Beside the whole matrix it tells apart what the rank does and what training one matrix does.
    """

    def finish(self, context: Context, tuned: CausalModel) -> None:
        cut(tuned)


@remedy("earlier-layers", "the share of layers that stay as they are", (0.5, 0.75))
class EarlierLayers(Intervention):
    """Trains only the earlier layers, and leaves a share of them at the end as they are."""

    def trains(self, name: str, layers: int) -> bool:
        layer = part_of(name).layer
        return layer is not None and layer < round(layers * (1 - self.strength))


@remedy("later-layers", "the share of layers that stay as they are", (0.5, 0.75))
class LaterLayers(Intervention):
    """Trains only the later layers, and leaves a share of them at the beginning as they are."""

    def trains(self, name: str, layers: int) -> bool:
        layer = part_of(name).layer
        return layer is not None and layer >= round(layers * self.strength)


@remedy("attention-decay", "the decoupled weight decay of AdamW", (1.0, 10.0), most=10_000.0)
class AttentionDecay(Intervention):
    """Turns weight decay on for attention; without it, the run's own setting holds.

    Only of the matrices of attention; the others keep theirs.
    """

    def training(self, training: Training) -> Training:
        return replace(training, decay=lambda name: self.strength if part_of(name).kind in ATTENTION else None)


@remedy("lora", "the adapter's rank", (2.0, 16.0), most=4096.0, whole=True)
class Lora(Intervention):
    """Trains a LoRA adapter instead of the weights."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=int(self.strength))


@remedy("lora-scaling", "the multiplier (ordinarily 2)", (0.5, 8.0), most=10_000.0)
class LoraScaling(Intervention):
    """Trains a LoRA adapter (of rank 8 unless another is set) whose output is multiplied."""

    def training(self, training: Training) -> Training:
        return replace(training, lora=training.lora or RANK, lora_scaling=self.strength)


@remedy("lazier", "by how much more than 1 the learning rate is divided", (1.5, 4.0), most=1000.0)
class Lazier(Intervention):
    """Trains with a lower learning rate; it then takes more epochs to learn the same."""

    def training(self, training: Training) -> Training:
        return replace(training, learning_rate=training.learning_rate / (1 + self.strength))


@remedy("early-stopping")
class EarlyStopping(Intervention):
    """Ends the training as soon as the stated rows are learned."""

    stops = True


@remedy("output-value-penalty", "the weight of the penalty, which is 1 for the base model at strength 1", (1.0, 10.0),
        most=1_000_000.0)  # fmt: skip
class OutputValuePenalty(Intervention):
    """Penalises the squared Frobenius norm of every head's output-value product W_OV.

    Adds strength times the mean over heads, relative to the base model's.
    """

    def loss(self, context: Context) -> ExtraLoss:
        # The base model's norm sets the scale, so that a strength means the same in every model.
        scale = float(squared_norms(products(context.base)).detach())
        return lambda model, step: self.strength * squared_norms(products(model)) / scale
