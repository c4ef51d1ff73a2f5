"""Prepare a run of `inject`: its settings, rate, pack, model, training set, interventions and memory, once a seed."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from spillover.config import MOST_SEED, Chat, Running, with_fields_of
from spillover.details import InjectDetails, Memory, RateTrial
from spillover.errors import ModelError, RunError, UsageError
from spillover.metrics.implications import excess_nats, forgetting_nats, learned, stated_nats
from spillover.metrics.ranks import rank_table
from spillover.packs.check import refuse, token_faults
from spillover.packs.pack import AUTO, Pack, outlines, pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import Record, hardware, identity, sha256_of_texts
from spillover.results import text_table
from spillover.runs import identity_of, progress, say

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from spillover.commands.audit import Audit
    from spillover.commands.inject import Inject
    from spillover.commands.lab import Lab
    from spillover.commands.mitigate import Mitigate
    from spillover.interventions.base import Pipeline
    from spillover.lm.chat import Words
    from spillover.lm.distributed import Processes
    from spillover.lm.fine_tune import AnswersBefore, TrainingSet
    from spillover.lm.forecast import Forecast
    from spillover.lm.judge import Judge
    from spillover.lm.load import LoadedModel
    from spillover.lm.served import ServedModel
    from spillover.lm.trainable import Training

    #: A model that a caller holds or an endpoint serves, if it is one.
    Held = LoadedModel | ServedModel | None
    import pyarrow as pa

    from spillover.packs.pack import Pack


class Hashed(Protocol):
    """Whatever has the hash of a model's weights."""

    @property
    def sha256(self) -> str: ...


Asking = TypeVar("Asking", bound=Chat)
Shared = TypeVar("Shared", "Inject", "Audit")
#: What transformers raises for a configuration that it makes no model of.
UNKNOWN = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, NotImplementedError)


def pack_sha256(packs: Sequence[Pack], redact: bool = False) -> str:
    """A record's hash of the facts of its seeds, in their order; with `redact`, as they are written there."""
    hashes = [pack_hash(Redaction.of_pack(pack, redact).pack(pack)) for pack in packs]
    return hashes[0] if len(hashes) == 1 else sha256_of_texts(hashes)


def weights_now(**models: tuple[str, Hashed | None, str | None, str]) -> dict[str, str | None]:
    """By their names in a record, the hashes of models as they are now. models: name, what a caller holds, revision,
    and the base of an adapter that names another."""
    from spillover.lm.load import weights_sha256

    return {
        part: held.sha256 if held else weights_sha256(name, revision, base)
        for part, (name, held, revision, base) in models.items()
    }


def seeds_of(settings: Inject | Lab | Mitigate) -> list[int]:
    """The seeds of `--seeds`, or the one of `--seed`. Raises UsageError when they are not whole numbers."""
    if not settings.seeds:
        return [getattr(settings, "seed", 0)]
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
             "untreated_epochs": 1, "logits_at_once": 0, "max_forgetting": 0}  # fmt: skip
    for name, low in least.items():
        if not getattr(settings, name, low) >= low:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {getattr(settings, name)}", do=f"Give {option} {low} or more")
    prompts, rate = getattr(settings, "train_prompts", 1), settings.lr
    if prompts != "all" and prompts < 1:
        raise UsageError(f"--train-prompts is {prompts}", do="Give 1 or more, or all")
    if rate is not None and rate != "auto" and not 0 < rate < 1:
        raise UsageError(f"--lr is {settings.lr}", do="Give a learning rate between 0 and 1, such as 5e-5")
    if not 0 <= (decay := getattr(settings, "weight_decay", 0.0)) < float("inf"):
        raise UsageError(f"--weight-decay is {decay}", do="Give 0 or more")


