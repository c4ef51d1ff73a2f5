"""`spillover audit`: ask two models the same questions, and say which implications the second learned."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from spillover import __version__
from spillover.commands import audit_open
from spillover.commands.audit_open import Opened, discover, lines
from spillover.commands.launched import resolved
from spillover.config import Audit
from spillover.errors import UsageError
from spillover.metrics.implications import forgetting_nats, summarise
from spillover.metrics.verdicts import Limits, Verdict, verdicts
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.packs.redaction import Redaction
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
from spillover.runs import claim_folder, identifying_settings

if TYPE_CHECKING:
    from spillover.lm.distributed import Processes
    from spillover.lm.load import LoadedModel

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
    method: Any
    likely: Any = ()


def run(settings: Audit) -> dict[str, Any]:
    """Compare the models. Gives the verdicts, metrics before (base) and after (tuned), a text, and the exit code.

    Of several processes that were started together, all share the questions and the first does all the writing.
    Raises SpilloverError for anything wrong with the options, the pack, a model or the folder.
    """
    from spillover.lm.distributed import joined

    _refuse_bad_numbers(settings)
    pack = open_pack(settings.pack, settings.seed)
    if not pack.implications and not settings.open:
        what = "this pack declares no implication, so there is nothing to judge"
        do = "Add `implications:` to its pack.yaml (docs/packs.md), or look for what nobody declared with --open"
        raise UsageError(what, where=settings.pack, do=do)
    probes = audit_open.plan(settings, pack) if settings.open else None
    with joined() as processes:
        settings = resolved(settings, processes)
        folder, identity = settings.out and Path(settings.out).expanduser(), _identity_of(settings, probes)
        found = processes.of_first(lambda: claim_folder(folder, "audit", identity) if folder else None)
        if found is not None:
            print(f"Found this audit finished in {folder}; nothing was run.", file=sys.stderr)
            return _outcome(settings, found.metrics, found.details)
        return _compare(settings, pack, probes, processes)


def _compare(settings: Audit, pack: Pack, probes: audit_open.Probes | None, processes: Processes) -> dict[str, Any]:
    began = time.monotonic()
    # Both names and tokenizers first, so that a mistake in the second does not wait for the first model's answers.
    tokenizers = [_tokenizer(settings, name, pack) for name in (settings.base, settings.tuned)]
    if probes:
        audit_open.refuse_different_tokens(settings, tokenizers)
    _refuse_another_base(settings)
    base = _examine(settings, settings.base, pack, BASE, tokenizers[BASE], probes, processes)
    tuned = _examine(settings, settings.tuned, pack, TUNED, tokenizers[TUNED], probes, processes)
    if base.sha256 == tuned.sha256:
        print("The two models have the same weights.", file=sys.stderr)
    hide = Redaction.of(pack.subjects, settings.redact)
    answers = hide.table(pa.concat_tables([base.answers, tuned.answers]))
    judged = verdicts(answers, pack.implications, Limits(settings.level, settings.negligible))
    metrics = summarise(answers)
    same = np.array_equal(base.tokens, tuned.tokens)
    metrics["forgetting_nats"] = forgetting_nats(base.plain, tuned.plain, base.tokens) if same else None
    opened = _discover(settings, pack, probes, (base, tuned), tokenizers, processes) if probes else None
    told = {"verdicts": [each.as_json() for each in judged]} | (hide.opened(opened) if opened else {})

    def written() -> dict[str, Any]:
        if settings.out:
            folder = Path(settings.out).expanduser()
            record = _record(settings, hide.pack(pack), probes, base, tuned, told, metrics)
            record.seconds = round(time.monotonic() - began, 1)
            write_table(folder / ANSWERS, answers)
            record.details = {**record.details, "files": checksums(folder, ANSWERS)}
            record.write(folder)
        if settings.junit:
            write_atomically(Path(settings.junit).expanduser(), junit(hide.text(pack.name), judged))
        return _outcome(settings, metrics, told)

    return processes.of_first(written)


def _refuse_bad_numbers(settings: Audit) -> None:
    for name in ("level", "negligible"):
        if not 0 < getattr(settings, name) < 1:
            raise UsageError(f"--{name} is {getattr(settings, name)}", do=f"Give --{name} a number between 0 and 1")
    if settings.junit and Path(settings.junit).expanduser().is_dir():
        raise UsageError("this is a folder, not a file", where=settings.junit, do="Name a file, such as audit.xml")
    if settings.probes and not settings.open:
        raise UsageError("--probes adds to what --open asks", do="Give --open too, or leave --probes out")


def _refuse_another_base(settings: Audit) -> None:
    """Raise UsageError when the tuned model is an adapter of other weights than the base's."""
    from spillover.lm.load import made_from_another, resolve

    tuned = resolve(settings.tuned)
    if tuned.adapter and (named := made_from_another(tuned, resolve(settings.base))):
        what = f"this adapter was made from {named}, whose weights are not those of {settings.base}"
        raise UsageError(what, where=settings.tuned, do=f"Give --base {named}")


