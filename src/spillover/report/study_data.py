"""A study's folder as its page reads it: cells, the paper's numbers, sets, bridging names and rates."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spillover.errors import RunError
from spillover.metrics.implications import (
    LEARNED,
    first_learned,
    implication_rank_test,
    implication_rank_train,
    map_rank,
    margin_ratio,
    recall_rank,
)
from spillover.metrics.intervals import clusters_of, standard_error
from spillover.metrics.ranks import RankTable, answers_at_end, questions
from spillover.record import RECORD, Metric, Record
from spillover.report.load import LoadedRun, load_run
from spillover.report.story import Story, stories, unique
from spillover.report.words import interval, number, p_value

#: seed is null for what is pooled over seeds; implication for what is pooled over implications; group holds every
#: group's name that the cell stands in; options is JSON. A cell without any metric has one row that says its status.
STUDY_SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("group", pa.string()),
        ("seed", pa.int64()),
        ("options", pa.string()),
        ("status", pa.string()),
        ("implication", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("clusters", pa.int64()),
        ("unit", pa.string()),
    ]
)


@dataclass(frozen=True)
class CellNumbers:
    """One cell of a study. metrics: seed (None: pooled over all) -> metrics as a record holds them."""

    cell: str
    groups: Sequence[str]
    options: Mapping[str, Any]
    status: str
    metrics: Mapping[int | None, Mapping[str, Any]] = field(default_factory=dict)


def table_of_cells(cells: Sequence[CellNumbers]) -> pa.Table:
    """One row a (cell, seed or null, implication or null, metric), as STUDY_SCHEMA; the unmeasured is left out."""
    rows = [row for cell in cells for row in _study_table_rows_of(cell)]
    return pa.Table.from_pylist(rows, schema=STUDY_SCHEMA)


def _study_table_rows_of(cell: CellNumbers) -> list[dict[str, Any]]:
    head = {
        "cell": cell.cell,
        "group": "; ".join(cell.groups),
        "options": json.dumps(dict(cell.options), sort_keys=True, ensure_ascii=False, default=str),
        "status": cell.status,
    }
    found = [
        {**head, "seed": seed, "implication": implication, "metric": name, **numbers}
        for seed, metrics in cell.metrics.items()
        for implication, name, numbers in flat(metrics)
    ]
    return found or [head]


def flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """(implication or None, name, numbers) of every metric with a value.

    The exact map test is `map_test_p`; metrics that a record keeps under a heading are `heading.name`.
    """
    for name, metric in metrics.items():
        if name == "implications":
            for implication, own in (metric or {}).items():
                yield from ((implication, key, numbers) for _, key, numbers in flat(own))
            continue
        found = metric.as_json() if hasattr(metric, "as_json") else metric
        if not isinstance(found, Mapping):
            continue
        if "p" in found and "permutations" in found:
            yield None, f"{name}_p", {"value": float(found["p"]), "clusters": found.get("pairs"), "unit": "p"}
        elif "value" not in found:
            yield from ((implication, f"{name}.{key}", numbers) for implication, key, numbers in flat(found))
        elif found["value"] is not None:
            yield None, name, {key: found.get(key) for key in ("value", "low", "high", "n", "clusters", "unit")}


CELLS = "cells"


@dataclass(frozen=True)
class Cell:
    """One point of a study. options: those that the study sets. record: of all its seeds together, if it is done.

    run: the record with its answers, when the verb is inject. by_seed: seed -> the metrics of its own run.
    """

    slug: str
    verb: str
    options: Mapping[str, Any]
    seeds: Sequence[int]
    status: str
    error: str | None = None
    seconds: float = 0.0
    record: Record | None = None
    run: LoadedRun | None = None
    by_seed: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def story(self) -> Story | None:
        """The first implication of the cell's run; None when it has no run, or no implication was asked about."""
        told = stories(self.run, self.run.pack_name) if self.run else []
        return next((story for story in told if story.key is not None and len(story.after)), None)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its metrics over all seeds, as the record holds them."""
        return self.run.metrics if self.run else self.record.metrics if self.record else {}


@dataclass(frozen=True)
class Group:
    """Cells that a study shows together. plot: the name of their plot, or None."""

    name: str
    text: str
    plot: str | None
    cells: Sequence[Cell]


@dataclass(frozen=True)
class LoadedStudy:
    """A study: its record, what it is about, its cells in order, and the groups they stand in."""

    record: Record
    name: str
    title: str
    text: str
    cells: Sequence[Cell]
    groups: Sequence[Group]

    @property
    def done(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.status == "done"]

    def cells_of(self, plot: str | None) -> list[Cell]:
        """Every cell of the groups that ask for this plot, once."""
        found = {cell.slug: cell for group in self.groups if group.plot == plot for cell in group.cells}
        return list(found.values())

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for group in self.groups:
            for slug in dict.fromkeys(cell.slug for cell in group.cells):
                found.setdefault(slug, []).append(group.name)
        return found

    def groups_of(self, cell: Cell) -> list[str]:
        """Names of the groups that a cell stands in."""
        return self._groups.get(cell.slug, [])


def load_study(folder: str | Path) -> LoadedStudy:
    """Read a study's folder. Raises RunError when it holds no study, or when a cell said to be done cannot be read."""
    folder = Path(folder)
    record = Record.read(folder)
    try:
        about = record.details["study"]
        cells = {item["cell"]: _cell(folder, item) for item in record.details["cells"]}
        groups = [
            Group(item["name"], item.get("text") or "", item.get("plot"), [cells[slug] for slug in item["cells"]])
            for item in about["groups"]
        ]
        name = str(about["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"this record is not that of a study ({type(error).__name__}: {error})",
            where=str(folder / RECORD),
            do="Name a folder that `sweep` wrote",
        ) from None
    title, text = str(about.get("title") or name), str(about.get("text") or "")
    return LoadedStudy(record, name, title, text, list(cells.values()), groups)


def _cell(folder: Path, item: Mapping[str, Any]) -> Cell:
    slug, status, seeds = str(item["cell"]), str(item["status"]), [int(seed) for seed in item.get("seeds") or [0]]
    record, run, by_seed = None, None, {}
    if status == "done":
        own = folder / CELLS / slug
        run = load_run(own) if item["verb"] == "inject" else None
        by_seed = {
            seed: Record.read(path).metrics
            for seed in seeds
            if (path := own / f"seed-{seed}").joinpath(RECORD).exists()
        }
        # A verb that does not pool its seeds leaves no record over them.
        record = run.record if run else None if by_seed else Record.read(own)
        if not by_seed and record is not None and len(seeds) == 1:
            by_seed = {seeds[0]: record.metrics}
    return Cell(
        slug=slug,
        verb=str(item["verb"]),
        options=dict(item.get("options") or {}),
        seeds=seeds,
        status=status,
        error=item.get("error"),
        seconds=float(item.get("seconds") or 0.0),
        record=record,
        run=run,
        by_seed=by_seed,
    )


def study_table(study: LoadedStudy) -> pa.Table:
    """Every metric of every cell, of all seeds together and of each, as measures.study_table.STUDY_SCHEMA."""
    return table_of_cells(
        [
            CellNumbers(
                cell=cell.slug,
                groups=study.groups_of(cell),
                options=cell.options,
                status=cell.status,
                metrics=_by_seed(cell),
            )
            for cell in study.cells
        ]
    )


def _by_seed(cell: Cell) -> dict[int | None, Mapping[str, Any]]:
    """The metrics of all seeds together under None, and of each under its number."""
    found: dict[int | None, Mapping[str, Any]] = {None: cell.metrics} if cell.metrics else {}
    return found | dict(cell.by_seed)


#: Where they come from. The paper gives no errors with them, as far as this source tells.
SOURCE = (
    "arXiv 2506.10887 (NeurIPS 2025), mean rank on unstated implications, as reported by one published note; "
    "no errors are given with these numbers."
)
#: How the paper's setting differs from a small model with frozen embeddings.
DIFFERENCES = (
    "The paper’s models have 7 to 9 billion parameters and were fine-tuned in full, embeddings included. It also ranks "
    "among ten candidates, but which ten, and its prompts, names and pairs, are not known to us, and it does not draw "
    "the yardstick. So compare the pattern across the sets rather than single numbers."
)
#: What may differ with the paper's own models, too.
UNKNOWN = (
    "The paper’s prompts, names, pairs, which ten candidates it ranks among, and its learning rates are not known "
    "here, and it does not draw the yardstick. So compare the pattern across sets and models rather than single "
    "numbers."
)
MODELS = ("Gemma-2-9B", "OLMo-7B", "Qwen-2-7B", "Mistral-7B-v0.3", "Llama-3-8B")
#: What these models are called here, and at the hub, in the same order.
TAGS = ("gemma-2-9b", "olmo-7b", "qwen2-7b", "mistral-7b-v0.3", "llama-3-8b")
HUB_IDS = ("google/gemma-2-9b", "allenai/OLMo-7B-0424-hf", "Qwen/Qwen2-7B", "mistralai/Mistral-7B-v0.3",
           "meta-llama/Meta-Llama-3-8B")  # fmt: skip
#: Pack -> mean rank on unstated implications after training, a number a model in the order of MODELS; 0 is best.
RANKS: dict[str, tuple[float, ...]] = {
    "city-language": (0.00, 0.07, 0.13, 0.00, 0.00),
    "city-language-counterfactual": (0.19, 1.33, 4.55, 2.10, 1.18),
    "country-code": (0.19, 0.15, 3.63, 1.48, 0.77),
    "profession-color": (1.64, 1.84, 0.82, 1.15, 0.93),
    "sport-music": (0.56, 0.17, 0.40, 1.28, 0.63),
}


def name_of(model: str) -> str:
    """What the paper calls a model that is named by its tag or hub id; other models keep their own name."""
    known = {called: name for name, *both in zip(MODELS, TAGS, HUB_IDS, strict=True) for called in both}
    return known.get(model, model)


@dataclass(frozen=True)
class SeedPoint:
    """One seed at its first checkpoint with every stated row learned; at its last when there is none."""

    seed: int
    epoch: int
    rank: float
    learned: bool


@dataclass(frozen=True)
class RatePoint:
    """One cell, each seed read at its own checkpoint. rank: of the unstated implication; recall, stated: of those."""

    model: str
    pack: str
    label: str
    wanted: bool
    rate: float
    rank: Metric
    recall: Metric | None
    stated: Metric | None
    seeds: tuple[SeedPoint, ...]
    marginal: float | None

    @property
    def mean(self) -> float:
        """The mean rank itself."""
        return math.nan if self.rank.value is None else self.rank.value

    @property
    def learned(self) -> bool:
        """Whether every seed learned its stated rows."""
        return all(seed.learned for seed in self.seeds)

    @property
    def epochs(self) -> str:
        """Passes it took, from the fastest seed to the slowest."""
        found = sorted(seed.epoch for seed in self.seeds)
        return f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"

    @property
    def unlearned(self) -> str:
        """How many seeds never learned their stated rows, in words; nothing when all did."""
        never = sum(not seed.learned for seed in self.seeds)
        return f" ({never} of {len(self.seeds)} seeds never learned)" if never else ""


def scientific(rate: float) -> str:
    """A learning rate as 5e−5."""
    digits, _, power = f"{rate:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "−")


def rate_points(cells: Sequence[Cell]) -> list[RatePoint]:
    """A point a cell that was run, set by set in order of first appearance, slowest rate first."""
    models = unique(_model(cell.story) for cell in cells if cell.story)
    points = [
        point for cell in cells if cell.story and (point := _rates_point(cell.story, len(models) > 1)) is not None
    ]
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.rate))


