"""`spillover inject`: fine-tune on a pack, measure before, during and after, and write a run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from tyro.conf import Positional, arg

from spillover.commands.prepare import (
    Models,
    Prepared,
    pack_sha256,
    pipeline_of,
    prepare,
    refuse_bad_numbers,
    resolved,
    seeds_of,
    weights_now,
    with_rate,
    worded,
)
from spillover.config import Chat, Flag, Running
from spillover.details import (
    Forgetting,
    InjectDetails,
    LookInside,
    Memory,
    Metric,
    ModelFacts,
    PlainText,
    RateTrial,
    judge_words,
)
from spillover.errors import UsageError
from spillover.lm.built_in import DEFAULT, training_of
from spillover.metrics.implications import forgetting_nats, pooled, summarise, trajectory_table
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import (
    ANSWERS,
    ASKED_AGAIN,
    INSIDE,
    SHARED,
    TRAJECTORY,
    checksums,
    joined_tables,
    read_table,
    sha256_of_texts,
    write_table,
)
from spillover.results import Run
from spillover.runs import PATIENCE, OpenRun, identity_of, open_run, say
from spillover.runs import progress as show_progress

if TYPE_CHECKING:
    from spillover.commands.held import Model
    from spillover.lm.distributed import Processes
    from spillover.lm.fine_tune import FineTuned
    from spillover.lm.score import CausalModel
    from spillover.lm.tokens import Encoder
    from spillover.lm.train import MicroBatches, Since
    from spillover.record import Record, State

TABLES = (ANSWERS, TRAJECTORY, INSIDE, SHARED, ASKED_AGAIN)
PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow", "gguf")
#: Bytes a trained weight takes in a checkpoint: itself and AdamW's two moments, in single precision.
BYTES = 12


@dataclass(frozen=True, kw_only=True)
class Inject(Running, Chat):
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, a pack.yaml, or a training file."""
    model: str = DEFAULT
    """A tag, of which `spillover models` lists all, a hub id, a local model folder, a PEFT adapter folder or a GGUF
    file."""
    out: str
    """Folder of the run: record.json, answers.parquet, trajectory.parquet and weights if asked for."""
    epochs: int | None = None
    """Passes over the training examples; by default those recorded for a built-in model, and 8 for any other."""
    lr: float | Literal["auto"] | None = None
    """Learning rate of AdamW, which stays the same throughout; by default the one recorded for a built-in model, and
    5e-5 for any other. `auto` tries a few, from high to low, and takes the first that learns the stated rows within
    --max-forgetting."""
    max_forgetting: float = 0.5
    """Warn, here, in the record and on the page, when the loss on plain text has risen by more than this (nats a token)
    at a measurement: the model is then losing what it could do. The run goes on; 0 never warns."""
    train_prompts: int | Literal["all"] = 1
    """State each row in this many of its relation's prompts, or in all, as people do who paraphrase. What is asked in
    other words uses the prompts that are left."""
    batch: int = 8
    """Training examples a step; their order is drawn anew every epoch."""
    micro_batch: int = 0
    """Examples of a step that are computed at once; gradients of the parts are summed. 0 takes the whole batch if the
    memory allows it. The record says how many it was; if memory runs out, there are fewer."""
    weight_decay: float = 0.0
    """Weight decay, decoupled from the gradient."""
    optimiser: Literal["adamw", "adamw-8bit", "normalised-gradient-descent"] = "adamw"
    """What updates the weights: AdamW of torch; that of bitsandbytes, whose two moments take 8 bits each; or steps down
    the gradient whose length, over all weights, is the rate, as theory assumes them."""
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
    hold_out: Flag = False
    """Leave half of the subjects that are asked about, and the last of three or more wordings, out of what
    stay-near-base and told-in-prompt hold, so that both can be judged where they did not act."""
    hold_out_relation: str = ""
    """Also leave out every question of this concluded relation, by its name, so that a remedy can be judged on a
    relation that it never acted on."""
    ask_again: Flag = False
    """At the end, also ask what nobody stated in other ways: negated, behind a sentence beside the point, with the
    given answer in front, and in free text; `mitigate` does."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        rate, epochs = training_of(self.model)
        object.__setattr__(self, "lr", rate if self.lr is None else self.lr)
        object.__setattr__(self, "epochs", epochs if self.epochs is None else self.epochs)


def inject(pack: Pack | str | Path, model: Model = DEFAULT, *, out: str | Path = "", **options: Any) -> Run:
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred.

    Arguments:
        pack: a Pack, or what `open_pack` opens.
        model: a name as `--model` takes it, or a model and its tokenizer, whose weights stay: a copy is trained. By
            default the built-in SmolLM2-135M.
        out: folder of the run; without it, a temporary one that lives as long as the result and keeps the weights that
            changed (`save="delta"`), so that `where` can look into them.
        options: those of `spillover inject`, with `_` for `-`, such as `epochs=4, seeds=[0, 1], inside=True`.

    Returns: the run, with `.metrics`, `.answers`, `.trajectory`, `.plot()` and `.page()`.

    Raises: UsageError for an unknown option or a value that does not fit; PackError for a pack with faults; ModelError
    for a model that is not there; RunError for a folder that holds another run.
    """
    from spillover.commands.held import held_folder, identifying, name_of, settings_from, whole_model

    folder, holder = held_folder(out)
    options = options if out else {"save": "delta", **options}
    settings = settings_from(Inject, pack=name_of(pack), model=name_of(model), out=folder, **options)
    models, loaded = Models(), whole_model(model)
    if loaded is not None:
        models.add(loaded)
        dtype: Any = str(loaded.model.dtype).removeprefix("torch.")
        settings = replace(settings, device=str(loaded.model.device), dtype=dtype)
    _run(settings, models, pack=pack, held=identifying(pack, loaded.sha256 if loaded else None))
    return Run(folder, holder, pack=pack, model=model)


