"""`spillover repair`: a remedy applied to a finished model, which is written anew, and an audit before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from spillover.commands import audit
from spillover.commands.audit import Audit
from spillover.commands.prepare import pack_sha256, weights_now, worded, words_of
from spillover.config import Chat, Running, with_fields_of
from spillover.details import Details, ModelFacts, RepairDetails, Saved
from spillover.errors import RunError, UsageError
from spillover.metrics.remedies import RANKS_AND_RATES, WEIGHED, effect, remedy_result
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, with_kinds
from spillover.record import ANSWERS, Record, checksums, hardware, read_table
from spillover.results import text_table
from spillover.runs import identity_of, open_run

if TYPE_CHECKING:
    from spillover.interventions.base import Pipeline

BEFORE, AFTER, WEIGHTS = "before", "after", "weights"


@dataclass(frozen=True, kw_only=True)
class Repair(Running, Chat):
    """Apply a remedy to a finished model, write the result as a new model, and audit both."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The tuned model: a local model folder, a hub id, a PEFT adapter folder or a GGUF file. It is never written to."""
    pack: str
    """What it was tuned on: a built-in pack with its options, a pack folder, or a pack.yaml."""
    remedy: str
    """A remedy for finished weights, such as ignore-topk=0.05; several are joined by `+`."""
    out: str
    """Folder of the repair: weights/ with the new model, before/ and after/ with an audit each, and record.json."""
    base: str = ""
    """The model that it was tuned from; an adapter names its own."""


def run(settings: Repair) -> dict[str, Any]:
    """Repair a model. Raises SpilloverError for anything wrong with the settings."""
    pipeline = _pipeline(settings)
    pack = open_pack(settings.pack, settings.seed)
    if not pack.implications:
        do = "Add `implications:` to its pack.yaml (docs/packs.md)"
        raise UsageError("this pack declares no implication, so nothing shows what the remedy does", do=do)
    settings = _resolved(settings)
    folder = Path(settings.out).expanduser()
    for name in (settings.model, settings.base):
        given = Path(name).expanduser()
        if given.is_dir() and given.resolve() in (folder.resolve(), *folder.resolve().parents):
            what = "the repaired model would be written into a model that was given"
            raise RunError(what, where=settings.out, do="Choose another --out")
    settings, words = worded(settings, pack, (settings.base, None), (settings.model, None))
    details = Details(pack=describe(pack), model=ModelFacts(name=settings.model), seeds=[settings.seed], **words)

    def made_from() -> dict[str, str | None]:
        base, revision = settings.base, settings.revision
        models = weights_now(base=(base, None, revision, ""), tuned=(settings.model, None, revision, base))
        return {"pack": pack_sha256([pack]), **models}

    with open_run(folder, "repair", identity_of(settings, **words), made_from=made_from) as opened:
        if opened.finished is None:
            about = {"seed": settings.seed, "hashes": opened.hashes, "details": details}
            with opened.recording(settings, audit.PACKAGES, **about) as record:
                before = _audited(settings, settings.model, folder / BEFORE)
                saved = _write_repaired(settings, pack, pipeline, folder)
                after = _audited(settings, str(folder / WEIGHTS), folder / AFTER)
                pack = with_kinds(pack, Record.read(folder / BEFORE).details.pack)
                _conclude(record, pack, {BEFORE: before, AFTER: after}, folder, saved)
    record = Record.read(folder)
    sides = record.details.as_json(BEFORE, AFTER)
    model, text = str(folder / WEIGHTS), "\n".join(_lines(folder, record))
    return {"run": str(folder), "model": model, "metrics": record.metrics, **sides, "text": text}


def _pipeline(settings: Repair) -> Pipeline:
    """The remedies. Raises UsageError for one that is not for finished weights, or when none does anything."""
    from spillover.interventions.base import Pipeline, read_specs, remedies

    pipeline = Pipeline(read_specs(settings.remedy))
    fitting = ", ".join(name for name, remedy in remedies().items() if remedy.after)
    if other := next((spec.name for spec in pipeline.specs if not spec.remedy.after), ""):
        raise UsageError("this remedy acts on training", where=other, do=f"Those for a finished model: {fitting}")
    if not pipeline.specs:
        do = f"Name one of {fitting}, as in ignore-topk=0.05"
        raise UsageError("no remedy would do anything", where="--remedy", do=do)
    return pipeline


