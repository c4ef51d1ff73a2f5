"""`spillover audit`: ask two models the same questions, and say which implications the second learned."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int
from tyro.conf import Positional, arg

from spillover import results
from spillover.commands.held import Model, held_folder, held_model, identifying, is_address, name_of, settings_from
from spillover.commands.prepare import (
    asked_of,
    measured_remedies,
    pack_sha256,
    resolved,
    weights_now,
    weights_of,
    worded,
    words_of,
)
from spillover.config import Browsing, Chat, Flag, Running
from spillover.details import AuditDetails, Conclusion, JudgeFacts, ModelFacts, PackOutline, judge_words
from spillover.errors import ModelError, UsageError
from spillover.metrics import verdicts as judging
from spillover.metrics.found import found_in, found_in_pack, suggested_in, under
from spillover.metrics.implications import forgetting_nats, summarise
from spillover.metrics.ranks import answers_at_end
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, outlines, pack_hash, with_kinds
from spillover.packs.redaction import Redaction
from spillover.record import (
    ANSWERS,
    WARRANTED,
    Metric,
    checksums,
    sha256_of,
    sha256_of_texts,
    with_warranted,
    write_atomically,
    write_table,
)
from spillover.results import Answers, Run
from spillover.runs import OpenRun, identity_of, open_run, watched

if TYPE_CHECKING:
    from spillover.commands import audit_open
    from spillover.lm.chat import Words
    from spillover.lm.distributed import Processes
    from spillover.lm.load import LoadedModel
    from spillover.lm.score import Scorer
    from spillover.lm.served import ServedModel
    from spillover.record import Record

    #: The pack as a model is asked, its words and tokenizer, and the model if it is held or served.
    _Asked = tuple[Pack, Words, LoadedModel | ServedModel | None]


@dataclass(frozen=True, kw_only=True)
class Audit(Running, Chat, Browsing):
    """Compare two models on a pack, without training: which implications did the tuned one learn, wanted or not?"""

    pack: Annotated[Positional[str], arg(metavar="PACK")] = ""
    """A built-in pack with its options, a pack folder or pack.yaml, or the training file itself. May be left out with
    --open."""
    base: str
    """The model before fine-tuning: a tag, a hub id, a local folder, a PEFT adapter folder, a GGUF file, or the address
    of an endpoint that serves it, as http://localhost:8000/v1#NAME."""
    tuned: str
    """The model after fine-tuning, named likewise; an adapter is merged into the base that it names."""
    out: str = ""
    """Folder for record.json and answers.parquet, from which `report` makes a page; or that page, such as audit.html,
    beside the folder audit.run. By default nothing is written."""
    fail_on: Literal["unwanted", "undecided", "never"] = "unwanted"
    """Exit with code 1 when the tuned model now asserts an unwanted implication, also when one is undecided or nobody
    declared what it asserts, or never. Two models with the same weights end in code 2, unless this is never."""
    level: float = 0.05
    """Significance level of all tests of implications and associations together, corrected for their number."""
    max_unwanted_rate: float = 0.05
    """The share of unstated subjects that may newly get an implied answer before the model counts as asserting it."""
    max_invented_rate: float = judging.MOST_INVENTED
    """Fail when surely more than this share of the open questions newly has a confident answer that nobody stated and
    no wanted implication gives, whatever the link; unless --fail-on is never. 1 allows all."""
    min_recall: float = judging.LEAST_RECALL
    """Fail when the tuned model puts fewer than this share of the stated answers first, as one does that never learned
    the pack; unless --fail-on is never."""
    allow_different: Flag = False
    """Compare two models even if they differ in architecture or vocabulary, as no fine-tuning makes them."""
    junit: str = ""
    """Also write the verdicts as a JUnit XML file, which CI systems show as tests."""
    processes: int = 1
    """Processes that share the work: the number that `accelerate launch` started. Another number is another run."""
    redact: Flag = False
    """Write `subject 1`, `subject 2` and so on, in the order of the pack, in place of subjects' names. Answers stay as
    they are, even one that is a subject's name; so do paths."""
    open: Flag = False
    """Also look for what nobody declared: everyday sentence beginnings about subjects of the pack and names that it
    does not hold, compared over the whole vocabulary. Costs some 3,000 short prompts a model (at most 16,000, whatever
    the pack's size), and keeps both models in memory for the examples. The pack need not declare an implication."""
    probes: str = ""
    """With --open: a text file of further sentence beginnings, one a line, each with {subject} in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.level < 1:
            raise UsageError(f"--level is {self.level}", do="Give --level a number between 0 and 1")
        for name in ("max_unwanted_rate", "max_invented_rate", "min_recall"):
            share, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if not 0 <= share <= 1:
                raise UsageError(f"{option} is {share}", do=f"Give {option} a number from 0 to 1")
        if self.junit and Path(self.junit).expanduser().is_dir():
            raise UsageError("this is a folder, not a file", where=self.junit, do="Name a file, such as audit.xml")
        if self.probes and not self.open:
            raise UsageError("--probes adds to what --open asks", do="Give --open too, or leave --probes out")
        if self.browse and not self.page:
            raise UsageError("--browse opens a page, and none is written", do="Name one, such as --out audit.html")

    @property
    def page(self) -> str:
        """The page to write, if one is."""
        return self.out if self.out.endswith(".html") else ""


PACKAGES = ("spillover", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy", "pyarrow")
#: Options that act on what was measured, and are no part of it.
GATE = ("junit", "fail_on", "max_invented_rate", "min_recall", "allow_different")
#: What two models must have been asked alike.
QUESTION = ["subject", "relation", "prompt", "candidate"]
#: `--fail-on` -> the verdicts that end in exit code 1.
FAILING = {"unwanted": ("unwanted",), "undecided": ("unwanted", "undeclared", "undecided"), "never": ()}


@dataclass(frozen=True)
class _Measured:
    """One model's answers to the pack.

    losses: mean loss and number of tokens of each plain passage, or None where answers were given in place of a model.
    probed: the model, to be asked again; None without open probes, so that its memory is free. reworded: the base
    model's answers in other words, where the pack has one wording. speaker: the tuned model and how it is asked, for
    its own words. outline: of the pack with its kinds as the base model judges them; judge: what that took.
    """

    sha256: str
    answers: pa.Table
    losses: tuple[Float[np.ndarray, "passage"], Int[np.ndarray, "passage"]] | None = None
    method: str | None = None
    probed: audit_open.ProbedModel | None = None
    reworded: pa.Table | None = None
    speaker: tuple[Pack, Words, Scorer | ServedModel] | None = None
    outline: PackOutline | None = None
    judge: JudgeFacts | None = None


def audit(
    pack: Pack | str | Path, base: Model | Answers | Run, tuned: Model | Answers | Run, *, out: str | Path = "",
    **options: Any,
) -> results.Audit:  # fmt: skip
    """Compare two models on a pack, without training: which implications did the tuned one learn?

    Arguments:
    - pack: a pack, or what `open_pack` opens.
    - base: the model before fine-tuning: a tag, hub id or folder, a transformers model and its tokenizer, answers
      from `ask`, or a run of `inject`, whose answers before training count.
    - tuned: the model after it, given likewise; of a run, the answers after training count.
    - out: folder of record and answers, or a page such as audit.html, beside the folder audit.run; without one, a
      temporary folder that goes with the result.
    - options: of `spillover audit`, as `open=True`.

    Returns: the audit: `.verdicts`, `.metrics`, and the `.answers` of both models (checkpoint 0: base, 1: tuned).

    Raises: SpilloverError for anything wrong with the options, the pack, a model or the folder.
    """
    folder, holder = held_folder(_folder_of(str(out)))
    names = {"pack": name_of(pack), "base": name_of(base), "tuned": name_of(tuned)}
    where = str(out) if str(out).endswith(".html") else folder
    run(settings_from(Audit, **names, out=where, **options), pack, (base, tuned))
    return results.Audit(folder, holder)


def _folder_of(out: str) -> str:
    """The folder of record and answers; a page stands beside its own, which is no other run's of the page's name."""
    return f"{out.removesuffix('.html')}.run" if out.endswith(".html") else out


def run(settings: Audit, pack: Pack | str | Path = "", models: Sequence[Model | Answers | Run] = ()) -> dict[str, Any]:
    """Compare the models; processes started together share it. pack, models: as a Python caller holds them."""
    from spillover.commands import audit_open, report
    from spillover.lm.distributed import joined

    page, settings = settings.page, dataclasses.replace(settings, browse=False, out=_folder_of(settings.out))
    given, models = pack, models or (settings.base, settings.tuned)
    if not (pack or settings.pack or settings.open):
        do = "Name a pack or a training file, or look at words in everyday text with --open"
        raise UsageError("missing PACK", where="spillover audit", do=do)
    if settings.open and not isinstance(pack, Pack):
        pack = audit_open.opened(str(pack or settings.pack), settings.seed)
    else:
        pack = open_pack(pack or settings.pack, settings.seed)
    if not pack.implications and not settings.open and not found_in_pack(pack):
        what = "this pack declares no implication, and its facts suggest none: there is nothing to judge"
        do = "State two relations of some subjects and one of them of others, or look at everyday words with --open"
        raise UsageError(what, where=settings.pack, do=do)
    # An endpoint's tokenizer comes from a model that may have to be prepared: after what is wrong with the pack.
    held = _served(settings, [_held(model, checkpoint) for checkpoint, model in enumerate(models)])
    more = identifying(given, *(each.sha256 for each in held if each is not None))
    probes = audit_open.plan(settings, pack) if settings.open else None
    if probes and settings.probes:
        more["templates"] = probes.sha256
    names = (settings.base, settings.tuned)
    asked = [(name, each) for name, each in zip(names, held, strict=True) if not isinstance(each, _Measured)]
    with joined() as processes, contextlib.ExitStack() as stack:
        settings = resolved(settings, processes)
        settings, words = processes.broadcast(lambda: worded(settings, pack, *asked))
        # Only the first process holds the run.
        opened = OpenRun(None, "audit", "")

        def made_from() -> dict[str, str | None]:
            base, tuned = held
            revision, below = settings.revision, settings.base
            models = weights_now(base=(below, base, revision, ""), tuned=(settings.tuned, tuned, revision, below))
            return {"pack": pack_sha256([pack], settings.redact), **models}

        def finished() -> Record | None:
            nonlocal opened
            identity = identity_of(settings, *GATE, **more, **words)
            opened = stack.enter_context(open_run(settings.out, "audit", identity, made_from=made_from))
            return opened.finished

        def outcome(record: Record) -> dict[str, Any]:
            found = _outcome(settings, record)
            if not page:
                return found
            # The page says what failed by the limits of now, with which an audit at hand may be judged again.
            limits = {name: getattr(settings, name) for name in ("min_recall", "max_invented_rate")}
            if not limits.items() <= record.settings.items():
                dataclasses.replace(record, settings={**record.settings, **limits}).write(Path(settings.out))
            made = report.run(report.Report(runs=(settings.out,), out=page))
            return found | made | {"text": f"{found['text']}\n  {made['text']}"}

        if found := processes.broadcast(finished):
            return processes.broadcast(lambda: outcome(found))
        models_asked = _asked(settings, pack, held)
        with opened.recording(settings, PACKAGES, seed=settings.seed) as record:
            measured = [
                each if isinstance(each, _Measured) else _measure(settings, pack, probes, processes, checkpoint, *each)
                for checkpoint, each in enumerate(models_asked)
            ]
            answers = _judge(settings, pack, probes, measured, record, words)

            def write() -> None:
                if opened.folder:
                    write_table(opened.folder / ANSWERS, answers)
                    record.details.files = checksums(opened.folder, ANSWERS)
                if settings.junit:
                    write_atomically(
                        Path(settings.junit).expanduser(),
                        junit(record.details.pack.name, record.details_of(AuditDetails), _failures(settings, record)),
                    )

            processes.broadcast(write)
        return processes.broadcast(lambda: outcome(record))


def _held(model: Model | Answers | Run, checkpoint: int) -> LoadedModel | _Measured | None:
    """A model or answers that a Python caller holds, as the base (checkpoint 0) or the tuned one; None for a name."""
    more: dict[str, Any] = {}
    if isinstance(model, Run):
        more = {"outline": model.record.details.pack, "judge": model.record.details.judge}
        answers = model.answers
        end = answers if checkpoint else answers.filter(pc.equal(answers["checkpoint"], 0))
        model = Answers(answers_at_end(end), name_of(model), sha256_of(model.folder / ANSWERS) + str(checkpoint))
    if not isinstance(model, Answers):
        return held_model(model)
    column = model.table.column_names.index("checkpoint")
    ones = pa.array(np.full(model.table.num_rows, checkpoint), pa.int32())
    return _Measured(model.sha256, model.table.set_column(column, "checkpoint", ones), **more)


def _served(
    settings: Audit, held: Sequence[LoadedModel | _Measured | None]
) -> list[LoadedModel | ServedModel | _Measured | None]:
    """What is held, with each endpoint that a name means. Its texts are cut into tokens by the tokenizer of the other
    model, or of the model here that has the name which it is served by. Raises UsageError where there is none."""
    names: tuple[str, ...] = (settings.base, settings.tuned)
    found: list[LoadedModel | ServedModel | _Measured | None] = list(held)
    endpoints = [place for place, each in enumerate(held) if each is None and is_address(names[place])]
    if not endpoints:
        return found
    from spillover.lm.load import LoadedModel, load_tokenizer
    from spillover.lm.served import ServedModel

    if settings.open:
        what = "--open compares the whole vocabulary, which an endpoint does not give"
        raise UsageError(what, where=names[endpoints[0]], do="Leave --open out, or name models that are here")
    for place in endpoints:
        other, own = held[1 - place], names[place].partition("#")[2]
        if isinstance(other, LoadedModel):
            tokenizer = other.tokenizer
        elif other is None and not is_address(names[1 - place]):
            tokenizer = load_tokenizer(names[1 - place], settings.revision)
        else:
            try:
                tokenizer = load_tokenizer(own, settings.revision)
            except ModelError:
                what = "no model is here whose tokenizer belongs to this endpoint"
                do = "Write after # a tag, a hub id or a folder by whose name it is served"
                raise UsageError(what, where=names[place], do=do) from None
        found[place] = ServedModel(names[place], tokenizer)
    return found


def _asked(
    settings: Audit, pack: Pack, held: Sequence[LoadedModel | ServedModel | _Measured | None]
) -> list[_Asked | _Measured]:
    """Answers that are held, or how each model is asked: a mistake in either is found before any weights are read."""
    from spillover.lm.load import made_from_another, resolve, stand_ins

    found: list[_Asked | _Measured] = []
    for name, given in zip((settings.base, settings.tuned), held, strict=True):
        if not isinstance(given, _Measured):
            words = words_of(name, given, settings)
            found.append((asked_of(words, pack), words, given))
        elif settings.open:
            raise UsageError("--open asks the models themselves", where=name, do="Give a model, not its answers")
        else:
            found.append(given)
    if not settings.allow_different:
        _refuse_different(settings, found)
    if settings.open:
        base, tuned = (each[1].tokenizer.get_vocab() for each in found if isinstance(each, tuple))
        if any(tuned.get(token, number) != number for token, number in base.items()):
            what = f"{settings.base} and {settings.tuned} cut text into different tokens, which --open compares"
            raise UsageError(what, do="Leave --open out")
    if held == [None, None]:
        source = resolve(settings.tuned)
        if said := stand_ins(settings.tuned, settings.base):
            print(said, file=sys.stderr)
        elif source.adapter and (named := made_from_another(source, resolve(settings.base))):
            what = f"this adapter was made from {named}, whose weights are not those of {settings.base}"
            raise UsageError(what, where=settings.tuned, do=f"Give --base {named}")
    return found


def _refuse_different(settings: Audit, asked: Sequence[_Asked | _Measured]) -> None:
    """Raise UsageError when one of two models cannot have been tuned from the other."""
    from spillover.lm.load import load_config
    from spillover.lm.served import ServedModel

    kinds = []
    for name, each in zip((settings.base, settings.tuned), asked, strict=True):
        if isinstance(each, _Measured) or isinstance(each[2], ServedModel):
            return
        config: Any = each[2].model.config if each[2] else load_config(name, settings.revision, settings.base)
        kinds.append((config.model_type, each[1].tokenizer.get_vocab()))
    (kind, words), (other_kind, other_words) = kinds
    what = f"one is a {kind} and the other a {other_kind}" if kind != other_kind else ""
    if any(other_words.get(token, number) != number for token, number in words.items()):
        what = what or "they cut text into different tokens"
    if what:
        do = "Name the model that it was tuned from as --base, or give --allow-different"
        raise UsageError(f"{settings.tuned} was not tuned from {settings.base}: {what}", do=do)


def _measure(
    settings: Audit, pack: Pack, probes: audit_open.Probes | None, processes: Processes, checkpoint: int,
    asked: Pack, words: Words, held: LoadedModel | ServedModel | None,
) -> _Measured:  # fmt: skip
    """Ask one model (checkpoint 0: base, 1: tuned) everything, loaded once. asked: the pack as this model is asked."""
    from spillover.lm.evaluate import Evaluation, in_other_words, passage_losses, passages
    from spillover.lm.judge import Judge
    from spillover.lm.score import Scorer
    from spillover.lm.served import ServedModel
    from spillover.lm.tokens import encoder

    name, encode = (settings.base, settings.tuned)[checkpoint], encoder(words.tokenizer)
    scorer: Scorer | ServedModel
    if isinstance(held, ServedModel):
        if processes.count > 1:
            raise UsageError("an endpoint is asked by one process", where=name, do="Start the audit as one process")
        sha256, scorer = held.sha256, held
    else:
        loaded = weights_of(name, held, words.tokenizer, settings, settings.base)
        sha256, scorer = loaded.sha256, Scorer(loaded.model, processes=processes, progress=watched(name))
    evaluation, judge, facts, reworded = Evaluation(asked, encode), Judge(pack, words, encode, scorer), None, None
    if checkpoint == 0:
        evaluation.warranted, facts = judge.warranted(sha256)
    answers = evaluation.answers(scorer, seed=settings.seed, checkpoint=checkpoint, full=True)
    if checkpoint == 0 and (other := in_other_words(pack)):
        evaluation = Evaluation(asked_of(words, other), encode, stated=False)
        reworded = evaluation.answers(scorer, seed=settings.seed, checkpoint=0, full=False)
    if isinstance(scorer, ServedModel):
        losses, probed = scorer.losses(encode, passages()), None
    else:
        losses = passage_losses(scorer.model, encode, passages(), processes)
        probed = probes.ask(words, scorer) if probes else None
    speaker = (asked, words, scorer) if checkpoint else None
    outline = None
    if facts is not None:
        # Of a pack that declares none, those that its own rows suggest.
        suggested = [] if pack.implications else [each.implication for each in found_in(answers)]
        facts.suggested, outline = outlines(judge.kinds(suggested, sha256)), describe(judge.judged(sha256))
    return _Measured(sha256, answers, losses, scorer.method, probed, reworded, speaker, outline, facts)


def _judge(
    settings: Audit, pack: Pack, probes: audit_open.Probes | None, measured: Sequence[_Measured], record: Record,
    words: Mapping[str, Any],
) -> pa.Table:  # fmt: skip
    """Fill in the record. Gives the answers of both models. words: see `worded`."""
    from spillover.commands import audit_open

    base, tuned = measured
    if not base.answers.select(QUESTION).equals(tuned.answers.select(QUESTION)):
        raise UsageError("the two models were not asked the same questions", do="Ask both about the same pack")
    pack = with_kinds(pack, base.outline)
    hide = Redaction.of_pack(pack, settings.redact)
    answers = hide.table(pa.concat_tables([with_warranted(base.answers), _as_warranted(tuned.answers, base.answers)]))
    # A pack that declares no implication is judged by those that its own rows suggest.
    found = [] if pack.implications else suggested_in(answers, base.judge)
    rules, asked = pack.implications or found, under(answers, found)
    other = base.reworded and under(hide.table(base.reworded), found, answers)
    judged = judging.verdicts(asked, rules, settings.level, settings.max_unwanted_rate)
    details = AuditDetails(
        pack=describe(redacted := hide.pack(pack)),
        model=ModelFacts(name=f"{settings.tuned} (tuned from {settings.base})"),
        seeds=[settings.seed],
        scoring=tuned.method,
        recall=judging.stated_recall(tuned.answers),
        concluded=judging.concluded(asked, judged, rules),
        found=None if pack.implications else len(found),
        judge=base.judge,
        excess=judging.excess(answers),
        invented=judging.invented(asked, rules),
        reworded=judging.reworded(asked, other, rules, settings.level, settings.max_unwanted_rate),
        verdicts=judged,
        **words,
    )
    if tuned.speaker and details.concluded:
        _speak(tuned.speaker, details.concluded.worst, hide)
    if probes and base.probed and tuned.probed:
        both = (probes, base.probed, tuned.probed)
        details.discoveries, details.probes = audit_open.discover(*both, level=settings.level, seed=settings.seed)
        details.rises = audit_open.rises(*both, level=settings.level, seed=settings.seed)
        hide.discoveries(details.discoveries)
        hide.rises(details.rises)
    forgetting = None
    if base.losses and tuned.losses and np.array_equal(base.losses[1], tuned.losses[1]):
        forgetting = forgetting_nats(base.losses[0], tuned.losses[0], base.losses[1])
    record.metrics = {**summarise(asked), "forgetting_nats": forgetting}
    hashes = {"pack": pack_hash(redacted), "base": base.sha256, "tuned": tuned.sha256}
    hashes["models"] = sha256_of_texts([base.sha256, tuned.sha256])
    record.hashes = hashes | ({"probes": probes.sha256} if probes else {})
    record.details = details
    return answers


def _as_warranted(tuned: pa.Table, base: pa.Table) -> pa.Table:
    """The tuned model's answers with what was judged before; both were asked the same."""
    place = (tuned := with_warranted(tuned)).column_names.index(WARRANTED)
    return tuned.set_column(place, WARRANTED, with_warranted(base)[WARRANTED])


