"""The page of a study: many runs that belong together, in one table and a few figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from spillover.record import Metric
from spillover.report import words
from spillover.report.downloads import csv_text, link, of_metrics, of_ranks
from spillover.report.page import (
    Beside,
    Block,
    Cell,
    DataTable,
    Details,
    Glossary,
    Page,
    Paragraph,
    Section,
    TableCell,
    bdi,
    figure,
    metric_cell,
)
from spillover.report.provenance import duration, provenance
from spillover.report.sections import REASONING, examples_section, health_section, maps_section, when_section
from spillover.report.story import Story, stories, unique
from spillover.report.study_data import (
    MODELS,
    SOURCE,
    AssociationSet,
    LoadedCell,
    LoadedStudy,
    PaperRow,
    RatePoint,
    beside,
    bridge_points,
    chosen_rates,
    flat,
    null_distance,
    paper_rows,
    parting,
    rate_points,
    scientific,
    sets_of,
    study_table,
    trend,
    true_ranks,
)
from spillover.report.words import interval, number, p_value

SETS, PAPER, BRIDGING, RATES, ADAPTERS = (
    "study-sets", "paper-table", "rank-by-bridging", "rank-by-rate", "rank-by-adapter",
)  # fmt: skip
#: Plot -> what a reader must know to read its figure.
_LEADS = {
    SETS: "At the dashed line a model knows only which answers occur; an association that was learned lies to the left "
    "of it. The small marks are the paper’s five models.",
    PAPER: "At the dashed line a model knows only which answers occur. Circles with their intervals are what "
    "was found here, crosses what the paper reports.",
    BRIDGING: "Above: how far the implied answer of the other names rises as more bridging names are given. Below: the "
    "margin of the unstated implication (log-probability of the implied answer minus that of the best other "
    "candidate), in units of the stated implications’ own margin. For that quantity the one-layer theory (least "
    "nuclear norm) gives min(1, √(m_train / m_test)), with m_train bridging names and m_test other names a pair.",
    RATES: "Each run is read when it has just learned what was stated, so that no rate is favoured by more training.",
    ADAPTERS: "Above: how far the implied answer of the other names rises, for each implication; at the dashed line a "
    "model knows only which answers occur. Below: how much loss on plain text the same runs cost. On the right the "
    "weights were trained themselves.",
}
#: How the paper's setting differs from a small model with frozen embeddings.
_DIFFERENCES = (
    "The paper’s models have 7 to 9 billion parameters and were fine-tuned in full, embeddings included. It also ranks "
    "among ten candidates, but which ten, and its prompts, names and pairs, are not known to us, and it does not draw "
    "the baseline. So compare the pattern across the sets rather than single numbers."
)
#: What may differ with the paper's own models, too.
_UNKNOWN = (
    "The paper’s prompts, names, pairs, which ten candidates it ranks among, and its learning rates are not known "
    "here, and it does not draw the baseline. So compare the pattern across sets and models rather than single "
    "numbers."
)
#: What a page of association sets explains before it counts.
_TERMS = {
    "Stated, bridging, unstated": "Every fictitious name has a fact stated (“lives in Paris”). For the bridging names "
    "of a pair the implication is stated too (“speaks French”). For the other names it is not, and the model is asked "
    "for it.",
    REASONING[0]: REASONING[1],
    "Mean rank and its baseline": "The place of the implied answer among all candidates, averaged: 0 is first, and "
    "best. A model that knows only which answers occur, and nothing of who has which, is at the baseline. Claims are "
    "held against that, not against a random guess.",
    "Interval and exact map test": "All names of a pair share one belief, so what varies is the pair and the seed: "
    "the 95% interval resamples these clusters. The exact test counts how many of all ways of pairing given and "
    "implied answers fit at least as well.",
}


def build_study_page(study: LoadedStudy) -> Page:
    """One page that tells what a study found; the same study gives the same bytes."""
    sets = sets_of(study.cells_of(SETS))
    runs = [(cell.slug, cell.run) for cell in study.cells if cell.run]
    # The cells with chapters of their own: those of the first group of sets with frozen embeddings, no controls.
    first = next((group.cells for group in study.groups if group.plot == SETS), ())
    chosen = [(row.label, row.frozen.run) for row in sets_of(first) if row.frozen is not None and not row.control]
    chapters = [story for label, run in chosen for story in stories(run, label)]
    table = study_table(study)
    body = csv_text(table.column_names, (row.values() for row in table.to_pylist())).encode()
    long = link("spillover-study.csv", "Every metric of every cell (CSV)", body, "text/csv;charset=utf-8")
    terms = Section("terms", "What this is about", [Glossary(list(_TERMS.items()))], hidden=True, aside=True)
    return Page(
        title=title(study, sets),
        name=f"Spillover: {study.title}",
        kicker=f"study: {study.name}",
        lede=f"{study.text} {ran(study)}",
        notices=notices(study),
        sections=[
            terms if runs else None,
            *_sections(study, sets),
            when_section(chapters),
            maps_section(chapters),
            examples_section(chapters),
            health_section(chosen, chapters),
            Section("cells", "What was run", [_cells(study)]),
        ],
        made=[(label, provenance(run)) for label, run in runs],
        downloads=[of_metrics(runs), long, *([of_ranks(runs)] if runs else [])],
        footer="Shaded bands and bars are 95% bootstrap intervals of the mean over clusters of a pair and a seed.",
    )


def title(study: LoadedStudy, sets: Sequence[AssociationSet]) -> str:
    """The finding in one sentence; without sets to judge, what the study is and how far it came."""
    judged = [row.story for row in sets if not row.control and row.story.metric("implication_rank_test")]
    if not judged:
        return f"{study.title}: {len(study.done)} of {len(study.cells)} cells are done."
    models = " and ".join(unique(str(story.run.record.settings.get("model")) for story in judged))
    shown = [story for story in judged if words.verdict(story).shown]
    names = dict(enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=1))
    count = f"{names.get(len(judged), len(judged))} {'set' if len(judged) == 1 else 'sets'}"
    start = f"Fine-tuned on {count} of new facts, {models}"
    if not shown:
        return f"{start} was not shown to infer anything that was not stated."
    every = "it" if len(judged) == 1 else "each of them" if len(shown) == len(judged) else f"{len(shown)} of them"
    parts = []
    for wanted, what in ((True, "is true"), (False, "is not")):
        metrics = [story.metric("implication_rank_test") for story in shown if story.wanted == wanted]
        if found := sorted(metric.value for metric in metrics if metric is not None and metric.value is not None):
            ends = unique([number(found[0]), number(found[-1])])
            parts.append(f"{' to '.join(ends)} where the implication {what}")
    lines = unique(number(story.marginal) for story in shown)
    against = f", against {' or '.join(lines)} for knowing only which answers occur" if lines else ""
    return f"{start} inferred what was never stated in {every}: mean rank {' and '.join(parts)}{against}."


def ran(study: LoadedStudy) -> str:
    """What was run: cells, runs, models, what of them was trained, and how long it took."""
    runs = sum(len(cell.seeds) for cell in study.done)
    seconds = sum(cell.record.seconds if cell.record else cell.seconds for cell in study.cells)
    parts = [
        f"{len(study.done)} of {len(study.cells)} cells, {runs} {'run' if runs == 1 else 'runs'}",
        " and ".join(model for model in unique(cell.setting("model") for cell in study.done) if model),
        " or ".join(unique(cell.run.trained_part for cell in study.done if cell.run)),
        f"{duration(seconds)} of computing",
    ]
    return words.sentence("; ".join(part for part in parts if part))


def notices(study: LoadedStudy) -> list[str]:
    """What is missing from the page: cells that failed, with their reason, and cells that wait."""
    # The paper's table shows cells that were not run, too.
    shown = {cell.slug for cell in study.cells_of(PAPER)}
    waiting = [cell.slug for cell in study.cells if cell.status not in ("done", "failed") and cell.slug not in shown]
    failed = {cell.slug: cell.error or "no reason was recorded" for cell in study.cells if cell.status == "failed"}
    found = [f"{slug} failed: {error}" for slug, error in failed.items()]
    return [*found, f"Not run yet, and not on this page: {', '.join(waiting)}."] if waiting else found


def _sections(study: LoadedStudy, sets: Sequence[AssociationSet]) -> list[Section]:
    """A section a plot, for all groups that ask for it; a table a group without one."""
    found: list[tuple[str, list[Block | None]]] = []
    for plot in unique(group.plot for group in study.groups):
        groups, cells = [group for group in study.groups if group.plot == plot], study.cells_of(plot)
        if plot not in _LEADS or (plot != PAPER and not any(cell.story for cell in cells)):
            for group in groups:
                text = Paragraph(group.text, "lead") if group.text else None
                found.append((group.name, [text, cells_table(group.cells)]))
            continue
        several = len(groups) > 1
        texts = [f"{group.name}: {group.text}" if several else group.text for group in groups if group.text]
        blocks: list[Block | None] = [Paragraph(text, "lead") for text in [*texts, _LEADS[plot]]]
        trained = words.sentence("; ".join(unique(cell.run.trained_part for cell in cells if cell.run)))
        drawn = figure(plot, cells, plot, trained)
        table, notes = _table_and_notes(plot, cells, sets)
        if not found:
            # The table of what the study is about first of all has the whole width.
            blocks.append(table)
            table = None
        blocks.append(Beside(drawn, [*notes, table]) if drawn else None)
        found.append((groups[0].name, blocks))
    return [Section(f"part-{place}" if place else "found", *each) for place, each in enumerate(found)]


def _table_and_notes(
    plot: str, cells: Sequence[LoadedCell], sets: Sequence[AssociationSet]
) -> tuple[DataTable | None, list[str]]:
    """The table beside a figure, and sentences computed from the numbers."""
    if plot == BRIDGING:
        return None, parting(bridge_points(cells))
    if plot == RATES:
        points = rate_points(cells)
        return rates_table(points), [*trend(points), *(each.sentence for each in chosen_rates(points))]
    if plot == ADAPTERS:
        return cells_table(cells), []
    if plot == PAPER:
        rows = paper_rows(cells)
        return paper_table(rows), [*beside(rows), f"The paper’s numbers: {SOURCE}", _UNKNOWN]
    published = [f"The paper’s numbers: {SOURCE}", _DIFFERENCES] if any(row.published for row in sets) else []
    return sets_table(sets), [*set_notes(sets), *published]


def _table(
    caption: str,
    corner: str,
    rows: Sequence[tuple[str, str, Mapping[str, Cell]]],
    above: Sequence[tuple[str, int]] = (),
) -> DataTable:
    """A table of rows: name, small print below it, cells by column. above: text over several columns, and how many."""
    columns = unique(column for _, _, cells in rows for column in cells)
    heads: list[list[Cell]] = [["", *(TableCell(text, columns=count) for text, count in above)]] if above else []
    body = []
    for name, small, cells in rows:
        # A name may be broken behind its colon.
        head = Markup("<bdi>{}{}<wbr>{}</bdi>").format(*name.partition(":"))
        body.append([TableCell(head, small), *(cells.get(column, "–") for column in columns)])
    return DataTable(caption, [*heads, [corner, *columns]], [("", body)])


def _value(metric: Metric | None) -> str:
    return "–" if metric is None else number(metric.value)


def _judged(story: Story | None, cell: Callable[[Metric | None], Cell]) -> dict[str, Cell]:
    """What a mean rank is judged by, by column; cell: how the metrics of stated rows are shown."""
    marginal, test = (story.marginal, story.map_test) if story else (None, None)
    names = ("recall_rank", "implication_rank_train", "forgetting_nats", "implication_rank_test")
    facts, implications, forgetting, rank = (story.metric(name) if story else None for name in names)
    return {
        "baseline": number(marginal) if story else "–",
        "exact map test, p": "–" if test is None else p_value(test["p"]),
        "stated facts": cell(facts),
        "stated implications": cell(implications),
        "forgetting, nats a token": metric_cell(forgetting),
        "clusters": "–" if rank is None else TableCell(str(rank.clusters), "few" if rank.note else ""),
    }


def sets_table(sets: Sequence[AssociationSet]) -> DataTable | None:
    """One row a set: before, after in both ways of training, what it is judged by, and the paper's five models."""
    if not sets:
        return None

    arms = {"after, embeddings frozen": "frozen"}
    if any(row.whole for row in sets):
        arms["after, all weights trained"] = "whole"
    rows: list[tuple[str, str, dict[str, Cell]]] = []
    for row in sets:
        cells: dict[str, Cell] = {"before": metric_cell(row.story.metric("implication_rank_test_before"))}
        for text, arm in arms.items():
            story = getattr(row, arm)
            cells[text] = metric_cell(story.metric("implication_rank_test") if story else None)
        published = dict(zip(MODELS, map(number, row.published), strict=False))
        cells |= _judged(row.story, _value)
        rows.append((row.label, row.kind, {**cells, **published}))
    models = sorted({str(row.story.run.record.settings.get("model")) for row in sets})
    above = [("here: " + ", ".join(models), len(cells))]
    if any(row.published for row in sets):
        above.append(("the paper, all weights trained", len(MODELS)))
    return _table(
        "Mean rank (0 is best) of the unstated implication, before and after training; under it the 95% "
        "interval over clusters of a pair and a seed (with fewer than ten, nothing rests on it). Where a set was "
        "trained in both ways, all other columns are those with frozen embeddings.",
        "set",
        rows,
        above,
    )


