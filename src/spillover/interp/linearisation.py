"""What a model would answer if it were its own first-order expansion at the base weights: the lazy limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from spillover.interp.patching import Change
from spillover.lm.memory import out_of_memory
from spillover.lm.score import MAXIMUM_LOGITS, MAXIMUM_TOKENS, CausalModel, FedTree, Method, Scorer
from spillover.lm.tokens import Request

#: The way to the tuned weights that a finite difference goes, forwards and backwards.
STEP = 2.0**-6
#: Forward-mode differentiation, or finite differences where an operation of the model has none.
How = Literal["forward mode", "finite difference"]


def slopes(change: Change, asks: Sequence[Request], method: Method | None) -> tuple[list[Float[np.ndarray, "_"]], How]:
    """J(theta0) . delta: how fast each candidate's log-probability (nats) moves as the change is begun to be made.

    The base's score plus this is the score of the model's first-order expansion. Also says how it was found. method:
    how a scorer of this model feeds texts. Raises ModelError as Scorer.score does.
    """
    try:
        return _Slopes(change, method).score(asks), "forward mode"
    except (NotImplementedError, RuntimeError) as error:
        if out_of_memory(error):
            raise
    ends = []
    for size in (STEP, -STEP):
        with change.share(size) as model:
            ends.append(Scorer(model, method=method).score(asks))
    return [(ahead - behind) / (2 * STEP) for ahead, behind in zip(*ends, strict=True)], "finite difference"


class _Called:
    """A model that computes with other values of some weights; all else that is asked of it is the model's own."""

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self.values: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self._model, self.values, (), inputs)


class _Slopes(Scorer):
    """Scores by the derivative along the change instead of by the log-probability itself."""

    def __init__(self, change: Change, method: Method | None) -> None:
        # Values and derivatives take twice the room.
        super().__init__(
            _Called(change.model), method=method, maximum_tokens=MAXIMUM_TOKENS // 2, maximum_logits=MAXIMUM_LOGITS // 2
        )
        self.before = dict(change.before)
        self.along = {name: change.after[name] - value for name, value in change.before.items()}

    def score_batch(self, fed: Sequence[FedTree]) -> Float[np.ndarray, "text"]:
        steps = [len(path) for each in fed for path in each.tree.paths]

        def scores(values: dict[str, Tensor]) -> Tensor:
            self.model.values = values
            batch, logits = self.logits(fed)
            place, token = batch.place.to(logits.device), batch.token.to(logits.device)
            return logits[place, token] - torch.logsumexp(logits, -1)[place]

        # The fused kernels of attention have no derivative in this direction; inference mode has none at all.
        with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            found = jvp(scores, (self.before,), (self.along,))[1]
        return np.bincount(np.repeat(np.arange(len(steps)), steps), weights=found.double().cpu().numpy())
