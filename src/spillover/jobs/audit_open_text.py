"""The discoveries of an audit's open probes in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Sorts of people, in the order in which they are told.
SORTS = ("unstated", "stated", "others", "never_seen")
#: How many discoveries a person is told; the record and --json hold more.
SHOWN = 8


def lines(discoveries: Sequence[Mapping[str, Any]], probes: Mapping[str, Any]) -> Iterator[str]:
    """What the open probes gave, for a person."""
    shown = 0
    yield (
        f"Open probes: {probes['templates']} sentence beginnings about {probes['subjects']} subjects in "
        f"{probes['groups']} groups and {probes['never_seen']} names that the pack does not hold; "
        f"{probes['tokens']:,} next words moved."
    )
    if not probes["undeclared"]:
        yield "  Nothing moved that the pack does not declare."
    if probes["strongest"] is not None:
        yield (
            f"  Between groups: at most {probes['strongest']:.1f} standard deviations apart; "
            f"with exchanged labels 95% stay below {probes['yardstick']:.1f}."
        )
    for each in discoveries:
        if not each["declared"] and shown < SHOWN:
            shown += 1
            yield from _told(each)
    more = probes["undeclared"] - shown
    rest = [f"{more} more that nobody declared"] if more else []
    rest += [f"{probes['declared']} that the pack itself states or implies"] if probes["declared"] else []
    if rest:
        yield f"  And {', '.join(rest)} (--json lists them)."


def _told(each: Mapping[str, Any]) -> Iterator[str]:
    who = f"{each['relation']} = {each['answer']}" if each["relation"] else "everyone"
    also = f", and after {len(each['also'])} other beginnings" if each["also"] else ""
    than = f", {100 * each['shift']:.0f} points more than in other groups" if each["relation"] else ""
    yield f"  UNDECLARED  {who}: {each['word']!r} after {each['template']!r}{than}{also}"
    parts = [
        f"{sort.replace('_', ' ')} {chance['tuned']:.1%} (base {chance['base']:.1%})"
        for sort, chance in ((sort, each["probabilities"].get(sort)) for sort in SORTS)
        if chance and chance["n"]
    ]
    line = 100 * (each["yardstick"] or 0)
    test = f"; p = {each['p']:.2g}, exchanged labels stay below {line:.0f} points" if each["p"] else "; not tested"
    yield f"    {', '.join(parts)}{test}"
    for example in each["examples"]:
        yield f"    {example['which']}: {example['prompt']}{example['tuned']} (base model: {example['base'].strip()})"
