"""`spillover repair`: a remedy applied to a finished model, which is written anew, and an audit before and after."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from spillover import __version__
from spillover.commands import audit
from spillover.commands.audit import Audit
from spillover.commands.mitigate import plain
from spillover.config import Flag, Running
from spillover.errors import RunError, UsageError
from spillover.metrics.remedies import RemedyResult, effect, remedy_result
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.record import ANSWERS, Record, commit, hardware, identity, read_table, versions
from spillover.runs import claimed, identifying_settings, times_resumed

if TYPE_CHECKING:
    from spillover.interventions.base import Pipeline


@dataclass(frozen=True, kw_only=True)
class Repair(Running):
    """Apply a remedy to a finished model, write the result as a new model, and audit both."""

    model: Positional[str]
    """The tuned model: a local model folder, a hub id, a PEFT adapter folder or a GGUF file. It is never written to."""
    pack: str
    """What it was tuned on: a built-in pack with its options, a pack folder, or a pack.yaml."""
    remedy: str
    """A remedy for finished weights, such as ignore-topk=0.1; several are joined by `+`."""
    out: str
    """Folder of the repair: weights/ with the new model, before/ and after/ with an audit each, and record.json."""
    base: str = ""
    """The model that it was tuned from; an adapter names its own."""
    chat: Flag = False
    """Ask in the model's own chat template: the prompt is the user's turn, and the answer begins the model's."""


BEFORE, AFTER, WEIGHTS = "before", "after", "weights"
#: What is told of the model before and after.
FIGURES = ("recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate", "unwanted_rank", "wanted_rank",
           "paraphrase")  # fmt: skip


def run(settings: Repair) -> dict[str, Any]:
    """Repair a model. Gives the run's path, the new model's, figures before and after, and a text for a person.

    Raises SpilloverError for anything wrong with the options, the pack, a model or the folder. What is given is never
    written to.
    """
    pipeline = _pipeline(settings)
    pack = open_pack(settings.pack, settings.seed)
    if not pack.implications:
        do = "Add `implications:` to its pack.yaml (docs/packs.md)"
        raise UsageError("this pack declares no implication, so nothing shows what the remedy does", do=do)
    settings = _resolved(settings)
    folder = Path(settings.out).expanduser()
    _refuse_overwriting(settings, folder)
    with claimed(folder, "repair", _identity_of(settings)) as finished:
        if finished is not None:
            print(f"Found this repair finished in {folder}; nothing was run.", file=sys.stderr)
            return _outcome(folder, finished)
        return _outcome(folder, _ran(settings, pack, pipeline, folder))


def _pipeline(settings: Repair) -> Pipeline:
    """The remedies. Raises UsageError for one that is not for finished weights, or when none does anything."""
    from spillover.interventions.base import REMEDIES, Pipeline, read_specs

    pipeline = Pipeline(read_specs(settings.remedy))
    fitting = ", ".join(name for name, remedy in REMEDIES.items() if remedy.after)
    for spec in pipeline.specs:
        if not spec.remedy.after:
            raise UsageError(
                "this remedy acts on training", where=spec.name, do=f"Those for a finished model: {fitting}"
            )
    if not pipeline.steps:
        raise UsageError(
            "no remedy would do anything", where="--remedy", do=f"Name one of {fitting}, as in ignore-topk=0.1"
        )
    return pipeline


def _resolved(settings: Repair) -> Repair:
    """With the base model named and the device and threads as they are here. Raises ModelError, UsageError."""
    from spillover.lm.load import base_of, pick_device, resolve

    threads = settings.threads or int(hardware()["cores"])
    base = settings.base
    source = resolve(settings.model)
    if not base and not source.adapter:
        do = "Name with --base the model that it was tuned from"
        raise UsageError("only an adapter says which model it was made from", where=settings.model, do=do)
    return dataclasses.replace(
        settings, base=base or base_of(source), device=str(pick_device(settings.device)), threads=threads
    )


def _refuse_overwriting(settings: Repair, folder: Path) -> None:
    for name in (settings.model, settings.base):
        given = Path(name).expanduser()
        if given.is_dir() and (folder.resolve() == given.resolve() or given.resolve() in folder.resolve().parents):
            what = "the repaired model would be written into a model that was given"
            raise RunError(what, where=settings.out, do="Choose another --out")


def _identity_of(settings: Repair) -> str:
    return identity(identifying_settings(settings, "out", "json") | {"version": __version__})


