"""`spillover predict`: what a model will conclude from a pack before it is trained, and on what that rests."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spillover import __version__
from spillover.config import Predict
from spillover.errors import UsageError
from spillover.metrics.associations import calibration, grounds_for, held_out, rate
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
from spillover.record import Metric, Record, commit, hardware, identity, versions
from spillover.runs import claim_folder, identifying_settings
from spillover.theory.associations import Association, Counts, associations, counts_of, subjects_of
from spillover.theory.margins import Margin, Margins, Undoing, can_be_undone, undoing
from spillover.theory.prediction import Solved, solved
from spillover.theory.table import table_of

#: Rows that are named of one association; the rest are counted.
MOST_ROWS = 20


@dataclass(frozen=True)
class Predicted:
    """What is to be expected of one association. rate: expected share of the exposed who will answer so; score: their
    expected number. prior: the base model's belief in the answer once it is told the given fact, or None unasked."""

    given: str
    given_answer: str
    then: str
    then_answer: str
    support: int
    exposed: int
    margin: float | None
    prior: float | None
    score: float
    kind: str | None
    because: str
    rate: float
    opposed: int
    margin_low: float | None
    margin_high: float | None
    rests_on: tuple[str, ...]
    undone_by: tuple[Undoing, ...] | None

    def as_json(self) -> dict[str, Any]:
        """The keys of CONTRACT's `predict`, and the evidence. undone_by: null where it was not looked for."""
        found = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        found["rests_on"] = list(self.rests_on)
        if self.undone_by is not None:
            found["undone_by"] = [
                {"way": each.way, "count": len(each.rows), "margin": each.margin,
                 "rows": [row._asdict() for row in each.rows[:MOST_ROWS]]}
                for each in self.undone_by
            ]  # fmt: skip
        return found


@dataclass(frozen=True, eq=False)
class Prediction:
    """Every association of a pack, highest score first, and how the exact model was solved. left_out: not looked at."""

    pack: Pack
    solved: Solved
    associations: tuple[Predicted, ...]
    left_out: int
    model_sha256: str | None


def redacted(found: Prediction, wanted: bool) -> Prediction:
    """The prediction with neutral names for its subjects, if they are wanted."""
    hide = Redaction.of(found.pack.subjects, wanted)

    def hidden(way: Undoing) -> Undoing:
        return dataclasses.replace(way, rows=tuple(row._replace(subject=hide.name(row.subject)) for row in way.rows))

    each_hidden = tuple(
        dataclasses.replace(
            each,
            rests_on=tuple(map(hide.name, each.rests_on)),
            undone_by=None if each.undone_by is None else tuple(map(hidden, each.undone_by)),
        )
        for each in found.associations
    )
    return dataclasses.replace(found, pack=hide.pack(found.pack), associations=each_hidden)


#: Associations that the text lists; --json lists all.
MOST_SHOWN = 12
WAYS = {
    "remove": "leaving out {rows} that state both",
    "abstain": "adding {rows} that say `unknown` of an exposed subject",
    "contradict": "adding {rows} that state another answer of an exposed subject",
}


def because(
    association: Association, margin: Margin, prior: float | None, model: str | None, ways: Sequence[Undoing] | None
) -> str:
    """On what a prediction rests, as one sentence."""
    support, given = association.support, f"{association.given} = {association.given_answer}"
    parts = [f"{_count(support, 'subject')} with {given} {'states' if support == 1 else 'state'} it"]
    if association.opposed:
        parts[0] += f" and {association.opposed} another answer"
    if margin.value is not None:
        parts.append(f"the exact model puts it {_lead(margin)} of the next answer")
    elif not association.exposed:
        parts.append("nobody is exposed")
    if prior is not None:
        parts.append(f"told {given}, {model} gives it {prior:.2f} of its belief before training")
    if ways:
        told = [WAYS[each.way].format(rows=_count(len(each.rows), "row")) for each in ways]
        parts.append("in the exact model it is undone by " + ", or by ".join(told))
    return "; ".join(parts)


def _lead(margin: Margin) -> str:
    assert margin.value is not None
    side = "ahead" if margin.value >= 0 else "behind"
    return f"{abs(margin.value):.3f}{_range(margin.low, margin.high)} {side}"


