"""`spillover mitigate`: the same facts taught with every remedy, at matched learning, as a frontier."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from tyro.conf import Positional, arg

from spillover import record as records
from spillover import results
from spillover.commands.held import Model, held_folder, held_model, identifying, name_of, settings_from, write_held
from spillover.commands.inject import PACKAGES, Inject
from spillover.commands.pool import LocalPool, Task
from spillover.commands.prepare import refuse_bad_numbers, seeds_of, weights_now, worded, words_of
from spillover.config import MOST_THREADS, Browsing, Chat, Flag, Running, with_fields_of, within
from spillover.details import (
    FrontierEntry,
    InjectDetails,
    MitigateDetails,
    ModelFacts,
    Recommendation,
    RemedyText,
    Saved,
)
from spillover.errors import RunError, UsageError
from spillover.lm.built_in import DEFAULT, training_of
from spillover.metrics import remedies as judging
from spillover.metrics.found import found_in_pack, standing_out
from spillover.metrics.implications import LEARNED as LEARNED_RANK
from spillover.metrics.implications import stated_nats
from spillover.metrics.ranks import answers_at_end
from spillover.packs.edits import EDITS, held_out
from spillover.packs.open import open_pack
from spillover.packs.pack import AUTO, Pack, describe, pack_hash, with_kinds
from spillover.report.pages import html_of
from spillover.report.remedies import SAFE, Comparison, Tried, at_hand, load_comparison
from spillover.results import text_table
from spillover.runs import identity_of, open_run

if TYPE_CHECKING:
    from spillover.interventions.base import Pipeline


@dataclass(frozen=True, kw_only=True)
class Mitigate(Running, Chat, Browsing):
    """Compare remedies against unwanted conclusions, all at the same learning, and recommend one or none."""

    pack: Annotated[Positional[str], arg(metavar="PACK")]
    """A built-in pack with its options, a pack folder, a pack.yaml or a training file. Its implications say what is
    wanted; where it declares none, those that its rows suggest are taken, and the base model judges them."""
    model: str = DEFAULT
    """A tag, of which `spillover models` lists all, a hub id, a local model folder, a PEFT adapter folder or a GGUF
    file."""
    out: str
    """Folder of the comparison: cells/ with a run each, frontier.parquet, page.html and record.json."""
    remedies: str = ""
    """Remedies to compare, with commas between. Several joined by `+` are used together, each with its strength, as in
    lora,abstention=2+lazier=1.5. By default every remedy by itself, without those that are another's control or were
    never within reach of the best in a kept comparison."""
    all_remedies: Flag = False
    """Also try those that were never within reach of the best, for research."""
    minutes: float = 0.0
    """A limit of time, in minutes. Within it the model is trained without a remedy, then with the three that did best
    elsewhere, or those of --remedies, as far as there is time; the recommended model is written. 0 sets no limit."""
    strengths: str = ""
    """Strengths of every remedy that is named without one, such as 0.5,1; by default each remedy's own."""
    epochs: int = 30
    """The most passes over the training examples. A run that has not learned by then is marked so."""
    untreated_epochs: int = 10
    """Passes of the run without a remedy, whose learning the others must match; the comparison stops when it has not
    learned by then."""
    lr: float | None = None
    """Learning rate of AdamW, which stays the same throughout; by default the one recorded for a built-in model, and
    5e-5 for any other."""
    batch: int = 8
    """Training examples a step; their order is drawn anew every epoch."""
    freeze_embeddings: bool = True
    """Keep input and output embeddings as they are, and train everything else."""
    seeds: str = ""
    """Several seeds, such as 0,1,2, which are pooled. With fewer than ten clusters (seeds times pairs) counts tell of
    these models, and nothing of others."""
    hold_out: Flag = False
    """Leave half of the subjects that are asked about, and the last of three or more wordings, out of what
    stay-near-base and told-in-prompt hold, so that the frontier has their rates there too."""
    hold_out_relation: str = ""
    """Also leave out every question of this concluded relation, by its name: its rates are then of a relation that no
    penalty held. Compare them with those of the same command without it."""
    save: Literal["delta", "none"] = "none"
    """What each run keeps of its weights: nothing, or those that changed, to look into them later with `where`. With
    delta, as with --minutes, the recommended model is written."""
    processes: int = 0
    """Runs at the same time; 0 takes as many as the cores allow when each has the CPU threads of --threads."""
    threads: int = 1
    """CPU threads of each run; 0 takes every core. Another number is another run, since it rounds differently."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.all_remedies and (self.remedies.strip() or self.minutes):
            do = "Leave one of them out"
            raise UsageError("--all-remedies takes every remedy, and --remedies or --minutes some", do=do)
        object.__setattr__(self, "lr", training_of(self.model)[0] if self.lr is None else self.lr)
        within("--processes", self.processes, MOST_THREADS)
        if not 0 <= self.minutes < math.inf:
            raise UsageError(f"--minutes is {self.minutes:g}", do="Give --minutes a number from 0")


#: Files and folders of a comparison, and the folder of its runs without a remedy.
FRONTIER, PAGE, CELLS, UNTREATED = "frontier.parquet", "page.html", "cells", "untreated"
#: A penalty on the product of output and value matrices has a mixed norm for its exact counterpart, half of it the
#: Frobenius norm, whatever its strength: no rule turns the one into the other.
PENALTY, HALF = "output-value-penalty", 0.5
#: With --minutes, what a run of a remedy may take of the time of the untreated run: one that trains, one for finished
#: weights; and its passes, of those of the untreated run.
TRAINING, FINISHED, PASSES = 2.0, 0.5, 1.5


def mitigate(
    pack: Pack | str | Path, model: Model = DEFAULT, *, out: str | Path = "", **options: Any
) -> results.Comparison:
    """Compare remedies against unwanted conclusions, all at the same learning, and recommend one or none.

    Arguments:
    - pack: a pack, or what `open_pack` opens; its implications say what is unwanted.
    - model: a tag, hub id or folder, or a transformers model and its tokenizer. It is not changed.
    - out: folder of the comparison; without one, a temporary folder that goes with the result.
    - options: of `spillover mitigate`, as `remedies="abstention=2,scale-back"` and `epochs=10`.

    Returns: `.frontier` (one row a remedy and strength), `.recommendation`, and `.metrics` of the untreated run.

    Raises: SpilloverError for anything wrong with the options, the pack, the model or the folder.
    """
    folder, holder = held_folder(out)
    run(settings_from(Mitigate, pack=name_of(pack), model=name_of(model), out=folder, **options), pack, model)
    return results.Comparison(folder, holder)


def run(settings: Mitigate, pack: Pack | str | Path = "", model: Model | None = None) -> dict[str, Any]:
    """Run the comparison or find it. pack, model: what a Python caller holds in place of names in the settings."""
    from spillover.interventions.base import unwanted_implications
    from spillover.lm.save import files_saved

    began, seeds = time.monotonic(), seeds_of(settings)
    refuse_bad_numbers(settings)
    settings = limited(settings)
    cells = cells_of(settings)
    facts = [open_pack(pack or settings.pack, seed) for seed in seeds]
    packs = [with_suggested(each, settings.pack) for each in facts]
    if not any(each.kind == AUTO for each in packs[0].implications):
        unwanted_implications(packs[0], settings.pack)
    held = held_model(model) if model else None
    folder = Path(settings.out).expanduser()
    settings, words = worded(settings, packs[0], (settings.model, held))
    identity = identity_of(settings, "processes", **identifying(pack, held.sha256 if held else None), **words)

    def made_from() -> dict[str, str | None]:
        stated = records.sha256_of_texts([pack_hash(each) for each in facts])
        return {"pack": stated, **weights_now(model=(settings.model, held, settings.revision, ""))}

    # What failed may have failed for want of memory, so the same command tries it again; not for want of time.
    def whole(record: records.Record) -> bool:
        return bool(settings.minutes) or not any(map(_failed, record.details_of(MitigateDetails).frontier))

    with open_run(folder, "mitigate", identity, whole=whole, made_from=made_from) as opened:
        if opened.finished is None:
            known, named = describe_remedies(), [spec.name for pipeline in cells.values() for spec in pipeline.specs]
            details = MitigateDetails(
                pack=describe(packs[0]), model=ModelFacts(name=settings.model), seeds=list(seeds), **words
            )
            details.remedies = {name: known[name] for name in named}
            about = {"seed": settings.seed, "hashes": opened.hashes, "details": details}
            with opened.recording(settings, PACKAGES, **about) as record:
                suggested = packs[0] if packs[0] is not facts[0] else pack
                own_pack, own_model = write_held(suggested, held, folder)
                own = replace(settings, pack=own_pack or settings.pack, model=own_model or settings.model)
                ends = began - opened.seconds_before + 60 * settings.minutes if settings.minutes else math.inf
                errors = _run_cells(own, seeds, packs[0], cells, settings.pack, ends)
                judged = judged_pack(own, seeds[0], packs[0], cells)
                details.pack = describe(judged)
                drawn = zip(seeds, packs, strict=True)
                out = {seed: held_out(each, seed) for seed, each in drawn} if settings.hold_out else None
                frontier = frontier_of(folder, seeds, judged, cells, errors, out)
                records.write_table(folder / FRONTIER, frontier_table(frontier))
                record.metrics = {name: frontier[0].metric(name) for name in judging.METRICS}
                details.frontier, details.recommendation = frontier, recommendation(frontier)
                if settings.save == "delta" and details.recommendation.safe:
                    details.saved = _write_recommended(own, judged, seeds[0], details, folder)
                details.files = records.checksums(folder, FRONTIER, *files_saved(folder))
        if opened.finished is None or not (folder / PAGE).exists():
            records.write_atomically(folder / PAGE, html_of([folder], load_comparison=compared)[0].encode())
    record = records.Record.read(folder)
    found = record.details.as_json("frontier", "recommendation")
    text = "\n".join(_lines(folder, record.details_of(MitigateDetails)))
    return {"run": str(folder), "metrics": record.metrics, **found, "page": str(folder / PAGE), "text": text}


def limited(settings: Mitigate) -> Mitigate:
    """With --minutes: the remedies to try first, unless some are named, no more passes than the time is reckoned for,
    and weights kept, of which the recommended model is written."""
    if not settings.minutes:
        return settings
    passes = math.ceil(PASSES * min(settings.untreated_epochs, settings.epochs))
    named = settings.remedies or ",".join(judging.to_try())
    return replace(settings, remedies=named, epochs=min(settings.epochs, passes), save="delta")


def with_suggested(pack: Pack, where: str) -> Pack:
    """The pack; where it declares no implication, with those that its rows suggest, of kind auto.

    Raises UsageError when they suggest none.
    """
    if pack.implications:
        return pack
    rules = standing_out(found_in_pack(pack))
    if not rules:
        what = "these facts declare no implication and suggest none, so there is no conclusion to remove"
        raise UsageError(what, where=where, do="Declare one in a pack.yaml, as an implication of kind spurious")
    return replace(pack, implications=rules)


def cells_of(settings: Mitigate) -> dict[str, Pipeline]:
    """Name of its folder -> every remedy and strength that is to be tried, in the order named."""
    from spillover.interventions.base import Pipeline, Spec, find_remedy, read_specs, shelf

    try:
        strengths = [float(part) for part in settings.strengths.split(",") if part.strip()]
    except ValueError:
        what = f"--strengths takes numbers, not {settings.strengths!r}"
        raise UsageError(what, do="Write --strengths 0.5,1") from None
    pipelines: list[Pipeline] = []
    away = () if settings.all_remedies else judging.out_of_reach()
    every = [name for name in shelf() if name not in away]
    for entry in [part.strip() for part in settings.remedies.split(",") if part.strip()] or every:
        if "=" in entry or "+" in entry:
            pipelines.append(Pipeline(read_specs(entry)))
        else:
            pipelines += [Pipeline([Spec(entry, each)]) for each in strengths or find_remedy(entry).strengths]
    found = {re.sub(r"[^\w.=+-]", "-", str(pipeline)): pipeline for pipeline in pipelines if pipeline.specs}
    if not found:
        raise UsageError("every strength is 0, so nothing would be compared", where="--strengths", do="Name others")
    return found


def _run_cells(
    settings: Mitigate, seeds: Sequence[int], pack: Pack, cells: Mapping[str, Pipeline], named: str, ends: float
) -> dict[str, str]:
    """The untreated runs, then those of the remedies that fit before `ends`, a moment of the monotonic clock. named:
    the pack, as the user named it. Gives the error of each cell that has one, by name."""
    from spillover.interventions.base import unwanted_implications

    cores = int(records.hardware()["cores"])
    untreated = {seed: untreated_run(settings, seed, cells) for seed in seeds}
    workers = settings.processes or max(1, cores // (settings.threads or cores))
    with LocalPool(workers) as pool:
        # What is done is not handed out, so that a comparison that stopped below says so again at once.
        waiting = {seed: own for seed, own in untreated.items() if not _done(Path(own.out))}
        tasks = [Task((UNTREATED, seed), "inject", own) for seed, own in waiting.items()]
        if error := next((ended.error for ended in list(pool.run(tasks)) if ended.error), None):
            raise RunError(f"the untreated run did not end: {error}", where=settings.out, do="Mend that first")
        unwanted_implications(judged_pack(settings, seeds[0], pack, cells), named)
        refuse_unlearned(list(untreated.values()), pack)
        once = sum(records.Record.read(Path(own.out)).seconds for own in untreated.values()) / min(workers, len(cells))
        late = _late(cells, once, ends - time.monotonic())
        # The settings of these depend on what the untreated runs learned.
        pairs = [(name, seed) for seed in seeds for name in cells if name not in late]
        tasks = [Task((name, seed), "inject", remedy_run(settings, seed, cells, name)) for name, seed in pairs]
        return late | {ended.key[0]: ended.error for ended in pool.run(tasks) if ended.error}


def _late(cells: Mapping[str, Pipeline], once: float, left: float) -> dict[str, str]:
    """Why a cell is not tried, by name, of those that may not end in the seconds that are left. once: seconds that the
    untreated runs would take of them."""
    late = {}
    for name, pipeline in cells.items():
        takes = once * (FINISHED if pipeline.after else TRAINING)
        if takes > left:
            late[name] = f"not tried, it may take {takes / 60:.1f} minutes and {max(0.0, left) / 60:.1f} were left"
        else:
            left -= takes
    return late


def _done(run: Path) -> bool:
    return (run / records.RECORD).exists() and records.Record.read(run).status == "done"


def judged_pack(settings: Mitigate, seed: int, pack: Pack, cells: Mapping[str, Pipeline]) -> Pack:
    """The pack with its kinds as the untreated run of a seed judged them."""
    record = records.Record.read(Path(untreated_run(settings, seed, cells).out))
    return with_kinds(pack, record.details.pack)


def refuse_unlearned(untreated: Sequence[Inject], pack: Pack) -> None:
    """Raise UsageError when the untreated runs ended without having learned what is stated: nothing can be matched."""
    tables = [records.read_table(Path(own.out) / records.ANSWERS) for own in untreated]
    found = judging.remedy_result(records.joined_tables(tables), pack)
    if found.learned:
        return
    words = {"recall_rank": "stated facts", "implication_rank_train": "stated implications"}
    ranks = [f"{word} {metric.value:.2f}" for name, word in words.items() if (metric := found.metrics[name])]
    epochs = untreated[0].epochs
    what = f"the untreated run had not learned the stated rows after {epochs} {'epoch' if epochs == 1 else 'epochs'} "
    what += f"(mean rank of {', of '.join(ranks)}; at most {LEARNED_RANK:g} is learned), so no remedy can be judged"
    raise UsageError(what, where="--untreated-epochs", do="Raise --untreated-epochs (and --epochs, its cap) or --lr")


def untreated_run(settings: Mitigate, seed: int, cells: Mapping[str, Pipeline]) -> Inject:
    """The run that remedies are compared with. It keeps its weights when a remedy for finished weights needs them."""
    save = "delta" if any(pipeline.after for pipeline in cells.values()) else settings.save
    own = with_fields_of(settings, Inject, json=False, seed=seed, seeds="", processes=1, save=save,
                          ask_again=True)  # fmt: skip
    out = str(Path(settings.out).expanduser() / CELLS / UNTREATED / f"seed-{seed}")
    return replace(own, epochs=min(settings.untreated_epochs, settings.epochs), out=out)


def remedy_run(settings: Mitigate, seed: int, cells: Mapping[str, Pipeline], name: str) -> Inject:
    """A run of a remedy: it ends as soon as it has learned as well as the untreated run of its seed did."""
    base = untreated_run(settings, seed, cells)
    out = str(Path(settings.out).expanduser() / CELLS / name / f"seed-{seed}")
    own = replace(base, remedy=str(cells[name]), save=settings.save, out=out)
    if cells[name].after:
        return replace(own, tuned=base.out)
    nats = stated_nats(answers_at_end(records.read_table(Path(base.out) / records.ANSWERS))) + judging.MATCHED_NATS
    # One run is the same whatever comes after the sixth digit, and its settings can be read.
    return replace(own, until_nats=round(nats, 6), epochs=settings.epochs)


def _write_recommended(settings: Mitigate, pack: Pack, seed: int, details: MitigateDetails, folder: Path) -> Saved:
    """The recommended model of one seed as a folder that any loader opens, asked again, with its card."""
    import torch

    from spillover.commands.card import ROWS, write_card
    from spillover.lm.load import load_model
    from spillover.lm.save import kept_in, opened, save_model, saved_as_measured

    assert details.recommendation is not None
    untreated, *tried = details.frontier
    advice = details.recommendation
    best = next(each for each in tried if (each.remedy, each.strength) == (advice.remedy, advice.strength))
    torch.set_num_threads(settings.threads or int(records.hardware()["cores"]))
    base = load_model(settings.model, device=settings.device, dtype=settings.dtype, revision=settings.revision)
    model = opened(kept_in(folder / CELLS / best.cell / f"seed-{seed}"), base)
    path = save_model(model, base, "weights", folder)
    assert path is not None
    asked = words_of(settings.model, base, settings)(pack)
    found = saved_as_measured(path, model, base, asked, "Try --dtype float32")
    before, after = ({name: each.metric(name) for name in ROWS} for each in (untreated, best))
    done = f"The base model was fine-tuned on stated facts with the remedy `{Tried(best).label}`."
    write_card(path, done, settings.model, pack, before, after, "the same training without a remedy")
    return found


def frontier_of(
    folder: Path, seeds: Sequence[int], pack: Pack, cells: Mapping[str, Pipeline], errors: Mapping[str, str],
    out: Mapping[int, frozenset[str]] | None = None,
) -> list[FrontierEntry]:  # fmt: skip
    """One entry a remedy and strength, the untreated run first. errors: why a cell failed, by its name. out: seed ->
    the subjects that were held out of remedies, if any were."""
    untreated: judging.RemedyResult | None = None
    frontier = []
    for cell, pipeline in {UNTREATED: None, **cells}.items():
        specs = pipeline.specs if pipeline else ()
        remedy = specs[0].name if len(specs) == 1 else "+".join(map(str, specs)) or UNTREATED
        strength = specs[0].strength if len(specs) == 1 else None
        asked = {"cell": cell, "remedy": remedy, "strength": strength, "exact": _exact(pack, remedy, strength)}
        if cell in errors:
            frontier.append(FrontierEntry.model_validate(asked | {"status": f"{judging.FAILED}: {errors[cell]}"}))
            continue
        runs = [folder / CELLS / cell / f"seed-{seed}" for seed in seeds]
        made = [records.Record.read(run) for run in runs]
        if any(record.status != "done" for record in made):
            raise RunError("a run of this comparison is not done", where=cell, do="Give the same command again")
        answers = [records.read_table(run / records.ANSWERS) for run in runs]
        again = [records.read_table(run / records.ASKED_AGAIN) for run in runs]
        found = judging.remedy_result(records.joined_tables(answers), pack, out, records.joined_tables(again))
        untreated = untreated or found
        matched = found.learned and found.nats <= untreated.nats + judging.MATCHED_NATS + 1e-6
        status = judging.LEARNED if matched else judging.UNLEARNED
        measured = {
            **found.metrics,
            **judging.effect(untreated, found),
            "free_rate": found.free_rate,
            "replaced": found.replaced,
            "stated_nats": round(found.nats, 6),
            "forgetting_nats": _mean([record.metrics["forgetting_nats"] for record in made]),
            "status": judging.REWRITES if pipeline and pipeline.rewrites else status,
            "epochs": sum(max(table["checkpoint"].to_pylist()) for table in answers) / len(answers),
            "steps": sum(pc.max(records.read_table(run / records.TRAJECTORY)["step"]).as_py() or 0 for run in runs),
            "forward_passes": sum(record.details_of(InjectDetails).forward_passes for record in made),
            "seconds": round(sum(record.seconds for record in made), 1),
        }
        frontier.append(FrontierEntry.model_validate(asked | measured))
    return frontier


def _exact(pack: Pack, remedy: str, strength: float | None) -> dict[str, float | None] | None:
    """What the exact model says of the same remedy, None where it has none: the mean lead of the unwanted and of the
    wanted answer over the best other one, in units of the smallest stated margin."""
    from spillover.theory.associations import MIXED_NORM, exactly_remedied

    if strength is None or remedy not in (*EDITS, PENALTY):
        return None
    found = exactly_remedied(pack, *((MIXED_NORM, HALF) if remedy == PENALTY else (remedy, strength)))
    before, after = found.untreated, found.treated
    leads = {"unwanted_untreated": before.unwanted, "unwanted": after.unwanted}
    return leads | {"wanted_untreated": before.wanted, "wanted": after.wanted, "gap": after.gap}


def _mean(metrics: Sequence[Mapping[str, Any] | None]) -> records.Metric | None:
    """The mean over seeds of what each measured, and of the ends of its interval."""
    known = [metric for metric in metrics if metric]
    if not known:
        return None
    value, low, high = (sum(float(each[part]) for each in known) / len(known) for part in ("value", "low", "high"))
    return records.Metric(value, low, high, sum(int(m["n"]) for m in known), len(known), str(known[0]["unit"]))


def _failed(entry: FrontierEntry) -> bool:
    """Whether a remedy could not be tried."""
    return entry.status.startswith(f"{judging.FAILED}:")


def frontier_table(frontier: Sequence[FrontierEntry]) -> pa.Table:
    """One row an entry, with every figure and the ends of its interval as columns of their own."""
    texts = ("cell", "remedy", "status")
    rows = [
        {name: getattr(entry, name) for name in (*texts, "strength")}
        | Tried(entry).row(judging.METRICS, "low", "high")
        # Not what it took of time and passes, which a run that was cut short counts anew.
        | Tried(entry).row(("stated_nats", "epochs", "steps"))
        for entry in frontier
    ]
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in rows[0]])
    return pa.Table.from_pylist(rows, schema)


def recommendation(frontier: Sequence[FrontierEntry]) -> Recommendation:
    """Of the safe remedies (`is_safe`) the one that forgets least, or none, with the reason."""
    nothing = judging.leaves_nothing(frontier[0])
    untreated, *tried = (Tried(each, nothing=nothing) for each in frontier)
    kept, safe = [each for each in tried if each.keeps], [each for each in tried if each.group == SAFE]
    if safe and not nothing:
        best = min(safe, key=lambda each: (each.value("forgetting_nats") or 0.0, -each.removed))
        because = f"{_achieved(best)}; of {len(safe)} that are safe it forgets least"
        if (removed := best.metric("removed")) and removed.note:
            because += "; whether it would happen again, too few given answers tell: repeat it with more seeds"
        return Recommendation(remedy=best.entry.remedy, strength=best.entry.strength, safe=True, because=because)
    because = "none is safe: no remedy learned the stated rows as well as the untreated run and kept what is wanted"
    if tried and all(_failed(each.entry) for each in tried):
        because = f"none could be judged: {tried[0].label} {tried[0].status.removesuffix('.')}"
    if nothing:
        because = judging.nothing_said(untreated.entry)
    elif kept:
        best = max(kept, key=lambda each: each.removed)
        because = f"none is safe: the best that keeps what is wanted is {best.entry.cell}, which {_achieved(best)}"
    return Recommendation(remedy=None, strength=None, safe=False, because=because)


def _achieved(each: Tried) -> str:
    removed, change = each.value("removed"), each.value("wanted_change") or 0.0
    share = "an unknown share" if removed is None else f"{100 * removed:.0f}%"
    text = f"removes {share} of the unwanted, changes the wanted rate by {change:+.2f}"
    text += ", but another answer has taken its place" if each.taken else ""
    return text + (f"; {said}" if each.still and (said := judging.asked_again_said(each.entry)) else "")


def describe_remedies() -> dict[str, RemedyText]:
    """What each remedy does, by its name."""
    from spillover.interventions.base import remedies

    every = remedies().items()
    return {name: RemedyText(text=each.text, strength=each.strength, after=each.after) for name, each in every}


def compared(folder: str | Path) -> Comparison:
    """The finished comparison in a folder; an old record does not say what its remedies do."""
    return load_comparison(folder, describe_remedies())


def _lines(folder: Path, details: MitigateDetails) -> Iterator[str]:
    yield from text_table(results.Comparison(folder).table(), left=(0, 6))
    for entry in details.frontier:
        if exact := entry.exact:
            leads = [
                f"the {name} answer leads by {exact[f'{name}_untreated']:.2f}, then {exact[name]:.2f}"
                for name in ("unwanted", "wanted")
                if exact.get(name) is not None
            ]
            yield f"In the exact model, {entry.cell}: {'; '.join(leads)} (in units of the smallest stated margin)"
        rates = {name: metric.value for name in judging.HELD_OUT if (metric := entry.metric(name))}
        if known := [f"{name.replace('_', ' ')} {value:.2f}" for name, value in rates.items() if value is not None]:
            yield f"Held out, {entry.cell}: {', '.join(known)}"
        if said := judging.asked_again_said(entry):
            yield f"Asked again, {entry.cell}: {said}"
    if (found := compared(folder)).few:
        yield f"\n{at_hand(found)}"
    if advice := results.Comparison(folder).recommendation:
        strength = "" if advice.strength is None else f"={advice.strength:g}"
        yield f"\nAdvice: {f'{advice.remedy}{strength}: ' if advice.safe else ''}{advice.because}."
    if details.saved:
        from spillover.lm.save import WEIGHTS

        yield f"The recommended model, trained with it: {folder / WEIGHTS}"
    yield f"Rates are shares of unstated subjects; run: {folder}"
    yield f"page: {folder / PAGE}"