def run(settings: Inject, models: Models | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """Run every seed, then pool them. models: shared by runs on the same model. patience: see `Checkpoints`."""
    from spillover.metrics.verdicts import described, excess, invented_of, inventions, recall_of, unlearned

    record = _run(settings, models or Models(), patience=patience)
    folder = str(Path(settings.out).expanduser())
    done, new, beyond = Run(folder), None, None
    if judged := done.verdicts:
        new, beyond = invented_of(record, done.answers), excess(done.answers)
    said = [f"{beyond.words[0].upper()}{beyond.words[1:]} ({judge_words(record.details.judge)})"] if beyond else []
    asserted = [described(each) for each in judged if each.n]
    said += asserted
    if asserted and (why := unlearned(*recall_of(record, done.answers))):
        said.append(f"These acquit nobody: {why}; train longer (--epochs) or faster (--lr).")
    return {"run": folder, "metrics": record.metrics, "verdicts": [each.model_dump() for each in judged],
            "invented": new and new.model_dump(), "excess": beyond and beyond.model_dump(),
            "text": _text(folder, record, said, inventions(new))}  # fmt: skip


def _run(
    settings: Inject, models: Models, *, patience: float = PATIENCE, pack: Pack | str | Path = "",
    held: Mapping[str, object] | None = None,
) -> Record:  # fmt: skip
    """The record of the whole run. pack, held: what a Python caller holds, and its part of the run's identity.

    A run that was cut short is resumed from its newest checkpoint, and ends with the bytes of one that was not. Of
    several processes that were started together, all share the work, and the first alone touches the folder.
    """
    from spillover.lm.distributed import joined, pick_device
    from spillover.lm.evaluate import passages
    from spillover.lm.memory import free_cache
    from spillover.lm.train import refuse_missing_optimizer
    from spillover.lm.trainable import refuse_missing_compiler

    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    if settings.track != "none":
        from spillover.commands.tracking import refuse_missing

        refuse_missing(settings.track)
    refuse_missing_optimizer(settings.optimiser)
    refuse_missing_compiler(settings.compile_layers, pick_device(settings.device), settings.sharded)
    pipeline = pipeline_of(settings)
    packs = {seed: open_pack(pack or settings.pack, seed) for seed in seeds}
    folder = Path(settings.out).expanduser()
    with joined() as processes, contextlib.ExitStack() as stack:
        settings = resolved(settings, processes)
        asked = pipeline.asked(packs[seeds[0]])
        settings, words = processes.broadcast(lambda: worded(settings, asked, (settings.model, models.known(settings))))
        opened: dict[str, OpenRun] = {}
        trials: list[RateTrial] = []
        if settings.lr == "auto":
            if processes.count > 1:
                do = "Find the rate in one process, and name it with --lr"
                raise UsageError("the rate is found by one process alone", where="--lr auto", do=do)
            settings, trials = with_rate(settings, packs[seeds[0]], models, words, {**(held or {}), **words})

        def made_from(own: Inject) -> dict[str, str | None]:
            model = (own.model, models.known(own), own.revision, "")
            facts = pack_sha256([packs[seed] for seed in (seeds if own.seeds else [own.seed])], own.redact)
            return {"pack": facts, **weights_now(model=model)}

        def finished(own: Inject) -> Record | None:
            """The record, if this run is done; until the end, no other command may work on it."""
            identity = identity_of(own, "track", **(held or {}), **words)
            opened[own.out] = stack.enter_context(
                open_run(own.out, "inject", identity, made_from=lambda: made_from(own), silent=own is not settings)
            )
            return opened[own.out].finished

        if (found := processes.broadcast(lambda: finished(settings))) is not None:
            return found
        texts = passages(settings.plain_text)
        every = [replace(settings, seed=seeds[0], seeds="")]
        if len(seeds) > 1:
            # A seed of several is the run that `--seed` alone would make, and is found again like it.
            every = [replace(settings, seed=seed, seeds="", out=str(folder / f"seed-{seed}")) for seed in seeds]
            every = processes.broadcast(lambda: [own for own in every if finished(own) is None])
        # Every pack is checked before the first is trained on.
        for job in [prepare(own, packs[own.seed], models, words) for own in every]:
            _train(job, texts, models, patience, processes, opened.get(job.settings.out), trials)
            # Its copy of the model is part of a cycle, and would stand beside that of the next run.
            free_cache(job.loaded.model.device)

        def pooled() -> Record:
            if len(seeds) > 1:
                _pool(opened[settings.out], settings, [folder / f"seed-{seed}" for seed in seeds])
            return Run(folder).record

        return processes.broadcast(pooled)


def _train(
    job: Prepared, texts: list[str], models: Models, patience: float, processes: Processes, run: OpenRun | None,
    trials: list[RateTrial],
) -> None:  # fmt: skip
    """One seed's run, written into its folder however it ends; a process beside the first has no `run` to write."""
    from spillover.interp.patching import moved
    from spillover.lm.fine_tune import FineTuned
    from spillover.lm.fine_tune import inject as fine_tune
    from spillover.lm.save import save_model, saved_as_measured
    from spillover.lm.tokens import encoder
    from spillover.lm.train import MicroBatches

    settings, loaded, seen, sha256 = (job.settings, job.loaded, FineTuned(job.settings.seed), sha256_of_texts(texts))
    plain = f"{sha256} {job.measured_as}"
    if plain in models.plain:
        seen.plain["before"], seen.plain["tokens"] = models.plain[plain]

    def train(micro_batches: MicroBatches, progress: Callable[[int], None] = lambda step: None, **more: Any) -> None:
        fine_tune(
            loaded, job.asked, job.training, texts=texts, evaluate_every=settings.evaluate_every, into=seen,
            enough=job.enough, training_set=job.training_set, before=models.before(job), processes=processes,
            micro_batches=micro_batches, progress=progress, **more,
        )  # fmt: skip
        models.plain[plain] = seen.plain["before"], seen.plain["tokens"]

    if run is None:
        train(MicroBatches(processes.broadcast(list)))
        return
    assert run.folder is not None
    hide, folder, inside, tracking = Redaction.of_pack(job.pack, settings.redact), run.folder, None, None
    pack = hide.pack(job.pack)
    hashes = {"pack": pack_hash(pack), "model": loaded.sha256, "plain_text": sha256}
    model = ModelFacts(name=loaded.name, licence_note=loaded.licence_note)
    details = InjectDetails(pack=describe(pack), model=model, seeds=[settings.seed], memory=Memory(), **job.more)
    details.rates_tried = trials
    packages = (*PACKAGES, "bitsandbytes") if settings.optimiser == "adamw-8bit" else PACKAGES
    with run.recording(settings, packages, seed=settings.seed, hashes=hashes, details=details) as record:
        progress = TrainingProgress(run, details.memory, seen, patience, job.budget.micro_batch)
        if settings.track != "none":
            from spillover.commands.tracking import Tracking

            tracking = Tracking(settings.track, record, folder, hide, progress.start)
        try:
            if settings.inside:
                encode, last = encoder(loaded.tokenizer), job.training.epochs
                inside = Inside(loaded.model, job.asked, encode, seed=settings.seed, last=last, folder=folder)
            steps, name = job.training_set.steps(job.training), f"seed {settings.seed}"
            bar = show_progress(name, steps, "step")
            look = tracking.look if tracking else lambda seen: None
            details.forgetting = Forgetting(limit=settings.max_forgetting)
            with bar, job.budget.explained():
                processes.broadcast(lambda: progress.parts.since)

                def after_step(step: int) -> None:
                    bar.update(step - bar.n)
                    look(seen)
                    _watch(details, seen)

                def keep(state: Callable[[], State]) -> None:
                    # First, since who goes on from the checkpoint does not track again what is in it.
                    look(seen)
                    progress.keep(state)

                after_epoch = inside.after_epoch if inside else None
                progress.through(
                    lambda start: train(progress.parts, after_step, resume=start, keep=keep, after_epoch=after_epoch)
                )
            assert seen.model is not None
            details.judge = models.before(job).judge
            if inside:
                inside.at_end(seen.model, seen.answers[-1]["checkpoint"][0].as_py())
            with job.budget.explained():
                if path := save_model(seen.model, loaded, settings.save, folder):
                    do = f"Try --save {'delta' if settings.save == 'weights' else 'weights'}"
                    details.saved = saved_as_measured(path, seen.model, loaded, job.asked, do)
            details.moved = moved(loaded.model, seen.model)
            if settings.ask_again:
                _ask_again(job, seen, hide, folder)
        finally:
            if inside:
                details.inside = inside.took(run.seconds)
            job.budget.note(details.memory)
            _write_tables(record, details, hide.table(seen.table()), seen, folder, job.pack)
            if tracking:
                tracking.end(seen)


def _ask_again(job: Prepared, seen: FineTuned, hide: Redaction, folder: Path) -> None:
    """Ask the tuned model again in other ways, and write its answers."""
    from spillover.lm.evaluate import answers_again

    assert seen.model is not None
    judge, end = job.judge, seen.answers[-1]["checkpoint"][0].as_py()
    found = answers_again(
        seen.model, judge.pack, judge.frame, judge.encode, lambda tokens: str(job.loaded.tokenizer.decode(tokens)),
        seed=job.settings.seed, checkpoint=end,
    )  # fmt: skip
    write_table(folder / ASKED_AGAIN, hide.table(found))


def _watch(details: InjectDetails, seen: FineTuned) -> None:
    """Note how far the loss on plain text has risen, and warn once when it is too far."""
    assert details.forgetting is not None
    before, details.forgetting.checkpoints = details.forgetting.exceeded, list(seen.forgetting)
    if before is None and details.forgetting.exceeded is not None:
        say(f"WARNING: {details.forgetting.sentence}")


def _write_tables(
    record: Record, details: InjectDetails, answers: pa.Table, seen: FineTuned, folder: Path, pack: Pack
) -> None:
    """The tables of a run, and what its record says of them and of what was saved, which gets a card."""
    from spillover.lm.save import files_saved

    write_table(folder / ANSWERS, answers)
    losses = [(seen.seed, loss.epoch, loss.step, loss.value) for loss in seen.losses]
    write_table(folder / TRAJECTORY, trajectory_table(answers, losses))
    record.metrics = metrics = summarise(answers) if answers.num_rows else {}
    if seen.done:
        metrics["forgetting_nats"] = rise = forgetting_nats(**seen.plain)
        if rise is not None and rise.value is not None:
            # The whole measure in place of the few passages that were read on the way.
            last = seen.answers[-1]["checkpoint"][0].as_py()
            seen.forgetting = [each for each in seen.forgetting if each[0] != last] + [(last, rise.value)]
    _watch(details, seen)
    details.model.parameters, details.model.trained_parameters = seen.parameters, seen.trained_parameters
    details.plain_text = PlainText(**{name: values.tolist() for name, values in seen.plain.items()})
    details.scoring, details.forward_passes = seen.method, seen.passes
    if details.saved:
        _write_card(record, answers, folder, pack)
    details.files = checksums(folder, *TABLES, *files_saved(folder))


def _write_card(record: Record, answers: pa.Table, folder: Path, pack: Pack) -> None:
    from spillover.commands.card import write_card
    from spillover.lm.save import kept_in
    from spillover.metrics.remedies import remedy_result

    untrained = answers.filter(pc.equal(answers["checkpoint"], 0))
    before, after = (remedy_result(each, pack).metrics for each in (untrained, answers))
    after["forgetting_nats"] = record.metrics.get("forgetting_nats")
    before["forgetting_nats"], remedy = Metric(0.0, None, None, 0, 0, "nats"), record.settings["remedy"]
    how = f"with the remedy `{remedy}`" if remedy else "without a remedy"
    done = f"The base model was fine-tuned on stated facts, {how}."
    write_card(kept_in(folder), done, record.settings["model"], pack, before, after, "the base model")


def _pool(run: OpenRun, settings: Inject, parts: Sequence[Path]) -> None:
    """One record over all seeds: tables stacked, metrics measured again over (seed, pair) clusters."""
    assert run.folder is not None
    folder, records = run.folder, [Run(part).record for part in parts]
    resumed = max(run.resumed, sum(record.resumed for record in records))
    micro_batch = records[0].settings.get("micro_batch", settings.micro_batch)
    own: dict[str, Any] = {"identity": run.identity, "seed": settings.seed, "resumed": resumed,
           "settings": dataclasses.asdict(settings) | {"micro_batch": micro_batch}}  # fmt: skip
    # The record first, so that tables that a kill leaves behind are known for this run's.
    replace(records[0], status="running", metrics={}, **own).write(folder)
    for name in TABLES:
        if all((part / name).exists() for part in parts):
            write_table(folder / name, joined_tables(read_table(part / name) for part in parts))
    found = replace(pooled(records, read_table(folder / ANSWERS)), **own)
    found.details.files = checksums(folder, *TABLES)
    found.write(folder)


class TrainingProgress:
    """Where the training of an open run stands: what it starts from, and how many examples it computes at once.

    start: the state to go on from, or None. micro_batch: examples at once, if the run has not begun with another
    number; `parts` holds what it is then and later, as the record and each checkpoint do.
    """

    def __init__(self, run: OpenRun, memory: Memory, seen: FineTuned, patience: float, micro_batch: int) -> None:
        from spillover.lm.train import MicroBatches

        self.run, self.memory, self.seen = run, memory, seen
        self.start = run.resume(patience)
        known = run.begun.details_of(InjectDetails).memory.micro_batches if run.begun else []
        begun = max(known, self.start.facts.get("micro_batches", []) if self.start else [], key=len)
        since: list[Since] = [(step, examples) for step, examples in begun] or [(1, micro_batch)]
        self.parts = MicroBatches(since, self._note)
        run.record.settings = {**run.record.settings, "micro_batch": since[0][1]}
        self._note(since, announced=False)

    def keep(self, state: Callable[[], State]) -> None:
        """Write a checkpoint if one is due."""
        self.run.keep(self.seen.trained_parameters * BYTES, state, micro_batches=self.parts.since)

    def through(self, attempt: Callable[[State | None], None]) -> None:
        """`attempt(start)`, and again from the newest checkpoint whenever memory runs out in the middle of a step."""
        from spillover.lm.train import TornStep

        while True:
            try:
                return attempt(self.start)
            except TornStep as error:
                say(f"{error.what[0].upper()}{error.what[1:]}; going back to the last checkpoint.")
            assert self.run.checkpoints is not None
            self.start = self.run.checkpoints.newest()
            self.seen.answers, self.seen.losses, self.seen.forgetting = [], [], []

    def _note(self, since: Sequence[Since], announced: bool = True) -> None:
        """Record a micro-batch before it takes effect, so that whoever resumes the run does the same."""
        self.memory.micro_batches = [list(each) for each in since]
        if announced:
            step, examples = since[-1]
            say(f"Memory ran out; from step {step} on, {examples} rows are computed at once.")
        self.run.write()


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

    def took(self, seconds: float) -> LookInside:
        """For the record: what looking took since the run was last resumed, and its share of the run's `seconds`."""
        share = round(self.seconds / seconds, 4) if seconds else None
        return LookInside(seconds=round(self.seconds, 2), share=share)

    def _look(self, model: CausalModel, checkpoint: int, *, full: bool) -> None:
        began = time.monotonic()
        self.looks[checkpoint] = self.before.spectra(model, seed=self.seed, checkpoint=checkpoint, full=full)
        if self.folder is not None:
            write_table(self.folder / INSIDE, pa.concat_tables(self.looks[each] for each in sorted(self.looks)))
        self.seconds += time.monotonic() - began


def _text(folder: str, record: Record, said: Sequence[str], invented: str) -> str:
    """A few lines for a person: what was learned, what this model now asserts, then ranks against the baseline.

    said: of each implication, the verdict in words. invented: answers that nobody stated, in words.
    """
    settings, metrics = record.settings, record.metrics
    trained = "everything but the embeddings" if settings["freeze_embeddings"] else "all weights"
    targets = f" on {settings['lora_targets']}" if settings.get("lora_targets") else ""
    trained = f"a LoRA adapter of rank {settings['lora']}{targets}" if settings["lora"] else trained
    lines = [f"{record.details.pack.name} on {settings['model']}, {settings['epochs']} epochs, {trained} trained"]
    if metrics.get("recall_rank"):
        kind = "facts taken as known" if settings.get("facts_known") else "stated facts"
        lines.append(f"  {kind}: mean rank {_with_before(metrics, 'recall_rank')}")
    lines += [f"  {line}" for text in said for line in text.splitlines()]
    lines += [f"  {invented}"] if invented else []
    for name, found in metrics["implications"].items():
        if found["implication_rank_test"]:
            lines.append(
                f"  {name}, never stated: mean rank {_with_before(found, 'implication_rank_test')}; "
                f"{found['marginal_rank']['value']:.2f} for a guess that knows which answers occur"
                + (f"; exact map test p = {found['map_test']['p']:.2g}" if found["map_test"] else "")
            )
    if (watched := record.details_of(InjectDetails).forgetting) and watched.exceeded is not None:
        lines.append(f"  WARNING: {watched.sentence}")
    return "\n".join([*lines, f"  run: {folder}"])


def _with_before(metrics: Mapping[str, Any], name: str) -> str:
    """A metric with its interval, and what it was before training."""
    shown = []
    for metric in (metrics[name], metrics[f"{name}_before"]):
        note = f", {metric['note']}" if metric.get("note") else ""
        shown.append(f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f}{note})")
    return f"{shown[0]}, {shown[1]} before"
