"""A study's folder as its page reads it: cells, the paper's numbers, sets, bridging names, rates and adapters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

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
from spillover.report.words import interval, number

CELLS = "cells"
#: seed is null for what is pooled over seeds; implication for what is pooled over implications; group holds every
#: group's name that the cell stands in; options is JSON. A cell without any metric has one row that says its status.
STUDY_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("cell", "group"), pa.string()),
        "seed": pa.int64(),
        **dict.fromkeys(("options", "status", "implication", "metric"), pa.string()),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
        **dict.fromkeys(("n", "clusters"), pa.int64()),
        "unit": pa.string(),
    }
)


@dataclass(frozen=True)
class LoadedCell:
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
        found = stories(self.run, self.run.pack_name) if self.run else []
        return next((story for story in found if story.key is not None and len(story.after)), None)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its metrics over all seeds, as the record holds them."""
        return self.run.metrics if self.run else self.record.metrics if self.record else {}

    def setting(self, name: str) -> str:
        """What the study says of an option; otherwise, what the run was made with."""
        return str(self.options.get(name) or (self.record.settings.get(name) if self.record else None) or "")


@dataclass(frozen=True)
class LoadedGroup:
    """Cells that a study shows together. plot: the name of their figure, or None."""

    name: str
    text: str
    plot: str | None
    cells: Sequence[LoadedCell]


@dataclass(frozen=True)
class LoadedStudy:
    """A study: what it is about, its cells in order, and the groups they stand in."""

    name: str
    title: str
    text: str
    cells: Sequence[LoadedCell]
    groups: Sequence[LoadedGroup]

    @property
    def done(self) -> list[LoadedCell]:
        return [cell for cell in self.cells if cell.status == "done"]

    def cells_of(self, plot: str | None) -> list[LoadedCell]:
        """Every cell of the groups that ask for this plot, once."""
        return list({cell.slug: cell for group in self.groups if group.plot == plot for cell in group.cells}.values())


def load_study(folder: str | Path) -> LoadedStudy:
    """Read a study's folder. Raises RunError when it holds no study, or when a cell said to be done cannot be read."""
    folder = Path(folder)
    record = Record.read(folder)
    try:
        about = record.details["study"]
        cells = {item["cell"]: _cell(folder, item) for item in record.details["cells"]}
        groups = [
            LoadedGroup(item["name"], item.get("text") or "", item.get("plot"), [cells[slug] for slug in item["cells"]])
            for item in about["groups"]
        ]
        name = str(about["name"])
    except (KeyError, TypeError, AttributeError) as error:
        what = f"this record is not that of a study ({type(error).__name__}: {error})"
        raise RunError(what, where=str(folder / RECORD), do="Name a folder that `sweep` wrote") from None
    title, text = str(about.get("title") or name), str(about.get("text") or "")
    return LoadedStudy(name, title, text, list(cells.values()), groups)


def _cell(folder: Path, item: Mapping[str, Any]) -> LoadedCell:
    seeds = [int(seed) for seed in item.get("seeds") or [0]]
    own = folder / CELLS / str(item["cell"])
    record, run, by_seed = None, None, {}
    if item["status"] == "done":
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
    slug, verb, status = (str(item[name]) for name in ("cell", "verb", "status"))
    options, seconds = dict(item.get("options") or {}), float(item.get("seconds") or 0.0)
    return LoadedCell(slug, verb, options, seeds, status, item.get("error"), seconds, record, run, by_seed)


def study_table(study: LoadedStudy) -> pa.Table:
    """One row a (cell, seed or null, implication or null, metric), as STUDY_SCHEMA; the unmeasured is left out."""
    rows: list[dict[str, Any]] = []
    for cell in study.cells:
        head = {
            "cell": cell.slug,
            "group": "; ".join(
                group.name for group in study.groups if cell.slug in {each.slug for each in group.cells}
            ),
            "options": json.dumps(dict(cell.options), sort_keys=True, ensure_ascii=False, default=str),
            "status": cell.status,
        }
        found = [
            {**head, "seed": seed, "implication": implication, "metric": name, **numbers}
            for seed, metrics in [(None, cell.metrics), *cell.by_seed.items()]
            for implication, name, numbers in flat(metrics)
        ]
        rows += found or [head]
    return pa.Table.from_pylist(rows, schema=STUDY_SCHEMA)


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


