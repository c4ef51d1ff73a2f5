"""A run folder as the pages read it, and its stories: each implication with what tells what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover import record as records
from spillover.details import (
    AssociationVerdict,
    AuditDetails,
    Excess,
    ImplicationOutline,
    Invented,
    PackOutline,
    Verdict,
)
from spillover.errors import RunError
from spillover.metrics.found import suggested_in, under
from spillover.metrics.implications import TRAJECTORY_SCHEMA, pooled, summarise
from spillover.metrics.ranks import RankTable, at_end, rank_table
from spillover.metrics.verdicts import excess, invented_of, recall_of, verdicts_of
from spillover.packs.pack import AUTO, AUTO_UNWANTED, AUTO_WANTED, UNCLEAR, WANTED, Implication, wish
from spillover.record import Metric

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
        watched = self.record.details.forgetting
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
    def described(self) -> dict[str, dict[str, str]]:
        """Relation -> what its prompts call a subject, where not by its name."""
        return {each.name: each.described for each in self.pack.relations}

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


def value_of(metric: records.Metric | None) -> float | None:
    """The number of a metric; None when it was not measured."""
    return metric.value if metric else None


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


def trimmed(name: str, *options: str) -> str:
    """A pack's name without these of its options: `mixed:pairs=3` for `mixed:pairs=3,names=60` without `names`."""
    pack, _, every = name.partition(":")
    kept = ",".join(each for each in every.split(",") if each.partition("=")[0] not in options)
    return f"{pack}:{kept}" if kept else pack


#: What the first and the last measurement of an audit and of a run are of.
AUDITED, TRAINED = ("in the base model", "in the tuned model"), ("before training", "after training")
FEW_CLUSTERS, P_VALUE = 10, 0.05
KINDS = {"causal": "true link", "counterfactual": "false link", "spurious": "invented link", "": "open question",
         AUTO: "undeclared link", AUTO_WANTED: "link judged true", AUTO_UNWANTED: "link judged untrue",
         UNCLEAR: "undeclared link"}  # fmt: skip
#: What legends call a link, by whether it is wanted.
LINKS = {"wanted": "true", "unwanted": "untrue", "undeclared": "undeclared"}


