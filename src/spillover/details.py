"""What a record says beside settings and metrics: for each command the type of its details, as JSON holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

#: A value of an option, or a cell of a row.
Scalar = bool | int | float | str | None
#: Two relations go together in the stated rows when the chance that exchanged answers do so as well is no larger.
FOUND = 0.05


@dataclass(frozen=True)
class Metric:
    """A number with its 95% interval. n: rows it averages; clusters: (seed, pair) clusters; note: a caveat or None."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    unit: str
    note: str | None = None

    @classmethod
    def of(cls, value: object) -> Metric | None:
        """The metric that a value is, or that a mapping read from JSON describes; None for anything else."""
        if isinstance(value, Mapping) and "value" in value:
            return cls(**dict[str, Any]({item.name: value.get(item.name) for item in fields(cls)}))
        return value if isinstance(value, Metric) else None

    @model_serializer
    def as_json(self) -> dict[str, Any]:
        """The metric as CONTRACT names it; the note only when there is one."""
        return {name: value for name, value in vars(self).items() if name != "note" or value is not None}


class Fields(BaseModel):
    """Named fields of a record. Keys that have no field here, as other versions write them, are kept and written."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    def as_json(self, *names: str) -> dict[str, Any]:
        """These of its fields, or all, as JSON holds them: without those that were never set, but with those that were
        set to None."""
        return self.model_dump(include=set(names) or None, exclude_unset=True)


class Measured(Fields):
    """What has metrics, too, each under its own name."""

    __pydantic_extra__: dict[str, Metric | None]

    def metric(self, name: str) -> Metric | None:
        """The metric of this name; None when it was not measured."""
        return self.__pydantic_extra__.get(name)


class RelationOutline(Fields):
    name: str
    prompts: list[str]
    aliases: dict[str, tuple[str, ...]] = {}
    reply: str | None = None
    described: dict[str, str] = {}


class ImplicationOutline(Fields):
    given: str
    then: str
    kind: str = ""
    map: dict[str, str] = {}
    because: str = ""


class PackOutline(Fields):
    """A pack without its facts, which stay in the answers table."""

    name: str = ""
    licence: str = ""
    source: str = ""
    relations: list[RelationOutline] = []
    implications: list[ImplicationOutline] = []
    join: str = " "
    end: str | None = None
    counts: dict[str, int] = {}


class ModelFacts(Fields):
    """The model that was trained or asked; how many numbers it has, and how many of them were trained."""

    name: str | None = None
    licence_note: str = ""
    parameters: int | None = None
    trained_parameters: int | None = None


class Rendered(Fields):
    """How a model was asked in a chat: the text before and after the answer in the first prompt, and a hash of all."""

    model: str
    before: str
    after: str
    sha256: str


class CheckpointsWritten(Fields):
    written: int
    seconds: float


class LookInside(Fields):
    """What `--inside` took, and its share of the run."""

    seconds: float
    share: float | None


class Accuracy(Fields):
    """How often a judge (lm.judge) puts the implied answer first, of how many entries: of true and of arbitrary links
    of built-in packs."""

    true: tuple[int, int]
    arbitrary: tuple[int, int]

    @property
    def words(self) -> str:
        """The accuracy in words."""
        (hits, n), (wrong, others) = self.true, self.arbitrary
        return f"of known links it does so for {hits:,} of {n:,} true ones and {wrong:,} of {others:,} arbitrary ones"


class JudgeFacts(Fields):
    """What judging cost and could not do: seconds taken, questions judged, what was done otherwise than asked, and the
    judge's accuracy, where it is known. suggested: of a pack that declares no implication, those that its rows suggest,
    with the kinds that they were judged to be."""

    seconds: float = 0.0
    questions: int = 0
    notes: list[str] = []
    accuracy: Accuracy | None = None
    suggested: list[ImplicationOutline] = []


def judge_words(judge: JudgeFacts | None) -> str:
    """How far a judge is right, and what it did otherwise than asked, in words."""
    known = judge.accuracy if judge else None
    said = f"the judge: {known.words}" if known else "how often the judge is right about this model was not measured"
    return "; ".join([said, *(judge.notes if judge else ())])


class Details(Fields):
    """What the record of any command may say. files: SHA-256 of the tables, by name. rendered: of each model asked.
    judge: of what is warranted, where that was judged. saved: of the model that was written, if one was. forgetting: of
    several seeds, of the one that forgot most."""

    command: ClassVar[str] = ""
    judge: JudgeFacts | None = None
    pack: PackOutline = PackOutline.model_construct()
    model: ModelFacts = ModelFacts.model_construct()
    seeds: list[int] = []
    rendered: list[Rendered] = []
    files: dict[str, str] = {}
    checkpoints: CheckpointsWritten | None = None
    inside: LookInside | None = None
    saved: Saved | None = None
    forgetting: Forgetting | None = None

    @staticmethod
    def read(command: str, found: Mapping[str, Any]) -> Details:
        """The details of a command; of a run that has not got to its own details yet, those of any command."""
        kinds = {kind.command: kind for kind in Details.__subclasses__()}
        try:
            return kinds.get(command.partition(" ")[0], Details).model_validate(found)
        except ValidationError:
            return Details.model_validate(found)

    @classmethod
    def fault(cls, found: Mapping[str, Any]) -> str:
        """The first field that does not fit, and why."""
        try:
            cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        return ""


class Memory(Fields):
    """Bytes: estimated by part, free at the start, and taken at most. micro_batches: (from step, examples at once)."""

    micro_batches: list[list[int]] = []
    forecast: dict[str, Scalar] | None = None
    room: int | None = None
    peak: int | None = None


class PlainText(Fields):
    """Of each passage: nats a token before and after training, and its tokens."""

    before: list[float] = []
    after: list[float] = []
    tokens: list[float] = []


class Saved(Fields):
    """How many prompts were asked again of what was saved, and the most (nats) by which an answer's score was off."""

    prompts: int
    difference: float