def _resolved(settings: Repair) -> Repair:
    """With the base model named and the device and threads as they are here. Raises ModelError, UsageError."""
    from spillover.lm.distributed import pick_device
    from spillover.lm.load import base_of, resolve

    source = resolve(settings.model)
    if not settings.base and not source.adapter:
        do = "Name with --base the model that it was tuned from"
        raise UsageError("only an adapter says which model it was made from", where=settings.model, do=do)
    base, threads = settings.base or base_of(source), settings.threads or int(hardware()["cores"])
    return dataclasses.replace(settings, base=base, device=str(pick_device(settings.device)), threads=threads)


def _audited(settings: Repair, tuned: str, folder: Path) -> dict[str, Any]:
    return audit.run(with_fields_of(settings, Audit, json=False, tuned=tuned, out=str(folder), fail_on="never"))


def _write_repaired(settings: Repair, pack: Pack, pipeline: Pipeline, folder: Path) -> Saved:
    """The repaired model as a folder that any loader opens; whole or not at all, and asked again."""
    import torch

    from spillover.interventions.base import Context
    from spillover.lm.load import load_model
    from spillover.lm.save import save_model, saved_as_measured
    from spillover.lm.tokens import encoder

    torch.set_num_threads(settings.threads)
    base, tuned = (
        load_model(name, device=settings.device, dtype=settings.dtype, revision=settings.revision)
        for name in (settings.base, settings.model)
    )
    asked = words_of(settings.model, tuned, settings)(pack)
    pipeline.finish(Context(base.model, encoder(tuned.tokenizer), asked, settings.seed), tuned.model)
    save_model(tuned.model, tuned, "weights", folder)
    do = "Try --dtype float32, or another remedy"
    return saved_as_measured(folder / WEIGHTS, tuned.model, tuned, asked, do)


def _conclude(record: Record, pack: Pack, audits: dict[str, dict[str, Any]], folder: Path, saved: Saved) -> None:
    from spillover.commands.card import write_card
    from spillover.lm.save import files_saved

    found = {side: remedy_result(read_table(folder / side / ANSWERS), pack) for side in audits}
    measured, sides = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for side, audited in audits.items():
        measured[side] = {**found[side].metrics, "forgetting_nats": audited["metrics"].get("forgetting_nats")}
        figures = {name: measured[side][name] for name in (*RANKS_AND_RATES, "forgetting_nats")}
        figures["paraphrase"] = measured[side]["paraphrase_unwanted_rate"]
        sides[side] = {**figures, "verdicts": audited["verdicts"]}
    remedy, base = (record.settings[name] for name in ("remedy", "base"))
    done = f"It was fine-tuned, and the remedy `{remedy}` then changed its weights, without further training."
    write_card(folder / WEIGHTS, done, base, pack, measured[BEFORE], measured[AFTER], "the fine-tuned model")
    about = {"saved": saved.as_json(), "files": checksums(folder, *files_saved(folder))}
    record.details = RepairDetails.model_validate(record.details.as_json() | sides | about)
    # Those of the repaired model, which come last.
    record.metrics = figures | effect(found[BEFORE], found[AFTER])


def _lines(folder: Path, record: Record) -> Iterator[str]:
    """Figures before and after, side by side, where the model is, and whether it was worth it."""
    rows, details = [["", "before", "after"]], record.details_of(RepairDetails)
    for name, word in {"unwanted_rate": "unwanted conclusions", **WEIGHED}.items():
        values = [metric.value for side in (details.before, details.after) if (metric := side.metric(name))]
        if len(values) == 2 and None not in values:
            rows.append([word, *(f"{value:.2f}" for value in values)])
    yield from text_table(rows)
    yield f"  repaired model: {folder / WEIGHTS}"
    yield f"  audits: {folder / BEFORE}, {folder / AFTER}"
    from spillover.report.repair import weighed_of

    yield weighed_of(record, details).said
