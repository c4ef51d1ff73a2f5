"""From a loaded study to one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from spillover.report import words
from spillover.report.downloads import Download, csv_text, link, of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.page import chapters_of, health_of
from spillover.report.story import Story, stories, unique
from spillover.report.study import words as study_words
from spillover.report.study.bridging import bridge_points, parting
from spillover.report.study.load import Cell, Group, LoadedStudy, load_study, study_table
from spillover.report.study.paper import beside, paper_rows, paper_table
from spillover.report.study.published import DIFFERENCES, SOURCE, UNKNOWN
from spillover.report.study.rates import chosen_rates, rate_points, trend
from spillover.report.study.sets import AssociationSet, sets_of
from spillover.report.study.table import Table, cells_table, rates_table, sets_table
from spillover.report.tables.examples import examples
from spillover.report.tables.provenance import duration, provenance
from spillover.report.template import Figure, figure, render

__all__ = ["LoadedStudy", "build_study_page", "load_study", "study_table"]

SETS, BRIDGING, RATES, PAPER = "study-sets", "rank-by-bridging", "rank-by-rate", study_words.PAPER
ADAPTERS = "rank-by-adapter"
_LEADS = {
    SETS: "At the dashed line a model knows only which answers occur; an association that was learned lies to the left "
    "of it. The small marks are the paper’s five models.",
    BRIDGING: "Above: how far the implied answer of the other names rises as more bridging names are given. Below: the "
    "margin of the unstated implication (log-probability of the implied answer minus that of the best other "
    "candidate), in units of the stated implications’ own margin. For that quantity the one-layer theory (least "
    "nuclear norm) gives min(1, √(m_train / m_test)), with m_train bridging names and m_test other names a pair.",
    PAPER: "At the dashed line a model knows only which answers occur. Circles with their intervals are what was found "
    "here, crosses what the paper reports.",
    ADAPTERS: "Above: how far the implied answer of the other names rises, for each implication; at the dashed line a "
    "model knows only which answers occur. Below: how much loss on plain text the same runs cost. On the right the "
    "weights were trained themselves.",
    RATES: "Each run is read when it has just learned what was stated, so that no rate is favoured by more training.",
}


@dataclass(frozen=True)
class Section:
    """One plot's groups: what they are, their figure, their table, and sentences computed from the numbers."""

    heading: str
    texts: Sequence[str]
    figure: Figure | None = None
    table: Table | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def build_study_page(study: LoadedStudy) -> str:
    """One page that tells what a study found; the same study gives the same bytes."""
    sets = sets_of(_cells_of(study, SETS))
    told = _told(study)
    shown = examples(told)
    runs = [(cell.slug, cell.run) for cell in study.cells if cell.run]
    labelled = _chosen(study)
    return render(
        "study/study.html",
        study=study,
        title=study_words.title(study, sets),
        ran=study_words.ran(study),
        notices=study_words.notices(study),
        terms=study_words.TERMS if runs else (),
        sections=_sections(study, sets),
        chapters=chapters_of(told),
        examples=list(zip(told, shown, strict=True)),
        count=sum(map(len, shown)),
        health=health_of(labelled, told),
        cells=[(cell, json.dumps(dict(cell.options), default=str), duration(cell.seconds)) for cell in study.cells],
        runs=[(label, run, provenance(run)) for label, run in runs],
        downloads=_downloads(study, runs),
    )


def _cells_of(study: LoadedStudy, plot: str | None) -> list[Cell]:
    """Every cell of the groups that ask for this plot, once."""
    found = {cell.slug: cell for group in study.groups if group.plot == plot for cell in group.cells}
    return list(found.values())


def _sections(study: LoadedStudy, sets: Sequence[AssociationSet]) -> list[Section]:
    """A section a plot, for all groups that ask for it; a table a group without one."""
    found = []
    for plot in unique(group.plot for group in study.groups):
        groups = [group for group in study.groups if group.plot == plot]
        cells = _cells_of(study, plot)
        if plot in _LEADS and (plot == PAPER or any(cell.story for cell in cells)):
            found.append(_section(str(plot), groups, cells, sets))
        else:
            found += [Section(plain(g.name), _texts([g]), table=cells_table(g.cells)) for g in groups]
    return found


def _section(plot: str, groups: Sequence[Group], cells: Sequence[Cell], sets: Sequence[AssociationSet]) -> Section:
    parts = unique(cell.run.trained_part for cell in cells if cell.run)
    drawn = figure(plot, cells, plot, words.sentence("; ".join(parts)))
    texts = [*_texts(groups), _LEADS[plot]]
    if plot == BRIDGING:
        return Section(plain(groups[0].name), texts, drawn, notes=parting(bridge_points(cells)))
    if plot == RATES:
        points = rate_points(cells)
        notes = [*trend(points), *(each.sentence for each in chosen_rates(points))]
        return Section(plain(groups[0].name), texts, drawn, rates_table(points), notes)
    if plot == ADAPTERS:
        return Section(plain(groups[0].name), texts, drawn, cells_table(cells))
    if plot == PAPER:
        rows = paper_rows(cells)
        notes = [*beside(rows), f"The paper’s numbers: {SOURCE}", UNKNOWN]
        return Section(plain(groups[0].name), texts, drawn, paper_table(rows), notes)
    published = [f"The paper’s numbers: {SOURCE}", DIFFERENCES] if any(row.published for row in sets) else []
    return Section(plain(groups[0].name), texts, drawn, sets_table(sets), published)


def _texts(groups: Sequence[Group]) -> list[str]:
    """The groups' own words; of several, each with its name."""
    several = len(groups) > 1
    return [plain(f"{group.name}: {group.text}" if several else group.text) for group in groups if group.text]


def _chosen(study: LoadedStudy) -> list[tuple[str, LoadedRun]]:
    """The cells with chapters of their own: those of the first group of sets with frozen embeddings, no controls."""
    first = next((group.cells for group in study.groups if group.plot == SETS), ())
    rows = [row for row in sets_of(first) if row.frozen is not None and not row.control]
    return [(plain(row.label), row.frozen.run) for row in rows if row.frozen]


def _told(study: LoadedStudy) -> list[Story]:
    return [story for label, run in _chosen(study) for story in stories(run, label)]


def _downloads(study: LoadedStudy, runs: Sequence[tuple[str, LoadedRun]]) -> list[Download]:
    """Every record as JSON, every metric as one long table, the rank of every answer."""
    table = study_table(study)
    body = csv_text(table.column_names, (row.values() for row in table.to_pylist())).encode()
    long = link("spillover-study.csv", "Every metric of every cell (CSV)", body, "text/csv;charset=utf-8")
    return [of_metrics(runs), long, *([of_ranks(runs)] if runs else [])]
