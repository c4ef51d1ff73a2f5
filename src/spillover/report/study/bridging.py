"""How the unstated implication depends on the number of bridging names a pair, in a model and in theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spillover.measures.learned import LEARNED
from spillover.measures.margin_ratio import margin_ratio
from spillover.measures.ranking import answers_at_end
from spillover.record import Metric
from spillover.report.story import unique
from spillover.report.study.load import Cell
from spillover.report.words import interval, number


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
    points = [point for cell in cells if (point := _point(cell)) is not None]
    order = unique(point.label for point in points)
    return sorted(points, key=lambda point: (order.index(point.label), point.stated))


def by_set(points: Sequence[BridgePoint]) -> dict[str, list[BridgePoint]]:
    """Set -> its points."""
    return {name: [point for point in points if point.label == name] for name in unique(p.label for p in points)}


def _point(cell: Cell) -> BridgePoint | None:
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