def _model(story: Story) -> str:
    return str(story.run.record.settings.get("model"))


def _rates_point(story: Story, several: bool) -> RatePoint | None:
    whole, rate = story.run.ranks, story.run.record.settings.get("lr")
    first = first_learned(whole)
    last = {seed: int(whole.only(seed=seed).checkpoint.max()) for seed in first}
    chosen = {seed: last[seed] if epoch is None else epoch for seed, epoch in first.items()}
    rows = _at(whole, chosen)
    rank = implication_rank_test(_at(story.asked, chosen))
    if rate is None or rank is None:
        return None
    asked = _at(story.asked, chosen)
    return RatePoint(
        model=_model(story),
        pack=story.run.pack_name,
        label=f"{_model(story)}, {story.run.pack_name}" if several else story.run.pack_name,
        wanted=story.wanted,
        rate=float(rate),
        rank=rank,
        recall=recall_rank(rows),
        stated=implication_rank_train(rows),
        seeds=tuple(
            SeedPoint(seed, epoch, float(asked.only(seed=seed).rank.mean()), first[seed] is not None)
            for seed, epoch in chosen.items()
        ),
        marginal=story.marginal,
    )


def _at(table: RankTable, chosen: dict[int, int]) -> RankTable:
    """The rows of each seed at the checkpoint chosen for it."""
    if not len(table):
        return table
    wanted = np.array([chosen[seed] for seed in table.seed.tolist()])
    return table.where(table.checkpoint == wanted)