#: Where the paper's numbers come from. The paper gives no errors with them, as far as this source tells.
SOURCE = (
    "arXiv 2506.10887 (NeurIPS 2025), mean rank on unstated implications, as reported by one published note; "
    "no errors are given with these numbers."
)
#: The paper's models, and what each is called here: by its tag and its hub id.
MODELS = {
    "Gemma-2-9B": ("gemma-2-9b", "google/gemma-2-9b"),
    "OLMo-7B": ("olmo-7b", "allenai/OLMo-7B-0424-hf"),
    "Qwen-2-7B": ("qwen2-7b", "Qwen/Qwen2-7B"),
    "Mistral-7B-v0.3": ("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3"),
    "Llama-3-8B": ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
}
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
    return next((name for name, called in MODELS.items() if model in called), model)


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
    def kind(self) -> str:
        """What kind of implication it is, in words."""
        return "nothing to infer" if self.null else "facts only" if self.control else self.story.kind_in_words

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's numbers for this set in the order of MODELS; empty for other packs."""
        return RANKS.get(self.label, ())


def sets_of(cells: Sequence[LoadedCell]) -> list[AssociationSet]:
    """One row a pack in order of first appearance; a pack trained twice in the same way has two rows."""
    found: list[AssociationSet] = []
    for cell in cells:
        if cell.run is None or cell.story is None:
            continue
        settings, label = cell.run.record.settings, cell.run.pack_name
        # An adapter leaves the embeddings as they are, too.
        arm = "frozen" if settings.get("freeze_embeddings") or settings.get("lora") else "whole"
        place = next((i for i, row in enumerate(found) if row.label == label and getattr(row, arm) is None), None)
        if place is None:
            taken = any(row.label == label for row in found)
            arms: dict[str, Any] = {arm: cell.story}
            found.append(AssociationSet(cell.slug if taken else label, **arms))
        else:
            row = found[place]
            found[place] = AssociationSet(label, row.frozen or cell.story, row.whole or cell.story)
    return found


def null_distance(row: AssociationSet) -> tuple[float, float, float] | None:
    """The mean rank over shuffles, its cluster standard error, and how many of these it is above the baseline.

    None when that cannot be told.
    """
    asked = questions(row.story.after)
    error = standard_error(asked.rank, clusters_of(asked)) if len(asked) else None
    if not error or row.story.marginal is None:
        return None
    mean = float(asked.rank.mean())
    return mean, error, (mean - row.story.marginal) / error


def true_ranks(sets: Sequence[AssociationSet]) -> list[tuple[AssociationSet, Metric]]:
    """For every set that teaches a false map where another set has the true one: the rank of the true answers."""
    truths = {row.story.key: row.story.map for row in sets if row.story.wanted and not row.control}
    taught = [row for row in sets if row.story.kind == "counterfactual" and not row.control and row.story.key in truths]
    ranks = [
        map_rank(answers_at_end(row.story.run.answers), str(row.story.key), truths[row.story.key]) for row in taught
    ]
    return [(row, rank) for row, rank in zip(taught, ranks, strict=True) if rank is not None]


@dataclass(frozen=True)
class PaperRow:
    """One model on one set. story: ours, if any; state: why there is none; published: the paper's mean rank, if any."""

    model: str
    pack: str
    story: Story | None
    state: str
    published: float | None

    def metric(self, name: str) -> Metric | None:
        """A metric of ours by name."""
        return self.story.metric(name) if self.story else None

    @property
    def rank(self) -> Metric | None:
        """Ours: mean rank of the unstated implication after training."""
        return self.metric("implication_rank_test")


def side_of(metric: Metric | None, value: float | None) -> int | None:
    """Where a value lies: in the metric's interval (0), below (-1) or above it (1); None where one is missing."""
    if metric is None or metric.low is None or metric.high is None or value is None:
        return None
    return int(value > metric.high) - int(value < metric.low)


def paper_rows(cells: Sequence[LoadedCell]) -> list[PaperRow]:
    """Every model and set of the paper in its order, then those of the study that it has not; one row a cell."""
    found: dict[tuple[str, str], list[LoadedCell | None]] = {}
    for cell in cells:
        found.setdefault((name_of(cell.setting("model")), cell.setting("pack")), []).append(cell)
    published = {(name, pack): rank for pack, ranks in RANKS.items() for name, rank in zip(MODELS, ranks, strict=True)}
    rows = []
    for model in unique([*MODELS, *(model for model, _ in found)]):
        for pack in unique([*RANKS, *(pack for _, pack in found)]):
            ours, theirs = found.get((model, pack), []), published.get((model, pack))
            for own in ours or ([None] if theirs is not None else []):
                status = own.status if own and own.status in ("done", "failed") else "not run"
                story = own.story if own else None
                state = ("" if story else "nothing was asked") if status == "done" else status
                rows.append(PaperRow(model, pack, story, state, theirs))
    return rows


