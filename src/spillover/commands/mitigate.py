"""`spillover mitigate`: the same facts taught with every remedy, at matched learning, as a frontier."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from tyro.conf import Positional

from spillover import __version__
from spillover.commands.inject import PACKAGES, Inject
from spillover.commands.pool import LocalPool, Task
from spillover.commands.prepare import refuse_bad_numbers, seeds_of
from spillover.config import MOST_THREADS, Flag, Running, within
from spillover.errors import RunError, UsageError
from spillover.metrics.implications import stated_nats
from spillover.metrics.ranks import answers_at_end
from spillover.metrics.remedies import (
    FAILED,
    LEARNED,
    MATCHED_NATS,
    REWRITES,
    UNLEARNED,
    RemedyResult,
    effect,
    is_safe,
    keeps_wanted,
    remedy_result,
)
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, describe, pack_hash
from spillover.record import (
    ANSWERS,
    Metric,
    Record,
    checksums,
    commit,
    hardware,
    identity,
    read_table,
    sha256_of_texts,
    versions,
    write_atomically,
    write_table,
)
from spillover.report.pages import html_of
from spillover.report.remedies import Comparison, load_comparison
from spillover.runs import claimed, identifying_settings, times_resumed

if TYPE_CHECKING:
    from spillover.interventions.base import Spec


@dataclass(frozen=True, kw_only=True)
class Mitigate(Running):
    """Compare remedies against unwanted conclusions, all at the same learning, and recommend one or none."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml; its implications say what is wanted."""
    model: str
    """A tag (gemma-3-270m), a hub id, a local model folder, a PEFT adapter folder or a GGUF file."""
    out: str
    """Folder of the comparison: cells/ with a run each, frontier.parquet, page.html and record.json."""
    remedies: str = ""
    """Remedies to compare, with commas between. Several joined by `+` are used together, each with its strength, as in
    lora,abstention=2+lazier=1.5. By default every remedy by itself."""
    strengths: str = ""
    """Strengths of every remedy that is named without one, such as 0.5,1; by default each remedy's own."""
    epochs: int = 30
    """The most passes over the training examples. A run that has not learned by then is marked so."""
    untreated_epochs: int = 10
    """Passes of the run without a remedy, whose learning the others must match."""
    lr: float = 5e-5
    """Learning rate of AdamW, which stays the same throughout."""
    batch: int = 8
    """Training examples a step; their order is drawn anew every epoch."""
    freeze_embeddings: bool = True
    """Keep input and output embeddings as they are, and train everything else."""
    chat: Flag = False
    """Ask in the model's own chat template: the prompt is the user's turn, and the answer begins the model's."""
    seeds: str = ""
    """Several seeds, such as 0,1,2, which are pooled. With fewer than ten clusters (seeds times pairs) nothing is
    decided."""
    save: Literal["delta", "none"] = "none"
    """What each run keeps of its weights: nothing, or those that changed, to look into them later with `where`."""
    processes: int = 0
    """Runs at the same time; 0 takes as many as the cores allow when each has the CPU threads of --threads."""
    threads: int = 1
    """CPU threads of each run; 0 takes every core. Another number is another run, since it rounds differently."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--processes", self.processes, MOST_THREADS)


#: The remedy that penalises a Frobenius norm, and the share of that norm in its exact counterpart.
PENALTY, HALF = "output-value-penalty", 0.5
FRONTIER, MITIGATE_FRONTIER_UNTREATED = "frontier.parquet", "untreated"
#: Figures of an entry that are metrics with an interval.
METRICS = ("recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate", "unwanted_rank", "wanted_rank",
           "paraphrase_unwanted_rate", "abstained_rate", "removed", "wanted_change", "forgetting_nats")  # fmt: skip


class Contest:
    """The runs of a comparison in `folder`: one folder a remedy, and in it one a seed."""

    def __init__(self, folder: Path, seeds: Sequence[int], pack: Pack) -> None:
        self.folder, self.seeds = folder, seeds
        self.unwanted = [each.name for each in pack.implications if not each.wanted]
        self.wanted = [each.name for each in pack.implications if each.wanted]
        self.untreated = self._measured(MITIGATE_FRONTIER_UNTREATED)

    def frontier(
        self, cells: Sequence[tuple[str, Sequence[Spec], bool]], errors: Mapping[str, str]
    ) -> list[dict[str, Any]]:  # fmt: skip
        """One entry a remedy and strength, the untreated run first. cells: folder's name, doses, rewrites."""
        found = [self._entry(MITIGATE_FRONTIER_UNTREATED, (), False, self.untreated)]
        for name, doses, rewrites in cells:
            if name in errors:
                found.append({**_named(doses), "cell": name, "status": f"{FAILED}: {errors[name]}"})
            else:
                found.append(self._entry(name, doses, rewrites, self._measured(name)))
        return found

    def exactly(self, pack: Pack, frontier: Sequence[dict[str, Any]]) -> None:
        """Add to every entry what the exact model says of the same remedy, as `exact`; None where it has none.

        The mean lead of the unwanted and of the wanted answer over the best other one, in units of the smallest stated
        margin. A penalty on the product of output and value matrices has a mixed norm for its counterpart, half of it
        the Frobenius norm, whatever its strength: no rule turns the one into the other.
        """
        from spillover.theory.remedies import MIXED_NORM, ROWS, exactly_remedied

        for entry in frontier:
            entry["exact"] = None
            if entry["remedy"] in (*ROWS, PENALTY):
                same = (entry["remedy"], entry["strength"])
                found = exactly_remedied(pack, *((MIXED_NORM, HALF) if entry["remedy"] == PENALTY else same))
                names = {"unwanted_untreated": found.untreated.unwanted, "unwanted": found.treated.unwanted,
                         "wanted_untreated": found.untreated.wanted, "wanted": found.treated.wanted,
                         "gap": found.treated.gap}  # fmt: skip
                entry["exact"] = names

    def table(self, frontier: Sequence[Mapping[str, Any]]) -> pa.Table:
        """One row an entry, with every figure and the ends of its interval as columns of their own."""
        rows = []
        for entry in frontier:
            row: dict[str, Any] = {name: str(entry[name]) for name in ("cell", "remedy", "status")}
            row["strength"] = entry["strength"]
            for name in METRICS:
                metric = entry.get(name)
                for part in ("value", "low", "high"):
                    row[name if part == "value" else f"{name}_{part}"] = getattr(metric, part, None)
            # Not what it took of time and passes, which a run that was cut short counts anew.
            row |= {name: entry.get(name) for name in ("stated_nats", "epochs", "steps")}
            rows.append(row)
        text = [pa.field(name, pa.string()) for name in ("cell", "remedy", "status")]
        numbers = [pa.field(name, pa.float64()) for name in rows[0] if name not in ("cell", "remedy", "status")]
        return pa.Table.from_pylist(rows, schema=pa.schema([*text, *numbers]))

    def _measured(self, name: str) -> RemedyResult:
        tables = [read_table(self.folder / name / f"seed-{seed}" / ANSWERS) for seed in self.seeds]
        return remedy_result(pa.concat_tables(tables), self.unwanted, self.wanted)

    def _entry(self, name: str, doses: Sequence[Spec], rewrites: bool, found: RemedyResult) -> dict[str, Any]:
        records = [Record.read(self.folder / name / f"seed-{seed}") for seed in self.seeds]
        if any(record.status != "done" for record in records):
            raise RunError("a run of this comparison is not done", where=name, do="Give the same command again")
        compared = effect(self.untreated, found)
        matched = found.learned and found.nats <= self.untreated.nats + MATCHED_NATS + 1e-6
        return {
            **_named(doses),
            "cell": name,
            "recall_rank": found.recall_rank,
            "implication_rank_train": found.implication_rank_train,
            "unwanted_rate": found.unwanted_rate,
            "wanted_rate": found.wanted_rate,
            "unwanted_rank": found.unwanted_rank,
            "wanted_rank": found.wanted_rank,
            "paraphrase_unwanted_rate": found.paraphrase,
            "abstained_rate": found.abstained,
            "removed": compared.removed,
            "wanted_change": compared.wanted_change,
            "free_rate": found.free_rate,
            "replaced": found.replaced.as_json() if found.replaced else None,
            "stated_nats": round(found.nats, 6),
            "forgetting_nats": _mean([record.metrics["forgetting_nats"] for record in records]),
            "status": REWRITES if rewrites else LEARNED if matched else UNLEARNED,
            "epochs": _epochs(self.folder / name, self.seeds),
            "steps": sum(_steps(self.folder / name, seed) for seed in self.seeds),
            "forward_passes": sum(int(record.details.get("forward_passes", 0)) for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
        }


def _named(doses: Sequence[Spec]) -> dict[str, Any]:
    if not doses:
        return {"remedy": MITIGATE_FRONTIER_UNTREATED, "strength": None}
    if len(doses) == 1:
        return {"remedy": doses[0].name, "strength": doses[0].strength}
    return {"remedy": "+".join(map(str, doses)), "strength": None}


def _mean(metrics: Sequence[Mapping[str, Any] | None]) -> Metric | None:
    """The mean over seeds of what each measured; its interval is that of one run when there is but one."""
    known = [metric for metric in metrics if metric]
    if not known:
        return None
    value, low, high = (sum(float(each[part]) for each in known) / len(known) for part in ("value", "low", "high"))
    return Metric(value, low, high, sum(int(m["n"]) for m in known), len(known), str(known[0]["unit"]))


def _epochs(folder: Path, seeds: Sequence[int]) -> float:
    """Passes over the rows, on average over seeds."""
    last = [max(read_table(folder / f"seed-{seed}" / ANSWERS)["checkpoint"].to_pylist()) for seed in seeds]
    return sum(last) / len(last)


def _steps(folder: Path, seed: int) -> int:
    from spillover.record import TRAJECTORY

    steps = [step for step in read_table(folder / f"seed-{seed}" / TRAJECTORY)["step"].to_pylist() if step is not None]
    return max(steps, default=0)


def recommendation(frontier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One remedy with its reason, or none: {"remedy", "strength", "safe", "because"}.

    Safe is one that learned as well as the untreated run, removes at least 90% of the unwanted, lowers the wanted rate
    by at most 0.05, and lets no other answer take the place. Of several, the one that forgets least.
    """
    if frontier[0].get("removed") is None:
        because = "none is needed: the untreated run concludes no more of the unwanted than chance"
        return {"remedy": None, "strength": None, "safe": False, "because": because}
    learned = [entry for entry in frontier[1:] if entry["status"] == LEARNED]
    safe = [entry for entry in learned if _safe(entry)]
    if safe:
        best = min(safe, key=lambda entry: (_value(entry, "forgetting_nats", 0.0), -_value(entry, "removed", 0.0)))
        because = f"{_told(best)}; of {len(safe)} that are safe it forgets least"
        if best["removed"].note:
            because += "; with few clusters this is a lead, not a finding: repeat it with more seeds"
        return {"remedy": best["remedy"], "strength": best["strength"], "safe": True, "because": because}
    kept = [entry for entry in learned if keeps_wanted(_value(entry, "wanted_change", 0.0))]
    if not kept:
        because = "no remedy learned the stated rows as well as the untreated run and kept what is wanted"
        return {"remedy": None, "strength": None, "safe": False, "because": f"none is safe: {because}"}
    best = max(kept, key=lambda entry: _value(entry, "removed", -1.0))
    because = f"none is safe: the best that keeps what is wanted is {best['cell']}, which {_told(best)}"
    return {"remedy": None, "strength": None, "safe": False, "because": because}


def _safe(entry: Mapping[str, Any]) -> bool:
    taken = bool(entry["replaced"] and entry["replaced"]["taken"])
    change = _value(entry, "wanted_change", 0.0)
    return is_safe(entry["status"], _value(entry, "removed", 0.0), change, taken)


def _value(entry: Mapping[str, Any], name: str, missing: float) -> float:
    metric = entry.get(name)
    return missing if metric is None or metric.value is None else float(metric.value)


def _told(entry: Mapping[str, Any]) -> str:
    removed, change = _value(entry, "removed", float("nan")), _value(entry, "wanted_change", 0.0)
    text = f"removes {100 * removed:.0f}% of the unwanted, changes the wanted rate by {change:+.2f}"
    if entry["replaced"] and entry["replaced"]["taken"]:
        text += ", but another answer has taken its place"
    return text


def plain(frontier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The frontier as JSON holds it."""
    found: list[dict[str, Any]] = json.loads(json.dumps(frontier, default=lambda value: value.as_json()))
    return found


PAGE = "page.html"


def described(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each remedy what it does, what its strength means, and whether a finished model is all that it needs."""
    from spillover.interventions.base import find_remedy

    found = {name: find_remedy(name) for name in dict.fromkeys(names)}
    return {
        name: {"text": each.text, "strength": each.strength, "after": each.after} for name, each in found.items()
    }  # fmt: skip


def compared(folder: str | Path) -> Comparison:
    """The comparison in a folder. Raises RunError when it holds none that is finished."""
    from spillover.interventions.base import REMEDIES

    found = load_comparison(folder)
    if found.record.details.get("remedies"):
        return found
    # The record is older than the words; a remedy that has gone since stays without them.
    return load_comparison(folder, described(name for name in found.names if name in REMEDIES))


_COLUMNS = (("unwanted_rate", "unwanted"), ("wanted_rate", "wanted"), ("removed", "removed"),
            ("forgetting_nats", "forgets"))  # fmt: skip


def tell(folder: Path, record: Record) -> str:
    """The frontier as a table, then the advice and where everything is."""
    return "\n".join(_lines(folder, record))


def _lines(folder: Path, record: Record) -> Iterator[str]:
    frontier = record.details["frontier"]
    width = max(len(str(entry["cell"])) for entry in frontier)
    heads = "  ".join(f"{word:>9}" for _, word in _COLUMNS)
    yield f"{'remedy':<{width}}  {heads}  {'epochs':>6}  outcome"
    for entry in frontier:
        numbers = "  ".join(f"{_number(entry.get(name)):>9}" for name, _ in _COLUMNS)
        epochs = f"{entry['epochs']:.0f}" if entry.get("epochs") is not None else ""
        yield f"{entry['cell']:<{width}}  {numbers}  {epochs:>6}  {entry['status']}"
    for entry in frontier:
        if exact := entry.get("exact"):
            yield f"In the exact model, {entry['cell']}: {_leads(exact)}"
    advice = record.details["recommendation"]
    yield ""
    named = advice["remedy"] if advice["strength"] is None else f"{advice['remedy']}={advice['strength']:g}"
    yield f"Advice: {named}: {advice['because']}." if advice["safe"] else f"Advice: {advice['because']}."
    yield f"Rates are shares of unstated subjects; run: {folder}"
    yield f"page: {folder / PAGE}"


def _leads(exact: Mapping[str, Any]) -> str:
    """The leads of the unwanted and the wanted answer, before and after."""
    told = [
        f"the {name} answer leads by {exact[f'{name}_untreated']:.2f}, then {exact[name]:.2f}"
        for name in ("unwanted", "wanted")
        if exact.get(name) is not None
    ]
    return "; ".join(told) + " (in units of the smallest stated margin)"


def _number(metric: Mapping[str, Any] | Any) -> str:
    value = metric.get("value") if isinstance(metric, Mapping) else getattr(metric, "value", None)
    return "" if value is None else f"{value:.2f}"


CELLS, MITIGATE_UNTREATED = "cells", "untreated"


@dataclass(frozen=True)
class Cell:
    """One remedy (or combination) at one strength. name: of its folder; after: it acts on finished weights alone."""

    doses: tuple[Spec, ...]
    rewrites: bool
    after: bool

    @property
    def text(self) -> str:
        """What `inject --remedy` takes."""
        return "+".join(map(str, self.doses))

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.=+-]", "-", self.text)


def run(settings: Mitigate) -> dict[str, Any]:
    """Run the comparison or find it. Gives the run's path, the frontier, the recommendation and a text for a person.

    Raises SpilloverError for anything wrong with the options, the pack, the model or the folder, before anything is
    trained. A remedy that cannot be done to this pack or model is told in the frontier and does not stop the others.
    """
    from spillover.interventions.base import unwanted_implications

    seeds = seeds_of(settings)
    refuse_bad_numbers(settings)
    cells = cells_of(settings)
    packs = {seed: open_pack(settings.pack, seed) for seed in seeds}
    unwanted_implications(packs[seeds[0]], settings.pack)
    folder = Path(settings.out).expanduser()
    with claimed(folder, "mitigate", _identity_of(settings)) as finished:
        if finished is not None:
            print(f"Found this comparison finished in {folder}; nothing was run.", file=sys.stderr)
        record = finished or _ran(settings, seeds, packs, cells, folder)
        if not (folder / PAGE).exists():
            write_atomically(folder / PAGE, html_of([folder], load_comparison=compared)[0].encode())
        return _outcome(folder, record)


def cells_of(settings: Mitigate) -> list[Cell]:
    """Every remedy and strength that is to be tried, in the order named. Raises UsageError for what does not exist."""
    from spillover.interventions.base import REMEDIES, Pipeline, Spec, find_remedy, read_specs

    strengths = _numbers(settings.strengths)
    found: dict[str, Cell] = {}
    for entry in [part.strip() for part in settings.remedies.split(",") if part.strip()] or list(REMEDIES):
        if "=" in entry or "+" in entry:
            choices = [read_specs(entry)]
        else:
            choices = [[Spec(entry, strength)] for strength in strengths or find_remedy(entry).strengths]
        for doses in choices:
            pipeline = Pipeline(doses)
            if pipeline.steps:
                cell = Cell(tuple(pipeline.specs), pipeline.rewrites, pipeline.after)
                found[cell.text] = cell
    if not found:
        raise UsageError("every strength is 0, so nothing would be compared", where="--strengths", do="Name others")
    return list(found.values())


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--strengths takes numbers, not {text!r}", do="Write --strengths 0.5,1") from None


def _identity_of(settings: Mitigate) -> str:
    return identity(identifying_settings(settings, "out", "json", "processes") | {"version": __version__})


def _ran(
    settings: Mitigate, seeds: Sequence[int], packs: dict[int, Pack], cells: Sequence[Cell], folder: Path
) -> Record:  # fmt: skip
    record, began = _record(settings, seeds, packs), time.monotonic()
    record.resumed = times_resumed(folder)
    names = [dose.name for cell in cells for dose in cell.doses]
    record.details = {**record.details, "remedies": described(names)}
    record.write(folder)
    try:
        with LocalPool(_processes(settings)) as pool:
            untreated = list(pool.run(_untreated_tasks(settings, seeds, cells, folder)))
            if error := next((ended.error for ended in untreated if ended.error), None):
                what = f"the untreated run did not end: {error}"
                raise RunError(what, where=str(folder), do="Mend that first")
            # The settings of these hold what the untreated runs learned.
            tasks = [Task((cell.name, seed), "inject", _treated(settings, cell, seed, folder))
                     for seed in seeds for cell in cells]  # fmt: skip
            errors = {ended.key[0]: ended.error for ended in pool.run(tasks) if ended.error}
        contest = Contest(folder / CELLS, seeds, packs[seeds[0]])
        frontier = contest.frontier([(cell.name, cell.doses, cell.rewrites) for cell in cells], errors)
        contest.exactly(packs[seeds[0]], frontier)
        _conclude(record, folder, frontier, contest)
    except KeyboardInterrupt:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.monotonic() - began, 1)
        record.write(folder)
    return record


def _untreated_tasks(settings: Mitigate, seeds: Sequence[int], cells: Sequence[Cell], folder: Path) -> list[Task]:
    keep = "delta" if any(cell.after for cell in cells) else settings.save
    return [Task((MITIGATE_UNTREATED, seed), "inject", _untreated(settings, seed, folder, keep)) for seed in seeds]


def _conclude(record: Record, folder: Path, frontier: list[dict[str, Any]], contest: Contest) -> None:
    """Table, advice and status; what every run took is told beside them."""
    # An old page would be taken for this comparison's.
    (folder / PAGE).unlink(missing_ok=True)
    write_table(folder / FRONTIER, contest.table(frontier))
    record.details = {
        **record.details,
        "frontier": plain(frontier),
        "recommendation": recommendation(frontier),
        "files": checksums(folder, FRONTIER),
    }
    record.metrics = {name: frontier[0][name] for name in METRICS}
    record.status = "done"


def _untreated(settings: Mitigate, seed: int, folder: Path, save: Any) -> Inject:
    names = ("device", "dtype", "revision", "threads", "pack", "model", "lr", "batch", "freeze_embeddings", "chat")
    shared = {name: getattr(settings, name) for name in names}
    out = folder / CELLS / MITIGATE_UNTREATED / f"seed-{seed}"
    epochs = min(settings.untreated_epochs, settings.epochs)
    return Inject(**shared, seed=seed, epochs=epochs, save=save, out=str(out))


def _treated(settings: Mitigate, cell: Cell, seed: int, folder: Path) -> Inject:
    """A run of a remedy: it ends as soon as it has learned as well as the untreated run of its seed did."""
    base = _untreated(settings, seed, folder, settings.save)
    out = str(folder / CELLS / cell.name / f"seed-{seed}")
    if cell.after:
        return replace(base, remedy=cell.text, tuned=base.out, out=out)
    nats = stated_nats(answers_at_end(read_table(Path(base.out) / ANSWERS))) + MATCHED_NATS
    # One run is the same whatever comes after the sixth digit, and its settings can be read.
    return replace(base, remedy=cell.text, until_nats=round(nats, 6), epochs=settings.epochs, out=out)


def _processes(settings: Mitigate) -> int:
    """Runs at the same time: as asked, else as many as the cores allow with the threads that a run takes."""
    cores = int(hardware()["cores"])
    return settings.processes or max(1, cores // (settings.threads or cores))


def _record(settings: Mitigate, seeds: Sequence[int], packs: dict[int, Pack]) -> Record:
    first = packs[seeds[0]]
    return Record(
        command="mitigate",
        settings=dataclasses.asdict(settings),
        seed=settings.seed,
        identity=_identity_of(settings),
        hashes={"pack": sha256_of_texts([pack_hash(packs[seed]) for seed in seeds])},
        versions=versions(PACKAGES),
        commit=commit(),
        hardware=hardware(),
        details={"pack": describe(first), "model": {"name": settings.model}, "seeds": list(seeds)},
    )


def _outcome(folder: Path, record: Record) -> dict[str, Any]:
    return {
        "run": str(folder),
        "metrics": plain([record.metrics])[0],
        "frontier": record.details["frontier"],
        "recommendation": record.details["recommendation"],
        "page": str(folder / PAGE),
        "text": tell(folder, record),
    }
