"""Fine-tune a copy of a model on a pack and evaluate it before, on a schedule, and after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from spillover.details import JudgeFacts
from spillover.lm.distributed import SINGLE, Processes
from spillover.lm.evaluate import Beliefs, Evaluation, passage_losses
from spillover.lm.load import LoadedModel
from spillover.lm.save import take_weights
from spillover.lm.score import CausalModel, Method, Scorer
from spillover.lm.tokens import Example, encoder, evenly, examples
from spillover.lm.train import ExtraLoss, MicroBatches, TrainingStep, fine_tune
from spillover.lm.trainable import Training, count_parameters, gather_into, shard, trainable_copy
from spillover.packs.pack import Pack
from spillover.record import ANSWER_SCHEMA, State

#: Plain passages that are read at each checkpoint on the way: of those that come with this, a third.
WATCHED = 4


@dataclass(frozen=True)
class TrainingSet:
    """What a run trains on.

    examples: everything that is trained. examples_in: those of an epoch (from 1), or None for all in each. extra: a
    term of the loss, or None. finish: changes the tuned model in place once it has learned. tuned: a file of changed
    weights that replaces the training.
    """

    examples: Sequence[Example]
    examples_in: Callable[[int], Sequence[Example]] | None = None
    extra: ExtraLoss | None = None
    finish: Callable[[CausalModel], None] = lambda model: None
    tuned: Path | None = None

    def steps(self, training: Training) -> int:
        """Optimizer steps of a run."""
        epochs = range(1, training.epochs + 1)
        counts = [len(self.examples if self.examples_in is None else self.examples_in(epoch)) for epoch in epochs]
        return sum(-(-count // training.batch) for count in counts)


class Loss(NamedTuple):
    """Mean training loss (nats an answer token) of one step."""

    step: int
    epoch: int
    value: float


@dataclass
class AnswersBefore:
    """What a model answered before training, as a column of `Evaluation.answers`, and what it warrants (lm.judge); for
    runs of one model and pack. method, checked: how it is fed, as its Scorer found out."""

    scores: Float[np.ndarray, "row"] | None = None
    method: Method | None = None
    checked: int = 0
    warranted: Mapping[tuple[str, str], Beliefs] = field(default_factory=dict)
    judge: JudgeFacts | None = None


@dataclass
class FineTuned:
    """What one run saw so far; complete when `done`. plain: of each passage, summed nats and tokens. forgetting: of
    each checkpoint on the way, the rise of the loss on a few passages (nats a token)."""

    seed: int
    answers: list[pa.Table] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    plain: dict[str, Float[np.ndarray, "passage"]] = field(
        default_factory=lambda: dict.fromkeys(("before", "after", "tokens"), np.empty(0))
    )
    forgetting: list[tuple[int, float]] = field(default_factory=list)
    parameters: int = 0
    trained_parameters: int = 0
    passes: int = 0
    method: Method | None = None
    model: CausalModel | None = None
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
    enough: Callable[[Sequence[pa.Table]], bool] | None = None,
    resume: State | None = None,
    keep: Callable[[Callable[[], State]], None] | None = None,
    micro_batches: MicroBatches | None = None,
    training_set: TrainingSet | None = None,
    before: AnswersBefore | None = None,
    processes: Processes = SINGLE,
    after_epoch: Callable[[CausalModel, int], None] | None = None,
) -> None:
    """Run the experiment, adding to `into` as it goes, so that an interrupted run keeps what it saw.

    Arguments:
    - texts: plain passages; `into.plain["before"]` is measured unless it is there already.
    - evaluate_every: epochs between evaluations. Checkpoints are epochs; 0 is before training.
    - progress: called with the number of each finished step.
    - enough: called with the answers of the checkpoints up to each; True ends the training there.
    - resume: the state to go on from; of several processes the first alone needs it.
    - keep: called after each step with what gives the state after it, to be written at once.
    - micro_batches: see `fine_tune`.
    - training_set: what is trained, unless it is the pack's own rows; `pack` is what is asked.
    - before: what the model answered before training, measured and put there unless it is known.
    - processes: those that share the work.
    - after_epoch: called with the model and the epoch after each; it leaves the model as it is.

    Raises: what `fine_tune` raises.
    """
    encode = encoder(loaded.tokenizer)
    training_set = training_set or TrainingSet(examples(encode, pack))
    model = trainable_copy(loaded.model, training)
    into.parameters, into.trained_parameters = count_parameters(model)
    if processes.sharded:
        shard(model, processes.count)
    before = before or AnswersBefore()
    scorer = Scorer(model, method=before.method, checked=before.checked, processes=processes)
    evaluation = Evaluation(pack, encode, warranted=before.warranted)
    schedule = _Schedule(
        evaluation, scorer, training, into, evaluate_every, enough or (lambda _: False), training_set.finish,
        loaded.model, evenly(texts, WATCHED),
    )  # fmt: skip
    # The tensors of a state follow when they are written into the model.
    shared = processes.broadcast(lambda: resume and replace(resume, tensors={}))
    resume = resume if processes.first else shared

    def after_step(step: TrainingStep) -> bool:
        into.losses.append(Loss(step.number, step.epoch, step.loss))
        progress(step.number)
        stop = step.last_of_epoch and schedule.after_epoch(step.epoch)
        if after_epoch is not None and step.last_of_epoch:
            after_epoch(model, step.epoch)
        # Nobody holds all of a split model, so it is not kept on the way.
        if keep is not None and not stop and not processes.sharded:
            keep(lambda: schedule.state(step))
        return stop

    def count(*_: Any) -> None:
        into.passes += 1

    with model.register_forward_pre_hook(count), loaded.model.register_forward_pre_hook(count):
        if resume is None:
            schedule.begin(before)
        else:
            schedule.resume(resume.facts)
            progress(resume.step)
        if training_set.tuned is not None:
            take_weights(model, training_set.tuned)
            schedule.after_epoch(training.epochs)
        else:
            fine_tune(
                model, training_set.examples, training, after_step, scorer.method, resume, micro_batches,
                extra=training_set.extra, examples_in=training_set.examples_in, processes=processes,
            )  # fmt: skip
        if not len(into.plain["before"]):
            # Only now, so that training starts sooner: a copy was trained, and the model itself is as it was.
            into.plain["before"], into.plain["tokens"] = passage_losses(loaded.model, encode, texts, processes)
        into.plain["after"], _ = passage_losses(model, encode, texts, processes)
    if processes.sharded:
        into.model = trainable_copy(loaded.model, training) if processes.first else None
        gather_into(into.model, model)
    else:
        into.model = model
    into.done = True


@dataclass(frozen=True)
class _Schedule:
    """Evaluates the model of a run on schedule; the fields are as in `inject`.

    base: the model before training. watched: plain passages on which forgetting is measured on the way.
    """

    evaluation: Evaluation
    scorer: Scorer
    training: Training
    into: FineTuned
    evaluate_every: int
    enough: Callable[[Sequence[pa.Table]], bool]
    finish: Callable[[CausalModel], None]
    base: CausalModel
    watched: Sequence[str]

    def begin(self, before: AnswersBefore) -> None:
        """The answers before training, from `before` if they are known."""
        if before.scores is None:
            self._evaluate(0, full=True)
            before.scores = self.into.answers[0]["log_probability"].to_numpy()
            before.method, before.checked = self.scorer.method, self.scorer.checked
            return
        self.into.answers.append(self._table(0, True, before.scores))
        self.into.method = self.scorer.method

    def after_epoch(self, epoch: int) -> bool:
        """Evaluate if it is time to; gives True when enough is learned."""
        done = epoch == self.training.epochs
        if not done:
            if epoch % self.evaluate_every:
                return False
            self._evaluate(epoch, full=False)
            self.into.forgetting.append((epoch, self._forgotten()))
            if not self.enough(self.into.answers):
                return False
            self.into.answers.pop()
        self.finish(self.scorer.model)
        self._evaluate(epoch, full=True)
        return not done

    def _forgotten(self) -> float:
        """The rise of the loss on the watched passages. Its passes do not count: they are no part of the experiment."""
        passes = self.into.passes
        rise = self._nats_a_token(self.scorer.model) - self._nats_before
        self.into.passes = passes
        return rise

    @cached_property
    def _nats_before(self) -> float:
        return self._nats_a_token(self.base)

    def _nats_a_token(self, model: CausalModel) -> float:
        losses, tokens = passage_losses(model, self.evaluation.encode, self.watched, self.scorer.processes)
        return float(losses.sum() / max(1.0, tokens.sum()))

    def state(self, step: TrainingStep) -> State:
        """The run after `step`, with what it measured: enough to go on as if it had never stopped."""
        # Of each checkpoint whether all was asked, and the scores, which the pack makes a table of again.
        examined = [
            [each["checkpoint"][0].as_py(), not all(each["trained"].to_pylist()), each["log_probability"].to_pylist()]
            for each in self.into.answers
        ]
        bounds = (self.scorer.maximum_tokens, self.scorer.maximum_logits)
        facts = {"bounds": bounds, "method": self.scorer.method, "losses": self.into.losses, "examined": examined,
                 "forgetting": self.into.forgetting}  # fmt: skip
        return State(step.number, step.state(), facts)

    def resume(self, facts: Mapping[str, Any]) -> None:
        """What was measured until then, as if it had been measured just now."""
        self.into.losses = [Loss(*each) for each in facts["losses"]]
        self.into.answers = [self._table(at, full, np.array(scores)) for at, full, scores in facts["examined"]]
        self.into.forgetting = [(at, rise) for at, rise in facts.get("forgetting", [])]
        self.into.method = self.scorer.method = facts["method"]
        # The model is another one by now, of which nothing new is found out.
        self.scorer.checked = 0
        self.scorer.maximum_tokens, self.scorer.maximum_logits = facts["bounds"]

    def _evaluate(self, epoch: int, full: bool) -> None:
        """Add a table of answers."""
        answers = self.evaluation.answers(self.scorer, seed=self.training.seed, checkpoint=epoch, full=full)
        self.into.answers.append(answers)
        self.into.method = self.scorer.method

    def _table(self, checkpoint: int, full: bool, scores: Float[np.ndarray, "row"]) -> pa.Table:
        return self.evaluation.table(scores, seed=self.training.seed, checkpoint=checkpoint, full=full)