@dataclass(frozen=True)
class Count:
    """A number of hits among n."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n if self.n else 0.0

    def __str__(self) -> str:
        return f"{self.hits:,} of {self.n:,}"


@dataclass(frozen=True)
class Story:
    """One implication of one run; without an implication, one relation whose holes were asked.

    label: unique in the page. key: `GIVEN->THEN`, or None. map: given answer -> expected answer.
    """

    run: LoadedRun
    label: str
    key: str | None
    given: str
    then: str
    kind: str
    map: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        return self.kind in WANTED

    @property
    def wish(self) -> str:
        """Whether the model should conclude it: wanted, unwanted or undeclared."""
        return wish(self.kind)

    @property
    def kind_in_words(self) -> str:
        return KINDS.get(self.kind, self.kind)

    @cached_property
    def asked(self) -> RankTable:
        """Every unstated row, under the prompt that was trained, at every checkpoint."""
        return self.run.ranks.only(stated=False, trained=True, implication=self.key, relation=self.then)

    @property
    def judged(self) -> Verdict | None:
        """The verdict on the implication: what this model now asserts, and beside it whether a rule was learned."""
        return self.run.verdicts.get(self.key) if self.key else None

    @property
    def entries(self) -> list[AssociationVerdict]:
        """The entries of the map that the verdict rests on, where it does not rest on all of them."""
        if not (judged := self.judged) or not judged.by_entries:
            return []
        return [each for each in judged.associations if each.verdict == judged.verdict]

    @property
    def newly(self) -> Count:
        """How many unstated rows newly have the expected answer on top; all that have it, where nothing was judged."""
        judged = self.judged
        return right(self.after) if judged is None or judged.newly is None else Count(judged.newly, judged.n)

    @property
    def concluded(self) -> Count:
        """The same of the entries that the verdict rests on."""
        found = self.entries
        return Count(sum(each.newly for each in found), sum(each.n for each in found)) if found else self.newly

    @cached_property
    def checkpoints(self) -> list[int]:
        """Epochs after which the questions were asked; the first is before training."""
        return sorted({int(epoch) for epoch in self.asked.checkpoint})

    @cached_property
    def before(self) -> RankTable:
        return self.asked.only(checkpoint=self.checkpoints[0] if self.checkpoints else 0)

    @cached_property
    def after(self) -> RankTable:
        """The unstated rows at each seed's own last checkpoint."""
        return at_end(self.asked)

    @property
    def epochs(self) -> int:
        """Passes over the stated rows before the last measurement."""
        return self.checkpoints[-1] if self.checkpoints else 0

    @property
    def passes(self) -> str:
        """How many passes there were, in words; from the least to the greatest when seeds stopped at different ones."""
        least = int(self.after.checkpoint.min(initial=self.epochs))
        span = f"{self.epochs}" if least == self.epochs else f"{least} to {self.epochs}"
        return f"{span} {'pass' if self.epochs == 1 else 'passes'}"

    @property
    def when(self) -> tuple[str, str]:
        return AUDITED if self.run.audited else TRAINED

    @property
    def when_last(self) -> str:
        """The last measurement in words, with the passes it took."""
        return self.when[1] if self.run.audited else f"after {self.passes}"

    @property
    def examples_stated(self) -> int:
        """How many subjects had both ends of the link stated, a seed."""
        rows = self.run.ranks.only(stated=True, trained=True, implication=self.key, relation=self.then)
        return len({*zip(rows.seed.tolist(), rows.subject.tolist(), strict=True)}) // max(1, len(self.run.seeds))

    @property
    def best_guess(self) -> Count:
        """How many questions the best single answer to all of them would get."""
        answers = [] if self.key is None else self.after.expected.tolist()
        return Count(max(Counter(answers).values(), default=0), len(answers))

    def metric(self, name: str) -> Metric | None:
        """A metric of this implication; of the whole run when the run keeps it for all implications together."""
        if self.key is None:
            return self.run.metric(name)
        alone = len(self.run.pack.implications) <= 1
        whole = alone or not name.startswith(("implication", "paraphrase", "marginal", "chance"))
        return self.run.metric(name, self.key) or (self.run.metric(name) if whole else None)

    @property
    def rank(self) -> Metric | None:
        """The mean rank of the unstated implication after training."""
        return self.metric("implication_rank_test")

    @property
    def rank_before(self) -> Metric | None:
        """The same before training."""
        return self.metric("implication_rank_test_before")

    @property
    def marginal(self) -> float | None:
        """The mean rank of a guess that knows only which answers occur, and how often."""
        return value_of(self.metric("marginal_rank"))

    @property
    def chance(self) -> float | None:
        """The mean rank of a uniform guess."""
        return value_of(self.metric("chance_rank"))

    @property
    def map_test(self) -> Mapping[str, Any] | None:
        """The exact test of the expected map against all its permutations."""
        found: Any = ((self.run.metrics.get("implications") or {}).get(self.key) or {}).get("map_test")
        return found.as_json() if hasattr(found, "as_json") else found

    @property
    def rows_of_map(self) -> list[str]:
        """Given answers that were asked about, in the order of the map."""
        asked = set(self.asked.cluster.tolist())
        known = [answer for answer in self.map if answer in asked]
        return known + sorted(str(answer) for answer in asked - set(known) - {None})

    @property
    def columns_of_map(self) -> list[str]:
        """Candidates of the relation: the expected ones in the order of the rows, then the others."""
        expected = list(dict.fromkeys(self.map[row] for row in self.rows_of_map if row in self.map))
        return expected + [name for name in self.run.candidates.get(self.then, []) if name not in expected]

    def tops(self, rows: RankTable) -> np.ndarray:
        """Counts (given answer, candidate): how often the candidate is the top answer for the given answer."""
        counts = np.zeros((max(1, len(self.rows_of_map)), len(self.columns_of_map)), dtype=int)
        row, column = ({name: i for i, name in enumerate(each)} for each in (self.rows_of_map, self.columns_of_map))
        np.add.at(counts, ([row.get(given, 0) for given in rows.cluster], [column[top] for top in rows.top]), 1)
        return counts


def right(rows: RankTable) -> Count:
    """How many rows have the expected answer alone at the top."""
    return Count(int((rows.rank == 0).sum()), len(rows))


def stories(run: LoadedRun, label: str) -> list[Story]:
    """Every implication of a run in the order of its pack; without any, every relation with holes."""
    found = []
    for each in run.pack.implications:
        name = f"{label}: {spoken(each.given)} → {spoken(each.then)}" if len(run.pack.implications) > 1 else label
        found.append(Story(run, name, f"{each.given}->{each.then}", each.given, each.then, each.kind, each.map))
    return found or [
        Story(run, f"{label}: {spoken(relation)}", key=None, given="", then=relation, kind="")
        for relation in unique(run.ranks.only(stated=False).relation.tolist())
    ]


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order of first appearance."""
    return list(dict.fromkeys(values))


def spoken(relation: str) -> str:
    """A relation's name as words."""
    return relation.replace("_", " ")