class Forgetting(Fields):
    """By how much the loss on plain text has risen (nats a token), as (passes, rise): at each measurement on the way on
    a few passages, at the end on all. limit: of --max-forgetting; 0 is none."""

    limit: float
    checkpoints: list[tuple[int, float]] = []

    @classmethod
    def most(cls, runs: Iterable[InjectDetails]) -> Forgetting | None:
        """That of the run which forgot most, if any of them was watched."""
        watched = [each.forgetting for each in runs if each.forgetting]
        return max(watched, key=lambda each: each.worst, default=None)

    @property
    def worst(self) -> float:
        """The greatest rise; minus infinity when there is none."""
        return max((rise for _, rise in self.checkpoints), default=float("-inf"))

    @property
    def exceeded(self) -> int | None:
        """After how many passes the rise was first above the limit, if it ever was."""
        return next((at for at, rise in self.checkpoints if self.limit and not rise <= self.limit), None)

    @property
    def sentence(self) -> str:
        """What a person should know when it was."""
        rise = dict(self.checkpoints).get(self.exceeded or 0, 0.0)
        passes = "1 pass" if self.exceeded == 1 else f"{self.exceeded} passes"
        return (
            f"After {passes} the loss on plain text had risen by {rise:.2f} nats a token, more than {self.limit:g} "
            "(--max-forgetting): the model is losing what it could do. Lower --lr, or try --lr auto."
        )


class RateTrial(Fields):
    """What `--lr auto` saw of one rate: whether the stated rows were learned, after how many passes, and by how much
    the loss on plain text had risen then (nats a token)."""

    rate: float
    learned: bool
    passes: int
    rise: float


