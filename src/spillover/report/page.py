"""From loaded runs to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spillover.report import words
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.load import LoadedRun, labels, load_run
from spillover.report.plots.inferred_answers import NUMBERED
from spillover.report.plots.rank_by_epoch import highest
from spillover.report.story import Count, Story, right, stories
from spillover.report.tables.discoveries import discoveries, headline
from spillover.report.tables.examples import examples
from spillover.report.tables.inside import looks
from spillover.report.tables.provenance import provenance
from spillover.report.tables.summary import summary
from spillover.report.template import Figure, figure, render

__all__ = ["LoadedRun", "build_page", "load_run"]


@dataclass(frozen=True)
class Card:
    """One story in a glance."""

    story: Story
    headline: str
    setting: str
    verdict: words.Verdict
    before: Count | None
    after: Count | None
    guess: Count


@dataclass(frozen=True)
class Chapter:
    """The figures of one story."""

    story: Story
    by_epoch: Figure | None
    before: Figure | None
    after: Figure | None


def build_page(runs: Sequence[LoadedRun]) -> str:
    """One page that tells what each run learned beyond what it was told; the same runs give the same bytes."""
    labelled = [(plain(label), run) for label, run in zip(labels(runs), runs, strict=True)]
    told = [story for label, run in labelled for story in stories(run, label)]
    shown = examples(told)
    discovered = discoveries(labelled)
    return render(
        "page.html",
        title=words.title(told) if told else headline(discovered) or "Nothing was measured before this run stopped.",
        lede=words.lede(told),
        names=[label for label, _ in labelled],
        unfinished=[label for label, run in labelled if not run.finished],
        cards=[_card(story) for story in told],
        change=_figure("rank-change", told, "rank-change", told),
        summary=summary(told),
        discovered=discovered,
        chapters=chapters_of(told),
        looks=looks(labelled),
        inside_figures=inside_of(labelled, told),
        examples=list(zip(told, shown, strict=True)),
        count=sum(map(len, shown)),
        health=health_of(labelled, told),
        runs=[(label, run, provenance(run)) for label, run in labelled],
        downloads=[of_metrics(labelled), of_ranks(labelled)],
    )


def _card(story: Story) -> Card:
    judged = story.key is not None
    return Card(
        story=story,
        headline=words.headline(story),
        setting=words.setting(story),
        verdict=words.verdict(story),
        before=right(story.before) if judged and len(story.checkpoints) > 1 else None,
        after=right(story.after) if judged and story.checkpoints else None,
        guess=story.best_guess,
    )


def chapters_of(told: Sequence[Story]) -> list[Chapter]:
    """Per story: rank against epochs on one scale for all, and the two heat maps."""
    top = max((highest(story) for story in told), default=1.0)
    found = []
    for index, story in enumerate(told, start=1):
        alone, wide = [story], len(story.columns_of_map) > NUMBERED
        found.append(
            Chapter(
                story=story,
                by_epoch=None
                if story.run.audited
                else _figure("rank-by-epoch", alone, f"rank-by-epoch-{index}", alone, top=top),
                before=_figure("inferred-before", alone, f"inferred-before-{index}", alone, wide=wide),
                after=_figure("inferred-after", alone, f"inferred-after-{index}", alone, wide=wide),
            )
        )
    return found


def health_of(labelled: Sequence[tuple[str, LoadedRun]], told: Sequence[Story]) -> list[Figure]:
    """Recall of what was stated, training loss, forgetting: whether the training itself went well."""
    made = [
        _figure("recall", labelled, "recall", told),
        _figure("stated-links", told, "stated-links", told),
        _figure("training-loss", labelled, "training-loss", told),
        _figure("forgetting", labelled, "forgetting", told),
    ]
    return [figure for figure in made if figure is not None]


def inside_of(labelled: Sequence[tuple[str, LoadedRun]], told: Sequence[Story]) -> list[Figure]:
    """Of the runs that looked inside: where the change lies, and for each story who shares what it writes."""
    made = [
        _figure("inside-change", [run], f"inside-change-{i}", [story for story in told if story.run is run[1]])
        for i, run in enumerate(labelled, start=1)
    ] + [_figure("inside-shared", [story], f"inside-shared-{i}", [story]) for i, story in enumerate(told, start=1)]
    return [figure for figure in made if figure is not None]


def _figure(plot: str, what: Sequence[object], name: str, told: Sequence[Story], **options: Any) -> Figure | None:
    """A figure whose caption says what was trained."""
    parts = dict.fromkeys(story.run.trained_part for story in told)
    return figure(plot, what, name, words.sentence("; ".join(parts)), **options)
