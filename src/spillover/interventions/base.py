"""An intervention changes a run's data, its training or its finished weights; several of them make a pipeline.

Users know an intervention as a remedy: a name with a strength, as in `abstention=2`. At strength 0 nothing is done, so
every remedy is then the untreated run, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar

from torch import Tensor

from spillover.errors import UsageError, nearest
from spillover.lm.fine_tune import TrainingSet
from spillover.lm.judge import Judge
from spillover.lm.load import LoadedModel
from spillover.lm.score import CausalModel, Scorer
from spillover.lm.tokens import (
    Encoder,
    Example,
    continuation,
    encoder,
    examples,
    free_examples,
    longest_text,
    of_texts,
)
from spillover.lm.train import ExtraLoss, memory_of
from spillover.lm.trainable import Training
from spillover.packs.edits import held_out, unwanted
from spillover.packs.pack import Implication, Pack, Question

#: From this many wordings of a relation on, the last may be held out.
SPARE_WORDING = 3
#: The two kinds of stated rows: facts, and stated implications.
FACTS, IMPLICATIONS = "facts", "implications"


@dataclass(frozen=True)
class Remedy:
    """An intervention on offer. text: what it does, in one sentence. strength: what the number means.

    strengths: those that `mitigate` tries by default, weakest first. most: the greatest one allowed. whole: only whole
    numbers make sense. after: it needs no training of its own, only a finished model and its base. control: the remedy
    that it is the control of, if it is one; it is tried where it is named.
    """

    text: str
    strength: str
    strengths: Sequence[float]
    most: float
    whole: bool
    after: bool
    control: str
    make: Callable[[Spec], Intervention]


_REMEDIES: dict[str, Remedy] = {}
SWITCH = "which turns it on (1) or off (0)"
Make = TypeVar("Make", bound="Callable[[Spec], Intervention]")


def remedy(
    name: str, strength: str = SWITCH, strengths: Sequence[float] = (1.0,), most: float = 1.0, whole: bool = False,
    after: bool = False, text: str = "", control: str = "",
) -> Callable[[Make], Make]:  # fmt: skip
    """Decorator: offer an intervention as a remedy (see Remedy). Without a `strength` it is a switch.

    text: by default the first paragraph of the docstring, which is therefore written for users.
    """

    def register(make: Make) -> Make:
        says = text or " ".join((make.__doc__ or "").partition("\n\n")[0].split())
        _REMEDIES[name] = Remedy(says, strength, strengths, most, whole or strength == SWITCH, after, control, make)
        return make

    return register


def remedies() -> dict[str, Remedy]:
    """Every remedy by name, in the order in which they are tried and listed; read when they are first asked for."""
    from spillover.interventions import data, training, weights  # noqa: F401 (each adds its own)

    return _REMEDIES


def shelf() -> list[str]:
    """The names of the remedies that are tried where none is named: all but those that are another's control."""
    return [name for name, each in remedies().items() if not each.control]


@dataclass(frozen=True)
class Spec:
    """A remedy by name at one strength. Raises UsageError for a name or strength that does not exist."""

    name: str
    strength: float

    def __post_init__(self) -> None:
        known = self.remedy
        # Not a chain of refusals: a strength that is no number at all compares false with everything.
        if not 0 <= self.strength <= known.most or (known.whole and self.strength != int(self.strength)):
            do = f"Give {'a whole' if known.whole else 'a'} number from 0 to {known.most:g}, {known.strength}"
            raise UsageError(f"the strength {self.strength:g} is out of range", where=self.name, do=do)

    @property
    def remedy(self) -> Remedy:
        return find_remedy(self.name)

    def __str__(self) -> str:
        return f"{self.name}={self.strength:g}"


def find_remedy(name: str) -> Remedy:
    """A remedy by name. Raises UsageError with the nearest one that exists."""
    if name not in (known := remedies()):
        raise UsageError(f"there is no remedy called {name!r}", do=nearest(name, known))
    return known[name]


def read_specs(text: str) -> list[Spec]:
    """`NAME=STRENGTH`, several joined by `+`; the empty text is no remedy. Raises UsageError for what does not fit."""
    specs: list[Spec] = []
    for part in text.split("+") if text.strip() else ():
        name, _, strength = part.strip().partition("=")
        known = find_remedy(name)
        try:
            specs.append(Spec(name, float(strength)))
        except ValueError:
            do = f"Write it as {name}={known.strengths[0]:g}"
            raise UsageError(f"the strength {strength!r} is not a number", where=name, do=do) from None
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError(f"a remedy is named twice: {text}", do="Name each once")
    return specs