class InjectDetails(Details):
    """scoring: how answers were scored. moved: part -> the norm of its change over that of its start. rates_tried: by
    `--lr auto`, the last of which was taken."""

    command = "inject"
    scoring: str | None = None
    plain_text: PlainText = PlainText.model_construct()
    forward_passes: int = 0
    memory: Memory = Memory.model_construct()
    moved: dict[str, float] = {}
    rates_tried: list[RateTrial] = []


class TrainerDetails(Details):
    """Of a callback's run. measuring_seconds: what the measurements took."""

    command = "trainer"
    measuring_seconds: float


class AssociationVerdict(Fields):
    """What became of one entry of a map: of the n unstated subjects that have `given` stated.

    newly: how many of them have `answer` on top now and had not in the base model; others: how many of the others_n
    with another given answer. verdict, hits, hits_before, p, more_subjects, because: as of a Verdict.
    """

    given: str
    answer: str
    verdict: str
    n: int
    hits: int
    hits_before: int
    newly: int
    others: int
    others_n: int
    p: float
    more_subjects: int | None
    because: str

    def __repr__(self) -> str:
        return f"{self.given} -> {self.answer}: {self.verdict}; {self.because}"


class Verdict(Fields):
    """What became of one implication between base and tuned model.

    verdict: wanted, unwanted or undeclared (the tuned model now asserts it, and the pack says which it is, or does not
    say it), none, or undecided.
    hits: how many of the n unstated subjects have the implied answer on top; hits_before: in the base model; newly:
    only in the tuned one, with the 95% interval of their share; guess: what one fixed answer would get. p: the exact
    test of what is new (metrics.assertions), corrected as `correction` says. more_subjects: how many more would
    probably decide it; None when it is decided or none would. rule, rule_p: whether other pairs would show it too, and
    the larger of the exact map test and the test of the change; in older records, `p` is that one. kind_because: on
    what the kind rests, where the base model judged it. by_entries: it rests on some entries of the map, not on all.
    """

    implication: str
    kind: str
    verdict: str
    hits: int
    hits_before: int
    n: int
    guess: int
    rank: Metric | None
    rank_before: Metric | None
    marginal_rank: float | None
    p: float | None
    more_subjects: int | None
    because: str
    newly: int | None = None
    newly_low: float | None = None
    newly_high: float | None = None
    correction: str = ""
    rule: str = ""
    rule_p: float | None = None
    kind_because: str = ""
    by_entries: bool = False
    associations: list[AssociationVerdict] = []

    def __repr__(self) -> str:
        return f"{self.implication} ({self.kind or 'undeclared'}): {self.verdict}; {self.because}"


class Invented(Fields):
    """How many of the n open questions newly have a confident answer that no wanted link implies, and some of them.

    low, high: 95% interval of their share (older records hold none). examples: (subject, relation, answer, its
    probability in the base model at most, and in the tuned one).
    """

    count: int
    n: int
    low: float = 0.0
    high: float = 1.0
    examples: list[tuple[str, str, str, float, float]]


class Conclusion(Fields):
    """An entry of a map that the tuned model asserts: with `given` = `given_answer` it says `then` = `answer`.

    newly, n, others, others_n: as of an AssociationVerdict. subject: the first who newly gets it. rests_on: some of the
    `support` subjects of whom both are stated. prompt, said: how the subject was asked, and what the tuned model says
    of itself, its likeliest token at each step; None where answers were given in place of a model.
    """

    verdict: str
    given: str
    given_answer: str
    then: str
    answer: str
    newly: int
    n: int
    others: int
    others_n: int
    subject: str
    rests_on: list[str] = []
    support: int = 0
    prompt: str | None = None
    said: str | None = None

    @property
    def text(self) -> str:
        """The conclusion as one line."""
        link = f"{self.given} = {self.given_answer} makes {self.then} = {self.answer}"
        return f"{link}: {self.newly:,} of {self.n:,} newly, {self.others:,} of {self.others_n:,} others"


