"""Two models side by side at every place of many texts: what each may say next there, over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spillover.errors import ModelError
from spillover.lm.distributed import SINGLE, Processes
from spillover.lm.score import NO_NUMBERS, CausalModel
from spillover.lm.tokens import Example, refuse_unreadable

#: Tokens of a text that are read before the part that is looked at, and places in that part.
BEFORE, LONGEST = 200, 48
#: Smaller changes, in times a text, count as none.
FLOOR = 0.01
#: The tokens that the count takes of every place: those whose logit rose most.
TOP = 100


@dataclass(frozen=True)
class TextShift:
    """One text: the tokens that the tuned model says more or less often in it than the base model.

    tokens: in the order of their numbers. rises: by how many times a text, the sum over its places of the change in
    probability; a place does not count for the token that stands there. places: where each rose most, as the number of
    tokens before. base, tuned: its probability there.
    """

    tokens: Int[np.ndarray, "token"]
    rises: Float[np.ndarray, "token"]
    places: Int[np.ndarray, "token"]
    base: Float[np.ndarray, "token"]
    tuned: Float[np.ndarray, "token"]


@dataclass(frozen=True)
class TextShifts:
    """All texts; and for every token at how many of the places it is among the TOP whose logit rose most.

    That count is the first half of Diff Mining (arXiv 2608.26462), a baseline: it asks for no probability, so it also
    counts what neither model ever says.
    """

    texts: tuple[TextShift, ...]
    counts: Int[np.ndarray, "token"]
    places: int

    def table(self, floor: float) -> tuple[Int[np.ndarray, "token"], Float[np.ndarray, "text token"]]:
        """The tokens whose change is at least `floor` in some text, and what each changed by in every text."""
        tokens = np.unique(np.concatenate([each.tokens[np.abs(each.rises) >= floor] for each in self.texts]))
        values = np.zeros((len(self.texts), len(tokens)))
        for row, each in enumerate(self.texts):
            kept = np.isin(each.tokens, tokens)
            values[row, np.searchsorted(tokens, each.tokens[kept])] = each.rises[kept]
        return tokens, values


def cut(text: Example) -> Example:
    """A text with no more before its part, and in it, than is read; its first token is never looked at."""
    first = max(0, text.start - BEFORE)
    return Example(text.tokens[first : text.start + LONGEST], max(text.start - first, 1))


def compare(
    base: CausalModel, tuned: CausalModel, texts: Sequence[Example], processes: Processes = SINGLE
) -> TextShifts:
    """Both models at every place of the texts, as `cut` leaves them.

    Arguments:
    - base, tuned: with the same tokens. The base model itself as the tuned one is compared with what it says when it
      computes in bfloat16: a control, in which nothing was learned and every number changes a little.
    - texts: the tokens from `start` on are looked at, and the place after the last of them.
    - processes: with others, each takes its share of the texts.

    Raises: ModelError for a text that a model cannot read, and for scores that are no numbers.
    """
    for model in (base, tuned):
        refuse_unreadable(model, (each.tokens for each in texts))
    coarse = torch.autocast(base.device.type, torch.bfloat16) if base is tuned else nullcontext()
    found: dict[int, tuple[TextShift, np.ndarray, int]] = {}
    with processes.inference():
        for (number, text), counts in processes.round_robin(enumerate(texts)):
            before = _logits(base, text)
            with coarse:
                after = _logits(tuned, text)
            if counts:
                found[number] = _shift(text, before, after)
    found = processes.all_gather(found)
    ordered = [found[number] for number in range(len(texts))]
    size = max((len(own) for _, own, _ in ordered), default=0)
    counted = np.zeros(size, dtype=np.int64)
    for _, own, _ in ordered:
        counted[: len(own)] += own
    return TextShifts(tuple(each for each, _, _ in ordered), counted, sum(places for _, _, places in ordered))


def _logits(model: CausalModel, text: Example) -> Float[Tensor, "place vocabulary"]:
    """From the place before the first token of the part on, up to the place after the last."""
    read = torch.tensor([text.tokens], device=model.device)
    logits: Tensor = model(input_ids=read, use_cache=False).logits[0, text.start - 1 :].float()
    if logits.isnan().any():
        raise ModelError(**NO_NUMBERS)
    return logits


def _shift(text: Example, before: Tensor, after: Tensor) -> tuple[TextShift, np.ndarray, int]:
    """What changed in one text, how often each token is among the TOP, and the number of places."""
    size = min(before.shape[-1], after.shape[-1])
    before, after = before[:, :size], after.to(before.device)[:, :size]
    best = (after - before).topk(min(TOP, size), dim=-1).indices
    counts = torch.bincount(best.flatten(), minlength=size).cpu().numpy()
    was, now = before.softmax(-1), after.softmax(-1)
    change = now - was
    said = torch.tensor(text.tokens[text.start :], device=before.device)
    rows = torch.arange(len(said), device=before.device)
    change[rows, said] = 0
    rises = change.sum(0)
    tokens = (rises.abs() >= FLOOR).nonzero()[:, 0]
    places = change[:, tokens].argmax(0)
    parts = (tokens, rises[tokens], places + text.start, was[places, tokens], now[places, tokens])
    own = [part.cpu().numpy() for part in parts]
    shift = TextShift(own[0], own[1].astype(float), own[2], own[3].astype(float), own[4].astype(float))
    return shift, counts, len(change)
