"""Where in a prompt a change acts: tuned weights grafted, or tuned activations patched, at the tokens of one role.

A graft gives each token its own weights: those of the role are computed with the tuned ones, all others with the base
model's, so that a token attends to what the others made of themselves. A patch takes the base model and puts the tuned
model's residual stream in at one layer's end, as activation patching does.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from spillover.errors import ModelError
from spillover.interp.patching import Change, PatchedPart, Region
from spillover.lm.output_value import places
from spillover.lm.score import Method, PrefixTree, Scorer, TreeBatch, batch_for, logits_only_at
from spillover.lm.tokens import Encoder, Request
from spillover.packs.pack import SUBJECT, Pack
from spillover.record import EVERY_LAYER

#: Roles of tokens: of the subject's name; all others before the last; the last, and those of the answer behind it.
ROLES = ("subject", "other words", "last token")
NAME, OTHER, LAST = ROLES


def roles_of(
    tokenizer: PreTrainedTokenizerBase, encode: Encoder, pack: Pack, relation: str, subject: str, prompt: int
) -> tuple[str, ...]:
    """The role of every token of a prompt. The last token is LAST, even where it belongs to the name.

    Arguments:
    - tokenizer, encode: of the model; the tokenizer must say where in the text each token stands.
    - pack: in the words that the model is asked in.
    - relation, subject, prompt: which prompt.

    Returns: one of ROLES a token.

    Raises: ModelError for a tokenizer that does not say where a token stands.
    """
    text = pack.prompt(relation, subject, prompt)
    try:
        places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    except NotImplementedError:
        what = "this model's tokenizer does not say where in a text a token stands"
        raise ModelError(what, do="Leave positions out with --positions none") from None
    asked, spans, end = pack.relation_by_name[relation], [], 0
    pieces, called = asked.prompts[prompt].split(SUBJECT), asked.called(subject)
    for piece in pieces[:-1]:
        spans.append((end + len(piece), end + len(piece) + len(called)))
        end = spans[-1][1]
    front = [OTHER] * (len(encode(text)) - len(places))
    named = [any(start < last and first < stop for first, last in spans) for start, stop in places]
    return (*front, *(NAME if each else OTHER for each in named[:-1]), LAST)


class GraftedScorer(Scorer):
    """Scores with the tuned weights of some parts at the tokens of one role alone, and the base model's elsewhere.

    Arguments:
    - change: whose base model is asked; its weights are put back afterwards.
    - roles: of every token of each request's prompt; what stands behind a prompt is LAST.
    - role, region: the tokens and the weights.
    - left_out: the other way round: the tuned model, with the base model's weights there.
    - method: how a scorer of this model feeds texts; questions share nothing with one another here.

    Raises: ModelError for weights that do not treat each token by itself.
    """

    def __init__(
        self, change: Change, roles: Sequence[Sequence[str]], role: str, region: Region,
        *, left_out: bool = False, method: Method | None = None,
    ) -> None:  # fmt: skip
        super().__init__(change.model, method=method or "plain")
        self.change, self.roles, self.role, self.left_out = change, roles, role, left_out
        self.part = PatchedPart("", "", region)
        self.tuned = dict(_tuned_modules(change, region))
        self.axes = _token_axes(change, self.tuned)

    def _feed(self, requests: Sequence[Request]) -> Iterator[list[PrefixTree]]:
        found = []
        for number, request in enumerate(requests):
            owned = [(text, (number, candidate)) for candidate, text in enumerate(request.texts)]
            for group in [owned] if self.method == "tree" else [[each] for each in owned]:
                found.append(PrefixTree([text for text, _ in group], [owner for _, owner in group]))
        yield from ([tree] for tree in found) if self.method == "single" else [found]

    def logits(self, trees: Sequence[PrefixTree]) -> tuple[TreeBatch, Float[Tensor, "scored vocabulary"]]:
        batch = batch_for(self.model, trees)
        at = self._at(trees, batch)
        if not self.left_out:
            with self._grafted(at, batch):
                return batch, self._run(batch)
        with self.change.without(self.part), self._grafted(~at, batch):
            return batch, self._run(batch)

    def _run(self, batch: TreeBatch) -> Float[Tensor, "scored vocabulary"]:
        with logits_only_at(self.model, batch.scored):
            logits: Tensor = self.model(**batch.fed, use_cache=False).logits[0].float()
        return logits

    def _at(self, trees: Sequence[PrefixTree], batch: TreeBatch) -> Bool[Tensor, "tree width"]:
        """Which tokens have the role. Each tree is of one request."""
        at = torch.zeros(batch.tokens.shape, dtype=torch.bool)
        for row, tree in enumerate(trees):
            roles = self.roles[tree.owners[0][0]]
            own = [(roles[place] if place < len(roles) else LAST) == self.role for place in tree.positions]
            at[row, : len(own)] = torch.tensor(own)
        return at.to(self.model.device)

    @contextmanager
    def _grafted(self, at: Bool[Tensor, "tree width"], batch: TreeBatch) -> Iterator[None]:
        """Inside, the modules of the region compute these tokens with the tuned weights."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            axis, given = self.axes[module], inputs[0]
            if axis == 1:
                # The output embedding reads only the tokens that are scored.
                own = at if output.shape[:2] == at.shape else at.reshape(1, -1)[:, batch.scored]
                given = given.expand(*own.shape, *given.shape[2:])
                output = output.expand(*own.shape, *output.shape[2:]).clone()
                # Called by its method, since what others hooked to the module has been done.
                output[own] = self.tuned[module].forward(given[own])
                return output
            # A norm within each head, where the heads come before the tokens.
            view = at[(slice(None), *[None] * (axis - 1), slice(None), *[None] * (output.ndim - axis - 1))]
            return torch.where(view, self.tuned[module].forward(given), output)

        handles = [module.register_forward_hook(hook) for module in self.tuned]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class PatchedScorer(GraftedScorer):
    """Scores of the base model with the tuned model's residual stream behind one layer, at the tokens of one role.

    block: the layer's name (see `blocks_of`); the rest as of a GraftedScorer.
    """

    def __init__(
        self, change: Change, roles: Sequence[Sequence[str]], role: str, block: str, *, method: Method | None = None
    ) -> None:
        super().__init__(change, roles, role, {}, method=method)
        self.block = change.model.get_submodule(block)

    def logits(self, trees: Sequence[PrefixTree]) -> tuple[TreeBatch, Float[Tensor, "scored vocabulary"]]:
        batch = batch_for(self.model, trees)
        at, seen = self._at(trees, batch), list[Tensor]()

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        def put(module: nn.Module, inputs: Any, output: Any) -> Any:
            own = output[0] if isinstance(output, tuple) else output
            own = torch.where(at[:, :, None], seen[0], own)
            return (own, *output[1:]) if isinstance(output, tuple) else own

        with self.change.only(self.change.whole), self.block.register_forward_hook(keep):
            self._run(batch)
        with self.block.register_forward_hook(put):
            return batch, self._run(batch)