def beside(rows: Sequence[PaperRow]) -> list[str]:
    """How far ours and the paper's agree, in sentences computed from both."""
    sides = [(row, side_of(row.rank, row.published)) for row in rows]
    both = [(row, side) for row, side in sides if side is not None]
    missing = [row for row in rows if row.published is not None and row.rank is None]
    found = []
    if both:
        inside = sum(side == 0 for _, side in both)
        found.append(f"Of {len(both)} numbers that both have, {inside} of the paper’s lie within our interval.")
        for wanted, words in ((-1, "below"), (1, "above")):
            apart = [
                f"{row.model} on {row.pack} ({number(row.rank.value)} here, {number(row.published)} there)"
                for row, side in both
                if side == wanted and row.rank
            ]
            if apart:
                found.append(f"The paper’s lie {words} our interval for {', '.join(apart)}.")
    if missing:
        count = sum(map(len, RANKS.values()))
        found.append(f"{len(missing)} of the paper’s {count} numbers have none of ours beside them.")
    return found


@dataclass(frozen=True)
class StudyPoint:
    """A place on a curve. label: of its curve. rank: of the unstated implication. marginal: its baseline."""

    label: str
    wanted: bool
    rank: Metric
    marginal: float | None

    @property
    def mean(self) -> float:
        """The mean rank itself."""
        return math.nan if self.rank.value is None else self.rank.value


Point = TypeVar("Point", bound=StudyPoint)


def curves_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Label -> its points, in order of first appearance."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.label, []).append(point)
    return found


@dataclass(frozen=True)
class BridgePoint(StudyPoint):
    """One cell. stated, unstated: names a pair whose implication was, and was not, stated. ratio: the margin of the
    unstated implication in units of the stated ones' (None without stated ones)."""

    stated: float
    unstated: float
    ratio: Metric | None

    @property
    def theory(self) -> float:
        """Margin of the unstated implication in the one-layer model of least nuclear norm, per stated margin."""
        return min(1.0, math.sqrt(self.stated / self.unstated))


def bridge_points(cells: Sequence[LoadedCell]) -> list[BridgePoint]:
    """A point a cell that was run, set by set in order of first appearance, fewest bridging names first."""
    points = []
    for story in [cell.story for cell in cells if cell.story]:
        rank = story.metric("implication_rank_test")
        if rank is None or rank.value is None:
            continue
        pairs = max(1, len(set(story.after.cluster.tolist())))
        asked = len({*zip(story.after.seed.tolist(), story.after.subject.tolist(), strict=True)})
        name, _, options = story.run.pack_name.partition(":")
        kept = ",".join(option for option in options.split(",") if option and not option.startswith("bridge="))
        label, ratio = f"{name}:{kept}" if kept else name, margin_ratio(answers_at_end(story.run.answers), story.key)
        stated, unstated = story.examples_stated / pairs, asked / max(1, len(story.run.seeds)) / pairs
        points.append(BridgePoint(label, story.wanted, rank, story.marginal, stated, unstated, ratio))
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.stated))


def parting(points: Sequence[BridgePoint]) -> list[str]:
    """Where theory and model agree and where they part, as sentences computed from the points."""
    found = ["In theory one bridging name a pair is enough to put the implied answer first, true or not."]
    for name, own in curves_of(points).items():
        clear = _from([p.marginal is not None and p.rank.high is not None and p.rank.high < p.marginal for p in own])
        first = _from([p.rank.value is not None and p.rank.value <= LEARNED for p in own])
        if clear is None:
            found.append(f"{name}: the interval is not clear of the baseline even at the most bridging names.")
            continue
        shown = f"{name}: the interval is clear of the baseline from {own[clear].stated:g} bridging names a pair on"
        end = "does not fall to 0.1 here" if first is None else f"is 0.1 or less from {own[first].stated:g} on"
        found.append(f"{shown}, and the mean rank {end}.")
    for side, words in ((-1, "lies above"), (1, "lies below"), (0, "cannot be told from")):
        here = [
            f"{p.label} at {p.stated:g} ({number(p.ratio.value)}, {interval(p.ratio)}; theory {number(p.theory)})"
            for p in points
            if p.ratio is not None and side_of(p.ratio, p.theory) == side
        ]
        if here:
            found.append(f"The model’s margin {words} the theory’s: {', '.join(here)}.")
    return found


def _from(held: Sequence[bool]) -> int | None:
    """The first place from which on every entry holds."""
    return next((place for place in range(len(held)) if all(held[place:])), None)


