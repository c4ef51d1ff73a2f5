"""The page of a study: many runs that belong together, in one table and a few figures."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from spillover.metrics.remedies import ALIVE
from spillover.report import page, sections, words
from spillover.report.load import Story, stories, unique
from spillover.report.page import Block, Paragraph, Section, bdi
from spillover.report.provenance import duration, of_metrics, of_ranks, provenance, table_link
from spillover.report.study_curves import MARGINS, RATES, apart_from_theory, bridge_points, parting, show_rates
from spillover.report.study_data import LoadedCell, LoadedStudy, flat, study_table
from spillover.report.study_dial import DIAL, show_dial
from spillover.report.study_layers import LAYERS, finding, show_layers
from spillover.report.study_sets import NEWLY, PAPER, SETS, sets_of, show_paper, show_sets
from spillover.report.words import number


def build_study_page(study: LoadedStudy) -> page.Page:
    """One page that says what a study found; the same study gives the same bytes."""
    runs = [(cell.slug, cell.run) for cell in study.cells if cell.run]
    # The cells with chapters of their own: those of the first group of sets with frozen embeddings, no controls.
    first = next((group.cells for group in study.groups if group.plot == SETS), ())
    chosen = [(row.label, row.frozen.run) for row in sets_of(first) if row.frozen is not None and not row.control]
    chapters = [story for label, run in chosen for story in stories(run, label)]
    table = study_table(study)
    judged = _judged(study)
    terms = Section("terms", "What this is about", [page.terms("study", "reasoning", "study_numbers")], aside=True)
    return page.Page(
        title=_title(study),
        reason=_reason(study),
        name=f"Spillover: {study.title}",
        kicker=f"study: {study.name}",
        lede=f"{study.text} {_ran(study)}",
        notices=_notices(study),
        sections=[
            _found(study, judged),
            sections.limits_section(runs) if runs else None,
            terms if runs else None,
            *_sections(study),
            sections.when_section(chapters),
            sections.maps_section(chapters),
            sections.examples_section(chapters),
            sections.health_section(chosen, chapters),
            sections.remedies_section(finished=False) if any(map(_mended, judged)) else None,
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


#: What a link is called in a title, by whether it is wanted.
_LINKS = {"wanted": "a true link", "unwanted": "a made-up one", "undeclared": "one that nobody declared"}


def _judged(study: LoadedStudy, controls: bool = False) -> list[Story]:
    """The links of all cells that were done: those from which something can be concluded, or the controls."""
    packs = [row for row in sets_of(study.done) if row.control == controls]
    runs = {id(story.run) for row in packs for story in (row.frozen, row.whole) if story}
    every = [story for cell in study.done if cell.run for story in stories(cell.run, cell.slug)]
    return [story for story in every if story.key is not None and len(story.after) and id(story.run) in runs]


def _mended(story: Story) -> bool:
    return story.wish == "unwanted" and words.drawn(story)


def _wrecked(story: Story) -> bool:
    forgetting = story.metric("forgetting_nats")
    return forgetting is not None and (forgetting.value or 0.0) > ALIVE


def _span(shares: Sequence[float]) -> str:
    """From the least share to the greatest, in percent."""
    return " to ".join(unique(f"{100 * share:.0f}%" for share in (min(shares), max(shares))))


def _shares(found: Sequence[Story]) -> str:
    """For how many names the links were newly concluded, by whether they are true."""
    parts: list[str] = []
    for wish, link in _LINKS.items():
        if own := [story.newly.share for story in found if story.wish == wish]:
            span = _span(own)
            parts.append(f"{link} for {span}" if parts else f"{link.replace('one', 'link', 1)} for {span} of names")
    return ", ".join(parts)


def _title(study: LoadedStudy) -> str:
    """The finding in one sentence, of the models that are alive if there are any; without links to judge, what the
    study is and how far it came."""
    if said := finding(study.cells_of(LAYERS)):
        return said
    judged = _judged(study)
    if not judged:
        return f"{study.title}: {study.progress} are done."
    alive = [story for story in judged if not _wrecked(story)]
    models = unique(str(story.run.record.settings.get("model")) for story in alive or judged)
    listed = " and ".join(filter(None, [", ".join(models[:-1]), models[-1]]))
    newly = f"newly {'concludes' if len(models) == 1 else 'conclude'}"
    when = f"{newly}, while alive," if len(alive) < len(judged) else newly
    how = "Fine-tuned on new facts" if alive else "Wrecked by fine-tuning on new facts"
    guess = _span([story.best_guess.share for story in judged])
    return f"{how}, {listed} {when if alive else newly} {_shares(alive or judged)}; a guess gets {guess}."


def _reason(study: LoadedStudy) -> str:
    """What models conclude that training wrecked, and what the controls show."""
    judged, said = _judged(study), []
    if wrecked := [story for story in judged if _wrecked(story)]:
        lost = f"models that forgot more than {number(ALIVE, 1)} nats a token"
        links = f"{len(wrecked)} of {len(judged)} links are of {lost}"
        shown = "" if len(wrecked) == len(judged) else f"; these newly conclude {_shares(wrecked)}"
        said.append(f"{links}{shown}. That shows what can happen, not what a careful user will see.")
    if (controls := _judged(study, controls=True)) and not study.cells_of(LAYERS):
        said.append(f"In the controls, where nothing stated leads to it, they conclude {_shares(controls)}.")
    return " ".join(said)


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


def _found(study: LoadedStudy, judged: Sequence[Story]) -> Section:
    """The first screen: a figure, examples, and what to do about the link that is concluded most of the unwanted."""
    plot = study.groups[0].plot if study.groups else None
    own = plot in PARTS and plot not in (SETS, PAPER)
    cells = study.cells_of(plot) if plot == PAPER or own else study.groups[0].cells if study.groups else study.cells
    drawn = page.figure(plot, cells, "found", page.wording(plot)) if plot and own else None
    drawn = drawn or page.figure(NEWLY, cells, "found", page.wording(NEWLY))
    unwanted = sorted(judged, key=lambda story: (_mended(story), story.wish == "unwanted", story.newly.share))
    todo = page.next_paragraph(sections.next_step(unwanted[-1])) if unwanted else None
    # Made-up links of living models come first.
    picked = sorted(judged, key=lambda story: (_wrecked(story), story.wish != "unwanted"))[:3]
    some = sections.some_examples(picked)
    said = [todo, *([page.Heading(some.heading), *some.blocks] if some else [])]
    return Section("found", "What was found", [page.Beside(drawn, said) if drawn else todo], hidden=True, first=True)


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
        if plot in (SETS, PAPER):
            # These tables need the whole width.
            blocks += [page.Beside(drawn, notes) if drawn else None, table]
        else:
            blocks.append(page.Beside(drawn, [*notes, table]) if drawn else table)
        found.append((groups[0].name, blocks))
    return [Section(f"part-{place}", *each) for place, each in enumerate(found, start=1)]


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
    MARGINS: lambda cells: (None, apart_from_theory(cells)),
    RATES: show_rates,
    DIAL: show_dial,
    LAYERS: show_layers,
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
