"""The model is held to what it said before training where nobody told it anything: at the unwanted prompts."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from spillover.facts.names import shuffled
from spillover.llm.forest import Forest, collate
from spillover.llm.remedies import Remedy, Scene, Treatment
from spillover.llm.remedies.rows_of import targets
from spillover.llm.scoring import CausalModel, logits_only_at
from spillover.llm.tokens import Row
from spillover.llm.training import ExtraLoss

NAME = "stay-near-base"
#: Prompts a step, drawn from all of them in turn.
PROMPTS = 8


class StayNearBase(Treatment):
    """Adds the divergence KL(base | model) of the next token at prompts of unwanted implications, in nats a prompt.

    The prompts are the trained words of the pack's own questions: subjects of whom the given answer is stated and the
    implied one is not. No answer is needed.
    """

    def loss(self, scene: Scene) -> ExtraLoss | None:
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
    fed = collate([Forest([Row((*text, 0), len(text))]) for text in texts], model.dtype)
    device = model.device
    with logits_only_at(model, fed.scored.to(device)):
        logits = model(
            input_ids=fed.tokens.to(device), position_ids=fed.positions.to(device),
            attention_mask=fed.mask.to(device), use_cache=False,
        ).logits[0]  # fmt: skip
    return log_softmax(logits.float()[fed.place.to(device)], dim=-1)


REMEDY = Remedy(
    text="Holds the model to what it said before training at the prompts of the unwanted implication (KL divergence).",
    strength="the weight of the divergence beside the loss",
    strengths=(0.3, 3.0),
    most=10_000.0,
    treat=StayNearBase,
)
