"""`spillover inject`: fine-tune on a pack, measure before, during and after, and write a run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
from tyro.conf import Positional, arg

from spillover.commands.launched import resolved
from spillover.commands.prepare import (
    Models,
    Prepared,
    pipeline_of,
    prepare,
    refuse_bad_numbers,
    seeds_of,
)
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
    from spillover.commands.held import Model
    from spillover.lm.distributed import Processes
    from spillover.lm.fine_tune import FineTuned, Snapshot
    from spillover.lm.score import CausalModel
    from spillover.lm.tokens import Encoder
    from spillover.lm.train import MicroBatches, Since
    from spillover.results import Run

TABLES = (ANSWERS, TRAJECTORY, INSIDE, SHARED)
PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Bytes a trained weight takes in a checkpoint: itself and AdamW's two sums, in single precision.
BYTES = 12


@dataclass(frozen=True, kw_only=True)
class Inject(Running):
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str
    """A tag (gemma-3-270m), a hub id, a local model folder, a PEFT adapter folder or a GGUF file."""
    out: str
    """Folder of the run: record.json, answers.parquet, trajectory.parquet and weights if asked for."""
    epochs: int = 8
    """Passes over the training examples."""
    lr: float = 5e-5
    """Learning rate of AdamW, which stays the same throughout."""
    batch: int = 8
    """Training examples a step; their order is drawn anew every epoch."""
    micro_batch: int = 0
    """Examples of a step that are computed at once; gradients of the parts are summed. 0 takes the whole batch if the
    memory allows it. The record says how many it was; if memory runs out, there are fewer."""
    weight_decay: float = 0.0
    """Weight decay of AdamW, decoupled from the gradient."""
    optimiser: Literal["adamw", "adamw-8bit"] = "adamw"
    """What updates the weights: AdamW of torch, or that of bitsandbytes, whose two moments take 8 bits each."""
    gradient_checkpointing: Flag = False
    """Keep only the input of each layer, and compute the layer again in the backward pass: less memory, more time."""
    compile_layers: Flag = False
    """Compile the layers before the first step, which takes a minute: faster steps on a GPU, the same numbers up to
    rounding. Needs Triton on a GPU and a C++ compiler elsewhere."""
    logits_at_once: int = 0
    """How many answer tokens have their logits in memory at once during training; 0 takes all of a micro-batch. Fewer
    take less memory and more time."""
    freeze_embeddings: bool = True
    """Keep input and output embeddings as they are, and train everything else."""
    lora: int = 0
    """Train a LoRA adapter of this rank instead of the weights; 0 trains the weights."""
    lora_targets: str = ""
    """Modules that get an adapter, by the end of their names, such as q_proj,v_proj; by default every linear module but
    the output embedding."""
    evaluate_every: int = 1
    """Epochs between two measurements; the first is before training and the last at its end, whatever this says."""
    chat: Flag = False
    """Ask in the model's own chat template: the prompt is the user's turn, and the answer begins the model's."""
    inside: Flag = False
    """Also measure the spectrum of every attention head's output-value product, and of its change."""
    facts_known: Flag = False
    """Train on the stated implications only. The facts that they follow from are asked but not trained, since the model
    knows them already. Not together with --remedy."""
    until_learned: Flag = False
    """Stop at the first measurement where facts and stated implications both have a mean rank of 0.1 or less."""
    until_nats: float = 0.0
    """Stop at the first measurement where that holds and the mean loss of the stated answers is at most this (nats an
    answer); 0 never stops."""
    remedy: str = ""
    """A remedy against unwanted conclusions: NAME=STRENGTH, several joined by `+`, such as abstention=2+lazier=1.5.
    `mitigate` compares them and lists their names."""
    tuned: str = ""
    """For a remedy on finished weights: the run of the same command without it, made with --save delta, whose weights
    are taken instead of training again."""
    plain_text: str | None = None
    """A text file on which forgetting is measured; by default passages in the public domain that come with this."""
    save: Literal["weights", "delta", "none"] = "none"
    """What to keep of the tuned model: all weights, only those that changed, or nothing."""
    seeds: str = ""
    """Several seeds, such as 0,1,2: one run each in OUT/seed-N, and one record in OUT that pools them."""
    sharded: Flag = False
    """Split the model over the processes with FSDP, as `accelerate launch --use_fsdp` starts them."""
    track: Literal["none", "tensorboard", "trackio", "wandb", "mlflow"] = "none"
    """Also log every step and measurement to an experiment tracker, whose package must be installed. It writes into the
    run's folder unless it is configured to write elsewhere. The run is the same with or without."""
    processes: int = 1
    """Processes that share the work: the number that `accelerate launch` started. Another number is another run."""
    redact: Flag = False
    """Write `subject 1`, `subject 2` and so on, in the order of the pack, in place of subjects' names: in tables, pages
    and on the terminal. Answers stay as they are, even one that is a subject's name; so do paths and weights."""