class Concluded(Fields):
    """What a tuned model newly says that nobody stated, by implications that it asserts.

    things: distinct subjects, relations and answers; people: their subjects, of `asked`. by_verdict: things by the
    verdict of their implication. worst: what to look at first.
    """

    things: int
    people: int
    asked: int
    by_verdict: dict[str, int]
    worst: list[Conclusion] = []


class Excess(Fields):
    """Of n unstated questions, in how many the tuned model's first answer is the base model's once told the subject's
    facts (follows), else the base model's without (before), or neither (beyond).

    nats: by how much the share of such a first answer exceeds what is warranted, the mean over those beyond; examples:
    (subject, relation, answer, its rank in what is warranted, nats) of those that exceed it most.
    """

    n: int
    follows: int
    before: int
    beyond: int
    nats: float | None
    examples: list[tuple[str, str, str, float, float]] = []

    @property
    def words(self) -> str:
        """The counts in a sentence."""
        end = f", and {self.before:,} {'is' if self.before == 1 else 'are'} as before" if self.before else ""
        follow = "follows" if self.follows == 1 else "follow"
        return (f"of {self.n:,} answers that nobody stated, {self.follows:,} {follow} from what the model knew, "
                f"{self.beyond:,} {'does' if self.beyond == 1 else 'do'} not{end}")  # fmt: skip


class Rise(Fields):
    """A word that the tuned model says more often in texts than the base model, beyond what the texts say themselves.

    group: the word that some rows hold, where it rose more in those than in other rows; empty of all texts. rise: by
    how many times a text, of a group less that in other rows; p: by exchanging the models text by text, of a group the
    rows that hold the word, corrected for all words and groups. texts, n: in how many texts it rose, of how many.
    stated: how many of these texts say the word themselves. row, beginning: where it rose most, row 0 for plain text;
    base, tuned: its probability there; words: how the base and the tuned model go on there. also: other words for which
    the same rose.
    """

    word: str
    token_id: int
    group: str = ""
    rise: float
    p: float
    texts: int
    n: int
    stated: int
    row: int
    beginning: str
    base: float
    tuned: float
    words: tuple[str, str]
    also: list[str] = []


class Rises(Fields):
    """Words that rose in texts (commands.audit_open.rises).

    rows, passages, places: texts of the training file or pack, plain ones, and places in them. groups: words that part
    the rows. found: what rose, at most `audit_open.LISTED` of each kind; more: how many further. control: how many
    words the same tests find of the base model against itself, rounded. counted: (word, share of places) of the
    words that are most often among the 100 whose logit rose most, the count of Diff Mining.
    """

    rows: int
    passages: int
    places: int
    groups: int
    found: list[Rise] = []
    more: int = 0
    control: int = 0
    counted: list[tuple[str, float]] = []


class AuditDetails(Details):
    """concluded: what the tuned model newly says that nobody stated. found: how many implications were found in the
    stated rows, of a pack that declares none. recall: (stated answers that the tuned model puts first, stated answers).
    reworded: (implications or associations asserted, tests) of the base model against itself in other words; None with
    one wording. discoveries, probes: what open probes found, and how much was asked (commands.audit_open.discover).
    rises: words that rose in texts, of an audit with open probes."""

    command = "audit"
    scoring: str | None
    concluded: Concluded | None = None
    found: int | None = None
    recall: tuple[int, int] | None = None
    excess: Excess | None = None
    invented: Invented | None = None
    reworded: tuple[int, int] | None = None
    verdicts: list[Verdict]
    discoveries: list[dict[str, Any]] = []
    probes: dict[str, float | int | None] = {}
    rises: Rises | None = None


class RemedyText(Fields):
    """What a remedy does, what its strength means, and whether a finished model is all that it needs."""

    text: str
    strength: str
    after: bool = False


