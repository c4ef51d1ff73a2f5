"""`spillover inject`: fine-tune on a pack, measure before, during and after, and write a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from tyro.conf import Positional

from spillover.commands.launched import resolved, take_part
from spillover.commands.prepare import Budget, Cache, Plan, load, refuse_bad_numbers, seeds_of, training_of
from spillover.commands.tracking import Tracking, refuse_missing
from spillover.config import Flag, Running
from spillover.errors import RunError
from spillover.metrics.implications import forgetting_nats, summarise, trajectory_table
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import (
    ANSWERS,
    INSIDE,
    SHARED,
    TRAJECTORY,
    Record,
    checksums,
    read_table,
    sha256_of_texts,
    write_table,
)
from spillover.runs import PATIENCE, OpenRun, State, identity_of, open_run, times_resumed

if TYPE_CHECKING:
    from spillover.lm.distributed import Processes
    from spillover.lm.fine_tune import FineTuned, Snapshot
    from spillover.lm.load import LoadedModel
    from spillover.lm.micro_batch import MicroBatches, Since
    from spillover.lm.score import CausalModel
    from spillover.lm.tokens import Encoder


@dataclass(frozen=True, kw_only=True)
class Inject(Running):
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str
    """A tag (gemma-3-270m), a hub id, a local model folder, a PEFT adapter folder or a GGUF file."""
    out: str
    """Folder of the run: record.json, answers.parquet, trajectory.parquet and weights if asked for."""
    epochs: int = 8
    """Passes over the stated rows."""
    lr: float = 5e-5
    """Learning rate of AdamW, constant."""
    batch: int = 8
    """Rows a step; reshuffled every epoch."""
    micro_batch: int = 0
    """Rows of a step that are computed at once, their gradients summed; 0 takes the whole batch if there is memory for
    it, and the record says how many it was. Fewer when memory runs out."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    optimiser: Literal["adamw", "adamw-8bit"] = "adamw"
    """What updates the weights: torch's AdamW, or that of bitsandbytes, which keeps its two sums in 8 bits each."""
    gradient_checkpointing: Flag = False
    """Keep only what enters each layer, and compute the layer again on the way back: less memory, more time."""
    compile_layers: Flag = False
    """Compile the layers' code before the first step, which takes a minute: faster steps on a GPU, the same numbers
    within rounding. It takes Triton there, a C++ compiler elsewhere."""
    logits_at_once: int = 0
    """Answer tokens whose logits stand at the same time in training; 0 takes all of a micro-batch. Fewer take less
    memory and more time."""
    freeze_embeddings: bool = True
    """Leave input and output embeddings as they are; train everything else."""
    lora: int = 0
    """Train a LoRA adapter of this rank instead of the weights; 0 trains the weights."""
    lora_targets: str = ""
    """Modules that get an adapter, by name or the end of it, as q_proj,v_proj; by default all linear ones but the
    output embedding."""
    evaluate_every: int = 1
    """Measure after every so many epochs (and always before the first and after the last)."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    inside: Flag = False
    """Also look inside: the spectrum of every attention head's output-value product and of its change."""
    facts_known: Flag = False
    """Train on the stated implications alone: the facts that they start from are asked and never trained, since the
    model knows them. Not together with --remedy."""
    until_learned: Flag = False
    """Stop at the first measurement at which facts and stated implications have a mean rank of 0.1 or less."""
    until_nats: float = 0.0
    """Stop at the first measurement at which, besides, the stated answers lose no more than so many nats a row on
    average; 0 does not stop for that."""
    remedy: str = ""
    """Against what nobody wants concluded: NAME=STRENGTH, several joined by `+`, as in abstention=2+lazier=1.5. See
    `mitigate` for the names."""
    tuned: str = ""
    """For a remedy on finished weights: take those that this run of the same command without it kept with --save delta,
    instead of training again."""
    plain_text: str | None = None
    """A text file for measuring forgetting; by default the bundled public-domain passages."""
    save: Literal["weights", "delta", "none"] = "none"
    """What to keep of the model: all weights, only those that changed, or nothing."""
    seeds: str = ""
    """Several seeds, as 0,1,2: a run each in OUT/seed-N, and one pooled record in OUT."""
    sharded: Flag = False
    """Split the model over the processes (FSDP), as `accelerate launch --use_fsdp` says; part of a run's identity."""
    track: Literal["none", "tensorboard", "trackio", "wandb", "mlflow"] = "none"
    """Also tell an experiment tracker, step by step. Its package must be installed; it writes into the run's folder
    unless it is set up to write elsewhere. No part of a run's identity."""
    processes: int = 1
    """Processes that share the work: as many as `accelerate launch` started. Part of a run's identity, as sums are."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on in everything written, drawn or printed, in the order of the
    pack. Answers stay, also one that is a subject's name; so do paths, and weights that were trained on the names.
    Part of a run's identity."""


