"""Log-probabilities of whole answers. A prompt and all its candidates cost one forward pass over their prefix tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.llm.tokens import Ask, Tree, refuse_unreadable, tree

#: Bounds of one forward pass: tokens fed, and logits held (256 MB in float32).
MAXIMUM_TOKENS, MAXIMUM_LOGITS = 2048, 1 << 26
#: A transformers model for causal language modelling, or a PEFT model around one; the two share no base class.
CausalModel = Any
Method = Literal["tree", "plain"]


@contextmanager
def logits_only_at(model: CausalModel, positions: Int[Tensor, "position"]) -> Iterator[None]:
    """Inside, the model computes logits only at `positions` (indices into batch x length, flattened).

    Its logits then have the shape (1, positions, vocabulary). Works for every model whose output embedding is a
    module applied to the hidden states, whatever it does to logits afterwards.
    """

    def gather(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        return (hidden.reshape(1, -1, hidden.shape[-1])[:, positions], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Fed:
    """Tokens to feed as one row, with what each may see, and which steps score which candidate."""

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    parents: tuple[int, ...]
    #: For each candidate its steps, as (index into tokens whose logits score it, token).
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def scored(self) -> list[int]:
        """Indices into tokens at which logits are needed, ascending."""
        return sorted({index for path in self.paths for index, _ in path})


def tree_sequence(prompt: Sequence[int], branches: Tree) -> Fed:
    """A prompt followed by the inner nodes of its candidates' tree, each seeing the prompt and its own ancestors."""
    length = len(prompt)
    tokens = (*prompt, *(token for token, _, _ in branches.nodes))
    positions = (*range(length), *(length + depth - 1 for _, _, depth in branches.nodes))
    parents = (*range(-1, length - 1), *(length + parent for _, parent, _ in branches.nodes))
    paths = tuple(tuple((length + node, token) for node, token in path) for path in branches.paths)
    return Fed(tokens, positions, parents, paths)


def chain_sequence(prompt: Sequence[int], candidate: Sequence[int]) -> Fed:
    """A prompt followed by one candidate: an ordinary text."""
    length = len(prompt)
    tokens = (*prompt, *candidate[:-1])
    path = tuple((length - 1 + step, token) for step, token in enumerate(candidate))
    return Fed(tokens, tuple(range(len(tokens))), tuple(range(-1, len(tokens) - 1)), (path,))