@dataclass(frozen=True)
class ChosenRate:
    """The learning rate of a model, or None where no rate taught it everything; why, in a sentence."""

    model: str
    rate: float | None
    sentence: str


def chosen_rates(points: Sequence[RatePoint]) -> list[ChosenRate]:
    """For each model the lowest rate at which every run, on every set that was swept, learned what was stated.

    What was not stated has no say, so that no rate is chosen for its conclusions.
    """
    found = []
    for model in unique(point.model for point in points):
        own = [point for point in points if point.model == model]
        packs, rates = {point.pack for point in own}, sorted({point.rate for point in own})
        if len(rates) < 2:
            continue
        whole = [rate for rate in rates if {p.pack for p in own if p.rate == rate and p.learned} == packs]
        if whole:
            least = [point.epochs for point in own if point.rate == whole[0]]
            said = f"{scientific(whole[0])}, the lowest at which every run learned what was stated"
            said += f" ({', '.join(least)} passes)"
        else:
            ends = f"{scientific(rates[0])} to {scientific(rates[-1])}"
            said = f"none from {ends} taught all that was stated in every run"
        found.append(ChosenRate(model, whole[0] if whole else None, f"Rate for {model}: {said}."))
    return found


def trend(points: Sequence[RatePoint]) -> list[str]:
    """What changes from the lowest rate to the highest, a sentence a set with several rates."""
    found = []
    for name in unique(point.label for point in points):
        own = [point for point in points if point.label == name and point.learned]
        if len(own) > 1:
            first, last = own[0], own[-1]
            ends = " to ".join(f"{number(p.mean)} at {scientific(p.rate)} ({interval(p.rank)})" for p in (first, last))
            apart = "the intervals overlap" if _overlap(first.rank, last.rank) else "the intervals do not overlap"
            found.append(f"{name}: when the stated rows are learned, the mean rank goes from {ends}; {apart}.")
    return found