class FrontierEntry(Measured):
    """One remedy at one strength, or the untreated run: its metrics (metrics.remedies.METRICS), and these.

    exact: leads in the exact model. free_rate: of unwanted answers without any association. replaced: of
    metrics.remedies.replaced_map. stated_nats: mean loss on stated rows. A cell that failed has its status alone.
    """

    cell: str
    remedy: str
    strength: float | None
    exact: dict[str, float | None] | None = None
    status: str
    free_rate: float | None = None
    replaced: dict[str, bool | int | float] | None = None
    stated_nats: float | None = None
    epochs: float | None = None
    steps: int | None = None
    forward_passes: int | None = None
    seconds: float | None = None


class Recommendation(Fields):
    """One remedy with its reason, or none."""

    remedy: str | None
    strength: float | None
    safe: bool
    because: str


class MitigateDetails(Details):
    """frontier: the untreated run first. saved: of the recommended model."""

    command = "mitigate"
    remedies: dict[str, RemedyText] = {}
    frontier: list[FrontierEntry] = []
    recommendation: Recommendation | None = None


class RepairSide(Measured):
    """The metrics of a model before or after its repair, and its audit's verdicts."""

    verdicts: list[Verdict]


class RepairDetails(Details):
    command = "repair"
    before: RepairSide
    after: RepairSide


class Undone(Fields):
    """The fewest rows of one way that would undo an association, and its margin then."""

    way: str
    count: int
    margin: float | None = None
    rows: list[dict[str, str]]


class PredictedAssociation(Fields):
    """What is expected of one association, with the keys of `predict --json`.

    rate: expected share of the exposed subjects who will answer so; score: their expected number. prior, lift: the base
    model's belief in the answer once told the given one, and by how many nats that lies above the mean over the given
    relation's answers (lm.judge); None without a model. rests_on: some supporting subjects. undone_by: the fewest rows
    of each way that would undo it, or None where that was not computed. p: of the two relations, where nobody declared
    the link: whether they go together in the stated rows (metrics.found).
    """

    given: str
    given_answer: str
    then: str
    then_answer: str
    support: int
    exposed: int
    margin: float | None = None
    prior: float | None = None
    lift: float | None = None
    score: float
    kind: str | None = None
    because: str
    rate: float
    opposed: int = 0
    margin_low: float | None = None
    margin_high: float | None = None
    rests_on: list[str] = []
    undone_by: list[Undone] | None = None
    p: float | None = None

    @property
    def link(self) -> tuple[str, str, str, str]:
        """Its four parts, which no other association of a prediction shares."""
        return self.given, self.given_answer, self.then, self.then_answer

    @property
    def shown(self) -> bool:
        """Whether it is declared, or its two relations go together in the stated rows."""
        return self.kind is not None or (self.p is not None and self.p <= FOUND)


class FoundLink(Fields):
    """An implication that the stated rows suggest and nobody declared; as a metrics.found.FoundImplication.

    entries: given answer -> p.
    """

    given: str
    then: str
    map: dict[str, str]
    bridging: int
    agreeing: int
    by_one: int
    exposed: int
    p: float
    entries: dict[str, float] = {}

    @property
    def text(self) -> str:
        """What the rows say, as one sentence without its first capital."""
        return (
            f"of {self.bridging:,} subjects with both stated, {self.agreeing:,} fit one answer for each given answer "
            f"({self.by_one:,} would fit one for all); {self.exposed:,} have {self.given} alone"
        )


class CalibratedOn(Fields):
    """On what the scores of a prediction were calibrated.

    models, packs, recipe: of the runs whose measured rates were fitted. same_type: whether the model that was asked is
    of one of their architectures; None when none was asked. words: all of it as a sentence.
    """

    models: list[str]
    packs: list[str]
    recipe: str
    same_type: bool | None
    words: str


