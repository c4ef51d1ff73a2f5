"""`spillover check`: is a pack sound? Counts, or every fault and warning with its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from spillover.config import Flag, Seeded
from spillover.packs.builtin import built_in
from spillover.packs.check import check_structure, token_faults
from spillover.packs.open import check_pack, is_built_in
from spillover.packs.pack import Pack


@dataclass(frozen=True, kw_only=True)
class Check(Seeded):
    """Is a pack sound? Counts, or every fault and warning with file and row; exit code 1 when there is a fault."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str | None = None
    """Also check that this model's tokens can tell the answers apart: a tag, hub id or folder."""
    chat: Flag = False
    """Ask in the model's own chat template: the prompt is the user's turn, and the answer begins the model's."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""


#: Faults and warnings that are printed; `--json` gives all.
MOST_SHOWN = 50


def run(settings: Check) -> dict[str, Any]:
    """Keys `counts`, `faults`, `warnings`; `exit_code` is 1 when there is a fault; `text` is what a person reads."""
    pack: Pack | None
    if is_built_in(settings.pack):
        pack = built_in(settings.pack, settings.seed)
        found = check_structure(pack)
        faults, warnings = found.faults, found.warnings
    else:
        pack, faults, warnings = check_pack(Path(settings.pack))
    if pack is not None and not faults and settings.model is not None:
        from spillover.lm.load import load_tokenizer
        from spillover.lm.tokens import as_chat, encoder

        tokenizer = load_tokenizer(settings.model, settings.revision)
        faults = token_faults(as_chat(pack, tokenizer) if settings.chat else pack, encoder(tokenizer))
    counts = pack.counts() if pack is not None else {}
    lines = [f"{settings.pack}: {_number(len(faults), 'fault')}, {_number(len(warnings), 'warning')}"]
    if counts:
        lines.append("  " + ", ".join(_number(count, what[:-1]) for what, count in counts.items()))
        if settings.model is not None:
            verdict = "see the faults" if faults else "they tell the answers apart"
            lines.append(f"  tokens of {settings.model}: {verdict}")
    for title, shown in (("fault", faults), ("warning", warnings)):
        lines += [f"{title}: {each}" for each in shown[:MOST_SHOWN]]
        if len(shown) > MOST_SHOWN:
            lines.append(f"and {_number(len(shown) - MOST_SHOWN, title)} more: --json lists all")
    return {
        "pack": pack.name if pack is not None else settings.pack,
        "counts": counts,
        "faults": [fault.as_json() for fault in faults],
        "warnings": [warning.as_json() for warning in warnings],
        "exit_code": 1 if faults else 0,
        "text": "\n".join(lines),
    }


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
