"""Prepare a run of `inject`: its settings, pack, model, training set, interventions and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spillover.config import MOST_SEED
from spillover.errors import ModelError, UsageError
from spillover.metrics.implications import learned, stated_nats
from spillover.packs.edits import ABSTENTION, with_candidate
from spillover.packs.pack import Pack, pack_hash
from spillover.record import Record, identity, sha256_of_texts
from spillover.runs import identity_of

if TYPE_CHECKING:
    from spillover.commands.inject import Inject
    from spillover.commands.lab import Lab
    from spillover.commands.mitigate import Mitigate
    from spillover.lm.fine_tune import Before, TrainingSet
    from spillover.lm.load import LoadedModel
    from spillover.lm.memory import Forecast
    from spillover.lm.train import Training


def seeds_of(settings: Inject | Lab | Mitigate) -> list[int]:
    """The seeds of `--seeds`, or the one of `--seed`. Raises UsageError when they are not whole numbers."""
    if not settings.seeds:
        return [settings.seed]
    try:
        seeds = [int(part) for part in settings.seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers, not {settings.seeds!r}", do="Write --seeds 0,1,2") from None
    if not all(0 <= seed <= MOST_SEED for seed in seeds):
        raise UsageError(f"--seeds is {settings.seeds}", do=f"Give whole numbers from 0 to {MOST_SEED}")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {settings.seeds}", do="Name each once")
    return seeds


def refuse_bad_numbers(settings: Inject | Mitigate) -> None:
    """Raises UsageError for a number that no run can have."""
    least = {"epochs": 1, "batch": 1, "micro_batch": 0, "lora": 0, "evaluate_every": 1, "until_nats": 0,
             "untreated_epochs": 1, "logits_at_once": 0}  # fmt: skip
    for name, low in least.items():
        if getattr(settings, name, low) < low:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {getattr(settings, name)}", do=f"Give {option} {low} or more")
    if not 0 < settings.lr < 1:
        raise UsageError(f"--lr is {settings.lr}", do="Give a learning rate between 0 and 1, such as 5e-5")
    if not 0 <= (decay := getattr(settings, "weight_decay", 0.0)) < float("inf"):
        raise UsageError(f"--weight-decay is {decay}", do="Give 0 or more")


def training_of(settings: Inject, seed: int) -> Training:
    """What fine-tuning takes of the options."""
    from spillover.lm.train import Training

    return Training(
        epochs=settings.epochs,
        learning_rate=settings.lr,
        batch=settings.batch,
        weight_decay=settings.weight_decay,
        freeze_embeddings=settings.freeze_embeddings,
        lora=settings.lora,
        seed=seed,
        lora_targets=tuple(name.strip() for name in settings.lora_targets.split(",") if name.strip()),
        optimiser=settings.optimiser,
        gradient_checkpointing=settings.gradient_checkpointing,
        logits_at_once=settings.logits_at_once,
        compile_layers=settings.compile_layers,
    )


#: What transformers raises for a configuration that it makes no model of.
UNKNOWN = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Budget:
    """A run's forecast, if one could be made, bytes that this process could hold then, and rows of a step at once."""

    forecast: Forecast | None
    room: int
    device: str
    micro_batch: int

    def told(self) -> dict[str, Any]:
        """For the record: what was foretold, what there was, and the most that was taken so far."""
        import torch

        from spillover.lm.memory import most_taken

        taken = most_taken(torch.device(self.device))
        return {"forecast": self.forecast and self.forecast.as_json(), "room": self.room, "peak": taken}

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Inside, memory that ran out for good is one sentence: what was needed, what is free and what to do."""
        import torch

        from spillover.lm.memory import free
        from spillover.lm.micro_batch import Exhausted, out_of_memory

        try:
            yield
        except Exception as error:
            if not (isinstance(error, Exhausted) or out_of_memory(error)):
                raise
            what = error.what if isinstance(error, Exhausted) else "memory ran out"
        else:
            return
        needed = f"needs about {gigabytes(self.forecast.needed)} in all" if self.forecast else "needs more"
        left = gigabytes(free(torch.device(self.device)))
        raise Exhausted(f"{what}: the run {needed}, and {left} are free beside what it held")


class Budgets:
    """The budgets of several runs in one process; a run like the one before is not foretold again."""

    def __init__(self) -> None:
        self._known: dict[str, Budget] = {}
        self._said: set[str] = set()
        self._process: int | None = None

    def of(self, settings: Inject, training: Training, pack: Pack, tokenizer: Any) -> Budget:
        """The budget of a run whose device is resolved. Says it, once, on standard error.

        Raises Exhausted when there is no memory even for one row at a time.
        """
        key = identity({"settings": replace(settings, seed=0, seeds="", out="")})
        if key not in self._known:
            self._known[key] = self._made(settings, training, pack, tokenizer)
        return self._known[key]

    def _made(self, settings: Inject, training: Training, pack: Pack, tokenizer: Any) -> Budget:
        import torch

        from spillover.lm.load import load_config
        from spillover.lm.memory import MARGIN, Forecaster, Work, free, libraries, taken
        from spillover.lm.micro_batch import Exhausted
        from spillover.lm.tokens import encoder

        device = torch.device(settings.device)
        room, asked = free(device) + taken(device), min(settings.micro_batch, settings.batch)
        try:
            forecaster = Forecaster(
                load_config(settings.model, settings.revision), training, Work.of(pack, encoder(tokenizer)),
                dtype=settings.dtype, device=settings.device, save_merged=settings.save == "weights",
            )  # fmt: skip
        except (ModelError, *UNKNOWN):
            # What is wrong with it, if anything, is told when the model itself is read.
            return Budget(None, room, settings.device, asked or settings.batch)
        # What the process holds before its first model; later it holds models too, which the next run does without.
        self._process = taken(device) if self._process is None else self._process
        forecaster.process = self._process + libraries(training)
        chosen = forecaster.at(asked) if asked else forecaster.fitting(room)
        least = forecaster.fitting(room) if chosen.needed > room * MARGIN else chosen
        if least.needed > room * MARGIN:
            what = f"this run needs about {gigabytes(least.needed)} of memory, and there are {gigabytes(room)} for it"
            raise Exhausted(what, where=settings.model)
        if (needed := _needs(chosen, settings)) not in self._said:
            # Once for all runs of a study that need the same.
            self._said.add(needed)
            print(f"{needed}; {gigabytes(room)} are there for it.", file=sys.stderr, flush=True)
        return Budget(chosen, room, settings.device, chosen.micro_batch)


def _needs(chosen: Forecast, settings: Inject) -> str:
    parts = "" if chosen.micro_batch >= settings.batch else f" with {chosen.micro_batch} rows of a step at once"
    return f"This run needs about {gigabytes(chosen.peak)} of memory{parts}"


def gigabytes(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.1f} GB"


class Plan:
    """One run's remedies. Raises UsageError for a remedy or strength that does not exist, or that does not fit."""

    def __init__(self, settings: Inject) -> None:
        from spillover.interventions.base import Pipeline, read_specs

        self.settings, self.pipeline = settings, Pipeline(read_specs(settings.remedy))
        if settings.facts_known and settings.remedy:
            what, do = "a remedy is for runs that train on every stated row", "Leave --facts-known or --remedy out"
            raise UsageError(what, where=settings.remedy, do=do)

    def asked(self, pack: Pack) -> Pack:
        """The user's pack, with the abstention answer among the candidates where a remedy teaches it."""
        for relation in self.pipeline.abstains(pack):
            pack = with_candidate(pack, relation, ABSTENTION)
        return pack

    def training(self, training: Training) -> Training:
        """The settings under the remedies. Raises UsageError for one that acts on weights which are not trained."""
        found = self.pipeline.training(training)
        if self.pipeline.steps:
            found = replace(found, trains=self.pipeline.trains)
        if found.lora_targets and not found.lora:
            raise UsageError(
                "--lora-targets says where an adapter goes, and none is trained", do="Give --lora RANK too"
            )
        if found.lora and any(spec.remedy.after for spec in self.pipeline.specs):
            do = "Leave --lora and remedies that train an adapter out"
            raise UsageError(
                "a remedy for finished weights does not act on an adapter", where=self.settings.remedy, do=do
            )
        return found

    def lesson(self, pack: Pack, loaded: LoadedModel, training: Training) -> TrainingSet:
        """What is trained. Raises UsageError or ModelError for a remedy that does not fit the pack or the model."""
        from spillover.interventions.base import training_set

        known = self.settings.facts_known
        found = training_set(self.pipeline, pack, loaded, training, lambda each: self.worded(each, loaded), known)
        return replace(found, tuned=self._tuned()) if self.settings.tuned else found

    def _tuned(self) -> Path:
        """The weights that stand for training. Raises UsageError unless they are those of this run without remedies."""
        from spillover.lm.save import DELTA

        folder = Path(self.settings.tuned).expanduser()
        if not self.pipeline.after:
            do = "Leave --tuned out, or name only remedies that act on finished weights"
            raise UsageError("finished weights stand only for training without a remedy", where="--tuned", do=do)
        own = identity_of(replace(self.settings, remedy="", tuned="", save="delta"), "track")
        record = Record.read(folder)
        if record.status != "done" or record.identity != own:
            do = "Name a finished run of the same command without --remedy, made with --save delta"
            raise UsageError("this is not the run whose weights this one would train", where=str(folder), do=do)
        return folder / DELTA

    def worded(self, pack: Pack, loaded: LoadedModel) -> Pack:
        """A pack in the words that the model reads."""
        from spillover.lm.tokens import as_chat

        return as_chat(pack, loaded.tokenizer) if self.settings.chat else pack

    def enough(self) -> Callable[[pa.Table], bool] | None:
        """Whether a measurement ends the training, if one can."""
        nats = self.settings.until_nats
        if nats:
            return lambda answers: learned(answers) and stated_nats(answers) <= nats
        return learned if self.settings.until_learned or self.pipeline.stops else None