@dataclass(frozen=True)
class SeedPoint:
    """One seed at its first checkpoint with every stated row learned; at its last when there is none."""

    seed: int
    epoch: int
    rank: float
    learned: bool


@dataclass(frozen=True)
class RatePoint(StudyPoint):
    """One cell, each seed read at its own checkpoint. recall, stated: rank of the facts, and of what was stated."""

    model: str
    pack: str
    rate: float
    recall: Metric | None
    stated: Metric | None
    seeds: tuple[SeedPoint, ...]

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
        return f"{never} of {len(self.seeds)} seeds never learned" if never else ""


def scientific(rate: float) -> str:
    """A learning rate as 5e−5."""
    digits, _, power = f"{rate:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "−")


def rate_points(cells: Sequence[LoadedCell]) -> list[RatePoint]:
    """A point a cell that was run, set by set in order of first appearance, slowest rate first."""
    found = [cell.story for cell in cells if cell.story]
    several = len({story.run.record.settings.get("model") for story in found}) > 1
    points = []
    for story in found:
        whole, settings = story.run.ranks, story.run.record.settings
        first = first_learned(whole)
        chosen = {
            seed: int(whole.only(seed=seed).checkpoint.max()) if epoch is None else epoch
            for seed, epoch in first.items()
        }
        rows, asked = _at(whole, chosen), _at(story.asked, chosen)
        rank, model, pack = implication_rank_test(asked), str(settings.get("model")), story.run.pack_name
        if settings.get("lr") is None or rank is None:
            continue
        label = f"{model}, {pack}" if several else pack
        seeds = tuple(
            SeedPoint(seed, epoch, float(asked.only(seed=seed).rank.mean()), first[seed] is not None)
            for seed, epoch in chosen.items()
        )
        learned = recall_rank(rows), implication_rank_train(rows)
        rate = float(settings["lr"])
        points.append(RatePoint(label, story.wanted, rank, story.marginal, model, pack, rate, *learned, seeds))
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.rate))


def _at(table: RankTable, chosen: Mapping[int, int]) -> RankTable:
    """The rows of each seed at the checkpoint chosen for it."""
    if not len(table):
        return table
    return table.where(table.checkpoint == np.array([chosen[seed] for seed in table.seed.tolist()]))


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
            least = ", ".join(point.epochs for point in own if point.rate == whole[0])
            why = f"{scientific(whole[0])}, the lowest at which every run learned what was stated ({least} passes)"
        else:
            why = f"none from {scientific(rates[0])} to {scientific(rates[-1])} taught all that was stated in every run"
        found.append(ChosenRate(model, whole[0] if whole else None, f"Rate for {model}: {why}."))
    return found


def trend(points: Sequence[RatePoint]) -> list[str]:
    """What changes from the lowest rate to the highest, a sentence a set with several rates."""
    found = []
    for name, curve in curves_of(points).items():
        own = [point for point in curve if point.learned]
        if len(own) > 1:
            first, last = own[0], own[-1]
            ends = " to ".join(f"{number(p.mean)} at {scientific(p.rate)} ({interval(p.rank)})" for p in (first, last))
            limits = (first.rank.low, first.rank.high, last.rank.low, last.rank.high)
            low, high, other_low, other_high = (math.nan if limit is None else limit for limit in limits)
            apart = "the intervals do not overlap" if low > other_high or other_low > high else "the intervals overlap"
            found.append(f"{name}: when the stated rows are learned, the mean rank goes from {ends}; {apart}.")
    return found


@dataclass(frozen=True)
class AdapterPoint(StudyPoint):
    """One implication of one cell. adapter: the rank of what was trained; 0 for the weights themselves."""

    adapter: int
    forgetting: Metric | None

    @property
    def trained(self) -> str:
        return f"{self.adapter}" if self.adapter else "weights"


def adapter_points(cells: Sequence[LoadedCell]) -> list[AdapterPoint]:
    """The cells' implications, by the rank of the adapter, the weights themselves last."""
    found = []
    for story in [story for cell in cells if cell.run for story in stories(cell.run, cell.slug)]:
        rank = story.metric("implication_rank_test")
        if story.key is not None and rank is not None:
            label = f"{story.given} → {story.then}".replace("_", " ")
            adapter, forgetting = int(story.run.record.settings.get("lora") or 0), story.metric("forgetting_nats")
            found.append(AdapterPoint(label, story.wanted, rank, story.marginal, adapter, forgetting))
    return sorted(found, key=lambda point: point.adapter or math.inf)
