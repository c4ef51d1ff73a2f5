"""A study's layers: what is left of facts and implications when some layers are frozen, by which step is stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from spillover.metrics.intervals import clusters_of, mean_metric
from spillover.metrics.ranks import RankTable
from spillover.record import Metric
from spillover.report import drawing
from spillover.report.drawing import BASELINE, BASELINE_NAME, INK, LINES, Drawing, label, limits, plot
from spillover.report.load import Story, unique, value_of
from spillover.report.page import DataTable, Row, metric_cell, table_of
from spillover.report.study_data import LoadedCell, numbers_of
from spillover.report.words import interval, value

LAYERS = "rank-by-layers"
#: The remedy of a cell -> what became of its layers; the last is read before training.
WAYS = {"": "all trained", "later-layers": "earlier frozen", "keep-later": "earlier set back",
        "earlier-layers": "later frozen", "keep-earlier": "later set back", "none": "none trained"}  # fmt: skip
#: What a stated fact is of a conclusion.
HOPS = {False: "first step stated", True: "second step stated"}


@dataclass(frozen=True)
class LayerPoint:
    """An implication of a cell, its layers trained in one of WAYS. fact, rank: of what is stated, and what is not."""

    story: Story
    way: str
    fact: Metric | None
    rank: Metric | None

    @property
    def model(self) -> str:
        return str(self.story.run.record.settings.get("model"))

    @property
    def forgetting(self) -> Metric | None:
        return None if self.way == "none" else self.story.metric("forgetting_nats")

    @property
    def second(self) -> bool:
        """Whether the stated fact is the second step: what is asked describes its subjects."""
        return bool(self.story.run.described.get(self.story.then))

    @property
    def group(self) -> tuple[str, bool, str]:
        return self.model, self.second, self.story.run.pack_name


def layer_points(cells: Sequence[LoadedCell]) -> list[LayerPoint]:
    """A point a cell of one of WAYS that was run, and one before training, in the order of WAYS; group by group."""
    found = []
    for cell in cells:
        story, way = cell.story, str(cell.options.get("remedy") or "").partition("=")[0]
        if story is None or way not in WAYS:
            continue
        found.append(LayerPoint(story, way, story.metric("recall_rank"), story.rank))
        if not way:
            found.append(LayerPoint(story, "none", story.metric("recall_rank_before"), story.rank_before))
    groups, ways = unique(point.group for point in found), list(WAYS)
    return sorted(found, key=lambda point: (groups.index(point.group), ways.index(point.way)))


def lost(one: RankTable, other: RankTable) -> Metric | None:
    """How much worse the same unstated questions rank in one run than in another, over pairs and seeds."""
    known = dict(zip(zip(other.seed.tolist(), other.subject.tolist(), strict=True), other.rank.tolist(), strict=True))
    keys = list(zip(one.seed.tolist(), one.subject.tolist(), strict=True))
    both = one.where(np.array([key in known for key in keys], bool))
    there = np.array([known[key] for key in keys if key in known], float)
    return mean_metric(both.rank - there, clusters_of(both), "rank")


#: Ways of which one leaves the earlier and one the later layers as they were, and what was done to them.
OPPOSED = (("later-layers", "earlier-layers", "frozen"), ("keep-later", "keep-earlier", "set back"))


@dataclass(frozen=True)
class Contrast:
    """One model and step without its earlier, and without its later layers. how: what was done to them.

    apart: how much worse the conclusion ranks without the earlier ones.
    """

    early: LayerPoint
    late: LayerPoint
    how: str
    apart: Metric | None

    @property
    def carriers(self) -> str:
        """Which layers the conclusion needs more; empty where the interval of the difference includes zero."""
        low, high = limits(self.apart) or (0.0, 0.0)
        return "earlier" if low > 0 else "later" if high < 0 else ""

    @property
    def sentence(self) -> str:
        said = f"the {self.carriers} layers carry it" if self.carriers else "that does not tell which layers carry it"
        return (
            f"{self.early.model}, {HOPS[self.early.second]}: the conclusion ranks {value(self.early.rank)} with the "
            f"earlier layers {self.how} and {value(self.late.rank)} with the later ones; a difference of "
            f"{value(self.apart)} ({interval(self.apart)}): {said}."
        )


def contrasts(points: Sequence[LayerPoint]) -> list[Contrast]:
    """Every model and step with both ways of a kind, asked the same questions."""
    found = []
    for group in unique(point.group for point in points):
        own = {point.way: point for point in points if point.group == group}
        for early, late, how in (each for each in OPPOSED if own.keys() >= {*each[:2]}):
            apart = lost(own[early].story.after, own[late].story.after)
            found.append(Contrast(own[early], own[late], how, apart))
    return found


def finding(cells: Sequence[LoadedCell]) -> str:
    """Which layers carry a conclusion by the step that is stated, in one sentence; nothing where none were frozen."""
    found = [each for each in contrasts(layer_points(cells)) if each.how == OPPOSED[0][2]]
    said = []
    for second in unique(each.early.second for each in found):
        own = [each.carriers for each in found if each.early.second == second]
        counts = [f"the {layers} ones in {own.count(layers)}" for layers in ("earlier", "later") if layers in own]
        if rest := own.count(""):
            counts.append(f"it is not told in {rest}")
        models = f"of {len(own)} model{'s' if len(own) > 1 else ''}"
        said.append(f"where the {HOPS[second].removesuffix(' stated')} is stated, {' and '.join(counts)} {models}")
    return f"Which layers does a conclusion need to be trained? {'; '.join(said).capitalize()}." if said else ""


def show_layers(cells: Sequence[LoadedCell]) -> tuple[DataTable | None, list[str]]:
    """One row a way, model and step: ranks of facts and implication; and which layers carry it, in sentences."""
    points = layer_points(cells)
    rows: list[Row] = [
        (f"{point.model}, {HOPS[point.second]}, {WAYS[point.way]}", "", {
            "unstated implication, mean rank": metric_cell(point.rank),
            "stated facts, mean rank": metric_cell(point.fact),
            "baseline": value(point.story.metric("marginal_rank")),
            "forgetting, nats a token": metric_cell(point.forgetting),
        })
        for point in points
    ]  # fmt: skip
    return (table_of("layers_caption", "model, step and layers", rows) if rows else None), [
        each.sentence for each in contrasts(points)
    ]


@plot(LAYERS, of="cells")
def draw_layers(cells: Sequence[LoadedCell], name: str = LAYERS) -> Drawing | None:
    """A panel for each step that is stated: the rank of facts (hollow) and implication (filled) by what was trained."""
    points = layer_points(cells)
    if not points:
        return None
    models, steps = unique(point.model for point in points), sorted({point.second for point in points})
    ways = [way for way in WAYS if any(point.way == way for point in points)]
    handles, rows, said = dict[str, Any](), list[dict[str, Any]](), []
    with drawing.panels(2.6 * len(steps) + 1.6 + 0.25 * len(models), len(steps)) as (figure, every):
        for second, axes in zip(steps, every, strict=True):
            own = [point for point in points if point.second == second]
            for point in own:
                colour, _, marker = LINES[models.index(point.model) % len(LINES)]
                at = ways.index(point.way) + 0.22 * (models.index(point.model) - (len(models) - 1) / 2)
                for metric, face, aside in ((point.rank, colour, 0.0), (point.fact, "none", 0.08)):
                    low, high = limits(metric) or (np.nan, np.nan)
                    axes.vlines([at + aside], [low], [high], color=colour, linewidth=1.2, clip_on=False)
                    axes.plot([at + aside], np.array([value_of(metric)], float), color=colour, linestyle="none",
                              marker=marker, markerfacecolor=face, clip_on=False)  # fmt: skip
                rows.append({"model": point.model, "step": HOPS[second], "layers": WAYS[point.way],
                             **numbers_of(point.rank), "fact_rank": point.fact.value if point.fact else None,
                             "baseline": point.story.marginal})  # fmt: skip
                said.append(f"{point.model}, {HOPS[second]}, {WAYS[point.way]}: {value(point.rank)}")
            guess = next((point.story.marginal for point in own if point.story.marginal is not None), None)
            if guess is not None:
                handles[BASELINE_NAME] = axes.axhline(guess, **BASELINE)
            axes.set(ylabel=f"mean rank, {HOPS[second]}", ylim=(0, None))
            axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        every[-1].set_xticks(range(len(ways)), [WAYS[way].replace(" ", "\n", 1) for way in ways])
        for place, model in enumerate(models):
            colour, _, marker = LINES[place % len(LINES)]
            handles[label(model, 40)] = Line2D([], [], color=colour, linestyle="none", marker=marker)
        hollow: Any = {"marker": "o", "color": INK, "markerfacecolor": "none"}
        handles["hollow: the stated facts"] = Line2D([], [], linestyle="none", **hollow)
        title = "What is left when some layers are not trained, or set back"
        return drawing.finish(figure, name, title, f"{'; '.join(said)}.", rows, handles)
