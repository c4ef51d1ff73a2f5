"""Remedies against what nobody wants a model to conclude: one small file each, behind the one interface here.

A remedy says what it does to rows, to what is trained and how, to the loss, to the schedule, or to finished weights.
At strength 0 every remedy is the untreated run, byte for byte, because nothing is then done to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spillover import catalog
from spillover.errors import UsageError
from spillover.lm.fine_tune import TrainingSet
from spillover.lm.load import LoadedModel
from spillover.lm.score import CausalModel
from spillover.lm.tokens import Encoder, Example, continuation, encoder, examples
from spillover.lm.train import ExtraLoss, Training
from spillover.packs.pack import Pack, Relation

#: Which of the two kinds of stated rows an epoch trains on: the facts, the stated implications, or both.
FACTS, IMPLICATIONS = "facts", "implications"


@dataclass(frozen=True)
class Line:
    """A text to train on besides the stated rows: what stands before the answer (without the join), and the answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Context:
    """What a treatment may look at: the model before training, its tokens, the user's pack as worded, the seed."""

    base: CausalModel
    encode: Encoder
    pack: Pack
    seed: int


class Intervention:
    """What a remedy does at one strength. Every method, left as it is here, does nothing."""

    #: It leaves out or rewrites a row that the user stated, so that what it removes was never told.
    rewrites = False
    #: It ends the training as soon as the stated rows are learned.
    stops = False

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def pack(self, pack: Pack, seed: int) -> Pack:
        """The pack whose rows are trained; what is measured stays the user's own."""
        return pack

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        """Texts to train on besides, drawn anew for every seed."""
        return ()

    def training(self, training: Training) -> Training:
        """Other settings."""
        return training

    def trains(self, name: str, layers: int) -> bool:
        """Whether a parameter of a model of so many layers stays trained."""
        return True

    def refuse(self, names: Sequence[str]) -> None:
        """Raise ModelError when a model whose parameters have these names is none that this can be done to."""

    def loss(self, scene: Context) -> ExtraLoss | None:
        """A term that is added to each step's loss."""
        return None

    def only(self, epoch: int, epochs: int) -> str | None:
        """The one kind of stated rows that an epoch (from 1) trains on, or None for both."""
        return None

    def finish(self, scene: Context, tuned: CausalModel) -> None:
        """Change the tuned model in place, once its training is over."""

    def abstains(self, pack: Pack) -> Sequence[str]:
        """Relations that gain the abstention answer as a candidate."""
        return ()


@dataclass(frozen=True)
class Remedy:
    """One entry of the shelf. text: what it does, in one sentence. strength: what the number means.

    strengths: those that `mitigate` tries unless told otherwise, weakest first. most: the greatest one allowed. whole:
    only whole numbers make sense. after: it needs no training of its own, only a finished model and its base.
    """

    text: str
    strength: str
    strengths: Sequence[float]
    most: float
    treat: Callable[[float], Intervention]
    whole: bool = False
    after: bool = False


@dataclass(frozen=True)
class Spec:
    """A remedy by name at one strength."""

    name: str
    strength: float

    def __str__(self) -> str:
        return f"{self.name}={self.strength:g}"


def remedy(name: str) -> Remedy:
    """A remedy of the catalogue by name. Raises UsageError with the nearest one that exists."""
    found: Remedy = catalog.pick(catalog.REMEDIES, name, "remedy")
    return found


def read_specs(text: str) -> list[Spec]:
    """`NAME=STRENGTH`, several joined by `+`; the empty text is no remedy. Raises UsageError for what does not fit."""
    doses = [_dose(part.strip()) for part in text.split("+")] if text.strip() else []
    if len({dose.name for dose in doses}) < len(doses):
        raise UsageError(f"a remedy is named twice: {text}", do="Name each once")
    return doses


def _dose(text: str) -> Spec:
    name, _, strength = text.partition("=")
    known = remedy(name)
    try:
        value = float(strength)
    except ValueError:
        do = f"Write it as {name}={known.strengths[0]:g}"
        raise UsageError(f"the strength {strength!r} is not a number", where=name, do=do) from None
    return checked(Spec(name, value))