def set_notes(sets: Sequence[AssociationSet]) -> list[str]:
    """Whether a model that was taught a false map answers by it or by the truth, and how near shuffled sets come to
    their baseline."""
    notes = []
    for row, rank in true_ranks(sets):
        taught = row.story.metric("implication_rank_test")
        nearer = "the true" if taught and (rank.value or 0.0) < (taught.value or 0.0) else "the taught"
        notes.append(
            f"{row.label}: the taught answers have a mean rank of {_value(taught)} ({interval(taught)}), the true "
            f"ones, which no training row states, {number(rank.value)} ({interval(rank)}): {nearer} answers stand "
            "higher."
        )
    for row in sets:
        if row.null and (found := null_distance(row)) is not None:
            seeds, (mean, error, distance) = len(row.story.run.seeds), found
            notes.append(
                f"{row.label}: over {seeds} {'shuffle' if seeds == 1 else 'shuffles'} the mean rank is "
                f"{number(mean)} ± {number(error)} (cluster standard error), {number(distance, 1)} standard errors "
                f"from {number(row.story.marginal)}: {'within' if abs(distance) <= 2 else 'not within'} two of them."
            )
    return notes


def paper_table(rows: Sequence[PaperRow]) -> DataTable:
    """One row a model and set: ours before and after, the paper's, and what ours rests on."""
    found = []
    for row in rows:
        rate, small = None, ""
        if row.story is not None:
            rate, seeds = row.story.run.record.settings.get("lr"), len(row.story.run.seeds)
            small = row.story.kind_in_words
            small += "" if seeds == 3 else f", {seeds} {'seed' if seeds == 1 else 'seeds'}"
        cells: dict[str, Cell] = {
            "before": metric_cell(row.metric("implication_rank_test_before")),
            "here, after": row.state or metric_cell(row.rank),
            "the paper, after": "–" if row.published is None else number(row.published),
            **_judged(row.story, metric_cell),
            "rate": "–" if rate is None else scientific(float(rate)),
        }
        found.append((f"{row.model}, {row.pack}", small, cells))
    return _table(
        "Mean rank (0 is best) of the unstated implication among ten candidates, over three seeds where "
        "nothing else is said; under ours the 95% interval over clusters of a pair and a seed (with fewer than ten, "
        "nothing rests on it). The paper’s numbers come without errors.",
        "model and set",
        found,
    )


