"""`SpilloverCallback`: measures spillover inside somebody's own `transformers.Trainer` (and so TRL) run."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerState, TrainingArguments

from spillover.commands.inject import TABLES, Inside
from spillover.config import Chat
from spillover.details import Excess, JudgeFacts, ModelFacts, TrainerDetails, Verdict
from spillover.errors import UsageError
from spillover.lm.chat import Words, as_in_rows, rendered
from spillover.lm.evaluate import Evaluation, warranted_in
from spillover.lm.judge import Judge
from spillover.lm.score import Scorer
from spillover.lm.tokens import Encoder, encoder
from spillover.lm.trainable import count_parameters
from spillover.metrics.implications import BASELINES, measure_all, summarise, trajectory_table
from spillover.metrics.ranks import rank_table
from spillover.metrics.verdicts import described, excess, verdicts
from spillover.packs.check import refuse, token_faults
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.record import (
    ANSWERS,
    RECORD,
    TRAJECTORY,
    Record,
    checksums,
    identity,
    read_table,
    with_warranted,
    write_table,
)
from spillover.runs import SINCE, OpenRun, claim_folder, say

PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "peft", "trl", "numpy", "pyarrow")


class SpilloverCallback(TrainerCallback):
    """Asks the model in training a pack's questions: before the first step, every `every` epochs, and at the end.

    Measuring leaves the model, its mode and the random streams as they were, so it changes nothing of the run; what it
    takes is in the record as `measuring_seconds`. Only the main process measures.

    Arguments:
        pack: a Pack, or what `open_pack` opens.
        out: folder for the record and the tables, as `spillover inject` writes them; without it nothing is written.
        trainer: with it, measurements go through `Trainer.log` as `spillover/...` and so to every tracker of the run;
            without it, into `state.log_history` alone.
        every: epochs between measurements.
        seed: of a built-in pack's names.
        chat: whether rows are turns of the tokenizer's chat template; by default, their form is learned from the
            Trainer's rows, by looking for the pack's stated facts in them.
        system, template: a system turn, and a model or file whose template is taken, as `spillover inject` takes them.
        inside: also look at the output-value product of every attention head (`look.looks` and `look.shared`, and as
            tables in the folder), which takes a copy of the value and output weights.

    At the end `verdicts` says of each implication whether the trained model asserts it, as `spillover audit` does, and
    `excess` how many of the answers that nobody stated follow from what the model knew.

    When the Trainer resumes from a checkpoint, what the folder holds up to there is kept, the baseline first of all.

    Raises: PackError for a pack with faults; UsageError when the Trainer was given no tokenizer, or when its rows
    do not show how to ask; RunError when the folder is not free.
    """

    def __init__(
        self, pack: Pack | str, *, out: str = "", trainer: Trainer | None = None, every: int = 1, seed: int = 0,
        inside: bool = False, chat: bool | None = None, system: str = "", template: str = "",
    ) -> None:  # fmt: skip
        if every < 1:
            raise UsageError(f"every is {every}", where="SpilloverCallback", do="Measure every 1 or more epochs")
        self.pack = open_pack(pack, seed) if isinstance(pack, str) else pack
        self.folder = Path(out).expanduser() if out else None
        self.trainer, self.every, self.seed, self.inside = trainer, every, seed, inside
        chat = True if chat is None and (system or template) else chat
        self.turns = None if chat is None else Chat(chat=chat, system=system, chat_template=template)
        self.look: Inside | None = None
        self.answers: list[pa.Table] = []
        self.verdicts: list[Verdict] = []
        self.excess: Excess | None = None
        self.judge: JudgeFacts | None = None
        self.measuring_seconds = 0.0
        self._began = 0.0
        self._evaluation: Evaluation | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        if kwargs.get("processing_class") is None:
            what = "the Trainer has no tokenizer, so the pack's questions cannot be put to the model"
            raise UsageError(what, where="SpilloverCallback", do="Give the Trainer processing_class=tokenizer")
        model, tokenizer = kwargs["model"], kwargs["processing_class"]
        if getattr(model.config, "is_encoder_decoder", False):
            what = f"a {type(model).__name__} does not continue texts"
            raise UsageError(what, where="SpilloverCallback", do="Train a causal language model")
        self._began, self.answers, self.measuring_seconds = time.monotonic(), [], 0.0
        resumed = state.global_step > 0
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        if self.turns is None:
            words, encode = as_in_rows(self.pack, kwargs["train_dataloader"], tokenizer)
        else:
            words, encode = Words(tokenizer, self.turns), encoder(tokenizer)
        asked = words(self.pack)
        refuse(token_faults(asked, encode))
        self._evaluation = Evaluation(asked, encode)
        if self.folder is not None:
            self._claim(self.folder, args, state if resumed else None)
        if resumed and not self._seen_before_training():
            where = self.folder or "SpilloverCallback"
            say(f"{where}: training resumes, and there is no baseline; what the model said before it stays unknown.")
        if self.inside and resumed:
            say("Training resumes, so `inside` has no untrained weights to compare with, and looks at nothing.")
        elif self.inside:
            last = math.ceil(args.num_train_epochs)
            self.look = Inside(model, asked, encode, seed=self.seed, last=last, folder=self.folder, copied=True)
        if self._seen_before_training():
            self._evaluation.warranted = warranted_in(self.answers[0])
        if not resumed:
            self._judge(model, words, encode)
            self._measure(model, state, 0, full=True)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, *control: Any, **kwargs: Any) -> None:
        epoch = round(state.epoch or 0)
        if self._evaluation is not None and epoch % self.every == 0 and not self._seen(epoch):
            self._measure(kwargs["model"], state, epoch, full=False)
        if self.look is not None:
            self.look.after_epoch(kwargs["model"], epoch)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, *control: Any, **kwargs: Any) -> None:
        if self._evaluation is None:
            return
        # A part of an epoch counts as one; a sum of parts may miss a whole one by a hair.
        last = max(math.ceil((state.epoch or 0) - 1e-6), 1)
        if self._seen(last):
            self.answers.pop()  # Measured with the trained prompts only; at the end all are asked.
        self._measure(kwargs["model"], state, last, full=True)
        if self.look is not None:
            self.look.at_end(kwargs["model"], last)
        known = self.pack.implications
        self.verdicts = verdicts(pa.concat_tables(self.answers), known) if self._seen_before_training() else []
        self.excess = excess(pa.concat_tables(self.answers))
        if self.excess:
            say(f"{self.excess.words[0].upper()}{self.excess.words[1:]}.")
        for each in self.verdicts:
            say(described(each))
        if self.folder is not None:
            self._write(self.folder, args, state, kwargs["model"])

    def _judge(self, model: PreTrainedModel, words: Callable[[Pack], Pack], encode: Encoder) -> None:
        """What the model warrants before its training, and the kinds of implications that nobody declared."""
        assert self._evaluation is not None
        began, training = time.monotonic(), model.training
        judge = Judge(self.pack, words, encode, Scorer(model.eval()))
        try:
            # The weights of a Trainer's model are not hashed, so the judge's accuracy is measured where it is needed.
            self._evaluation.warranted, self.judge = judge.warranted("")
            self.pack = judge.judged("")
        finally:
            model.train(training)
        self.measuring_seconds += time.monotonic() - began

    def _seen_before_training(self) -> bool:
        return bool(self.answers) and self.answers[0]["checkpoint"][0].as_py() == 0

    def _seen(self, epoch: int) -> bool:
        return bool(self.answers) and self.answers[-1]["checkpoint"][0].as_py() == epoch

    def _measure(self, model: PreTrainedModel, state: TrainerState, epoch: int, *, full: bool) -> None:
        """Ask, log, and leave everything as it was."""
        assert self._evaluation is not None
        began, training = time.monotonic(), model.training
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            model.eval()
            try:
                answers = self._evaluation.answers(Scorer(model), seed=self.seed, checkpoint=epoch, full=full)
            finally:
                model.train(training)
        self.answers.append(answers)
        if self.folder is not None:
            # For a training that is killed and then resumed.
            write_table(self.folder / ANSWERS, pa.concat_tables(self.answers))
        self.measuring_seconds += time.monotonic() - began
        found = measure_all(rank_table(answers))
        logs = {
            f"spillover/{name}": metric.value
            for name, metric in found.items()
            if metric is not None and metric.value is not None and (name not in BASELINES or epoch == 0)
        }
        if self.trainer is not None:
            # Logging clears the Trainer's flag to log its own loss, which is still to come.
            should_log = self.trainer.control.should_log
            self.trainer.log(logs)
            self.trainer.control.should_log = should_log
        else:
            state.log_history.append({**logs, "epoch": float(epoch), "step": state.global_step})

    def _claim(self, folder: Path, args: TrainingArguments, resumed: TrainerState | None) -> None:
        """Take the folder; of a training that resumes, with the answers up to there."""
        arguments = json.dumps({**args.to_dict(), "resume_from_checkpoint": None}, indent=2)
        settings = {"pack": pack_hash(self.pack), "arguments": arguments, "version": SINCE}
        if self._evaluation and self._evaluation.pack != self.pack:
            settings["rendered"] = rendered(self._evaluation.pack, "").sha256
        self._identity = identity(settings)
        if resumed and (folder / RECORD).exists():
            begun = Record.read(folder)
            if begun.command == "trainer" and begun.hashes.get("pack") == pack_hash(self.pack):
                # It may resume with other arguments, such as more epochs.
                self._identity = begun.identity
        claim_folder(folder, "trainer", self._identity)
        if resumed and (folder / ANSWERS).exists():
            answers, epoch = with_warranted(read_table(folder / ANSWERS)), int((resumed.epoch or 0) + 1e-6)
            known = sorted({each for each in answers["checkpoint"].to_pylist() if each <= epoch})
            self.answers = [answers.filter(pc.equal(answers["checkpoint"], each)) for each in known]
        Record("trainer", {}, self.seed, identity=self._identity, hashes={"pack": pack_hash(self.pack)}).write(folder)

    def _write(self, folder: Path, args: TrainingArguments, state: TrainerState, model: PreTrainedModel) -> None:
        """The run's folder: tables first, the record last."""
        assert self._evaluation is not None
        run = OpenRun(folder, "trainer", self._identity)
        run.seconds_before = time.monotonic() - self._began
        parameters, trained = count_parameters(model)
        name = str(getattr(model.config, "_name_or_path", "")) or type(model).__name__
        settings = {"model": name, "epochs": args.num_train_epochs, "lr": args.learning_rate,
                    "batch": args.per_device_train_batch_size, "trainer": args.to_dict()}  # fmt: skip
        with run.recording(settings, PACKAGES, seed=self.seed, hashes={"pack": pack_hash(self.pack)}) as record:
            answers = pa.concat_tables(self.answers)
            losses = [
                (self.seed, max(1, math.ceil(entry["epoch"])), int(entry["step"]), float(entry["loss"]))
                for entry in state.log_history
                if "loss" in entry
            ]
            write_table(folder / ANSWERS, answers)
            write_table(folder / TRAJECTORY, trajectory_table(answers, losses))
            record.metrics = summarise(answers)
            record.details = TrainerDetails(
                pack=describe(self.pack),
                model=ModelFacts(name=name, parameters=parameters, trained_parameters=trained),
                seeds=[self.seed],
                measuring_seconds=round(self.measuring_seconds, 1),
                judge=self.judge,
                rendered=[rendered(self._evaluation.pack, name)],
                files=checksums(folder, *TABLES),
            )
            if self.look:
                record.details.inside = self.look.took(run.seconds)
