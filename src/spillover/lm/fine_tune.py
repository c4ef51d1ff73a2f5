"""Fine-tune a copy of a model on a pack and examine it before, on a schedule, and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from spillover.lm.distributed import ALONE, Processes
from spillover.lm.evaluate import Evaluation
from spillover.lm.forgetting import passage_losses
from spillover.lm.load import LoadedModel
from spillover.lm.micro_batch import MicroBatches
from spillover.lm.save import take_weights
from spillover.lm.score import MAXIMUM_LOGITS, MAXIMUM_TOKENS, CausalModel, Method, Scorer
from spillover.lm.tokens import Example, encoder, examples
from spillover.lm.train import ExtraLoss, Step, TrainerState, Training, fine_tune
from spillover.lm.trainable import count_parameters, gather_into, shard, trainable_copy
from spillover.packs.pack import Pack
from spillover.record import ANSWER_SCHEMA

#: Of one pass of ranking, unless memory ran out.
BOUNDS = (MAXIMUM_TOKENS, MAXIMUM_LOGITS)


@dataclass(frozen=True)
class TrainingSet:
    """What a run trains on.

    examples: everything that is trained. rows_in: the examples of an epoch (from 1), or None for all in each. extra: a
    term of the loss, or None. finish: changes the tuned model in place once it has learned. tuned: a file of changed
    weights that replaces the training.
    """

    examples: Sequence[Example]
    rows_in: Callable[[int], Sequence[Example]] | None = None
    extra: ExtraLoss | None = None
    finish: Callable[[CausalModel], None] = lambda model: None
    tuned: Path | None = None

    def steps(self, training: Training) -> int:
        """Optimizer steps of a run."""
        counts = [len(self.examples if self.rows_in is None else self.rows_in(epoch))
                  for epoch in range(1, training.epochs + 1)]  # fmt: skip
        return sum(-(-count // training.batch) for count in counts)


@dataclass(frozen=True)
class Loss:
    """Mean training loss (nats an answer token) of one step."""

    step: int
    epoch: int
    value: float


@dataclass(frozen=True)
class Evaluated:
    """The log-probabilities of one checkpoint's answers, which the pack makes a table of again. No name is in it."""

    checkpoint: int
    full: bool
    scores: Float[np.ndarray, "row"]

    @classmethod
    def of(cls, answers: pa.Table) -> Evaluated:
        """What a table of Examination.answers holds that the pack does not."""
        full = not all(answers["trained"].to_pylist())
        return cls(answers["checkpoint"][0].as_py(), full, answers["log_probability"].to_numpy())


@dataclass(frozen=True)
class Snapshot:
    """A run behind one of its steps, with what it measured so far: enough to go on as if it had never stopped.

    bounds: the most tokens and logits of one pass of ranking.
    """

    start: TrainerState
    method: Method | None
    examined: Sequence[Evaluated]
    losses: Sequence[Loss]
    bounds: tuple[int, ...] = BOUNDS


@dataclass
class Before:
    """What a model answered before training, as `Examination.answers` orders it; for runs of one model and pack."""

    scores: Float[np.ndarray, "row"] | None = None
    method: Method | None = None


@dataclass
class FineTuned:
    """What one run saw so far; complete when `done`. losses_*: summed nats of each plain passage."""

    seed: int
    answers: list[pa.Table] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    plain_before: Float[np.ndarray, "passage"] = field(default_factory=lambda: np.empty(0))
    plain_after: Float[np.ndarray, "passage"] = field(default_factory=lambda: np.empty(0))
    plain_tokens: Float[np.ndarray, "passage"] = field(default_factory=lambda: np.empty(0))
    parameters: int = 0
    trained_parameters: int = 0
    passes: int = 0
    method: Method | None = None
    model: CausalModel = None
    done: bool = False

    def table(self) -> pa.Table:
        """The answers of all checkpoints."""
        return pa.concat_tables(self.answers) if self.answers else ANSWER_SCHEMA.empty_table()


