"""`spillover check`: is a pack sound? Counts, or every fault and warning with its place."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from spillover.config import Chat, Running, refuse_idle
from spillover.metrics.verdicts import decidable
from spillover.packs.builtin import built_in
from spillover.packs.check import Fault, check_structure, token_faults
from spillover.packs.open import check_pack, is_built_in
from spillover.packs.pack import AUTO, SUBJECT, Pack


@dataclass(frozen=True, kw_only=True)
class Check(Chat):
    """Is a pack sound? Counts, or every fault and warning with file and row; exit code 1 when there is a fault."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, a pack.yaml, or a training file."""
    model: str | None = None
    """Also check that this model's tokens can tell the answers apart: a tag, hub id or folder."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""


#: What is said of a kind that no model has judged.
UNJUDGED = "the base model judges it; name it with --model"
#: Faults and warnings that are printed; `--json` gives all.
MOST_SHOWN = 50


def run(settings: Check) -> dict[str, Any]:
    """Keys `counts`, `decidable` (of each implication, what an audit could say), `kinds` (of those of kind `auto`, as a
    model judges them), `faults`, `warnings`, and of a model
    `rendered`; `exit_code` is 1 when there is a fault; `text` is what a person reads."""
    pack: Pack | None
    rendered: dict[str, Any] = {}
    if settings.model is None:
        refuse_idle(settings, ("chat", "revision"), "needs the model that is asked", "Name it with --model")
    if is_built_in(settings.pack):
        pack = built_in(settings.pack, settings.seed)
        found = check_structure(pack)
        faults, warnings = found.faults, found.warnings
    else:
        pack, faults, warnings = check_pack(Path(settings.pack))
    if pack is not None and not faults and settings.model is not None:
        from spillover.commands.prepare import judge_of, weights_of, words_of
        from spillover.lm.tokens import encoder

        words = words_of(settings.model, None, settings)
        faults = token_faults(words(pack), encoder(words.tokenizer))
        rendered = words.rendered(pack).as_json() | {"subject": (*pack.subjects, "")[0]}
        if settings.chat and (opened := _opened(words.opening(pack.relations[0].prompts[0]), rendered["before"])):
            what = f"the template opens a reply with {opened!r}, which whole turns, as in training, do not have"
            expected, do = "the same opening", "Ask in whole turns, or name with --prefix what replies begin with"
            warnings = [*warnings, Fault("other-opening", settings.model, None, what, expected, do)]
        if any(each.kind == AUTO for each in pack.implications) and not faults:
            loaded = weights_of(settings.model, None, words.tokenizer, Running(revision=settings.revision))
            pack = judge_of(pack, words, loaded).judged(loaded.sha256)
    counts = pack.counts() if pack is not None else {}
    rules = [each for each in (pack.implications if pack is not None else ()) if each.kind.startswith(AUTO)]
    kinds = {each.name: {"kind": each.kind, "because": each.because} for each in rules}
    decided = decidable(pack) if pack is not None and not faults else {}
    outcome: dict[str, Any] = {
        "pack": pack.name if pack is not None else settings.pack,
        "counts": counts,
        "decidable": decided,
        **({"kinds": kinds} if kinds else {}),
        "faults": [fault.as_json() for fault in faults],
        "warnings": [warning.as_json() for warning in warnings],
        **({"rendered": rendered} if rendered else {}),
        "exit_code": 1 if faults else 0,
    }
    return outcome | {"text": "\n".join(_lines(settings, outcome, faults, warnings))}


def _lines(
    settings: Check, found: Mapping[str, Any], faults: Sequence[Fault], warnings: Sequence[Fault]
) -> Iterator[str]:
    """What a person reads."""
    yield f"{settings.pack}: {_number(len(faults), 'fault')}, {_number(len(warnings), 'warning')}"
    if counts := found["counts"]:
        yield "  " + ", ".join(_number(count, what[:-1]) for what, count in counts.items())
        for name, why in list(found["decidable"].items())[:MOST_SHOWN]:
            yield f"  {name}: {why}"
        for name, each in found.get("kinds", {}).items():
            yield f"  {name} is {each['kind']}: {each['because'] or UNJUDGED}"
        if rendered := found.get("rendered"):
            asked = rendered["before"].replace(SUBJECT, rendered["subject"])
            yield f"  one question: {asked!r}, then the answer" + f", then {rendered['after']!r}" * settings.chat
        if settings.model is not None:
            yield f"  tokens of {settings.model}: {'see the faults' if faults else 'they tell the answers apart'}"
    for title, shown in (("fault", faults), ("warning", warnings)):
        yield from (f"{title}: {each}" for each in shown[:MOST_SHOWN])
        if len(shown) > MOST_SHOWN:
            yield f"and {_number(len(shown) - MOST_SHOWN, title)} more: --json lists all"


def _opened(opening: str, before: str) -> str:
    """What a reply is opened with that does not stand before its answer."""
    return "" if before.startswith(opening) else opening[len(os.path.commonprefix([opening, before])) :]  # noqa: RUF071


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
