"""`spillover predict`: what a model will conclude from a pack before it is trained, and on what that rests."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from spillover import results
from spillover.commands.held import Model, held_folder, held_model, identifying, name_of, settings_from
from spillover.commands.prepare import (
    asked_of,
    judge_of,
    measured_remedies,
    pack_sha256,
    weights_now,
    weights_of,
    worded,
    words_of,
)
from spillover.config import Chat, Flag, Running, refuse_idle
from spillover.details import FOUND, FoundLink, ModelFacts, PredictDetails, PredictedAssociation, Undone
from spillover.errors import UsageError
from spillover.metrics.associations import EXPECTED, best_features, calibrated_on, calibration, held_out, rate
from spillover.metrics.found import found_in_pack, standing_out
from spillover.metrics.verdicts import decidable
from spillover.packs.open import open_pack
from spillover.packs.pack import AUTO, Implication, Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
from spillover.packs.write import refuse_taken, write_pack
from spillover.record import Metric, Record
from spillover.runs import identity_of, open_run
from spillover.theory.associations import Margins, associations, can_be_undone, counts_of, subjects_of, undoing
from spillover.theory.prediction import Solved, solved
from spillover.theory.table import table_of

if TYPE_CHECKING:
    from spillover.lm.chat import Words
    from spillover.lm.judge import Prior
    from spillover.lm.load import LoadedModel
    from spillover.theory.associations import Association, Margin, Undoing


@dataclass(frozen=True, kw_only=True)
class Predict(Running, Chat):
    """Before any training: what a model will conclude from a pack, how strongly, and what that rests on."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, a pack.yaml, or a training file."""
    model: str | None = None
    """The model that is to be trained, which is asked what it believes already; without it, scores rest on the pack
    alone."""
    out: str = ""
    """Folder for record.json, from which `report` makes a page; by default nothing is written."""
    draft: str = ""
    """Also write the pack to this new folder with the implications that its rows suggest, to edit: their kind is auto
    until you say whether they are true."""
    evidence: int = 10
    """For this many of the highest scores, also compute the margin's range and the smallest edit that would undo it."""
    most: int = 2000
    """Look at no more associations than this, those with the most exposed subjects first."""
    redact: Flag = False
    """Write `subject 1`, `subject 2` and so on, in the order of the pack, in place of subjects' names. Answers stay as
    they are, even one that is a subject's name; so do paths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, number, least in (("most", self.most, 1), ("evidence", self.evidence, 0)):
            if number < least:
                raise UsageError(f"--{name} is {number}", do=f"Give --{name} a whole number from {least}")
        if self.model is None:
            refuse_idle(self, ("chat", "device", "dtype", "revision"), "needs the model that is asked",
                        "Name it with --model, or leave the option out")  # fmt: skip


PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")
#: Facts that are named for one association, the rest counted; associations that the text lists, --json lists all.
MOST_FACTS, MOST_SHOWN = 20, 12
#: Associations that nobody declared and whose kind the base model judges.
JUDGED = 100
WAYS = {
    "remove": "leaving out {rows} that state both",
    "abstain": "adding {rows} that say `unknown` of an exposed subject",
    "contradict": "adding {rows} that state another answer of an exposed subject",
}
NOTE = "expected, not measured"


def predict(
    pack: Pack | str | Path, model: Model | None = None, *, out: str | Path = "", **options: Any
) -> results.Prediction:  # fmt: skip
    """Predict what a model will conclude from a pack, before any training.

    Arguments:
    - pack: a pack, or what `open_pack` opens.
    - model: to be trained: a tag, hub id or folder, or a transformers model and its tokenizer; without one, scores
      rest on the pack alone.
    - out: folder of the record; without one, a temporary folder that goes with the result.
    - options: of `spillover predict`, as `evidence=2`.

    Returns: the prediction: `.associations`, highest score first, and `.metrics`.

    Raises: SpilloverError for anything wrong with the options, the pack, the model or the folder.
    """
    folder, holder = held_folder(out)
    name = name_of(model) if model else None
    run(settings_from(Predict, pack=name_of(pack), model=name, out=folder, **options), pack, model)
    return results.Prediction(folder, holder)


def run(settings: Predict, pack: Pack | str | Path = "", model: Model | None = None) -> dict[str, Any]:
    """Predict, and write a record if asked to. pack, model: those that a Python caller holds, in place of names."""
    if settings.draft:
        refuse_taken(Path(settings.draft).expanduser())
    loaded = held_model(model) if model else None
    held, words = identifying(pack, *([loaded.sha256] if loaded else [])), None
    pack = asked = open_pack(pack or settings.pack, settings.seed)
    settings, more = worded(settings, pack, (settings.model or "", loaded))
    suggested = found_in_pack(pack)
    rules = standing_out(suggested)
    if settings.draft:
        draft = dataclasses.replace(pack, implications=(*pack.implications, *rules))
        write_pack(draft, Path(settings.draft).expanduser())

    def made_from() -> dict[str, str | None]:
        model = weights_now(model=(settings.model, loaded, settings.revision, "")) if settings.model else {}
        return {"pack": pack_sha256([asked], settings.redact), **model}

    identity = identity_of(settings, "draft", **held, **more)
    with open_run(settings.out, "predict", identity, made_from=made_from) as opened:
        if opened.finished is None:
            if not pack.facts:
                raise UsageError("this pack states nothing, so nothing can follow", where=settings.pack, do="Add facts")
            if settings.model:
                words = words_of(settings.model, loaded, settings)
                asked_of(words, pack)
                loaded = weights_of(settings.model, loaded, words.tokenizer, settings)
                pack = judge_of(pack, words, loaded).judged(loaded.sha256)
            redacted = Redaction.of_pack(pack, settings.redact).pack(pack)
            hashes = {"pack": pack_hash(redacted)} | ({"model": loaded.sha256} if loaded else {})
            with opened.recording(settings, PACKAGES, seed=settings.seed, hashes=hashes) as record:
                found, solution, left_out = _predicted(settings, pack, loaded, words)
                ps = {(each.implication.given, given, each.implication.then, each.implication.map[given]): p
                      for each in suggested for given, p in each.entries.items()}  # fmt: skip
                for each in found if suggested else ():
                    each.p = ps.get(each.link)
                redacted = replace(redacted, implications=pack.implications)
                record.metrics = _metrics(found)
                record.details = PredictDetails(
                    pack=describe(redacted),
                    model=ModelFacts(name=settings.model),
                    seeds=[settings.seed],
                    associations=found,
                    found=[FoundLink(**each.outline()) for each in suggested],
                    left_out=left_out,
                    solution={"method": solution.method, "verdict": solution.verdict, "gap": solution.gap},
                    calibration={key: value for key, value in calibration().items() if key != "fits"},
                    calibrated_on=calibrated_on(loaded.model.config.model_type if loaded else None),
                    held_out=held_out(),
                    decidable=decidable(pack if pack.implications else dataclasses.replace(pack, implications=rules)),
                    **more,
                )
        metrics, text = opened.record.metrics, "\n".join(_lines(settings, opened.record))
        keys = ("associations", "found", "left_out", "solution", "calibration", "calibrated_on", "decidable")
        shown = opened.record.details.as_json(*keys)
        return {"run": settings.out or None, "metrics": metrics, **shown, "text": text}


def _predicted(
    settings: Predict, pack: Pack, loaded: LoadedModel | None, words: Words | None
) -> tuple[list[PredictedAssociation], Solved, int]:
    """The pack's associations, highest score first; how the exact model was solved; how many were not looked at."""
    table = table_of(pack)
    counts = counts_of(table)
    every = associations(pack, counts)
    kept = every[: settings.most]
    evidence: dict[str, str] = {}
    if loaded and words:
        kept, evidence = _judged(pack, loaded, words, kept)
    margins = Margins(solved(table), counts)
    priors: list[Prior | None] = [None] * len(kept)
    if loaded and words:
        links = [(each.given, each.given_answer, each.then, each.then_answer) for each in kept]
        priors = judge_of(pack, words, loaded).priors(links)
    scored: list[tuple[float, Association, Margin, Prior | None]] = []
    for association, prior in zip(kept, priors, strict=True):
        margin = margins.margin(association)
        features = {"margin": margin.value, "support": float(association.support)}
        features |= {"prior": prior.belief, "lift": prior.lift} if prior else {}
        scored.append((rate(best_features(features), features), association, margin, prior))
    scored.sort(key=lambda each: -each[0] * each[1].exposed)
    hide = Redaction.of_pack(pack, settings.redact)
    found = []
    for place, (own_rate, association, margin, prior) in enumerate(scored):
        explained = place < settings.evidence
        margin = margins.margin(association, ranged=True) if explained else margin
        supporting = subjects_of(counts, association)[0][:MOST_FACTS] if explained else []
        ways = undoing(pack, counts, association) if explained and can_be_undone(margins.solved, margin) else None
        found.append(
            PredictedAssociation(
                **dataclasses.asdict(association), margin=margin.value, margin_low=margin.low, margin_high=margin.high,
                prior=prior.belief if prior else None, lift=prior.lift if prior else None,
                rate=own_rate, score=own_rate * association.exposed,
                because=_because(association, margin, prior, settings.model, ways, evidence.get(association.text, "")),
                rests_on=[hide.name(subject) for subject in supporting],
                undone_by=None if ways is None else [
                    Undone(way=way.way, count=len(way.rows), margin=way.margin, rows=[
                        row._asdict() | {"subject": hide.name(row.subject)} for row in way.rows[:MOST_FACTS]
                    ])
                    for way in ways
                ],
            )
        )  # fmt: skip
    return found, margins.solved, len(every) - len(kept)