class Scorer:
    """Scores candidates after prompts. Batches by length, so that results do not depend on the order of questions.

    side: where short rows of a batch are filled up. method: how candidates are fed; by default the tree, after one
    prompt has been checked against ordinary texts on this very model, else ordinary texts.
    """

    def __init__(
        self,
        model: CausalModel,
        *,
        side: Literal["left", "right"] = "right",
        method: Method | None = None,
        maximum_tokens: int = MAXIMUM_TOKENS,
        maximum_logits: int = MAXIMUM_LOGITS,
    ) -> None:
        self.model, self.side, self.method = model, side, method
        self.maximum_tokens, self.maximum_logits = maximum_tokens, maximum_logits

    def score(self, asks: Sequence[Ask]) -> list[Float[np.ndarray, "candidate"]]:
        """Natural log-probability of every candidate of every ask, summed over its tokens.

        Raises ModelError when the model cannot read one of the texts, or says what is no number.
        """
        if not asks:
            return []
        refuse_unreadable(self.model, (ask.prompt + candidate for ask in asks for candidate in ask.candidates))
        if self.method is None:
            fitting = [ask for ask in asks if self._fits_tree(ask)]
            if fitting:
                self.method = self._checked_method(max(fitting, key=lambda ask: sum(map(len, ask.candidates))))
        trees: dict[tuple[tuple[int, ...], ...], Tree] = {}
        sequences, owners = [], []
        for number, ask in enumerate(asks):
            if self.method != "plain" and self._fits_tree(ask):
                branches = trees.setdefault(ask.candidates, tree(ask.candidates))
                sequences.append(tree_sequence(ask.prompt, branches))
                owners.append((number, slice(None)))
            else:
                for place, candidate in enumerate(ask.candidates):
                    sequences.append(chain_sequence(ask.prompt, candidate))
                    owners.append((number, slice(place, place + 1)))
        results = [np.zeros(len(ask.candidates)) for ask in asks]
        for (number, part), scores in zip(owners, self._score_sequences(sequences), strict=True):
            results[number][part] = scores
        if any(np.isnan(scores).any() for scores in results):
            raise ModelError("the model's scores are not numbers", do="Lower --lr if it was just trained")
        return results

    def _checked_method(self, ask: Ask) -> Method:
        """The tree if it agrees with ordinary texts on this model, else ordinary texts (models that ignore masks)."""
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.25
        branches = tree_sequence(ask.prompt, tree(ask.candidates))
        plain = [chain_sequence(ask.prompt, candidate) for candidate in ask.candidates]
        try:
            found = self._score_sequences([branches])[0]
        except (RuntimeError, ValueError, TypeError, IndexError):
            return "plain"
        expected = np.concatenate(self._score_sequences(plain))
        return "tree" if np.abs(found - expected).max() <= tolerance else "plain"

    def _fits_tree(self, ask: Ask) -> bool:
        """A tree's mask knows no sliding window, so a text longer than the window is scored as an ordinary text."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        return window is None or len(ask.prompt) + max(map(len, ask.candidates)) < window

    def _score_sequences(self, sequences: Sequence[Fed]) -> list[Float[np.ndarray, "candidate"]]:
        results: list[Float[np.ndarray, "candidate"]] = [np.empty(0)] * len(sequences)
        with torch.inference_mode():
            for batch in self._batches(sequences):
                for number, scores in zip(batch, self._score_batch([sequences[n] for n in batch]), strict=True):
                    results[number] = scores
        return results

    def _batches(self, sequences: Sequence[Fed]) -> Iterator[list[int]]:
        """Numbers of sequences of similar length, within the bounds on tokens and logits."""
        vocabulary = self.model.config.get_text_config().vocab_size
        batch: list[int] = []
        logits = 0
        for number in sorted(range(len(sequences)), key=lambda n: (len(sequences[n].tokens), sequences[n].tokens)):
            needed = len(sequences[number].scored) * vocabulary
            tokens = (len(batch) + 1) * len(sequences[number].tokens)
            if batch and (tokens > self.maximum_tokens or logits + needed > self.maximum_logits):
                yield batch
                batch, logits = [], 0
            batch.append(number)
            logits += needed
        if batch:
            yield batch

    def _score_batch(self, batch: Sequence[Fed]) -> list[Float[np.ndarray, "candidate"]]:
        device = self.model.device
        width = max(len(sequence.tokens) for sequence in batch)
        offsets = [0 if self.side == "right" else width - len(sequence.tokens) for sequence in batch]
        scored = [sequence.scored for sequence in batch]
        flat = [row * width + offsets[row] + index for row, indices in enumerate(scored) for index in indices]
        tokens, positions, mask = self._tensors(batch, width, offsets)
        with logits_only_at(self.model, torch.tensor(flat, device=device)):
            logits = self.model(
                input_ids=tokens.to(device), position_ids=positions.to(device), attention_mask=mask.to(device),
                use_cache=False,
            ).logits[0].float()  # fmt: skip
        steps = self._steps(batch, scored)
        rows, wanted = (torch.tensor(part, device=device) for part in zip(*steps.pairs, strict=True))
        found = (logits[rows, wanted] - torch.logsumexp(logits, -1)[rows]).double().cpu().numpy()
        totals = np.bincount(steps.candidate, weights=found)
        return np.split(totals, np.cumsum([len(sequence.paths) for sequence in batch])[:-1])

    def _tensors(
        self, batch: Sequence[Fed], width: int, offsets: Sequence[int]
    ) -> tuple[Int[Tensor, "row width"], Int[Tensor, "row width"], Tensor]:
        """Tokens, positions, and an additive mask (row, 1, width, width), or the ordinary 2-D mask for plain texts."""
        tokens = torch.zeros(len(batch), width, dtype=torch.long)
        positions = torch.zeros_like(tokens)
        chains = all(sequence.parents == tuple(range(-1, len(sequence.tokens) - 1)) for sequence in batch)
        seen = torch.eye(width, dtype=torch.bool).repeat(len(batch), 1, 1)
        filled = torch.zeros(len(batch), width, dtype=torch.long)
        for row, (sequence, offset) in enumerate(zip(batch, offsets, strict=True)):
            here = slice(offset, offset + len(sequence.tokens))
            tokens[row, here] = torch.tensor(sequence.tokens)
            positions[row, here] = torch.tensor(sequence.positions)
            filled[row, here] = 1
            if not chains:
                seen[row, here, here] = torch.from_numpy(_visible(sequence.parents))
        if chains:
            return tokens, positions, filled
        mask = torch.zeros(len(batch), 1, width, width, dtype=self.model.dtype)
        return tokens, positions, mask.masked_fill_(~seen[:, None], torch.finfo(self.model.dtype).min)

    @staticmethod
    def _steps(batch: Sequence[Fed], scored: Sequence[Sequence[int]]) -> _Steps:
        """Every (logit row, token) pair that some candidate needs, and the candidate it belongs to."""
        pairs: list[tuple[int, int]] = []
        owners: list[int] = []
        base, candidate = 0, 0
        for sequence, indices in zip(batch, scored, strict=True):
            place = {index: base + number for number, index in enumerate(indices)}
            for path in sequence.paths:
                pairs.extend((place[index], token) for index, token in path)
                owners.extend([candidate] * len(path))
                candidate += 1
            base += len(indices)
        return _Steps(pairs, np.array(owners))


@dataclass(frozen=True)
class _Steps:
    pairs: list[tuple[int, int]]
    candidate: Int[np.ndarray, "step"]


def _visible(parents: Sequence[int]) -> np.ndarray:
    """Which earlier tokens each token sees: itself and its ancestors (square, True where seen)."""
    seen = np.eye(len(parents), dtype=bool)
    for index, parent in enumerate(parents):
        if parent >= 0:
            seen[index] |= seen[parent]
    return seen
