"""The loss of answer tokens, whose logits are computed at once or some at a time, and at no other position."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from spillover.errors import ModelError
from spillover.llm.scoring import CausalModel, logits_only_at

Hidden = Float[Tensor, "position width"]
#: The share of a logit by which two ways to compute it may differ, by the bits of a number.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def mean_loss(
    model: CausalModel,
    fed: Mapping[str, Tensor],
    scored: Int[Tensor, "position"],
    place: Int[Tensor, "answer"] | None,
    token: Int[Tensor, "answer"],
    at_once: int = 0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy (nats) of answer tokens.

    fed: what the model is called with. scored: where logits are needed, as indices into batch x length, flattened.
    place, token: of each answer token, which of those it is read from (None: each from its own, in order), and which
    token it is. at_once: so many answer tokens' logits stand at the same time, forward and backward; 0 is all of them.
    Raises ModelError when logits cannot be computed some at a time.
    """
    if not at_once or len(token) <= at_once:
        with logits_only_at(model, scored):
            logits = model(**fed, use_cache=False).logits[0]
        return cross_entropy(logits.float() if place is None else logits.float()[place], token)
    hidden, seen = _before_logits(model, fed, scored)
    head, finish = model.get_output_embeddings(), finishing(model)
    _refuse_other_logits(finish(head(hidden[None, :1].detach())), seen)
    wanted = hidden if place is None else hidden[place]

    def summed(part: Hidden, tokens: Int[Tensor, "answer"]) -> Float[Tensor, ""]:
        return cross_entropy(finish(head(part)).float(), tokens, reduction="sum")

    # Computed again on the way back, so that no part's logits wait for it.
    parts = [
        checkpoint(summed, part, tokens, use_reentrant=False)
        for part, tokens in zip(wanted.split(at_once), token.split(at_once), strict=True)
    ]
    return torch.stack(parts).sum() / len(token)


def finishing(model: CausalModel) -> Callable[[Tensor], Tensor]:
    """What a model does to logits behind its output embedding, as far as it is known: a factor, or a soft cap."""
    config = model.config.get_text_config()
    cap, factor = getattr(config, "final_logit_softcapping", None), getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def finish(logits: Tensor) -> Tensor:
        logits = logits * factor if factor else logits
        logits = logits / divisor if divisor else logits
        return torch.tanh(logits / cap) * cap if cap else logits

    return finish


def _before_logits(
    model: CausalModel, fed: Mapping[str, Tensor], scored: Int[Tensor, "position"]
) -> tuple[Hidden, Float[Tensor, "1 1 vocabulary"]]:
    """What enters the output embedding at `scored`, and the model's own logits at the first of them alone."""
    kept: list[Hidden] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0].reshape(-1, inputs[0].shape[-1])[scored])
        return (kept[-1][None, :1], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits: Tensor = model(**fed, use_cache=False).logits
    finally:
        handle.remove()
    return kept[-1], logits


@torch.no_grad()
def _refuse_other_logits(found: Tensor, expected: Tensor) -> None:
    """Raise ModelError unless logits computed apart are the model's own; some models do more to them."""
    if found.is_meta:
        return
    tolerance = _TOLERANCE.get(expected.dtype, 0.02)
    if not torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance):
        what = "this model changes its logits in a way that is not known, so they cannot be computed some at a time"
        raise ModelError(what, do="Leave --logits-at-once out")