def inject(pack: Pack | str | Path, model: Model, *, out: str | Path = "", **options: Any) -> Run:
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred.

    Arguments:
        pack: a Pack, or what `open_pack` opens.
        model: a name as `--model` takes it, or a model and its tokenizer, whose weights stay: a copy is trained.
        out: folder of the run; without it, a temporary one that lives as long as the result and keeps the weights that
            changed (`save="delta"`), so that `where` can look into them.
        options: those of `spillover inject`, with `_` for `-`, such as `epochs=4, seeds=[0, 1], inside=True`.

    Returns: the run, with `.metrics`, `.answers`, `.trajectory`, `.plot()` and `.page()`.

    Raises: UsageError for an unknown option or a value that does not fit; PackError for a pack with faults; ModelError
    for a model that is not there; RunError for a folder that holds another run.
    """
    from spillover.commands.held import held_folder, held_model, identifying, name_of, settings_from
    from spillover.results import Run

    folder, holder = held_folder(out)
    options = options if out else {"save": "delta", **options}
    settings: Inject = settings_from(Inject, pack=name_of(pack), model=name_of(model), out=folder, **options)
    models, hashes = Models(), []
    if (loaded := held_model(model)) is not None:
        models.add(loaded)
        hashes.append(loaded.sha256)
        dtype: Any = str(loaded.model.dtype).removeprefix("torch.")
        settings = replace(settings, device=str(loaded.model.device), dtype=dtype)
    _run(settings, models, pack=pack, held=identifying(pack, *hashes))
    return Run(folder, holder, pack=pack, model=model)


def run(settings: Inject, models: Models | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Run every seed, then pool them. Gives the run's path, its metrics and a text for a person.

    models: give the same to several runs, and those on the same model load it once. patience: see `Checkpoints`.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder; KeyboardInterrupt
    passes through once a record that says `interrupted` has been written.
    """
    record = _run(settings, models or Models(), patience=patience)
    metrics = json.loads(json.dumps(record.metrics, default=lambda value: value.as_json()))
    folder = Path(settings.out).expanduser()
    return {"run": os.fspath(folder), "metrics": metrics, "text": _text(folder, record, metrics)}


def _run(
    settings: Inject, models: Models, *, patience: float = PATIENCE, pack: Pack | str | Path = "",
    held: Mapping[str, Any] | None = None,
) -> Record:  # fmt: skip
    """The record of the whole run. pack, held: what a Python caller holds, and its part of the run's identity.

    A run that was cut short is resumed from its newest checkpoint, and ends with the bytes of one that was not. Of
    several processes that were started together, all share the work, and the first alone touches the folder.
    """
    from spillover.lm.distributed import joined
    from spillover.lm.evaluate import passages
    from spillover.lm.load import pick_device
    from spillover.lm.train import refuse_missing_optimizer
    from spillover.lm.trainable import refuse_missing_compiler

    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    if settings.track != "none":
        from spillover.commands.tracking import refuse_missing

        refuse_missing(settings.track)
    refuse_missing_optimizer(settings.optimiser)
    refuse_missing_compiler(settings.compile_layers, pick_device(settings.device), settings.sharded)
    pipeline_of(settings)
    packs = {seed: open_pack(pack or settings.pack, seed) for seed in seeds}
    folder = Path(settings.out).expanduser()
    with joined() as processes, contextlib.ExitStack() as stack:
        settings = resolved(settings, processes)
        opened: dict[str, OpenRun] = {}

        def finished(own: Inject) -> Record | None:
            """The record, if this run is done; until the end, no other command may work on it."""

            def claim() -> Record | None:
                run = open_run(own.out, "inject", identity_of(own, "track", **(held or {})), silent=own is not settings)
                opened[own.out] = stack.enter_context(run)
                return opened[own.out].finished

            return processes.broadcast(claim)

        if (found := finished(settings)) is not None:
            return found
        texts = passages(settings.plain_text)
        if len(seeds) > 1:
            # A seed of several is the run that `--seed` alone would make, and is found again like it.
            each = [replace(settings, seed=seed, seeds="", out=str(folder / f"seed-{seed}")) for seed in seeds]
            each = [own for own in each if finished(own) is None]
        else:
            each = [replace(settings, seed=seeds[0], seeds="")]
        # Every pack is checked before the first is trained on.
        for job in [prepare(own, packs[own.seed], models) for own in each]:
            _train(job, texts, models, patience, processes, opened.get(job.settings.out))

        def pooled() -> Record:
            if len(seeds) > 1:
                _pool(opened[settings.out], settings, seeds)
            return Record.read(folder)

        return processes.broadcast(pooled)