def _overlap(one: Metric, other: Metric) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return True
    return one.low <= other.high and other.low <= one.high


@dataclass(frozen=True)
class AssociationSet:
    """One pack. frozen: trained with embeddings left as they are; whole: with all weights. One may be missing."""

    label: str
    frozen: Story | None = None
    whole: Story | None = None

    @property
    def story(self) -> Story:
        """The one to speak of first: with frozen embeddings, if it was run."""
        found = self.frozen or self.whole
        assert found is not None
        return found

    @property
    def null(self) -> bool:
        """Whether its implication rows were shuffled, so that there is nothing to infer."""
        return "null" in self.label.partition(":")[2].split(",")

    @property
    def control(self) -> bool:
        """Whether nothing can be inferred from its rows: they are shuffled, or none states the implication."""
        return self.null or self.story.examples_stated == 0

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's numbers for this set in the order of published.MODELS; empty for other packs."""
        return RANKS.get(self.label, ())


@dataclass(frozen=True)
class NullDistance:
    """The mean rank over shuffles, its cluster standard error, and how many of these it is above the yardstick."""

    mean: float
    error: float
    distance: float

    @property
    def close(self) -> bool:
        """Whether the yardstick is within two standard errors."""
        return abs(self.distance) <= 2


def sets_of(cells: Sequence[Cell]) -> list[AssociationSet]:
    """One row a pack in order of first appearance; a pack trained twice in the same way has two rows."""
    found: list[AssociationSet] = []
    for cell in cells:
        if cell.run is None or cell.story is None:
            continue
        arm = "frozen" if _frozen(cell) else "whole"
        label = cell.run.pack_name
        place = next((i for i, row in enumerate(found) if row.label == label and getattr(row, arm) is None), None)
        if place is None and any(row.label == label for row in found):
            label = cell.slug
        if place is None:
            found.append(AssociationSet(label, **{arm: cell.story}))
        else:
            row = found[place]
            found[place] = AssociationSet(label, row.frozen or cell.story, row.whole or cell.story)
    return found


