"""Log-probabilities of whole answers, in prefix trees: what prompts or candidates share is computed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from itertools import chain, compress
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spillover.errors import ModelError
from spillover.lm.distributed import SINGLE, Processes
from spillover.lm.memory import Exhausted, free_cache, out_of_memory
from spillover.lm.tokens import Example, Request, longest_text, refuse_unreadable

#: A pair of tokens costs this much less than a token's own matrix products (a small model's; large ones gain more).
PAIRS_A_TOKEN = 1000
#: Bounds of one forward pass: tokens fed, and logits held (256 MB in float32).
MAXIMUM_TOKENS, MAXIMUM_LOGITS = 2048, 1 << 26
#: A tree takes in questions up to about this many tokens; beyond, comparing all pairs costs more than sharing saves.
TREE_TOKENS = 128
#: The most prompts that are merged at a time, so that trees not yet computed take little room.
PROMPTS_AT_ONCE = 1 << 14
#: What is said, and to be done, when a model's scores are not numbers.
NO_NUMBERS = {"what": "the model's scores are not numbers", "do": "Lower --lr if it was just trained"}
#: How texts are fed: merged in prefix trees, each as itself beside others, or each by itself.
Method = Literal["tree", "plain", "single"]
#: What configurations call the tokens that a layer of theirs looks back on.
_WINDOW = re.compile(r"(?:window|chunk|block)(?:_size|_length)?$|^local_attention$|^index_topk$")
Found = TypeVar("Found")
Given = TypeVar("Given")


@runtime_checkable
class CausalModel(Protocol):
    """A transformers model for causal language modelling, or a PEFT model around one; the two share no base class."""

    config: Any
    training: bool

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def get_input_embeddings(self) -> Any: ...
    def get_output_embeddings(self) -> Any: ...
    def get_submodule(self, target: str) -> Any: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def buffers(self) -> Iterator[Tensor]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def save_pretrained(self, save_directory: Any) -> Any: ...
    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...


@runtime_checkable
class Scores(Protocol):
    """Whatever ranks candidates after prompts: a Scorer, or a model behind an endpoint (lm.served)."""

    @property
    def longest(self) -> int | None: ...
    def score(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "candidate"]]: ...


def plain(model: CausalModel) -> CausalModel:
    """The transformers model, out of a PEFT model around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class PrefixTree:
    """Texts merged where they begin alike: each token sees itself and what stands before it in its own text.

    tokens, positions, parents: of each token fed (the last token of a text is predicted, never read); parent -1 starts
    a text. paths: for each text its predictions, as (index of the token whose logits predict it, predicted token).
    owners: for each text the (number of the request, number of the candidate) that it is, if it is one.
    """

    def __init__(self, texts: Iterable[Example] = (), owners: Sequence[tuple[int, int]] = ()) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.parents: list[int] = []
        self.paths: list[tuple[tuple[int, int], ...]] = []
        self.owners = list(owners)
        self._children: dict[tuple[int, int], int] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, text: Example) -> None:
        """Merge one more text into the tree. Its first token must not be one that is predicted."""
        node, path, last = -1, [], len(text.tokens) - 1
        for position, token in enumerate(text.tokens):
            if position >= text.start:
                path.append((node, token))
            if position < last:
                if (node, token) not in self._children:
                    self._children[node, token] = len(self.tokens)
                    self.tokens.append(token)
                    self.positions.append(position)
                    self.parents.append(node)
                node = self._children[node, token]
        self.paths.append(tuple(path))

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
class TreeBatch:
    """Trees side by side, ready for a model.

    mask: additive (tree, 1, width, width), or the ordinary (tree, width) of ones and zeros when every tree is one text;
    None for one text alone, which needs no more than its tokens.
    scored: flat positions at which logits are needed. place, token: of every prediction its index into `scored` and
    the token predicted there. places: `place`, or None where every prediction has logits of its own, in order, which
    need no copying. text: of every prediction the number of its text, counted through all trees.
    """

    tokens: Int[Tensor, "tree width"]
    positions: Int[Tensor, "tree width"]
    mask: Tensor | None
    scored: Int[Tensor, "scored"]
    place: Int[Tensor, "prediction"]
    places: Int[Tensor, "prediction"] | None
    token: Int[Tensor, "prediction"]
    text: Int[Tensor, "prediction"]

    @property
    def fed(self) -> dict[str, Tensor]:
        """What a model is called with."""
        if self.mask is None:
            return {"input_ids": self.tokens}
        return {"input_ids": self.tokens, "position_ids": self.positions, "attention_mask": self.mask}

    def to(self, device: torch.device) -> TreeBatch:
        """The batch on a device."""
        moved: Any = (None if value is None else value.to(device) for value in vars(self).values())
        return TreeBatch(*moved)

    def log_probabilities(self, logits: Float[Tensor, "scored vocabulary"]) -> Float[Tensor, "prediction"]:
        """Of every predicted token, from the logits at `scored`."""
        return logits[self.place, self.token] - normaliser(logits)[self.place]

    def by_text(self, values: Float[Tensor, "prediction"]) -> Float[np.ndarray, "text"]:
        """The sum over each text's predictions."""
        return np.bincount(self.text.cpu().numpy(), weights=values.double().cpu().numpy())