@dataclass(frozen=True)
class Context:
    """What an intervention may look at: the model before training, its tokens, the user's pack as worded, the seed.

    judge: of what the model before training warrants. hold_out: whether half of the subjects that are asked about, and
    the last wording of each relation that has three, are left out of what a penalty holds (packs.edits.held_out).
    without: a relation of which nothing is held.
    """

    base: CausalModel
    encode: Encoder
    pack: Pack
    seed: int
    judge: Judge | None = None
    hold_out: bool = False
    without: str = ""

    def questions(self) -> list[Question]:
        """The unstated questions at which a penalty may hold the model."""
        out: Collection[str] = ()
        if self.hold_out:
            out = held_out(self.pack, self.seed)
        asked = [each for each in self.pack.questions if each.relation != self.without]
        return [question for question in asked if question.subject not in out]

    def wordings(self, relation: str) -> range:
        """The numbers of the wordings in which it may hold it."""
        count = len(self.pack.relation_by_name[relation].prompts)
        return range(count - (self.hold_out and count >= SPARE_WORDING))


class Intervention:
    """A remedy at one strength. Every method does nothing unless a subclass says otherwise."""

    #: Whether it leaves out or rewrites a row that the user stated, so that the model never sees it.
    rewrites = False
    #: Whether it ends the training as soon as the stated rows are learned.
    stops = False
    #: Whether training goes on until it no longer lowers what the model says beyond what is warranted.
    settles = False

    def __init__(self, spec: Spec) -> None:
        self.name, self.strength = spec.name, spec.strength

    def pack(self, pack: Pack, seed: int) -> Pack:
        """The pack that is trained on; what is measured stays the user's own."""
        return pack

    def asked(self, pack: Pack) -> Pack:
        """The user's pack as it is measured, with a candidate more where training adds one."""
        return pack

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        """Further texts to train on, drawn anew for every seed: a prompt and its answer each."""
        return ()

    def training(self, training: Training) -> Training:
        """Other settings."""
        return training

    def trains(self, name: str, layers: int) -> bool:
        """Whether a parameter stays trained; layers: how many the model has."""
        return True

    def refuse(self, names: Sequence[str]) -> None:
        """Raise ModelError for a model, known by the names of its parameters, that this cannot be done to."""

    def loss(self, context: Context) -> ExtraLoss | None:
        """A term that is added to each step's loss."""
        return None

    def only(self, epoch: int) -> str | None:
        """The one kind of stated rows that an epoch (from 1) trains on, or None for both."""
        return None

    def finish(self, context: Context, tuned: CausalModel) -> None:
        """Change the tuned model in place, once its training is over."""


class Pipeline(Intervention):
    """Several interventions as one: each after the one before it, where the order matters. Empty, it does nothing.

    specs, steps: what is done, without specs of strength 0.
    """

    def __init__(self, specs: Sequence[Spec]) -> None:
        self.specs = [spec for spec in specs if spec.strength]
        self.steps = [spec.remedy.make(spec) for spec in self.specs]
        self.rewrites = any(step.rewrites for step in self.steps)
        self.stops = any(step.stops for step in self.steps)
        self.settles = any(step.settles for step in self.steps)

    def __str__(self) -> str:
        return "+".join(map(str, self.specs))

    @property
    def after(self) -> bool:
        """Whether it needs a finished model only."""
        return bool(self.specs) and all(spec.remedy.after for spec in self.specs)

    def pack(self, pack: Pack, seed: int) -> Pack:
        return reduce(lambda made, step: step.pack(made, seed), self.steps, pack)

    def asked(self, pack: Pack) -> Pack:
        return reduce(lambda made, step: step.asked(made), self.steps, pack)

    def extra_texts(self, pack: Pack, seed: int) -> Sequence[tuple[str, str]]:
        return [text for step in self.steps for text in step.extra_texts(pack, seed)]

    def training(self, training: Training) -> Training:
        return reduce(lambda made, step: step.training(made), self.steps, training)

    def trains(self, name: str, layers: int) -> bool:
        return all(step.trains(name, layers) for step in self.steps)

    def refuse(self, names: Sequence[str]) -> None:
        for step in self.steps:
            step.refuse(names)

    def loss(self, context: Context) -> ExtraLoss | None:
        terms = [term for step in self.steps if (term := step.loss(context)) is not None]
        if not terms:
            return None
        return terms[0] if len(terms) == 1 else _Sum(terms)

    def only(self, epoch: int) -> str | None:
        return next((kind for step in self.steps if (kind := step.only(epoch))), None)

    def finish(self, context: Context, tuned: CausalModel) -> None:
        for step in self.steps:
            step.finish(context, tuned)


