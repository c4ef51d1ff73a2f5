"""The page of a study: many runs that belong together, in one table and a few figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from spillover.report import words
from spillover.report.downloads import Download, csv_text, link, of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.page import Figure, figure, render
from spillover.report.provenance import duration, provenance
from spillover.report.sections import examples_section, health_section, maps_section, when_section
from spillover.report.story import Story, stories, unique
from spillover.report.study_data import (
    DIFFERENCES,
    SOURCE,
    UNKNOWN,
    AssociationSet,
    Cell,
    Group,
    LoadedStudy,
    Table,
    beside,
    bridge_points,
    cells_table,
    chosen_rates,
    paper_rows,
    paper_table,
    parting,
    rate_points,
    rates_table,
    sets_of,
    sets_table,
    study_table,
    trend,
)

#: The figure whose section shows cells that were not run, too.
PAPER_FIGURE = "paper-table"

#: What a page of association sets explains before it counts.
TERMS = (
    (
        "Stated, bridging, unstated",
        "Every fictitious name has a fact stated (“lives in Paris”). For the bridging names of a pair the implication "
        "is stated too (“speaks French”). For the other names it is not, and the model is asked for it.",
    ),
    (
        "Out-of-context reasoning (OCR)",
        "Concluding from training sentences what none of them says. If the association is true, this is "
        "generalisation; if it is arbitrary or false, it is hallucination.",
    ),
    (
        "Mean rank and its yardstick",
        "The place of the implied answer among all candidates, averaged: 0 is first, and best. A model that knows only "
        "which answers occur, and nothing of who has which, is at the yardstick. Claims are held against that, not "
        "against a random guess.",
    ),
    (
        "Interval and exact map test",
        "All names of a pair share one belief, so what varies is the pair and the seed: the 95% interval resamples "
        "these clusters. The exact test counts how many of all ways of pairing given and implied answers fit at least "
        "as well.",
    ),
)


def title(study: LoadedStudy, sets: Sequence[AssociationSet]) -> str:
    """The finding in one sentence; without sets to judge, what the study is and how far it came."""
    judged = [row.story for row in sets if not row.control and row.story.metric("implication_rank_test")]
    if not judged:
        return plain(f"{study.title}: {len(study.done)} of {len(study.cells)} cells are done.")
    models = " and ".join(unique(str(story.run.record.settings.get("model")) for story in judged))
    shown = [story for story in judged if words.verdict(story).shown]
    said = f"Fine-tuned on {_count(len(judged), 'set', 'sets')} of new facts, {models}"
    if not shown:
        return plain(f"{said} was not shown to infer anything that was not stated.")
    every = "each of them" if len(shown) == len(judged) else f"{len(shown)} of them"
    if len(judged) == 1:
        every = "it"
    parts = [part for wanted, what in ((True, "is true"), (False, "is not")) if (part := _ranks(shown, wanted, what))]
    lines = unique(words.number(story.marginal) for story in shown)
    against = f", against {' or '.join(lines)} for knowing only which answers occur" if lines else ""
    return plain(f"{said} inferred what was never stated in {every}: mean rank {' and '.join(parts)}{against}.")


def _ranks(shown: Sequence[Story], wanted: bool, what: str) -> str:
    found = sorted(
        metric.value
        for story in shown
        if story.wanted == wanted and (metric := story.metric("implication_rank_test")) and metric.value is not None
    )
    if not found:
        return ""
    ends = unique(words.number(value) for value in (found[0], found[-1]))
    return f"{' to '.join(ends)} where the implication {what}"


def _count(number: int, one: str, many: str) -> str:
    names = dict(enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")))
    return f"{names.get(number, number)} {one if number == 1 else many}"


def ran(study: LoadedStudy) -> str:
    """What was run: cells, runs, models, what of them was trained, and how long it took."""
    runs = sum(len(cell.seeds) for cell in study.done)
    trained = unique(cell.run.trained_part for cell in study.done if cell.run)
    models = unique(str(cell.options.get("model") or _model(cell)) for cell in study.done)
    parts = [
        f"{len(study.done)} of {len(study.cells)} cells, {runs} {'run' if runs == 1 else 'runs'}",
        " and ".join(model for model in models if model),
        " or ".join(trained),
        duration(sum(cell.record.seconds if cell.record else cell.seconds for cell in study.cells)) + " of computing",
    ]
    return words.sentence(plain("; ".join(part for part in parts if part)))


def _model(cell: Cell) -> str:
    return str((cell.record.settings.get("model") if cell.record else None) or "")


def notices(study: LoadedStudy) -> list[str]:
    """What is missing from the page: cells that failed, with their reason, and cells that wait."""
    failed = [cell for cell in study.cells if cell.status == "failed"]
    shown = {cell.slug for group in study.groups if group.plot == PAPER_FIGURE for cell in group.cells}
    waiting = [cell.slug for cell in study.cells if cell.status not in ("done", "failed") and cell.slug not in shown]
    found = [f"{cell.slug} failed: {cell.error or 'no reason was recorded'}" for cell in failed]
    if waiting:
        found.append(f"Not run yet, and not on this page: {', '.join(waiting)}.")
    return [plain(text) for text in found]


SETS, BRIDGING, RATES = "study-sets", "rank-by-bridging", "rank-by-rate"
ADAPTERS = "rank-by-adapter"
_LEADS = {
    SETS: "At the dashed line a model knows only which answers occur; an association that was learned lies to the left "
    "of it. The small marks are the paper’s five models.",
    BRIDGING: "Above: how far the implied answer of the other names rises as more bridging names are given. Below: the "
    "margin of the unstated implication (log-probability of the implied answer minus that of the best other "
    "candidate), in units of the stated implications’ own margin. For that quantity the one-layer theory (least "
    "nuclear norm) gives min(1, √(m_train / m_test)), with m_train bridging names and m_test other names a pair.",
    PAPER_FIGURE: "At the dashed line a model knows only which answers occur. Circles with their intervals are what "
    "was found here, crosses what the paper reports.",
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
    sets = sets_of(study.cells_of(SETS))
    told = _told(study)
    runs = [(cell.slug, cell.run) for cell in study.cells if cell.run]
    labelled = _chosen(study)
    return render(
        "study.html",
        study=study,
        title=title(study, sets),
        ran=ran(study),
        notices=notices(study),
        terms=TERMS if runs else (),
        sections=_sections(study, sets),
        shared=[when_section(told), maps_section(told), examples_section(told), health_section(labelled, told)],
        cells=[(cell, json.dumps(dict(cell.options), default=str), duration(cell.seconds)) for cell in study.cells],
        runs=[(label, run, provenance(run)) for label, run in runs],
        downloads=_downloads(study, runs),
    )


def _sections(study: LoadedStudy, sets: Sequence[AssociationSet]) -> list[Section]:
    """A section a plot, for all groups that ask for it; a table a group without one."""
    found = []
    for plot in unique(group.plot for group in study.groups):
        groups = [group for group in study.groups if group.plot == plot]
        cells = study.cells_of(plot)
        if plot in _LEADS and (plot == PAPER_FIGURE or any(cell.story for cell in cells)):
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
    if plot == PAPER_FIGURE:
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