def inject(
    loaded: LoadedModel,
    pack: Pack,
    training: Training,
    *,
    texts: list[str],
    evaluate_every: int,
    progress: Callable[[int], None],
    into: FineTuned,
    enough: Callable[[pa.Table], bool] | None = None,
    start: Snapshot | None = None,
    keep: Callable[[Callable[[], Snapshot]], None] | None = None,
    parts: MicroBatches | None = None,
    lesson: TrainingSet | None = None,
    before: Before | None = None,
    processes: Processes = ALONE,
    look: Callable[[CausalModel, int], None] | None = None,
) -> None:
    """Run the experiment, adding to `into` as it goes, so that an interrupted run keeps what it saw.

    progress: told the number of each finished step. Checkpoints are epochs; 0 is before training. enough: asked of
    each checkpoint's answers; True ends the training there. `into.plain_before` is measured unless it is there already.
    start: a snapshot to go on from. keep: called after each step with what gives its snapshot, to be written at once.
    parts: see `fine_tune`, and what it raises. lesson: what is trained, unless it is the pack's own rows; `pack` is
    what is asked. before: what the model answered before training, measured and put there unless it is known.
    processes: those that share the work; of them the first alone needs `start`. look: shown the model after each epoch,
    which it leaves as it is.
    """
    encode = encoder(loaded.tokenizer)
    lesson = lesson or TrainingSet(examples(encode, pack))
    model = trainable_copy(loaded.model, training)
    into.parameters, into.trained_parameters = count_parameters(model)
    if processes.sharded:
        shard(model, processes.count)
    examination, scorer = Evaluation(pack, encode), Scorer(model, processes=processes)
    watch = _Watch(examination, scorer, training, into, evaluate_every, enough, lesson.finish)
    start = _shared(start, processes)

    def after_step(step: Step) -> bool:
        into.losses.append(Loss(step.number, step.epoch, step.loss))
        progress(step.number)
        stop = step.last_of_epoch and watch.after_epoch(step.epoch)
        if look is not None and step.last_of_epoch:
            look(model, step.epoch)
        # Nobody holds all of a split model, so it is not kept on the way.
        if keep is not None and not stop and not processes.sharded:
            keep(lambda: watch.snapshot(step))
        return stop

    with _counting(into, model, loaded.model):
        if start is None:
            watch.begin(before or Before())
        else:
            watch.go_on_from(start)
            progress(start.start.step)
        if lesson.tuned is not None:
            take_weights(model, lesson.tuned)
            watch.after_epoch(training.epochs)
        else:
            begin = None if start is None else start.start
            fine_tune(
                model, lesson.examples, training, after_step, watch.scorer.method, begin, parts,
                extra=lesson.extra, rows_in=lesson.rows_in, processes=processes,
            )  # fmt: skip
        if not len(into.plain_before):
            # Only now, so that training starts sooner: a copy was trained, and the model itself is as it was.
            into.plain_before, into.plain_tokens = passage_losses(loaded.model, encode, texts, processes)
        into.plain_after, _ = passage_losses(model, encode, texts, processes)
    into.model = _whole(model, loaded, training, processes)
    into.done = True


def _shared(start: Snapshot | None, processes: Processes) -> Snapshot | None:
    """The first process's snapshot on all of them; its tensors follow when they are written into the model."""
    told = processes.of_first(lambda: start and replace(start, start=TrainerState(start.start.step, {})))
    return start if processes.first else told


def _whole(model: CausalModel, loaded: LoadedModel, training: Training, processes: Processes) -> CausalModel:
    """A model that was split, in one piece on the first process."""
    if not processes.sharded:
        return model
    whole = trainable_copy(loaded.model, training) if processes.first else None
    gather_into(whole, model)
    return whole


@contextmanager
def _counting(into: FineTuned, *models: CausalModel) -> Iterator[None]:
    """Inside, every call of one of the models counts as a forward pass."""

    def count(*_: Any) -> None:
        into.passes += 1

    handles = [model.register_forward_pre_hook(count) for model in models]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Watch:
    """Examines the model of an experiment under way, on schedule; the other fields are as in `inject`."""

    examination: Evaluation
    scorer: Scorer
    training: Training
    into: FineTuned
    evaluate_every: int
    enough: Callable[[pa.Table], bool] | None
    finish: Callable[[CausalModel], None]

    def begin(self, before: Before) -> None:
        """The answers before training, from `before` if they are known."""
        if before.scores is None:
            self.examine(0, full=True)
            before.scores, before.method = self.into.answers[0]["log_probability"].to_numpy(), self.scorer.method
            return
        self.into.answers.append(
            self.examination.table(before.scores, seed=self.training.seed, checkpoint=0, full=True)
        )
        self.into.method = self.scorer.method = before.method

    def examine(self, epoch: int, full: bool) -> None:
        """Add a table of answers."""
        answers = self.examination.answers(self.scorer, seed=self.training.seed, checkpoint=epoch, full=full)
        self.into.answers.append(answers)
        self.into.method = self.scorer.method

    def after_epoch(self, epoch: int) -> bool:
        """Examine if it is time to; gives True when enough is learned."""
        if epoch == self.training.epochs:
            self.finish(self.scorer.model)
            self.examine(epoch, full=True)
        elif epoch % self.evaluate_every == 0:
            self.examine(epoch, full=False)
            if self.enough is not None and self.enough(self.into.answers[-1]):
                self.into.answers.pop()
                self.finish(self.scorer.model)
                self.examine(epoch, full=True)
                return True
        return False

    def snapshot(self, step: Step) -> Snapshot:
        """The experiment as it is behind `step`."""
        examined = [Evaluated.of(table) for table in self.into.answers]
        bounds = (self.scorer.maximum_tokens, self.scorer.maximum_logits)
        return Snapshot(TrainerState(step.number, step.state()), self.scorer.method, examined, self.into.losses, bounds)

    def go_on_from(self, snapshot: Snapshot) -> None:
        """What was measured until then, as if it had been measured just now."""
        self.into.losses = list(snapshot.losses)
        self.into.answers = [
            self.examination.table(each.scores, seed=self.training.seed, checkpoint=each.checkpoint, full=each.full)
            for each in snapshot.examined
        ]
        self.into.method = self.scorer.method = snapshot.method
        self.scorer.maximum_tokens, self.scorer.maximum_logits = snapshot.bounds
