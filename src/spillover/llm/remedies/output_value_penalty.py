"""A Frobenius penalty on W_OV itself, so that training prefers what the merged model prefers, which deduces nothing."""

from __future__ import annotations

from torch import Tensor

from spillover.llm.inside.heads import heads, squared_norms
from spillover.llm.remedies import Remedy, Scene, Treatment
from spillover.llm.scoring import CausalModel
from spillover.llm.training import ExtraLoss


class OutputValuePenalty(Treatment):
    """Adds strength times the mean over heads of the squared Frobenius norm of W_OV, relative to the base model's."""

    def loss(self, scene: Scene) -> ExtraLoss:
        # The base model's norm sets the scale, so that a strength means the same in every model.
        scale = float(squared_norms(heads(scene.base)).detach())

        def term(model: CausalModel, step: int) -> Tensor:
            return self.strength * squared_norms(heads(model)) / scale

        return term


REMEDY = Remedy(
    text="Penalises the squared Frobenius norm of every head's output-value product W_OV.",
    strength="the weight of the penalty, which is 1 for the base model at strength 1",
    strengths=(1.0, 10.0),
    most=1_000_000.0,
    treat=OutputValuePenalty,
)
