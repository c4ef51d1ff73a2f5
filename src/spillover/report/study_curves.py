"""A study's curves: the rank by bridging names, by learning rate or by adapter, and a second quantity below it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spillover.metrics import implications
from spillover.metrics.ranks import RankTable, answers_at_end
from spillover.record import Metric
from spillover.report import drawing
from spillover.report.drawing import BASELINE, BASELINE_NAME, INK, Drawing, label, limits, plot
from spillover.report.load import Story, spoken, stories, trimmed, unique, value_of
from spillover.report.page import DataTable, Row, metric_cell, table_of
from spillover.report.study_data import TRUTHS, LoadedCell, numbers_of, side_of
from spillover.report.words import interval, number, value

RATES = "rank-by-rate"


class SeedPoint(NamedTuple):
    """One seed at its first checkpoint with every stated row learned; at its last when there is none."""

    seed: int
    epoch: int
    rank: float
    learned: bool


@dataclass(frozen=True)
class Point:
    """An implication of a cell as a place on a curve. label: of its curve. rank: of what was not stated.

    x: bridging names a pair, learning rate, or rank of the adapter (infinite for the weights themselves). below: what
    the lower panel shows: margin in units of the stated ones' (None without stated ones), passes, or forgetting. seeds:
    each read at its own checkpoint, for rates.
    """

    label: str
    story: Story
    x: float
    rank: Metric
    below: Metric | None
    seeds: tuple[SeedPoint, ...] = field(default=(), kw_only=True)

    @property
    def mean(self) -> float:
        """The mean rank itself."""
        return math.nan if self.rank.value is None else self.rank.value

    @property
    def place(self) -> str:
        return f"{self.x:g}" if math.isfinite(self.x) else "weights"

    @property
    def theory(self) -> float | None:
        """What theory expects of `below`, if it says."""
        return None

    @property
    def learned(self) -> bool:
        """Whether every seed learned its stated rows."""
        return all(seed.learned for seed in self.seeds)

    def numbers(self, second: str) -> dict[str, Any]:
        """The point as a row below its figure. second: what `below` is."""
        names = {second: "value", f"{second}_low": "low", f"{second}_high": "high"}
        below = {name: getattr(self.below, part, None) for name, part in names.items()}
        return {**numbers_of(self.rank), "baseline": self.story.marginal, **below}


OnCurve = TypeVar("OnCurve", bound=Point)


def curves_of(points: Sequence[OnCurve]) -> dict[str, list[OnCurve]]:
    """Label -> its points from left to right; labels in order of first appearance."""
    labels, by_place = unique(point.label for point in points), sorted(points, key=lambda point: point.x)
    return {text: [point for point in by_place if point.label == text] for text in labels}


def _ordered(points: Sequence[OnCurve]) -> list[OnCurve]:
    return [point for own in curves_of(points).values() for point in own]


def _listed(points: Sequence[Point]) -> str:
    """Every mean rank in words, curve by curve."""
    curves = curves_of(points).items()
    return "; ".join(f"{text}: {', '.join(f'{p.mean:.2f} at {p.place}' for p in own)}" for text, own in curves)


def _draw(
    points: Sequence[Point], name: str, title: str, said: str, rows: list[dict[str, Any]], x_label: str, y_label: str,
    scale: str = "log", alike: bool = False,
) -> Drawing | None:  # fmt: skip
    """The ranks above, a curve a label, and what is below; None without points. alike: below, all curves are the same.

    A dash is a seed, a hollow mark one that did not learn, and a dotted line the theory.
    """
    if not points:
        return None
    curves, handles = curves_of(points), dict[str, Any]()
    looks = drawing.looks([own[0].story.wanted for own in curves.values()])
    # The weights are no rank further on, so they stand apart.
    apart = 4 * max((point.x for point in points if math.isfinite(point.x)), default=1.0)
    ticks = {min(point.x, apart): point.place for point in sorted(points, key=lambda point: point.x)}
    with drawing.panels(6.3 + 0.25 * len(curves), 2) as (figure, (above, below)):
        for (text, own), look in zip(curves.items(), looks, strict=True):
            if not (alike and handles):
                passes = [[seed.epoch for seed in point.seeds] for point in own]
                _curve(below, own, [p.below for p in own], passes, (INK, "-", "D") if alike else look, apart)
            ranks = [[seed.rank for seed in point.seeds] for point in own]
            line = _curve(above, own, [p.rank for p in own], ranks, look, apart)
            handles[f"{label(text, 30)} ({TRUTHS[own[0].story.wanted]})"] = line
        line_at = next((point.story.marginal for point in points if point.story.marginal is not None), None)
        if line_at is not None:
            handles[f"{BASELINE_NAME}: {line_at:.2f}"] = above.axhline(line_at, **BASELINE)
        if theory := _theory(points):
            below.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
            style: Any = {"color": INK, "linestyle": (0, (1, 2)), "marker": "D", "markerfacecolor": "none"}
            (handles["theory: min(1, √(bridging / other names))"],) = below.plot(*zip(*theory, strict=True), **style)
        else:
            below.set_ylim(bottom=0)
        if any(len(point.seeds) > 1 for point in points):
            handles["one seed"] = Line2D([], [], linestyle="none", marker="_", color=INK, markersize=9)
        if not all(point.learned for point in points):
            hollow: Any = {"marker": "o", "color": INK, "markerfacecolor": "none"}
            handles["hollow: stated rows not learned by the end"] = Line2D([], [], linestyle="none", **hollow)
        above.set(ylabel="mean rank (0 is best)", ylim=(0, None))
        below.set(xlabel=x_label, ylabel=y_label, xscale=scale)
        below.set_xticks(list(ticks), list(ticks.values()))
        below.minorticks_off()
        for axes in (above, below):
            axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        return drawing.finish(figure, name, title, said, rows, handles, handlelength=3)


def _curve(
    axes: Axes, points: Sequence[Point], metrics: Sequence[Metric | None], by_seed: Sequence[Sequence[float]],
    look: Any, apart: float,
) -> Line2D:  # fmt: skip
    """Metrics of the points, with their intervals: a band along a line, or a bar where no line leads."""
    colour, dash, marker = look
    x = np.array([min(point.x, apart) for point in points])
    values = np.array([value_of(metric) for metric in metrics], float)
    low, high = np.array([limits(metric) or (math.nan, math.nan) for metric in metrics]).T
    joined = np.isfinite([point.x for point in points]) & ~np.isnan(values)
    joined &= joined.sum() > 1
    axes.fill_between(x[joined], low[joined], high[joined], color=colour, alpha=0.16, linewidth=0)
    axes.vlines(x[~joined], low[~joined], high[~joined], color=colour, linewidth=1.5)
    axes.plot(x[joined], values[joined], color=colour, linestyle=dash, linewidth=2, clip_on=False)
    for point, at, mean, seeds in zip(points, x, values, by_seed, strict=True):
        face = colour if point.learned else "none"
        axes.plot([at], [mean], color=colour, marker=marker, markerfacecolor=face, clip_on=False)
        if len(seeds) > 1:
            axes.plot([at] * len(seeds), seeds, color=colour, linestyle="none", marker="_", markersize=9)
    return Line2D([], [], color=colour, linestyle=dash, linewidth=2, marker=marker)


@dataclass(frozen=True)
class BridgePoint(Point):
    """One cell, by how many names a pair had the implication stated. unstated: how many had not."""

    unstated: float

    @property
    def ratio(self) -> float:
        """Bridging names to each other name."""
        return self.x / self.unstated

    @property
    def theory(self) -> float:
        """Margin of the unstated implication in the one-layer model of least nuclear norm, per stated margin."""
        return min(1.0, math.sqrt(self.ratio))

    @property
    def curve(self) -> str:
        """Its model and set, whatever the numbers of names."""
        run = self.story.run
        return f"{run.record.settings.get('model')}, {trimmed(run.pack_name, 'names', 'bridge')}"


def bridge_points(cells: Sequence[LoadedCell]) -> list[BridgePoint]:
    """A point a cell that was run, set by set in order of first appearance, fewest bridging names first."""
    points = []
    for story in [cell.story for cell in cells if cell.story]:
        if story.rank is None:
            continue
        pairs = max(1, len(set(story.after.cluster.tolist())))
        asked = len({*zip(story.after.seed.tolist(), story.after.subject.tolist(), strict=True)})
        stated, unstated = story.examples_stated / pairs, asked / max(1, len(story.run.seeds)) / pairs
        margin = implications.margin_ratio(answers_at_end(story.run.answers), story.key)
        text = trimmed(story.run.pack_name, "bridge")
        points.append(BridgePoint(text, story, stated, story.rank, margin, unstated))
    return _ordered(points)


def _theory(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Every place with what theory says of it, from left to right."""
    return sorted({(point.x, point.theory) for point in points if point.theory is not None})


