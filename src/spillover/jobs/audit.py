"""`spillover audit`: ask two models the same questions, and say which implications the second learned."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from spillover import __version__
from spillover.errors import UsageError
from spillover.facts.describe import describe, pack_hash
from spillover.facts.open import open_pack
from spillover.facts.pack import Pack
from spillover.jobs.output import claim_folder, telling
from spillover.jobs.redaction import Redaction
from spillover.measures import forgetting_nats
from spillover.measures.summary import summarise
from spillover.measures.verdict import Limits, Verdict, verdicts
from spillover.record import (
    ANSWERS,
    Metric,
    Record,
    checksums,
    commit,
    hardware,
    identity,
    sha256_of_texts,
    versions,
    write_atomically,
    write_table,
)
from spillover.settings import Audit

if TYPE_CHECKING:
    from spillover.llm.weights.loading import LoadedModel

PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow")
#: Checkpoints of the answers table.
BASE, TUNED = 0, 1


@dataclasses.dataclass
class _Seen:
    """What was asked of one model: its answers, losses on plain text, and what identifies it."""

    answers: pa.Table
    plain: Any
    tokens: Any
    sha256: str
    method: str | None


def run(settings: Audit) -> dict[str, Any]:
    """Compare the models. Gives the verdicts, metrics before (base) and after (tuned), a text, and the exit code.

    Raises SpilloverError for anything wrong with the options, the pack, a model or the folder.
    """
    _refuse_bad_numbers(settings)
    pack = open_pack(settings.pack, settings.seed)
    if not pack.implications:
        what = "this pack declares no implication, so there is nothing to judge"
        raise UsageError(what, where=settings.pack, do="Add `implications:` to its pack.yaml (docs/packs.md)")
    settings = _resolved(settings)
    folder = Path(settings.out).expanduser() if settings.out else None
    if folder and (found := claim_folder(folder, "audit", _identity_of(settings))) is not None:
        print(f"Found this audit finished in {folder}; nothing was run.", file=sys.stderr)
        return _outcome(settings, found.metrics, found.details["verdicts"], settings.out)
    began = time.monotonic()
    # Both names and tokenizers first, so that a mistake in the second does not wait for the first model's answers.
    tokenizers = [_tokenizer(settings, name, pack) for name in (settings.base, settings.tuned)]
    base = _examine(settings, settings.base, pack, BASE, tokenizers[BASE])
    tuned = _examine(settings, settings.tuned, pack, TUNED, tokenizers[TUNED])
    if base.sha256 == tuned.sha256:
        print("The two models have the same weights.", file=sys.stderr)
    hide = Redaction.of(pack.subjects, settings.redact)
    answers = hide.table(pa.concat_tables([base.answers, tuned.answers]))
    judged = verdicts(answers, pack.implications, Limits(settings.level, settings.negligible))
    metrics = summarise(answers)
    same = np.array_equal(base.tokens, tuned.tokens)
    metrics["forgetting_nats"] = forgetting_nats.measure(base.plain, tuned.plain, base.tokens) if same else None
    if folder:
        record = _record(settings, hide.pack(pack), base, tuned, judged, metrics)
        record.seconds = round(time.monotonic() - began, 1)
        write_table(folder / ANSWERS, answers)
        record.details = {**record.details, "files": checksums(folder, ANSWERS)}
        record.write(folder)
    if settings.junit:
        write_atomically(Path(settings.junit).expanduser(), junit(hide.text(pack.name), judged))
    return _outcome(settings, metrics, [each.as_json() for each in judged], settings.out)


def _refuse_bad_numbers(settings: Audit) -> None:
    for name in ("level", "negligible"):
        if not 0 < getattr(settings, name) < 1:
            raise UsageError(f"--{name} is {getattr(settings, name)}", do=f"Give --{name} a number between 0 and 1")
    if settings.junit and Path(settings.junit).expanduser().is_dir():
        raise UsageError("this is a folder, not a file", where=settings.junit, do="Name a file, such as audit.xml")


def _resolved(settings: Audit) -> Audit:
    from spillover.llm.weights.loading import pick_device

    threads = settings.threads or int(hardware()["cores"])
    return dataclasses.replace(settings, device=str(pick_device(settings.device)), threads=threads)


def _identity_of(settings: Audit) -> str:
    return identity(telling(settings, "out", "json", "junit", "fail_on") | {"version": __version__})


def _tokenizer(settings: Audit, name: str, pack: Pack) -> Any:
    """A model's tokenizer, once it is known to tell the pack's answers apart."""
    from spillover.facts.check import refuse, token_faults
    from spillover.llm.tokens import as_chat, encoder
    from spillover.llm.weights.loading import load_tokenizer

    tokenizer = load_tokenizer(name, settings.revision)
    refuse(token_faults(as_chat(pack, tokenizer) if settings.chat else pack, encoder(tokenizer)))
    return tokenizer


def _examine(settings: Audit, name: str, pack: Pack, checkpoint: int, tokenizer: Any) -> _Seen:
    """Ask one model everything; only one of the two is ever in memory."""
    import torch

    from spillover.llm.examination import Examination
    from spillover.llm.forgetting import passage_losses, passages
    from spillover.llm.scoring import Scorer
    from spillover.llm.tokens import as_chat, encoder
    from spillover.llm.weights.loading import load_model

    torch.set_num_threads(settings.threads)
    pack = as_chat(pack, tokenizer) if settings.chat else pack
    encode = encoder(tokenizer)
    loaded: LoadedModel = load_model(
        name, device=settings.device, dtype=settings.dtype, revision=settings.revision, tokenizer=tokenizer
    )
    scorer = Scorer(loaded.model)
    answers = Examination(pack, encode).answers(scorer, seed=settings.seed, checkpoint=checkpoint, full=True)
    plain, tokens = passage_losses(loaded.model, encode, passages())
    return _Seen(answers, plain, tokens, loaded.sha256, scorer.method)


def _record(
    settings: Audit, pack: Pack, base: _Seen, tuned: _Seen, judged: Sequence[Verdict], metrics: dict[str, Any]
) -> Record:
    return Record(
        command="audit",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        status="done",
        identity=_identity_of(settings),
        hashes={
            "pack": pack_hash(pack),
            "base": base.sha256,
            "tuned": tuned.sha256,
            "models": sha256_of_texts([base.sha256, tuned.sha256]),
        },
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        metrics=metrics,
        details={
            "pack": describe(pack),
            "model": {"name": f"{settings.tuned} (tuned from {settings.base})"},
            "seeds": [settings.seed],
            "scoring": tuned.method,
            "verdicts": [each.as_json() for each in judged],
        },
    )


def junit(suite: str, judged: Sequence[Verdict]) -> bytes:
    """A JUnit file: an implication a test, unwanted ones failed, undecided ones skipped."""
    failed, skipped = (sum(each.verdict == word for each in judged) for word in ("unwanted", "undecided"))
    root = ElementTree.Element("testsuite", name=_fit(suite), tests=str(len(judged)), failures=str(failed),
                               skipped=str(skipped), errors="0")  # fmt: skip
    for each in judged:
        case = ElementTree.SubElement(root, "testcase", classname=_fit(suite), name=_fit(each.implication))
        if each.verdict in ("unwanted", "undecided"):
            tag = "failure" if each.verdict == "unwanted" else "skipped"
            ElementTree.SubElement(case, tag, message=_fit(f"{each.verdict}: {each.because}"))
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _fit(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return "".join(c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
                   for c in text)  # fmt: skip


def _outcome(settings: Audit, metrics: Any, judged: Sequence[dict[str, Any]], run: str) -> dict[str, Any]:
    found = {each["verdict"] for each in judged}
    failing = {"unwanted": {"unwanted"}, "undecided": {"unwanted", "undecided"}, "never": set()}[settings.fail_on]
    shown = {key: value.as_json() if isinstance(value, Metric) else value for key, value in metrics.items()}
    return {
        "run": run or None,
        "metrics": shown,
        "verdicts": list(judged),
        "exit_code": 1 if found & failing else 0,
        "text": "\n".join([_line(each) for each in judged] + ([f"  run: {run}"] if run else [])),
    }


def _line(each: dict[str, Any]) -> str:
    """One verdict for a person: the word, the counts, and on what it rests."""
    counts = f"{each['hits']:,} of {each['n']:,} unstated subjects get the implied answer"
    counts += f" ({each['hits_before']:,} before; one fixed answer would get {each['guess']:,})"
    more = f"; about {each['more_subjects']:,} more subjects would decide it" if each["more_subjects"] else ""
    return f"{each['verdict'].upper()}  {each['implication']} ({each['kind']}): {counts}\n    {each['because']}{more}"
