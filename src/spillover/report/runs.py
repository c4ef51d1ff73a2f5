"""The page of runs of `inject`: from loaded runs to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spillover.report import words
from spillover.report.discoveries import discoveries, headline
from spillover.report.downloads import of_metrics, of_ranks
from spillover.report.drawing import plain
from spillover.report.inside import looks
from spillover.report.load import LoadedRun, labels, load_run
from spillover.report.page import Figure, figure, render
from spillover.report.provenance import provenance
from spillover.report.run_plots import NUMBERED, highest
from spillover.report.story import Count, Story, right, stories
from spillover.report.words import interval, number, p_value, percent, statement


@dataclass(frozen=True)
class Example:
    """One question before and after training; probabilities are of the whole answer after the trained prompt."""

    subject: str
    told: str
    prompt: str
    expected: str
    before: str
    after: str
    top_before: str
    top_after: str
    hit: bool


def examples(stories: Sequence[Story], count: int = 10) -> list[list[Example]]:
    """For each story its share of `count` examples (at least one), as evenly as they go round stories and pairs."""
    queues = [_in_turn(story) for story in stories]
    found: list[list[Example]] = [[] for _ in stories]
    wanted, turn, dry = max(count, len(stories)), 0, 0
    while sum(map(len, found)) < wanted and dry < len(stories):
        place = turn % len(stories)
        following = next(queues[place], None)
        dry = dry + 1 if following is None else 0
        if following is not None:
            found[place].append(following)
        turn += 1
    return found


def _in_turn(story: Story) -> Iterator[Example]:
    """Examples of one story: the first name of every pair, then the second of every pair, and so on."""
    rows = story.after.only(seed=story.run.seeds[0]) if len(story.after) else story.after
    groups = [np.flatnonzero(rows.cluster == given) for given in story.rows_of_map] or [np.arange(len(rows))]
    for depth in range(max(map(len, groups), default=0)):
        for group in groups:
            if depth < len(group):
                yield _example(story, int(group[depth]))


def _example(story: Story, index: int) -> Example:
    rows = story.after.only(seed=story.run.seeds[0])
    subject, given = str(rows.subject[index]), rows.cluster[index]
    earlier = story.before.only(subject=rows.subject[index], seed=rows.seed[index])
    known = story.key is not None
    return Example(
        subject=plain(subject),
        told=statement(story.run, story.given, subject, str(given)) if known else "",
        prompt=statement(story.run, story.then, subject),
        expected=plain(rows.expected[index]) if known else "",
        before=percent(float(earlier.probability[0])) if known and len(earlier) else "–",
        after=percent(float(rows.probability[index])) if known else "–",
        top_before=plain(earlier.top[0]) if len(earlier) else "–",
        top_after=plain(rows.top[index]),
        hit=known and bool(rows.rank[index] == 0),
    )


#: What stands in a cell, and the small print under it.
Cell = tuple[str, str]
_NOTHING: Cell = ("–", "")


@dataclass(frozen=True)
class Row:
    """One quantity for every link; `key` rows are the ones to look at first."""

    words: str
    cells: list[Cell]
    key: bool = False


def summary(stories: Sequence[Story]) -> list[tuple[str, list[Row]]]:
    """Groups of rows under their headings."""

    def row(words: str, cell: Callable[[Story], Cell], key: bool = False) -> Row:
        return Row(words, [cell(story) for story in stories], key)

    audited = all(story.run.audited for story in stories)
    first, last = stories[0].when if stories and audited else ("before training", "after training")
    return [
        (
            "Unstated names whose top answer is the expected one",
            [
                row(first, _before),
                row(last, lambda s: (str(right(s.after)), "") if s.key and len(s.after) else _NOTHING, True),
                row("one fixed answer for all", lambda s: (str(s.best_guess), "") if s.best_guess.n else _NOTHING),
            ],
        ),
        (
            "Mean rank of the expected answer for them",
            [
                row(first, _metric("implication_rank_test_before")),
                row(last, _metric("implication_rank_test"), True),
                row("asked in other words, after", _metric("paraphrase_rank_test")),
                row("knows only which answers occur", lambda s: (number(s.marginal), "")),
                row("random guess", lambda s: (number(s.chance), "")),
                row("clusters (pair and seed)", _clusters),
                row("exact test of the pairing, p", _test),
            ],
        ),
        (
            f"Mean rank of what was stated, {last}",
            [row("facts", _metric("recall_rank")), row("links", _metric("implication_rank_train"))],
        ),
        ("Forgetting", [row("rise of the loss on plain text, nats a token", _metric("forgetting_nats"))]),
    ]


def _before(story: Story) -> Cell:
    return (str(right(story.before)), "") if story.key and len(story.checkpoints) > 1 else _NOTHING


def _metric(name: str) -> Callable[[Story], Cell]:
    def cell(story: Story) -> Cell:
        found = story.metric(name)
        return _NOTHING if found is None else (number(found.value), interval(found))

    return cell


def _clusters(story: Story) -> Cell:
    found = story.metric("implication_rank_test")
    return _NOTHING if found is None else (str(found.clusters), found.note or "")


def _test(story: Story) -> Cell:
    test = story.map_test
    return _NOTHING if test is None else (p_value(test["p"]), f"of {int(test['permutations']):,} pairings")


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
        "runs.html",
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
