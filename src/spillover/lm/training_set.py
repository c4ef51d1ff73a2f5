"""What a run trains on: rows, what each epoch takes of them, what is added to the loss, and what is done at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spillover.errors import UsageError
from spillover.interventions.base import FACTS, IMPLICATIONS, Context, Pipeline
from spillover.lm.load import LoadedModel
from spillover.lm.score import CausalModel
from spillover.lm.tokens import Encoder, Example, continuation, encoder, examples
from spillover.lm.train import ExtraLoss, Training
from spillover.packs.pack import Pack, Relation


@dataclass(frozen=True)
class TrainingSet:
    """rows: all that is trained. rows_in: those of an epoch (from 1), or None for all of them in each. extra: a term of
    the loss, or None. finish: changes the tuned model in place once it has learned. tuned: a file of changed weights
    that stand for the training, which is then left out."""

    examples: Sequence[Example]
    rows_in: Callable[[int], Sequence[Example]] | None = None
    extra: ExtraLoss | None = None
    finish: Callable[[CausalModel], None] = lambda model: None
    tuned: Path | None = None

    def steps(self, training: Training) -> int:
        """Optimiser steps of a run."""
        counts = [len(self.examples if self.rows_in is None else self.rows_in(epoch))
                  for epoch in range(1, training.epochs + 1)]  # fmt: skip
        return sum(-(-count // training.batch) for count in counts)


def training_set(
    regimen: Pipeline, pack: Pack, loaded: LoadedModel, training: Training, frame: Callable[[Pack], Pack],
    facts_known: bool = False,
) -> TrainingSet:  # fmt: skip
    """The lesson of a user's pack under a regimen. frame: gives a pack as it is worded for the model (see `as_chat`).
    facts_known: only stated implications are trained.

    Raises UsageError when a remedy does not fit the pack or leaves an epoch without rows, ModelError for the model.
    """
    encode, seed = encoder(loaded.tokenizer), training.seed
    regimen.refuse([name for name, _ in loaded.model.named_parameters()])
    taught, worded = regimen.pack(pack, seed), frame(pack)
    if facts_known:
        taught = _without_facts(taught)
    # Lines are whole texts of their own: one is worded as the prompt of a relation that is nothing but it.
    lines = regimen.lines(pack, seed)
    stated = examples(encode, frame(taught))
    further = [_line(encode, frame, pack, line.prompt, line.answer) for line in lines]
    every = [*stated, *further]
    kinds = [IMPLICATIONS if fact.relation in taught.then_relations else FACTS for fact in taught.facts]

    def rows_in(epoch: int) -> Sequence[Example]:
        kind = regimen.only(epoch, training.epochs)
        return every if kind is None else [row for row, own in zip(stated, kinds, strict=True) if own == kind]

    ordered = any(regimen.only(epoch, training.epochs) for epoch in range(1, training.epochs + 1))
    if ordered and len(set(kinds)) < 2:
        do = "Use another remedy"
        raise UsageError("only one kind of rows is stated, so they cannot be trained one before the other", do=do)
    scene = Context(loaded.model, encode, worded, seed)
    return TrainingSet(
        every, rows_in if ordered else None, regimen.loss(scene), lambda model: regimen.finish(scene, model)
    )


def _without_facts(pack: Pack) -> Pack:
    """The stated implications alone. Raises UsageError when there is none."""
    found = replace(pack, facts=tuple(fact for fact in pack.facts if fact.relation in pack.then_relations))
    if not found.facts:
        do = "Leave --facts-known out, or state what follows of some subjects"
        raise UsageError("no implication is stated, so there is nothing to train on", where=pack.name, do=do)
    return found


def _line(encode: Encoder, frame: Callable[[Pack], Pack], pack: Pack, prompt: str, answer: str) -> Example:
    alone = frame(replace(pack, relations=(Relation("line", ("{subject}",)),), facts=(), implications=()))
    before, after = continuation(encode, alone, alone.prompt("line", prompt), answer)
    return Example(tuple(before + after), len(before))
