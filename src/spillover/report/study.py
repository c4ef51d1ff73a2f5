"""The page of a study: many runs that belong together, in one table and a few figures."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from spillover.report import page, words
from spillover.report.page import Block, Paragraph, Section, bdi
from spillover.report.provenance import duration, of_metrics, of_ranks, provenance, table_link
from spillover.report.sections import examples_section, health_section, maps_section, when_section
from spillover.report.story import stories, unique
from spillover.report.study_curves import RATES, bridge_points, parting, show_rates
from spillover.report.study_data import LoadedCell, LoadedStudy, flat, study_table
from spillover.report.study_dial import DIAL, show_dial
from spillover.report.study_sets import PAPER, SETS, AssociationSet, sets_of, show_paper, show_sets
from spillover.report.words import number


def build_study_page(study: LoadedStudy) -> page.Page:
    """One page that says what a study found; the same study gives the same bytes."""
    runs = [(cell.slug, cell.run) for cell in study.cells if cell.run]
    # The cells with chapters of their own: those of the first group of sets with frozen embeddings, no controls.
    first = next((group.cells for group in study.groups if group.plot == SETS), ())
    chosen = [(row.label, row.frozen.run) for row in sets_of(first) if row.frozen is not None and not row.control]
    chapters = [story for label, run in chosen for story in stories(run, label)]
    table = study_table(study)
    parts = _sections(study)
    terms = Section("terms", "What this is about", [page.terms("study", "reasoning", "study_numbers")], aside=True)
    return page.Page(
        title=_title(study, sets_of(study.cells_of(SETS))),
        name=f"Spillover: {study.title}",
        kicker=f"study: {study.name}",
        lede=f"{study.text} {_ran(study)}",
        notices=_notices(study),
        sections=[
            *parts[:1],
            terms if runs else None,
            *parts[1:],
            when_section(chapters),
            maps_section(chapters),
            examples_section(chapters),
            health_section(chosen, chapters),
            Section("cells", "What was run", [_cells(study)]),
        ],
        made=[(label, provenance(run)) for label, run in runs],
        downloads=[
            of_metrics(runs),
            table_link("spillover-study", "Every metric of every cell", table.column_names, table.to_pylist()),
            *([of_ranks(runs)] if runs else []),
        ],
        footer="Shaded bands and bars are 95% bootstrap intervals of the mean over clusters of a pair and a seed.",
    )


def _title(study: LoadedStudy, sets: Sequence[AssociationSet]) -> str:
    """The finding in one sentence; without sets to judge, what the study is and how far it came."""
    judged = [row.story for row in sets if not row.control and row.story.rank]
    if not judged:
        return f"{study.title}: {study.progress} are done."
    models = " and ".join(unique(str(story.run.record.settings.get("model")) for story in judged))
    shown = [story for story in judged if words.rule(story).shown]
    names = dict(enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=1))
    count = f"{names.get(len(judged), len(judged))} {'set' if len(judged) == 1 else 'sets'}"
    start = f"Fine-tuned on {count} of new facts, {models}"
    if not shown:
        return f"{start} was not shown to infer anything that was not stated."
    every = "it" if len(judged) == 1 else "each of them" if len(shown) == len(judged) else f"{len(shown)} of them"
    parts = []
    for wanted, what in ((True, "is true"), (False, "is not")):
        ranks = [story.rank.value for story in shown if story.wanted == wanted and story.rank]
        if found := sorted(rank for rank in ranks if rank is not None):
            ends = unique([number(found[0]), number(found[-1])])
            parts.append(f"{' to '.join(ends)} where the implication {what}")
    lines = " or ".join(unique(number(story.marginal) for story in shown))
    against = f", against {lines} for knowing only which answers occur"
    return f"{start} inferred what was never stated in {every}: mean rank {' and '.join(parts)}{against}."


def _ran(study: LoadedStudy) -> str:
    """What was run: cells, runs, models, what of them was trained, and how long it took."""
    runs = sum(len(cell.seeds) for cell in study.done)
    parts = [
        f"{study.progress}, {runs} {'run' if runs == 1 else 'runs'}",
        " and ".join(model for model in unique(cell.setting("model") for cell in study.done) if model),
        " or ".join(unique(cell.run.trained_part for cell in study.done if cell.run)),
        f"{duration(sum(cell.record.seconds if cell.record else cell.seconds for cell in study.cells))} of computing",
    ]
    return words.sentence("; ".join(part for part in parts if part))


def _notices(study: LoadedStudy) -> list[str]:
    """What is missing from the page: cells that failed, with their reason, and cells that wait."""
    # The paper's table shows cells that were not run, too.
    shown = {cell.slug for cell in study.cells_of(PAPER)}
    waiting = [cell.slug for cell in study.cells if cell.status not in ("done", "failed") and cell.slug not in shown]
    failed = {cell.slug: cell.error or "no reason was recorded" for cell in study.cells if cell.status == "failed"}
    found = [f"{slug} failed: {error}" for slug, error in failed.items()]
    return [*found, f"Not run yet, and not on this page: {', '.join(waiting)}."] if waiting else found


def _sections(study: LoadedStudy) -> list[Section]:
    """A section a plot, for all groups that ask for it; a table a group without one."""
    found: list[tuple[str, list[Block | None]]] = []
    for plot in unique(group.plot for group in study.groups):
        groups, cells = [group for group in study.groups if group.plot == plot], study.cells_of(plot)
        if plot not in PARTS or (plot != PAPER and not any(cell.story for cell in cells)):
            for group in groups:
                text = Paragraph(group.text, "lead") if group.text else None
                found.append((group.name, [text, cells_table(group.cells)]))
            continue
        texts = [f"{group.name}: {group.text}" if len(groups) > 1 else group.text for group in groups if group.text]
        blocks: list[Block | None] = [Paragraph(text, "lead") for text in [*texts, page.wording(plot)]]
        trained = words.sentence("; ".join(unique(cell.run.trained_part for cell in cells if cell.run)))
        drawn = page.figure(plot, cells, plot, trained)
        table, notes = PARTS[plot](cells)
        if not found:
            # The table of what the study is about first of all has the whole width.
            blocks.append(table)
            table = None
        blocks.append(page.Beside(drawn, [*notes, table]) if drawn else None)
        found.append((groups[0].name, blocks))
    return [Section(f"part-{place}" if place else "found", *each, first=place == 0) for place, each in enumerate(found)]


def cells_table(cells: Sequence[LoadedCell]) -> page.DataTable:
    """One row a cell, one column a metric, whatever the verb; of several implications, that over all of them."""
    rows: list[page.Row] = []
    for cell in cells:
        if cell.metrics or not cell.by_seed:
            rows.append((cell.slug, cell.status, _fields(cell.metrics)))
        else:
            # No record pools the seeds, so each of them has a row.
            rows += [(f"{cell.slug}, seed {seed}", cell.status, _fields(own)) for seed, own in cell.by_seed.items()]
    return page.table_of("cells_caption", "cell", rows)


def _fields(metrics: Mapping[str, Any]) -> dict[str, page.Cell]:
    found: dict[str, page.Cell] = {}
    for implication, name, value in flat(metrics):
        test = name.endswith("_p")
        if implication is None or test:
            low, high = value.get("low"), value.get("high")
            ends = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
            found.setdefault(name.replace("_", " "), page.TableCell(number(value["value"], 4 if test else 2), ends))
    return found


#: Plot of `cells` -> what gives the table and the sentences beside it.
PARTS: dict[str, Callable[[Sequence[LoadedCell]], tuple[page.DataTable | None, list[str]]]] = {
    SETS: show_sets,
    PAPER: show_paper,
    "rank-by-bridging": lambda cells: (None, parting(bridge_points(cells))),
    RATES: show_rates,
    DIAL: show_dial,
    "rank-by-adapter": lambda cells: (cells_table(cells), []),
}


def _cells(study: LoadedStudy) -> page.Details:
    rows: list[Sequence[page.Cell]] = []
    for cell in study.cells:
        options = json.dumps(dict(cell.options), default=str)
        command = Markup("<code>spillover {}</code> ").format(cell.verb) + bdi(options)
        rows.append([bdi(cell.slug), cell.status, ", ".join(map(str, cell.seeds)), duration(cell.seconds), command])
    caption = "Every cell with the options that the study sets."
    head = ["Cell", "Status", "Seeds", "Wall time", "Options"]
    table = page.DataTable(caption, [head], [("", rows)], style="examples", label="Every cell")
    return page.Details(f"{len(study.cells)} cells", [table], "made")