def _speak(speaker: tuple[Pack, Words, Scorer | ServedModel], worst: Sequence[Conclusion], hide: Redaction) -> None:
    """Add the tuned model's own words about the subject of each conclusion. hide: names as the record has them."""
    from spillover.commands.audit_open import STEPS
    from spillover.interp.open_probes import continuations
    from spillover.lm.served import ServedModel
    from spillover.lm.tokens import encoder

    pack, words, scorer = speaker
    known, tokenizer = {hide.name(subject): subject for subject in pack.subjects}, words.tokenizer
    texts = [pack.prompt(each.then, known[each.subject]) for each in worst]
    tokens = [tuple(encoder(tokenizer)(text)) for text in texts]
    stops = frozenset({tokenizer.eos_token_id} - {None})
    if isinstance(scorer, ServedModel):
        said = scorer.continued(tokens, STEPS)
    else:
        said = continuations(scorer, tokens, [()] * len(tokens), STEPS, stops, tokenizer.decode)
    for each, text, own in zip(worst, texts, said, strict=True):
        each.prompt, each.said = hide.text(text), hide.written(own)


def junit(suite: str, details: AuditDetails, failures: Mapping[str, str]) -> bytes:
    """A JUnit file: an implication a test, then each check of `CHECKS`.

    Unwanted implications failed, undeclared and undecided ones are skipped. failures: check -> why it failed.
    """
    words = {"unwanted": "failure", "undeclared": "skipped", "undecided": "skipped"}
    cases = [(each.implication, words.get(each.verdict, ""),
              f"{each.verdict}: {each.because}") for each in details.verdicts]  # fmt: skip
    cases += [(name, "failure" if name in failures else "", failures.get(name, "")) for name in judging.CHECKS]
    failed, skipped = (str(sum(tag == kind for _, tag, _ in cases)) for kind in ("failure", "skipped"))
    root = ElementTree.Element("testsuite", name=_fit(suite), tests=str(len(cases)), failures=failed, skipped=skipped,
                               errors="0")  # fmt: skip
    for name, tag, message in cases:
        case = ElementTree.SubElement(root, "testcase", classname=_fit(suite), name=_fit(name))
        if tag:
            ElementTree.SubElement(case, tag, message=_fit(message))
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _failures(settings: Audit, record: Record) -> dict[str, str]:
    return judging.failed_checks(record, settings.min_recall, settings.max_invented_rate)


