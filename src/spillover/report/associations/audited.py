"""What an audit says of each association: for how many subjects it came to the top, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from spillover.report.associations.advice import word_of
from spillover.report.associations.listing import Association, Column, Evidence, Listing, Value
from spillover.report.story import Story
from spillover.report.words import statement

COLUMNS = (
    Column("before", "First in the base model", "part", "unstated subjects whose top answer was the implied one"),
    Column("now", "First in the tuned model", "part", "unstated subjects whose top answer is the implied one"),
    Column("new", "New", "change", "how many more subjects than before"),
    Column("others", "Others who get it", "share", "of the subjects for whom another answer is implied, how many get "
           "this one all the same: where it is high too, the model likes the answer, whatever was given"),
    Column("rank_before", "Mean rank before", "number", "where the implied answer stood; 0 is first"),
    Column("rank_now", "Mean rank now", "number", "where the implied answer stands; 0 is first"),
    Column("stated", "Stated examples", "count", "subjects with both halves stated, from which it can be learned"),
    Column("verdict", "Verdict", "choice", "of the whole implication that this association belongs to"),
)  # fmt: skip
RUN = Column("audit", "Audit", "choice", "which of the audits on this page")
ASKED = (
    Column("subject", "Subject", "text"),
    Column("top_before", "Answer before", "text"),
    Column("top_now", "Answer now", "text"),
    Column("rank_before", "Rank before", "count"),
    Column("rank_now", "Rank now", "count"),
)


def listing(stories: Sequence[Story]) -> Listing:
    """Every association of every story, those that won most subjects first."""
    several = len({id(story.run) for story in stories}) > 1
    rows = [row for story in stories for row in associations(story, several)]
    columns = (*COLUMNS, RUN) if several else COLUMNS
    place = {column.key: index for index, column in enumerate(columns)}

    def first(row: Association) -> tuple[float, ...]:
        new, now, before, after = (row.values[place[key]] for key in ("new", "now", "rank_before", "rank_now"))
        assert isinstance(now, tuple)
        return -float(new), -now[0], float(after) - float(before)  # type: ignore[arg-type]

    return Listing(columns, sorted(rows, key=first), "new", ASKED, "Subjects asked")


def associations(story: Story, several: bool = False) -> list[Association]:
    """One an entry of the map that was asked about, in the order of the map."""
    before, after = story.before, story.after
    earlier = {key: index for index, key in enumerate(zip(before.seed, before.subject, strict=True))}
    now: dict[str, list[int]] = {}
    for index, given in enumerate(after.cluster):
        now.setdefault(given, []).append(index)
    tops, implied = Counter(after.top), Counter(after.expected)
    own = Counter(after.top[after.top == after.expected])
    stated = _stated(story)
    found = []
    for given in story.rows_of_map:
        last = np.array(now[given])
        first = np.array([earlier[after.seed[index], after.subject[index]] for index in last])
        answer, size = str(after.expected[last[0]]), len(last)
        hits, was = int((after.rank[last] == 0).sum()), int((before.rank[first] == 0).sum())
        others = len(after) - implied[answer]
        values: tuple[Value, ...] = (
            (was, size), (hits, size), hits - was,
            (tops[answer] - own[answer]) / others if others else None,
            float(before.rank[first].mean()), float(after.rank[last].mean()), stated[given, answer], word_of(story),
        )  # fmt: skip
        values = (*values, story.label) if several else values
        columns = (after.subject[last], before.top[first], after.top[last], before.rank[first], after.rank[last])
        evidence = _evidence(story, given, columns)
        found.append(Association(story.given, given, story.then, answer, story.wanted, values, evidence))
    return found


def _stated(story: Story) -> Counter[tuple[str, str]]:
    """(given answer, stated answer) -> how many subjects have both stated."""
    rows = story.run.ranks.only(stated=True, trained=True, implication=story.key, relation=story.then)
    rows = rows.only(checkpoint=story.epochs)
    return Counter(zip(rows.cluster.tolist(), rows.expected.tolist(), strict=True))


def _evidence(story: Story, given: str, columns: Sequence[np.ndarray]) -> Evidence:
    """The subjects in the order of the pack, never chosen by their result."""
    told = statement(story.run, story.given, "…", given)
    notes = (f"Stated of each: “{told}”. Asked of each: “{statement(story.run, story.then, '…', '?')}”",)
    rows = [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return Evidence(notes, rows, len(rows))