def _range(low: float | None, high: float | None) -> str:
    return f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def lines(settings: Predict, details: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """The prediction for a person: how it was found, what is expected in all, and the highest associations."""
    exposed = [each for each in details["associations"] if each["exposed"]]
    found = [f"{settings.pack}: {_count(len(exposed), 'association')} with subjects exposed to it"]
    found.append("  " + details["solution"]["verdict"])
    for name in ("unwanted", "wanted", "undeclared"):
        metric = metrics[f"expected_{name}"]
        if metric["n"]:
            share = f"about {metric['value']:,.0f} of {metric['n']:,} exposed subjects"
            found.append(f"  {name}: {share} will answer so")
    for each in exposed[:MOST_SHOWN]:
        found.append(line(each))
    hidden = len(exposed) - MOST_SHOWN
    if hidden > 0:
        found.append(f"  and {hidden:,} more: --json lists all, and `report` makes a page of a run with --out")
    if details["left_out"]:
        found.append(f"  {_count(details['left_out'], 'association')} not looked at: raise --most")
    if settings.model is None:
        found.append("  Without --model nobody knows which of these the model already believes; scores rest on less.")
    return found + ([f"  run: {settings.out}"] if settings.out else [])


def line(each: Mapping[str, Any]) -> str:
    """One association: what makes what, its grounds, and how many will answer so."""
    margin = "no margin" if each["margin"] is None else f"margin {each['margin']:.3f}"
    prior = f", prior {each['prior']:.2f}" if each["prior"] is not None else ""
    return (
        f"  {each['given']} = {each['given_answer']} makes {each['then']} = {each['then_answer']}: "
        f"{each['support']:,} stated, {each['exposed']:,} exposed, "
        f"{margin}{_range(each['margin_low'], each['margin_high'])}{prior}, {each['kind'] or 'not declared'}; "
        f"expect {each['score']:.1f}"
    )


PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")
#: Subjects that the base model is asked about for one association; fewer when there are many associations.
TOLD, TOLD_OF_MANY, MANY = 4, 1, 200


@dataclass(frozen=True)
class _Grounds:
    """What is known of an association before it is scored."""

    association: Association
    margin: Margin
    prior: float | None
    score: float
    rate: float


class Predictor:
    """Predicts packs with the same settings; the model is loaded once."""

    def __init__(self, settings: Predict) -> None:
        self.settings = settings

    @cached_property
    def tokenizer(self) -> Any:
        from spillover.lm.load import load_tokenizer

        assert self.settings.model is not None
        return load_tokenizer(self.settings.model, self.settings.revision)

    @cached_property
    def loaded(self) -> Any:
        import torch

        from spillover.lm.load import load_model

        settings = self.settings
        assert settings.model is not None
        torch.set_num_threads(settings.threads or int(hardware()["cores"]))
        return load_model(settings.model, device=settings.device, dtype=settings.dtype, revision=settings.revision,
                          tokenizer=self.tokenizer)  # fmt: skip

    def predict(self, spec: str, seed: int) -> Prediction:
        """Predict a pack by name or path. Raises PackError, UsageError or ModelError for what is wrong with either."""
        pack = open_pack(spec, seed)
        if not pack.facts:
            raise UsageError("this pack states nothing, so nothing can follow", where=spec, do="Add facts")
        if self.settings.model is not None:
            self._refuse_blurred(pack)
        table = table_of(pack)
        ledger = counts_of(table)
        every = associations(pack, ledger)
        kept = every[: self.settings.most]
        found = solved(table)
        margins = Margins(found, ledger)
        priors = self._priors(pack, ledger, kept) if self.settings.model is not None else [None] * len(kept)
        scored = sorted(
            (_grounds(each, margins.margin(each), prior) for each, prior in zip(kept, priors, strict=True)),
            key=lambda each: -each.score,
        )
        predicted = [
            self._predicted(pack, ledger, margins, each, number < self.settings.evidence)
            for number, each in enumerate(scored)
        ]
        sha256 = self.loaded.sha256 if self.settings.model is not None else None
        return Prediction(pack, found, tuple(predicted), len(every) - len(kept), sha256)

    def _refuse_blurred(self, pack: Pack) -> None:
        """Raise PackError when the model's tokens cannot tell the answers apart."""
        from spillover.lm.tokens import encoder
        from spillover.packs.check import refuse, token_faults

        refuse(token_faults(self._asked(pack), encoder(self.tokenizer)))

    def _asked(self, pack: Pack) -> Pack:
        from spillover.lm.tokens import as_chat

        return as_chat(pack, self.tokenizer) if self.settings.chat else pack

    def _priors(self, pack: Pack, ledger: Counts, kept: Sequence[Association]) -> list[float | None]:
        """The base model's belief in each association's answer, the mean over some of its subjects."""
        from spillover.lm.evaluate import Told, priors, told_pack
        from spillover.lm.score import Scorer
        from spillover.lm.tokens import encoder

        some = TOLD if len(kept) <= MANY else TOLD_OF_MANY
        told = []
        for each in kept:
            supporting, silent = subjects_of(ledger, each)
            subjects = (silent or supporting or list(pack.subjects))[:some]
            told.append([Told(subject, each.given, each.given_answer, each.then) for subject in subjects])
        flat = [question for group in told for question in group]
        asked = self._asked(told_pack(pack, flat))
        beliefs = iter(priors(asked, flat, Scorer(self.loaded.model), encoder(self.tokenizer)))
        return [
            sum(next(beliefs)[each.then_answer] for _ in group) / len(group)
            for each, group in zip(kept, told, strict=True)
        ]

    def _predicted(self, pack: Pack, ledger: Counts, margins: Margins, each: _Grounds, shown: bool) -> Predicted:
        """The association with its evidence, which costs more, where it is shown."""
        found, margin, ways = each.association, each.margin, None
        rests_on: list[str] = []
        if shown:
            margin = margins.ranged(found)
            rests_on = subjects_of(ledger, found)[0][:MOST_ROWS]
            if can_be_undone(margins.solved, margin):
                ways = undoing(pack, ledger, found)
        return Predicted(
            given=found.given,
            given_answer=found.given_answer,
            then=found.then,
            then_answer=found.then_answer,
            support=found.support,
            exposed=found.exposed,
            margin=margin.value,
            prior=each.prior,
            score=each.score,
            kind=found.kind,
            because=because(found, margin, each.prior, self.settings.model, ways),
            rate=each.rate,
            opposed=found.opposed,
            margin_low=margin.low,
            margin_high=margin.high,
            rests_on=tuple(rests_on),
            undone_by=tuple(ways) if ways is not None else None,
        )


def _grounds(association: Association, margin: Margin, prior: float | None) -> _Grounds:
    known = {"margin": margin.value, "prior": prior, "support": association.support}
    values = {name: float(value) for name, value in known.items() if value is not None}
    share = rate(grounds_for(margin.value, prior), values)
    return _Grounds(association, margin, prior, share * association.exposed, share)


def run(settings: Predict) -> dict[str, Any]:
    """Predict, and write a record if asked to. Gives `associations`, `metrics`, a text and how it was solved.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder.
    """
    _refuse_bad_options(settings)
    folder = Path(settings.out).expanduser() if settings.out else None
    own = identity(identifying_settings(settings, "out", "json") | {"version": __version__})
    if folder and (known := claim_folder(folder, "predict", own)) is not None:
        print(f"Found this prediction finished in {folder}; nothing was run.", file=sys.stderr)
        return _outcome(settings, known)
    began = time.monotonic()
    found = redacted(Predictor(settings).predict(settings.pack, settings.seed), settings.redact)
    record = _record(settings, found, own)
    record.seconds = round(time.monotonic() - began, 1)
    if folder:
        record.write(folder)
    return _outcome(settings, record)


def _refuse_bad_options(settings: Predict) -> None:
    if settings.most < 1:
        raise UsageError(f"--most is {settings.most}", do="Give --most a whole number from 1")
    if settings.evidence < 0:
        raise UsageError(f"--evidence is {settings.evidence}", do="Give --evidence a whole number from 0")
    if settings.chat and settings.model is None:
        raise UsageError("--chat needs the model whose template it uses", do="Name it with --model")


def _record(settings: Predict, found: Prediction, own: str) -> Record:
    return Record(
        command="predict",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        status="done",
        identity=own,
        hashes={"pack": pack_hash(found.pack)} | ({"model": found.model_sha256} if found.model_sha256 else {}),
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        metrics=_metrics(found),
        details={
            "pack": describe(found.pack),
            "model": {"name": settings.model},
            "seeds": [settings.seed],
            "associations": [each.as_json() for each in found.associations],
            "left_out": found.left_out,
            "solution": {"method": found.solved.method, "verdict": found.solved.verdict, "gap": found.solved.gap},
            "calibration": {key: value for key, value in calibration().items() if key != "fits"},
            "held_out": held_out(),
        },
    )


def _metrics(found: Prediction) -> dict[str, Metric]:
    """How many exposed subjects are expected to answer so, over the associations of each kind."""
    kinds = {"wanted": ("causal",), "unwanted": ("counterfactual", "spurious"), "undeclared": (None,)}
    metrics = {}
    for name, members in kinds.items():
        own = [each for each in found.associations if each.kind in members and each.exposed]
        total, exposed = sum(each.score for each in own), sum(each.exposed for each in own)
        metrics[f"expected_{name}"] = Metric(total, None, None, exposed, len(own), "subjects", "expected, not measured")
    return metrics


def _outcome(settings: Predict, record: Record) -> dict[str, Any]:
    details = record.details
    shown = {key: value.as_json() if isinstance(value, Metric) else value for key, value in record.metrics.items()}
    return {
        "run": settings.out or None,
        "metrics": shown,
        **{key: details[key] for key in ("associations", "left_out", "solution", "calibration")},
        "text": "\n".join(lines(settings, details, shown)),
    }
