"""`spillover where`: which part of a change carries what was stated, which the implication, and how lazy it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from tyro.conf import Positional, arg

from spillover import record as records
from spillover import results
from spillover.commands.held import Model, held_folder, name_of, settings_from, whole_model
from spillover.commands.inject import PACKAGES, Inject
from spillover.commands.prepare import asked_of, pack_sha256, pipeline_of, words_of
from spillover.commands.rerun import settings_of
from spillover.config import Browsing
from spillover.details import Forgetting, InjectDetails, Laziness, PatchedPart, Preference, WhereDetails
from spillover.errors import ModelError, RunError
from spillover.metrics.patching import BASE, LINEARISED, TUNED, alignments, patched_metrics, ranks_of, where_rows
from spillover.metrics.ranks import rank_table
from spillover.packs.open import open_pack
from spillover.packs.pack import UNWANTED, WANTED, Pack, describe, with_kinds
from spillover.packs.redaction import Redaction
from spillover.report.pages import html_of
from spillover.report.where import ENDS, PatchedModels, load_where, position_finding, preference_finding
from spillover.results import text_table
from spillover.runs import identity_of, open_run, progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spillover.interp.patching import Change
    from spillover.lm.load import LoadedModel

PAGE = "page.html"
#: Of layers, by position.
BANDS = 6


@dataclass(frozen=True, kw_only=True)
class Where(Browsing):
    """Which part of a change carries what a run learned? Patch each into the base model alone, and revert it alone."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """A finished run of `inject` that kept its weights (--save delta or weights), or a folder of such runs by seed, as
    `mitigate` makes (OUT/cells/untreated). Seeds are pooled."""
    out: str
    """Folder for record.json, where.parquet, answers.parquet and page.html."""
    parts: Literal["all", "components", "none"] = "all"
    """What is patched: components and layers, components alone, or nothing, which leaves how lazy the training was."""
    positions: Literal["bands", "layers", "none"] = "bands"
    """By the tokens of a prompt (the subject's, other words, the last): in up to six bands of layers, in each layer by
    itself, or not. Not with --parts none."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes a GPU if there is one."""
    dtype: Literal["run", "float32", "bfloat16"] = "run"
    """Number format of weights and arithmetic; by default the run's."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; by default the run's."""
    threads: int = 0
    """CPU threads; 0 takes every core. Another number is another run, since it rounds differently."""


def where(
    source: results.Run | str | Path, *, pack: Pack | str | Path = "", model: Model | None = None,
    out: str | Path = "", **options: Any,
) -> results.Location:  # fmt: skip
    """Which part of the change that a run made carries what it learned, by component and layer?

    Arguments:
    - source: a run of `inject` that kept its weights (`save="delta"`), or its folder. It is not changed.
    - pack, model: those that the run was made from, if they were held; what `inject` returned knows them.
    - out: folder of record and tables; without one, a temporary folder that goes with the result.
    - options: of `spillover where`, as `parts="components"`.

    Returns: `.parts`, `.laziness`, and the `.answers` of base, tuned and linearised model (checkpoints 0 to 2).

    Raises: SpilloverError for anything wrong with the options, the run, its model or the folder.
    """
    folder, holder = held_folder(out)
    if isinstance(source, results.Run):
        pack, model = pack or source.pack, model or source.model
    run(settings_from(Where, run=name_of(source), out=folder, **options), pack, model)
    return results.Location(folder, holder)


def run(settings: Where, pack: Pack | str | Path = "", model: Model | None = None) -> dict[str, Any]:
    """Measure every part, or go on with those that are left. pack, model: as a Python caller holds them."""
    from spillover.lm.distributed import pick_device

    runs = runs_of(Path(settings.run).expanduser(), pack)
    first, folder = runs[0], Path(settings.out).expanduser()
    settings = dataclasses.replace(
        settings,
        dtype=first.settings.dtype if settings.dtype == "run" else settings.dtype,
        revision=settings.revision or first.settings.revision,
        device=str(pick_device(settings.device)),
        threads=settings.threads or int(records.hardware()["cores"]),
    )
    made_of = [f"{each.record.identity} {each.record.details.files.get(records.ANSWERS)}" for each in runs]
    with open_run(folder, "where", identity_of(settings, "run", runs=made_of)) as opened:
        if opened.finished is None:
            hide = Redaction.of_pack(first.pack, first.settings.redact)
            hashes = {"pack": records.sha256_of_texts([each.record.hashes["pack"] for each in runs]),
                      "model": first.record.hashes["model"]}  # fmt: skip
            details = WhereDetails(
                pack=describe(hide.pack(first.pack)),
                model=first.record.details.model,
                seeds=[each.record.seed for each in runs],
                trained=dict(first.record.settings),
                forgetting=Forgetting.most(each.record.details_of(InjectDetails) for each in runs),
            )
            with opened.recording(settings, PACKAGES, seed=first.record.seed, hashes=hashes, details=details) as record:
                how, moved, details.no_positions, details.preferences = _measure(
                    settings, runs, folder, whole_model(model) if model else None
                )
                _conclude(record, details, first.pack, folder, how, moved)
        if opened.finished is None or not (folder / PAGE).exists():
            records.write_atomically(folder / PAGE, html_of([folder])[0].encode())
    found = load_where(folder)
    measured = found.record.details.as_json("parts", "laziness")
    text = "\n".join(_lines(folder, found))
    return {"run": str(folder), "metrics": found.record.metrics, **measured, "page": str(folder / PAGE), "text": text}


@dataclass(frozen=True)
class SeedRun:
    """The run of one seed: where it is, its record, its settings, and the facts it was made on."""

    folder: Path
    record: records.Record
    settings: Inject
    pack: Pack


def runs_of(source: Path, pack: Pack | str | Path = "") -> list[SeedRun]:
    """The run of each seed. Raises RunError when it is none of `inject`, not finished, or kept no weights."""
    from spillover.lm.save import kept_in

    folders = sorted(path.parent for path in source.glob(f"seed-*/{records.RECORD}"))
    # Those that `mitigate` makes have no record over them.
    if not folders or (source / records.RECORD).exists():
        record = _record_of(source)
        seeds = record.details.seeds or [record.seed]
        folders = [source / f"seed-{seed}" for seed in seeds] if len(seeds) > 1 else [source]
    found: list[SeedRun] = []
    for folder in folders:
        record = _record_of(folder)
        if record.status != "done":
            raise RunError("this run is not finished", where=str(folder), do="Give its command again first")
        kept_in(folder)  # Raises RunError when no weights were kept.
        settings = settings_of(Inject, record, folder)
        own = open_pack(pack or settings.pack, record.seed)
        if pack_sha256([own], settings.redact) != record.hashes.get("pack"):
            what = f"the pack {settings.pack} is not what it was when this ran"
            raise RunError(what, where=str(folder), do="Bring the pack back, or run it again with --save delta")
        if found and settings.model != found[0].settings.model:
            what = f"this run is of the model {settings.model}, another of {found[0].settings.model}"
            raise RunError(what, where=str(folder), do="Name seeds of one run")
        found.append(SeedRun(folder, record, settings, with_kinds(own, record.details.pack)))
    return found


def _record_of(folder: Path) -> records.Record:
    record = records.Record.read(folder)
    if record.command != "inject":
        what = f"this is a run of `{record.command}`, not of `inject`"
        raise RunError(what, where=str(folder), do="Name a run that `inject` made with --save delta")
    return record


def _measure(
    settings: Where, runs: Sequence[SeedRun], folder: Path, held: LoadedModel | None
) -> tuple[list[str], dict[str, float], str, list[Preference]]:
    """Fill the two tables, seed by seed; gives how the expansion was computed, how far each part moved, why nothing was
    measured by position, if so, and what each seed's change is worth."""
    import torch

    from spillover.interp.patching import Change, parts_moved
    from spillover.lm.load import load_model
    from spillover.lm.output_value import places
    from spillover.lm.save import kept_weights
    from spillover.metrics.implications import mean_moved

    torch.set_num_threads(settings.threads)
    dtype = "bfloat16" if settings.dtype == "bfloat16" else "float32"
    loaded = held or load_model(runs[0].settings.model, device=settings.device, dtype=dtype, revision=settings.revision)
    if settings.parts != "none":
        places(loaded.model)  # Raises ModelError when the model has no attention of a known shape.
    how, moves, lacking, preferences = [], [], "", []
    for each in runs:
        if loaded.sha256 != each.record.hashes.get("model"):
            what = f"{loaded.name} is not the model that this run started from"
            raise RunError(what, where=str(each.folder), do="Bring that model back, or run it again with --save delta")
        change = Change(loaded.model, kept_weights(each.folder, loaded))
        if not change.after:
            raise RunError("training changed no weight", where=str(each.folder), do="Name another run")
        moves.append(parts_moved(change.model, change.before, change.after))
        tables = _SeedTables(each, loaded, change, folder)
        how.append(tables.measure(settings.parts))
        preferences.append(tables.preference())
        if "none" not in (settings.parts, settings.positions):
            lacking = tables.measure_positions(loaded.tokenizer, BANDS if settings.positions == "bands" else None)
    return how, mean_moved(moves), lacking, preferences


class _SeedTables:
    """One seed's change, measured part by part into the tables of `folder`; what they hold already is not repeated."""

    def __init__(self, made: SeedRun, loaded: LoadedModel, change: Change, folder: Path) -> None:
        from spillover.lm.evaluate import Evaluation
        from spillover.lm.score import Scorer
        from spillover.lm.tokens import encoder

        own = made.settings
        worded = asked_of(words_of(own.model, loaded, own), pipeline_of(own).asked(made.pack))
        self.seed, self.change, self.folder = made.record.seed, change, folder
        self.evaluation, self.scorer = Evaluation(worded, encoder(loaded.tokenizer)), Scorer(change.model)
        self.hide = Redaction.of_pack(made.pack, own.redact)
        self.rows, self.answers = (
            records.read_table(folder / name) if (folder / name).exists() else schema.empty_table()
            for name, schema in ((records.WHERE, records.WHERE_SCHEMA), (records.ANSWERS, records.ANSWER_SCHEMA))
        )
        keys = zip(*(self.rows[name].to_pylist() for name in ("seed", "part", "left_out")), strict=True)
        self.known = {(part, left_out) for seed, part, left_out in keys if seed == self.seed}

    def measure(self, parts: str) -> str:
        """Measure the base model, its expansion, the tuned model, and the parts; gives how the second was computed."""
        found = self.change.parts if parts != "none" else []
        patched = [part for part in found if parts == "all" or part.kind == "component"]
        how = self._measure_ends()
        todo = [pair for pair in product(patched, (False, True)) if (pair[0].name, pair[1]) not in self.known]
        with progress(f"seed {self.seed}", len(todo), "model") as bar:
            for part, left_out in todo:
                with self.change.without(part) if left_out else self.change.only(part):
                    self._keep(self._answers(TUNED), part.name, part.kind, left_out)
                bar.update()
        return how

    def preference(self) -> Preference:
        """What the change takes away from the loss on the stated rows, by its length, and what noise adds to that."""
        from spillover.interp.patching import preference

        found = preference(self.change, lambda _: self.evaluation.stated_loss(self.scorer), seed=self.seed)
        return Preference.model_validate({"seed": self.seed, **found._asdict()})

    def measure_positions(self, tokenizer: PreTrainedTokenizerBase, bands: int | None) -> str:
        """Measure the models between the base and the tuned one that differ by the tokens of a prompt. bands: of
        layers; None for a layer each. Returns why this model or tokenizer does not allow it, or the empty text."""
        from spillover.interp.positions import position_models, roles_of

        asked, requests = self.evaluation, self.evaluation.requests(full=False)
        try:
            roles = [roles_of(tokenizer, asked.encode, asked.pack, *key) for key in asked.prompts(full=False)]
            models = position_models(self.change, roles, bands=bands, method=self.scorer.method)
        except ModelError as error:
            return error.what
        todo = [each for each in models if (each.part, each.left_out) not in self.known]
        with progress(f"seed {self.seed}, by position", len(todo), "model") as bar:
            for each in todo:
                scores = asked.spread(each.scorer().score(requests), full=False)
                answers = asked.table(scores, seed=self.seed, checkpoint=TUNED, full=False)
                self._keep(answers, each.part, each.kind, each.left_out)
                bar.update()
        return ""

    def _measure_ends(self) -> str:
        """The base model, the tuned one, and the expansion at the base taken to the tuned weights."""
        from spillover.interp.patching import slopes

        requests = self.evaluation.requests(full=False)
        scores = self.scorer.score(requests)
        base = self.evaluation.table(self.evaluation.spread(scores, False), seed=self.seed, checkpoint=BASE, full=False)
        found, how = slopes(self.change, requests, self.scorer.method)
        # Of every wording of an answer, since the expansion's best need not be the base's.
        expanded = self.evaluation.spread([own + slope for own, slope in zip(scores, found, strict=True)], full=False)
        linear = self.evaluation.table(expanded, seed=self.seed, checkpoint=LINEARISED, full=False)
        with self.change.only(self.change.whole):
            tuned = self._answers(TUNED)
        if self.seed not in set(self.answers["seed"].to_pylist()):
            self.answers = pa.concat_tables([self.answers, *map(self.hide.table, (base, tuned, linear))])
            records.write_table(self.folder / records.ANSWERS, self.answers)
        for answers, name in ((base, records.UNTUNED), (tuned, records.WHOLLY), (linear, records.EXPANSION)):
            if (name, False) not in self.known:
                self._keep(answers, name, "whole", False)
        return how

    def _answers(self, checkpoint: int) -> pa.Table:
        return self.evaluation.answers(self.scorer, seed=self.seed, checkpoint=checkpoint, full=False)

    def _keep(self, answers: pa.Table, name: str, kind: str, left_out: bool) -> None:
        rows = where_rows(rank_table(self.hide.table(answers)), name, kind, left_out)
        self.rows = pa.concat_tables([self.rows, rows])
        records.write_table(self.folder / records.WHERE, self.rows)


def _conclude(
    record: records.Record, details: WhereDetails, pack: Pack, folder: Path, how: list[str], moved: dict[str, float]
) -> None:
    """Every part's figures over all seeds, and how well the expansion predicts what happened."""
    names = [[each.name for each in pack.implications if each.kind in kinds] for kinds in (UNWANTED, WANTED)]
    rows = records.read_table(folder / records.WHERE)
    keys = zip(*(rows[name].to_pylist() for name in ("part", "kind", "left_out")), strict=True)
    details.parts = []
    for part, kind, left_out in dict.fromkeys(keys):
        own = rows.filter((pc.field("part") == part) & (pc.field("left_out") == left_out))
        figures = patched_metrics(ranks_of(own), *names)
        about = {"part": part, "kind": kind, "left_out": left_out, "moved": moved.get(part)}
        details.parts.append(PatchedPart.model_validate(about | figures))
        if part == records.WHOLLY:
            record.metrics = {name: value for name, value in figures.items() if value is not None}
    alignment = alignments(records.read_table(folder / records.ANSWERS), *names)
    details.laziness = Laziness(how=", ".join(dict.fromkeys(how)), moved=moved, alignment=alignment)
    details.files = records.checksums(folder, records.WHERE, records.ANSWERS)


def _lines(folder: Path, found: PatchedModels) -> Iterator[str]:
    """A line a part, with rates alone in the base model and without it in the tuned one; then how lazy it was."""
    sides = {"alone": False, "without": True}
    rows = [["share answered so", "moved", *(f"{group} {side}" for side, group in product(sides, found.groups))]]
    whole = [part for part in found.parts("position") if part.endswith(records.EVERY_LAYER)]
    for part in [*found.parts("whole", "component", "layer"), *whole]:
        rates = [found.rate(group, part, left_out) for left_out, group in product(sides.values(), found.groups)]
        shares = ("" if rate is None else f"{rate:.2f}" for rate in rates)
        rows.append([ENDS.get(part, part), found.moved(part), *shares])
    yield from text_table(rows)
    chances = {group: found.metric(f"{group}_free", records.WHOLLY) for group in found.groups}
    if free := ", ".join(f"{group} {chance.value:.2f}" for group, chance in chances.items() if chance):
        yield f"By chance the tuned model's answers would get: {free}"
    for key, what in (("", "of log-probabilities"), ("_between", "between candidates")):
        said = []
        for group in found.groups:
            cosine, error = (found.alignment(group, f"{name}{key}") for name in ("cosine", "relative_error"))
            if cosine and error:
                said.append(f"{group} {cosine.value:.2f} (error {error.value:.2f})")
        if said:
            yield f"Cosine of the linearised with the actual change {what} ({found.laziness.how}): {', '.join(said)}"
    if finding := position_finding(found):
        yield finding.replace("’", "'")
    if found.preferences:
        yield preference_finding(found).replace("’", "'")
    if lacking := found.record.details_of(WhereDetails).no_positions:
        yield f"Not measured by position: {lacking}"
    yield "Shares whose top answer is the expected one; moved: change of matrices over start (Frobenius norm)"
    yield f"run: {folder}"
    yield f"page: {folder / PAGE}"