def rates_table(points: Sequence[RatePoint]) -> DataTable:
    """One row a set and learning rate, each seed read at the first checkpoint at which its stated rows are learned."""
    rows: list[tuple[str, str, dict[str, Cell]]] = []
    for point in points:
        cells: dict[str, Cell] = {
            "passes": point.epochs,
            "unstated implication, mean rank": metric_cell(point.rank),
            "stated facts": _value(point.recall),
            "stated implications": _value(point.stated),
        }
        rows.append((f"{point.label}, {scientific(point.rate)}", point.unlearned, cells))
    return _table(
        "Each seed is read at the first checkpoint at which facts and stated implications have a mean rank of "
        "0.1 or less, or at its last when there is none.",
        "set and learning rate",
        rows,
    )


def cells_table(cells: Sequence[LoadedCell]) -> DataTable:
    """One row a cell, one column a metric, whatever the verb; of several implications, that over all of them.

    Where no record pools the seeds of a cell, each of them has a row.
    """
    rows: list[tuple[str, str, Mapping[str, Cell]]] = []
    for cell in cells:
        if cell.metrics or not cell.by_seed:
            rows.append((cell.slug, cell.status, _fields(cell.metrics)))
        else:
            own = cell.by_seed.items()
            rows += [(f"{cell.slug}, seed {seed}", cell.status, _fields(metrics)) for seed, metrics in own]
    return _table("Every cell and every metric; under a number its 95% interval.", "cell", rows)


def _fields(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for implication, name, value in flat(metrics):
        test = name.endswith("_p")
        if implication is None or test:
            low, high = value.get("low"), value.get("high")
            ends = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
            found.setdefault(name.replace("_", " "), TableCell(number(value["value"], 4 if test else 2), ends))
    return found


def _cells(study: LoadedStudy) -> Details:
    """Every cell with the options that the study sets."""
    rows: list[Sequence[Cell]] = []
    for cell in study.cells:
        options = json.dumps(dict(cell.options), default=str)
        command = Markup("<code>spillover {}</code> ").format(cell.verb) + bdi(options)
        seeds = ", ".join(map(str, cell.seeds))
        rows.append([bdi(cell.slug), cell.status, seeds, duration(cell.seconds), command])
    caption = "Every cell with the options that the study sets."
    head = ["Cell", "Status", "Seeds", "Wall time", "Options"]
    table = DataTable(caption, [head], [("", rows)], style="examples", label="Every cell")
    return Details(f"{len(study.cells)} cells", [table], "made")