def _judged(
    pack: Pack, loaded: LoadedModel, words: Words, kept: Sequence[Association]
) -> tuple[list[Association], dict[str, str]]:
    """The associations, the first exposed ones that nobody declared with the kind that the base model judges; and on
    what judged kinds rest, by the association's text."""
    some = [each for each in kept if each.kind is None and each.exposed][:JUDGED]
    rules = [Implication(each.given, each.then, AUTO, {each.given_answer: each.then_answer}) for each in some]
    judged = dict(zip(some, judge_of(pack, words, loaded).kinds(rules, loaded.sha256), strict=True))
    found = [dataclasses.replace(each, kind=judged[each].kind) if each in judged else each for each in kept]
    declared = {(rule.given, rule.then): rule.because for rule in pack.implications}
    evidence = {each.text: declared.get((each.given, each.then), "") for each in kept}
    return found, evidence | {each.text: rule.because for each, rule in judged.items()}


def _metrics(found: Sequence[PredictedAssociation]) -> dict[str, dict[str, Any]]:
    """How many exposed subjects are expected to answer so, over the associations of each kind."""
    metrics = {}
    for name, kinds in EXPECTED.items():
        members = [each for each in found if each.kind in kinds and each.exposed]
        total, exposed = sum(each.score for each in members), sum(each.exposed for each in members)
        metrics[f"expected_{name}"] = Metric(total, None, None, exposed, len(members), "subjects", NOTE).as_json()
    return metrics