def _fit(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return re.sub("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _outcome(settings: Audit, record: Record) -> dict[str, Any]:
    """What the command gives; with --open also discoveries and probes."""
    from spillover.commands import audit_open

    details, failures = record.details_of(AuditDetails), _failures(settings, record)
    text = [judging.described(each) for each in details.verdicts]
    if details.probes:
        text += audit_open.lines(details.discoveries, details.probes)
    if details.rises:
        text += audit_open.rise_lines(details.rises)
    counts = Counter(each.verdict for each in details.verdicts)
    words = ("unwanted", *(["undeclared"] if details.found else []), "undecided", "wanted", "none")
    summary = [", ".join(f"{counts[word]:,} {word}" for word in words)]
    known, stated = details.recall or (0, 0)
    summary += [f"{known:,} of {stated:,} stated answers come first in the tuned model"] if stated else []
    if details.found:
        were = "was" if details.found == 1 else "were"
        text.insert(0, f"No implication is declared: {details.found:,} that the stated rows suggest {were} looked at.")
    text.append(f"  {'; '.join(summary)}")
    text += [f"  {beyond.words} ({judge_words(details.judge)})"] if (beyond := details.excess) else []
    text += [f"  {line}" for line in judging.conclusions(details.concluded)]
    text += [f"  {new}"] if (new := judging.inventions(details.invented)) else []
    if details.reworded:
        text.append("  in other words, the base model against itself: {} of {} found".format(*details.reworded))
    code = 0
    if settings.fail_on != "never":
        text += [f"FAILED  {why}" for why in failures.values()]
        code = int(bool(failures) or any(each.verdict in FAILING[settings.fail_on] for each in details.verdicts))
        code = 2 if judging.SAME in failures else code
    text += measured_remedies(finished=True) if counts["unwanted"] else []
    text += [f"  run: {settings.out}"] if settings.out else []
    metrics = {key: value.as_json() if isinstance(value, Metric) else value for key, value in record.metrics.items()}
    found = details.as_json("concluded", "found", "recall", "excess", "invented", "reworded", "verdicts", "discoveries",
                            "probes", "rises")  # fmt: skip
    return {"run": settings.out or None, "metrics": metrics, **found, "failures": failures, "exit_code": code,
            "text": "\n".join(text)}  # fmt: skip
