"""`spillover inject`: fine-tune on a pack, measure before, during and after, and write a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spillover import __version__
from spillover.errors import UsageError
from spillover.facts.describe import describe, pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.checkpoints import PATIENCE
from spillover.jobs.inject_memory import Budgets
from spillover.jobs.inject_options import refuse_bad_numbers, seeds_of
from spillover.jobs.inject_remedy import Plan
from spillover.jobs.inject_state import Course
from spillover.jobs.inject_text import tell
from spillover.jobs.output import claimed, telling, times_taken_up
from spillover.jobs.redaction import Redaction
from spillover.measures import forgetting_nats
from spillover.measures.summary import summarise
from spillover.measures.trajectory import trajectory_table
from spillover.record import (
    ANSWERS,
    TRAJECTORY,
    Record,
    checksums,
    commit,
    hardware,
    identity,
    read_table,
    sha256_of_texts,
    versions,
    write_table,
)
from spillover.settings import Inject

if TYPE_CHECKING:
    from spillover.llm.inject import Before, Injected
    from spillover.llm.training import Training
    from spillover.llm.weights.loading import LoadedModel

PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")


@dataclass
class Kept:
    """What one run leaves for the next in the same process: the model it loaded, and its losses on plain text."""

    name: tuple[Any, ...] = ()
    loaded: LoadedModel | None = None
    plain: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    before: dict[str, Before] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)

    def before_of(self, asked: Pack, settings: Inject) -> Before:
        """What the loaded model answers about a pack before training, if a run found it out, or where to keep it."""
        from spillover.llm.inject import Before

        asked_so = sha256_of_texts([pack_hash(asked), repr(asked.relations), repr(asked.candidates)])
        return self.before.setdefault(f"{asked_so} {settings.threads}", Before())


def run(settings: Inject, kept: Kept | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Run every seed, then pool them. Returns the run's path, its metrics and a text for a person.

    kept: hand the same one to several runs, and those on the same model load it once. patience: see `Checkpoints`. A
    run that was cut short is taken up from its newest checkpoint, and ends with the bytes of one that was not.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder; KeyboardInterrupt
    passes through once a record that says `interrupted` has been written.
    """
    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    plan = Plan(settings)
    packs = {seed: open_pack(settings.pack, seed) for seed in seeds}
    folder = Path(settings.out).expanduser()
    settings = _resolved(settings)
    with contextlib.ExitStack() as held:
        if (finished := held.enter_context(claimed(folder, "inject", _identity_of(settings)))) is not None:
            print(f"Found this run finished in {folder}; nothing was run.", file=sys.stderr)
            return _outcome(folder, finished)
        _texts(settings)
        kept = kept or Kept()
        # A seed of several is the run that `--seed` alone would make, and is found again like it.
        each = [replace(settings, seed=seed, seeds="", out=str(_own(folder, seed, seeds))) for seed in seeds]
        if len(seeds) > 1:
            each = [
                own for own in each if held.enter_context(claimed(Path(own.out), "inject", _identity_of(own))) is None
            ]
        for own in each:
            _load(own, plan.asked(packs[own.seed]), kept)  # Every pack is checked before the first is trained on.
        for own in each:
            _run_seed(own, packs[own.seed], kept, patience)
        if len(seeds) > 1:
            _pool(settings, seeds, folder)
        return _outcome(folder, Record.read(folder))


def _resolved(settings: Inject) -> Inject:
    """The settings with `auto` and 0 replaced by what they stand for on this machine."""
    from spillover.llm.weights.loading import pick_device

    threads = settings.threads or int(hardware()["cores"])
    return replace(settings, device=str(pick_device(settings.device)), threads=threads)


def _identity_of(settings: Inject) -> str:
    """What must be equal for two commands to be the same run: all but where it goes and how it prints."""
    return identity(telling(settings, "out", "json") | {"version": __version__})