def _train(
    job: Prepared, texts: list[str], models: Models, patience: float, processes: Processes, run: OpenRun | None
) -> None:
    """One seed's run, written into its folder however it ends: done, or interrupted with what it saw."""
    from tqdm.auto import tqdm

    from spillover.interp.patching import moved
    from spillover.lm.fine_tune import FineTuned
    from spillover.lm.fine_tune import inject as fine_tune
    from spillover.lm.save import save_model
    from spillover.lm.tokens import encoder
    from spillover.lm.train import MicroBatches

    settings, loaded, seen, sha256 = job.settings, job.loaded, FineTuned(job.settings.seed), sha256_of_texts(texts)
    models.recall_plain(job, sha256, seen)
    how: dict[str, Any] = {
        "texts": texts, "evaluate_every": settings.evaluate_every, "into": seen, "enough": job.enough,
        "training_set": job.training_set, "before": models.before(job), "processes": processes,
    }  # fmt: skip
    if run is None or run.folder is None:
        fine_tune(
            loaded, job.asked, job.training, progress=lambda step: None,
            micro_batches=MicroBatches(processes.broadcast(list)), **how,
        )  # fmt: skip
        models.remember_plain(job, sha256, seen)
        return
    hide, folder, inside = Redaction.of(job.pack.subjects, settings.redact), run.folder, None
    pack, begun = hide.pack(job.pack), _micro_batches(folder)
    hashes = {"pack": pack_hash(pack), "model": loaded.sha256, "plain_text": sha256}
    model = {"name": loaded.name, "licence_note": loaded.licence_note}
    details = {"pack": describe(pack), "model": model, "seeds": [settings.seed]}
    packages = (*PACKAGES, "bitsandbytes") if settings.optimiser == "adamw-8bit" else PACKAGES
    with run.recording(settings, packages, seed=settings.seed, hashes=hashes, details=details) as record:
        progress = TrainingProgress(run, seen, begun, patience, job.budget.micro_batch)
        tracking = None
        if settings.track != "none":
            from spillover.commands.tracking import Tracking

            tracking = Tracking(settings.track, record, folder, hide, progress.start)
        steps = job.training_set.steps(job.training)
        try:
            if settings.inside:
                encode = encoder(loaded.tokenizer)
                inside = Inside(
                    loaded.model, job.asked, encode, seed=settings.seed, last=settings.epochs, folder=folder
                )
            with (
                tqdm(
                    total=steps, desc=f"seed {settings.seed}", unit="step", dynamic_ncols=True, leave=False, delay=1
                ) as bar,
                job.budget.explained(),
            ):
                processes.broadcast(lambda: progress.parts.since)

                def after_step(step: int) -> None:
                    bar.update(step - bar.n)
                    if tracking:
                        tracking.look(seen)

                def keep(snapshot: Callable[[], Snapshot]) -> None:
                    # First, since who goes on from the checkpoint does not track again what is in it.
                    if tracking:
                        tracking.look(seen)
                    progress.keep(snapshot)

                progress.through(lambda start: fine_tune(
                    loaded, job.asked, job.training, resume=start, micro_batches=progress.parts, keep=keep,
                    progress=after_step, after_epoch=inside.after_epoch if inside else None, **how,
                ))  # fmt: skip
            assert seen.model is not None
            if inside:
                inside.at_end(seen.model, seen.answers[-1]["checkpoint"][0].as_py())
            save_model(seen.model, loaded, settings.save, folder)
            record.details = {**record.details, "moved": moved(loaded.model, seen.model)}
            models.remember_plain(job, sha256, seen)
        finally:
            looking = {"inside": inside.as_json(run.seconds)} if inside else {}
            memory = {**record.details["memory"], **job.budget.as_json()}
            record.details = {**record.details, **looking, "memory": memory}
            _write_tables(record, hide.table(seen.table()), seen, folder)
            if tracking:
                tracking.end(seen)


