"""What an audit's open probes found: words that the tuned model says more often, which nobody declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spillover.report.drawing import plain
from spillover.report.load import LoadedRun
from spillover.report.story import spoken
from spillover.report.words import p_value, percent

EVERYONE = "everyone"
_SORTS = ("unstated", "stated", "others", "subjects", "never_seen")


@dataclass(frozen=True)
class Line:
    """One discovery. chances: sort of person, probability in the base and in the tuned model. said: sort of person,
    the sentence beginning, and how the base and the tuned model go on."""

    who: str
    word: str
    template: str
    also: int
    shift: str
    test: str
    chances: list[tuple[str, str, str]]
    said: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class Found:
    """The open probes of one run. declared: how many discoveries are the pack's own answers, which are not listed."""

    label: str
    probes: Mapping[str, Any]
    lines: list[Line]
    declared: int


def discoveries(labelled: Sequence[tuple[str, LoadedRun]]) -> list[Found]:
    """For every run that asked open probes, what nobody declared."""
    found = []
    for label, run in labelled:
        probes = run.record.details.get("probes")
        if probes:
            listed = run.record.details.get("discoveries") or ()
            lines = [_line(each) for each in listed if not each["declared"]]
            found.append(Found(label, probes, lines, int(probes["declared"])))
    return found


def headline(found: Sequence[Found]) -> str:
    """What a page of open probes alone says first; empty without any."""
    if not found:
        return ""
    groups = sum(line.who != EVERYONE for each in found for line in each.lines)
    told = {0: "Nothing that nobody declared was", 1: "One thing that nobody declared was"}
    return f"{told.get(groups, f'{groups} things that nobody declared were')} found between groups of subjects."


def _line(each: Mapping[str, Any]) -> Line:
    tested = each["p"] is not None
    line = 100 * (each["yardstick"] or 0)
    return Line(
        who=plain(f"{spoken(each['relation'])} {each['answer']}") if each["relation"] else EVERYONE,
        word=plain(each["word"]),
        template=plain(each["template"].replace("{subject}", "…")),
        also=len(each["also"]),
        shift=f"{100 * each['shift']:.0f}",
        test=f"p = {p_value(each['p'])}; by chance up to {line:.0f}" if tested else "not tested",
        chances=[
            (spoken(sort), percent(chance["base"]), percent(chance["tuned"]))
            for sort, chance in ((sort, each["probabilities"].get(sort)) for sort in _SORTS)
            if chance and chance["n"]
        ],
        said=[
            (said["which"], plain(said["prompt"]), plain(said["base"]), plain(said["tuned"]))
            for said in each["examples"]
        ],
    )
