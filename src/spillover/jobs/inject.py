"""`spillover inject`: fine-tune on a pack, measure before, during and after, and write a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spillover import __version__
from spillover.facts.describe import describe, pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.checkpoints import PATIENCE
from spillover.jobs.inject_memory import Budget
from spillover.jobs.inject_model import Kept, load
from spillover.jobs.inject_options import refuse_bad_numbers, seeds_of, training_of
from spillover.jobs.inject_remedy import Plan
from spillover.jobs.inject_state import Course
from spillover.jobs.inject_text import tell
from spillover.jobs.inside import Inside, pool, refuse_unknown_attention
from spillover.jobs.launched import resolved, take_part
from spillover.jobs.output import claimed, telling, times_taken_up
from spillover.jobs.redaction import Redaction
from spillover.jobs.tracking import Tracking, refuse_missing
from spillover.measures import forgetting_nats
from spillover.measures.summary import summarise
from spillover.measures.trajectory import trajectory_table
from spillover.record import (
    ANSWERS,
    INSIDE,
    SHARED,
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
    from spillover.llm.inject import Injected
    from spillover.llm.processes.joining import Processes
    from spillover.llm.weights.loading import LoadedModel

TABLES = (ANSWERS, TRAJECTORY, INSIDE, SHARED)
PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")


def run(settings: Inject, kept: Kept | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Run every seed, then pool them. Returns the run's path, its metrics and a text for a person.

    kept: hand the same one to several runs, and those on the same model load it once. patience: see `Checkpoints`. A
    run that was cut short is taken up from its newest checkpoint, and ends with the bytes of one that was not. Of
    several processes that were started together, all share the work, and the first alone touches the folder.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder; KeyboardInterrupt
    passes through once a record that says `interrupted` has been written.
    """
    from spillover.llm.memory import compiling, optimisers
    from spillover.llm.processes.joining import joined
    from spillover.llm.weights.loading import pick_device

    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    refuse_missing(settings.track)
    optimisers.refuse_missing(settings.optimiser)
    compiling.refuse_missing(settings.compile_layers, pick_device(settings.device), settings.sharded)
    plan = Plan(settings)
    packs = {seed: open_pack(settings.pack, seed) for seed in seeds}
    folder = Path(settings.out).expanduser()
    with joined() as processes, contextlib.ExitStack() as held:
        settings = resolved(settings, processes)

        def claim(own: Inject) -> Record | None:
            """The finished record, if this run is done; until the end, no other command may work on it."""
            return processes.of_first(
                lambda: held.enter_context(claimed(Path(own.out).expanduser(), "inject", _identity_of(own)))
            )

        if (finished := claim(settings)) is not None:
            print(f"Found this run finished in {folder}; nothing was run.", file=sys.stderr)
            return _outcome(folder, finished)
        _texts(settings)
        kept = kept or Kept()
        # A seed of several is the run that `--seed` alone would make, and is found again like it.
        each = [replace(settings, seed=seed, seeds="", out=str(_own(folder, seed, seeds))) for seed in seeds]
        if len(seeds) > 1:
            each = [own for own in each if claim(own) is None]
        for own in each:
            # Every pack is checked before the first is trained on.
            loaded = load(own, plan.asked(packs[own.seed]), kept)
            if own.inside:
                refuse_unknown_attention(loaded.model)
        for own in each:
            _run_seed(own, packs[own.seed], kept, patience, processes)

        def told() -> dict[str, Any]:
            if len(seeds) > 1:
                _pool(settings, seeds, folder)
            return _outcome(folder, Record.read(folder))

        return processes.of_first(told)


def _identity_of(settings: Inject) -> str:
    """What must be equal for two commands to be the same run: all but where it goes and whom it tells."""
    return identity(telling(settings, "out", "json", "track") | {"version": __version__})


def _texts(settings: Inject) -> list[str]:
    from spillover.llm.forgetting import passages

    return passages(settings.plain_text)


def _own(folder: Path, seed: int, seeds: list[int]) -> Path:
    return folder / f"seed-{seed}" if len(seeds) > 1 else folder


