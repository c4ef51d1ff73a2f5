"""A study's dial: the share of a conclusion against what a model forgot, a colour a family; what turns it up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from matplotlib.lines import Line2D

from spillover.metrics import dials, implications
from spillover.metrics.dials import DIALS, NO_RISE, Turn
from spillover.metrics.intervals import over_seeds
from spillover.metrics.remedies import ALIVE
from spillover.record import Metric
from spillover.report import drawing
from spillover.report.drawing import BASELINE, INK, LINES, Drawing, label, plot
from spillover.report.load import Story, spoken, stories, unique
from spillover.report.page import Cell, DataTable, Row, TableCell, metric_cell, table_of
from spillover.report.study_curves import scientific
from spillover.report.study_data import TRUTHS, LoadedCell
from spillover.report.words import interval, number, value

DIAL = "share-by-forgetting"


@dataclass(frozen=True)
class DialPoint:
    """One implication of a cell, each seed read at its last measurement.

    learned: whether every seed learned all. lined: whether its way of training has a line of its own: run at several
    rates, or in a study that trains the family in no plain way.
    """

    cell: LoadedCell
    story: Story
    turns: Sequence[Turn]
    learned: bool
    lined: bool = True

    @property
    def family(self) -> str:
        return self.turns[0].family

    @property
    def association(self) -> str:
        return self.turns[0].association

    @property
    def way(self) -> str:
        """How it was trained, if not plainly."""
        options = self.cell.options
        said = {"lora": "adapter of rank {}", "train_prompts": "{} prompts", "remedy": "{}", "optimiser": "{}"}
        given = {name: str(options[name]).removesuffix("=1") for name in said if options.get(name)}
        return ", ".join(said[name].format(value) for name, value in given.items())

    @property
    def curve(self) -> str:
        """The line that it is drawn on: its family, and how it was trained where that has a line of its own."""
        return f"{self.family}, {self.way}" if self.way and self.lined else self.family

    @cached_property
    def share(self) -> Metric:
        return over_seeds([turn.share for turn in self.turns], "share")

    @property
    def mean(self) -> float:
        return math.nan if self.share.value is None else self.share.value

    def dial(self, name: str) -> Metric:
        return over_seeds([turn.dials[name] for turn in self.turns], name)


def dial_points(cells: Sequence[LoadedCell]) -> list[DialPoint]:
    """A point an implication of each cell that was run, family by family, slowest rate first."""
    found = []
    for cell in cells:
        if cell.run is None:
            continue
        learned = implications.first_learned(cell.run.ranks)
        for story in stories(cell.run, cell.run.pack_name):
            if story.key is None or not len(story.after):
                continue
            turns = [turn for seed in cell.seeds if (turn := _turn(cell, story, seed))]
            if turns:
                at_end = all(learned.get(seed) is not None for seed in cell.seeds)
                found.append(DialPoint(cell, story, turns, at_end))
    families, rates = unique(point.family for point in found), dict[tuple[str, str], set[float]]()
    for point in found:
        rates.setdefault((point.family, point.way), set()).add(point.turns[0].dials[DIALS[0]])
    found = [replace(p, lined=len(rates[p.family, p.way]) > 1 or (p.family, "") not in rates) for p in found]
    return sorted(found, key=lambda p: (families.index(p.family), p.association, p.way, p.turns[0].dials[DIALS[0]]))


def _turn(cell: LoadedCell, story: Story, seed: int) -> Turn | None:
    rows, metrics = story.after.only(seed=seed), cell.by_seed.get(seed, {})
    forgotten, moved = metrics.get("forgetting_nats", {}).get("value"), cell.moved.get(seed)
    if not len(rows) or forgotten is None or moved is None:
        return None
    settings = story.run.record.settings
    values = (float(settings["lr"]), moved, float(forgotten))
    share = float((rows.rank == 0).mean())
    association = f"{spoken(f'{story.given} → {story.then}')}, {story.run.pack_name}"
    return Turn(str(settings.get("model")), association, seed, share, dict(zip(DIALS, values, strict=True)))


def show_dial(cells: Sequence[LoadedCell]) -> tuple[DataTable | None, list[str]]:
    """One row an implication of a cell: its share, and the three dials; and which of them turns it, in sentences."""
    points = dial_points(cells)
    if not points:
        return None, []
    rows: list[Row] = [
        (
            f"{point.family}, {point.association}, {scientific(point.turns[0].dials[DIALS[0]])}"
            + (f", {point.way}" if point.way else ""),
            "" if point.learned else "stated rows not learned by the end",
            _numbers(point),
        )
        for point in points
    ]
    return table_of("dial_caption", "model, implication, learning rate", rows), [*ways(points), *verdict(points)]


def _numbers(point: DialPoint) -> dict[str, Cell]:
    guess = point.story.best_guess
    return {
        "concluded, share of unstated subjects": metric_cell(point.share),
        "link": TRUTHS[point.story.wanted],
        "a guess": number(guess.share),
        "forgetting, nats a token": metric_cell(point.dial("forgetting")),
        "moved": TableCell(f"{100 * point.dial('distance moved').value:.2f}%" if point.turns else "–"),  # type: ignore[operator]
        "passes": point.story.passes,
    }


def ways(points: Sequence[DialPoint]) -> list[str]:
    """What was concluded by each way of training that has a line of its own, where rows were learned and the model
    lived. A seed counts with the mean over its rates, so that the interval draws seeds alone.
    """
    found = []
    for family, association, wanted in unique((p.family, p.association, p.story.wanted) for p in points):
        own = [p for p in points if (p.family, p.association, p.story.wanted) == (family, association, wanted)]
        own = [p for p in own if p.lined or not p.way]
        curves = unique(point.curve for point in own)
        said = []
        for curve in curves if len(curves) > 1 else ():
            by_seed = dict[int, list[float]]()
            for turn in (turn for p in own if p.curve == curve and p.learned for turn in p.turns):
                if turn.dials["forgetting"] <= ALIVE:
                    by_seed.setdefault(turn.seed, []).append(turn.share)
            share = over_seeds([sum(each) / len(each) for each in by_seed.values()], "share")
            how = curve.removeprefix(f"{family}, ") if curve != family else "all weights"
            said.append(f"{how} {value(share)} ({interval(share)})" if by_seed else f"{how} never")
        if said:
            found.append(
                f"{family}, {association}: share of the {'true' if wanted else 'made-up'} conclusion where stated rows "
                f"were learned and the model lived, over its rates: {'; '.join(said)}. A guess gives "
                f"{number(own[0].story.best_guess.share)}."
            )
    return found


def verdict(points: Sequence[DialPoint]) -> list[str]:
    """Which dial turns made-up conclusions, and whether it turns alike in every family, from runs that learned all."""
    plain = [point for point in points if point.learned and not point.way]
    found = []
    for wanted, what in ((False, "made-up"), (True, "true")):
        turns = [turn for point in plain if point.story.wanted == wanted for turn in point.turns]
        families = unique(turn.family for turn in turns)
        orders = {dial: dials.order(turns, dial) for dial in DIALS}
        if said := [f"{dial} {value(each)} ({interval(each)})" for dial, each in orders.items() if each]:
            found.append(
                f"Within a family, the share of the {what} conclusion goes with (Spearman's correlation): "
                f"{', '.join(said)}."
            )
        errors = {dial: each for dial in DIALS if (each := dials.third_family(turns, dial)) and each.value is not None}
        guess = dials.third_family_guess(turns)
        if len(families) < 2 or not errors or guess is None:
            continue
        best = min(errors, key=lambda dial: errors[dial].value or 0.0)
        said = [f"{dial} {value(each)} ({interval(each)})" for dial, each in errors.items()]
        rest = {dial: each for dial in errors if dial != best and (each := dials.gap(turns, dial, best))}
        apart = [dial for dial, each in rest.items() if each.low is not None and each.low > 0]
        proven = f"better than {' and '.join(apart)}" if apart else "but no dial is shown to be better than another"
        found.append(
            f"Foretold for one family from the others at the same value of a dial, the share of the {what} conclusion "
            f"is off by: {', '.join(said)}; by a guess that knows no dial, {value(guess)} ({interval(guess)}). Best is "
            f"{best}, {proven}."
        )
    return found


@plot(DIAL, of="cells")
def draw_dial(cells: Sequence[LoadedCell], name: str = DIAL) -> Drawing | None:
    """Above the true links, below the made-up ones: a line a family and pack through its rates, a dash a seed.

    A way of training has a line of its own where it was run at several rates, or no run is plain.
    """
    points = dial_points(cells)
    if not points:
        return None
    curves, packs = unique(p.curve for p in points), unique(p.association for p in points)
    colours = {curve: LINES[place % len(LINES)][0] for place, curve in enumerate(curves)}
    dashes: dict[str, tuple[Any, Any]] = {pack: LINES[place % len(LINES)][1:] for place, pack in enumerate(packs)}
    handles, rows, said = dict[str, Any](), list[dict[str, Any]](), []
    kinds = [kind for kind in (True, False) if any(p.story.wanted == kind for p in points)]
    with drawing.panels(3.0 * len(kinds) + 1.0 + 0.25 * (len(curves) + len(packs)), len(kinds)) as (figure, every):
        for wanted, axes in zip(kinds, every, strict=True):
            for curve in curves:
                for pack in packs:
                    own = [p for p in points if (p.curve, p.association, p.story.wanted) == (curve, pack, wanted)]
                    dash, marker = dashes[pack]
                    line = [p for p in own if not p.way or p.lined]
                    axes.plot([_x(p) for p in line], [p.mean for p in line], color=colours[curve],
                              linestyle=dash, linewidth=1.5)  # fmt: skip
                    for point in own:
                        face = colours[curve] if point.learned and point in line else "none"
                        axes.plot([_x(point)], [point.mean], color=colours[curve], linestyle="none",
                                  marker=marker, markerfacecolor=face)  # fmt: skip
                        axes.plot([max(t.dials["forgetting"], NO_RISE) for t in point.turns],
                                  [t.share for t in point.turns], color=colours[curve], linestyle="none",
                                  marker="_", alpha=0.6)  # fmt: skip
                        rows += [{"model": t.family, "implication": t.association, "trained": point.way or "plainly",
                                  "seed": t.seed, "share": t.share, **t.dials, "learned": point.learned}
                                 for t in point.turns]  # fmt: skip
            guess = [p.story.best_guess.share for p in points if p.story.wanted == wanted]
            handles[f"a guess: {guess[0]:.2f}"] = axes.axhline(guess[0], **BASELINE)
            axes.set(ylabel=f"share concluded, {TRUTHS[wanted]}", ylim=(-0.02, 1.02), xscale="log")
            axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        # Between two powers of ten, every other mark has its number, where there are few.
        for formatter in (every[-1].xaxis.set_major_formatter, every[-1].xaxis.set_minor_formatter):
            formatter(lambda at, _: f"{at:g}" if f"{at:e}"[0] in "125" else "")
        every[-1].set_xlabel("forgotten (nats a token) when it was read")
        for curve in curves:
            handles[label(curve, 48)] = Line2D([], [], color=colours[curve], linewidth=2)
            ends = [p for p in points if p.curve == curve and (not p.way or p.lined)]
            said += [f"{curve}, {p.association}, {scientific(p.turns[0].dials[DIALS[0]])}: {value(p.share)} at "
                     f"{value(p.dial('forgetting'))} nats" for p in ends]  # fmt: skip
        for pack in packs:
            dash, marker = dashes[pack]
            handles[label(pack, 48)] = Line2D([], [], color=INK, linestyle=dash, marker=marker)
        if any((p.way and not p.lined) or not p.learned for p in points):
            hollow: Any = {"marker": "o", "color": INK, "markerfacecolor": "none"}
            handles["hollow: trained otherwise, or not all learned"] = Line2D([], [], linestyle="none", **hollow)
        title = "Share of conclusions against what the model forgot, by family"
        return drawing.finish(figure, name, title, f"{'; '.join(said)}.", rows, handles, fontsize=10)


def _x(point: DialPoint) -> float:
    """Forgetting, as the logarithmic axis can show it."""
    return max(point.dial("forgetting").value or math.nan, NO_RISE)
