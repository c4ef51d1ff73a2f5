"""Does a head's change write the same for subjects whose implication was stated and for those that were not?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from spillover.interp.output_value_spectra import Before, rank_of
from spillover.lm.output_value import Factored, plain
from spillover.lm.score import CausalModel, logits_only_at
from spillover.lm.tokens import Encoder
from spillover.packs.builtin import available, draw_names
from spillover.packs.pack import Implication, Pack
from spillover.record import SHARED_SCHEMA

#: At most so many subjects of each sort are looked at, so that the cost does not grow with the pack.
MOST = 20
#: The directions of the stated subjects are the fewest that carry this share of what is written for them.
CARRIED = 0.9
SORTS = ("stated", "unstated", "never_seen")


def shared(
    before: Before, model: CausalModel, pack: Pack, encode: Encoder, *, seed: int, checkpoint: int
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
        asked_of = {implication.name: prompts(pack, implication, encode, seed) for implication in pack.implications}
        told = {name: asked for name, asked in asked_of.items() if min(len(asked[sort]) for sort in SORTS) >= 2}
        read = _read_once(model, before, [each for asked in told.values() for sort in SORTS for each in asked[sort]])
        for name, asked in told.items():
            for (layer, head), change in changes.items():
                values = (torch.stack([read[each][layer] for each in asked[sort]]) for sort in SORTS)
                found = overlaps(change, *values)
                if found is not None:
                    rows.append({
                        "seed": seed, "checkpoint": checkpoint, "implication": name, "layer": layer,
                        "head": head, "stated": len(asked["stated"]), "unstated": len(asked["unstated"]), **found,
                    })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SHARED_SCHEMA)


def prompts(pack: Pack, implication: Implication, encode: Encoder, seed: int) -> dict[str, list[tuple[int, ...]]]:
    """The trained words of the implied relation about subjects of whom it is stated, of whom it is not, and names that
    the pack does not hold; at most MOST of each."""
    known = set(pack.subjects)
    random = Random(f"inside {seed}")
    strangers = [name for name in draw_names(available(), random) if name not in known][:MOST]
    subjects = {
        "stated": [question.subject for question in pack.stated_implications(implication)],
        "unstated": [each.subject for each in pack.questions if each.implication == implication.name],
        "never_seen": strangers,
    }
    return {
        sort: [prompt(pack, implication.then, subject, encode) for subject in _spread(names)]
        for sort, names in subjects.items()
    }


def _spread(names: Sequence[str]) -> list[str]:
    """At most MOST of the names, evenly over their order, so that every pair of a pack has its share."""
    count = min(MOST, len(names))
    return [names[place * len(names) // count] for place in range(count)]


def prompt(pack: Pack, relation: str, subject: str, encode: Encoder) -> tuple[int, ...]:
    """The tokens of a relation's first prompt about a subject, up to the subject's last; no token sees later ones."""
    template = pack.relation_by_name[relation].prompts[0]
    tokens = encode(template.replace("{subject}", subject))
    until = encode(template.partition("{subject}")[0] + subject)
    # The last token may go on beyond the name; what comes before it is then the last that both texts have in common.
    same = [own == other for own, other in zip(tokens, until, strict=False)]
    return tuple(tokens[: max(1, [*same, False].index(False))])


def _read_once(
    model: CausalModel, before: Before, asked: Sequence[tuple[int, ...]]
) -> Mapping[tuple[int, ...], Mapping[int, Float[Tensor, " inputs"]]]:
    """Prompt -> layer -> what its value projection reads there. Implications often ask in the same words up to the
    subject, which are then read once; those of like length are read together."""
    found: dict[tuple[int, ...], Mapping[int, Tensor]] = {}
    apart = sorted(dict.fromkeys(asked), key=len)
    for start in range(0, len(apart), MOST):
        part = apart[start : start + MOST]
        read = read_by_values(model, before, part)
        found |= {each: {layer: rows[place] for layer, rows in read.items()} for place, each in enumerate(part)}
    return found


def read_by_values(
    model: CausalModel, before: Before, asked: Sequence[tuple[int, ...]]
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
    handles = [
        inner.get_submodule(name).register_forward_pre_hook(lambda _, args, layer=layer: keep(layer, args[0]))
        for layer, name in modules.items()
    ]
    training = inner.training
    inner.eval()
    try:
        with logits_only_at(inner, torch.zeros(1, dtype=torch.long, device=model.device)):
            inner(input_ids=tokens.to(model.device), use_cache=False)
    finally:
        inner.train(training)
        for handle in handles:
            handle.remove()
    return found


def overlaps(
    change: Factored,
    stated: Float[Tensor, "stated inputs"],
    unstated: Float[Tensor, "unstated inputs"],
    never_seen: Float[Tensor, "strangers inputs"],
) -> dict[str, float | int] | None:
    """See record.SHARED_SCHEMA; None when the change writes nothing that differs between subjects."""
    written = list(_written(change, (stated, unstated, never_seen)))
    squares = [float((each**2).sum()) for each in written]
    if min(squares) == 0:
        return None
    _, values, directions = torch.linalg.svd(written[0], full_matrices=False)
    carried = (values**2).cumsum(0) / (values**2).sum()
    count = int((carried < CARRIED).sum()) + 1
    inside = [float(((each @ directions[:count].T) ** 2).sum()) for each in written]
    return {
        "directions": count,
        "overlap": inside[1] / squares[1],
        "overlap_never_seen": inside[2] / squares[2],
        "chance": min(1.0, count / rank_of(change)),
    }


def _written(change: Factored, read: Sequence[Float[Tensor, "_ inputs"]]) -> Iterator[Float[Tensor, "_ _"]]:
    """What the change writes for each sort of subject, centred over its subjects."""
    precision = torch.promote_types(change.left.dtype, torch.float32)
    left, right = change.left.to(precision), change.right.to(precision)
    for each in read:
        own = each.to(precision)
        yield (own - own.mean(0)) @ left @ right