def parting(points: Sequence[BridgePoint]) -> list[str]:
    """Where theory and model agree and where they part, as sentences computed from the points."""
    found = ["In theory one bridging name a pair is enough to put the implied answer first, true or not."]
    for name, own in curves_of(points).items():
        marginals = [math.nan if p.story.marginal is None else p.story.marginal for p in own]
        clear = _from([p.rank.high is not None and p.rank.high < at for p, at in zip(own, marginals, strict=True)])
        first = _from([p.mean <= implications.LEARNED for p in own])
        if clear is None:
            found.append(f"{name}: the interval is not clear of the baseline even at the most bridging names.")
            continue
        shown = f"{name}: the interval is clear of the baseline from {own[clear].place} bridging names a pair on"
        end = "does not fall to 0.1 here" if first is None else f"is 0.1 or less from {own[first].place} on"
        found.append(f"{shown}, and the mean rank {end}.")
    for side, words in ((-1, "lies above"), (1, "lies below"), (0, "cannot be told from")):
        here = [
            f"{p.label} at {p.place} ({value(p.below)}, {interval(p.below)}; theory {number(p.theory)})"
            for p in points
            if side_of(p.below, p.theory) == side
        ]
        found += [f"The model’s margin {words} the theory’s: {', '.join(here)}."] if here else []
    return found