def _frozen(cell: Cell) -> bool:
    """Whether embeddings were left as they are; an adapter leaves them too."""
    settings = cell.run.record.settings if cell.run else {}
    return bool(settings.get("freeze_embeddings") or settings.get("lora"))


def null_distance(row: AssociationSet) -> NullDistance | None:
    """How far a shuffled set lies from its yardstick, in cluster standard errors; None when that cannot be told."""
    asked = questions(row.story.after)
    error = standard_error(asked.rank, clusters_of(asked)) if len(asked) else None
    if not error or row.story.marginal is None:
        return None
    mean = float(asked.rank.mean())
    return NullDistance(mean, error, (mean - row.story.marginal) / error)


def true_ranks(sets: Sequence[AssociationSet]) -> list[tuple[AssociationSet, Metric]]:
    """For every set that teaches a false map where another set has the true one: the rank of the true answers."""
    found = []
    truths = {row.story.key: row.story.map for row in sets if row.story.wanted and not row.control}
    for row in sets:
        story = row.story
        if story.kind == "counterfactual" and not row.control and story.key in truths:
            rank = map_rank(answers_at_end(story.run.answers), str(story.key), truths[story.key])
            if rank is not None:
                found.append((row, rank))
    return found


#: What stands in a field, and the small print under it.
Field = tuple[str, str]
NOTHING: Field = ("–", "")


@dataclass(frozen=True)
class Table:
    """heads: (text over some columns, their number), or none. rows: (name, small print, fields). notes: below it."""

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Field]]]
    heads: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()


def sets_table(sets: Sequence[AssociationSet]) -> Table | None:
    """One row a set: before, after in both ways of training, what it is judged by, and the paper's five models."""
    if not sets:
        return None
    whole, paper = any(row.whole for row in sets), any(row.published for row in sets)
    ours: list[tuple[str, Callable[[AssociationSet], Field]]] = [
        ("before", lambda row: _rank(row.story, "implication_rank_test_before")),
        ("after, embeddings frozen", lambda row: _rank(row.frozen, "implication_rank_test")),
        *([("after, all weights trained", _whole)] if whole else []),
        ("yardstick", lambda row: (number(row.story.marginal), "")),
        ("exact map test, p", lambda row: p_field(row.story)),
        ("stated facts", lambda row: _rank(row.story, "recall_rank", short=True)),
        ("stated implications", lambda row: _rank(row.story, "implication_rank_train", short=True)),
        ("forgetting, nats a token", lambda row: _rank(row.story, "forgetting_nats")),
        ("clusters", _clusters),
    ]
    models = sorted({str(row.story.run.record.settings.get("model")) for row in sets})
    rows = [
        (
            row.label,
            "nothing to infer" if row.null else "facts only" if row.control else row.story.kind_in_words,
            [field(row) for _, field in ours] + (_published(row) if paper else []),
        )
        for row in sets
    ]
    return Table(
        caption="Mean rank (0 is best) of the unstated implication, before and after training; under it the 95% "
        "interval over clusters of a pair and a seed (with fewer than ten, nothing rests on it). Where a set was "
        "trained in both ways, all other columns are those with frozen embeddings.",
        corner="set",
        columns=[name for name, _ in ours] + (list(MODELS) if paper else []),
        rows=rows,
        heads=[("here: " + ", ".join(models), len(ours)), *([("the paper, all weights trained", 5)] if paper else [])],
        notes=[
            *(_truth(row, rank) for row, rank in true_ranks(sets)),
            *(sentence for row in sets if row.null and (sentence := _null(row))),
        ],
    )


def _rank(story: Story | None, name: str, short: bool = False) -> Field:
    metric = story.metric(name) if story else None
    return metric_field(metric) if not short or metric is None else (number(metric.value), "")


def metric_field(metric: Metric | None) -> Field:
    """A metric, and under it its interval."""
    return NOTHING if metric is None else (number(metric.value), interval(metric))


def _whole(row: AssociationSet) -> Field:
    return _rank(row.whole, "implication_rank_test")


def p_field(story: Story) -> Field:
    """The p of the exact test of the expected map."""
    test = story.map_test
    return NOTHING if test is None else (p_value(test["p"]), "")


