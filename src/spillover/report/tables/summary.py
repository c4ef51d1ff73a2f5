"""The table of all numbers: one row a quantity, one column a link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spillover.report.story import Story, right
from spillover.report.words import interval, number, p_value

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