class Inside:
    """Spectra of W_OV before training and at its end; norms alone after epochs 1, 2, 4, 8 and so on, which cost less.

    Measuring changes nothing of the training. last: the epoch at which it ends unless it stops before. folder: where
    the tables go, and where those of a run that was cut short are found again; None writes nothing. copied: whether
    the model handed in is itself trained. Raises ModelError when the model has no attention of a known shape.
    """

    def __init__(
        self, model: CausalModel, pack: Pack, encode: Encoder, *, seed: int, last: int, folder: Path | None,
        copied: bool = False,
    ) -> None:  # fmt: skip
        from spillover.interp.output_value import BaseProducts

        self.pack, self.encode, self.seed, self.last, self.folder = pack, encode, seed, last, folder
        self.seconds = 0.0
        self.looks: dict[int, pa.Table] = {}
        self.shared: pa.Table | None = None
        self.before = BaseProducts(model, copied=copied)
        if folder is not None and (folder / INSIDE).exists():
            found = read_table(folder / INSIDE)
            checkpoints = found["checkpoint"].to_pylist()
            self.looks = {each: found.filter([other == each for other in checkpoints]) for each in set(checkpoints)}
        self._look(model, 0, full=True)

    @classmethod
    def of(cls, settings: Inject, loaded: LoadedModel, pack: Pack, folder: Path) -> Inside | None:
        """What looks into a run of `inject` that trains a copy of the model, if its options say so."""
        from spillover.lm.tokens import encoder

        if not settings.inside:
            return None
        encode = encoder(loaded.tokenizer)
        return cls(loaded.model, pack, encode, seed=settings.seed, last=settings.epochs, folder=folder)

    def after_epoch(self, model: CausalModel, epoch: int) -> None:
        """Take norms if it is time to."""
        if epoch & (epoch - 1) == 0 and epoch != self.last:
            self._look(model, epoch, full=False)

    def at_end(self, model: CausalModel, epoch: int) -> None:
        """Take spectra, and what the changes write for stated and unstated subjects."""
        from spillover.interp.output_value import shared

        self._look(model, epoch, full=True)
        began = time.monotonic()
        self.shared = shared(self.before, model, self.pack, self.encode, seed=self.seed, checkpoint=epoch)
        if self.folder is not None:
            write_table(self.folder / SHARED, self.shared)
        self.seconds += time.monotonic() - began

    def told(self, seconds: float) -> dict[str, Any]:
        """For the record: what looking took since the run was last taken up, and its share of the run's `seconds`."""
        return {"seconds": round(self.seconds, 2), "share": round(self.seconds / seconds, 4) if seconds else None}

    def _look(self, model: CausalModel, checkpoint: int, *, full: bool) -> None:
        began = time.monotonic()
        self.looks[checkpoint] = self.before.spectra(model, seed=self.seed, checkpoint=checkpoint, full=full)
        if self.folder is not None:
            write_table(self.folder / INSIDE, pa.concat_tables(self.looks[each] for each in sorted(self.looks)))
        self.seconds += time.monotonic() - began


def refuse_unknown_attention(model: CausalModel) -> None:
    """Raise ModelError when the model has no attention of a known shape."""
    from spillover.lm.output_value import places

    places(model)


def pool(folder: Path, parts: Iterable[Path]) -> None:
    """The tables of several seeds as one each, where the seeds have them."""
    parts = list(parts)
    for name in (INSIDE, SHARED):
        if all((part / name).exists() for part in parts):
            write_table(folder / name, pa.concat_tables([read_table(part / name) for part in parts]))