def _texts(settings: Inject) -> list[str]:
    from spillover.llm.forgetting import passages

    return passages(settings.plain_text)


def _own(folder: Path, seed: int, seeds: list[int]) -> Path:
    return folder / f"seed-{seed}" if len(seeds) > 1 else folder


def _load(settings: Inject, pack: Pack, kept: Kept) -> LoadedModel:
    """The model, once its tokens are known to tell the pack's answers apart; kept from the run before if it is it."""
    import torch

    from spillover.facts.check import refuse, token_faults
    from spillover.llm.tokens import as_chat, encoder
    from spillover.llm.weights.loading import load_model, load_tokenizer, resolve

    if settings.lora and settings.save == "delta" and resolve(settings.model).adapter:
        what = "an adapter trained on top of a merged adapter means nothing without the merged model"
        raise UsageError(what, where="--save delta", do="Use --save weights")
    name = (settings.model, settings.device, settings.dtype, settings.revision)
    same = kept.loaded is not None and kept.name == name
    tokenizer = kept.loaded.tokenizer if kept.loaded and same else load_tokenizer(settings.model, settings.revision)
    worded = as_chat(pack, tokenizer) if settings.chat else pack
    refuse(token_faults(worded, encoder(tokenizer)))
    torch.set_num_threads(settings.threads)
    training = Plan(settings).training(_training(settings, settings.seed))
    budget = kept.budgets.of(settings, training, worded, tokenizer)
    if kept.loaded is None or not same:
        with budget.telling():
            kept.loaded = load_model(
                settings.model, device=settings.device, dtype=settings.dtype, revision=settings.revision,
                tokenizer=tokenizer,
            )  # fmt: skip
        kept.name, kept.plain, kept.before = name, {}, {}
    return kept.loaded


def _training(settings: Inject, seed: int) -> Training:
    from spillover.llm.training import Training

    return Training(
        epochs=settings.epochs,
        learning_rate=settings.lr,
        batch=settings.batch,
        weight_decay=settings.weight_decay,
        freeze_embeddings=settings.freeze_embeddings,
        lora=settings.lora,
        seed=seed,
    )


def _run_seed(settings: Inject, pack: Pack, kept: Kept, patience: float) -> None:
    """One seed's run, written into its folder whatever happens: done, or interrupted with what it saw."""
    from spillover.llm.inject import Injected, inject
    from spillover.llm.weights.saving import save_model

    texts, folder, seed, plan = _texts(settings), Path(settings.out), settings.seed, Plan(settings)
    asked = plan.asked(pack)
    loaded, training = _load(settings, asked, kept), plan.training(_training(settings, seed))
    lesson, worded = plan.lesson(pack, loaded, training), plan.worded(asked, loaded)
    budget = kept.budgets.of(settings, training, worded, loaded.tokenizer)
    seen = Injected(seed)
    hide = Redaction.of(pack.subjects, settings.redact)
    record = _record(settings, seed, hide.pack(pack), loaded, texts)
    course = Course(record, seen, folder, patience, budget.micro_batch)
    plain = f"{record.hashes['plain_text']} {settings.threads}"
    if plain in kept.plain:
        seen.plain_before, seen.plain_tokens = kept.plain[plain]
    record.write(folder)
    try:
        with _progress(lesson.steps(training), f"seed {seed}") as bar, budget.telling():
            course.through(lambda start: inject(
                loaded, worded, training, texts=texts, evaluate_every=settings.evaluate_every,
                progress=lambda step: bar.update(step - bar.n), into=seen, enough=plan.enough(), start=start,
                keep=course.keep, parts=course.parts, lesson=lesson, before=kept.before_of(worded, settings),
            ))  # fmt: skip
        save_model(seen.model, loaded, settings.save, folder)
        kept.plain[plain] = (seen.plain_before, seen.plain_tokens)
        record.status = "done"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        record.seconds = round(course.seconds, 1)
        memory = {**record.details["memory"], **budget.told()}
        record.details = {**record.details, "checkpoints": course.told, "memory": memory}
        _write(record, hide, seen, folder)
    course.checkpoints.remove()


