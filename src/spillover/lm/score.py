"""Log-probabilities of whole answers, in prefix trees: what prompts or candidates share is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.lm.distributed import ALONE, Processes
from spillover.lm.micro_batch import Exhausted, free_cache, out_of_memory
from spillover.lm.tokens import Example, Request, refuse_unreadable

#: A pair of tokens costs this much less than a token's own matrix products (a small model's; large ones gain more).
PAIRS_A_TOKEN = 1000
Step = tuple[int, int]


class PrefixTree:
    """Texts as one row of tokens in which each token sees its own text only: itself and what stands before it.

    tokens, positions, parents: of each token fed (the last token of a text is predicted, never read); parent -1 starts
    a text. paths: for each text its steps, as (index of the token whose logits predict it, predicted token).
    """

    def __init__(self, texts: Iterable[Example] = ()) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.parents: list[int] = []
        self.paths: list[tuple[Step, ...]] = []
        self._children: dict[tuple[int, int], int] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, text: Example) -> None:
        """Merge one more text into the forest. Its first token must not be one that is predicted."""
        node, steps = -1, []
        last = len(text.tokens) - 1
        for place, token in enumerate(text.tokens):
            if place >= text.start:
                steps.append((node, token))
            if place < last:
                node = self._child(node, token, place)
        self.paths.append(tuple(steps))

    def _child(self, node: int, token: int, place: int) -> int:
        found = self._children.get((node, token))
        if found is None:
            found = self._children[node, token] = len(self.tokens)
            self.tokens.append(token)
            self.positions.append(place)
            self.parents.append(node)
        return found

    @property
    def chain(self) -> bool:
        """Whether it is one ordinary text."""
        return self.parents == list(range(-1, len(self.parents) - 1))

    @property
    def scored(self) -> list[int]:
        """Indices into tokens at which logits are needed, ascending."""
        return sorted({index for path in self.paths for index, _ in path})

    def visible(self) -> np.ndarray:
        """Which tokens each token sees: itself and its ancestors (square, True where seen)."""
        seen = np.eye(len(self), dtype=bool)
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                seen[index] |= seen[parent]
        return seen


@dataclass(frozen=True)
class Batch:
    """Forests side by side, ready for a model.

    mask: additive (row, 1, width, width), or the ordinary (row, width) of ones and zeros when every row is one text.
    scored: flat positions at which logits are needed. place, token: of every step its index into `scored` and the
    token predicted there. text: of every step the number of its text, counted through all forests.
    """

    tokens: Int[Tensor, "row width"]
    positions: Int[Tensor, "row width"]
    mask: Tensor
    scored: Int[Tensor, "scored"]
    place: Int[Tensor, "step"]
    token: Int[Tensor, "step"]
    text: Int[Tensor, "step"]

    @property
    def places(self) -> Int[Tensor, "step"] | None:
        """`place`, or None where every step has logits of its own, in order, which need not be copied to be picked."""
        return None if torch.equal(self.place, torch.arange(len(self.scored))) else self.place


def width_for(device: torch.device) -> int:
    """What the width of a batch should be a multiple of: a GPU's fast kernels take no others, a processor takes all."""
    return 8 if device.type == "cuda" else 1