#: Bytes a trained weight takes in a checkpoint: itself and AdamW's two sums, in single precision.
BYTES = 12


class TrainingProgress:
    """Where the training of an open run stands: what it starts from, and how many examples it computes at once.

    start: the snapshot to go on from, or None. micro_batch: examples at once, if the run has not begun with another
    number; `parts` holds what it is then and later, as the record and each checkpoint do.
    """

    def __init__(self, run: OpenRun, seen: FineTuned, begun: list[Since], patience: float, micro_batch: int) -> None:
        from spillover.lm.micro_batch import MicroBatches

        self.run, self.seen = run, seen
        state = run.resume(patience)
        self.start = None if state is None else _snapshot(state)
        begun = max(begun, _micro_batches(state), key=len)
        self.parts = MicroBatches(begun or [(1, micro_batch)], self._note)
        run.record.settings = {**run.record.settings, "micro_batch": self.parts.since[0][1]}
        self._note(self.parts.since, announced=False)

    def keep(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a checkpoint if one is due."""
        self.run.keep(self.seen.trained_parameters * BYTES, lambda: _state(snapshot(), self.parts))

    def through(self, attempt: Callable[[Snapshot | None], None]) -> None:
        """`attempt(start)`, and again from the newest checkpoint whenever memory runs out in the middle of a step."""
        from spillover.lm.micro_batch import TornStep

        while True:
            try:
                return attempt(self.start)
            except TornStep as error:
                print(f"{error.what[0].upper()}{error.what[1:]}; going back to the last checkpoint.", file=sys.stderr)
            assert self.run.checkpoints is not None
            state = self.run.checkpoints.newest()
            self.start = None if state is None else _snapshot(state)
            self.seen.answers, self.seen.losses = [], []

    def _note(self, since: Sequence[Since], announced: bool = True) -> None:
        """Record a micro-batch before it takes effect, so that whoever resumes the run does the same."""
        record, folder = self.run.record, self.run.folder
        memory = {**record.details.get("memory", {}), "micro_batches": [list(each) for each in since]}
        record.details = {**record.details, "memory": memory}
        if announced:
            step, examples = since[-1]
            print(f"Memory ran out; from step {step} on, {examples} rows are computed at once.", file=sys.stderr)
        if folder is not None:
            record.write(folder)


def _recorded(folder: Path) -> list[Since]:
    """The micro-batches of the run that was begun in a folder, if one was."""
    with contextlib.suppress(RunError):
        found = Record.read(folder).details.get("memory", {}).get("micro_batches", [])
        return [(int(step), int(rows)) for step, rows in found]
    return []


def _micro_batches(state: State | None) -> list[Since]:
    return [] if state is None else [(step, rows) for step, rows in state.facts.get("micro_batches", [])]


def _state(snapshot: Snapshot, parts: MicroBatches) -> State:
    facts = {
        "micro_batches": parts.since,
        "bounds": snapshot.bounds,
        "method": snapshot.method,
        "losses": [[loss.step, loss.epoch, loss.value] for loss in snapshot.losses],
        "examined": [[each.checkpoint, each.full, each.scores.tolist()] for each in snapshot.examined],
    }
    return State(snapshot.start.step, snapshot.start.state, facts)


def _snapshot(state: State) -> Snapshot:
    import numpy as np

    from spillover.lm.fine_tune import BOUNDS, Loss, Snapshot
    from spillover.lm.fine_tune import Evaluated as Examined
    from spillover.lm.train import TrainerState as Start

    losses = [Loss(*values) for values in state.facts["losses"]]
    examined = [Examined(checkpoint, full, np.array(scores)) for checkpoint, full, scores in state.facts["examined"]]
    start, bounds = Start(state.step, state.tensors), tuple(state.facts.get("bounds", BOUNDS))
    return Snapshot(start, state.facts["method"], examined, losses, bounds)


def tell(folder: Path, record: Record, metrics: dict[str, Any]) -> str:
    """A few lines for a person: what was learned, what was inferred, held against the yardstick."""
    settings = record.settings
    trained = "everything but the embeddings" if settings["freeze_embeddings"] else "all weights"
    targets = f" on {settings['lora_targets']}" if settings.get("lora_targets") else ""
    trained = f"a LoRA adapter of rank {settings['lora']}{targets}" if settings["lora"] else trained
    lines = [f"{record.details['pack']['name']} on {settings['model']}, {settings['epochs']} epochs, {trained} trained"]
    if metrics.get("recall_rank"):
        before = _shown(metrics["recall_rank_before"])
        told = "facts taken as known" if settings.get("facts_known") else "stated facts"
        lines.append(f"  {told}: mean rank {_shown(metrics['recall_rank'])}, {before} before")
    for name, found in metrics["implications"].items():
        if (test := found["implication_rank_test"]) is None:
            continue
        yardstick = found["marginal_rank"]["value"]
        test_p = found["map_test"]
        before = _shown(found["implication_rank_test_before"])
        lines.append(
            f"  {name}, never stated: mean rank {_shown(test)}, {before} before; "
            f"{yardstick:.2f} for a guess that knows which answers occur"
            + (f"; exact map test p = {test_p['p']:.2g}" if test_p else "")
        )
    return "\n".join([*lines, f"  run: {folder}"])


def _shown(metric: dict[str, Any]) -> str:
    note = f", {metric['note']}" if metric.get("note") else ""
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f}{note})"


TABLES = (ANSWERS, TRAJECTORY, INSIDE, SHARED)
PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")


def run(settings: Inject, kept: Cache | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Run every seed, then pool them. Returns the run's path, its metrics and a text for a person.

    kept: hand the same one to several runs, and those on the same model load it once. patience: see `Checkpoints`. A
    run that was cut short is taken up from its newest checkpoint, and ends with the bytes of one that was not. Of
    several processes that were started together, all share the work, and the first alone touches the folder.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder; KeyboardInterrupt
    passes through once a record that says `interrupted` has been written.
    """
    from spillover.lm import compile as compiling
    from spillover.lm import optimizer as optimisers
    from spillover.lm.distributed import joined
    from spillover.lm.load import pick_device

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

        opened: dict[str, OpenRun] = {}

        def claim(own: Inject) -> Record | None:
            """The finished record, if this run is done; until the end, no other command may work on it."""

            def claimed() -> Record | None:
                run = open_run(own.out, "inject", _identity(own), silent=own is not settings)
                opened[own.out] = held.enter_context(run)
                return opened[own.out].finished

            return processes.of_first(claimed)

        if (finished := claim(settings)) is not None:
            return _outcome(folder, finished)
        _texts(settings)
        kept = kept or Cache()
        # A seed of several is the run that `--seed` alone would make, and is found again like it.
        each = [replace(settings, seed=seed, seeds="", out=_own(settings.out, seed, seeds)) for seed in seeds]
        if len(seeds) > 1:
            each = [own for own in each if claim(own) is None]
        for own in each:
            # Every pack is checked before the first is trained on.
            loaded = load(own, plan.asked(packs[own.seed]), kept)
            if own.inside:
                refuse_unknown_attention(loaded.model)
        for own in each:
            _run_seed(own, packs[own.seed], kept, patience, processes, opened.get(own.out))

        def told() -> dict[str, Any]:
            if len(seeds) > 1:
                _pool(settings, seeds, folder)
            return _outcome(folder, Record.read(folder))

        return processes.of_first(told)


def _identity(settings: Inject) -> str:
    return identity_of(settings, "track")


def _texts(settings: Inject) -> list[str]:
    from spillover.lm.forgetting import passages

    return passages(settings.plain_text)


def _own(folder: str, seed: int, seeds: list[int]) -> str:
    return str(Path(folder) / f"seed-{seed}") if len(seeds) > 1 else folder


def _run_seed(
    settings: Inject, pack: Pack, kept: Cache, patience: float, processes: Processes, run: OpenRun | None
) -> None:  # fmt: skip
    """One seed's run, written into its folder whatever happens: done, or interrupted with what it saw."""
    from spillover.lm.fine_tune import FineTuned as Injected
    from spillover.lm.fine_tune import inject

    texts, seed, plan = _texts(settings), settings.seed, Plan(settings)
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
    assert run is not None and run.folder is not None
    hide, folder = Redaction.of(pack.subjects, settings.redact), run.folder
    begun = _recorded(folder)
    packages = (*PACKAGES, *(("bitsandbytes",) if settings.optimiser == "adamw-8bit" else ()))
    with run.recording(settings, packages, **_known(settings, hide.pack(pack), loaded, texts)) as record:
        progress = TrainingProgress(run, seen, begun, patience, budget.micro_batch)
        tracking, inside = Tracking(settings.track, record, folder, hide, progress.start), None
        try:
            inside = Inside.of(settings, loaded, worded, folder)
            with _progress(lesson.steps(training), f"seed {seed}") as bar, budget.telling():
                processes.of_first(lambda: progress.parts.since)
                progress.through(lambda start: inject(
                    loaded, worded, training, start=start, parts=progress.parts,
                    keep=tracking.before(seen, progress.keep),
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
            record.details = {**record.details, **_told(record, run, budget, inside)}
            _write(record, hide, seen, folder)
            tracking.end(seen, record)


def _save(settings: Inject, seen: FineTuned, loaded: LoadedModel, record: Record) -> None:
    """Keep of the model what was asked for, and tell how far its weights moved."""
    from spillover.interp.patching import moved
    from spillover.lm.save import save_model

    save_model(seen.model, loaded, settings.save, Path(settings.out))
    record.details = {**record.details, "moved": moved(loaded.model, seen.model)}


def _told(record: Record, run: OpenRun, budget: Budget, inside: Inside | None) -> dict[str, Any]:
    """What the run took, for its details."""
    memory = {**record.details["memory"], **budget.told()}
    looking = {"inside": inside.told(run.seconds)} if inside else {}
    assert run.checkpoints is not None
    return {"checkpoints": run.checkpoints.as_json(), "memory": memory, **looking}


def _progress(steps: int, label: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, desc=label, unit="step", dynamic_ncols=True, leave=False, delay=1)


def _known(settings: Inject, pack: Pack, loaded: LoadedModel, texts: list[str]) -> dict[str, Any]:
    """What the record holds from the beginning."""
    return {
        "seed": settings.seed,
        "hashes": {"pack": pack_hash(pack), "model": loaded.sha256, "plain_text": sha256_of_texts(texts)},
        "details": {
            "pack": describe(pack),
            "model": {"name": loaded.name, "licence_note": loaded.licence_note},
            "seeds": [settings.seed],
        },
    }


def _write(record: Record, hide: Redaction, seen: FineTuned, folder: Path) -> None:
    """Tables first, the record last: a record that says `done` has its tables beside it."""
    answers = hide.table(seen.table())
    write_table(folder / ANSWERS, answers)
    losses = [(seen.seed, loss.epoch, loss.step, loss.value) for loss in seen.losses]
    write_table(folder / TRAJECTORY, trajectory_table(answers, losses))
    metrics = summarise(answers) if answers.num_rows else {}
    if seen.done:
        metrics["forgetting_nats"] = forgetting_nats(seen.plain_before, seen.plain_after, seen.plain_tokens)
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


def _pool(settings: Inject, seeds: list[int], folder: Path) -> None:
    """One record over all seeds: tables stacked, metrics measured again over (seed, pair) clusters."""
    import numpy as np

    from spillover.interp.patching import mean_moved

    records = [Record.read(folder / f"seed-{seed}") for seed in seeds]
    own: dict[str, Any] = {
        "settings": {**dataclasses.asdict(settings), "micro_batch": records[0].settings["micro_batch"]},
        "identity": _identity(settings),
        "seed": settings.seed,
        "resumed": max(times_resumed(folder), sum(record.resumed for record in records)),
    }
    # The record first, so that tables that a kill leaves behind are known for this run's.
    replace(records[0], **own, status="running", metrics={}).write(folder)
    for name in (ANSWERS, TRAJECTORY):
        write_table(folder / name, pa.concat_tables([read_table(folder / f"seed-{seed}" / name) for seed in seeds]))
    pool(folder, [folder / f"seed-{seed}" for seed in seeds])
    metrics = summarise(read_table(folder / ANSWERS))
    plain = [record.details["plain_text"] for record in records]
    parts = {key: np.stack([np.array(one[key]) for one in plain]).mean(axis=0) for key in ("before", "after", "tokens")}
    metrics["forgetting_nats"] = forgetting_nats(parts["before"], parts["after"], parts["tokens"])
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