def _progress(steps: int, label: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, desc=label, unit="step", dynamic_ncols=True, leave=False, delay=1)


def _record(settings: Inject, seed: int, pack: Pack, loaded: LoadedModel, texts: list[str]) -> Record:
    return Record(
        command="inject",
        settings=dataclasses.asdict(settings),
        seed=seed,
        identity=_identity_of(settings),
        hashes={"pack": pack_hash(pack), "model": loaded.sha256, "plain_text": sha256_of_texts(texts)},
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        details={
            "pack": describe(pack),
            "model": {"name": loaded.name, "licence_note": loaded.licence_note},
            "seeds": [seed],
        },
    )


def _write(record: Record, hide: Redaction, seen: Injected, folder: Path) -> None:
    """Tables first, the record last: a record that says `done` has its tables beside it."""
    answers = hide.table(seen.table())
    write_table(folder / ANSWERS, answers)
    losses = [(seen.seed, loss.epoch, loss.step, loss.value) for loss in seen.losses]
    write_table(folder / TRAJECTORY, trajectory_table(answers, losses))
    metrics = summarise(answers) if answers.num_rows else {}
    if seen.done:
        metrics["forgetting_nats"] = forgetting_nats.measure(seen.plain_before, seen.plain_after, seen.plain_tokens)
    model = {**record.details["model"], "parameters": seen.parameters, "trained_parameters": seen.trained_parameters}
    plain = {
        "before": seen.plain_before.tolist(),
        "after": seen.plain_after.tolist(),
        "tokens": seen.plain_tokens.tolist(),
    }
    files = checksums(folder, ANSWERS, TRAJECTORY)
    record.details = {
        **record.details,
        "model": model,
        "plain_text": plain,
        "scoring": seen.method,
        "forward_passes": seen.passes,
        "files": files,
    }
    record.metrics = metrics
    record.write(folder)


def _pool(settings: Inject, seeds: list[int], folder: Path) -> None:
    """One record over all seeds: tables stacked, metrics measured again over (seed, pair) clusters."""
    import numpy as np

    records = [Record.read(folder / f"seed-{seed}") for seed in seeds]
    own: dict[str, Any] = {
        "settings": {**dataclasses.asdict(settings), "micro_batch": records[0].settings["micro_batch"]},
        "identity": _identity_of(settings),
        "seed": settings.seed,
        "resumed": max(times_taken_up(folder), sum(record.resumed for record in records)),
    }
    # The record first, so that tables that a kill leaves behind are known for this run's.
    replace(records[0], **own, status="running", metrics={}).write(folder)
    for name in (ANSWERS, TRAJECTORY):
        write_table(folder / name, pa.concat_tables([read_table(folder / f"seed-{seed}" / name) for seed in seeds]))
    metrics = summarise(read_table(folder / ANSWERS))
    plain = [record.details["plain_text"] for record in records]
    parts = {key: np.stack([np.array(one[key]) for one in plain]).mean(axis=0) for key in ("before", "after", "tokens")}
    metrics["forgetting_nats"] = forgetting_nats.measure(parts["before"], parts["after"], parts["tokens"])
    first = records[0]
    hashes = {**first.hashes, "pack": sha256_of_texts([record.hashes["pack"] for record in records])}
    pooled = replace(
        first,
        **own,
        hashes=hashes,
        metrics=metrics,
        seconds=round(sum(record.seconds for record in records), 1),
        details={**first.details, "seeds": seeds, "files": checksums(folder, ANSWERS, TRAJECTORY)},
    )
    pooled.write(folder)


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    metrics = json.loads(json.dumps(record.metrics, default=lambda value: value.as_json()))
    return {"run": os.fspath(folder), "metrics": metrics, "text": tell(folder, record, metrics)}