def _tuned_modules(change: Change, region: Region) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The modules that hold weights of a region, each with one like it that holds the tuned values. Raises ModelError
    for one that may not treat each token by itself."""
    own_weights = dict(change.model.named_parameters())
    by_address = {own_weights[name].data_ptr(): name for name in region}
    for name, module in change.model.named_modules():
        own = {
            key: nn.Parameter(change.after[known], requires_grad=False)
            for key, weight in module.named_parameters(recurse=False)
            if (known := by_address.get(weight.data_ptr()))
        }
        if not own:
            continue
        if not (isinstance(module, nn.Linear | Conv1D | nn.Embedding) or "Norm" in type(module).__name__):
            what = f"{name} ({type(module).__name__}) of this model may not treat each token by itself"
            raise ModelError(what, do="Leave positions out with --positions none")
        tuned = copy.copy(module)
        tuned._parameters = {**module._parameters, **own}
        yield module, tuned


def _token_axes(change: Change, modules: Collection[nn.Module]) -> dict[nn.Module, int]:
    """The axis of each module's output along which the tokens stand: 1, but for norms of heads that come before them.
    Seen on a text with one token more than there are heads."""
    width = change.model.config.get_text_config().num_attention_heads + 1
    found = dict.fromkeys(modules, 1)

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.ndim > 3:
            found[module] = output.shape[:-1].index(width)

    handles = [module.register_forward_hook(see) for module in modules if "Norm" in type(module).__name__]
    try:
        with torch.inference_mode():
            change.model(input_ids=torch.zeros(1, width, dtype=torch.long, device=change.model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


@dataclass(frozen=True)
class PositionModel:
    """A model between the base and the tuned one, and how to score with it.

    part: the tokens and the layers. kind: `position` for weights, `activation` for activations. left_out: whether it is
    the tuned model without them.
    """

    part: str
    kind: str
    left_out: bool
    scorer: Callable[[], GraftedScorer]


def position_models(
    change: Change, roles: Sequence[Sequence[str]], *, bands: int | None = None, method: Method | None = None
) -> list[PositionModel]:
    """Every role with the weights of all layers and of each band of them, alone and left out; then with the activations
    behind each band.

    Arguments:
    - change: of one run.
    - roles: of every token of each request's prompt.
    - bands: of neighbouring layers, at most; None for each layer by itself.
    - method: how a scorer of this model feeds texts.

    Raises: ModelError when the model has no attention of a known shape, or weights that mix tokens.
    """
    blocks = blocks_of(change)
    groups = [blocks[each[0] : each[-1] + 1] for each in np.array_split(np.arange(len(blocks)), bands or len(blocks))
              if len(each)]  # fmt: skip
    regions: dict[str, Region] = {EVERY_LAYER: change.whole.region}
    behind, last = dict[str, str](), 0
    for group in groups:
        first, last = last + 1, last + len(group)
        name = f"layer {first}" if first == last else f"layers {first}-{last}"
        inside = tuple(f"{block}." for block in group)
        regions[name] = {weight: None for weight in change.after if weight.startswith(inside)}
        behind[f"behind layer {last}"] = group[-1]
    dict(_tuned_modules(change, change.whole.region))  # Raises for weights that mix tokens.
    found = [
        PositionModel(f"{role}, {name}", "position", left_out, partial(
            GraftedScorer, change, roles, role, region, left_out=left_out, method=method))
        for (name, region), role, left_out in product(regions.items(), ROLES, (False, True))
    ]  # fmt: skip
    return found + [
        PositionModel(f"{role}, {name}", "activation", False, partial(
            PatchedScorer, change, roles, role, block, method=method))
        for (name, block), role in product(behind.items(), ROLES)
    ]  # fmt: skip


def blocks_of(change: Change) -> list[str]:
    """The names of the model's layers, from the first on."""
    return list(dict.fromkeys(place.value.weight.rsplit(".", 3)[0] for place in places(change.model)))
