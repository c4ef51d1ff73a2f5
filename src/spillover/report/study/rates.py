"""What is inferred by the time the stated rows are learned, at one learning rate after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.measures import implication_rank_test, implication_rank_train, recall_rank
from spillover.measures.learned import first_learned
from spillover.measures.ranking import RankTable
from spillover.record import Metric
from spillover.report.story import Story, unique
from spillover.report.study.load import Cell
from spillover.report.words import interval, number


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
    points = [point for cell in cells if cell.story and (point := _point(cell.story, len(models) > 1)) is not None]
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.rate))


def _model(story: Story) -> str:
    return str(story.run.record.settings.get("model"))


def _point(story: Story, several: bool) -> RatePoint | None:
    whole, rate = story.run.ranks, story.run.record.settings.get("lr")
    first = first_learned(whole)
    last = {seed: int(whole.only(seed=seed).checkpoint.max()) for seed in first}
    chosen = {seed: last[seed] if epoch is None else epoch for seed, epoch in first.items()}
    rows = _at(whole, chosen)
    rank = implication_rank_test.measure(_at(story.asked, chosen))
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
        recall=recall_rank.measure(rows),
        stated=implication_rank_train.measure(rows),
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
