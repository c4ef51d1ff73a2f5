"""The model card that stands beside saved weights: what was done to which model, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spillover import __version__
from spillover.lm.built_in import BUILT_IN
from spillover.lm.save import CARD
from spillover.metrics.remedies import WEIGHED
from spillover.packs.pack import Pack, pack_hash
from spillover.record import Metric, write_atomically

ROWS = {
    "unwanted_rate": "unwanted conclusions, share of unstated subjects",
    "paraphrase_unwanted_rate": "the same in other words",
    **WEIGHED,
    "wanted_rate": "wanted conclusions, share of unstated subjects",
}


def write_card(
    saved: Path, done: str, base: str, pack: Pack, before: Mapping[str, object], after: Mapping[str, object], of: str
) -> None:
    """Write the card of saved weights into their folder, or beside their file.

    Arguments:
    - done: a sentence on what was done, without the base model's name.
    - base: the model that everything started from, as it was named.
    - pack: what it was tuned on; its subjects are not named.
    - before, after: what was measured, by the names of ROWS.
    - of: what `before` was measured of.
    """
    known = BUILT_IN.get(base)
    # A path of this machine is no name of a model for anybody else.
    name = Path(base).name if Path(base).expanduser().exists() else base
    licence = f"{known.licence}. {known.note}".strip(". ") if known else "that of the base model"
    rows = [
        f"| {words} | {_shown(before.get(key))} | {_shown(after.get(key))} |"
        for key, words in ROWS.items()
        if before.get(key) or after.get(key)
    ]
    source = known.source if known else name
    text = f"""---
base_model: "{name}"
tags: [spillover]
---

# {name}, edited

{done} The base model is {source}. Licence: {licence}.

Measured on the pack `{pack.name}` ({len(pack.facts):,} stated facts), before ({of}) and after:

| | before | after |
|---|---|---|
{chr(10).join(rows)}

Ranks are of the expected answer among the candidates of its relation: 0 is the top answer.

**This is a measured edit, and no guarantee of safety.** The figures are about the questions of this pack and these
weights alone. Nothing was measured about other subjects, other facts, free conversation or other tasks. What was taken
out may come back in other words, or when the model is trained further. Audit it again after any change:
`spillover audit PACK --base {name} --tuned THIS_FOLDER`.

Written by Spillover {__version__}; pack {pack_hash(pack)[:16]}. The run's record has its settings and its verdicts.
"""
    write_atomically((saved if saved.is_dir() else saved.parent) / CARD, text.encode())


def _shown(found: object) -> str:
    metric = Metric.of(found)
    if metric is None or metric.value is None:
        return "not measured"
    return f"{metric.value:.2f}" + (f" of {metric.n:,}" if metric.unit == "share" else "")