def _because(
    association: Association, margin: Margin, prior: Prior | None, model: str | None, ways: Sequence[Undoing] | None,
    judged: str,
) -> str:  # fmt: skip
    """On what a prediction rests, as one sentence. judged: on what its kind rests, where the base model judged it."""
    support, given = association.support, f"{association.given} = {association.given_answer}"
    parts = [f"{_count(support, 'subject')} with {given} {'states' if support == 1 else 'state'} it"]
    if association.opposed:
        parts[0] += f" and {association.opposed} another answer"
    if margin.value is not None:
        lead = f"{abs(margin.value):.3f}{_range(margin.low, margin.high)} {'ahead' if margin.value >= 0 else 'behind'}"
        parts.append(f"the exact model puts it {lead} of the next answer")
    elif not association.exposed:
        parts.append("nobody is exposed")
    if prior is not None:
        said = f"told {given}, {model} gives it {prior.belief:.2f} of its belief before training"
        parts.append(
            f"{said}, {math.exp(prior.lift):.2g} times its geometric mean over the answers of {association.given}"
        )
    if ways:
        changes = [WAYS[each.way].format(rows=_count(len(each.rows), "row")) for each in ways]
        parts.append("in the exact model it is undone by " + ", or by ".join(changes))
    if judged:
        parts.append(f"its kind: {judged}")
    return "; ".join(parts)