def _from(held: Sequence[bool]) -> int | None:
    """The first place from which on every entry holds."""
    return next((place for place in range(len(held)) if all(held[place:])), None)


@plot("rank-by-bridging", of="cells")
def draw_rank_by_bridging(cells: Sequence[LoadedCell], name: str = "rank-by-bridging") -> Drawing | None:
    """Above the rank, a curve a set with its interval; below, margins per stated margin, the theory dotted."""
    points = bridge_points(cells)
    heads = [{"set": p.label, "bridging_names": p.x, "other_names": p.unstated} for p in points]
    rows = [{**head, **p.numbers("margin"), "theory_margin": p.theory} for head, p in zip(heads, points, strict=True)]
    exact = ", ".join(f"{margin:.2f} at {x:g}" for x, margin in _theory(points))
    said = f"Mean rank by bridging names a pair. {_listed(points)}. Margin in theory: {exact}."
    title, below = "How many bridging names a pair it takes", "margin, per stated margin"
    return _draw(points, name, title, said, rows, "bridging names a pair", below, "linear")


MARGINS = "margin-by-ratio"
#: What the one-layer models say of a margin at the ratio of bridging to other names. docs/theory.md, "The embedding-MLP
#: model": of the product of three matrices the limit of many classes.
THEORIES: dict[str, Callable[[float], float]] = {
    "attention (square root)": lambda ratio: min(1.0, ratio**0.5),
    "embedding-MLP (fourth root)": lambda ratio: min(1.0, ratio**0.25),
}


def apart_from_theory(cells: Sequence[LoadedCell]) -> list[str]:
    """How far each curve lies from either theory and from no conclusion at all, in the mean over its cells."""
    points, found = [point for point in bridge_points(cells) if point.below is not None], []
    for curve in unique(point.curve for point in points):
        own = [point for point in points if point.curve == curve]
        measured = np.array([value_of(point.below) for point in own], float)
        apart = {
            name: float(np.abs(measured - [theory(point.ratio) for point in own]).mean())
            for name, theory in {**THEORIES, "no conclusion": lambda ratio: 0.0}.items()
        }
        listed = ", ".join(f"{name} {number(distance)}" for name, distance in apart.items())
        found.append(f"{curve}: nearest to {min(apart, key=apart.__getitem__)}; mean distance to {listed}.")
    return found


