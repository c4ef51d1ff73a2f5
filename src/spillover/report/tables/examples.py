"""Concrete questions for the page: the first names of every pair in turn, never chosen by their result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.report.drawing import plain
from spillover.report.story import Story
from spillover.report.words import percent, statement


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