class _Sum:
    """Several terms as one, which remembers what they do (lm.train.ExtraLoss)."""

    def __init__(self, terms: Sequence[ExtraLoss]) -> None:
        self.terms = terms
        self.memory = {f"{name} {place}": kept for place, term in enumerate(terms)
                       for name, kept in memory_of(term).items()}  # fmt: skip

    def __call__(self, model: CausalModel, step: int) -> Tensor:
        return sum((term(model, step) for term in self.terms[1:]), self.terms[0](model, step))


def unwanted_implications(pack: Pack, where: str) -> list[Implication]:
    """The unwanted implications. Raises UsageError when there is none, so that nothing could be done."""
    found = unwanted(pack)
    if not found:
        do = "Declare in pack.yaml what is not wanted, as an implication of kind spurious or counterfactual"
        what = "this pack declares no unwanted implication"
        if judged := [
            f"{each.name} is {each.kind.removeprefix('auto: ')}" for each in pack.implications if each.because
        ]:
            what = f"the base model judges no implication unwanted ({', '.join(judged)})"
            do = f"`spillover predict {where} --draft DIR` writes them to edit. {do}"
        raise UsageError(what, where=where, do=do)
    return found


def training_set(
    pipeline: Pipeline, pack: Pack, loaded: LoadedModel, training: Training, frame: Callable[[Pack], Pack],
    facts_known: bool = False, prompts: int = 1, hold_out: bool = False, without: str = "",
) -> TrainingSet:  # fmt: skip
    """What a run on a user's pack trains on under a pipeline. frame: words a pack for the model (see lm.chat).
    facts_known: only stated implications are trained. prompts: see `examples`. hold_out, without: see
    `Context`.

    Raises UsageError when a remedy does not fit the pack or leaves an epoch without rows, ModelError for the model.
    """
    encode, seed = encoder(loaded.tokenizer), training.seed
    pipeline.refuse([name for name, _ in loaded.model.named_parameters()])
    trained = pipeline.pack(pack, seed)
    if facts_known:
        trained = replace(trained, facts=tuple(each for each in trained.facts if each.relation in pack.then_relations))
        if not trained.facts:
            do = "Leave --facts-known out, or state what follows of some subjects"
            raise UsageError("no implication is stated, so there is nothing to train on", where=pack.name, do=do)
    framed = frame(trained)
    by_fact = [examples(encode, replace(framed, facts=(fact,)), prompts) for fact in framed.facts]
    stated = [example for each in by_fact for example in each]
    alone = frame(of_texts(pack))
    everything = stated + [
        continuation(encode, alone, alone.prompt("text", prompt), answer)
        for prompt, answer in pipeline.extra_texts(pack, seed)
    ]
    if pack.free and not facts_known:
        everything += free_examples(encode, alone, longest_text(loaded.model))
    by_kind: dict[str | None, list[Example]] = {None: everything, FACTS: [], IMPLICATIONS: []}
    for fact, own in zip(trained.facts, by_fact, strict=True):
        by_kind[IMPLICATIONS if fact.relation in trained.then_relations else FACTS] += own
    kinds = [pipeline.only(epoch) for epoch in range(1, training.epochs + 1)]
    if any(kinds) and not all(by_kind.values()):
        do = "Use another remedy"
        raise UsageError("only one kind of rows is stated, so they cannot be trained one before the other", do=do)
    judge = Judge(pack, frame, encode, Scorer(loaded.model))
    context = Context(loaded.model, encode, frame(pack), seed, judge, hold_out, without)
    return TrainingSet(
        everything, (lambda epoch: by_kind[kinds[epoch - 1]]) if any(kinds) else None, pipeline.loss(context),
        lambda model: pipeline.finish(context, model),
    )  # fmt: skip