@dataclass
class Cache:
    """What one run leaves for the next in the same process: the model it loaded, and its losses on plain text."""

    name: tuple[Any, ...] = ()
    loaded: LoadedModel | None = None
    plain: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    before: dict[str, Before] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)

    def before_of(self, asked: Pack, settings: Inject) -> Before:
        """What the loaded model answers about a pack before training, if a run found it out, or where to keep it."""
        from spillover.lm.fine_tune import Before

        asked_so = sha256_of_texts([pack_hash(asked), repr(asked.relations), repr(asked.candidates)])
        return self.before.setdefault(f"{asked_so} {settings.threads}", Before())


def load(settings: Inject, pack: Pack, kept: Cache) -> LoadedModel:
    """The model, once its tokens are known to tell the pack's answers apart; kept from the run before if it is it."""
    import torch

    from spillover.lm.load import load_model, load_tokenizer, resolve
    from spillover.lm.tokens import as_chat, encoder
    from spillover.packs.check import refuse, token_faults

    if settings.lora and settings.save == "delta" and resolve(settings.model).adapter:
        what = "an adapter trained on top of a merged adapter means nothing without the merged model"
        raise UsageError(what, where="--save delta", do="Use --save weights")
    name = (settings.model, settings.device, settings.dtype, settings.revision)
    same = kept.loaded is not None and kept.name == name
    tokenizer = kept.loaded.tokenizer if kept.loaded and same else load_tokenizer(settings.model, settings.revision)
    worded = as_chat(pack, tokenizer) if settings.chat else pack
    refuse(token_faults(worded, encoder(tokenizer)))
    torch.set_num_threads(settings.threads)
    training = Plan(settings).training(training_of(settings, settings.seed))
    budget = kept.budgets.of(settings, training, worded, tokenizer)
    if kept.loaded is None or not same:
        with budget.telling():
            kept.loaded = load_model(
                settings.model, device=settings.device, dtype=settings.dtype, revision=settings.revision,
                tokenizer=tokenizer,
            )  # fmt: skip
        kept.name, kept.plain, kept.before = name, {}, {}
    return kept.loaded