@plot(MARGINS, of="cells")
def draw_margin_by_ratio(cells: Sequence[LoadedCell], name: str = MARGINS) -> Drawing | None:
    """Margins per stated margin against bridging over other names, a curve a model and set, with both theories."""
    points = [(point, point.below) for point in bridge_points(cells) if point.below is not None]
    if not points:
        return None
    curves, handles, rows = unique(point.curve for point, _ in points), dict[str, Any](), list[dict[str, Any]]()
    looks = drawing.looks([next(p.story.wanted for p, _ in points if p.curve == curve) for curve in curves])
    ends = [point.ratio for point, _ in points]
    grid = np.geomspace(min(ends), max(max(ends), 1.01 * min(ends)), 40)
    with drawing.canvas(3.4 + 0.25 * (len(curves) + 2)) as (figure, axes):
        for curve, (colour, _, marker) in zip(curves, looks, strict=True):
            own = [(p, metric) for p, metric in points if p.curve == curve]
            for p, metric in own:
                low, high = limits(metric) or (math.nan, math.nan)
                mean = np.array([metric.value], float)
                axes.vlines([p.ratio], [low], [high], color=colour, linewidth=1.5)
                (mark,) = axes.plot([p.ratio], mean, color=colour, linestyle="none", marker=marker)
                rows.append({"set": curve, "bridging_names": p.x, "other_names": p.unstated, "margin": metric.value,
                             "margin_low": metric.low, "margin_high": metric.high,
                             **{text: theory(p.ratio) for text, theory in THEORIES.items()}})  # fmt: skip
            handles[f"{label(curve, 40)} ({TRUTHS[own[0][0].story.wanted]})"] = mark
        for (text, theory), dash in zip(THEORIES.items(), ((0, (1, 2)), (0, (6, 3))), strict=True):
            (handles[text],) = axes.plot(grid, [theory(at) for at in grid], color=INK, linestyle=dash)
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
        axes.set(xlabel="bridging names to each other name", ylabel="margin, per stated margin", xscale="log")
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        said = [f"{p.curve}: {number(metric.value)} at {p.x:g} to {p.unstated:g}" for p, metric in points]
        title = "The margin of what nobody stated against how many names bridge"
        return drawing.finish(figure, name, title, "; ".join(said), rows, handles)


@dataclass(frozen=True)
class RatePoint(Point):
    """One cell, each seed read at its own checkpoint. recall, stated: rank of the facts, and of what was stated."""

    model: str
    pack: str
    recall: Metric | None
    stated: Metric | None

    @property
    def place(self) -> str:
        return scientific(self.x)

    @property
    def epochs(self) -> str:
        """Passes it took, from the fastest seed to the slowest."""
        found = [seed.epoch for seed in self.seeds]
        return " to ".join(map(str, sorted({min(found), max(found)})))

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
        ranks, settings = story.run.ranks, story.run.record.settings
        first = implications.first_learned(ranks)
        chosen = {seed: epoch or int(ranks.only(seed=seed).checkpoint.max()) for seed, epoch in first.items()}
        rows, asked = _at(ranks, chosen), _at(story.asked, chosen)
        rank, model, pack = implications.implication_rank_test(asked), str(settings.get("model")), story.run.pack_name
        if settings.get("lr") is None or rank is None:
            continue
        seeds = tuple(
            SeedPoint(seed, epoch, float(asked.only(seed=seed).rank.mean()), first[seed] is not None)
            for seed, epoch in chosen.items()
        )
        passes = Metric(sum(chosen.values()) / len(chosen), None, None, len(chosen), len(chosen), "passes")
        text = f"{model}, {pack}" if several else pack
        stated = implications.recall_rank(rows), implications.implication_rank_train(rows)
        points.append(RatePoint(text, story, float(settings["lr"]), rank, passes, model, pack, *stated, seeds=seeds))
    return _ordered(points)


def _at(table: RankTable, chosen: Mapping[int, int]) -> RankTable:
    """The rows of each seed at the checkpoint chosen for it."""
    return table.where(table.checkpoint == np.array([chosen[seed] for seed in table.seed.tolist()]))


