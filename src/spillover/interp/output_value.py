"""W_OV of every attention head of a model in training: its spectrum, its change, and what heads write for whom.

A head's change is shared when it writes the same for subjects whose implication was stated and for the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from random import Random
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from spillover.lm.output_value import Factored, Place, changes_of, factors_of, places, precise, triangle_of
from spillover.lm.score import CausalModel, logits_only_at, plain
from spillover.lm.tokens import Encoder, evenly, in_common
from spillover.packs.builtin import available, draw_names
from spillover.packs.pack import Implication, Pack
from spillover.record import INSIDE_SCHEMA, SHARED_SCHEMA

#: At most this many subjects of each sort are looked at, so that the cost does not grow with the pack.
MOST = 20
#: The directions of the stated subjects are the fewest that hold this share of what is written for them.
SHARE = 0.9
SORTS = ("stated", "unstated", "never_seen")


class BaseProducts:
    """The value and output weights of a model before training, against which changes are measured.

    copied: keep copies, for a model that is trained in place. Raises ModelError when the model has no attention of a
    known shape.
    """

    def __init__(self, model: CausalModel, *, copied: bool) -> None:
        self.places = places(model)
        #: Heads that share values, and so the work on the left factor.
        self.sharing = [list(heads) for _, heads in groupby(self.places, key=lambda place: place.value)]
        self.weights = {name: value.clone() if copied else value for name, value in self._factors(model).items()}
        self._grams: dict[Place, Tensor] = {}

    def _factors(self, model: CausalModel) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in factors_of(model, self.places).items()}

    def spectra(self, model: CausalModel, *, seed: int, checkpoint: int, full: bool) -> pa.Table:
        """One row a head and matrix, as record.INSIDE_SCHEMA says; before training only of the products. full: with the
        singular values, not only norms of the changes."""
        rows: list[dict[str, Any]] = []
        merged = bool(changes_of(model))
        with torch.inference_mode():
            if full:
                rows += self._rows("product", self._products(model), merged)
            if checkpoint and (full or merged):
                rows += self._rows("change", self.changes(model), merged)
            elif checkpoint:
                rows += self._norms(self._factors(model))
        rows.sort(key=lambda row: (row["layer"], row["head"]))
        table = [{"seed": seed, "checkpoint": checkpoint, **row} for row in rows]
        return pa.Table.from_pylist(table, schema=INSIDE_SCHEMA)

    def _rows(self, matrix: str, products: Mapping[Place, Factored], apart: bool) -> Iterator[dict[str, Any]]:
        """The spectrum of each."""
        for heads in self.sharing:
            # Heads that share values share a left factor, unless each has a matrix of its own.
            triangle = None if apart else triangle_of(products[heads[0]].left)
            for place in heads:
                values = products[place].singular_values(triangle).double()
                yield _row(place, matrix, rank_of(products[place]), spectrum(values))

    def _norms(self, now: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
        """The Frobenius norm of each change, with what does not change, or is shared between heads, computed once."""
        self._grams = self._grams or {place: place.product(self.weights).right_gram() for place in self.places}
        for heads in self.sharing:
            left = heads[0].product(self.weights).left_grams(heads[0].product(now))
            for place in heads:
                old, new = place.product(self.weights), place.product(now)
                norm = float(old.squared_distance(new, left, self._grams[place]).clamp(min=0)) ** 0.5
                # Of the difference of two products, which has as many inner columns as both together.
                rank = min(2 * new.left.shape[1], new.left.shape[0], new.right.shape[1])
                yield _row(place, "change", rank, {"frobenius": norm})

    def changes(self, model: CausalModel) -> dict[Place, Factored]:
        """The change of W_OV of every head."""
        now, added = self._factors(model), changes_of(model)
        if added:
            return {place: Factored(own, torch.eye(len(own.T), dtype=own.dtype)) for place, own in added.items()}
        return {place: place.product(now).minus(place.product(self.weights)) for place in self.places}

    def _products(self, model: CausalModel) -> dict[Place, Factored]:
        """W_OV of every head, with what is added to it."""
        now, added = self._factors(model), changes_of(model)
        return {place: place.product(now).plus(added.get(place)) for place in self.places}


def rank_of(product: Factored) -> int:
    """The most that its rank can be."""
    return min(product.left.shape[1], product.left.shape[0], product.right.shape[1])


def _row(place: Place, matrix: str, rank: int, numbers: Mapping[str, float]) -> dict[str, Any]:
    return {"layer": place.layer, "head": place.head, "matrix": matrix, "rank": rank, **numbers}


def spectrum(values: Float[Tensor, " values"]) -> dict[str, float]:
    """Frobenius norm of singular values; unless that is zero, also the effective rank, the share of the largest, and
    the ratio of nuclear to Frobenius norm (1 for rank one, the root of the rank for equal values)."""
    frobenius, nuclear = float(values.norm()), float(values.sum())
    if frobenius == 0:
        return {"frobenius": 0.0}
    shares = values / nuclear
    return {
        "frobenius": frobenius,
        "nuclear_to_frobenius": nuclear / frobenius,
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "top_share": float(shares[0]),
    }


def shared(
    before: BaseProducts, model: CausalModel, pack: Pack, encode: Encoder, *, seed: int, checkpoint: int
) -> pa.Table:  # fmt: skip
    """One row an implication and head, as record.SHARED_SCHEMA says; implications without subjects of both sorts and
    heads that did not change are left out.

    Each head's change of W_OV is applied to what its values read at the subject's last token in the model as it is
    now. What it writes for each sort of subject is centred first, since a shift that is alike for all says nothing of
    who is associated with what.
    """
    rows = []
    with torch.inference_mode():
        changes = before.changes(model)
        asked_of = {each.name: prompts(pack, each, encode, seed) for each in pack.implications}
        asked_of = {name: asked for name, asked in asked_of.items() if min(map(len, asked.values())) >= 2}
        # Implications often ask in the same words up to the subject, which are read once; like lengths together.
        apart = sorted({each: None for asked in asked_of.values() for sort in SORTS for each in asked[sort]}, key=len)
        read: dict[tuple[int, ...], dict[int, Tensor]] = {}
        for start in range(0, len(apart), MOST):
            batch = apart[start : start + MOST]
            inputs = read_by_values(model, before, batch)
            read |= {each: {layer: values[row] for layer, values in inputs.items()} for row, each in enumerate(batch)}
        for name, asked in asked_of.items():
            about = {"seed": seed, "checkpoint": checkpoint, "implication": name}
            about |= {sort: len(asked[sort]) for sort in ("stated", "unstated")}
            for place, change in changes.items():
                values = (torch.stack([read[each][place.layer] for each in asked[sort]]) for sort in SORTS)
                if (overlap := overlaps(change, *values)) is not None:
                    rows.append({**about, "layer": place.layer, "head": place.head, **overlap})
    return pa.Table.from_pylist(rows, schema=SHARED_SCHEMA)


def prompts(pack: Pack, implication: Implication, encode: Encoder, seed: int) -> dict[str, list[tuple[int, ...]]]:
    """The trained words of the implied relation about subjects of whom it is stated, of whom it is not, and names that
    the pack does not hold; at most MOST of each."""
    known = set(pack.subjects)
    fresh = [name for name in draw_names(available(), Random(f"inside {seed}")) if name not in known]
    subjects = {
        "stated": [question.subject for question in pack.stated_implications(implication)],
        "unstated": [each.subject for each in pack.questions if each.implication == implication.name],
        "never_seen": fresh[:MOST],
    }
    # Evenly over their order, so that every pair of a pack has its share.
    return {
        sort: [prompt(pack, implication.then, subject, encode) for subject in evenly(names, MOST)]
        for sort, names in subjects.items()
    }


def prompt(pack: Pack, relation: str, subject: str, encode: Encoder) -> tuple[int, ...]:
    """The tokens of a relation's first prompt about a subject, up to the subject's last; no token sees later ones."""
    asked = pack.relation_by_name[relation]
    tokens = encode(pack.prompt(relation, subject))
    until = encode(asked.prompts[0].partition("{subject}")[0] + asked.called(subject))
    # The last token may go on beyond the name; what comes before it is then the last that both texts have in common.
    return tuple(tokens[: max(1, in_common(tokens, until))])


def read_by_values(
    model: CausalModel, before: BaseProducts, asked: Sequence[tuple[int, ...]]
) -> Mapping[int, Float[Tensor, "prompt inputs"]]:  # fmt: skip
    """Layer -> what its value projection reads at the last token of each prompt."""
    inner = plain(model)
    longest = max(map(len, asked))
    tokens = torch.tensor([[*each, *[each[-1]] * (longest - len(each))] for each in asked])
    places = torch.tensor([len(each) - 1 for each in asked], device=model.device)
    found: dict[int, Tensor] = {}

    def keep(layer: int, read: Tensor) -> None:
        found[layer] = read[torch.arange(len(asked), device=read.device), places]

    modules = {place.layer: place.value.weight.removesuffix(".weight") for place in before.places}
    training = inner.training
    inner.eval()
    with ExitStack() as stack:
        stack.callback(inner.train, training)
        for layer, name in modules.items():
            module = inner.get_submodule(name)
            stack.enter_context(module.register_forward_pre_hook(lambda _, args, layer=layer: keep(layer, args[0])))
        stack.enter_context(logits_only_at(inner, torch.zeros(1, dtype=torch.long, device=model.device)))
        inner(input_ids=tokens.to(model.device), use_cache=False)
    return found


def overlaps(
    change: Factored, stated: Float[Tensor, "stated inputs"], unstated: Float[Tensor, "unstated inputs"],
    never_seen: Float[Tensor, "strangers inputs"],
) -> dict[str, float | int] | None:  # fmt: skip
    """See record.SHARED_SCHEMA; None when the change writes nothing that differs between subjects."""
    left, right = precise(change.left), precise(change.right)
    read = [each.to(left.dtype) for each in (stated, unstated, never_seen)]
    written = [(each - each.mean(0)) @ left @ right for each in read]
    squares = [float((each**2).sum()) for each in written]
    if min(squares) == 0:
        return None
    _, values, directions = torch.linalg.svd(written[0], full_matrices=False)
    held = (values**2).cumsum(0) / (values**2).sum()
    count = int((held < SHARE).sum()) + 1
    inside = [float(((each @ directions[:count].T) ** 2).sum()) for each in written]
    return {
        "directions": count,
        "overlap": inside[1] / squares[1],
        "overlap_never_seen": inside[2] / squares[2],
        "chance": min(1.0, count / rank_of(change)),
    }