def checked(dose: Spec) -> Spec:
    """The dose, if its strength is in range. Raises UsageError that names the remedy, the range and what it means."""
    known = remedy(dose.name)
    # Not a chain of refusals: a strength that is no number at all compares false with everything.
    if not 0 <= dose.strength <= known.most or (known.whole and dose.strength != int(dose.strength)):
        kind = "a whole number" if known.whole else "a number"
        do = f"Give {kind} from 0 to {known.most:g}, {known.strength}"
        raise UsageError(f"the strength {dose.strength:g} is out of range", where=dose.name, do=do)
    return dose


class Pipeline(Intervention):
    """Several treatments as one: each after the one before it, where the order matters. Empty, it does nothing.

    doses, kinds, parts: what is done, without those of strength 0, as it was asked for, as it stands on the shelf, and
    at its strength.
    """

    def __init__(self, doses: Sequence[Spec]) -> None:
        super().__init__(0.0)
        self.doses = [dose for dose in doses if dose.strength]
        self.kinds = [remedy(dose.name) for dose in self.doses]
        self.parts = [remedy(dose.name).treat(dose.strength) for dose in self.doses]
        self.rewrites = any(part.rewrites for part in self.parts)
        self.stops = any(part.stops for part in self.parts)

    def pack(self, pack: Pack, seed: int) -> Pack:
        for part in self.parts:
            pack = part.pack(pack, seed)
        return pack

    def lines(self, pack: Pack, seed: int) -> Sequence[Line]:
        return [line for part in self.parts for line in part.lines(pack, seed)]

    def training(self, training: Training) -> Training:
        for part in self.parts:
            training = part.training(training)
        return training

    def trains(self, name: str, layers: int) -> bool:
        return all(part.trains(name, layers) for part in self.parts)

    def refuse(self, names: Sequence[str]) -> None:
        for part in self.parts:
            part.refuse(names)

    def loss(self, scene: Context) -> ExtraLoss | None:
        terms = [term for part in self.parts if (term := part.loss(scene)) is not None]
        if len(terms) < 2:
            return terms[0] if terms else None
        return lambda model, step: sum((term(model, step) for term in terms[1:]), terms[0](model, step))

    def only(self, epoch: int, epochs: int) -> str | None:
        return next((kind for part in self.parts if (kind := part.only(epoch, epochs))), None)

    def finish(self, scene: Context, tuned: CausalModel) -> None:
        for part in self.parts:
            part.finish(scene, tuned)

    def abstains(self, pack: Pack) -> Sequence[str]:
        return list(dict.fromkeys(name for part in self.parts for name in part.abstains(pack)))


def training_set(
    pipeline: Pipeline, pack: Pack, loaded: LoadedModel, training: Training, frame: Callable[[Pack], Pack],
    facts_known: bool = False,
) -> TrainingSet:  # fmt: skip
    """The lesson of a user's pack under a pipeline. frame: gives a pack as it is worded for the model (see `as_chat`).
    facts_known: only stated implications are trained.

    Raises UsageError when a remedy does not fit the pack or leaves an epoch without rows, ModelError for the model.
    """
    encode, seed = encoder(loaded.tokenizer), training.seed
    pipeline.refuse([name for name, _ in loaded.model.named_parameters()])
    taught, worded = pipeline.pack(pack, seed), frame(pack)
    if facts_known:
        taught = _without_facts(taught)
    # Lines are whole texts of their own: one is worded as the prompt of a relation that is nothing but it.
    lines = pipeline.lines(pack, seed)
    stated = examples(encode, frame(taught))
    further = [_line(encode, frame, pack, line.prompt, line.answer) for line in lines]
    every = [*stated, *further]
    kinds = [IMPLICATIONS if fact.relation in taught.then_relations else FACTS for fact in taught.facts]

    def rows_in(epoch: int) -> Sequence[Example]:
        kind = pipeline.only(epoch, training.epochs)
        return every if kind is None else [row for row, own in zip(stated, kinds, strict=True) if own == kind]

    ordered = any(pipeline.only(epoch, training.epochs) for epoch in range(1, training.epochs + 1))
    if ordered and len(set(kinds)) < 2:
        do = "Use another remedy"
        raise UsageError("only one kind of rows is stated, so they cannot be trained one before the other", do=do)
    scene = Context(loaded.model, encode, worded, seed)
    return TrainingSet(
        every, rows_in if ordered else None, pipeline.loss(scene), lambda model: pipeline.finish(scene, model)
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