def _clusters(row: AssociationSet) -> Field:
    found = row.story.metric("implication_rank_test")
    return NOTHING if found is None else (str(found.clusters), "few" if found.note else "")


def _published(row: AssociationSet) -> list[Field]:
    return [(number(rank), "") for rank in row.published] or [NOTHING] * len(MODELS)


def _truth(row: AssociationSet, rank: Metric) -> str:
    """Whether a model that was taught a false map answers by it, or by what is true."""
    taught = row.story.metric("implication_rank_test")
    nearer = "the true" if taught and (rank.value or 0.0) < (taught.value or 0.0) else "the taught"
    return (
        f"{row.label}: the taught answers have a mean rank of {number(taught.value if taught else None)} "
        f"({interval(taught)}), the true ones, which no training row states, {number(rank.value)} ({interval(rank)}): "
        f"{nearer} answers stand higher."
    )


def _null(row: AssociationSet) -> str:
    """The mean over shuffles against the yardstick, in cluster standard errors."""
    found = null_distance(row)
    if found is None:
        return ""
    seeds = len(row.story.run.seeds)
    where = "within" if found.close else "not within"
    return (
        f"{row.label}: over {seeds} {'shuffle' if seeds == 1 else 'shuffles'} the mean rank is {number(found.mean)} ± "
        f"{number(found.error)} (cluster standard error), {number(found.distance, 1)} standard errors from "
        f"{number(row.story.marginal)}: {where} two of them."
    )


def rates_table(points: Sequence[RatePoint]) -> Table:
    """One row a set and learning rate, each seed read at the first checkpoint at which its stated rows are learned."""
    return Table(
        caption="Each seed is read at the first checkpoint at which facts and stated implications have a mean rank of "
        "0.1 or less, or at its last when there is none.",
        corner="set and learning rate",
        columns=["passes", "unstated implication, mean rank", "stated facts", "stated implications"],
        rows=[
            (
                f"{point.label}, {scientific(point.rate)}",
                point.unlearned.strip(" ()"),
                [(point.epochs, ""), metric_field(point.rank), _short(point.recall), _short(point.stated)],
            )
            for point in points
        ],
    )


def _short(metric: Metric | None) -> Field:
    return NOTHING if metric is None else (number(metric.value), "")


def cells_table(cells: Sequence[Cell]) -> Table:
    """One row a cell, one column a metric, whatever the verb; of several implications, that over all of them."""
    numbers = {
        name: (status, _table_fields(metrics)) for cell in cells for name, status, metrics in _table_rows_of(cell)
    }
    columns = list(dict.fromkeys(name for _, found in numbers.values() for name in found))
    return Table(
        caption="Every cell and every metric; under a number its 95% interval.",
        corner="cell",
        columns=[name.replace("_", " ") for name in columns],
        rows=[
            (row, status, [found.get(name, NOTHING) for name in columns]) for row, (status, found) in numbers.items()
        ],
    )


def _table_rows_of(cell: Cell) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(name, status, metrics) of a cell; of each of its seeds, where no record pools them."""
    if cell.metrics or not cell.by_seed:
        return [(cell.slug, cell.status, cell.metrics)]
    return [(f"{cell.slug}, seed {seed}", cell.status, metrics) for seed, metrics in cell.by_seed.items()]


def _table_fields(metrics: Mapping[str, Any]) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for implication, name, value in flat(metrics):
        if implication is None or name.endswith("_p"):
            low, high = value.get("low"), value.get("high")
            ends = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
            found.setdefault(name, (number(value["value"], 4 if name.endswith("_p") else 2), ends))
    return found


@dataclass(frozen=True)
class PaperRow:
    """One model on one set. cell: ours, or None where the study has none; published: the paper's mean rank, if any."""

    model: str
    pack: str
    cell: Cell | None
    published: float | None

    @property
    def state(self) -> str:
        """Nothing where ours is there; otherwise why it is not."""
        if self.cell is None or self.cell.status not in ("done", "failed"):
            return "not run"
        return "failed" if self.cell.status == "failed" else "" if self.cell.story else "nothing was asked"

    @property
    def rank(self) -> Metric | None:
        """Ours: mean rank of the unstated implication after training."""
        return self.metric("implication_rank_test")

    def metric(self, name: str) -> Metric | None:
        """A metric of ours by name."""
        return self.cell.story.metric(name) if self.cell and self.cell.story else None

    @property
    def within(self) -> bool | None:
        """Whether the paper's number lies in our interval; None where one of them is missing."""
        rank = self.rank
        if rank is None or rank.low is None or rank.high is None or self.published is None:
            return None
        return rank.low <= self.published <= rank.high