def _run_seed(settings: Inject, pack: Pack, kept: Kept, patience: float, processes: Processes) -> None:
    """One seed's run, written into its folder whatever happens: done, or interrupted with what it saw."""
    from spillover.llm.inject import Injected, inject

    texts, folder, seed, plan = _texts(settings), Path(settings.out), settings.seed, Plan(settings)
    asked = plan.asked(pack)
    loaded, training = load(settings, asked, kept), plan.training(training_of(settings, seed))
    lesson, worded = plan.lesson(pack, loaded, training), plan.worded(asked, loaded)
    budget = kept.budgets.of(settings, training, worded, loaded.tokenizer)
    seen = Injected(seed)
    plain = f"{sha256_of_texts(texts)} {settings.threads}"
    if plain in kept.plain:
        seen.plain_before, seen.plain_tokens = kept.plain[plain]
    how: dict[str, Any] = {
        "texts": texts, "evaluate_every": settings.evaluate_every, "into": seen, "enough": plan.enough(),
        "lesson": lesson, "before": kept.before_of(worded, settings), "processes": processes,
    }  # fmt: skip
    if not processes.first:
        take_part(loaded, worded, training, how)
        kept.plain[plain] = (seen.plain_before, seen.plain_tokens)
        return
    hide = Redaction.of(pack.subjects, settings.redact)
    record = _record(settings, seed, hide.pack(pack), loaded, texts)
    course = Course(record, seen, folder, patience, budget.micro_batch)
    record.write(folder)
    tracking, inside = Tracking(settings.track, record, folder, hide, course.start), None
    try:
        inside = Inside.of(settings, loaded, worded, folder)
        with _progress(lesson.steps(training), f"seed {seed}") as bar, budget.telling():
            processes.of_first(lambda: course.parts.since)
            course.through(lambda start: inject(
                loaded, worded, training, start=start, parts=course.parts, keep=tracking.before(seen, course.keep),
                progress=tracking.after(seen, lambda step: bar.update(step - bar.n)),
                look=inside.after_epoch if inside else None, **how,
            ))  # fmt: skip
        if inside:
            inside.at_end(seen.model, seen.answers[-1]["checkpoint"][0].as_py())
        _save(settings, seen, loaded, record)
        kept.plain[plain] = (seen.plain_before, seen.plain_tokens)
        record.status = "done"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        record.seconds = round(course.seconds, 1)
        record.details = {**record.details, **_told(record, course, budget, inside)}
        _write(record, hide, seen, folder)
        tracking.end(seen, record)
    course.checkpoints.remove()


def _save(settings: Inject, seen: Injected, loaded: LoadedModel, record: Record) -> None:
    """Keep of the model what was asked for, and tell how far its weights moved."""
    from spillover.llm.inside.patching import moved
    from spillover.llm.weights.saving import save_model

    save_model(seen.model, loaded, settings.save, Path(settings.out))
    record.details = {**record.details, "moved": moved(loaded.model, seen.model)}


def _told(record: Record, course: Course, budget: Budget, inside: Inside | None) -> dict[str, Any]:
    """What the run took, for its details."""
    memory = {**record.details["memory"], **budget.told()}
    looking = {"inside": inside.told(record.seconds)} if inside else {}
    return {"checkpoints": course.told, "memory": memory, **looking}


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
        versions=versions((*PACKAGES, *(("bitsandbytes",) if settings.optimiser == "adamw-8bit" else ()))),
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
    files = checksums(folder, *TABLES)
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

    from spillover.llm.inside.patching import mean_moved

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
    pool(folder, [folder / f"seed-{seed}" for seed in seeds])
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
        details={
            **first.details,
            "seeds": seeds,
            "files": checksums(folder, *TABLES),
            "moved": mean_moved([record.details.get("moved") or {} for record in records]),
        },
    )
    pooled.write(folder)


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    metrics = json.loads(json.dumps(record.metrics, default=lambda value: value.as_json()))
    return {"run": os.fspath(folder), "metrics": metrics, "text": tell(folder, record, metrics)}