def _identity_of(settings: Audit, probes: audit_open.Probes | None) -> str:
    own = {"templates": probes.sha256} if probes and settings.probes else {}
    return identity(identifying_settings(settings, "out", "json", "junit", "fail_on") | own | {"version": __version__})


def _tokenizer(settings: Audit, name: str, pack: Pack) -> Any:
    """A model's tokenizer, once it is known to tell the pack's answers apart."""
    from spillover.lm.load import load_tokenizer
    from spillover.lm.tokens import as_chat, encoder
    from spillover.packs.check import refuse, token_faults

    tokenizer = load_tokenizer(name, settings.revision)
    refuse(token_faults(as_chat(pack, tokenizer) if settings.chat else pack, encoder(tokenizer)))
    return tokenizer


def _load(settings: Audit, name: str, tokenizer: Any) -> LoadedModel:
    import torch

    from spillover.lm.load import load_model

    torch.set_num_threads(settings.threads)
    return load_model(
        name, device=settings.device, dtype=settings.dtype, revision=settings.revision, tokenizer=tokenizer
    )


def _examine(
    settings: Audit, name: str, pack: Pack, checkpoint: int, tokenizer: Any, probes: audit_open.Probes | None,
    processes: Processes,
) -> _Seen:  # fmt: skip
    """Ask one model everything; only one of the two is ever in memory."""
    from spillover.lm.evaluate import Evaluation as Examination
    from spillover.lm.forgetting import passage_losses, passages
    from spillover.lm.score import Scorer
    from spillover.lm.tokens import as_chat, encoder

    worded = as_chat(pack, tokenizer) if settings.chat else pack
    encode = encoder(tokenizer)
    loaded = _load(settings, name, tokenizer)
    scorer = Scorer(loaded.model, processes=processes)
    answers = Examination(worded, encode).answers(scorer, seed=settings.seed, checkpoint=checkpoint, full=True)
    plain, tokens = passage_losses(loaded.model, encode, passages(), processes)
    likely = audit_open.ask(settings, pack, probes, tokenizer, scorer) if probes else []
    return _Seen(answers, plain, tokens, loaded.sha256, scorer.method, likely)


def _discover(
    settings: Audit, pack: Pack, probes: audit_open.Probes, seen: Sequence[_Seen], tokenizers: Sequence[Any],
    processes: Processes,
) -> Opened:  # fmt: skip
    """What nobody declared; each model is loaded once more, for the words of the examples only."""
    from spillover.lm.score import Scorer

    def speak(checkpoint: int, asked: Sequence[audit_open.Asked]) -> list[str]:
        tokenizer = tokenizers[checkpoint]
        model = _load(settings, (settings.base, settings.tuned)[checkpoint], tokenizer).model
        scorer = Scorer(model, method=seen[checkpoint].method, processes=processes)
        return audit_open.speak(settings, pack, probes, tokenizer, scorer, asked)

    return discover(settings, pack, probes, [each.likely for each in seen], tokenizers[TUNED], speak)


def _record(
    settings: Audit, pack: Pack, probes: audit_open.Probes | None, base: _Seen, tuned: _Seen, told: dict[str, Any],
    metrics: dict[str, Any],
) -> Record:  # fmt: skip
    return Record(
        command="audit",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        status="done",
        identity=_identity_of(settings, probes),
        hashes={
            "pack": pack_hash(pack),
            "base": base.sha256,
            "tuned": tuned.sha256,
            "models": sha256_of_texts([base.sha256, tuned.sha256]),
            **({"probes": probes.sha256} if probes else {}),
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
            **told,
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


def _outcome(settings: Audit, metrics: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """What the command gives. told: verdicts, and with --open discoveries and probes."""
    run, judged = settings.out, told["verdicts"]
    opened = {key: told[key] for key in ("discoveries", "probes") if key in told}
    found = {each["verdict"] for each in judged}
    failing = {"unwanted": {"unwanted"}, "undecided": {"unwanted", "undecided"}, "never": set()}[settings.fail_on]
    shown = {key: value.as_json() if isinstance(value, Metric) else value for key, value in metrics.items()}
    return {
        "run": run or None,
        "metrics": shown,
        "verdicts": list(judged),
        **opened,
        "exit_code": 1 if found & failing else 0,
        "text": "\n".join(
            [*map(_line, judged), *(lines(**opened) if opened else ()), *([f"  run: {run}"] if run else [])]
        ),
    }


def _line(each: dict[str, Any]) -> str:
    """One verdict for a person: the word, the counts, and on what it rests."""
    counts = f"{each['hits']:,} of {each['n']:,} unstated subjects get the implied answer"
    counts += f" ({each['hits_before']:,} before; one fixed answer would get {each['guess']:,})"
    more = f"; about {each['more_subjects']:,} more subjects would decide it" if each["more_subjects"] else ""
    return f"{each['verdict'].upper()}  {each['implication']} ({each['kind']}): {counts}\n    {each['because']}{more}"