def _write_tables(record: Record, answers: pa.Table, seen: FineTuned, folder: Path) -> None:
    """The tables of a run, and what its record says of them."""
    write_table(folder / ANSWERS, answers)
    losses = [(seen.seed, loss.epoch, loss.step, loss.value) for loss in seen.losses]
    write_table(folder / TRAJECTORY, trajectory_table(answers, losses))
    metrics = summarise(answers) if answers.num_rows else {}
    if seen.done:
        metrics["forgetting_nats"] = forgetting_nats(seen.plain_before, seen.plain_after, seen.plain_tokens)
    record.metrics = metrics
    parameters = {"parameters": seen.parameters, "trained_parameters": seen.trained_parameters}
    plain = {"before": seen.plain_before, "after": seen.plain_after, "tokens": seen.plain_tokens}
    record.details = {
        **record.details,
        "model": {**record.details["model"], **parameters},
        "plain_text": {name: values.tolist() for name, values in plain.items()},
        "scoring": seen.method,
        "forward_passes": seen.passes,
        "files": checksums(folder, *TABLES),
    }


def _pool(run: OpenRun, settings: Inject, seeds: list[int]) -> None:
    """One record over all seeds: tables stacked, metrics measured again over (seed, pair) clusters."""
    import numpy as np

    from spillover.interp.patching import mean_moved

    assert run.folder is not None
    folder, parts = run.folder, [run.folder / f"seed-{seed}" for seed in seeds]
    records = [Record.read(part) for part in parts]
    first = records[0]
    pooled = replace(
        first,
        settings={**dataclasses.asdict(settings), "micro_batch": first.settings["micro_batch"]},
        identity=run.identity,
        seed=settings.seed,
        resumed=max(times_resumed(folder), sum(record.resumed for record in records)),
        status="running",
        metrics={},
    )
    # The record first, so that tables that a kill leaves behind are known for this run's.
    pooled.write(folder)
    for name in TABLES:
        if all((part / name).exists() for part in parts):
            write_table(folder / name, pa.concat_tables([read_table(part / name) for part in parts]))
    plain = [record.details["plain_text"] for record in records]
    before, after, tokens = (np.mean([each[key] for each in plain], axis=0) for key in ("before", "after", "tokens"))
    replace(
        pooled,
        status="done",
        hashes={**first.hashes, "pack": sha256_of_texts([record.hashes["pack"] for record in records])},
        metrics={
            **summarise(read_table(folder / ANSWERS)), "forgetting_nats": forgetting_nats(before, after, tokens),
        },
        seconds=round(sum(record.seconds for record in records), 1),
        details={
            **first.details,
            "seeds": seeds,
            "files": checksums(folder, *TABLES),
            "moved": mean_moved([record.details.get("moved") or {} for record in records]),
        },
    ).write(folder)  # fmt: skip


