"""A run folder as the page reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover import record as records
from spillover.details import AuditDetails, Excess, ImplicationOutline, Invented, PackOutline, Verdict
from spillover.errors import RunError
from spillover.metrics.found import suggested_in, under
from spillover.metrics.implications import TRAJECTORY_SCHEMA, pooled, summarise
from spillover.metrics.ranks import RankTable, rank_table
from spillover.metrics.verdicts import excess, invented_of, recall_of, verdicts_of
from spillover.packs.pack import Implication

#: Settings by which a label tells two runs on the same pack apart, in this order, with what runs had before it existed.
_DISTINCT = {
    **dict.fromkeys(("model", "lora", "freeze_embeddings", "facts_known", "epochs", "lr", "batch", "weight_decay")),
    **dict.fromkeys(("dtype", "device", "seed", "seeds", "lora_targets")),
    "optimiser": "adamw", "gradient_checkpointing": False, "logits_at_once": 0, "compile_layers": False,
}  # fmt: skip


@dataclass(frozen=True)
class LoadedRun:
    """One run: its record, one row a question (`ranks`), one row a candidate (`answers`), and its trajectory.

    metrics: the record's; when it has none, those of the last answers it wrote. inside, shared: what `--inside` saw.
    found: the implications that its stated rows suggest, where the pack declares none.
    """

    record: records.Record
    metrics: Mapping[str, Any]
    ranks: RankTable
    answers: pa.Table
    trajectory: pa.Table
    inside: pa.Table | None = None
    shared: pa.Table | None = None
    found: tuple[Implication, ...] = ()

    @classmethod
    def of_record(cls, record: records.Record) -> LoadedRun:
        """A run of which only the record is there."""
        answers = records.ANSWER_SCHEMA.empty_table()
        return cls(record, record.metrics, rank_table(answers), answers, TRAJECTORY_SCHEMA.empty_table())

    @property
    def finished(self) -> bool:
        return self.record.status == "done"

    @property
    def warning(self) -> str:
        """That the model forgot more than it should, or nothing."""
        watched = getattr(self.record.details, "forgetting", None)
        return watched.sentence if watched and watched.exceeded is not None else ""

    @property
    def audited(self) -> bool:
        """Whether two finished models were compared, instead of one before and after training."""
        return self.record.command == "audit"

    @cached_property
    def pack(self) -> PackOutline:
        """What the record says of the pack, and the implications that were found where it declares none."""
        own, details = self.record.details.pack, self.record.details
        kinds = {each.implication: each.kind for each in details.verdicts} if isinstance(details, AuditDetails) else {}
        found = [ImplicationOutline(given=each.given, then=each.then, kind=kinds.get(each.name, each.kind),
                                    map=dict(each.map)) for each in self.found]  # fmt: skip
        return own.model_copy(update={"implications": found}) if found else own

    @property
    def pack_name(self) -> str:
        """The pack's name with its options, without any folder."""
        name, asked = self.pack.name, str(self.record.settings.get("pack") or "")
        return asked if name and asked.startswith(f"{name}:") else name or Path(asked).name or "unnamed pack"

    @property
    def seeds(self) -> list[int]:
        """Every seed that was measured, or the record's when nothing was."""
        measured = sorted({int(seed) for seed in self.ranks.seed})
        return measured or self.record.details.seeds or [self.record.seed]

    @cached_property
    def candidates(self) -> dict[str, list[str]]:
        """Relation -> its candidates in alphabetical order."""
        relations = self.answers.group_by("relation").aggregate([("candidate", "distinct")]).to_pylist()
        return {each["relation"]: sorted(each["candidate_distinct"]) for each in relations}

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Relation -> the prompt it was trained with, `{subject}` in it."""
        return {each.name: each.prompts[0] for each in self.pack.relations if each.prompts}

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """Implication -> its verdict: an audit's own, else judged from the answers by the same tests."""
        return {each.implication: each for each in verdicts_of(self.record, self.answers)}

    @cached_property
    def recall(self) -> tuple[int, int]:
        """How many stated answers come first in the end, and how many there are."""
        return recall_of(self.record, self.answers)

    @cached_property
    def excess(self) -> Excess | None:
        """How far the tuned model goes beyond what is warranted; None where that was not judged."""
        return excess(self.answers)

    @cached_property
    def invented(self) -> Invented | None:
        """How many open questions newly have a confident answer that nobody stated; None of a single measurement."""
        return invented_of(self.record, self.answers)

    @property
    def model(self) -> str:
        """Name of the model that was trained, or of the tuned one that was audited."""
        return str(self.record.settings.get("tuned" if self.audited else "model") or "a model")

    @property
    def trained_part(self) -> str:
        """Which weights were trained, as every caption says it."""
        settings = self.record.settings
        if self.record.command == "predict":
            return "nothing was trained"
        if self.audited:
            return "two finished models compared; nothing was trained here"
        rows = " on the stated implications alone" if settings.get("facts_known") else ""
        if settings.get("remedy"):
            # A remedy may be about which weights are trained.
            return f"trained with the remedy {settings['remedy']}{rows}"
        if rank := settings.get("lora"):
            targets = f" on {settings['lora_targets']}" if settings.get("lora_targets") else ""
            return f"a LoRA adapter of rank {rank}{targets} trained{rows}"
        part = "all weights but the embeddings" if settings.get("freeze_embeddings") else "all weights"
        return f"{part} trained{rows}"

    def metric(self, name: str, implication: str | None = None) -> records.Metric | None:
        """A metric of the whole run or of one implication; None when it was not measured."""
        found = self.metrics
        if implication is not None:
            found = (found.get("implications") or {}).get(implication) or {}
        value = found.get(name)
        return value if isinstance(value, records.Metric) else metric_of(value)

    def curve(self, quantity: str, implication: str | None = None) -> dict[float, np.ndarray]:
        """Epoch -> the values of a quantity in the trajectory, one a seed (or a step, if several share an epoch)."""
        found: dict[float, list[float]] = {}
        for row in self.trajectory.to_pylist():
            if row["quantity"] == quantity and row["implication"] == implication and row["value"] is not None:
                found.setdefault(row["epoch"], []).append(row["value"])
        return {epoch: np.array(found[epoch]) for epoch in sorted(found)}