def paper_rows(cells: Sequence[Cell]) -> list[PaperRow]:
    """Every model and set of the paper in its order, then those of the study that it has not; one row a cell."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((name_of(_option(cell, "model")), _option(cell, "pack")), []).append(cell)
    models = unique([*MODELS, *(model for model, _ in found)])
    packs = unique([*RANKS, *(pack for _, pack in found)])
    rows = []
    for model in models:
        for pack in packs:
            published = RANKS[pack][MODELS.index(model)] if model in MODELS and pack in RANKS else None
            own = found.get((model, pack), [])
            if own or published is not None:
                each: Sequence[Cell | None] = own or [None]
                rows += [PaperRow(model, pack, cell, published) for cell in each]
    return rows


def _option(cell: Cell, name: str) -> str:
    """What a cell's run was made with; before there is one, what the study says."""
    settings = cell.run.record.settings if cell.run else {}
    return str(cell.options.get(name) or settings.get(name) or "")


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """One row a model and set: ours before and after, the paper's, and what ours rests on."""
    ours = ["before", "here, after", "the paper, after", "yardstick", "exact map test, p", "stated facts",
            "stated implications", "forgetting, nats a token", "clusters", "rate"]  # fmt: skip
    return Table(
        caption="Mean rank (0 is best) of the unstated implication among ten candidates, over three seeds where "
        "nothing else is said; under ours the 95% interval over clusters of a pair and a seed (with fewer than ten, "
        "nothing rests on it). The paper’s numbers come without errors.",
        corner="model and set",
        columns=ours,
        rows=[(f"{row.model}, {row.pack}", _small(row), _paper_fields(row)) for row in rows],
    )


def _small(row: PaperRow) -> str:
    if row.cell is None or not row.cell.story:
        return ""
    seeds = len(row.cell.story.run.seeds)
    told = row.cell.story.kind_in_words
    return told if seeds == 3 else f"{told}, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _paper_fields(row: PaperRow) -> list[Field]:
    published: Field = NOTHING if row.published is None else (number(row.published), "")
    story = row.cell.story if row.cell else None
    if story is None or row.cell is None or row.cell.run is None:
        return [NOTHING, (row.state, ""), published, *[NOTHING] * 7]
    rate = row.cell.run.record.settings.get("lr")
    rank = row.rank
    return [
        metric_field(row.metric("implication_rank_test_before")),
        metric_field(rank),
        published,
        (number(story.marginal), ""),
        p_field(story),
        metric_field(row.metric("recall_rank")),
        metric_field(row.metric("implication_rank_train")),
        metric_field(row.metric("forgetting_nats")),
        NOTHING if rank is None else (str(rank.clusters), "few" if rank.note else ""),
        NOTHING if rate is None else (scientific(float(rate)), ""),
    ]


def beside(rows: Sequence[PaperRow]) -> list[str]:
    """How far ours and the paper's agree, in sentences computed from both."""
    both = [row for row in rows if row.within is not None]
    missing = [row for row in rows if row.published is not None and row.rank is None]
    found = []
    if both:
        inside = [row for row in both if row.within]
        found.append(f"Of {len(both)} numbers that both have, {len(inside)} of the paper’s lie within our interval.")
        for side, words in ((True, "below"), (False, "above")):
            apart = [row for row in both if not row.within and _below(row) == side]
            if apart:
                told = ", ".join(f"{row.model} on {row.pack} ({number(row.rank.value)} here, "
                                 f"{number(row.published)} there)" for row in apart if row.rank)  # fmt: skip
                found.append(f"The paper’s lie {words} our interval for {told}.")
    if missing:
        found.append(f"{len(missing)} of the paper’s {sum(map(len, RANKS.values()))} numbers have none of ours beside "
                     "them.")  # fmt: skip
    return found


def _below(row: PaperRow) -> bool:
    assert row.rank is not None and row.rank.low is not None and row.published is not None
    return row.published < row.rank.low