def _lines(settings: Predict, record: Record) -> list[str]:
    """The prediction for a person: how it was found, what is expected in all, and the highest associations."""
    details = record.details_of(PredictDetails)
    every = [each for each in details.associations if each.exposed]
    exposed, going = [each for each in every if each.shown], [each for each in details.found if each.p <= FOUND]
    head = "that somebody is exposed to: the first half is stated of them, the second is not"
    lines = [f"{settings.pack}: {_count(len(every), 'association')} {head}"]
    lines.append(f"  {details.solution['verdict']}")
    for name in ("unwanted", "wanted", "undeclared"):
        metric = record.metrics[f"expected_{name}"]
        if metric["n"]:
            lines.append(f"  {name}: about {metric['value']:,.0f} of {metric['n']:,} exposed subjects will answer so")
    if details.calibrated_on:
        lines.append(f"  expected numbers are {details.calibrated_on.words}")
    if details.found:
        looked = (
            f"  not declared: {_count(len(details.found), 'link')} between two relations looked at; in {len(going):,}"
        )
        lines.append(f"{looked} the answers go together more than exchanged ones would (p up to {FOUND})")
    lines += [f"    {each.given} -> {each.then}: {each.text}; p = {each.p:.2g}" for each in going[:MOST_SHOWN]]
    lines += [f"  audit of {name}: {why}" for name, why in list(details.decidable.items())[:MOST_SHOWN]]
    lines += map(_line, exposed[:MOST_SHOWN])
    if idle := len(every) - len(exposed):
        lines.append(f"  not listed: {_count(idle, 'association')} of relations that do not go together")
    if (more := len(exposed) - MOST_SHOWN) > 0:
        lines.append(f"  and {more:,} more: --json lists all, and `report` makes a page of a run with --out")
    if record.metrics["expected_unwanted"]["n"]:
        lines += measured_remedies(finished=False)
    if details.left_out:
        lines.append(f"  {_count(details.left_out, 'association')} not looked at: raise --most")
    if settings.model is None:
        lines.append("  Without --model nobody knows which of these the model already believes; scores rest on less.")
    if settings.draft:
        lines.append(f"  draft: {settings.draft}, with {_count(len(going), 'implication')} of kind auto to edit")
    return lines + ([f"  run: {settings.out}"] if settings.out else [])


def _line(each: PredictedAssociation) -> str:
    """One association: what makes what, on what it rests, and how many will answer so."""
    margin = "no margin" if each.margin is None else f"margin {each.margin:.3f}"
    prior = "" if each.prior is None else f", prior {each.prior:.2f}, lift {each.lift or 0:.1f}"
    return (
        f"  {each.given} = {each.given_answer} makes {each.then} = {each.then_answer}: {each.support:,} stated, "
        f"{each.exposed:,} exposed, {margin}{_range(each.margin_low, each.margin_high)}{prior}, "
        f"{each.kind or 'not declared'}; expect {each.score:.1f}"
    )


def _range(low: float | None, high: float | None) -> str:
    return f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