def collate(
    forests: Sequence[PrefixTree], dtype: torch.dtype, side: Literal["left", "right"] = "right", multiple: int = 1
) -> Batch:
    """Fill short rows up on `side`; dtype is that of an additive mask.

    multiple: what the width is a multiple of. Beyond 1, ordinary texts that are filled up behind their ends have a mask
    of ones: what comes later is seen by nothing before it, and kernels without a mask are the fastest.
    """
    longest = max(map(len, forests))
    width = -(-longest // multiple) * multiple
    behind = multiple > 1 and side == "right" and all(forest.chain for forest in forests)
    offsets = [0 if side == "right" else width - len(forest) for forest in forests]
    tokens = torch.zeros(len(forests), width, dtype=torch.long)
    # None beyond the longest text's, which the model may not have.
    on = torch.arange(width).clamp(max=longest - 1)
    positions = on.repeat(len(forests), 1) if behind else torch.zeros_like(tokens)
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        here = slice(offset, offset + len(forest))
        tokens[row, here] = torch.tensor(forest.tokens)
        positions[row, here] = torch.tensor(forest.positions)
    mask = torch.ones_like(tokens) if behind else _mask(forests, offsets, width, dtype)
    return Batch(tokens, positions, mask, *_steps(forests, offsets, width))


def _mask(forests: Sequence[PrefixTree], offsets: Sequence[int], width: int, dtype: torch.dtype) -> Tensor:
    if all(forest.chain for forest in forests):
        filled = torch.zeros(len(forests), width, dtype=torch.long)
        for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
            filled[row, offset : offset + len(forest)] = 1
        return filled
    # What fills a row up sees itself, so that no line of the softmax is empty.
    seen = torch.eye(width, dtype=torch.bool).repeat(len(forests), 1, 1)
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        here = slice(offset, offset + len(forest))
        seen[row, here, here] = torch.from_numpy(forest.visible())
    mask = torch.zeros(len(forests), 1, width, width, dtype=dtype)
    return mask.masked_fill_(~seen[:, None], torch.finfo(dtype).min)


def _steps(forests: Sequence[PrefixTree], offsets: Sequence[int], width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scored: list[int] = []
    steps: list[tuple[int, int, int]] = []
    text = 0
    for row, (forest, offset) in enumerate(zip(forests, offsets, strict=True)):
        indices = forest.scored
        place = {index: len(scored) + number for number, index in enumerate(indices)}
        scored.extend(row * width + offset + index for index in indices)
        for path in forest.paths:
            steps.extend((place[index], token, text) for index, token in path)
            text += 1
    parts = torch.tensor(steps, dtype=torch.long).reshape(-1, 3)
    return torch.tensor(scored), parts[:, 0], parts[:, 1], parts[:, 2]


def cheaper_merged(texts: Sequence[Example]) -> list[PrefixTree]:
    """The texts as one forest where that feeds less, counting the pairs that attention compares, else a row each."""
    together, alone = PrefixTree(texts), [PrefixTree([text]) for text in texts]
    width = max(map(len, alone))
    apart = len(alone) * width * (1 + width / PAIRS_A_TOKEN)
    return [together] if len(together) * (1 + len(together) / PAIRS_A_TOKEN) < apart else alone


#: Bounds of one forward pass: tokens fed, and logits held (256 MB in float32).
MAXIMUM_TOKENS, MAXIMUM_LOGITS = 2048, 1 << 26
#: A forest takes in questions up to about so many tokens; beyond, comparing all pairs costs more than sharing saves.
TREE_TOKENS = 128
#: So many prompts are merged at a time, so that forests not yet computed take little room.
PROMPTS_AT_ONCE = 1 << 14
#: A transformers model for causal language modelling, or a PEFT model around one; the two share no base class.
CausalModel = Any
Method = Literal["tree", "plain"]
Found = TypeVar("Found")
Given = TypeVar("Given")


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


def fits_window(model: CausalModel, length: int) -> bool:
    """Whether a text of so many tokens may be merged with others: a forest's mask knows no sliding window."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is None or length < window


@dataclass(frozen=True)
class _Fed:
    """A forest, and which candidates of which asks its texts are, as (number of the ask, number of the candidate)."""

    forest: PrefixTree
    owners: list[tuple[int, int]]


class Scorer:
    """Scores candidates after prompts. What it gives depends on the set of questions only within rounding.

    side: where short rows of a batch are filled up. method: how candidates are fed; by default as forests, after one
    prompt has been checked against ordinary texts on this very model, else as ordinary texts. maximum_tokens,
    maximum_logits: bounds of one forward pass, which are halved whenever memory runs out; then all is computed again,
    to the numbers of a scorer that had those bounds from its beginning. processes: with others, each scores its share
    of the batches, which are those of one process, all get what all of them found, and the bounds stay as they are.
    """

    def __init__(
        self,
        model: CausalModel,
        *,
        side: Literal["left", "right"] = "right",
        method: Method | None = None,
        maximum_tokens: int = MAXIMUM_TOKENS,
        maximum_logits: int = MAXIMUM_LOGITS,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.side, self.method, self.processes = model, side, method, processes
        self.maximum_tokens, self.maximum_logits = maximum_tokens, maximum_logits
        self._under_way: list[_Fed] = []

    def score(self, asks: Sequence[Request]) -> list[Float[np.ndarray, "candidate"]]:
        """Natural log-probability of every candidate of every ask, summed over its tokens.

        Raises ModelError when the model cannot read one of the texts, or says what is no number, and Exhausted when
        there is no memory for a single prompt.
        """

        def attempt() -> list[Float[np.ndarray, "candidate"]]:
            self._prepare(asks)
            return self._score_all(asks, self._feed(asks), self.processes)

        return self._in_smaller_passes(attempt)

    def next_tokens(
        self,
        prompts: Sequence[tuple[int, ...]],
        keep: Callable[[Float[Tensor, "prompt vocabulary"]], Sequence[Found]],
    ) -> list[Found]:
        """What `keep` makes of the natural log-probabilities of every possible next token, for each prompt.

        keep: told some prompts at a time, a row each, and gives one thing a row; what it leaves out is gone, so memory
        does not grow with the vocabulary. Raises ModelError as `score` does.
        """
        return self._in_smaller_passes(lambda: self._next_tokens(prompts, keep))

    def largest(self, asks: Sequence[Request]) -> list[PrefixTree]:
        """What `score` would compute at once where it takes the most memory, of the first many prompts."""
        batches = self._batches(itertools.islice(self._feed(asks), 1))
        return [each.forest for each in max(batches, key=self._size)]

    def passes(self, asks: Sequence[Request]) -> Iterator[list[PrefixTree]]:
        """What `score` would compute at once, pass by pass, with the method that is known."""
        return ([each.forest for each in batch] for batch in self._batches(self._feed(asks)))

    def _next_tokens(
        self,
        prompts: Sequence[tuple[int, ...]],
        keep: Callable[[Float[Tensor, "prompt vocabulary"]], Sequence[Found]],
    ) -> list[Found]:
        asks = [Request(tuple(prompt), ((0,),)) for prompt in prompts]
        if self.method is None and prompts:
            # Two texts that part before their end, or there would be no forest to check.
            self._prepare([Request(min((ask.prompt for ask in asks), key=len), ((1, 0), (2, 0)))])
        self._prepare(asks)
        kept: dict[int, Found] = {}
        with self.processes.asking():
            for batch, _ in self.processes.turns(self._batches(self._feed(asks))):
                collated, logits = self._logits(batch)
                logits -= torch.logsumexp(logits, -1, keepdim=True)
                if logits.isnan().any():
                    raise _no_numbers()
                owners = [number for each in batch for number, _ in each.owners]
                kept |= zip(owners, keep(logits[collated.place.to(logits.device)]), strict=True)
        kept = self.processes.together(kept)
        return [kept[number] for number in range(len(asks))]

    def _in_smaller_passes(self, attempt: Callable[[], Given]) -> Given:
        """What `attempt` gives, made again with half the bounds whenever memory runs out."""
        while True:
            try:
                return attempt()
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if self.processes.count > 1:
                    # The others would go on with batches of another size, and so of other questions.
                    raise Exhausted("memory ran out while prompts were being ranked in several processes") from None
            # Outside of `except`, where the error would keep the failed pass and all that it computed.
            free_cache(self.model.device)
            self._halve()

    def _halve(self) -> None:
        logits, tokens = self._size(self._under_way)
        if len({number for each in self._under_way for number, _ in each.owners}) <= 1:
            raise Exhausted("memory ran out while a single prompt was being ranked")
        self.maximum_tokens = min(self.maximum_tokens, tokens) // 2
        self.maximum_logits = min(self.maximum_logits, logits) // 2

    def _size(self, batch: Sequence[_Fed]) -> tuple[int, int]:
        """Logits and tokens of a batch, as they are bounded."""
        scored = sum(len(each.forest.scored) for each in batch)
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return scored * vocabulary, len(batch) * max((len(each.forest) for each in batch), default=0)

    def _prepare(self, asks: Sequence[Request]) -> None:
        """Refuse what the model cannot read, and find out how it may be fed."""
        refuse_unreadable(self.model, (ask.prompt + candidate for ask in asks for candidate in ask.candidates))
        fitting = [ask for ask in asks if self._may_merge(ask)] if self.method is None else []
        if fitting:
            self.method = self._checked_method(max(fitting, key=lambda ask: sum(map(len, ask.candidates))))

    def _checked_method(self, ask: Request) -> Method:
        """The forest if it agrees with ordinary texts on this model, else those (some models ignore masks)."""
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.25
        owners = [(0, number) for number in range(len(ask.candidates))]
        try:
            found = self._score_all([ask], [[_Fed(PrefixTree(ask.texts), owners)]])[0]
        except (RuntimeError, ValueError, TypeError, IndexError, ModelError) as error:
            if out_of_memory(error):
                raise
            return "plain"
        expected = self._score_all([ask], [list(_apart(0, ask))])[0]
        return "tree" if np.abs(found - expected).max() <= tolerance else "plain"

    def _may_merge(self, ask: Request) -> bool:
        return fits_window(self.model, len(ask.prompt) + max(map(len, ask.candidates)))

    def _feed(self, asks: Sequence[Request]) -> Iterator[list[_Fed]]:
        """Every candidate in some forest; neighbours in the order of their tokens share what they can."""
        order = sorted(range(len(asks)), key=lambda number: asks[number].prompt)
        for start in range(0, len(order), PROMPTS_AT_ONCE):
            yield self._merged(asks, order[start : start + PROMPTS_AT_ONCE])

    def _merged(self, asks: Sequence[Request], numbers: Sequence[int]) -> list[_Fed]:
        fed: list[_Fed] = []
        growing: _Fed | None = None
        for number in numbers:
            ask = asks[number]
            if self.method == "plain" or not self._may_merge(ask):
                fed.extend(_apart(number, ask))
                continue
            own = len(ask.prompt) + sum(len(candidate) - 1 for candidate in ask.candidates)
            if growing is None or len(growing.forest) + own > min(TREE_TOKENS, self.maximum_tokens):
                growing = _Fed(PrefixTree(), [])
                fed.append(growing)
            for place, text in enumerate(ask.texts):
                growing.forest.add(text)
                growing.owners.append((number, place))
        return fed

    def _score_all(
        self, asks: Sequence[Request], fed: Iterable[list[_Fed]], processes: Processes = ALONE
    ) -> list[Float[np.ndarray, "candidate"]]:
        results = [np.zeros(len(ask.candidates)) for ask in asks]
        with self.processes.asking():
            for batch, counts in processes.turns(self._batches(fed)):
                owners = [owner for each in batch for owner in each.owners]
                for (number, place), value in zip(owners, self._score_batch(batch), strict=True):
                    results[number][place] = value if counts else results[number][place]
        results = processes.sum(results)
        if any(np.isnan(scores).any() for scores in results):
            raise _no_numbers()
        return results

    def _batches(self, fed: Iterable[list[_Fed]]) -> Iterator[list[_Fed]]:
        """Forests of similar length, within the bounds on tokens and logits."""
        for some in fed:
            for batch in self._cut(some):
                self._under_way = batch
                yield batch

    def _cut(self, fed: list[_Fed]) -> Iterator[list[_Fed]]:
        vocabulary = self.model.config.get_text_config().vocab_size
        batch: list[_Fed] = []
        logits = 0
        for each in sorted(fed, key=lambda each: (len(each.forest), each.forest.tokens)):
            needed = len(each.forest.scored) * vocabulary
            tokens = (len(batch) + 1) * len(each.forest)
            if batch and (tokens > self.maximum_tokens or logits + needed > self.maximum_logits):
                yield batch
                batch, logits = [], 0
            batch.append(each)
            logits += needed
        if batch:
            yield batch

    def _score_batch(self, fed: Sequence[_Fed]) -> Float[np.ndarray, "text"]:
        """The score of every text of a batch."""
        batch, logits = self._logits(fed)
        place, token = batch.place.to(logits.device), batch.token.to(logits.device)
        found = (logits[place, token] - torch.logsumexp(logits, -1)[place]).double().cpu().numpy()
        return np.bincount(batch.text.numpy(), weights=found)

    def _logits(self, fed: Sequence[_Fed]) -> tuple[Batch, Float[Tensor, "scored vocabulary"]]:
        """A batch as the model reads it, and the logits where they are needed."""
        device = self.model.device
        forests = [each.forest for each in fed]
        batch = collate(forests, self.model.dtype, self.side, width_for(self.model.device))
        with logits_only_at(self.model, batch.scored.to(device)):
            logits = self.model(
                input_ids=batch.tokens.to(device), position_ids=batch.positions.to(device),
                attention_mask=batch.mask.to(device), use_cache=False,
            ).logits[0].float()  # fmt: skip
        return batch, logits


def _no_numbers() -> ModelError:
    return ModelError("the model's scores are not numbers", do="Lower --lr if it was just trained")


def _apart(number: int, ask: Request) -> Iterator[_Fed]:
    """Every candidate of an ask as an ordinary text."""
    for place, text in enumerate(ask.texts):
        yield _Fed(PrefixTree([text]), [(number, place)])