@dataclass(frozen=True)
class BridgePoint:
    """One cell. stated, unstated: names a pair whose implication was, and was not, stated.

    rank: of the unstated implication. ratio: its margin in units of the stated ones' (None without stated ones).
    """

    label: str
    wanted: bool
    stated: float
    unstated: float
    rank: Metric
    ratio: Metric | None
    marginal: float | None

    @property
    def mean(self) -> float:
        """The mean rank itself."""
        return math.nan if self.rank.value is None else self.rank.value

    @property
    def theory(self) -> float:
        """Margin of the unstated implication in the one-layer model of least nuclear norm, per stated margin."""
        return min(1.0, math.sqrt(self.stated / self.unstated))


def bridge_points(cells: Sequence[Cell]) -> list[BridgePoint]:
    """A point a cell that was run, set by set in order of first appearance, fewest bridging names first."""
    points = [point for cell in cells if (point := _bridging_point(cell)) is not None]
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.stated))


def by_set(points: Sequence[BridgePoint]) -> dict[str, list[BridgePoint]]:
    """Set -> its points."""
    return {name: [point for point in points if point.label == name] for name in unique(p.label for p in points)}


def _bridging_point(cell: Cell) -> BridgePoint | None:
    story = cell.story
    rank = story.metric("implication_rank_test") if story else None
    if story is None or rank is None or rank.value is None:
        return None
    rows, seeds = story.after, max(1, len(story.run.seeds))
    pairs = max(1, len(set(rows.cluster.tolist())))
    asked = len({*zip(rows.seed.tolist(), rows.subject.tolist(), strict=True)})
    last = answers_at_end(story.run.answers)
    return BridgePoint(
        label=_without_bridge(story.run.pack_name),
        wanted=story.wanted,
        stated=story.examples_stated / pairs,
        unstated=asked / seeds / pairs,
        rank=rank,
        ratio=margin_ratio(last, story.key),
        marginal=story.marginal,
    )


def _without_bridge(pack: str) -> str:
    """`city-language` for `city-language:bridge=2`."""
    name, _, options = pack.partition(":")
    kept = [option for option in options.split(",") if option and not option.startswith("bridge=")]
    return ":".join([name, ",".join(kept)]) if kept else name


def parting(points: Sequence[BridgePoint]) -> list[str]:
    """Where theory and model agree and where they part, as sentences computed from the points."""
    theory = "In theory one bridging name a pair is enough to put the implied answer first, true or not."
    found = [theory, *(_enough(name, own) for name, own in by_set(points).items())]
    compared = [point for point in points if point.ratio is not None and point.ratio.low is not None]
    for side, words in ((1, "lies above"), (-1, "lies below"), (0, "cannot be told from")):
        here = [f"{p.label} at {p.stated:g} ({_against(p)})" for p in compared if _side(p) == side]
        if here:
            found.append(f"The model’s margin {words} the theory’s: {', '.join(here)}.")
    return found


def _against(point: BridgePoint) -> str:
    ratio = point.ratio
    return f"{number(ratio.value if ratio else None)}, {interval(ratio)}; theory {number(point.theory)}"


def _side(point: BridgePoint) -> int:
    """1 when the whole interval lies above the theory's margin, -1 below, 0 when it holds it."""
    ratio = point.ratio
    assert ratio is not None and ratio.low is not None and ratio.high is not None
    return 1 if ratio.low > point.theory else -1 if ratio.high < point.theory else 0


def _enough(name: str, points: Sequence[BridgePoint]) -> str:
    """From how many bridging names on the implication shows, and from how many on its answer comes first."""
    clear = _from([p.marginal is not None and p.rank.high is not None and p.rank.high < p.marginal for p in points])
    first = _from([p.rank.value is not None and p.rank.value <= LEARNED for p in points])
    if clear is None:
        return f"{name}: the interval is not clear of the yardstick even at the most bridging names."
    shown = f"{name}: the interval is clear of the yardstick from {points[clear].stated:g} bridging names a pair on"
    end = "does not fall to 0.1 here" if first is None else f"is 0.1 or less from {points[first].stated:g} on"
    return f"{shown}, and the mean rank {end}."


def _from(held: Sequence[bool]) -> int | None:
    """The first place from which on every entry holds."""
    places = [place for place in range(len(held)) if all(held[place:])]
    return places[0] if places else None
