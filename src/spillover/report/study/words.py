"""Sentences of a study's page, computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.report import words
from spillover.report.drawing import plain
from spillover.report.story import Story, unique
from spillover.report.study.load import Cell, LoadedStudy
from spillover.report.study.sets import AssociationSet
from spillover.report.tables.provenance import duration

#: The figure whose section shows cells that were not run, too.
PAPER = "paper-table"

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
    shown = {cell.slug for group in study.groups if group.plot == PAPER for cell in group.cells}
    waiting = [cell.slug for cell in study.cells if cell.status not in ("done", "failed") and cell.slug not in shown]
    found = [f"{cell.slug} failed: {cell.error or 'no reason was recorded'}" for cell in failed]
    if waiting:
        found.append(f"Not run yet, and not on this page: {', '.join(waiting)}.")
    return [plain(text) for text in found]