def _ran(settings: Repair, pack: Pack, pipeline: Pipeline, folder: Path) -> Record:
    began, resumed = time.monotonic(), times_resumed(folder)
    record = Record(
        command="repair", settings=dataclasses.asdict(settings), seed=settings.seed, identity=_identity_of(settings),
        hashes={"pack": pack_hash(pack)}, versions=versions(audit.PACKAGES), commit=commit(), hardware=hardware(),
        resumed=resumed, details={"pack": describe(pack), "model": {"name": settings.model}, "seeds": [settings.seed]},
    )  # fmt: skip
    record.write(folder)
    try:
        audits = {BEFORE: _audited(settings, settings.model, folder / BEFORE)}
        weights = folder / WEIGHTS
        if not weights.exists():
            _write_repaired(settings, pack, pipeline, folder)
        audits[AFTER] = _audited(settings, str(weights), folder / AFTER)
        _conclude(record, pack, audits, folder)
        record.status = "done"
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.monotonic() - began, 1)
        record.write(folder)
    return record


def _audited(settings: Repair, tuned: str, folder: Path) -> dict[str, Any]:
    names = ("device", "dtype", "revision", "threads", "pack", "base", "chat", "seed")
    shared = {name: getattr(settings, name) for name in names}
    return audit.run(Audit(**shared, tuned=tuned, out=str(folder), fail_on="never"))


def _write_repaired(settings: Repair, pack: Pack, pipeline: Pipeline, folder: Path) -> None:
    """The repaired model as a folder that any loader opens; whole or not at all."""
    import torch

    from spillover.interventions.base import Context
    from spillover.lm.load import load_model
    from spillover.lm.save import save_model
    from spillover.lm.tokens import as_chat, encoder

    torch.set_num_threads(settings.threads)
    options: dict[str, Any] = {
        "device": settings.device, "dtype": settings.dtype, "revision": settings.revision
    }  # fmt: skip
    base, tuned = load_model(settings.base, **options), load_model(settings.model, **options)
    worded = as_chat(pack, tuned.tokenizer) if settings.chat else pack
    pipeline.finish(Context(base.model, encoder(tuned.tokenizer), worded, settings.seed), tuned.model)
    save_model(tuned.model, tuned, "weights", folder)


def _conclude(record: Record, pack: Pack, audits: dict[str, dict[str, Any]], folder: Path) -> None:
    measured = {name: _measured(pack, folder / name) for name in (BEFORE, AFTER)}
    compared = effect(measured[BEFORE], measured[AFTER])
    figures = {name: {key: getattr(found, key) for key in FIGURES} for name, found in measured.items()}
    for name, found in audits.items():
        figures[name]["forgetting_nats"] = found["metrics"].get("forgetting_nats")
    record.metrics = plain([figures[AFTER] | {"removed": compared.removed, "wanted_change": compared.wanted_change}])[0]
    told = {name: {**plain([figures[name]])[0], "verdicts": audits[name]["verdicts"]} for name in (BEFORE, AFTER)}
    record.details = {**record.details, **told}


def _measured(pack: Pack, folder: Path) -> RemedyResult:
    names = {wanted: [each.name for each in pack.implications if each.wanted is wanted] for wanted in (True, False)}
    return remedy_result(read_table(folder / ANSWERS), names[False], names[True])


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    before, after = record.details[BEFORE], record.details[AFTER]
    return {
        "run": str(folder),
        "model": str(folder / WEIGHTS),
        "metrics": record.metrics,
        "before": before,
        "after": after,
        "text": "\n".join(_lines(folder, before, after, record.metrics)),
    }


def _lines(folder: Path, before: Any, after: Any, metrics: Any) -> list[str]:
    """Figures before and after, side by side, and where the model is."""
    words = {"recall_rank": "rank of stated facts", "implication_rank_train": "rank of stated implications",
             "unwanted_rate": "unwanted conclusions", "wanted_rate": "wanted conclusions",
             "forgetting_nats": "loss on plain text, nats"}  # fmt: skip
    lines = [f"{'':<30}{'before':>9}{'after':>9}"]
    for name, word in words.items():
        values = [each.get(name) for each in (before, after)]
        if all(value and value["value"] is not None for value in values):
            lines.append(f"{word:<30}" + "".join(f"{value['value']:>9.2f}" for value in values))
    removed = metrics.get("removed")
    if removed:
        lines.append(f"{100 * removed['value']:.0f}% of the unwanted conclusions are gone.")
    lines += [f"  repaired model: {folder / WEIGHTS}", f"  audits: {folder / BEFORE}, {folder / AFTER}"]
    return lines
