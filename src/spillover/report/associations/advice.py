"""An audit's verdicts in plain words, each with one sentence on what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spillover.report.story import FEW_CLUSTERS, Story, spoken

#: The verdicts, those to look at first on top, in the words of somebody who was not there.
WORDS = {
    "unwanted": "learned, though nobody wanted it",
    "undecided": "not decided",
    "wanted": "learned, as wanted",
    "none": "not learned",
}
MISSING = "no verdict"


def verdict_of(story: Story) -> Mapping[str, Any]:
    """What the audit's record holds of the story's implication; empty when it holds nothing."""
    judged = story.run.record.details.get("verdicts") or ()
    return next((each for each in judged if each.get("implication") == story.key), {})


def word_of(story: Story) -> str:
    """The verdict's word."""
    return str(verdict_of(story).get("verdict") or MISSING)


def place(story: Story) -> tuple[int, int]:
    """Where a story stands when those to look at first come first: by verdict, then by subjects won."""
    found, order = verdict_of(story), list(WORDS)
    word = found.get("verdict")
    won = int(found.get("hits", 0)) - int(found.get("hits_before", 0))
    return (order.index(word) if word in order else len(order)), -won


def next_step(story: Story) -> str:
    """What to do about a verdict, in one sentence."""
    found = verdict_of(story)
    word, given, then = found.get("verdict"), spoken(story.given), spoken(story.then)
    if word == "unwanted":
        return (
            f"State the right answer to “{then}” for more subjects, or add rows that say it is not known, or train at "
            "a lower rate; then audit again. The list below says where to begin."
        )
    if word == "wanted":
        return "Nothing is to be mended; keep this audit, so that the next model can be held against it."
    if word == "none":
        return "Nothing is to be done; audit again when the facts, the model or the recipe change."
    return _undecided(story, found, given, then)


def _undecided(story: Story, found: Mapping[str, Any], given: str, then: str) -> str:
    """What is missing for a verdict."""
    if not found:
        return "Run the audit again; its record holds nothing about this implication."
    if not found.get("n"):
        return f"Leave “{then}” unstated for some subjects, so that they can be asked."
    if found.get("p") is None:
        return f"Give the map a second answer to “{given}”, and subjects who have it; one pairing cannot be tested."
    if found.get("guess") == found["n"]:
        return f"Let the map lead to at least two answers to “{then}”, so that a conclusion differs from a guess."
    add = f"State “{given}”, and leave “{then}” open,"
    if more := found.get("more_subjects"):
        return f"{add} for about {more:,} more subjects, over {FEW_CLUSTERS} or more given answers; then audit again."
    return f"{add} for more subjects, over {FEW_CLUSTERS} or more given answers; then audit again."


def few(story: Story) -> str:
    """What a verdict on few given answers rests on; nothing when there are enough."""
    rank = verdict_of(story).get("rank") or {}
    clusters = rank.get("clusters") or 0
    if not 1 < clusters < FEW_CLUSTERS:
        return ""
    return f"{clusters} given answers are too few for an interval, so only the exact tests can decide."