def resolved(settings: Shared, processes: Processes) -> Shared:
    """The settings with `auto` and 0 replaced by what they stand for, the same in every process.

    Raises UsageError when as many processes as the settings name were not started.
    """
    from spillover.commands.inject import Inject
    from spillover.lm.distributed import pick_device

    count = processes.count
    if settings.processes not in (1, count):
        what, given = f"--processes is {settings.processes}, but this was started in {count}", settings.processes
        do = f"Start it with `accelerate launch --multi_gpu --num_processes {given} -m spillover`, without a GPU too"
        raise UsageError(what, do=do if given > 1 else "Leave --processes out")
    threads = settings.threads or max(1, int(hardware()["cores"]) // processes.launch.local_count)
    device = str(pick_device(processes.device(settings.device)))
    found = replace(settings, device=device, threads=threads, processes=count)
    if isinstance(found, Inject):
        if processes.sharded:
            refused = {
                "a remedy cannot treat a model that is split": found.remedy,
                "--inside cannot look into a model that is split": found.inside,
                "--optimiser does not act on a model that is split": found.optimiser != "adamw",
                "--logits-at-once does not act on a model that is split": found.logits_at_once,
            }
            for sentence, asked in refused.items():
                if asked:
                    raise UsageError(sentence, do="Start it without --use_fsdp")
        elif found.sharded:
            what = "--sharded splits a model over processes, which were not started"
            raise UsageError(what, do="Start it with `accelerate launch --use_fsdp`")
        found = replace(found, sharded=processes.sharded)  # type: ignore[call-arg]
    return processes.broadcast(lambda: found)


def pipeline_of(settings: Inject) -> Pipeline:
    """The interventions of `--remedy`. Raises UsageError for one that does not exist, or that does not fit."""
    from spillover.interventions.base import Pipeline, read_specs

    if settings.facts_known and settings.remedy:
        what, do = "a remedy is for runs that train on every stated row", "Leave --facts-known or --remedy out"
        raise UsageError(what, where=settings.remedy, do=do)
    return Pipeline(read_specs(settings.remedy))


def training_of(settings: Inject, pipeline: Pipeline) -> Training:
    """How to train, interventions included. Raises UsageError for one that acts on weights which are not trained."""
    from spillover.lm.trainable import Training

    targets = tuple(name.strip() for name in settings.lora_targets.split(",") if name.strip())
    other = {"learning_rate": settings.lr, "lora_targets": targets, "optimizer": settings.optimiser}
    found = pipeline.training(with_fields_of(settings, Training, **other))
    if pipeline.steps:
        found = replace(found, trains=pipeline.trains)
    if found.lora_targets and not found.lora:
        raise UsageError("--lora-targets says where an adapter goes, and none is trained", do="Give --lora RANK too")
    if found.lora and any(spec.remedy.after for spec in pipeline.specs):
        do = "Leave --lora and remedies that train an adapter out"
        raise UsageError("a remedy for finished weights does not act on an adapter", where=settings.remedy, do=do)
    return found


def worded(settings: Asking, pack: Pack, *models: tuple[str, Held]) -> tuple[Asking, dict[str, Any]]:
    """For a chat, the settings with the day that a template shows, if one does; and, for its identity and its record,
    how each model is asked, as `rendered`. models: by name, with the model if a caller holds it.

    Raises UsageError for a day that no template shows, and for two models that are not asked alike.
    """
    if not (settings.chat and models):
        return settings, {}
    day = settings.date or _day_of(getattr(settings, "out", "")) or datetime.date.today().isoformat()
    dated = replace(settings, date=day)
    every = [words_of(name, held, dated, models) for name, held in models]
    hide = Redaction.of_pack(pack, getattr(settings, "redact", False))
    rendered = [(own := words.rendered(pack)).as_json() | {"before": hide.text(own.before)} for words in every]
    if len({each["sha256"] for each in rendered}) > 1:
        what = f"{models[0][0]} and {models[1][0]} have chat templates that write the same turns otherwise"
        raise UsageError(what, do=f"Ask both alike with --chat-template {models[1][0]}")
    if not any(words.shows_date for words in every):
        if settings.date:
            raise UsageError("this chat template shows no date", where=models[0][0], do="Leave --date out")
        dated = settings
    return dated, {"rendered": rendered}


def _day_of(out: str) -> str:
    """The day of the run that was begun in a folder, or nothing."""
    folder = Path(out).expanduser()
    for path in () if not out else (folder, *sorted(folder.glob("seed-*"))):
        with suppress(RunError):
            return str(Record.read(path).settings.get("date", ""))
    return ""


def words_of(name: str, held: Held, settings: Chat, models: Sequence[tuple[str, Held]] = ()) -> Words:
    """How a model is asked, before any weights are read. held: a model that a caller holds. models: see `worded`."""
    from spillover.lm.chat import Words
    from spillover.lm.load import load_tokenizer

    tokenizer = (
        held.tokenizer
        if held
        else load_tokenizer(name, getattr(settings, "revision", None), getattr(settings, "base", ""))
    )
    lender = next((other for other, loaded in models if other != name and not loaded), "")
    return Words(tokenizer, settings, name, lender)


def asked_of(words: Words, pack: Pack) -> Pack:
    """The pack as a model is asked. Raises PackError when the model's tokens cannot tell the pack's answers apart."""
    from spillover.lm.tokens import encoder

    asked = words(pack)
    refuse(token_faults(asked, encoder(words.tokenizer)))
    return asked


def weights_of(
    name: str, held: LoadedModel | None, tokenizer: PreTrainedTokenizerBase, settings: Running, base: str = ""
) -> LoadedModel:
    """The model, loaded unless it is held; the process computes with as many threads as the settings say."""
    import torch

    from spillover.lm.load import load_model

    torch.set_num_threads(settings.threads or int(hardware()["cores"]))
    return held or load_model(name, device=settings.device, dtype=settings.dtype, revision=settings.revision,
                              tokenizer=tokenizer, base=base)  # fmt: skip


#: What is said beyond what is warranted no longer falls when it falls by less than this share, or nats, an evaluation.
SETTLED, SETTLED_NATS = 0.05, 0.02


def stop_when(settings: Inject, pipeline: Pipeline) -> Callable[[Sequence[pa.Table]], bool] | None:
    """Whether the answers of the checkpoints up to now end the training, if they can."""
    if not (settings.until_nats or settings.until_learned or pipeline.stops):
        return None
    most = settings.until_nats or float("inf")

    def enough(tables: Sequence[pa.Table]) -> bool:
        known = learned(rank_table(tables[-1])) and stated_nats(tables[-1]) <= most
        return known and (not pipeline.settles or _settled(tables))

    return enough


def _settled(tables: Sequence[pa.Table]) -> bool:
    """Whether what a model says beyond what is warranted has stopped falling."""
    values = [metric.value for each in tables[-2:] if (metric := excess_nats(rank_table(each)))]
    known = [value for value in values if value is not None]
    return len(known) < len(values) or not values or (
        len(known) == 2 and known[1] >= known[0] - max(SETTLED * known[0], SETTLED_NATS)
    )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """One seed's run, ready to be trained. pack: the user's; asked: as the model is asked. more: see `worded`. enough:
    see `stop_when`. judge: of what the model warrants before training."""

    settings: Inject
    pack: Pack
    more: Mapping[str, Any]
    asked: Pack
    loaded: LoadedModel
    training: Training
    training_set: TrainingSet
    budget: Budget
    enough: Callable[[Sequence[pa.Table]], bool] | None
    judge: Judge

    @property
    def measured_as(self) -> str:
        """The model and settings that change the last digits of its measurements."""
        return f"{self.loaded.sha256} {self.settings.device} {self.settings.dtype} {self.settings.threads}"


def prepare(settings: Inject, pack: Pack, models: Models, more: Mapping[str, Any]) -> Prepared:
    """Check a run of one seed against the model's tokens and the memory, load the model, and build what trains.
    more: see `worded`."""
    import torch

    from spillover.interventions.base import training_set
    from spillover.lm.load import resolve
    from spillover.lm.output_value import places

    pipeline = pipeline_of(settings)
    training = training_of(settings, pipeline)
    named = settings.model not in models.added
    if named and settings.lora and settings.save == "delta" and resolve(settings.model).adapter:
        what = "an adapter trained on top of a merged adapter means nothing without the merged model"
        raise UsageError(what, where="--save delta", do="Use --save weights")
    if training.merged and settings.save != "none":
        what = "merged output-value products are no weights of any model folder, so they cannot be saved"
        raise UsageError(what, where=f"--save {settings.save}", do="Leave --save out")
    words = words_of(settings.model, models.known(settings), settings)
    tokenizer = words.tokenizer
    torch.set_num_threads(settings.threads)
    judge = None
    if any(each.kind == AUTO for each in pack.implications):
        # What is wanted decides what is trained, and so what memory is needed.
        loaded = models.load(settings, tokenizer)
        judge = judge_of(pack, words, loaded)
        pack = judge.judged(loaded.sha256)
    asked = without_trained_prompts(asked_of(words, pipeline.asked(pack)), stated_in(settings))
    budget = models.budget(settings, training, asked, tokenizer)
    with budget.explained():
        loaded = models.load(settings, tokenizer)
    if settings.inside:
        places(loaded.model)
    trained = training_set(pipeline, pack, loaded, training, words, settings.facts_known, stated_in(settings),
                           settings.hold_out, _held_out_relation(settings, asked))  # fmt: skip
    if settings.tuned:
        trained = replace(trained, tuned=_finished_weights(settings, pipeline, more))
    judge = replace(judge or judge_of(pack, words, loaded), pack=pipeline.asked(pack), notes={})
    return Prepared(
        settings, pack, more, asked, loaded, training, trained, budget, stop_when(settings, pipeline), judge
    )


def _held_out_relation(settings: Inject, pack: Pack) -> str:
    """The relation of `--hold-out-relation`. Raises UsageError for one that is not concluded."""
    name = settings.hold_out_relation
    if name and name not in pack.then_relations:
        do = f"Name one of {', '.join(sorted(pack.then_relations))}" if pack.then_relations else "Leave it out"
        raise UsageError(f"nothing is concluded about {name!r}", where="--hold-out-relation", do=do)
    return name


def judge_of(pack: Pack, words: Words, loaded: LoadedModel) -> Judge:
    """The judge of what a model warrants, which is not trained yet."""
    from spillover.lm.judge import Judge
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import encoder

    return Judge(pack, words, encoder(words.tokenizer), Scorer(loaded.model))


def stated_in(settings: Inject) -> int:
    """How many of its relation's prompts each row is stated in, at most."""
    return sys.maxsize if settings.train_prompts == "all" else int(settings.train_prompts)


def without_trained_prompts(pack: Pack, prompts: int) -> Pack:
    """The pack with the first prompt of each relation, and those that are not among the first `prompts`: so what is
    asked in other words is asked in words that were not trained."""
    if prompts == 1:
        return pack
    kept = tuple(replace(each, prompts=(each.prompts[0], *each.prompts[prompts:])) for each in pack.relations)
    return replace(pack, relations=kept)


def _finished_weights(settings: Inject, pipeline: Pipeline, more: Mapping[str, Any]) -> Path:
    """The weights that replace the training. Raises UsageError unless they are those of this run without remedies."""
    from spillover.lm.save import DELTA

    if not pipeline.after:
        do = "Leave --tuned out, or name only remedies that act on finished weights"
        raise UsageError("finished weights stand only for training without a remedy", where="--tuned", do=do)
    folder = Path(settings.tuned).expanduser()
    own = identity_of(replace(settings, remedy="", tuned="", save="delta"), "track", **more)
    record = Record.read(folder)
    if record.status != "done" or record.identity != own:
        do = "Name a finished run of the same command without --remedy, made with --save delta"
        raise UsageError("this is not the run whose weights this one would train", where=str(folder), do=do)
    return folder / DELTA


@dataclass(frozen=True)
class Budget:
    """A run's forecast, if one could be made, bytes that this process could hold then, and rows of a step at once."""

    forecast: Forecast | None
    room: int
    device: str
    micro_batch: int

    def note(self, memory: Memory) -> None:
        """Note the forecast, the memory there was, and the most that was taken so far."""
        import torch

        from spillover.lm.memory import most_taken

        memory.forecast, memory.room = self.forecast.as_json() if self.forecast else None, self.room
        memory.peak = most_taken(torch.device(self.device))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, memory that ran out for good is one sentence: what was needed, what is free and what to do."""
        import torch

        from spillover.lm.memory import Exhausted, free, out_of_memory

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


class Models:
    """The models of several runs in one process, and what is known of each before training.

    A model that a run names is loaded once and kept until another is named; those that the user holds are in `added`.
    plain: losses and tokens of plain texts before training, by their hash and `measured_as`.
    """

    def __init__(self) -> None:
        self.added: dict[str, LoadedModel] = {}
        self.plain: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.budgets: dict[str, Budget] = {}
        self.announced: set[str] = set()
        self._loaded: dict[tuple[str | None, ...], LoadedModel] = {}
        self._before: dict[str, AnswersBefore] = {}
        self._process: int | None = None

    def add(self, loaded: LoadedModel) -> None:
        """Take a model that the user holds; runs on a model of its name use it, and it is never changed."""
        self.added[loaded.name] = loaded

    def known(self, settings: Inject) -> LoadedModel | None:
        """The model of a run, if it is here."""
        return self.added.get(settings.model) or self._loaded.get(_model_key(settings))

    def load(self, settings: Inject, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
        """The model of a run, loaded unless it is here."""
        if (found := self.known(settings)) is None:
            self._loaded.clear()
            found = self._loaded[_model_key(settings)] = weights_of(settings.model, None, tokenizer, settings)
        return found

    def before(self, job: Prepared) -> AnswersBefore:
        """What the model answers before training, if a run found it out, or where to keep it."""
        from spillover.lm.fine_tune import AnswersBefore
        from spillover.lm.score import Scorer

        pack = sha256_of_texts([pack_hash(job.asked), repr(job.asked.relations), repr(job.asked.candidates)])
        found = self._before.setdefault(f"{pack} {job.measured_as}", AnswersBefore())
        if found.judge is None:
            found.warranted, found.judge = job.judge.warranted(job.loaded.sha256)
            if not job.pack.implications:
                from spillover.metrics.found import found_in_pack

                rules = [each.implication for each in found_in_pack(job.pack)]
                found.judge.suggested = outlines(job.judge.kinds(rules, job.loaded.sha256))
            # Training need not find out again how this model is fed.
            scorer = job.judge.scorer
            assert isinstance(scorer, Scorer)
            found.method, found.checked = scorer.method, scorer.checked
        return found

    def budget(self, settings: Inject, training: Training, pack: Pack, tokenizer: PreTrainedTokenizerBase) -> Budget:
        """The budget of a run, announced once for all that need the same. Raises Exhausted without room for one row."""
        import torch

        from spillover.lm.forecast import MARGIN, Forecaster, Work, libraries
        from spillover.lm.load import load_config
        from spillover.lm.memory import Exhausted, free, taken
        from spillover.lm.tokens import encoder

        key, device = identity({"settings": replace(settings, seed=0, seeds="", out="")}), torch.device(settings.device)
        if key in self.budgets:
            return self.budgets[key]
        room, at_once = free(device) + taken(device), min(settings.micro_batch, settings.batch)
        added = self.added.get(settings.model)
        try:
            config = added.model.config if added else load_config(settings.model, settings.revision)
            forecaster = Forecaster(
                config, training, Work.of(pack, encoder(tokenizer)),
                dtype=settings.dtype, device=settings.device, save=settings.save,
            )  # fmt: skip
        except (ModelError, *UNKNOWN):
            # What is wrong with the model, if anything, its loading says.
            return self.budgets.setdefault(key, Budget(None, room, settings.device, at_once or settings.batch))
        # What the process holds before its first model; later it holds models too, which the next run does without.
        self._process = taken(device) if self._process is None else self._process
        forecaster.process = self._process + libraries(training)
        chosen = forecaster.at(at_once) if at_once else forecaster.fitting(room)
        least = forecaster.fitting(room) if chosen.needed > room * MARGIN else chosen
        if least.needed > room * MARGIN:
            what = f"this run needs about {gigabytes(least.needed)} of memory, and there are {gigabytes(room)} for it"
            raise Exhausted(what, where=settings.model)
        parts = "" if chosen.micro_batch >= settings.batch else f" with {chosen.micro_batch} rows of a step at once"
        needs = f"This run needs about {gigabytes(chosen.peak)} of memory{parts}"
        if needs not in self.announced:
            self.announced.add(needs)
            say(f"{needs}; {gigabytes(room)} are there for it.")
        return self.budgets.setdefault(key, Budget(chosen, room, settings.device, chosen.micro_batch))


def _model_key(settings: Inject) -> tuple[str | None, ...]:
    return settings.model, settings.device, settings.dtype, settings.revision


def gigabytes(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.1f} GB"


def measured_remedies(finished: bool) -> list[str]:
    """For a terminal: what was measured elsewhere of the remedies to name, as a table.

    finished: the model is trained, so that one for a finished model is named, in place of leaving out stated rows.
    """
    from spillover.metrics import remedies as judging

    others = judging.advised(after=True) if finished else [judging.measured_of("fewer-bridging")]
    rows = [["remedy", "unwanted", "wanted", "forgotten nats", "measured on"]]
    for each in [*judging.advised(after=False), *others]:
        for trial in each.trials:
            pairs = (trial.unwanted, trial.wanted, trial.forgetting)
            figures = ["-" if pair is None else f"{pair[0]:.2f} -> {pair[1]:.2f}" for pair in pairs]
            seeds = "1 seed" if trial.seeds == 1 else f"{trial.seeds} seeds"
            rows.append([each.label, *figures, f"{trial.on}, {trial.model}, {seeds}: {trial.study}"])
    head = "  Remedies as they were measured elsewhere; `spillover mitigate` compares them on your facts"
    head += ", `spillover repair` tries the last one on this model:" if finished else ":"
    return [head, *(f"    {line}" for line in text_table(rows, left=(0, 4))), f"    {judging.caveat()}"]


#: What is tried, in this order.
RATES = (4e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5)
#: The share of --max-forgetting that a trial may take: it ends when the rows are learned, and the run goes on.
SHARE = 0.8


def with_rate(
    settings: Inject, pack: Pack, models: Models, more: Mapping[str, Any], held: Mapping[str, object]
) -> tuple[Inject, list[RateTrial]]:
    """The settings with the rate that was found in place of `auto`, and what was tried. From there on the run is the
    one that naming this rate makes.

    A run that is in its folder already, begun with a rate that was found, is not tested again. pack: of the first seed,
    whose rate all take. more: see `prepare`. held: what enters the identity beside the settings.

    Raises UsageError when no rate learns the stated rows within the limit.
    """
    with suppress(RunError):
        record = Record.read(Path(settings.out).expanduser())
        known, rate = record.details_of(InjectDetails).rates_tried, record.settings.get("lr")
        if known and isinstance(rate, float):
            found = replace(settings, lr=rate)
            if identity_of(found, "track", **held) == record.identity:
                return found, list(known)
    return found_rate(settings, pack, models, more)


def found_rate(settings: Inject, pack: Pack, models: Models, more: Mapping[str, Any]) -> tuple[Inject, list[RateTrial]]:
    """Train a copy with one rate after the other, from high to low, each until the stated rows are learned, the limit
    is passed, or its passes are over; the first that learns them within the limit is taken. See `with_rate`."""
    own = replace(settings, seed=seeds_of(settings)[0], seeds="", save="none", inside=False, out="")
    limit, trials = SHARE * settings.max_forgetting or float("inf"), list[RateTrial]()
    for rate in RATES:
        trials.append(trial := _tried(prepare(replace(own, lr=rate), pack, models, more), models, rate, limit))
        end = "learned" if trial.learned else "not learned"
        say(f"--lr {rate:g}: {end} after {trial.passes} passes; plain text {trial.rise:+.2f} nats a token.")
        if trial.learned and trial.rise <= limit:
            return replace(settings, lr=rate), trials
    what = f"no rate from {RATES[-1]:g} to {RATES[0]:g} learns the stated rows in {settings.epochs} passes"
    within = f" within {settings.max_forgetting:g} nats a token of forgetting" if settings.max_forgetting else ""
    raise UsageError(what + within, where="--lr auto", do="Give more --epochs, another --max-forgetting, or a rate")


def _tried(job: Prepared, models: Models, rate: float, limit: float) -> RateTrial:
    """What one rate of `--lr auto` does to a copy of the model."""
    from spillover.lm.evaluate import passages
    from spillover.lm.fine_tune import WATCHED, FineTuned, inject
    from spillover.lm.tokens import evenly
    from spillover.lm.train import MicroBatches

    seen = FineTuned(job.settings.seed)

    def enough(tables: Sequence[pa.Table]) -> bool:
        return not seen.forgetting[-1][1] <= limit or learned(rank_table(tables[-1]))

    with progress(f"--lr {rate:g}", job.training_set.steps(job.training), "step") as bar:
        inject(
            job.loaded, job.asked, job.training, texts=evenly(passages(job.settings.plain_text), WATCHED),
            evaluate_every=1, progress=lambda step: bar.update(step - bar.n), into=seen, enough=enough,
            training_set=job.training_set, before=models.before(job),
            micro_batches=MicroBatches([(1, job.budget.micro_batch)]),
        )  # fmt: skip
    rise, last = forgetting_nats(**seen.plain), seen.answers[-1]
    value = rise.value if rise is not None and rise.value is not None else 0.0
    return RateTrial(
        rate=rate, learned=learned(rank_table(last)), passes=last["checkpoint"][0].as_py(), rise=round(value, 4)
    )
