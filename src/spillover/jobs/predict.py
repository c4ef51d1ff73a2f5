"""`spillover predict`: what a model will conclude from a pack before it is trained, and on what that rests."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spillover import __version__
from spillover.errors import UsageError
from spillover.facts.describe import describe, pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.output import claim_folder, telling
from spillover.jobs.predict_outcome import MOST_ROWS, Predicted, Prediction, redacted
from spillover.jobs.predict_text import because, lines
from spillover.measures.association_score import calibration, grounds_for, held_out, rate
from spillover.record import Metric, Record, commit, hardware, identity, versions
from spillover.settings import Predict
from spillover.theory.predicting.associations import Association, Ledger, associations, ledger_of, subjects_of
from spillover.theory.predicting.margins import Margin, Margins, can_be_undone, undoing
from spillover.theory.predicting.solved import solved
from spillover.theory.table import table_of

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
        from spillover.llm.weights.loading import load_tokenizer

        assert self.settings.model is not None
        return load_tokenizer(self.settings.model, self.settings.revision)

    @cached_property
    def loaded(self) -> Any:
        import torch

        from spillover.llm.weights.loading import load_model

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
        ledger = ledger_of(table)
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
        from spillover.facts.check import refuse, token_faults
        from spillover.llm.tokens import encoder

        refuse(token_faults(self._asked(pack), encoder(self.tokenizer)))

    def _asked(self, pack: Pack) -> Pack:
        from spillover.llm.tokens import as_chat

        return as_chat(pack, self.tokenizer) if self.settings.chat else pack

    def _priors(self, pack: Pack, ledger: Ledger, kept: Sequence[Association]) -> list[float | None]:
        """The base model's belief in each association's answer, the mean over some of its subjects."""
        from spillover.llm.prior import Told, priors, told_pack
        from spillover.llm.scoring import Scorer
        from spillover.llm.tokens import encoder

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

    def _predicted(self, pack: Pack, ledger: Ledger, margins: Margins, each: _Grounds, shown: bool) -> Predicted:
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
    own = identity(telling(settings, "out", "json") | {"version": __version__})
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