def normaliser(logits: Float[Tensor, "scored vocabulary"]) -> Float[Tensor, "scored"]:
    """The log of the sum of each row's exponentials; on a CPU row by row, since its cache holds one and not all."""
    rows = logits.split(1) if logits.device.type == "cpu" else [logits]
    return torch.cat([torch.logsumexp(row, -1) for row in rows])


def width_for(device: torch.device) -> int:
    """What the width of a batch should be a multiple of: a GPU's fast kernels take no others, a CPU takes all."""
    return 8 if device.type == "cuda" else 1


def collate(trees: Sequence[PrefixTree], dtype: torch.dtype, multiple: int = 1) -> TreeBatch:
    """Trees filled up on the right to one width; dtype is that of an additive mask.

    multiple: what the width is a multiple of. Beyond 1, ordinary texts have a mask of ones: what fills them up comes
    later and is seen by nothing before it, and kernels without a mask are the fastest.
    """
    longest = max(map(len, trees))
    alone = len(trees) == 1 and trees[0].chain
    multiple = 1 if alone else multiple
    width = -(-longest // multiple) * multiple
    chains = all(tree.chain for tree in trees)
    # No position beyond the longest text's, which the model may not have.
    on = torch.arange(width).clamp(max=longest - 1) if chains and multiple > 1 else torch.zeros(width, dtype=torch.long)
    tokens, positions = torch.zeros(len(trees), width, dtype=torch.long), on.repeat(len(trees), 1)
    # What fills a tree up sees itself, so that no line of the softmax is empty.
    seen = torch.eye(width, dtype=torch.bool).repeat(0 if chains else len(trees), 1, 1)
    scored, predictions, text = list[int](), list[tuple[int, int, int]](), 0
    for row, tree in enumerate(trees):
        tokens[row, : len(tree)] = torch.tensor(tree.tokens)
        positions[row, : len(tree)] = torch.tensor(tree.positions)
        found = {index: len(scored) + number for number, index in enumerate(tree.scored)}
        scored.extend(row * width + index for index in found)
        for path in tree.paths:
            predictions.extend((found[index], token, text) for index, token in path)
            text += 1
        if not chains:
            seen[row, : len(tree), : len(tree)] = torch.from_numpy(tree.visible())
    mask = None
    if not chains:
        mask = torch.zeros(len(trees), 1, width, width, dtype=dtype)
        mask.masked_fill_(~seen[:, None], torch.finfo(dtype).min)
    elif multiple > 1:
        mask = torch.ones_like(tokens)
    elif not alone:
        mask = (torch.arange(width) < torch.tensor([[len(tree)] for tree in trees])).long()
    place, token, number = torch.tensor(predictions, dtype=torch.long).reshape(-1, 3).unbind(1)
    places = None if torch.equal(place, torch.arange(len(scored))) else place
    return TreeBatch(tokens, positions, mask, torch.tensor(scored), place, places, token, number)


def batch_for(model: CausalModel, trees: Sequence[PrefixTree]) -> TreeBatch:
    """Trees as a model reads them best, on its device."""
    return collate(trees, model.dtype, width_for(model.device)).to(model.device)


def cheaper_merged(texts: Sequence[Example], merge: bool = True) -> list[PrefixTree]:
    """The texts as one tree, if they may `merge` and that feeds less, attention's pairs counted; else a tree each."""
    alone = [PrefixTree([text]) for text in texts]
    if not merge:
        return alone
    together, width = PrefixTree(texts), max(map(len, alone))
    apart = len(alone) * width * (1 + width / PAIRS_A_TOKEN)
    return [together] if len(together) * (1 + len(together) / PAIRS_A_TOKEN) < apart else alone


@contextmanager
def logits_only_at(model: CausalModel, positions: Int[Tensor, "position"]) -> Iterator[None]:
    """Inside, the model computes logits only at `positions` (indices into batch x length, flattened), and gives them in
    the shape (1, positions, vocabulary), if its output embedding is a module that is applied to the hidden states."""

    def gather(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        return (hidden.reshape(1, -1, hidden.shape[-1])[:, positions], *inputs[1:])

    with model.get_output_embeddings().register_forward_pre_hook(gather):
        yield


def window_of(model: CausalModel) -> float:
    """The fewest tokens that a window or chunk of the model's attention holds; infinite without any. Longer texts are
    not merged, since a tree's mask knows neither."""
    settings = vars(model.config.get_text_config()).items()
    found = [value for name, value in settings if _WINDOW.search(name) and type(value) is int and value > 0]
    return float(min(found, default="inf"))


def tree_width(model: CausalModel) -> float:
    """The most tokens that a tree may have: a window that is a mask is replaced by a tree's, any other may be counted
    in places of the batch."""
    config = model.config.get_text_config()
    masked = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    return float("inf") if masked else window_of(model)


@dataclass(eq=False)
class Scorer:
    """Scores candidates after prompts. What it gives depends on the set of questions only within rounding.

    method: how candidates are fed; by default in the first way, as prefix trees or as ordinary texts side by side, that
    gave on this very model what each text gives alone, else one text at a time. checked: the tokens of the longest text
    that it was found out for; 0 where it is simply given. maximum_tokens, maximum_logits: bounds of one forward pass,
    which are halved whenever memory runs out; then all is computed again, to the numbers of a scorer that had those
    bounds from its beginning. processes: with others, each scores its share of the batches, which are those of one
    process, all get what all of them found, and the bounds stay as they are. progress: is called with how many
    candidates of how many are scored.
    """

    model: CausalModel
    _: KW_ONLY
    method: Method | None = None
    checked: int = 0
    maximum_tokens: int = MAXIMUM_TOKENS
    maximum_logits: int = MAXIMUM_LOGITS
    processes: Processes = SINGLE
    progress: Callable[[int, int], None] | None = None
    _under_way: list[PrefixTree] = field(default_factory=list, init=False)

    @property
    def longest(self) -> int | None:
        """How many tokens the model reads at most, or None when it does not say."""
        return longest_text(self.model)

    def score(self, requests: Sequence[Request]) -> list[Float[np.ndarray, "candidate"]]:
        """Natural log-probability of every candidate of every request, summed over its tokens. Raises ModelError when
        the model cannot read one of the texts, or gives what is no number, and Exhausted when there is no memory for a
        single prompt."""

        def attempt() -> list[Float[np.ndarray, "candidate"]]:
            self.settle(requests)
            return self._score_all(requests, self._feed(requests), self.processes, self.progress)

        return self.in_smaller_passes(attempt)

    def next_tokens(
        self,
        prompts: Sequence[tuple[int, ...]],
        keep: Callable[[Float[Tensor, "prompt vocabulary"]], Sequence[Found]],
    ) -> list[Found]:
        """What `keep` makes of the natural log-probabilities of every possible next token, for each prompt.

        keep: takes the log-probabilities of some prompts at a time and gives one thing a prompt; the rest is dropped,
        so memory does not grow with the vocabulary. Raises ModelError as `score` does.
        """
        requests = [Request(tuple(prompt), ((0,),)) for prompt in prompts]

        def attempt() -> list[Found]:
            self.settle(requests)
            kept: dict[int, Found] = {}
            with self.processes.inference():
                for trees, _ in self.processes.round_robin(self._batches(self._feed(requests))):
                    batch, logits = self.logits(trees)
                    logits -= normaliser(logits)[:, None]
                    if logits.isnan().any():
                        raise ModelError(**NO_NUMBERS)
                    kept |= zip([n for tree in trees for n, _ in tree.owners], keep(logits[batch.place]), strict=True)
            kept = self.processes.all_gather(kept)
            return [kept[number] for number in range(len(requests))]

        return self.in_smaller_passes(attempt)

    def passes(self, requests: Sequence[Request]) -> Iterator[list[PrefixTree]]:
        """What `score` would compute at once, pass by pass, with the method that is known."""
        return self._batches(self._feed(requests))

    def in_smaller_passes(self, attempt: Callable[[], Given]) -> Given:
        """What `attempt` gives, made again with half the bounds whenever memory runs out, up to Exhausted."""
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
            logits, tokens = self.size(self._under_way)
            if len({number for tree in self._under_way for number, _ in tree.owners}) <= 1:
                raise Exhausted("memory ran out while a single prompt was being ranked")
            self.maximum_tokens = min(self.maximum_tokens, tokens) // 2
            self.maximum_logits = min(self.maximum_logits, logits) // 2

    def size(self, batch: Sequence[PrefixTree]) -> tuple[int, int]:
        """Logits and tokens of a batch, as they are bounded."""
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return sum(len(tree.scored) for tree in batch) * vocabulary, len(batch) * max(map(len, batch), default=0)

    def settle(self, requests: Sequence[Request]) -> Method | None:
        """How requests like these are fed, found out unless it is known. Raises ModelError for what is not read."""
        refuse_unreadable(self.model, (each.prompt + candidate for each in requests for candidate in each.candidates))
        longest = max((len(each.prompt) + max(map(len, each.candidates)) for each in requests), default=0)
        # A window that the configuration does not name shows in longer texts only.
        longer = self.checked and (longest >= 2 * self.checked or self.checked < self._window <= longest)
        if longest and (self.method is None or longer):
            self.method, self.checked = self._checked_method(requests), longest
        return self.method

    def _checked_method(self, requests: Sequence[Request]) -> Method:
        """The first method that agrees with one text at a time on this model: some ignore masks, some carry a state
        from one text to the next, and some count positions by the batch."""
        inside, beyond, made = _unlike(requests, self._may_merge)
        asked = [*inside, *made, *beyond]
        apart = [_apart(number, request) for number, request in enumerate(asked)]
        fed: dict[Method, list[PrefixTree]] = {"plain": list(chain(*apart))}
        if inside:
            # All but the last in one tree if that has room; beside it a small one, and a text that is not merged.
            last, most = len(inside) + len(made) - 1, min(self.maximum_tokens, tree_width(self.model))
            numbered = list(enumerate(asked))
            trees = [*_grown(numbered[:last], most), *_grown(numbered[last : last + 1], most)]
            fed = {"tree": [*trees, *chain(*apart[last + 1 :])], **fed}
        # The last candidate has the others before it in a tree: what a mask leaves out would show in it.
        expected = self._score_all(asked, [[trees[-1]] for trees in apart])
        # More than rounding does, which grows with the score.
        nats, share = (1e-4, 1e-5) if self.model.dtype == torch.float32 else (0.25, 0.01)
        for method, trees in fed.items():
            try:
                found = self._score_all(asked, [trees])
            except Exception as error:
                # A model's own code may assert what it likes about a mask.
                if out_of_memory(error):
                    raise
                continue
            if all(np.allclose(one[-1], two[-1], share, nats) for one, two in zip(found, expected, strict=True)):
                return method
        return "single"

    @cached_property
    def _window(self) -> float:
        return window_of(self.model)

    def _may_merge(self, request: Request) -> bool:
        return len(request.prompt) + max(map(len, request.candidates)) < self._window

    def _feed(self, requests: Sequence[Request]) -> Iterator[list[PrefixTree]]:
        """Every candidate in some tree; neighbours in the order of their tokens share what they can."""
        most = min(TREE_TOKENS, self.maximum_tokens, tree_width(self.model))
        order = sorted(range(len(requests)), key=lambda number: requests[number].prompt)
        for start in range(0, len(order), PROMPTS_AT_ONCE):
            numbered = [(number, requests[number]) for number in order[start : start + PROMPTS_AT_ONCE]]
            merge = [self.method in ("tree", None) and self._may_merge(request) for _, request in numbered]
            trees = _grown(compress(numbered, merge), most)
            trees += chain(*(_apart(*each) for each, merged in zip(numbered, merge, strict=True) if not merged))
            if self.method == "single":
                yield from ([tree] for tree in trees)
            else:
                yield trees

    def _score_all(
        self,
        requests: Sequence[Request],
        fed: Iterable[list[PrefixTree]],
        processes: Processes = SINGLE,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Float[np.ndarray, "candidate"]]:
        results = [np.zeros(len(request.candidates)) for request in requests]
        done, total = 0, sum(map(len, results))
        with self.processes.inference():
            for trees, counts in processes.round_robin(self._batches(fed)):
                owners = [owner for tree in trees for owner in tree.owners]
                for (number, candidate), value in zip(owners, self.score_batch(trees), strict=True):
                    if counts:
                        results[number][candidate] = value
                # With others, each process scores its share.
                done = min(total, done + len(owners) * processes.count)
                if progress:
                    progress(done, total)
        if progress:
            progress(total, total)
        results = processes.sum(results)
        if any(np.isnan(scores).any() for scores in results):
            raise ModelError(**NO_NUMBERS)
        return results

    def _batches(self, fed: Iterable[list[PrefixTree]]) -> Iterator[list[PrefixTree]]:
        """Trees of similar length, within the bounds on tokens and logits."""

        def beyond(tree: PrefixTree) -> bool:
            # Beside a merged tree it would have a tree's mask, which knows no window.
            return len(tree) + 1 >= self._window and tree.chain

        for trees in fed:
            batch, logits = list[PrefixTree](), 0
            for tree in sorted(trees, key=lambda tree: (beyond(tree), len(tree), tree.tokens)):
                needed, tokens = self.size([tree])
                full = (len(batch) + 1) * tokens > self.maximum_tokens or logits + needed > self.maximum_logits
                if batch and (full or (beyond(tree) and not all(each.chain for each in batch))):
                    self._under_way = batch
                    yield batch
                    batch, logits = [], 0
                batch.append(tree)
                logits += needed
            if batch:
                self._under_way = batch
                yield batch

    def score_batch(self, trees: Sequence[PrefixTree]) -> Float[np.ndarray, "text"]:
        """The score of every text of a batch."""
        batch, logits = self.logits(trees)
        return batch.by_text(batch.log_probabilities(logits))

    def logits(self, trees: Sequence[PrefixTree]) -> tuple[TreeBatch, Float[Tensor, "scored vocabulary"]]:
        """A batch as the model reads it, and the logits where they are needed, in single precision."""
        batch = batch_for(self.model, trees)
        try:
            with logits_only_at(self.model, batch.scored):
                return batch, self.model(**batch.fed, use_cache=False).logits[0].float()
        except IndexError:
            # It has learned positions, and fewer than its configuration says.
            what = f"this model cannot read a text of {max(map(len, trees)) + 1} tokens"
            raise ModelError(what, do="Shorten the pack's prompts, or name another model") from None


def _apart(number: int, request: Request) -> list[PrefixTree]:
    """Every candidate of a request as an ordinary text."""
    return [PrefixTree([text], [(number, candidate)]) for candidate, text in enumerate(request.texts)]


def _grown(requests: Iterable[tuple[int, Request]], most: int | float) -> list[PrefixTree]:
    """Numbered requests in trees of about this many tokens."""
    trees: list[PrefixTree] = []
    for number, request in requests:
        own = len(request.prompt) + sum(len(candidate) - 1 for candidate in request.candidates)
        if not trees or len(trees[-1]) + own > most:
            trees.append(PrefixTree())
        for candidate, text in enumerate(request.texts):
            trees[-1].add(text)
            trees[-1].owners.append((number, candidate))
    return trees


def _unlike(requests: Sequence[Request], fits: Callable[[Request], bool]) -> tuple[list[Request], ...]:
    """A few requests with a few candidates each, as unlike as these allow: the longest and the shortest that fit a
    window, one beyond it, and two that are made of parts of the first."""
    ordered = sorted(requests, key=lambda each: len(each.prompt))
    inside, beyond = [each for each in ordered if fits(each)], [each for each in ordered if not fits(each)][:1]
    whole = [len(each.prompt) + max(map(len, each.candidates)) for each in inside]
    inside = [inside[int(np.argmax(whole))], inside[0]] if inside else []
    inside, beyond = (
        [Request(each.prompt, tuple(sorted(each.candidates, key=len)[-3:])) for each in dict.fromkeys(chosen)]
        for chosen in (inside, beyond)
    )
    made: list[Request] = []
    for prompt, candidates in ((each.prompt, each.candidates) for each in inside[:1]):
        # Answers of several tokens, and together with them no more tokens than the first has.
        half = len(prompt) // 2
        room = max(half + max(map(len, candidates)) - 1, 1)
        answers = (candidates[0] + candidates[-1], candidates[-1] + candidates[0])
        ends = tuple(dict.fromkeys(answer[:room] for answer in answers))
        made = [Request(own, ends) for own in ((*prompt[:1], *prompt[:half:-1]), prompt[: half or 1])]
    return inside, beyond, made