class ChosenRate(NamedTuple):
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
        packs, rates = {point.pack for point in own}, sorted({point.x for point in own})
        if len(rates) < 2:
            continue
        rate = next((at for at in rates if {p.pack for p in own if p.x == at and p.learned} == packs), None)
        why = f"none from {scientific(rates[0])} to {scientific(rates[-1])} taught all that was stated in every run"
        if rate is not None:
            passes = ", ".join(point.epochs for point in own if point.x == rate)
            why = f"{scientific(rate)}, the lowest at which every run learned what was stated ({passes} passes)"
        found.append(ChosenRate(model, rate, f"Rate for {model}: {why}."))
    return found


def trend(points: Sequence[RatePoint]) -> list[str]:
    """What changes from the lowest rate to the highest, a sentence a set with several rates."""
    found = []
    for name, own in curves_of([point for point in points if point.learned]).items():
        if len(own) > 1:
            ends = [own[0], own[-1]]
            said = " to ".join(f"{number(p.mean)} at {p.place} ({interval(p.rank)})" for p in ends)
            (low, high), (other_low, other_high) = (limits(p.rank) or (math.nan, math.nan) for p in ends)
            apart = "do not overlap" if low > other_high or other_low > high else "overlap"
            learned = f"{name}: when the stated rows are learned"
            found.append(f"{learned}, the mean rank goes from {said}; the intervals {apart}.")
    return found


def show_rates(cells: Sequence[LoadedCell]) -> tuple[DataTable, list[str]]:
    """One row a set and learning rate, each seed read at the first checkpoint at which its stated rows are learned."""
    points = rate_points(cells)
    rows: list[Row] = [
        (f"{point.label}, {point.place}", point.unlearned, {
            "passes": point.epochs,
            "unstated implication, mean rank": metric_cell(point.rank),
            "stated facts": value(point.recall),
            "stated implications": value(point.stated),
        })
        for point in points
    ]  # fmt: skip
    notes = [*trend(points), *(each.sentence for each in chosen_rates(points))]
    return table_of("rates_caption", "set and learning rate", rows), notes


@plot(RATES, of="cells")
def draw_rank_by_rate(cells: Sequence[LoadedCell], name: str = RATES) -> Drawing | None:
    """Above the rank, with its interval and a dash a seed; below, the passes it took. Hollow: never learned."""
    points, rows, said = rate_points(cells), list[dict[str, Any]](), []
    for point in points:
        head = {"set": point.label, "learning_rate": f"{point.x:g}", "seed": None, "passes": point.epochs}
        rows.append({**head, **numbers_of(point.rank), "learned": point.learned})
        for seed, epoch, rank, learned in point.seeds:
            rows.append({**head, "seed": seed, "passes": epoch, "mean_rank": rank, "learned": learned})
        never = f" ({point.unlearned})" if point.unlearned else ""
        said.append(f"{point.label} at {point.x:g}: rank {point.mean:.2f} after {point.epochs} passes{never}")
    title = "Mean rank once the stated rows are learned, by learning rate"
    return _draw(points, name, title, f"{'; '.join(said)}.", rows, "learning rate", "passes it took")


@plot("rank-by-adapter", of="cells")
def draw_rank_by_adapter(cells: Sequence[LoadedCell], name: str = "rank-by-adapter") -> Drawing | None:
    """Above the rank, a curve an implication with its interval; below, forgetting. The weights stand apart."""
    found = []
    for story in [story for cell in cells if cell.run for story in stories(cell.run, cell.slug)]:
        if story.key is not None and story.rank is not None:
            adapter = float(story.run.record.settings.get("lora") or math.inf)
            text, forgetting = spoken(f"{story.given} → {story.then}"), story.metric("forgetting_nats")
            found.append(Point(text, story, adapter, story.rank, forgetting))
    points, rows = _ordered(found), list[dict[str, Any]]()
    for point in points:
        rank = int(point.x) if math.isfinite(point.x) else None
        rows.append({"implication": point.label, "adapter_rank": rank, **point.numbers("forgetting")})
    said = f"Mean rank by the rank of the adapter. {_listed(points)}."
    title = "Mean rank of unstated implications by the rank of the adapter"
    x_label, y_label = "rank of the adapter, or the weights themselves", "forgotten (nats a token)"
    return _draw(points, name, title, said, rows, x_label, y_label, alike=True)