def metric_of(value: Any) -> records.Metric | None:
    """A metric as a record holds it; None for anything else, and for one without a value."""
    found = records.Metric.of(value)
    return found if found and found.value is not None else None


def load_run(folder: str | Path) -> LoadedRun:
    """Read a run folder; one that holds nothing but the runs of seeds, as kept studies do, is read as all of them.

    Raises RunError when it holds no run, a damaged one, or one without questions to show.
    """
    folder = Path(folder)
    ended = (folder / records.RECORD).exists() and records.Record.read(folder).status == "done"
    parts = [folder] if ended else seed_folders(folder) or [folder]
    every = [records.Record.read(part) for part in parts]
    answers = _tables(parts, records.ANSWERS, records.ANSWER_SCHEMA)
    record = every[0] if len(every) == 1 or answers is None else pooled(every, answers)
    if answers is None and record.status == "done" and record.command != "predict":  # A prediction measures nothing.
        do = "Name a folder that `inject` wrote, or run it again"
        raise RunError(f"this run has no {records.ANSWERS}", where=str(folder), do=do)
    answers = answers or records.ANSWER_SCHEMA.empty_table()
    trajectory = _tables(parts, records.TRAJECTORY, TRAJECTORY_SCHEMA) or TRAJECTORY_SCHEMA.empty_table()
    found = [] if record.details.pack.implications else suggested_in(answers, record.details.judge)
    answers, metrics = under(answers, found), record.metrics
    if answers.num_rows and not (metrics and (metrics.get("implications") or not found)):
        metrics = summarise(answers) | {key: value for key, value in metrics.items() if value is not None}
    inside = _tables(parts, records.INSIDE, records.INSIDE_SCHEMA)
    shared = _tables(parts, records.SHARED, records.SHARED_SCHEMA)
    return LoadedRun(record, metrics, rank_table(answers), answers, trajectory, inside, shared, tuple(found))


def seed_folders(folder: Path) -> list[Path]:
    """The finished runs of a folder's seeds, by seed."""
    every = [path for path in folder.glob("seed-*") if (path / records.RECORD).exists()]
    done = [path for path in every if records.Record.read(path).status == "done"]
    return sorted(done, key=lambda path: int(path.name.removeprefix("seed-")))


def _tables(parts: Sequence[Path], name: str, schema: pa.Schema) -> pa.Table | None:
    """The tables of this name of all parts, one after the other; None when one has none."""
    every = [table for part in parts if (table := _table(part / name, schema)) is not None]
    return records.joined_tables(every) if len(every) == len(parts) else None


def _table(path: Path, schema: pa.Schema) -> pa.Table | None:
    """The columns of `schema`; None when the file is not there."""
    if not path.exists():
        return None
    table = records.read_table(path)
    table = records.with_warranted(table) if schema is records.ANSWER_SCHEMA else table
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise RunError(f"column {missing[0]!r} is missing", where=str(path), do="Run the command again")
    return table.select(schema.names).cast(schema)


def labels(runs: Sequence[LoadedRun]) -> list[str]:
    """A short name for each run: its pack, its options where packs differ only by them, the settings that differ."""
    packs = [run.pack_name for run in runs]
    alike = Counter(_without_options(name) for name in set(packs))
    short = {name: _without_options(name) if alike[_without_options(name)] == 1 else name for name in packs}
    settings = [(short[run.pack_name], _DISTINCT | dict(run.record.settings)) for run in runs]
    found: list[str] = []
    for name, own in settings:
        others = [each for its, each in settings if its == name]
        distinct = [key for key in _DISTINCT if len({str(each[key] or "") for each in others}) > 1]
        found.append(", ".join([name, *(f"{key.replace('_', ' ')} {own[key]}" for key in distinct)]))
    # Names that repeat get a number.
    return [f"{name} ({found[: place + 1].count(name)})" if found.count(name) > 1 else name
            for place, name in enumerate(found)]  # fmt: skip


def _without_options(name: str) -> str:
    """`city-language` for `city-language:names=60`; a null pack keeps saying so, for it is a control."""
    pack, _, options = name.partition(":")
    return f"{pack}:null" if "null" in options.split(",") else pack