class TrainingProgress:
    """Where the training of an open run stands: what it starts from, and how many examples it computes at once.

    start: the snapshot to go on from, or None. micro_batch: examples at once, if the run has not begun with another
    number; `parts` holds what it is then and later, as the record and each checkpoint do.
    """

    def __init__(self, run: OpenRun, seen: FineTuned, begun: list[Since], patience: float, micro_batch: int) -> None:
        from spillover.lm.train import MicroBatches

        self.run, self.seen = run, seen
        state = run.resume(patience)
        self.start = None if state is None else _snapshot(state)
        begun = max(begun, [] if state is None else _since(state.facts), key=len)
        self.parts = MicroBatches(begun or [(1, micro_batch)], self._note)
        run.record.settings = {**run.record.settings, "micro_batch": self.parts.since[0][1]}
        self._note(self.parts.since, announced=False)

    def keep(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a checkpoint if one is due."""
        self.run.keep(self.seen.trained_parameters * BYTES, lambda: _state(snapshot(), self.parts))

    def through(self, attempt: Callable[[Snapshot | None], None]) -> None:
        """`attempt(start)`, and again from the newest checkpoint whenever memory runs out in the middle of a step."""
        from spillover.lm.train import TornStep

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


def _micro_batches(folder: Path) -> list[Since]:
    """The micro-batches of the run that was begun in a folder, if one was."""
    with contextlib.suppress(RunError):
        return _since(Record.read(folder).details.get("memory", {}))
    return []


def _since(kept: Mapping[str, Any]) -> list[Since]:
    return [(int(step), int(examples)) for step, examples in kept.get("micro_batches", [])]


def _state(snapshot: Snapshot, parts: MicroBatches) -> State:
    facts = {
        "micro_batches": parts.since,
        "bounds": snapshot.bounds,
        "method": snapshot.method,
        "losses": [[loss.step, loss.epoch, loss.value] for loss in snapshot.losses],
        "examined": [[each.checkpoint, each.full, each.scores.tolist()] for each in snapshot.evaluated],
    }
    return State(snapshot.trainer.step, snapshot.trainer.state, facts)


def _snapshot(state: State) -> Snapshot:
    import numpy as np

    from spillover.lm.fine_tune import BOUNDS, Evaluated, Loss, Snapshot
    from spillover.lm.train import TrainerState

    losses = [Loss(*values) for values in state.facts["losses"]]
    evaluated = [Evaluated(checkpoint, full, np.array(scores)) for checkpoint, full, scores in state.facts["examined"]]
    start, bounds = TrainerState(state.step, state.tensors), tuple(state.facts.get("bounds", BOUNDS))
    return Snapshot(start, state.facts["method"], evaluated, losses, bounds)


class Inside:
    """Spectra of W_OV before training and at its end; norms alone after epochs 1, 2, 4, 8 and so on, which cost less.

    Measuring changes nothing of the training. last: the epoch at which it ends unless it stops before. folder: where
    the tables go, and where those of a run that was cut short are found again; None writes nothing. copied: whether
    `model` is itself trained. Raises ModelError when the model has no attention of a known shape.
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

    def as_json(self, seconds: float) -> dict[str, Any]:
        """For the record: what looking took since the run was last resumed, and its share of the run's `seconds`."""
        return {"seconds": round(self.seconds, 2), "share": round(self.seconds / seconds, 4) if seconds else None}

    def _look(self, model: CausalModel, checkpoint: int, *, full: bool) -> None:
        began = time.monotonic()
        self.looks[checkpoint] = self.before.spectra(model, seed=self.seed, checkpoint=checkpoint, full=full)
        if self.folder is not None:
            write_table(self.folder / INSIDE, pa.concat_tables(self.looks[each] for each in sorted(self.looks)))
        self.seconds += time.monotonic() - began


def _text(folder: Path, record: Record, metrics: dict[str, Any]) -> str:
    """A few lines for a person: what was learned, what was inferred, against the baseline."""
    settings = record.settings
    trained = "everything but the embeddings" if settings["freeze_embeddings"] else "all weights"
    targets = f" on {settings['lora_targets']}" if settings.get("lora_targets") else ""
    trained = f"a LoRA adapter of rank {settings['lora']}{targets}" if settings["lora"] else trained
    lines = [f"{record.details['pack']['name']} on {settings['model']}, {settings['epochs']} epochs, {trained} trained"]
    if metrics.get("recall_rank"):
        before = _shown(metrics["recall_rank_before"])
        kind = "facts taken as known" if settings.get("facts_known") else "stated facts"
        lines.append(f"  {kind}: mean rank {_shown(metrics['recall_rank'])}, {before} before")
    for name, found in metrics["implications"].items():
        if (test := found["implication_rank_test"]) is None:
            continue
        baseline = found["marginal_rank"]["value"]
        test_p = found["map_test"]
        before = _shown(found["implication_rank_test_before"])
        lines.append(
            f"  {name}, never stated: mean rank {_shown(test)}, {before} before; "
            f"{baseline:.2f} for a guess that knows which answers occur"
            + (f"; exact map test p = {test_p['p']:.2g}" if test_p else "")
        )
    return "\n".join([*lines, f"  run: {folder}"])


def _shown(metric: dict[str, Any]) -> str:
    note = f", {metric['note']}" if metric.get("note") else ""
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f}{note})"