class PredictDetails(Details):
    """associations: highest score first. found: implications that nobody declared, those that the stated rows suggest
    most first; the two relations of one go together when its p is at most FOUND. left_out: how many associations were
    not looked at. solution: method, verdict and gap of the exact model. calibration, held_out: as metrics.associations
    ships them. decidable: implication -> whether an audit of a model tuned on the pack could decide it, in words."""

    command = "predict"
    associations: list[PredictedAssociation]
    found: list[FoundLink] = []
    left_out: int = 0
    solution: dict[str, str | float | None] = {}
    calibration: dict[str, Any] = {}
    calibrated_on: CalibratedOn | None = None
    held_out: dict[str, Any] = {}
    decidable: dict[str, str] = {}


class PatchedPart(Measured):
    """A model with one part of a change, or without it: its metrics (metrics.patching), and these."""

    part: str
    kind: str
    left_out: bool
    moved: float | None


class Laziness(Fields):
    """How far each part moved, and how well the first-order expansion at the base weights predicts the answers.

    how: it was computed. alignment: group of questions -> metrics by name.
    """

    how: str
    moved: dict[str, float] = {}
    alignment: dict[str, dict[str, Metric | None]]


class Preference(Fields):
    """Of one seed, two reasons for which gradient descent may prefer a change: see `interp.patching.Preference`.

    before, after, disturbed: in nats a stated row.
    """

    seed: int
    before: float
    after: float
    squared_norm: float
    efficiency: float
    disturbed: list[float]


class WhereDetails(Details):
    """trained: the settings of the run that was taken apart. no_positions: why nothing was measured by position.

    preferences: one a seed; none in a folder that was written before they were measured.
    """

    command = "where"
    trained: dict[str, Any] = {}
    no_positions: str = ""
    parts: list[PatchedPart] = []
    laziness: Laziness | None = None
    preferences: list[Preference] = []


class StudyGroup(Fields):
    """Cells that a study shows together. plot: the name of their figure, or None."""

    name: str
    text: str = ""
    plot: str | None = None
    cells: list[str]


class StudyOutline(Fields):
    name: str
    title: str = ""
    text: str = ""
    groups: list[StudyGroup]


class CellState(Fields):
    """What was asked of a cell, whether it is done, failed or waiting, and its first failure."""

    cell: str
    verb: str
    options: dict[str, Any] = {}
    seeds: list[int] = [0]
    status: str
    error: str | None = None
    seconds: float = 0.0


class SweepDetails(Details):
    command = "sweep"
    study: StudyOutline
    cells: list[CellState]


class ExactPair(Fields):
    """Both exact solutions: `norm`, and the smallest unstated margin `margin_ratio_test`; and their cosine."""

    nuclear: dict[str, float | None]
    frobenius: dict[str, float | None]
    cosine: float


class LabDetails(Details):
    """Every experiment has its task, log n and the recipes of its arms; the others are of one or two alone."""

    command = "lab"
    task: dict[str, int]
    log_n: float
    arms: dict[str, dict[str, Any]]
    exact: ExactPair | None = None
    factorised: dict[str, Metric | dict[str, Metric]] = {}
    merged: dict[str, Metric | dict[str, Metric]] = {}
    sizes: list[dict[str, int | float]] = []
    ranks: list[int] = []
    lowest: dict[str, dict[str, float | None]] = {}
    contrast: dict[str, Metric] = {}
    order: list[str] = []
    exact_margin: float = 0.0
    deep_margin: float = 0.0
    mixed: list[dict[str, int | float]] = []
    abstaining: list[dict[str, Any]] = []
    contradicting: list[dict[str, Any]] = []


class SolveDetails(Details):
    """What `theory.solving.Solution` says: the bounds, and the answer to each question; or the rows to blame."""

    command = "solve"
    norm: str
    objective: float | None
    lower_bound: float | None
    gap: float | None
    status: str
    verdict: str
    signatures: int
    iterations: int
    questions: list[dict[str, Scalar]]
    rows: list[dict[str, str]] = []
