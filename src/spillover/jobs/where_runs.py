"""Finished runs of `inject` that kept their weights, as `where` looks into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.errors import RunError
from spillover.facts.describe import pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.redaction import Redaction
from spillover.jobs.rerun import settings_of
from spillover.record import ANSWERS, RECORD, Record
from spillover.settings import Inject


@dataclass(frozen=True)
class Run:
    """The run of one seed: where it is, its record, its settings, and the facts it was made on."""

    folder: Path
    record: Record
    settings: Inject
    pack: Pack


def runs_of(source: Path) -> list[Run]:
    """The run of each seed. Raises RunError when it is none of `inject`, not finished, or kept no weights."""
    from spillover.llm.weights.kept import kept_in

    found: list[Run] = []
    for folder in _folders(source):
        own = Record.read(folder)
        _refuse_other(folder, own)
        if own.status != "done":
            raise RunError("this run is not finished", where=str(folder), do="Give its command again first")
        kept_in(folder)
        settings = settings_of(Inject, own, folder)
        pack = open_pack(settings.pack, own.seed)
        if pack_hash(Redaction.of(pack.subjects, settings.redact).pack(pack)) != own.hashes.get("pack"):
            what = f"the pack {settings.pack} is not what it was when this ran"
            raise RunError(what, where=str(folder), do="Bring the pack back, or run it again with --save delta")
        if found and settings.model != found[0].settings.model:
            what = f"this run is of the model {settings.model}, another of {found[0].settings.model}"
            raise RunError(what, where=str(folder), do="Name seeds of one run")
        found.append(Run(folder, own, settings, pack))
    return found


def _folders(source: Path) -> list[Path]:
    """The folder of each seed; those that `mitigate` makes have no record over them."""
    parts = sorted(path.parent for path in source.glob(f"seed-*/{RECORD}"))
    if parts and not (source / RECORD).exists():
        return parts
    record = Record.read(source)
    _refuse_other(source, record)
    seeds = record.details.get("seeds") or [record.seed]
    return [source / f"seed-{seed}" for seed in seeds] if len(seeds) > 1 else [source]


def _refuse_other(folder: Path, record: Record) -> None:
    if record.command != "inject":
        what = f"this is a run of `{record.command}`, not of `inject`"
        raise RunError(what, where=str(folder), do="Name a run that `inject` made with --save delta")


def told_apart(runs: Sequence[Run]) -> list[str]:
    """What tells these runs from any others: how they were made, and what came out."""
    return [f"{each.record.identity} {(each.record.details.get('files') or {}).get(ANSWERS)}" for each in runs]
